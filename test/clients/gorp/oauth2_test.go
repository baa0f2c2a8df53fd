package gorp

import (
	"errors"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// TestOAuth2 is how most Go programs do it: discovery by go-oidc, the code by x/oauth2,
// the ID token verified by go-oidc.
func TestOAuth2(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, method, alg string
		style             oauth2.AuthStyle
	}{
		{"secret in the header, RS256", "client_secret_basic", "", oauth2.AuthStyleInHeader},
		{"secret in the form, ES256", "client_secret_post", "ES256", oauth2.AuthStyleInParams},
		{"the library finds out where a form is wanted, PS256", "client_secret_post", "PS256", oauth2.AuthStyleAutoDetect},
		{"the library finds out where the header is wanted, EdDSA", "client_secret_basic", "EdDSA", oauth2.AuthStyleAutoDetect},
		{"a public client", "none", "ES256", oauth2.AuthStyleInParams},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := newUser(t)
			c := newClient(t, map[string]any{"token_endpoint_auth_method": tt.method, "id_token_signed_response_alg": tt.alg, "userinfo_signed_response_alg": tt.alg})
			provider, err := oidc.NewProvider(t.Context(), address(t))
			if err != nil {
				t.Fatal(err)
			}
			conf := &oauth2.Config{ClientID: c.ID, ClientSecret: c.Secret, RedirectURL: redirect, Scopes: []string{"openid", "profile", "email"}, Endpoint: provider.Endpoint()}
			conf.Endpoint.AuthStyle = tt.style
			verifier := oauth2.GenerateVerifier()
			back := newBrowser(t).signIn(conf.AuthCodeURL("s1", oidc.Nonce("n1"), oauth2.S256ChallengeOption(verifier)), u)
			if back.Get("state") != "s1" || back.Get("iss") != address(t) {
				t.Fatalf("%v", back)
			}
			token, err := conf.Exchange(t.Context(), back.Get("code"), oauth2.VerifierOption(verifier))
			if err != nil {
				t.Fatal(err)
			}
			checkOAuth2(t, provider, conf, token, u)
			_, err = conf.Exchange(t.Context(), back.Get("code"), oauth2.VerifierOption(verifier))
			var refused *oauth2.RetrieveError
			if !errors.As(err, &refused) || refused.ErrorCode != "invalid_grant" {
				t.Errorf("the code once more: %v", err)
			}
		})
	}
}

func checkOAuth2(t *testing.T, provider *oidc.Provider, conf *oauth2.Config, token *oauth2.Token, u user) {
	t.Helper()
	raw, _ := token.Extra("id_token").(string)
	id, err := provider.Verifier(&oidc.Config{ClientID: conf.ClientID}).Verify(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	if id.Nonce != "n1" || id.Subject != u.ID {
		t.Errorf("%+v", id)
	}
	if err := id.VerifyAccessToken(token.AccessToken); err != nil {
		t.Error(err)
	}
	token.Expiry = token.Expiry.AddDate(-1, 0, 0) // so that the source refreshes
	source := conf.TokenSource(t.Context(), token)
	next, err := source.Token()
	if err != nil || next.AccessToken == token.AccessToken || next.RefreshToken == token.RefreshToken {
		t.Fatalf("refresh: %v", err)
	}
	info, err := provider.UserInfo(t.Context(), oauth2.StaticTokenSource(next))
	if err != nil || info.Subject != u.ID || info.Email != u.Username+"@example.com" || !info.EmailVerified {
		t.Errorf("userinfo %+v, %v", info, err)
	}
}
