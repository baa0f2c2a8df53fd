package oauthapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi/oauthapi"
	"github.com/keyraft/keyraft/tokens/verify"
)

// encryptionKey is a new key, and a set of its public part with use enc.
func encryptionKey(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwks, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "e1", Use: "enc"}}})
	if err != nil {
		t.Fatal(err)
	}
	return key, jwks
}

// TestEncryptedAccessTokens: the resource server alone reads a token that is encrypted to
// its key (RFC 9068 §4). Inside is an ordinary one, of which everything can be asked;
// of the outer form the server refuses to tell, for it can't.
func TestEncryptedAccessTokens(t *testing.T) {
	t.Parallel()
	const resource = "https://api.example"
	key, jwks := encryptionKey(t)
	p := signedIn(t, func(r *clients.Registration) { r.Resources = []string{resource, "https://other.example"} })
	secret := p.client(t, clients.Registration{ClientID: "api", JWKS: jwks, Resources: []string{resource}, Introspection: "audience"})
	patch := func(change func(*clients.Registration)) error {
		client, _ := p.view().Client("default", "web")
		r := clients.FromClient(client).Registration
		change(&r)
		_, err := p.registry.Update(t.Context(), p.view(), "default", "web", &r, 0)
		return err
	}
	if err := patch(func(r *clients.Registration) {
		r.AccessTokenEncryptedAlg, r.AccessTokenEncryptedEnc, r.AccessTokenEncryptedFor = "ECDH-ES+A128KW", "A256GCM", "api"
		r.AccessTokenClaims = []clients.ClaimRule{{Claim: "department", Source: "attribute:department"}}
	}); err != nil {
		t.Fatal(err)
	}
	auth := basicAuth("web", p.secret)
	for name, more := range map[string]string{"no resource: the one that can read it": "", "its resource": "&resource=" + url.QueryEscape(resource)} {
		token := p.token(t, "web", p.secret, more)
		if strings.Count(token, ".") != 4 {
			t.Fatalf("%s: no JWE: %s", name, token)
		}
		inner, cty := decrypted(t, token, key)
		said, typ := p.verified(inner, "ES256")
		if cty != "JWT" || typ != "at+jwt" || said["client_id"] != "web" || said["aud"] != resource && said["aud"] != "api" {
			t.Errorf("%s: inside is %v, typ %s, cty %v", name, said, typ, cty)
		}
		if a := p.introspect(t, "api", secret, inner); a.json["active"] != true || a.json["client_id"] != "web" {
			t.Errorf("%s: the token inside is %s", name, a.text)
		}
		if got := p.introspect(t, "api", secret, token); got.code() != "invalid_request" || got.status != 400 {
			t.Errorf("%s: introspection of the JWE: %d %s", name, got.status, got.text)
		}
		p.do(t, "POST", oauthapi.RevokePath, "token="+token, "Authorization", auth).want(t, 400, "unsupported_token_type")
		p.do(t, "POST", oauthapi.RevokePath, "token="+inner, "Authorization", auth).want(t, 200, "")
		p.introspect(t, "api", secret, inner).wantInactive(t)
	}
	// A user's token, with what the client is not to read of the user.
	token := p.granted("read", "")
	inner, _ := decrypted(t, token, key)
	if said, _ := p.verified(inner, "ES256"); said["department"] != "sales" || said["sub"] != "u1" {
		t.Errorf("inside is %v", said)
	}
	unreadable(t, token)
	if a := p.userinfo(token); a.status != 401 || a.code() != "invalid_token" {
		t.Errorf("userinfo: %d %s", a.status, a.text)
	}
	// Nothing is given in clear, and nothing that nobody could read.
	p.do(t, "POST", oauthapi.TokenPath, "grant_type=client_credentials&resource="+url.QueryEscape("https://other.example"), "Authorization", auth).want(t, 400, "invalid_target")
	rotated, next := encryptionKey(t)
	server := clients.Registration{ClientID: "api", JWKS: next, Resources: []string{resource}, Introspection: "audience"}
	update := func() {
		t.Helper()
		if _, err := p.registry.Update(t.Context(), p.view(), "default", "api", &server, 0); err != nil {
			t.Fatal(err)
		}
	}
	update()
	decrypted(t, p.token(t, "web", p.secret, ""), rotated) // the new key, with no change of the client
	server.JWKS = nil
	update()
	code := p.code("read", "", "")
	p.do(t, "POST", oauthapi.TokenPath, codeForm+code, "Authorization", auth).want(t, 400, "invalid_target")
	server.JWKS = next
	update()
	p.do(t, "POST", oauthapi.TokenPath, codeForm+code, "Authorization", auth).want(t, 200, "") // the refusal used nothing up
	off := false
	server.Enabled = &off
	update()
	p.do(t, "POST", oauthapi.TokenPath, "grant_type=client_credentials", "Authorization", auth).want(t, 400, "invalid_target")
	api, _ := p.view().Client("default", "api")
	p.must(t, &command.DeleteClient{Tenant: "default", Id: "api", Expect: api.GetGeneration()})
	p.do(t, "POST", oauthapi.TokenPath, "grant_type=client_credentials", "Authorization", auth).want(t, 400, "invalid_target")
}

// unreadable wants a token that says nothing without the key.
func unreadable(t *testing.T, token string) {
	t.Helper()
	if _, err := verify.Parse(token); err == nil {
		t.Error("it is read as a signed token")
	}
	stranger, _ := encryptionKey(t)
	object, err := jose.ParseEncryptedCompact(token, []jose.KeyAlgorithm{jose.ECDH_ES_A128KW}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := object.Decrypt(stranger); err == nil {
		t.Errorf("another key opens it: %s", plain)
	}
	for i, part := range strings.Split(token, ".") {
		if raw, err := base64.RawURLEncoding.DecodeString(part); err != nil || strings.Contains(string(raw), "sales") || strings.Contains(string(raw), `"u1"`) {
			t.Errorf("part %d: %q, %v", i+1, raw, err)
		}
	}
}

// TestEncryptionIsForWhoHasAKey: a client is not registered for tokens that nobody could
// read.
func TestEncryptionIsForWhoHasAKey(t *testing.T) {
	t.Parallel()
	n := start(t)
	_, jwks := encryptionKey(t)
	n.client(t, clients.Registration{ClientID: "api", JWKS: jwks})
	n.client(t, clients.Registration{ClientID: "keyless"})
	n.must(t, &command.PutTenant{Tenant: &state.Tenant{Id: "acme"}})
	n.clientOf(t, "acme", clients.Registration{ClientID: "foreign", JWKS: jwks})
	for _, tt := range []struct {
		name, field string
		r           clients.Registration
	}{
		{"for another", "", clients.Registration{AccessTokenEncryptedAlg: "ECDH-ES", AccessTokenEncryptedFor: "api"}},
		{"for itself", "", clients.Registration{AccessTokenEncryptedAlg: "ECDH-ES", JWKS: jwks}},
		{"for itself, by name", "", clients.Registration{ClientID: "named", AccessTokenEncryptedAlg: "ECDH-ES", JWKS: jwks, AccessTokenEncryptedFor: "named"}},
		{"for itself without a key", "jwks", clients.Registration{AccessTokenEncryptedAlg: "ECDH-ES"}},
		{"for one without a key", "access_token_encrypted_for", clients.Registration{AccessTokenEncryptedAlg: "ECDH-ES", AccessTokenEncryptedFor: "keyless"}},
		{"for one with a key of another kind", "access_token_encrypted_for", clients.Registration{AccessTokenEncryptedAlg: "RSA-OAEP-256", AccessTokenEncryptedFor: "api"}},
		{"for nobody", "access_token_encrypted_for", clients.Registration{AccessTokenEncryptedAlg: "ECDH-ES", AccessTokenEncryptedFor: "nobody"}},
		{"for one of another tenant", "access_token_encrypted_for", clients.Registration{AccessTokenEncryptedAlg: "ECDH-ES", AccessTokenEncryptedFor: "foreign"}},
		{"for one, with no algorithm", "access_token_encrypted_for", clients.Registration{AccessTokenEncryptedFor: "api"}},
		{"a method without an algorithm", "access_token_encrypted_response_enc", clients.Registration{AccessTokenEncryptedEnc: "A256GCM"}},
		{"an algorithm that is not offered", "access_token_encrypted_response_alg", clients.Registration{AccessTokenEncryptedAlg: "RSA1_5", AccessTokenEncryptedFor: "api"}},
		{"an opaque token", "access_token_encrypted_response_alg", clients.Registration{AccessTokenEncryptedAlg: "ECDH-ES", AccessTokenEncryptedFor: "api", AccessTokenFormat: "opaque"}},
	} {
		_, err := n.registry.Create(t.Context(), n.view(), "default", &tt.r)
		var refused *clients.FieldError
		if errors.As(err, &refused); tt.field == "" && err != nil || tt.field != "" && (refused == nil || refused.Field != tt.field) {
			t.Errorf("%s: %v, want a refusal of %q", tt.name, err, tt.field)
		}
	}
}
