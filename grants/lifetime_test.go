package grants_test

import (
	"errors"
	"testing"
	"time"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/testproof"
	"github.com/keyraft/keyraft/tokens"
)

// settings replaces the tenant's.
func (w *world) settings(s *state.TenantSettings) {
	w.t.Helper()
	w.tenant(func(t *state.Tenant) { t.Settings = s })
}

// TestLifetimes: the client's word goes before the tenant's, and of tokens that a user
// allowed the one for them before the one for all (TOK-46).
func TestLifetimes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		tenant    *state.TenantSettings
		client    *state.Client
		own, user int64
	}{
		{name: "nothing said", own: 3600, user: 3600},
		{name: "the tenant's", tenant: &state.TenantSettings{AccessTokenLifetime: 60}, own: 60, user: 60},
		{name: "the tenant's for users", tenant: &state.TenantSettings{AccessTokenLifetime: 60, UserAccessTokenLifetime: 30}, own: 60, user: 30},
		{name: "the client's", tenant: &state.TenantSettings{AccessTokenLifetime: 60, UserAccessTokenLifetime: 30}, client: &state.Client{AccessTokenLifetime: 20}, own: 20, user: 20},
		{name: "the client's for users", tenant: &state.TenantSettings{UserAccessTokenLifetime: 30}, client: &state.Client{AccessTokenLifetime: 20, UserAccessTokenLifetime: 10}, own: 20, user: 10},
		{name: "beyond the limit", client: &state.Client{AccessTokenLifetime: 2 * tokens.MaxLifetime}, own: tokens.MaxLifetime, user: tokens.MaxLifetime},
		{name: "without an end, not allowed", tenant: &state.TenantSettings{AccessTokenLifetime: state.Never}, own: tokens.MaxLifetime, user: tokens.MaxLifetime},
		{name: "without an end, allowed", tenant: &state.TenantSettings{AllowNeverExpires: true}, client: &state.Client{UserAccessTokenLifetime: state.Never}, own: 3600, user: state.Never},
	} {
		tenant := &state.Tenant{Settings: tt.tenant}
		if own, user := tokens.Lifetime(tenant, tt.client), tokens.UserLifetime(tenant, tt.client); own != tt.own || user != tt.user {
			t.Errorf("%s: %d and %d seconds, want %d and %d", tt.name, own, user, tt.own, tt.user)
		}
	}
}

// TestNeverExpires: a lifetime without an end is refused in words that say who can allow
// it; in a tenant that has the permission it is given, kept and revoked like any other;
// taking the permission back ends what comes after.
func TestNeverExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	never := clients.Seconds(clients.NeverExpires)
	endless := func(id string) *clients.Registration {
		return &clients.Registration{
			ClientID: id, Scope: "openid offline_access read", SkipConsent: true, IDTokenAlg: "ES256", RedirectURIs: []string{"https://app.example/cb"},
			GrantTypes:          []string{"authorization_code", "refresh_token", "client_credentials"},
			AccessTokenLifetime: &never, RefreshLifetime: &never,
		}
	}
	for field, set := range map[string]func(*clients.Registration){
		"access_token_lifetime":      func(r *clients.Registration) { r.AccessTokenLifetime = &never },
		"user_access_token_lifetime": func(r *clients.Registration) { r.UserTokenLifetime = &never },
		"refresh_token_lifetime":     func(r *clients.Registration) { r.RefreshLifetime = &never },
	} {
		r := &clients.Registration{ClientID: "refused"}
		set(r)
		_, err := w.registry.Create(t.Context(), w.FSM.View(), "default", r)
		var refused *clients.FieldError
		if !errors.As(err, &refused) || refused.Field != field {
			t.Errorf("%s without permission: %v", field, err)
		}
	}
	w.settings(&state.TenantSettings{AllowNeverExpires: true})
	made := must(w.registry.Create(t.Context(), w.FSM.View(), "default", endless("endless")))(t)
	if *made.AccessTokenLifetime != clients.NeverExpires || *made.RefreshLifetime != clients.NeverExpires {
		t.Errorf("the client reads back as %v, %v", made.AccessTokenLifetime, made.RefreshLifetime)
	}
	w.secrets["endless"] = made.Secret()
	login := w.login("endless", "openid offline_access read")
	own := must(w.ask("endless", "client_credentials"))(t)
	if login.ExpiresIn != state.Never || own.ExpiresIn != state.Never {
		t.Errorf("expires_in is %d and %d", login.ExpiresIn, own.ExpiresIn)
	}
	// Three years on, all that is kept to revoke it is there.
	w.Pass(3 * 365 * 24 * time.Hour)
	if w.introspected(own.Token)["active"] != true || w.introspected(login.Token)["active"] != true {
		t.Error("a token without an end has ended")
	}
	next := must(w.ask("endless", "refresh_token", "refresh_token", string(login.Refresh)))(t)
	client, _ := w.FSM.View().Client("default", "endless")
	if err := w.revoker.Revoke(t.Context(), w.FSM.View(), client, string(own.Token)); err != nil {
		t.Fatal(err)
	}
	w.Pass(40 * 365 * 24 * time.Hour)
	if w.introspected(own.Token)["active"] != false {
		t.Error("a revocation has been forgotten before its token")
	}
	// The operator thinks better of it.
	w.settings(&state.TenantSettings{})
	again := must(w.ask("endless", "refresh_token", "refresh_token", string(next.Refresh)))(t)
	if again.ExpiresIn != tokens.MaxLifetime {
		t.Errorf("without permission expires_in is %d", again.ExpiresIn)
	}
	late := w.login("endless", "openid offline_access read")
	w.Pass(31 * 24 * time.Hour)
	out, err := w.ask("endless", "refresh_token", "refresh_token", string(late.Refresh))
	w.refused("a refresh token of afterwards", out, err, oauth.InvalidGrant)
	off := false
	r := endless("endless")
	r.Enabled = &off
	if _, err := w.registry.Update(t.Context(), w.FSM.View(), "default", "endless", r, 0); err != nil {
		t.Errorf("a client with such a lifetime can't be disabled any more: %v", err)
	}
}

// TestRefreshTokensOfATenantThatRotatesNone: the client's word goes before the tenant's.
func TestRefreshTokensOfATenantThatRotatesNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	yes, no := true, false
	w.settings(&state.TenantSettings{RefreshRotation: &no})
	w.client("silent", func(*clients.Registration) {})
	w.client("rotating", func(r *clients.Registration) { r.RefreshRotation = &yes })
	for client, rotates := range map[string]bool{"silent": false, "rotating": true} {
		login := w.login(client, "offline_access read")
		next := must(w.ask(client, "refresh_token", "refresh_token", string(login.Refresh)))(t)
		if got := len(next.Refresh) > 0; got != rotates {
			t.Errorf("%s: a new refresh token: %v, want %v", client, got, rotates)
		}
	}
}

// TestATenantThatBindsTokens: no client of it gets a bearer token.
func TestATenantThatBindsTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.client("app", func(*clients.Registration) {})
	w.settings(&state.TenantSettings{DpopBound: true})
	out, err := w.ask("app", "client_credentials")
	w.refused("no proof", out, err, oauth.InvalidDPoPProof)
	w.prove(testproof.New(t))
	if out := must(w.ask("app", "client_credentials"))(t); !out.DPoP {
		t.Error("the token is not bound")
	}
}
