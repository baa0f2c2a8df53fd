package gorp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	zitadel "github.com/zitadel/oidc/v3/pkg/client"
	"github.com/zitadel/oidc/v3/pkg/client/rp"
	"github.com/zitadel/oidc/v3/pkg/client/rs"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"
)

// key is a client's own, as the library and as the registration want it.
func key(t *testing.T) (rp.SignerFromKey, map[string]any) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := func() (jose.Signer, error) {
		return jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: private, KeyID: "k1"}}, nil)
	}
	public := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &private.PublicKey, KeyID: "k1", Use: "sig", Algorithm: "ES256"}}}
	return signer, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": public}
}

// TestZitadel: discovery, code with PKCE, ID token, refresh, userinfo, revocation, end of
// the session, by secret and by key.
func TestZitadel(t *testing.T) {
	t.Parallel()
	signer, keyed := key(t)
	for _, tt := range []struct {
		name    string
		members map[string]any
		options []rp.Option
	}{
		{"client_secret_basic", nil, []rp.Option{rp.WithAuthStyle(oauth2.AuthStyleInHeader)}},
		{"client_secret_post", map[string]any{"token_endpoint_auth_method": "client_secret_post"}, []rp.Option{rp.WithAuthStyle(oauth2.AuthStyleInParams)}},
		{"private_key_jwt", keyed, []rp.Option{rp.WithJWTProfile(signer)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u, c := newUser(t), newClient(t, tt.members)
			options := append(tt.options, rp.WithSigningAlgsFromDiscovery())
			party, err := rp.NewRelyingPartyOIDC(t.Context(), address(t), c.ID, c.Secret, redirect, []string{"openid", "profile", "email"}, options...)
			if err != nil {
				t.Fatal(err)
			}
			zitadelLogin(t, party, u)
		})
	}
}

func zitadelLogin(t *testing.T, party rp.RelyingParty, u user) {
	t.Helper()
	ctx, window := t.Context(), newBrowser(t)
	verifier := oauth2.GenerateVerifier()
	back := window.signIn(rp.AuthURL("s1", party, rp.WithCodeChallenge(oauth2.S256ChallengeFromVerifier(verifier))), u)
	exchange := []rp.CodeExchangeOpt{rp.WithCodeVerifier(verifier)}
	if party.Signer() != nil { // the library's own handler of the callback does the same
		assertion, err := zitadel.SignedJWTProfileAssertion(party.OAuthConfig().ClientID, []string{party.Issuer()}, time.Minute, party.Signer())
		if err != nil {
			t.Fatal(err)
		}
		exchange = append(exchange, rp.WithClientAssertionJWT(assertion))
	}
	tokens, err := rp.CodeExchange[*oidc.IDTokenClaims](ctx, back.Get("code"), party, exchange...)
	if err != nil {
		t.Fatal(err)
	}
	if tokens.IDTokenClaims.Subject != u.ID {
		t.Errorf("%+v", tokens.IDTokenClaims)
	}
	next, err := rp.RefreshTokens[*oidc.IDTokenClaims](ctx, party, tokens.RefreshToken, "", "")
	if err != nil || next.IDTokenClaims.GetSubject() != u.ID {
		t.Fatalf("refresh: %+v, %v", next, err)
	}
	info, err := rp.Userinfo[*oidc.UserInfo](ctx, next.AccessToken, next.TokenType, u.ID, party)
	if err != nil || info.Name != "Ada Lovelace" || !bool(info.EmailVerified) {
		t.Errorf("userinfo %+v, %v", info, err)
	}
	if err := rp.RevokeToken(ctx, party, next.RefreshToken, "refresh_token"); err != nil {
		t.Error(err)
	}
	if _, err := rp.RefreshTokens[*oidc.IDTokenClaims](ctx, party, next.RefreshToken, "", ""); err == nil {
		t.Error("a revoked refresh token is still good")
	}
	// The library asks for the end of the session itself, without the browser's cookies, and
	// is told where to send the browser: there the session that the hint names ends.
	to, err := rp.EndSession(ctx, party, next.IDToken, bye, "s2", "", nil)
	if err != nil || to == nil || !strings.HasPrefix(to.String(), party.GetEndSessionEndpoint()+"?") {
		t.Fatalf("end session: %v, %v", to, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, away := window.send(req); away == nil || away.String() != bye+"?state=s2" {
		t.Errorf("the browser is sent to %v after the end of the session", away)
	}
}

// TestZitadelResourceServer is an API that introspects.
func TestZitadelResourceServer(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	c := newClient(t, nil)
	party, err := rp.NewRelyingPartyOIDC(t.Context(), address(t), c.ID, c.Secret, redirect, []string{"openid"}, rp.WithAuthStyle(oauth2.AuthStyleInHeader))
	if err != nil {
		t.Fatal(err)
	}
	verifier := oauth2.GenerateVerifier()
	back := newBrowser(t).signIn(rp.AuthURL("s1", party, rp.WithCodeChallenge(oauth2.S256ChallengeFromVerifier(verifier))), u)
	tokens, err := rp.CodeExchange[*oidc.IDTokenClaims](t.Context(), back.Get("code"), party, rp.WithCodeVerifier(verifier))
	if err != nil {
		t.Fatal(err)
	}
	api := newClient(t, map[string]any{"introspection": "any"})
	server, err := rs.NewResourceServerClientCredentials(t.Context(), address(t), api.ID, api.Secret)
	if err != nil {
		t.Fatal(err)
	}
	told, err := rs.Introspect[*oidc.IntrospectionResponse](t.Context(), server, tokens.AccessToken)
	if err != nil || !told.Active || told.Subject != u.ID || told.ClientID != c.ID {
		t.Errorf("%+v, %v", told, err)
	}
}
