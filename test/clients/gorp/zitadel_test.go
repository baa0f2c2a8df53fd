package gorp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
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
func key(t *testing.T, alg jose.SignatureAlgorithm) (rp.SignerFromKey, map[string]any) {
	t.Helper()
	var private crypto.Signer
	var err error
	switch alg {
	case jose.EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case jose.RS256, jose.PS256:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	signer := func() (jose.Signer, error) {
		return jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: private, KeyID: "k1"}}, nil)
	}
	public := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: private.Public(), KeyID: "k1", Use: "sig", Algorithm: string(alg)}}}
	return signer, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": public}
}

// rsaKey is such a key as PEM, for the parts of the library that want it so.
func rsaKey(t *testing.T) ([]byte, map[string]any) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &private.PublicKey, KeyID: "k1", Use: "sig", Algorithm: "RS256"}}}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)})
	return text, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": public}
}

// keyed is the way of a client with a key.
func keyed(t *testing.T, alg jose.SignatureAlgorithm) way {
	t.Helper()
	signer, members := key(t, alg)
	return way{"private_key_jwt " + string(alg), members, []rp.Option{rp.WithJWTProfile(signer)}}
}

// way is how a client proves itself, to the server and to the library.
type way struct {
	name    string
	members map[string]any
	options []rp.Option
}

// TestZitadel: discovery, code with PKCE, ID token, refresh, userinfo, revocation, end of
// the session, by secret and by key.
func TestZitadel(t *testing.T) {
	t.Parallel()
	for _, tt := range []way{
		{"client_secret_basic", nil, []rp.Option{rp.WithAuthStyle(oauth2.AuthStyleInHeader)}},
		{"client_secret_post", map[string]any{"token_endpoint_auth_method": "client_secret_post"}, []rp.Option{rp.WithAuthStyle(oauth2.AuthStyleInParams)}},
		keyed(t, jose.ES256), keyed(t, jose.RS256), keyed(t, jose.PS256), keyed(t, jose.EdDSA),
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
