package grants_test

import (
	"testing"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// TestPasswordGrant: off until tenant and client are for it, and then as the login page.
func TestPasswordGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.client("app", func(*clients.Registration) {})
	w.client("other", func(r *clients.Registration) { r.GrantTypes = []string{"client_credentials"} })
	ask := func(client, name, secret string, pairs ...string) error {
		_, err := w.ask(client, "password", append([]string{"username", name, "password", secret}, pairs...)...)
		return err
	}
	w.refused("TOK-35 a tenant that does not allow it", nil, ask("app", "alice", phrase), oauth.UnauthorizedClient)
	w.allowPassword()
	w.refused("TOK-35 a client that is not registered for it", nil, ask("other", "alice", phrase), oauth.UnauthorizedClient)
	out, err := w.ask("app", "password", "username", "alice", "password", phrase, "scope", "openid read")
	c := w.good(out, err)
	if c["sub"] != "u1" || c["scope"] != "openid read" || len(out.Refresh) == 0 || len(out.ID) == 0 {
		t.Errorf("says %v", c)
	}
	w.good(w.ask("app", "refresh_token", "refresh_token", string(out.Refresh)))
	w.refused("LDP-02 no password", nil, ask("app", "alice", ""), oauth.InvalidRequest)
	w.refused("no name", nil, ask("app", "", phrase), oauth.InvalidRequest)
	w.refused("a scope that it may not have", nil, ask("app", "alice", phrase, "scope", "admin"), oauth.InvalidScope)
	wrong, nobody := ask("app", "alice", "wrong"), ask("app", "mallory", phrase)
	if wrong == nil || nobody == nil || wrong.Error() != nobody.Error() {
		t.Errorf("WEB-12: %v, %v", wrong, nobody)
	}
	for range 2 {
		w.refused("TOK-33 a wrong password", nil, ask("app", "alice", "wrong"), oauth.InvalidGrant)
	}
	locked := ask("app", "alice", phrase)
	if locked == nil || locked.Error() != wrong.Error() {
		t.Errorf("TOK-33: the lockout says %v", locked)
	}
}

// TestPasswordGrantAsksForNoSecondFactor is WEB-09.
func TestPasswordGrantAsksForNoSecondFactor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.client("app", func(*clients.Registration) {})
	w.allowPassword()
	w.user(func(u *state.User) { u.SecondFactor = true })
	_, err := w.ask("app", "password", "username", "alice", "password", phrase)
	w.refused("WEB-09", nil, err, oauth.InvalidGrant)
}
