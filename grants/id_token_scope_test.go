package grants_test

import (
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// TestAnIDTokenGivesNoMoreThanItsLogin is TOK-44 at a client that needs no consent: what
// the login was not granted, its ID token does not give, nor one that does not tell.
func TestAnIDTokenGivesNoMoreThanItsLogin(t *testing.T) {
	t.Parallel()
	w := exchangeWorld(t)
	w.Must(t, &command.PutScope{Scope: &state.Scope{Tenant: "default", Name: "read"}})
	w.Must(t, &command.PutScope{Scope: &state.Scope{Tenant: "default", Name: "write", Includes: []string{"read"}}})
	ask := func(token []byte, pairs ...string) (*grants.Answer, error) {
		return w.ask("app", exchange, append([]string{"subject_token", string(token), "subject_token_type", idToken}, pairs...)...)
	}
	granted := w.login("app", "openid read offline_access")
	for name, id := range map[string][]byte{
		"the login's":   granted.ID,
		"the refresh's": must(w.ask("app", "refresh_token", "refresh_token", string(granted.Refresh)))(t).ID,
		"a narrowed refresh's": must(w.ask("app", "refresh_token", "refresh_token",
			string(w.login("app", "openid read write offline_access").Refresh), "scope", "openid read"))(t).ID,
	} {
		if c := w.good(ask(id)); c["scope"] != "read" {
			t.Errorf("%s gives %v", name, c["scope"])
		}
		out, err := ask(id, "scope", "read write")
		w.refused("more than "+name, out, err, oauth.InvalidScope)
	}
	if c := w.good(ask(w.login("app", "openid write").ID, "scope", "read")); c["scope"] != "read" {
		t.Errorf("what the granted scope includes: %v", c["scope"])
	}
	u := must(w.FSM.View().User("default", "u1"))(t)
	for name, extra := range map[string][]tokens.Member{
		"that does not tell":          nil,
		"of a user who says it":       {{Name: "Login_Scope", JSON: []byte(`"read write"`)}},
		"with an access token's word": {{Name: "scope", JSON: []byte(`"read write"`)}},
	} {
		id := must(w.minter.AppendIDToken(t.Context(), nil, w.FSM.View(), &tokens.IDClaims{
			Tenant: "default", Subject: u.GetId(), ClientID: "app", IssuedAt: w.Now().Unix(), Expires: w.Now().Unix() + 60, Alg: "ES256", Extra: extra,
		}))(t)
		if c := w.good(ask(id)); c["scope"] != nil {
			t.Errorf("one %s gives %v", name, c["scope"])
		}
		out, err := ask(id, "scope", "read")
		w.refused("one "+name, out, err, oauth.InvalidScope)
	}
	if w.active(granted.ID) {
		t.Error("an ID token is active as an access token")
	}
}
