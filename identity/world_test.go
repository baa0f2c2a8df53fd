package identity_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/storage"
)

func TestMain(m *testing.M) { testnode.Main(m) }

const (
	tenant = "default"
	phrase = "a long phrase of mine"
)

// world is one node's users. Its clock stands still unless Pass moves it.
type world struct {
	*testnode.Node
	t      testing.TB
	users  *identity.Users
	before func(command.Command) error // asked before each proposal
	during func()                      // called once, when a login has checked its password
	seen   []command.Command
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t}
	w.Node = testnode.New(t, testnode.Options{Before: func(c command.Command) error {
		w.seen = append(w.seen, c)
		if w.before != nil {
			return w.before(c)
		}
		return nil
	}})
	passwords, err := seal.NewPasswords(2, 16)
	if err != nil {
		t.Fatal(err)
	}
	w.users, err = identity.NewUsers(identity.UsersConfig{
		Propose: w.Propose, View: w.looks, Passwords: passwords, Now: w.Now,
		Absent:    func(err error) bool { return errors.Is(err, storage.ErrNotFound) },
		TokensEnd: func(*state.View, string) int64 { return w.Now().Add(time.Hour).Unix() },
		Policy:    identity.Policy{Failures: 3, Window: 10 * time.Minute, Lock: 5 * time.Minute},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// looks is a view, after what happens meanwhile.
func (w *world) looks(ctx context.Context, f state.Freshness) (*state.View, error) {
	if during := w.during; during != nil && f.IsLinearizable() {
		w.during = nil
		during()
	}
	return w.View(ctx, f)
}

func (w *world) make(name string) *state.User {
	w.t.Helper()
	u, err := w.users.Create(context.Background(), tenant, &identity.Profile{Username: name, Password: phrase})
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

func (w *world) view() *state.View { return w.FSM.View() }

func (w *world) check(name, password string, browser string) (*state.User, error) {
	return w.users.Check(context.Background(), w.view(), tenant, name, password, browser)
}

// passes wants the login to be good.
func (w *world) passes(name, password string, browser string) {
	w.t.Helper()
	if _, err := w.check(name, password, browser); err != nil {
		w.t.Errorf("%q with the right password (browser %q): %v", name, browser, err)
	}
}

// fails wants the refusal, in the one text.
func (w *world) fails(name, password string, browser string) string {
	w.t.Helper()
	u, err := w.check(name, password, browser)
	var refusal *oauth.Error
	if u != nil || !errors.As(err, &refusal) || !errors.Is(err, oauth.InvalidGrant) {
		w.t.Fatalf("login of %q: user %v, error %v; want invalid_grant", name, u != nil, err)
	}
	return err.Error()
}

// proposals counts the attempts that were proposed since the last call.
func (w *world) proposals() int {
	n := 0
	for _, c := range w.seen {
		if _, ok := c.(*command.RecordAttempt); ok {
			n++
		}
	}
	w.seen = nil
	return n
}
