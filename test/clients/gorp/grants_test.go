package gorp

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/zitadel/oidc/v3/pkg/client/rp"
	"github.com/zitadel/oidc/v3/pkg/client/rs"
	"github.com/zitadel/oidc/v3/pkg/client/tokenexchange"
	zitadel "github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

func device(members map[string]any) map[string]any {
	all := map[string]any{"grant_types": []string{deviceGrant, "refresh_token"}, "response_types": []string{}, "redirect_uris": []string{}, "post_logout_redirect_uris": []string{}}
	for name, value := range members {
		all[name] = value
	}
	return all
}

// TestOAuth2Device: RFC 8628 by x/oauth2, which polls by itself; the ID token by go-oidc.
func TestOAuth2Device(t *testing.T) {
	t.Parallel()
	u, c := newUser(t), newClient(t, device(map[string]any{"token_endpoint_auth_method": "none"}))
	provider, err := oidc.NewProvider(t.Context(), address(t))
	if err != nil {
		t.Fatal(err)
	}
	conf := &oauth2.Config{ClientID: c.ID, Scopes: []string{"openid", "email"}, Endpoint: provider.Endpoint()}
	conf.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	asked, err := conf.DeviceAuth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	newBrowser(t).signIn(asked.VerificationURIComplete, u)
	token, err := conf.DeviceAccessToken(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := provider.Verifier(&oidc.Config{ClientID: c.ID}).Verify(t.Context(), raw)
	if err != nil || id.Subject != u.ID {
		t.Errorf("%+v, %v", id, err)
	}
	token.Expiry = token.Expiry.AddDate(-1, 0, 0)
	if next, err := conf.TokenSource(t.Context(), token).Token(); err != nil || next.RefreshToken == token.RefreshToken {
		t.Errorf("refresh: %v", err)
	}
}

// TestZitadelDevice: the same by zitadel/oidc, with each way to prove who asks.
func TestZitadelDevice(t *testing.T) {
	t.Parallel()
	for _, tt := range []way{
		{"none", map[string]any{"token_endpoint_auth_method": "none"}, []rp.Option{rp.WithAuthStyle(oauth2.AuthStyleInParams)}},
		{"client_secret_basic", nil, []rp.Option{rp.WithAuthStyle(oauth2.AuthStyleInHeader)}},
		keyed(t, jose.ES256),
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u, c := newUser(t), newClient(t, device(tt.members))
			party, err := rp.NewRelyingPartyOIDC(t.Context(), address(t), c.ID, c.Secret, "", []string{"openid"}, tt.options...)
			if err != nil {
				t.Fatal(err)
			}
			asked, err := rp.DeviceAuthorization(t.Context(), []string{"openid", "profile"}, party, nil)
			if err != nil {
				t.Fatal(err)
			}
			newBrowser(t).signIn(asked.VerificationURIComplete, u)
			got, err := rp.DeviceAccessToken(t.Context(), asked.DeviceCode, time.Duration(asked.Interval)*time.Second, party)
			if err != nil {
				t.Fatal(err)
			}
			id, err := rp.VerifyIDToken[*zitadel.IDTokenClaims](t.Context(), got.IDToken, party.IDTokenVerifier())
			if err != nil || id.Subject != u.ID {
				t.Errorf("%+v, %v", id, err)
			}
		})
	}
}

// TestZitadelTokenExchange: an API passes its caller on (RFC 8693).
func TestZitadelTokenExchange(t *testing.T) {
	t.Parallel()
	const orders, stock = "https://orders.example", "https://stock.example"
	u, web := newUser(t), newClient(t, map[string]any{"resources": []string{orders}})
	api := newClient(t, map[string]any{
		"grant_types": []string{string(zitadel.GrantTypeTokenExchange)}, "response_types": []string{}, "redirect_uris": []string{}, "post_logout_redirect_uris": []string{},
		"scope": "openid profile", "resources": []string{stock}, "token_exchange_subjects": []string{orders}, "token_exchange_audiences": []string{stock}, "skip_consent": true,
	})
	conf, verifier := webLogin(t, web)
	back := newBrowser(t).signIn(conf.AuthCodeURL("s1", oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("resource", orders)), u)
	token, err := conf.Exchange(t.Context(), back.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	te, err := tokenexchange.NewTokenExchangerClientCredentials(t.Context(), address(t), api.ID, api.Secret)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tokenexchange.ExchangeToken(t.Context(), te, token.AccessToken, zitadel.AccessTokenType, "", "", []string{stock}, nil, []string{"profile"}, "")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jwt.ParseSigned(got.AccessToken, []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		jwt.Claims
		Act struct {
			Sub string `json:"sub"`
		} `json:"act"`
	}
	if err := parsed.UnsafeClaimsWithoutVerification(&claims); err != nil || claims.Subject != u.ID || claims.Act.Sub != api.ID || !claims.Audience.Contains(stock) {
		t.Errorf("%+v, %v", claims, err)
	}
	if _, err := tokenexchange.ExchangeToken(t.Context(), te, token.AccessToken, zitadel.AccessTokenType, "", "", []string{"https://bank.example"}, nil, nil, ""); err == nil {
		t.Error("a token for an API that this one may not call")
	}
}

func webLogin(t *testing.T, c client) (*oauth2.Config, string) {
	t.Helper()
	provider, err := oidc.NewProvider(t.Context(), address(t))
	if err != nil {
		t.Fatal(err)
	}
	return &oauth2.Config{ClientID: c.ID, ClientSecret: c.Secret, RedirectURL: redirect, Scopes: []string{"openid", "profile"}, Endpoint: provider.Endpoint()}, oauth2.GenerateVerifier()
}

// TestClientCredentials: x/oauth2 without a user, and an API that introspects by a key.
func TestClientCredentials(t *testing.T) {
	t.Parallel()
	alone := map[string]any{"grant_types": []string{"client_credentials"}, "response_types": []string{}, "redirect_uris": []string{}, "post_logout_redirect_uris": []string{}, "scope": "read write"}
	c := newClient(t, alone)
	conf := clientcredentials.Config{ClientID: c.ID, ClientSecret: c.Secret, TokenURL: address(t) + "/oauth2/token", Scopes: []string{"read"}}
	token, err := conf.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	signer, members := rsaKey(t)
	members["introspection"] = "any"
	api := newClient(t, members)
	server, err := rs.NewResourceServerJWTProfile(t.Context(), address(t), api.ID, "k1", signer)
	if err != nil {
		t.Fatal(err)
	}
	told, err := rs.Introspect[*zitadel.IntrospectionResponse](t.Context(), server, token.AccessToken)
	if err != nil || !told.Active || told.ClientID != c.ID || len(told.Scope) != 1 || told.Scope[0] != "read" {
		t.Errorf("%+v, %v", told, err)
	}
}

// TestMutualTLS: x/oauth2 over connections that show a certificate (RFC 8705).
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("KEYRAFT_TEST_CLIENTS")
	if dir == "" {
		if os.Getenv("KEYRAFT_REQUIRE") == "all" {
			t.Fatal("KEYRAFT_TEST_CLIENTS is not set: make interop makes certificates of clients")
		}
		t.Skip("KEYRAFT_TEST_CLIENTS is not set")
	}
	c := newClient(t, map[string]any{
		"grant_types": []string{"client_credentials"}, "response_types": []string{}, "redirect_uris": []string{}, "post_logout_redirect_uris": []string{}, "scope": "read",
		"token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_san_dns": "a.client.example", "tls_client_certificate_bound_access_tokens": true,
	})
	as := func(name string) (*oauth2.Token, error) {
		cert, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}}
		defer transport.CloseIdleConnections()
		conf := clientcredentials.Config{ClientID: c.ID, TokenURL: address(t) + "/oauth2/token", Scopes: []string{"read"}, AuthStyle: oauth2.AuthStyleInParams, EndpointParams: url.Values{"client_id": {c.ID}}}
		return conf.Token(oidc.ClientContext(t.Context(), &http.Client{Transport: transport}))
	}
	token, err := as("client-a")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jose.ParseSigned(token.AccessToken, []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Cnf map[string]string `json:"cnf"`
	}
	if err := json.Unmarshal(parsed.UnsafePayloadWithoutVerification(), &claims); err != nil || len(claims.Cnf["x5t#S256"]) != 43 {
		t.Errorf("%+v, %v", claims, err)
	}
	for _, other := range []string{"client-b", "alone-a"} {
		_, err := as(other)
		var refused *oauth2.RetrieveError
		if !errors.As(err, &refused) || refused.ErrorCode != "invalid_client" {
			t.Errorf("%s: %v", other, err)
		}
	}
}
