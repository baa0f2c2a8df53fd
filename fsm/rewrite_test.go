package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// living is a cluster that went on after the backup that is given with it.
func living(t *testing.T) (now *node, backup []byte) {
	t.Helper()
	n := full(t)
	n.now += 500 // the backup lies in the middle of a second
	n.must(&command.PutNode{Node: &state.Node{Id: "n1", ClusterAddr: "old", PublicKey: digest("n1 key")}})
	n.must(&command.PutJoinToken{Hash: digest("j2"), Token: &state.JoinToken{ExpiresAt: t0 + 9e6}})
	n.must(&command.PutAdminToken{Hash: digest("op"), Token: &state.AdminToken{Id: "op"}})
	backup = n.snapshot()

	n.now += 10_000
	n.must(&command.PutNode{Node: &state.Node{Id: "n1", ClusterAddr: "new", PublicKey: digest("n1 key")}})
	n.must(&command.PutJoinToken{Hash: digest("j3"), Token: &state.JoinToken{ExpiresAt: t0 + 9e6}})
	n.must(&command.Join{Hash: digest("j3"), Node: &state.Node{Id: "n2", PublicKey: digest("n2")}})
	n.must(&command.PutClusterKey{NewVersion: true, Key: &state.ClusterKey{Name: "ca", Version: 2, PublicPart: []byte("new ca"), Status: "active"}})
	n.must(&command.PutClusterKey{NewVersion: true, Key: &state.ClusterKey{Name: "hash", Version: 2, Sealed: []byte("new hash"), Status: "active"}})
	n.must(&command.PutAdminToken{Hash: digest("newer"), Token: &state.AdminToken{Id: "newer"}})
	n.must(revocation("subject", "bob", 0, seconds(9000)))
	n.must(revocation("subject", "alice", 0, seconds(9000)))
	long := client("long")
	long.AccessTokenLifetime = 40_000
	n.must(&command.PutClient{Client: long})
	n.must(&command.SetIssuer{Issuer: "https://new.example"})
	return n, backup
}

func (n *node) plan() Plan {
	return Plan{Now: n.View(), Head: n.View().Head() + 5, Index: n.index, Clock: n.now + 60_000}
}

func rewritten(t *testing.T, backup []byte, p Plan) []byte {
	t.Helper()
	var out bytes.Buffer
	dir := filepath.Join(t.TempDir(), "scratch")
	size, err := Rewrite(bytes.NewReader(backup), &out, dir, small(), p)
	if err != nil {
		t.Fatal(err)
	}
	if size != int64(out.Len()) {
		t.Errorf("size %d, written %d", size, out.Len())
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Error("the scratch folder is still there")
	}
	return out.Bytes()
}

// TestRestoringABackup into the cluster that made it (R15, S6, S7).
func TestRestoringABackup(t *testing.T) {
	t.Parallel()
	n, backup := living(t)
	old, p := n.View(), n.plan()
	taken, err := Peek(bytes.NewReader(backup))
	if err != nil {
		t.Fatal(err)
	}
	n.mustRestore(bytes.NewReader(rewritten(t, backup, p)))
	v := n.View()
	if err := v.CheckMemory(); err != nil {
		t.Error(err)
	}
	if v.Epoch() != old.Epoch()+1 || v.Index() != p.Index || v.Clock() != p.Clock {
		t.Errorf("epoch %d, index %d, clock %d", v.Epoch(), v.Index(), v.Clock())
	}
	// Every seq that was given anew lies behind whatever anyone has seen (I5).
	for _, e := range n.events() {
		if e.GetSeq() > taken.Head && e.GetSeq() <= p.Head+HeadMargin {
			t.Errorf("event %v lies within the seqs that were known before", e)
		}
	}
	if _, ok := v.Client("default", "long"); ok {
		t.Error("a client of after the backup is there")
	}
	c, _ := v.Cluster()
	if c.GetRestoredAt() != p.Clock || c.GetIssuer() != "https://new.example" || c.GetId() != "c1" {
		t.Errorf("cluster %v", c)
	}
	if m, _ := v.Node("n1"); len(v.Nodes()) != 2 || m.GetClusterAddr() != "new" {
		t.Errorf("nodes %v: want the living cluster's", v.Nodes())
	}
	if ca, hashes := v.ClusterKeys("ca"), v.ClusterKeys("hash"); len(ca) != 2 || len(hashes) != 2 {
		t.Errorf("CA %v, hash keys %v: want the living cluster's", ca, hashes)
	}
	for _, name := range []string{"j", "j2", "j3"} {
		if _, ok := v.JoinToken(digest32(name)); ok {
			t.Errorf("join token %q came back", name)
		}
	}
	for _, name := range []string{"admin", "op", "newer"} {
		if _, ok := v.AdminToken(digest32(name)); !ok {
			t.Errorf("operator's token %q is gone", name)
		}
	}
	// Union of the revocations.
	for _, who := range []string{"bob", "alice"} {
		if _, ok := v.Revoked("default", "", "subject", who, old.Head(), seconds(10)); !ok {
			t.Errorf("the revocation of %s after the backup is forgotten", who)
		}
	}
	if _, ok := v.Revoked("default", "", "token", "j1", 0, 0); !ok {
		t.Error("a revocation of the backup is forgotten")
	}
	n.now = p.Clock
	if r := n.must(revocation("subject", "next", 0, seconds(9000))); r.Seq <= p.Head+HeadMargin {
		t.Errorf("the next seq %d was given before", r.Seq)
	}
}

// TestARestoreBringsNoLeakedKeyBack: a signing key that leaked after the backup, and a
// gateway whose credential was taken back, stay out; today's key signs on, and one
// that only retired still verifies. A foreign backup brings its own of both.
func TestARestoreBringsNoLeakedKeyBack(t *testing.T) {
	t.Parallel()
	for _, foreign := range []bool{false, true} {
		n := booted(t)
		gateway := func(id string) *command.PutGateway {
			return &command.PutGateway{Gateway: &state.Gateway{Id: id, Credential: digest(id)}}
		}
		for _, k := range []string{"leaked", "second"} {
			n.must(&command.PutSigningKey{Key: signingKey(k, "ES256")})
		}
		n.must(&command.PutSigningKey{Key: signingKey("calm", "EdDSA")})
		n.must(gateway("stolen"))
		n.must(gateway("kept"))
		backup := n.snapshot()
		n.must(&command.RotateSigningKey{Tenant: "default", Alg: "ES256", To: "second", RevokeOld: true})
		n.must(&command.PutSigningKey{Key: signingKey("calmer", "EdDSA")})
		n.must(&command.RotateSigningKey{Tenant: "default", Alg: "EdDSA", To: "calmer"})
		n.must(&command.DeleteGateway{Id: "stolen"})
		n.must(gateway("new"))
		p := n.plan()
		p.Foreign = foreign
		p.Reseal = renumbered
		n.mustRestore(bytes.NewReader(rewritten(t, backup, p)))
		v, status := n.View(), map[string]string{}
		for _, k := range v.SigningKeys("default") {
			status[k.GetId()] = k.GetStatus()
		}
		want := map[string]string{"leaked": statusRevoked, "second": statusActive, "calm": statusRetired, "calmer": statusActive}
		gateways := map[string]bool{"stolen": false, "kept": true, "new": true}
		if foreign {
			want = map[string]string{"leaked": statusActive, "second": statusNext, "calm": statusActive}
			gateways = map[string]bool{"stolen": true, "kept": true, "new": false}
		}
		if !maps.Equal(status, want) {
			t.Errorf("foreign %v: keys %v, want %v", foreign, status, want)
		}
		for id, there := range gateways {
			_, row := v.Gateway(id)
			_, index := v.GatewayByCredential(digest32(id))
			if row != there || index != there {
				t.Errorf("foreign %v: gateway %s there: %v, by its credential: %v, want %v", foreign, id, row, index, there)
			}
		}
		if err := v.CheckMemory(); err != nil {
			t.Error(err)
		}
	}
}

// TestWhatARestoreTakesBack: the blanket revocation covers what was decided or
// issued after the backup, nothing from before it and nothing from after the
// restore, until the longest-lived of those tokens has expired.
func TestWhatARestoreTakesBack(t *testing.T) {
	t.Parallel()
	n, backup := living(t)
	taken, err := Peek(bytes.NewReader(backup))
	if err != nil {
		t.Fatal(err)
	}
	p := n.plan()
	n.mustRestore(bytes.NewReader(rewritten(t, backup, p)))
	second := taken.TakenAt / 1000
	for _, tenant := range []string{"default", "acme"} {
		for _, c := range []struct {
			name string
			head uint64
			iat  int64
			want bool
		}{
			{"decided and issued before", taken.Head, second - 1, false},
			{"long before", 0, 1, false},
			{"issued in the second of the backup", taken.Head, second, true},
			{"issued after, with no event in between", taken.Head, second + 1, true},
			{"decided on an event of after the backup, by a slow clock", taken.Head + 1, second - 50, true},
			{"decided by a lagging node, issued after", taken.Head - 1, second + 9, true},
			{"decided on the last event before the restore", p.Head, second + 5, true},
			{"decided after the restore", n.View().Head(), second + 100, false},
		} {
			if _, got := n.View().Revoked(tenant, "", "keymanager", "resident", c.head, c.iat); got != c.want {
				t.Errorf("%s: %s: revoked %v, want %v", tenant, c.name, got, c.want)
			}
		}
	}
	revoked := func() bool {
		_, ok := n.View().Revoked("default", "", "keymanager", "resident", p.Head, second+5)
		return ok
	}
	n.now = p.Clock + 40_000_000 // what "long" was given just before the restore lives so long
	n.must(&command.Expire{UpTo: n.now, Limit: 1000})
	if !revoked() {
		t.Error("the blanket revocation ends before the last token of a client that the backup doesn't know")
	}
	n.now += 10_000_000
	n.must(&command.Expire{UpTo: n.now, Limit: 1000})
	if revoked() {
		t.Error("it stays for ever")
	}
}

// TestRestoringTwice: each restore takes back what came after its backup, the
// older one's blanket included.
func TestRestoringTwice(t *testing.T) {
	t.Parallel()
	n, backup := living(t)
	first, err := Peek(bytes.NewReader(backup))
	if err != nil {
		t.Fatal(err)
	}
	n.mustRestore(bytes.NewReader(rewritten(t, backup, n.plan())))
	n.now = n.View().Clock() + 5000
	n.must(revocation("subject", "carol", 0, seconds(9000)))
	between := n.View().Head()
	n.mustRestore(bytes.NewReader(rewritten(t, backup, n.plan())))
	v := n.View()
	if v.Epoch() != 3 {
		t.Errorf("epoch %d", v.Epoch())
	}
	for name, head := range map[string]uint64{"before the first restore": first.Head + 1, "between the restores": between} {
		if _, ok := v.Revoked("default", "", "keymanager", "resident", head, n.now/1000); !ok {
			t.Errorf("a token decided %s is taken", name)
		}
	}
	for _, who := range []string{"bob", "carol"} {
		if _, ok := v.Revoked("default", "", "subject", who, between, seconds(10)); !ok {
			t.Errorf("the revocation of %s is forgotten", who)
		}
	}
}

// TestForeignBackups are refused, unless that is meant; then the living cluster
// keeps its name, members and operators.
func TestForeignBackups(t *testing.T) {
	t.Parallel()
	n, _ := living(t)
	other := fresh(t)
	b := bootstrap()
	b.Cluster.Id, b.Node.Id, b.AdminToken, b.Keys[0].PublicPart = "c2", "x1", digest("foreign admin"), []byte("foreign ca")
	other.must(b)
	other.must(&command.PutClient{Client: client("foreign")})
	backup := other.snapshot()

	var out bytes.Buffer
	scratch := filepath.Join(t.TempDir(), "scratch")
	if _, err := Rewrite(bytes.NewReader(backup), &out, scratch, small(), n.plan()); !errors.Is(err, ErrForeign) || out.Len() != 0 {
		t.Errorf("error %v, %d bytes written", err, out.Len())
	}
	p := n.plan()
	p.Foreign = true
	p.Reseal = renumbered
	n.mustRestore(bytes.NewReader(rewritten(t, backup, p)))
	v := n.View()
	c, _ := v.Cluster()
	if _, ok := v.Client("default", "foreign"); !ok || c.GetId() != "c1" || len(v.Nodes()) != 2 {
		t.Errorf("client there: %v, cluster %v, nodes %v", ok, c, v.Nodes())
	}
	if _, ok := v.AdminToken(digest32("foreign admin")); ok {
		t.Error("an operator of the other cluster is let in")
	}
	if _, ok := v.AdminToken(digest32("admin")); !ok {
		t.Error("this cluster's operator is locked out")
	}
	if ca := v.ClusterKeys("ca"); len(ca) != 2 || string(ca[0].GetPublicPart()) != "ca cert" {
		t.Errorf("CA %v", ca)
	}
}

// TestDamagedBackups: not one byte is written for a backup that is cut, flipped,
// of a newer level, or whose index lies (S5, K12).
func TestDamagedBackups(t *testing.T) {
	t.Parallel()
	n, backup := living(t)
	refuse := func(name string, bad []byte) {
		t.Helper()
		wrote := false
		w := writerFunc(func(p []byte) (int, error) { wrote = true; return len(p), nil })
		dir := filepath.Join(t.TempDir(), "scratch")
		if _, err := Rewrite(bytes.NewReader(bad), w, dir, small(), n.plan()); err == nil || wrote {
			t.Errorf("%s: error %v, written %v", name, err, wrote)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s: the scratch folder is still there", name)
		}
	}
	for _, at := range []int{0, 11, 60, len(backup) / 2, len(backup) - 33, len(backup) - 1} {
		refuse(fmt.Sprint("cut at ", at), backup[:at])
		bad := bytes.Clone(backup)
		bad[at] ^= 4
		refuse(fmt.Sprint("flipped at ", at), bad)
	}
	rows := n.rows()
	h := headerOf(n.View())
	h.FeatureLevel = command.Level + 1
	refuse("a newer level", forge(t, h, rows))
	h = headerOf(n.View())
	h.Index += 1000
	refuse("another index than its rows", forge(t, h, rows))

	// A whole one from further on gets this log's index, so nothing is swallowed.
	ahead := full(t)
	ahead.index = 1 << 40
	ahead.must(code("far"))
	n.mustRestore(bytes.NewReader(rewritten(t, ahead.snapshot(), n.plan())))
	n.now = n.View().Clock()
	n.must(&command.PutClient{Client: client("goes on")})
	if _, ok := n.View().Client("default", "goes on"); !ok || n.index >= 1<<40 {
		t.Error("a command behind the restore was swallowed")
	}
}

// renumbered is a Plan's Reseal for a test whose keys are not really sealed.
func renumbered(k *state.ClusterKey, version uint32) (*state.ClusterKey, error) {
	k = cloneOf(k)
	k.Version = version
	return k, nil
}
