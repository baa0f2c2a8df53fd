package fsm

import (
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// granted is a node with one client and a code that can be redeemed.
func granted(t *testing.T) (*node, *command.Redeem) {
	t.Helper()
	n := booted(t)
	app, _ := n.View().Client("default", "app")
	generation := app.GetGeneration()
	return n, &command.Redeem{
		ValueKind: "code", ValueId: "c1", ValueExpiresAt: seconds(60), RevokeOnReuse: true,
		Authorization: &state.Authorization{Tenant: "default", ClientId: "app", Subject: "u1", Grant: "g1"},
		Family:        &state.RefreshFamily{Id: "g1", Hash: digest("r1"), ExpiresAt: seconds(3600)},
		Decided:       &command.Decided{Client: generation, Tenant: 1},
	}
}

func rotation(decided *command.Decided, presented, next string, grace int64) *command.RotateRefresh {
	return &command.RotateRefresh{Tenant: "default", Family: "g1", Presented: digest(presented), Next: digest(next),
		Successor: []byte("sealed " + next), Grace: grace, ExpiresAt: seconds(3600), Decided: decided}
}

func (n *node) family(t *testing.T) *state.RefreshFamily {
	t.Helper()
	f, err := n.View().RefreshFamily("default", "g1")
	if err != nil {
		return nil
	}
	return f
}

func (n *node) grantRevoked() bool {
	_, yes := n.View().Revoked("default", "", "grant", "g1", 0, 0)
	return yes
}

// TestACodeIsRedeemedOnce is TOK-14: the second use is refused and takes back what the
// first one gave; the same proposal again is the first one.
func TestACodeIsRedeemedOnce(t *testing.T) {
	t.Parallel()
	n, redeem := granted(t)
	first := encoded(t, redeem, key("first"), [8]byte{}, false)
	for range 2 {
		if r := n.raw(entry(n.header(), first))[0]; r.Reject != command.Accepted {
			t.Fatalf("redeem: %v", r.Reject)
		}
	}
	if n.family(t) == nil || n.grantRevoked() {
		t.Fatal("the first use started no family, or its retry took it back")
	}
	r := n.one(redeem)
	if r.Reject != command.AlreadyUsed || r.Seq == 0 {
		t.Errorf("second use: %v, seq %d", r.Reject, r.Seq)
	}
	if n.family(t) != nil || !n.grantRevoked() {
		t.Error("the second use took nothing back")
	}
}

// TestRedeemRefusesWhatHasChanged: a code of before a change of client, tenant, user or
// session is decided once more, and has used nothing up.
func TestRedeemRefusesWhatHasChanged(t *testing.T) {
	t.Parallel()
	n, redeem := granted(t)
	for name, change := range map[string]func(c *command.Redeem){
		"client":  func(c *command.Redeem) { c.Decided.Client++ },
		"tenant":  func(c *command.Redeem) { c.Decided.Tenant++ },
		"user":    func(c *command.Redeem) { c.Decided.User = 7 },
		"consent": func(c *command.Redeem) { c.Decided.Consent = 7 },
		"session": func(c *command.Redeem) { c.Authorization.Session = "ended" },
	} {
		c := cloneOf(redeem)
		change(c)
		t.Log(name)
		n.refused(c, command.Stale)
	}
	offline := cloneOf(redeem)
	offline.Authorization.Session, offline.Family.Offline = "ended", true
	n.must(offline) // offline_access outlives the session
	n.now += 60_000
	other := cloneOf(redeem)
	other.ValueId = "c2"
	n.refused(other, command.AlreadyExpired)
}

// TestRefreshRotation is TOK-24 to TOK-28 in the state: one successor, the same one
// within the window, none after it, and the family ends at a reuse, by generation and
// never by a clock of the past.
func TestRefreshRotation(t *testing.T) {
	t.Parallel()
	n, redeem := granted(t)
	n.must(redeem)
	d := redeem.Decided
	n.must(rotation(d, "r1", "r2", 10_000))
	n.refused(rotation(d, "r1", "other", 10_000), command.InGrace)
	if f := n.family(t); f.GetNumber() != 2 || string(f.GetSuccessor()) != "sealed r2" {
		t.Errorf("family %v", f)
	}
	n.must(rotation(d, "r2", "r3", 10_000)) // the successor's first use ends the window
	r := n.one(rotation(d, "r1", "x", 10_000))
	if r.Reject != command.AlreadyUsed || n.family(t) != nil || !n.grantRevoked() {
		t.Errorf("a token of two rotations ago: %v, family %v", r.Reject, n.family(t))
	}
	n.refused(rotation(d, "r3", "r4", 0), command.NotFound)
}

// TestRefreshWithoutGrace is TOK-25: of many uses of one token, one gets the next.
func TestRefreshWithoutGrace(t *testing.T) {
	t.Parallel()
	n, redeem := granted(t)
	n.must(redeem)
	got := rejects(n.do(rotation(redeem.Decided, "r1", "a", 0), rotation(redeem.Decided, "r1", "b", 0), rotation(redeem.Decided, "a", "c", 0)))
	if got[0] != command.Accepted || got[1] != command.AlreadyUsed || got[2] != command.NotFound {
		t.Errorf("%v", got)
	}
	if !n.grantRevoked() {
		t.Error("a reuse revoked nothing")
	}
}

// TestRefreshAfterTheWindow: a millisecond after the window the family ends (TOK-24).
func TestRefreshAfterTheWindow(t *testing.T) {
	t.Parallel()
	n, redeem := granted(t)
	n.must(redeem)
	n.must(rotation(redeem.Decided, "r1", "r2", 10_000))
	n.now += 9_999
	n.refused(rotation(redeem.Decided, "r1", "x", 0), command.InGrace)
	n.now++
	if r := n.one(rotation(redeem.Decided, "r1", "x", 0)); r.Reject != command.AlreadyUsed || n.family(t) != nil {
		t.Errorf("%v", r.Reject)
	}
}

// TestFamiliesExpire: a family goes with its indexes, at its last end.
func TestFamiliesExpire(t *testing.T) {
	t.Parallel()
	n, redeem := granted(t)
	redeem.Authorization.User, redeem.Authorization.Session, redeem.Family.Offline = "u1", "s1", true
	redeem.Family.ExpiresAt = seconds(60)
	n.must(redeem)
	next := rotation(redeem.Decided, "r1", "r2", 0)
	next.ExpiresAt = seconds(600)
	n.must(next)
	n.now += 300_000
	n.must(&command.Expire{UpTo: n.now, Limit: 100})
	if n.family(t) == nil {
		t.Fatal("a family went before its end")
	}
	n.now += 600_000
	n.must(&command.Expire{UpTo: n.now, Limit: 100})
	if n.family(t) != nil {
		t.Error("a family stays for ever")
	}
	v := n.View()
	of, err1 := v.FamiliesOf("default", "u1", "", 9)
	in, err2 := v.FamiliesOfSession("default", "s1", "", 9)
	if err1 != nil || err2 != nil || len(of)+len(in) != 0 {
		t.Errorf("indexes stay: %v %v", of, in)
	}
}

// TestAFamilyLengthensItsClientsRevocations: what is revoked of a client is kept as long
// as its longest refresh token lives.
func TestAFamilyLengthensItsClientsRevocations(t *testing.T) {
	t.Parallel()
	n, redeem := granted(t)
	redeem.Family.ExpiresAt = seconds(90 * 86_400)
	n.must(redeem)
	c, _ := n.View().Client("default", "app")
	if c.GetLongestLifetime() < 90*86_400-1 {
		t.Errorf("longest lifetime %d", c.GetLongestLifetime())
	}
}
