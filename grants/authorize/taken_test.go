package authorize_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// TestWhatIsTakenAwayIsNotGivenAgain: a scope that the client may no longer have comes of
// no code and no refresh token of before.
func TestWhatIsTakenAwayIsNotGivenAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	code := w.code()
	first := must(w.redeem("spa", w.code()))(t)
	have, _ := w.FSM.View().Client("default", "spa")
	less := proto.CloneOf(have)
	less.Scopes = []string{"openid", "offline_access"}
	w.Must(t, &command.PutClient{Client: less, Expect: have.GetGeneration()})
	if got := must(w.redeem("spa", code))(t); got.Scope != "openid offline_access" {
		t.Errorf("the code gives %q", got.Scope)
	}
	if got := must(w.refresh("spa", string(first.Refresh)))(t); got.Scope != "openid offline_access" {
		t.Errorf("the refresh token gives %q", got.Scope)
	}
}

// TestTheGateIsAskedWhereTokensAreGiven: a tenant that takes implicit back while a user
// signs in gives no token in the browser's address.
func TestTheGateIsAskedWhereTokensAreGiven(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	allow := func(types ...string) {
		t.Helper()
		tenant, _ := w.FSM.View().Tenant("default")
		w.Must(t, &command.PutTenant{Expect: tenant.GetGeneration(), Tenant: &state.Tenant{Id: "default", Settings: &state.TenantSettings{GrantTypes: types}}})
	}
	w.Must(t, &command.PutClient{Client: &state.Client{
		Tenant: "default", Id: "front", AuthMethod: "none", GrantTypes: []string{"implicit"}, RedirectUris: []string{callback},
		ResponseTypes: []string{"id_token"}, Scopes: []string{"openid"}, SkipConsent: true,
	}})
	allow("authorization_code", "implicit")
	r := must(w.engine.Parse(t.Context(), w.FSM.View(), "default", asked("client_id", "front", "scope", "openid", "response_type", "id_token")))(t)
	allow("authorization_code")
	_, err := w.engine.Finish(t.Context(), w.FSM.View(), r, w.who)
	w.refused("a tenant that took it back", err, oauth.UnauthorizedClient)
}
