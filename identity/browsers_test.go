package identity_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
)

// plainBrowsers seal nothing: what is sealed is tokens.Boxes' matter, and what the cookie
// says is this package's.
func plainBrowsers() *identity.Browsers {
	return &identity.Browsers{
		Seal: func(_ *state.View, label string, plain []byte) (string, error) {
			return label + ":" + string(plain), nil
		},
		Open: func(_ *state.View, label, value string) ([]byte, bool, error) {
			plain, ok := strings.CutPrefix(value, label+":")
			return []byte(plain), ok, nil
		},
	}
}

// TestBrowsersAreToldApart: WEB-12. Each browser and each user of it has an id of its own,
// which stays until the user has another password.
func TestBrowsersAreToldApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := plainBrowsers()
	bob, eve := w.make("bob"), w.make("eve")
	remember := func(cookie string, user *state.User) string {
		t.Helper()
		next, err := b.Remember(w.view(), tenant, cookie, user)
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	knows := func(cookie, name string) string {
		t.Helper()
		id, err := b.Knows(w.view(), tenant, cookie, name)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	home, cafe := remember("", bob), remember("", bob)
	atHome := knows(home, "BOB")
	if again := remember(home, bob); again != "" {
		t.Errorf("a browser that says so already gets another cookie: %s", again)
	}
	both := remember(cafe, eve)
	ids := []string{atHome, knows(both, "bob"), knows(both, "eve")}
	slices.Sort(ids)
	if ids[0] == "" || len(slices.Compact(ids)) != 3 {
		t.Errorf("ids %q: want three", ids)
	}
	if back := remember(both, bob); back == "" || knows(back, "bob") != knows(cafe, "bob") || knows(back, "eve") != knows(both, "eve") {
		t.Errorf("who signs in after somebody else is another browser")
	}
	for _, cookie := range []string{"", "nothing", "known browser:{", `known browser:{"t":"acme","u":[{"i":"` + bob.GetId() + `","b":"x"}]}`, `known browser:{"t":"default","u":["` + bob.GetId() + `"]}`} {
		if id := knows(cookie, "bob"); id != "" {
			t.Errorf("%q is known as %q", cookie, id)
		}
	}
	if knows(home, "nobody") != "" || knows(home, "eve") != "" || knows(home, "b\u200bob") != "" {
		t.Error("the browser is known to somebody who has not signed in at it")
	}

	w.Pass(time.Second)
	changed, err := w.users.ChangePassword(context.Background(), w.view(), bob, "a newer phrase of mine")
	if err != nil {
		t.Fatal(err)
	}
	if knows(home, "bob") != "" || knows(cafe, "bob") != "" || knows(both, "eve") == "" {
		t.Error("a cookie of before the change of password counts, or another's no longer does")
	}
	anew := remember(home, changed)
	if id := knows(anew, "bob"); id == "" || id == atHome {
		t.Errorf("after the login with the new password: %q, before it %q", id, atHome)
	}
}

// TestABrowserForgetsTheOldest bounds what the cookie says.
func TestABrowserForgetsTheOldest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := plainBrowsers()
	var cookie string
	for _, name := range strings.Fields("u1 u2 u3 u4 u5 u6 u7 u8 u9") {
		var err error
		if cookie, err = b.Remember(w.view(), tenant, cookie, w.make(name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]bool{"u1": false, "u2": true, "u9": true} {
		if id, err := b.Knows(w.view(), tenant, cookie, name); err != nil || (id != "") != want {
			t.Errorf("%s: %q, %v; want known: %v", name, id, err, want)
		}
	}
	if len(cookie) > 1500 {
		t.Errorf("the cookie has %d bytes before it is sealed", len(cookie))
	}
}
