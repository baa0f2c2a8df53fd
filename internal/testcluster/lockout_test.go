package testcluster_test

import (
	"errors"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/internal/testcluster"
	"github.com/keyraft/keyraft/storage"
)

// usersAt are the users as one node checks them.
func usersAt(t *testing.T, n *testcluster.Node) *identity.Users {
	t.Helper()
	passwords, err := seal.NewPasswords(1, 16)
	if err != nil {
		t.Fatal(err)
	}
	users, err := identity.NewUsers(identity.UsersConfig{
		Propose: n.Propose, View: n.View, Passwords: passwords, Now: time.Now,
		Absent:    func(err error) bool { return errors.Is(err, storage.ErrNotFound) },
		TokensEnd: func(*state.View, string) int64 { return time.Now().Add(time.Hour).Unix() },
		Policy:    identity.Policy{Failures: 3},
	})
	if err != nil {
		t.Fatal(err)
	}
	return users
}

// TestLockoutOverAllNodes is TOK-34: guesses that are sprayed over the nodes, each under
// another writing of the name, count together; so does what a leader counted that died.
func TestLockoutOverAllNodes(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 3)
	ctx := within(t, 60*time.Second)
	const phrase = "a long phrase of mine"
	if _, err := usersAt(t, c.Leader()).Create(ctx, tenant, &identity.Profile{Username: "bob", Password: phrase}); err != nil {
		t.Fatal(err)
	}
	login := func(n *testcluster.Node, name, password, browser string) error {
		t.Helper()
		v, err := n.View(ctx, state.Linearizable)
		if err != nil {
			t.Fatalf("view of %s: %v", n.Name, err)
		}
		_, err = usersAt(t, n).Check(ctx, v, tenant, name, password, browser)
		if err != nil && !errors.Is(err, oauth.InvalidGrant) {
			t.Fatalf("login at %s: %v", n.Name, err)
		}
		return err
	}
	names := []string{"bob", "BOB", "ｂｏｂ"}
	for _, n := range c.Live() {
		if err := login(n, "bob", phrase, ""); err != nil {
			t.Fatalf("%s refuses the right password: %v", n.Name, err)
		}
	}
	for i, n := range c.Live() {
		if login(n, names[i], "another phrase", "") == nil {
			t.Fatalf("%s takes a wrong password", n.Name)
		}
	}
	locked := func(when string) {
		t.Helper()
		for _, n := range c.Live() {
			if login(n, "bob", phrase, "") == nil {
				t.Errorf("%s lets a stranger in %s, after a wrong guess at each node", n.Name, when)
			}
			if err := login(n, "bob", phrase, "a browser of bob"); err != nil {
				t.Errorf("%s locks out the browser that its owner is known at %s: %v", n.Name, when, err)
			}
		}
	}
	locked("at once")
	c.Leader().Kill()
	locked("after the leader died")
}
