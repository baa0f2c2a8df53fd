package fsm

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

func rejects(results []command.Result) []command.Reject {
	var out []command.Reject
	for _, r := range results {
		out = append(out, r.Reject)
	}
	return out
}

func code(id string) *command.Consume {
	return &command.Consume{Tenant: "default", ValueKind: "code", Id: id, ExpiresAt: seconds(60)}
}

// TestOneTimeValues: the first of one entry wins, the second is told, the batch
// goes on (T6); the same proposal is let through again (I3, T2).
func TestOneTimeValues(t *testing.T) {
	t.Parallel()
	n := booted(t)
	got := rejects(n.do(code("1"), code("1"), code("2")))
	if want := []command.Reject{command.Accepted, command.AlreadyUsed, command.Accepted}; !slices.Equal(got, want) {
		t.Errorf("one entry: %v, want %v", got, want)
	}
	again := encoded(t, code("3"), key("proposal"), [8]byte{}, false)
	got = rejects(append(n.raw(entry(n.header(), again, again)), n.raw(entry(n.header(), again))...))
	if want := []command.Reject{0, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("the same proposal again: %v, want all accepted", got)
	}
	n.refused(code("3"), command.AlreadyUsed)
	other := code("1")
	other.Tenant = "t2"
	n.must(other) // another tenant's value of the same name
	n.now += 59_999
	n.refused(code("1"), command.AlreadyUsed)
	n.now++ // its time is over in this very millisecond
	n.refused(code("1"), command.AlreadyExpired)
	n.refused(code("unused"), command.AlreadyExpired)
}

// TestUsedValuesOutliveTheirTime: whatever the expiry job is asked, a value is
// refused at any moment, by its row or by its end (T2).
func TestUsedValuesOutliveTheirTime(t *testing.T) {
	t.Parallel()
	for _, life := range []int64{1, 59, 60, 61} {
		n := booted(t)
		c := &command.Consume{Tenant: "default", ValueKind: "jti", Id: "x", ExpiresAt: seconds(life)}
		n.must(c)
		for step := range int64(125) {
			n.now = t0 + step*1000 + 999
			n.must(&command.Expire{UpTo: math.MaxInt64, Limit: 100})
			if r := n.one(c); r.Reject != command.AlreadyUsed && r.Reject != command.AlreadyExpired {
				t.Fatalf("life %d s: after %d s the value is taken again (%v)", life, step, r.Reject)
			}
		}
		if strings.Contains(n.dump(), "consumed") || strings.Contains(n.dump(), "expiry") {
			t.Errorf("life %d s: the row stays for ever", life)
		}
	}
}

// TestIdempotencyKeys: a retry gets the first answer, another request under the
// key is refused, a refusal is not kept (T4).
func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	n := booted(t)
	put := func(name string) command.Command {
		return &command.PutClient{Client: client(name)}
	}
	first := n.keyed(put("x"), "key", "body")
	if first.Reject != command.Accepted || first.Generation == 0 {
		t.Fatalf("first: %+v", first)
	}
	again := n.keyed(put("x"), "key", "body")
	if again.Reject != command.Accepted || again.Generation != first.Generation {
		t.Errorf("retry: %+v, want what %+v said", again, first)
	}
	if r := n.keyed(put("x"), "key", "other"); r.Reject != command.KeyReused {
		t.Errorf("another body: %v", r.Reject)
	}
	revoke := &command.Revoke{Tenant: "default", TargetKind: "subject", Target: "a", ExpiresAt: seconds(9e5)}
	seq := n.keyed(revoke, "revoke", "r").Seq
	if r := n.keyed(revoke, "revoke", "r"); r.Seq != seq || r.Head != seq {
		t.Errorf("the retried revocation answers %+v, want seq %d and no new event", r, seq)
	}
	early := &command.PutClient{Client: client("y"), Expect: 7}
	if r := n.keyed(early, "early", "e"); r.Reject != command.NotFound {
		t.Fatalf("early: %v", r.Reject)
	}
	if r := n.keyed(put("y"), "early", "e"); r.Reject != command.Accepted {
		t.Errorf("a refusal was kept: %v", r.Reject)
	}
	n.now += command.AnsweredFor.Milliseconds() - 1
	n.must(&command.Expire{UpTo: math.MaxInt64, Limit: 4096})
	if r := n.keyed(put("x"), "key", "body"); r.Generation != first.Generation {
		t.Errorf("the answer was forgotten within its life: %+v", r)
	}
	n.now += 60_001
	n.must(&command.Expire{UpTo: math.MaxInt64, Limit: 4096})
	if strings.Contains(n.dump(), "answered") {
		t.Error("answers stay for ever")
	}
}

// TestAnswersOutliveRetries: the retry window of a caller is a day less the
// skew; a kept answer must be there to its end (T4).
func TestAnswersOutliveRetries(t *testing.T) {
	t.Parallel()
	for _, offset := range []int64{0, 1, 999, 1000, 30_500, 59_999} {
		n := booted(t)
		n.now += offset
		kept := n.keyed(&command.PutClient{Client: client("x")}, "key", "b")
		n.now += command.AnsweredFor.Milliseconds() - 1
		n.must(&command.Expire{UpTo: math.MaxInt64, Limit: 10})
		if r := n.keyed(&command.PutClient{Client: client("x")}, "key", "b"); r.Generation != kept.Generation {
			t.Errorf("an answer of %d ms past the minute is gone a millisecond before its end", offset)
		}
	}
}

func TestClientGenerations(t *testing.T) {
	t.Parallel()
	n := booted(t)
	app := func(change func(*state.Client)) *command.PutClient {
		c := client("app")
		change(c)
		return &command.PutClient{Client: c, Expect: 2}
	}
	n.refused(&command.PutClient{Client: client("app")}, command.Exists)
	n.refused(&command.PutClient{Client: client("none"), Expect: 2}, command.NotFound)
	n.refused(&command.PutClient{Client: client("app"), Expect: 1}, command.Stale)
	n.refused(app(func(c *state.Client) { c.Secrets = make([]*state.SecretHash, 3) }), command.Invalid)
	n.refused(app(func(c *state.Client) { c.RefreshTokenLifetime = math.MaxInt64 }), command.Invalid)
	n.refused(app(func(c *state.Client) { c.AccessTokenLifetime = -1 }), command.Invalid)
	n.refused(app(func(c *state.Client) { c.Tenant = "none" }), command.NotFound)
	n.refused(&command.DeleteClient{Tenant: "default", Id: "app", Expect: 9}, command.Stale)

	long := app(func(c *state.Client) { c.AccessTokenLifetime = 50_000 })
	gen := n.must(long).Generation
	short := client("app")
	n.must(&command.PutClient{Client: short, Expect: gen})
	c, _ := n.View().Client("default", "app")
	if c.GetLongestLifetime() != 50_000 || c.GetGeneration() != n.index || c.GetCreatedAt() != t0 {
		t.Errorf("after two changes: %v", c)
	}
	got := rejects(n.do(&command.PutClient{Client: client("app"), Expect: n.index}, &command.PutClient{Client: client("app"), Expect: n.index}))
	if want := []command.Reject{command.Accepted, command.Stale}; !slices.Equal(got, want) {
		t.Errorf("two changes of one generation in one entry: %v, want %v", got, want)
	}
}

// TestDisablingAndDeletingRevoke: in the same change, and for as long as any
// token of the client may live, also when the tenant allowed longer lives since.
func TestDisablingAndDeletingRevoke(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*node) command.Result{
		"disable": func(n *node) command.Result {
			c := client("app")
			c.Disabled = true
			return n.must(&command.PutClient{Client: c, Expect: 2})
		},
		"delete": func(n *node) command.Result {
			return n.must(&command.DeleteClient{Tenant: "default", Id: "app"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := booted(t)
			n.must(&command.PutTenant{Expect: 1, Tenant: &state.Tenant{Id: "default", Settings: &state.TenantSettings{AccessTokenLifetime: 90_000}}})
			n.must(&command.PutTenant{Expect: 3, Tenant: &state.Tenant{Id: "default"}})
			r := change(n)
			if r.Seq == 0 || r.Seq != r.Head {
				t.Fatalf("no event: %+v", r)
			}
			v := n.View()
			if seq, ok := v.Revoked("default", "", "client", "app", r.Seq-1, 0); !ok || seq != r.Seq {
				t.Errorf("a token decided before is not revoked")
			}
			if _, ok := v.Revoked("default", "", "client", "app", r.Seq, 0); ok {
				t.Error("a token decided after it is revoked")
			}
			n.now += 90_000_000
			n.must(&command.Expire{UpTo: n.now, Limit: 100})
			if _, ok := n.View().Revoked("default", "", "client", "app", 0, 0); !ok {
				t.Error("the revocation ended before the last token")
			}
			n.now += (skew + 60) * 1000
			n.must(&command.Expire{UpTo: n.now, Limit: 100})
			if _, ok := n.View().Revoked("default", "", "client", "app", 0, 0); ok {
				t.Error("the revocation stays for ever")
			}
		})
	}
	t.Run("disabled again, no second event", func(t *testing.T) {
		t.Parallel()
		n := booted(t)
		c := client("app")
		c.Disabled = true
		n.must(&command.PutClient{Client: c, Expect: 2})
		c = client("app")
		c.Disabled, c.Name = true, "other"
		if r := n.must(&command.PutClient{Client: c, Expect: 3}); r.Seq != 0 {
			t.Errorf("a second event: %+v", r)
		}
	})
}

func opaque(name string) *command.IssueOpaque {
	return &command.IssueOpaque{Hash: digest(name), ClientGeneration: 2, TenantGeneration: 1,
		Token: &state.OpaqueToken{Tenant: "default", Id: name, ClientId: "app", ExpiresAt: seconds(90)}}
}

func TestIssuingOpaqueTokens(t *testing.T) {
	t.Parallel()
	n := booted(t)
	with := func(change func(*command.IssueOpaque)) command.Command {
		c := opaque("x")
		change(c)
		return c
	}
	n.refused(with(func(c *command.IssueOpaque) { c.ClientGeneration = 1 }), command.Stale)
	n.refused(with(func(c *command.IssueOpaque) { c.TenantGeneration = 2 }), command.Stale)
	n.refused(with(func(c *command.IssueOpaque) { c.Hash = c.Hash[1:] }), command.Invalid)
	n.refused(with(func(c *command.IssueOpaque) { c.Token.Id = "" }), command.Invalid)
	n.refused(with(func(c *command.IssueOpaque) { c.Token.ClientId = "none" }), command.NotFound)
	n.refused(with(func(c *command.IssueOpaque) { c.Token.ExpiresAt = seconds(0) }), command.AlreadyExpired)
	n.refused(with(func(c *command.IssueOpaque) { c.Token = nil }), command.Invalid)

	same := encoded(t, opaque("x"), key("p"), [8]byte{}, false)
	n.raw(entry(n.header(), same))
	if r := n.raw(entry(n.header(), same)); r[0].Reject != command.Accepted {
		t.Errorf("the same proposal again: %v", r[0].Reject)
	}
	row, err := n.View().Opaque(state.Minute(seconds(90)), digest32("x"))
	if err != nil || row.GetId() != "x" {
		t.Errorf("row %v, error %v", row, err)
	}

	c := client("app")
	c.Disabled = true
	got := rejects(n.do(&command.PutClient{Client: c, Expect: 2}, opaque("y")))
	if want := []command.Reject{command.Accepted, command.Disabled}; !slices.Equal(got, want) {
		t.Errorf("disabled earlier in the entry: %v, want %v", got, want)
	}
}

// TestALongNameStopsNobody: names beyond what a key can hold are refused; they
// must neither stop the nodes nor make a snapshot that can't be read (CLU-07).
func TestALongNameStopsNobody(t *testing.T) {
	t.Parallel()
	for _, size := range []int{maxPart, maxPart + 1, 66_000} {
		n := booted(t)
		long := strings.Repeat("n", size)
		for _, c := range longNames(long) {
			if proto.Size(c) > command.MaxCommand {
				continue // refused before it is proposed; its single names come besides
			}
			before := n.dump()
			r := n.one(c)
			if size > maxPart && r.Reject == command.Accepted {
				t.Errorf("%T took a name of %d bytes", c, size)
			}
			if r.Reject != command.Accepted && rowsOnly(n.dump()) != rowsOnly(before) {
				t.Errorf("%T was refused and changed the state", c)
			}
		}
		if err := n.haltedBy(); err != nil {
			t.Fatal(err)
		}
		o := fresh(t)
		o.mustRestore(strings.NewReader(string(n.snapshot())))
		if o.sum() != n.sum() {
			t.Error("the snapshot holds another state")
		}
	}
	n := fresh(t)
	b := bootstrap()
	b.Cluster.Id = strings.Repeat("c", maxClusterID+1)
	n.refused(b, command.Invalid)
}

func longNames(long string) []command.Command {
	c, k, g := client(long), &state.SigningKey{Tenant: "default", Id: long, Alg: "ES256", Sealed: []byte("s"), PublicKey: []byte("p")}, &state.Gateway{Id: long, Credential: digest("g")}
	c.Name = ""
	return []command.Command{
		&command.PutTenant{Tenant: &state.Tenant{Id: long}},
		&command.PutClient{Client: &state.Client{Tenant: long, Id: "x"}},
		&command.DeleteClient{Tenant: "default", Id: long},
		&command.IssueOpaque{Hash: digest("t"), Token: &state.OpaqueToken{Tenant: "default", Id: "x", ClientId: long, ExpiresAt: seconds(60)}},
		&command.Revoke{Tenant: long, TargetKind: "key", Target: "x", ExpiresAt: seconds(60)},
		&command.Revoke{Tenant: "default", TargetKind: "subject", Target: long, ExpiresAt: seconds(60)},
		&command.Revoke{Tenant: "default", Issuer: long, TargetKind: "subject", Target: "x", ExpiresAt: seconds(60)},
		&command.Consume{Tenant: "default", ValueKind: "jti", Id: long, ExpiresAt: seconds(60)},
		&command.DropSigningKey{Tenant: "default", Id: long},
		&command.RotateSigningKey{Tenant: "default", Alg: "ES256", To: long},
		&command.PutClient{Client: c},
		&command.PutClient{Client: &state.Client{Tenant: long, Id: long}},
		&command.DeleteClient{Tenant: long, Id: long},
		&command.IssueOpaque{Hash: digest("t"), Token: &state.OpaqueToken{Tenant: long, Id: long, ClientId: long, ExpiresAt: seconds(60)}},
		&command.Revoke{Tenant: long, Issuer: long, TargetKind: "application", Target: long, ExpiresAt: seconds(60)},
		&command.Revoke{Tenant: long, TargetKind: "key", Target: long, ExpiresAt: seconds(60)},
		&command.Consume{Tenant: long, ValueKind: long, Id: long, ExpiresAt: seconds(60)},
		&command.PutSigningKey{Key: k},
		&command.RotateSigningKey{Tenant: long, Alg: "ES256", To: long},
		&command.DropSigningKey{Tenant: long, Id: long},
		&command.PutClusterKey{NewVersion: true, Key: &state.ClusterKey{Name: long, Version: 1}},
		&command.Join{Hash: digest("j"), Node: &state.Node{Id: long, PublicKey: digest("n")}},
		&command.PutNode{Node: &state.Node{Id: long}},
		&command.RemoveNode{Id: long},
		&command.PutGateway{Gateway: g},
		&command.DeleteGateway{Id: long},
		&command.SetIssuer{Issuer: long},
		&command.PutRole{Role: &state.Role{Tenant: "default", Name: long}},
		&command.DeleteRole{Tenant: "default", Name: long},
		&command.PutGroup{Group: &state.Group{Tenant: "default", Name: long}},
		&command.DeleteGroup{Tenant: "default", Name: long},
		&command.PutScope{Scope: &state.Scope{Tenant: "default", Name: long}},
		&command.DeleteScope{Tenant: long, Name: "x"},
	}
}

func TestEveryIndexHasItsRow(t *testing.T) {
	t.Parallel()
	n := booted(t)
	put := func(id, credential string) command.Command {
		return &command.PutGateway{Gateway: &state.Gateway{Id: id, Credential: digest(credential)}}
	}
	n.must(put("g1", "a"))
	n.refused(put("g2", "a"), command.Conflict)
	n.must(put("g1", "b"))
	if _, ok := n.View().GatewayByCredential(digest32("a")); ok {
		t.Error("the former credential still works")
	}
	if g, ok := n.View().GatewayByCredential(digest32("b")); !ok || g.GetId() != "g1" {
		t.Error("the new credential doesn't work")
	}
	n.must(put("g2", "a"))
	n.must(&command.DeleteGateway{Id: "g1"})
	if _, ok := n.View().GatewayByCredential(digest32("b")); ok {
		t.Error("a deleted gateway's credential works")
	}
	n.refused(&command.DeleteGateway{Id: "g1"}, command.NotFound)
	if got := fmt.Sprint(len(n.View().Gateways())); got != "1" {
		t.Errorf("%s gateways", got)
	}
}
