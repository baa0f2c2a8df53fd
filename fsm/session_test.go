package fsm

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/storage"
)

func session(id, secret string) *state.Session {
	return &state.Session{Tenant: "default", Id: id, User: "u1", Secret: digest(secret), AuthTime: seconds(0),
		Acr: "1", Amr: []string{"pwd"}, ExpiresAt: seconds(7200), UserAgent: "browser", Address: "192.0.2.1"}
}

func consent(scopes ...string) *state.Consent {
	return &state.Consent{Tenant: "default", User: "u1", ClientId: "app", Scopes: scopes}
}

// peopled is a cluster with the client "app" and the user "u1", whose generation it tells.
func peopled(t *testing.T) (*node, uint64) {
	t.Helper()
	n := booted(t)
	return n, n.must(&command.PutUser{User: user("u1", "alice")}).Generation
}

// refreshable starts a refresh family of u1 at app.
func (n *node) refreshable(id, sid string, offline bool) {
	n.t.Helper()
	app, _ := n.View().Client("default", "app")
	n.must(&command.Redeem{
		Authorization: &state.Authorization{Tenant: "default", ClientId: "app", Subject: "u1", User: "u1", Session: sid, Grant: id},
		Family:        &state.RefreshFamily{Id: id, Hash: digest(id), ExpiresAt: seconds(3600), Offline: offline},
		Decided:       &command.Decided{Client: app.GetGeneration(), Tenant: 1},
	})
}

func gone(t *testing.T, err error) bool {
	t.Helper()
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		t.Fatal(err)
	}
	return err != nil
}

// TestAnEndedSessionLeavesNoRow: who is told of a session's end is kept with the session, so
// a grant of offline access that comes after it adds nobody.
func TestAnEndedSessionLeavesNoRow(t *testing.T) {
	t.Parallel()
	n, generation := peopled(t)
	n.must(&command.PutSession{Session: session("s1", "a"), UserGeneration: generation})
	n.refreshable("g1", "s1", true)
	clients := func() []string {
		t.Helper()
		list, err := n.View().ClientsOfSession("default", "s1", "", 10)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if got := clients(); len(got) != 1 {
		t.Fatalf("the session knows %v", got)
	}
	n.must(&command.EndSession{Tenant: "default", Id: "s1"})
	n.refreshable("g2", "s1", true)
	if left := clients(); len(left) != 0 {
		t.Errorf("%v stay for a session that is gone", left)
	}
}

// TestASessionIsOfAUserWhoIsAsTheyWere when they proved who they are (WEB-05).
func TestASessionIsOfAUserWhoIsAsTheyWere(t *testing.T) {
	t.Parallel()
	n, generation := peopled(t)
	put := func(change func(c *command.PutSession)) *command.PutSession {
		c := &command.PutSession{Session: session("s1", "a"), UserGeneration: generation}
		change(c)
		return c
	}
	for name, tt := range map[string]struct {
		change func(c *command.PutSession)
		want   command.Reject
	}{
		"another generation of the user": {func(c *command.PutSession) { c.UserGeneration++ }, command.Stale},
		"a user who is not there":        {func(c *command.PutSession) { c.Session.User = "nobody" }, command.NotFound},
		"a step-up of no session":        {func(c *command.PutSession) { c.Expect = 9 }, command.NotFound},
		"a secret that is not a hash":    {func(c *command.PutSession) { c.Session.Secret = []byte("plain") }, command.Invalid},
		"no end":                         {func(c *command.PutSession) { c.Session.ExpiresAt = 0 }, command.Invalid},
		"an end that is over":            {func(c *command.PutSession) { c.Session.ExpiresAt = seconds(0) }, command.AlreadyExpired},
		"a user agent without bound":     {func(c *command.PutSession) { c.Session.UserAgent = strings.Repeat("x", maxSessionText+1) }, command.Invalid},
	} {
		t.Log(name)
		n.refused(put(tt.change), tt.want)
	}
	n.must(put(func(*command.PutSession) {}))
	n.must(put(func(*command.PutSession) {})) // the same proposal, tried again
	n.refused(put(func(c *command.PutSession) { c.Session.Secret = digest("of another") }), command.Exists)

	ended := user("u1", "alice")
	generation = n.must(&command.PutUser{User: ended, Expect: generation, EndLogins: true}).Generation
	old, err := n.View().Session("default", "s1")
	if err != nil {
		t.Fatal(err)
	}
	n.refused(put(func(c *command.PutSession) { c.Session.Secret, c.Expect = digest("b"), old.GetGeneration() }), command.Stale)
	n.must(put(func(c *command.PutSession) { c.Session.Id = "s2" })) // in the millisecond of the change
	u, _ := n.View().User("default", "u1")
	if s, err := n.View().Session("default", "s2"); err != nil || s.GetCreatedAt() <= u.GetSessionsAfter() {
		t.Errorf("a login after the change of password is not good: %v, %v", s, err)
	}
	ended.Disabled = true
	generation = n.must(&command.PutUser{User: ended, Expect: generation}).Generation
	n.refused(put(func(c *command.PutSession) { c.Session.Id = "s3" }), command.Disabled)
}

// TestAStepUpChangesTheSecret and keeps when the session was made, its absolute end and
// whose it is (WEB-04).
func TestAStepUpChangesTheSecret(t *testing.T) {
	t.Parallel()
	n, generation := peopled(t)
	made := n.must(&command.PutSession{Session: session("s1", "before"), UserGeneration: generation}).Generation
	n.now += 5000
	next := session("s1", "after")
	next.ExpiresAt, next.Acr = seconds(999_999), "2"
	n.must(&command.PutSession{Session: next, Expect: made, UserGeneration: generation})
	s, err := n.View().Session("default", "s1")
	if err != nil || string(s.GetSecret()) != string(digest("after")) || s.GetAcr() != "2" || s.GetCreatedAt() != t0 || s.GetExpiresAt() != seconds(7200) {
		t.Errorf("%v, %v", s, err)
	}
	other := user("u2", "bob")
	generation = n.must(&command.PutUser{User: other}).Generation
	taken := session("s1", "of bob")
	taken.User = "u2"
	n.refused(&command.PutSession{Session: taken, Expect: s.GetGeneration(), UserGeneration: generation}, command.Conflict)
	n.refused(&command.PutSession{Session: session("s1", "late"), Expect: made, UserGeneration: generation}, command.Stale)
}

// TestASessionsEndEndsWhatLivesByIt, a bounded number at a time, and leaves what
// outlives it (WEB-05).
func TestASessionsEndEndsWhatLivesByIt(t *testing.T) {
	t.Parallel()
	n, generation := peopled(t)
	n.must(&command.PutSession{Session: session("s1", "a"), UserGeneration: generation})
	n.refreshable("away", "s1", true)
	for i := range endLimit + 3 {
		n.refreshable(fmt.Sprintf("g%04d", i), "s1", false)
	}
	head := n.View().Head()
	r := n.must(&command.EndSession{Tenant: "default", Id: "s1"})
	if r.Generation != 1 {
		t.Fatal("it does not say that more is left")
	}
	if _, err := n.View().Session("default", "s1"); !gone(t, err) {
		t.Fatal("the session is there while its families end")
	}
	if d := n.dump(); strings.Contains(d, "session by user ") || strings.Contains(d, "client of session ") {
		t.Error("its other rows are left")
	}
	if r = n.must(&command.EndSession{Tenant: "default", Id: "s1"}); r.Generation != 0 {
		t.Fatal("more is left for ever")
	}
	if left, err := n.View().FamiliesOf("default", "u1", "", 9); err != nil || len(left) != 1 || left[0] != "away" {
		t.Errorf("families left: %v, %v", left, err)
	}
	if got := n.View().Head() - head; got != endLimit+3 {
		t.Errorf("%d events, want one of each family", got)
	}
	for _, e := range n.events()[:1] {
		if e.GetKind() != "grant" {
			t.Errorf("event of kind %q", e.GetKind())
		}
	}
	n.must(&command.EndSession{Tenant: "default", Id: "s1"}) // again: nothing, and no error
}

// TestASessionGoesWithItsTime and takes its other rows along, not before its end.
func TestASessionGoesWithItsTime(t *testing.T) {
	t.Parallel()
	n, generation := peopled(t)
	n.must(&command.PutSession{Session: session("s1", "a"), UserGeneration: generation})
	n.refreshable("g1", "s1", false)
	n.now = t0 + 7_199_000
	n.must(&command.Expire{UpTo: math.MaxInt64, Limit: 100})
	if _, err := n.View().Session("default", "s1"); err != nil {
		t.Fatalf("gone before its end: %v", err)
	}
	n.now = t0 + 7_260_000
	n.must(&command.Expire{UpTo: math.MaxInt64, Limit: 100})
	for _, row := range []string{"session ", "session by user ", "client of session "} {
		if strings.Contains(n.dump(), "\n"+row) {
			t.Errorf("a row is left: %s", row)
		}
	}
}

// TestAConsentThatIsTakenBack ends the user's families at that client and nobody else's.
func TestAConsentThatIsTakenBack(t *testing.T) {
	t.Parallel()
	n, _ := peopled(t)
	n.refused(&command.PutConsent{Consent: &state.Consent{Tenant: "default", User: "u1", ClientId: "none"}}, command.NotFound)
	n.refused(&command.PutConsent{Consent: consent(make([]string, state.MaxConsentItems+1)...)}, command.Invalid)
	g := n.must(&command.PutConsent{Consent: consent("read")}).Generation
	n.refused(&command.PutConsent{Consent: consent("write")}, command.Stale) // another page allowed something meanwhile
	n.must(&command.PutConsent{Consent: consent("read", "write"), Expect: g})
	n.refreshable("mine", "", false)
	n.must(&command.DeleteConsent{Tenant: "default", User: "u2", ClientId: "app", Families: []string{"mine"}})
	if _, err := n.View().RefreshFamily("default", "mine"); err != nil {
		t.Fatalf("another user's call ended it: %v", err)
	}
	n.refused(&command.DeleteConsent{Tenant: "default", User: "u1", ClientId: "app", Families: make([]string, endLimit+1)}, command.Invalid)
	if r := n.must(&command.DeleteConsent{Tenant: "default", User: "u1", ClientId: "app", Families: []string{"mine", "none"}}); r.Seq == 0 {
		t.Error("no event")
	}
	_, err := n.View().Consent("default", "u1", "app")
	_, err2 := n.View().RefreshFamily("default", "mine")
	if !gone(t, err) || !gone(t, err2) {
		t.Error("consent or family is left")
	}
}
