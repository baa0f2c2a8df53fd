package identity_test

import (
	"errors"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/storage"
	"github.com/keyraft/keyraft/tokens"
)

func gone(err error) bool { return errors.Is(err, storage.ErrNotFound) }

// sessions are those of a node.
func sessions(t *testing.T, n *testnode.Node) *identity.Sessions {
	t.Helper()
	shared := tokens.NewClusterKeys(n.Ring)
	boxes := tokens.NewBoxes(shared, tokens.KeyCode)
	s, err := identity.NewSessions(identity.SessionsConfig{
		Propose: n.Propose, View: n.View, Now: n.Now, Absent: gone, Seal: boxes.Seal, Open: boxes.Open,
		Hashes: shared.Hashes,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSessions is WEB-05: a cookie is good for its session in its tenant, until the
// session rests too long, ends, or the user's logins do.
func TestSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := sessions(t, w.Node)
	user := w.make("alice")
	start := func() string {
		value, made, err := s.Start(t.Context(), w.FSM.View(), "default", user, identity.Authentication{AMR: []string{"pwd"}, ACR: "1"})
		if err != nil || made.GetUser() != user.GetId() || made.GetCreatedAt() == 0 {
			t.Fatalf("%v, %v", made, err)
		}
		return value
	}
	signedIn := func(tenant, value string) bool {
		row, owner, _, err := s.Current(w.FSM.View(), tenant, value)
		if err != nil {
			t.Fatal(err)
		}
		return row != nil && owner.GetId() == user.GetId()
	}
	value := start()
	if !signedIn("default", value) {
		t.Fatal("a fresh session is none")
	}
	if signedIn("acme", value) || signedIn("default", value[:len(value)-1]) || signedIn("default", value+"A") || signedIn("default", "") {
		t.Error("a cookie of another tenant, a changed one or none is good")
	}
	w.Pass(90 * time.Minute)
	_, _, renewed, err := s.Current(w.FSM.View(), "default", value)
	if err != nil || renewed == "" {
		t.Fatalf("a session that is used is not renewed: %v", err)
	}
	w.Pass(time.Hour)
	if signedIn("default", value) || !signedIn("default", renewed) {
		t.Error("the idle time is not that of the last use")
	}
	for range 20 { // however busy, it ends
		w.Pass(time.Hour)
		if _, _, again, _ := s.Current(w.FSM.View(), "default", renewed); again != "" {
			renewed = again
		}
	}
	if signedIn("default", renewed) {
		t.Error("a session outlives its lifetime")
	}
	value = start()
	row, _, _, _ := s.Current(w.FSM.View(), "default", value)
	for range 2 { // the second time is no error
		if err := s.End(t.Context(), "default", row.GetId()); err != nil {
			t.Fatal(err)
		}
	}
	if signedIn("default", value) {
		t.Error("an ended session is good")
	}
	value = start()
	if err := w.users.EndLogins(t.Context(), w.FSM.View(), "default", user.GetId()); err != nil {
		t.Fatal(err)
	}
	if signedIn("default", value) {
		t.Error("a session outlives the end of all logins")
	}
}

// TestLoginsEndWithARestore: the backup has forgotten which sessions were ended since, so
// none of before the restore counts (R15); one of after it does.
func TestLoginsEndWithARestore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := sessions(t, w.Node)
	user := w.make("alice")
	start := func() (string, *state.Session) {
		value, made, err := s.Start(t.Context(), w.FSM.View(), "default", user, identity.Authentication{AMR: []string{"pwd"}, ACR: "1"})
		if err != nil {
			t.Fatal(err)
		}
		return value, made
	}
	signedIn := func(value string) bool {
		row, _, _, err := s.Current(w.FSM.View(), "default", value)
		if err != nil {
			t.Fatal(err)
		}
		return row != nil
	}
	ended, made := start()
	backup := w.Backup(t)
	if err := s.End(t.Context(), "default", made.GetId()); err != nil || signedIn(ended) {
		t.Fatalf("it has not ended: %v", err)
	}
	w.Pass(time.Second)
	w.Restore(t, backup)
	if signedIn(ended) {
		t.Error("a session that was ended is good again")
	}
	w.Pass(time.Second)
	if fresh, _ := start(); !signedIn(fresh) {
		t.Error("after a restore nobody can sign in")
	}
}

// TestConsentsAddUp: what was allowed before stays allowed.
func TestConsentsAddUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	user := w.make("alice")
	c := &identity.Consents{Propose: w.Propose, View: w.View, Absent: gone}
	w.Must(t, &command.PutClient{Client: &state.Client{Tenant: "default", Id: "web"}})
	for _, scopes := range [][]string{{"openid"}, {"openid", "email"}} {
		if err := c.Remember(t.Context(), &state.Consent{Tenant: "default", User: user.GetId(), ClientId: "web", Scopes: scopes, Resources: []string{"https://api.example"}}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := w.FSM.View().Consent("default", user.GetId(), "web")
	if err != nil || len(got.GetScopes()) != 2 || len(got.GetResources()) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	index := w.FSM.View().Index()
	if err := c.Remember(t.Context(), &state.Consent{Tenant: "default", User: user.GetId(), ClientId: "web", Scopes: []string{"email"}}); err != nil {
		t.Fatal(err)
	}
	if w.FSM.View().Index() != index {
		t.Error("what was allowed before was written once more")
	}
}
