package authorize_test

import (
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// settings replaces the tenant's.
func (w *world) settings(s *state.TenantSettings) {
	w.t.Helper()
	old, _ := w.FSM.View().Tenant("default")
	w.Must(w.t, &command.PutTenant{Tenant: &state.Tenant{Id: "default", DisplayName: old.GetDisplayName(), Settings: s}, Expect: old.GetGeneration()})
}

// TestWhatATenantDemands: what a tenant asks of all its clients is asked of one that is
// registered for nothing of it.
func TestWhatATenantDemands(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Must(t, &command.PutClient{Client: &state.Client{
		Tenant: "default", Id: "web", AuthMethod: "client_secret_basic", GrantTypes: []string{"authorization_code"}, RedirectUris: []string{callback}, Scopes: []string{"openid"}, SkipConsent: true,
	}})
	request := func(more ...string) form {
		return asked(append([]string{"client_id", "web", "scope", "openid", "code_challenge", "", "code_challenge_method", ""}, more...)...)
	}
	parse := func(f form) error {
		_, err := w.engine.Parse(t.Context(), w.FSM.View(), "default", f)
		return err
	}
	push := func(f form) (*state.AuthorizationRequest, error) {
		client, _ := w.FSM.View().Client("default", "web")
		return w.engine.Push(t.Context(), w.FSM.View(), client, f)
	}
	if err := parse(request()); err != nil {
		t.Fatalf("without demands: %v", err)
	}
	w.settings(&state.TenantSettings{RequirePkce: true})
	w.refused("no proof key", parse(request()), oauth.InvalidRequest)
	if err := parse(asked("client_id", "web", "scope", "openid")); err != nil {
		t.Errorf("with a proof key: %v", err)
	}
	w.settings(&state.TenantSettings{RequirePar: true})
	w.refused("a request that was not pushed", parse(request()), oauth.InvalidRequest)
	r := must(push(request()))(t)
	if err := parse(form{"client_id": {"web"}, "request_uri": {must(w.engine.SealPushed(w.FSM.View(), r))(t)}}); err != nil {
		t.Errorf("a pushed request: %v", err)
	}
	_, err := push(asked("client_id", "web", "scope", "read", "redirect_uri", ""))
	w.refused("FAPI 2.0 §5.3.2.2 a pushed request without redirect URI", err, oauth.InvalidRequest)
	w.settings(&state.TenantSettings{RequireRequestObject: true})
	w.refused("a request that is not signed", parse(request()), oauth.InvalidRequest)
	_, err = push(request())
	w.refused("a pushed one that is not signed", err, oauth.InvalidRequest)
	s := newSigner(t)
	w.signedClient(t, s, func(*state.Client) {})
	if err := parse(form{"client_id": {"signed"}, "request": {s.jwt(t, map[string]any{"typ": "oauth-authz-req+jwt"}, w.object(nil))}}); err != nil {
		t.Errorf("a signed one: %v", err)
	}
}
