package fsm

import (
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

func TestBootstrapOnce(t *testing.T) {
	t.Parallel()
	n := fresh(t)
	for name, spoil := range map[string]func(*command.Bootstrap){
		"no cluster":         func(b *command.Bootstrap) { b.Cluster = nil },
		"no tenant":          func(b *command.Bootstrap) { b.Tenant = nil },
		"tenant without id":  func(b *command.Bootstrap) { b.Tenant.Id = "" },
		"no node":            func(b *command.Bootstrap) { b.Node = nil },
		"short admin token":  func(b *command.Bootstrap) { b.AdminToken = b.AdminToken[1:] },
		"key of version 0":   func(b *command.Bootstrap) { b.Keys[0].Version = 0 },
		"endless lifetime":   func(b *command.Bootstrap) { b.Tenant.Settings.AccessTokenLifetime = maxLifetime + 1 },
		"cluster without id": func(b *command.Bootstrap) { b.Cluster.Id = "" },
	} {
		t.Log(name)
		b := bootstrap()
		spoil(b)
		n.refused(b, command.Invalid)
	}
	if n.View().Epoch() != 0 {
		t.Error("a refused bootstrap began an epoch")
	}
	n.must(bootstrap())
	n.refused(bootstrap(), command.Exists)
	if v := n.View(); v.Epoch() != 1 || v.Counters().Level != 1 {
		t.Errorf("counters %+v", v.Counters())
	}
	if a, ok := n.View().AdminToken(digest32("admin")); !ok || a.GetId() != "bootstrap" {
		t.Error("no admin token")
	}
}

// TestCommandsOfAnotherEpoch were decided on a state that a restore replaced.
func TestCommandsOfAnotherEpoch(t *testing.T) {
	t.Parallel()
	n := booted(t)
	old := command.Header{Stamp: t0, Epoch: 2}
	for want, c := range map[command.Reject]command.Command{
		command.EpochChanged: code("x"),
		command.Accepted:     &command.TermStart{},
	} {
		if r := n.raw(entry(old, encoded(t, c, key("k"), [8]byte{}, false))); r[0].Reject != want {
			t.Errorf("%T: %v, want %v", c, r[0].Reject, want)
		}
	}
}

func TestJoining(t *testing.T) {
	t.Parallel()
	n := booted(t)
	token := func(name string, nonVoter bool) {
		n.must(&command.PutJoinToken{Hash: digest(name), Token: &state.JoinToken{ExpiresAt: t0 + 600_000, NonVoter: nonVoter}})
	}
	join := func(name, id, key string) *command.Join {
		return &command.Join{Hash: digest(name), Node: &state.Node{Id: id, PublicKey: digest(key)}}
	}
	token("t1", false)
	n.refused(&command.PutJoinToken{Hash: digest("t1"), Token: &state.JoinToken{ExpiresAt: t0 + 1}}, command.Exists)
	n.refused(&command.PutJoinToken{Hash: digest("old"), Token: &state.JoinToken{ExpiresAt: t0}}, command.AlreadyExpired)
	n.refused(join("none", "n2", "k2"), command.NotFound)
	n.refused(join("t1", "n1", "other key"), command.Exists)
	n.must(join("t1", "n2", "k2"))
	n.must(join("t1", "n2", "k2")) // its answer was lost (M3)
	n.refused(join("t1", "n2", "k3"), command.AlreadyUsed)
	n.refused(join("t1", "n3", "k2"), command.AlreadyUsed)

	n.must(&command.RemoveNode{Id: "n2"})
	n.must(&command.RemoveNode{Id: "n2"})
	n.refused(join("t1", "n2", "k2"), command.AlreadyUsed) // a removed node comes back by a new token only
	n.refused(&command.PutNode{Node: &state.Node{Id: "n2", PublicKey: digest("k2")}}, command.Disabled)
	token("t2", true)
	n.refused(join("t2", "n2", "k9"), command.Conflict) // a token for non-voters
	again := join("t2", "n2", "k9")
	again.Node.NonVoter = true
	n.must(again)
	if m, _ := n.View().Node("n2"); m.GetRemoved() || string(m.GetPublicKey()) != string(digest("k9")) || m.GetJoinedAt() != t0 {
		t.Errorf("rejoined: %v", m)
	}
	token("t3", false)
	n.now = t0 + 600_000
	n.refused(join("t3", "n4", "k4"), command.AlreadyExpired)
}

func TestChangingMembers(t *testing.T) {
	t.Parallel()
	n := booted(t)
	node := func(id, key string) *command.PutNode {
		return &command.PutNode{Node: &state.Node{Id: id, ApiAddr: "new", PublicKey: digest(key), Removed: true, JoinedAt: 1}}
	}
	n.refused(node("none", "n1 key"), command.NotFound)
	n.refused(node("n1", "another"), command.Conflict)
	n.must(node("n1", "n1 key"))
	if m, _ := n.View().Node("n1"); m.GetRemoved() || m.GetJoinedAt() != t0 || m.GetApiAddr() != "new" {
		t.Errorf("after the change: %v", m)
	}
	n.refused(&command.RemoveNode{Id: "none"}, command.NotFound)
}

func TestIssuerNames(t *testing.T) {
	t.Parallel()
	n := booted(t)
	set := func(issuer string, fixed bool) *command.SetIssuer {
		return &command.SetIssuer{Issuer: issuer, Fixed: fixed}
	}
	n.refused(set("", false), command.Invalid)
	head := n.View().Head()
	n.must(set("https://b", false))
	if n.View().Head() == head {
		t.Error("gateways are not told of the new issuer")
	}
	n.must(set("https://c", true))
	n.refused(set("https://d", false), command.Conflict)
	n.must(set("https://b", true))
	c, _ := n.View().Cluster()
	if got := c.GetFormerIssuers(); len(got) != 2 || got[0] != "https://c" || got[1] != "https://sts.example" {
		t.Errorf("former issuers %q", got)
	}
	for _, name := range []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"} {
		n.must(set("https://"+name, true))
	}
	if c, _ = n.View().Cluster(); len(c.GetFormerIssuers()) != formerIssuers {
		t.Errorf("%d former issuers are kept", len(c.GetFormerIssuers()))
	}
}

func TestTenantsAndSharedKeys(t *testing.T) {
	t.Parallel()
	n := booted(t)
	tenant := func(id string, expect uint64) *command.PutTenant {
		return &command.PutTenant{Tenant: &state.Tenant{Id: id}, Expect: expect}
	}
	n.refused(tenant("", 0), command.Invalid)
	n.refused(tenant("default", 0), command.Exists)
	n.refused(tenant("acme", 3), command.NotFound)
	n.refused(tenant("default", 9), command.Stale)
	n.must(tenant("acme", 0))
	n.must(tenant("default", 1))
	if d, _ := n.View().Tenant("default"); d.GetLongestLifetime() != 600 {
		t.Errorf("the longest lifetime that was ever allowed is forgotten: %v", d)
	}

	put := func(version uint32, fresh bool, public string) *command.PutClusterKey {
		return &command.PutClusterKey{NewVersion: fresh, Key: &state.ClusterKey{Name: "ca", Version: version, PublicPart: []byte(public), Status: "retired"}}
	}
	n.refused(put(1, true, "ca cert"), command.Exists)
	n.refused(put(2, false, "x"), command.NotFound)
	n.refused(put(1, false, "another"), command.Conflict)
	n.refused(put(0, true, "x"), command.Invalid)
	n.must(put(1, false, "ca cert"))
	n.must(put(2, true, "x"))
	if k := n.View().ClusterKeys("ca"); len(k) != 2 || k[0].GetVersion() != 1 || k[0].GetStatus() != "retired" {
		t.Errorf("keys %v", k)
	}
	n.refused(&command.PutAdminToken{Hash: digest("x"), Token: &state.AdminToken{}}, command.Invalid)
	n.refused(&command.PutGateway{Gateway: &state.Gateway{Id: "g"}}, command.Invalid)
}
