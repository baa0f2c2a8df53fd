package oauthapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/httpapi/oauthapi"
	"github.com/keyraft/keyraft/tokens"
)

// person is a node with the user u1, and the client web with its secret.
type person struct {
	*node
	t      *testing.T
	secret string
	serial int
}

func web(more func(*clients.Registration)) clients.Registration {
	r := clients.Registration{
		ClientID: "web", GrantTypes: []string{"authorization_code", "refresh_token", "client_credentials"}, ResponseTypes: []string{"code"},
		RedirectURIs: []string{"https://web.example/cb"}, Scope: "openid profile email staff read", IDTokenAlg: "ES256", SkipConsent: true,
	}
	if more != nil {
		more(&r)
	}
	return r
}

func signedIn(t *testing.T, more func(*clients.Registration)) *person {
	t.Helper()
	p := &person{node: start(t), t: t}
	p.must(t, &command.PutUser{User: &state.User{
		Tenant: "default", Id: "u1", Username: "alice", Key: "alice", Name: "Alice", Email: "a@x.example", EmailVerified: true, PhoneNumber: "+49 1",
		Attributes: []*state.Attribute{{Name: "department", Json: []byte(`"sales"`)}},
	}})
	p.must(t, &command.PutScope{Scope: &state.Scope{Tenant: "default", Name: "staff", Claims: []string{"department"}}})
	p.secret = p.client(t, web(more))
	return p
}

// subject is the sub of u1 for the client, and its sector.
func (p *person) subject() (string, string) {
	p.t.Helper()
	subjects, err := tokens.NewSubjects(tokens.NewClusterKeys(p.ring))
	if err != nil {
		p.t.Fatal(err)
	}
	client, _ := p.view().Client("default", "web")
	sub, sector, err := subjects.Subject(p.view(), client, "u1")
	if err != nil {
		p.t.Fatal(err)
	}
	return sub, sector
}

// redeem exchanges a code that u1 allowed, with the parameter claims.
func (p *person) redeem(scope, claims string) *answer {
	p.t.Helper()
	return p.do(p.t, "POST", oauthapi.TokenPath, codeForm+p.code(scope, claims, ""), "Authorization", basicAuth("web", p.secret))
}

const codeForm = "grant_type=authorization_code&redirect_uri=https%3A%2F%2Fweb.example%2Fcb&code="

// code is one that u1 allowed, bound to a DPoP key where jkt is not empty.
func (p *person) code(scope, claims, jkt string) string {
	p.t.Helper()
	p.serial++
	client, _ := p.view().Client("default", "web")
	sub, sector := p.subject()
	boxes := tokens.NewBoxes(tokens.NewClusterKeys(p.ring), tokens.KeyCode)
	code, err := grants.SealCode(boxes, p.view(), &state.AuthorizationCode{
		Id: fmt.Sprint("code", p.serial), ExpiresAt: p.now().Unix() + 60, ClientCreatedAt: client.GetCreatedAt(), Epoch: p.view().Epoch(),
		RedirectUri: "https://web.example/cb", Authorization: &state.Authorization{
			Tenant: "default", ClientId: "web", User: "u1", Subject: sub, Sector: sector, AuthTime: p.now().Unix(), Amr: []string{"pwd"},
			Acr: "2", Scope: scope, Nonce: "n1", Claims: []byte(claims), Grant: tokens.NewGrantID(), Jkt: jkt,
		},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return url.QueryEscape(code)
}

// granted is the access token of redeem.
func (p *person) granted(scope, claims string) string {
	p.t.Helper()
	a := p.redeem(scope, claims)
	token, _ := a.json["access_token"].(string)
	if a.status != 200 || token == "" {
		p.t.Fatalf("token: %d %s", a.status, a.text)
	}
	return token
}

func (p *person) userinfo(token string) *answer {
	p.t.Helper()
	return p.do(p.t, "GET", oauthapi.UserinfoPath, "", "Authorization", "Bearer "+token)
}

// verified is the payload of a JWS of the node's, and its typ.
func (p *person) verified(text, alg string) (map[string]any, string) {
	p.t.Helper()
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
	if err != nil {
		p.t.Fatalf("%v: %s", err, text)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(p.do(p.t, "GET", oauthapi.JWKSPath, "").text), &set); err != nil {
		p.t.Fatal(err)
	}
	payload, err := jws.Verify(set.Key(jws.Signatures[0].Header.KeyID)[0])
	if err != nil {
		p.t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		p.t.Fatal(err)
	}
	typ, _ := jws.Signatures[0].Header.ExtraHeaders[jose.HeaderType].(string)
	return claims, typ
}

// decrypted opens a JWE to key, and tells its cty.
func decrypted(t *testing.T, text string, key any) (string, any) {
	t.Helper()
	object, err := jose.ParseEncryptedCompact(text, []jose.KeyAlgorithm{jose.ECDH_ES_A128KW}, []jose.ContentEncryption{jose.A256GCM, jose.A128CBC_HS256})
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	plain, err := object.Decrypt(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain), object.Header.ExtraHeaders["cty"]
}

func names(claims map[string]any) string {
	var out []string
	for name := range claims {
		out = append(out, name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestUserinfo tells what the scopes bring, by GET and POST, for either form of token.
func TestUserinfo(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"jwt", "opaque"} {
		p := signedIn(t, func(r *clients.Registration) { r.AccessTokenFormat = format })
		token := p.granted("openid email staff read", "")
		for name, a := range map[string]*answer{
			"GET":          p.userinfo(token),
			"POST":         p.do(t, "POST", oauthapi.UserinfoPath, "", "Authorization", "Bearer "+token),
			"POST by form": p.do(t, "POST", oauthapi.UserinfoPath, "access_token="+token),
		} {
			a.want(t, 200, "")
			if a.text != `{"department":"sales","email":"a@x.example","email_verified":true,"sub":"u1"}` || a.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s, %s: %s of %s", format, name, a.text, a.header.Get("Content-Type"))
			}
		}
		if a := p.userinfo(p.granted("openid", "")); a.text != `{"sub":"u1"}` {
			t.Errorf("openid alone: %s", a.text)
		}
	}
}

// TestUserinfoRefuses is BEA-01 to BEA-06.
func TestUserinfoRefuses(t *testing.T) {
	t.Parallel()
	p := signedIn(t, nil)
	token := p.granted("openid", "")
	for _, tt := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		code, challenge          string
	}{
		{"BEA-01 header and body", "POST", "", "access_token=" + token, []string{"Authorization", "Bearer " + token}, 400, "invalid_request", `error="invalid_request"`},
		{"BEA-01 twice in the body", "POST", "", "access_token=" + token + "&access_token=" + token, nil, 400, "invalid_request", ""},
		{"BEA-02 the query is not looked at", "GET", "?access_token=" + token, "", nil, 401, "invalid_token", "-"},
		{"BEA-03 no token", "GET", "", "", nil, 401, "invalid_token", "-"},
		{"a body of GET is not looked at", "GET", "", "access_token=" + token, nil, 401, "invalid_token", "-"},
		{"another scheme", "GET", "", "", []string{"Authorization", "Basic " + token}, 401, "invalid_token", `error="invalid_token"`},
		{"a forged token", "GET", "", "", []string{"Authorization", "Bearer " + token + "x"}, 401, "invalid_token", `error="invalid_token"`},
		{"BEA-04 client_credentials", "GET", "", "", []string{"Authorization", "Bearer " + p.token(t, "web", p.secret, "")}, 403, "insufficient_scope", `scope="openid"`},
		{"BEA-04 without openid", "GET", "", "", []string{"Authorization", "Bearer " + p.granted("email", "")}, 403, "insufficient_scope", `scope="openid"`},
	} {
		a := p.do(t, tt.method, oauthapi.UserinfoPath+tt.path, tt.body, tt.header...)
		a.want(t, tt.status, tt.code)
		challenge := a.header.Get("WWW-Authenticate")
		if tt.challenge == "-" && strings.Contains(challenge, "error") || tt.challenge != "-" && !strings.Contains(challenge, tt.challenge) || a.status == 401 && challenge == "" {
			t.Errorf("%s: challenge %q", tt.name, challenge)
		}
	}
	// An ID token is no access token.
	id, _ := p.redeem("openid", "").json["id_token"].(string)
	p.userinfo(id).want(t, 401, "invalid_token")
}

// TestUserinfoOfWhoIsGone is BEA-06: of a user who is disabled or deleted nothing is
// told, whatever the token says.
func TestUserinfoOfWhoIsGone(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(p *person){
		"disabled": func(p *person) {
			u, err := p.view().User("default", "u1")
			if err != nil {
				t.Fatal(err)
			}
			p.must(t, &command.PutUser{User: &state.User{Tenant: "default", Id: "u1", Username: "alice", Key: "alice", Disabled: true}, Expect: u.GetGeneration()})
		},
		"deleted": func(p *person) { p.must(t, &command.DeleteUser{Tenant: "default", Id: "u1"}) },
		"made anew as another user": func(p *person) {
			p.must(t, &command.DeleteUser{Tenant: "default", Id: "u1"})
			p.must(t, &command.PutUser{User: &state.User{Tenant: "default", Id: "u2", Username: "alice", Key: "alice"}})
		},
	} {
		for _, subject := range []string{"public", "pairwise"} {
			p := signedIn(t, func(r *clients.Registration) { r.SubjectType = subject })
			token := p.granted("openid", "")
			p.userinfo(token).want(t, 200, "")
			end(p)
			a := p.userinfo(token)
			if a.status != 401 || a.code() != "invalid_token" {
				t.Errorf("%s, %s: %d %s", name, subject, a.status, a.text)
			}
		}
	}
}

// TestPairwiseUserinfo: the sub of userinfo is that of the ID token for the client, and a
// token of the sector before opens nothing (BEA-06).
func TestPairwiseUserinfo(t *testing.T) {
	t.Parallel()
	p := signedIn(t, func(r *clients.Registration) { r.SubjectType = "pairwise" })
	a := p.redeem("openid email", "")
	token, _ := a.json["access_token"].(string)
	id, _ := a.json["id_token"].(string)
	claims, _ := p.verified(id, "ES256")
	sub, _ := p.subject()
	info := p.userinfo(token)
	if info.json["sub"] != sub || claims["sub"] != sub || sub == "u1" || info.json["email"] != "a@x.example" {
		t.Errorf("userinfo %s, ID token %v, want the subject %s", info.text, claims, sub)
	}
	if got := p.introspect(t, "web", p.secret, token); got.json["sub"] != sub || got.json["username"] != nil {
		t.Errorf("introspection: %s", got.text)
	}
	stored, _ := p.view().Client("default", "web")
	moved := web(func(r *clients.Registration) {
		r.SubjectType, r.RedirectURIs = "pairwise", []string{"https://elsewhere.example/cb"}
	})
	if _, err := p.registry.Update(t.Context(), p.view(), "default", "web", &moved, stored.GetGeneration()); err != nil {
		t.Fatal(err)
	}
	p.userinfo(token).want(t, 401, "invalid_token")
}

// TestClaimsByName is OpenID Connect Core §5.5: what is asked for by name goes where it
// is asked for, and only as far as the user consented.
func TestClaimsByName(t *testing.T) {
	t.Parallel()
	const asked = `{"userinfo":{"phone_number":null,"department":{"value":"sales"},"name":{"value":"Bob"}},"id_token":{"email":{"essential":true},"department":null,"acr":{"values":["2"]}}}`
	for _, tt := range []struct {
		name, scope, claims string
		format              string
		consent             []string // nil: the client needs none
		info, id            string   // names
	}{
		{"a client that needs no consent", "openid", asked, "jwt", nil, "department phone_number sub", "department email"},
		{"the same by an opaque token", "openid", asked, "opaque", nil, "department phone_number sub", "department email"},
		{"no consent by name", "openid email", asked, "jwt", []string{}, "email email_verified sub", "email"},
		{"consent by name", "openid", asked, "jwt", []string{"phone_number"}, "phone_number sub", ""},
		{"nothing is asked for", "openid email", "", "jwt", nil, "email email_verified sub", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := signedIn(t, func(r *clients.Registration) { r.AccessTokenFormat, r.SkipConsent = tt.format, tt.consent == nil })
			if tt.consent != nil {
				p.must(t, &command.PutConsent{Consent: &state.Consent{Tenant: "default", User: "u1", ClientId: "web", Scopes: []string{"openid", "email"}, Claims: tt.consent}})
			}
			a := p.redeem(tt.scope, tt.claims)
			a.want(t, 200, "")
			token, _ := a.json["access_token"].(string)
			if info := p.userinfo(token); names(info.json) != tt.info {
				t.Errorf("userinfo: %s", info.text)
			}
			check := func(a *answer, nonce any) {
				id, _ := a.json["id_token"].(string)
				claims, typ := p.verified(id, "ES256")
				for _, own := range []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "acr", "amr", "at_hash", "ev", "gid", "login_scope"} {
					if claims[own] == nil {
						t.Errorf("%s is missing: %v", own, claims)
					}
					delete(claims, own)
				}
				if claims["nonce"] != nonce || typ != "JWT" {
					t.Errorf("nonce %v, typ %s", claims["nonce"], typ)
				}
				delete(claims, "nonce")
				if names(claims) != tt.id {
					t.Errorf("ID token: %v", claims)
				}
			}
			check(a, "n1")
			refresh, _ := a.json["refresh_token"].(string)
			again := p.do(t, "POST", oauthapi.TokenPath, "grant_type=refresh_token&refresh_token="+refresh, "Authorization", basicAuth("web", p.secret))
			again.want(t, 200, "")
			check(again, nil) // §12.2: no nonce, else the same
			token, _ = again.json["access_token"].(string)
			if info := p.userinfo(token); names(info.json) != tt.info {
				t.Errorf("userinfo after a refresh: %s", info.text)
			}
		})
	}
}

// TestEncryptedAnswers: ID token and userinfo come as the client registered them.
func TestEncryptedAnswers(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwks, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "e1"}}}) // without use: for both ends
	if err != nil {
		t.Fatal(err)
	}
	for _, signs := range []string{"", "EdDSA"} {
		p := signedIn(t, func(r *clients.Registration) {
			r.JWKS, r.IDTokenEncryptedAlg, r.IDTokenEncryptedEnc = jwks, "ECDH-ES+A128KW", "A256GCM"
			r.UserinfoAlg, r.UserinfoEncryptedAlg = signs, "ECDH-ES+A128KW"
		})
		a := p.redeem("openid email", "")
		a.want(t, 200, "")
		text, _ := a.json["id_token"].(string)
		id, cty := decrypted(t, text, key)
		if claims, _ := p.verified(id, "ES256"); claims["sub"] != "u1" || cty != "JWT" {
			t.Errorf("ID token: %v, cty %v", claims, cty)
		}
		token, _ := a.json["access_token"].(string)
		info := p.userinfo(token)
		if info.status != 200 || info.header.Get("Content-Type") != "application/jwt" {
			t.Fatalf("userinfo: %d %s", info.status, info.header.Get("Content-Type"))
		}
		plain, cty := decrypted(t, info.text, key)
		if signs == "" {
			if plain != `{"email":"a@x.example","email_verified":true,"sub":"u1"}` || cty != nil {
				t.Errorf("userinfo: %s, cty %v", plain, cty)
			}
			continue
		}
		if claims, _ := p.verified(plain, "EdDSA"); cty != "JWT" || claims["iss"] != issuer || claims["aud"] != "web" || claims["sub"] != "u1" || claims["email"] != "a@x.example" {
			t.Errorf("userinfo: %v, cty %v", claims, cty)
		}
	}
	// JWT-18: what is encrypted proves nothing; a JWE is no token that is read here.
	p := signedIn(t, nil)
	jwe, err := tokens.Encrypt(nil, jwks, "ECDH-ES", "", "JWT", []byte(p.granted("openid", "")))
	if err != nil {
		t.Fatal(err)
	}
	p.userinfo(string(jwe)).want(t, 401, "invalid_token")
	p.introspect(t, "web", p.secret, string(jwe)).want(t, 400, "invalid_request")
}

// TestEncryptedToKeysThatAreFetched: what can't be had is no 500 and uses no code up, and
// what is told of users goes to no key for signatures.
func TestEncryptedToKeysThatAreFetched(t *testing.T) {
	t.Parallel()
	const uri = "https://web.example/jwks"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := signedIn(t, func(r *clients.Registration) {
		r.JWKSURI, r.IDTokenEncryptedAlg, r.IDTokenEncryptedEnc, r.UserinfoEncryptedAlg = uri, "ECDH-ES+A128KW", "A256GCM", "ECDH-ES+A128KW"
	})
	publish := func(use string) {
		jwks, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "e1", Use: use}}})
		if err != nil {
			t.Fatal(err)
		}
		p.published.Store(uri, jwks)
		p.pass(31 * time.Second)
	}
	code := p.code("openid email", "", "")
	redeem := func() *answer {
		return p.do(t, "POST", oauthapi.TokenPath, codeForm+code, "Authorization", basicAuth("web", p.secret))
	}
	refused := func(a *answer) {
		t.Helper()
		if a.status != 503 || a.code() != "temporarily_unavailable" || a.header.Get("Retry-After") == "" {
			t.Errorf("%d %v %s", a.status, a.header, a.text)
		}
	}
	refused(redeem())
	publish("enc")
	a := redeem()
	a.want(t, 200, "")
	id, _ := decrypted(t, a.json["id_token"].(string), key)
	if claims, _ := p.verified(id, "ES256"); claims["sub"] != "u1" {
		t.Errorf("%v", claims)
	}
	token := a.json["access_token"].(string)
	if plain, _ := decrypted(t, p.userinfo(token).text, key); !strings.Contains(plain, `"email":"a@x.example"`) {
		t.Errorf("%s", plain)
	}
	p.published.Delete(uri)
	p.pass(11 * time.Minute)
	if info := p.userinfo(token); info.status != 200 { // an hour long the keys that were there are good
		t.Errorf("%d %s", info.status, info.text)
	}
	publish("sig")
	refused(p.userinfo(token))
	fresh := p.do(t, "POST", oauthapi.TokenPath, "grant_type=refresh_token&refresh_token="+url.QueryEscape(a.json["refresh_token"].(string)), "Authorization", basicAuth("web", p.secret))
	refused(fresh)
}

// TestSignedUserinfo is no access token (RFC 8725 §3.11), and lasts as the key does.
func TestSignedUserinfo(t *testing.T) {
	t.Parallel()
	p := signedIn(t, func(r *clients.Registration) { r.UserinfoAlg = "EdDSA" })
	info := p.userinfo(p.granted("openid", ""))
	claims, typ := p.verified(info.text, "EdDSA")
	if names(claims) != "aud iss sub" || typ == "at+jwt" || info.header.Get("Content-Type") != "application/jwt" {
		t.Errorf("%v, typ %s", claims, typ)
	}
	p.userinfo(info.text).want(t, 401, "invalid_token")
}

// TestSignedIntrospection is RFC 9701 with INT-06.
func TestSignedIntrospection(t *testing.T) {
	t.Parallel()
	const media = "application/token-introspection+jwt"
	p := signedIn(t, func(r *clients.Registration) { r.IntrospectionAlg = "EdDSA" })
	ask := func(token string, header ...string) *answer {
		return p.do(t, "POST", oauthapi.IntrospectPath, "token="+url.QueryEscape(token), header...)
	}
	mine := basicAuth("web", p.secret)
	token := p.granted("openid", "")
	for accept, signed := range map[string]bool{
		"":                                      false,
		"*/*":                                   false,
		"application/*":                         false,
		media + ";q=0":                          false,
		"application/json":                      false,
		media:                                   true,
		strings.ToUpper(media):                  true,
		"application/json;q=0.5, " + media:      true,
		"application/json, " + media + ";q=0.5": false,
		"text/html, " + media + " ; q=0.2, */*;q=0.1": true,
	} {
		a := ask(token, "Authorization", mine, "Accept", accept)
		if want := map[bool]string{true: media, false: "application/json"}[signed]; a.status != 200 || a.header.Get("Content-Type") != want {
			t.Errorf("Accept %q: %d of %s", accept, a.status, a.header.Get("Content-Type"))
		}
	}
	for name, tt := range map[string]struct {
		token  string
		active bool
	}{"active": {token, true}, "inactive": {"kr1_nothing", false}} {
		a := ask(tt.token, "Authorization", mine, "Accept", media)
		claims, typ := p.verified(a.text, "EdDSA")
		said, _ := claims["token_introspection"].(map[string]any)
		if names(claims) != "aud iat iss token_introspection" || typ != "token-introspection+jwt" || claims["aud"] != "web" || claims["iss"] != issuer ||
			claims["iat"] != float64(p.now().Unix()) || said["active"] != tt.active || tt.active != (said["sub"] != nil) || !tt.active && len(said) != 1 {
			t.Errorf("%s: %v, typ %s", name, claims, typ)
		}
		p.userinfo(a.text).want(t, 401, "invalid_token") // it opens nothing
	}
	if a := ask(token, "Authorization", "Bearer "+gatewayKey, "Accept", media); a.header.Get("Content-Type") != "application/json" || a.json["active"] != true {
		t.Errorf("a gateway gets %s", a.header.Get("Content-Type"))
	}
	if a := ask(token, "Accept", media); a.status != 401 || strings.Contains(a.header.Get("Content-Type"), "jwt") {
		t.Errorf("without credentials: %d of %s", a.status, a.header.Get("Content-Type"))
	}
}

// TestDiscoveryOfOpenID: what discovery says is what a client may register (OpenID
// Connect Discovery §3).
func TestDiscoveryOfOpenID(t *testing.T) {
	t.Parallel()
	p := signedIn(t, nil)
	doc := p.do(t, "GET", oauthapi.OpenIDPath, "")
	list := func(name string) (out []string) {
		items, _ := doc.json[name].([]any)
		for _, item := range items {
			text, _ := item.(string)
			out = append(out, text)
		}
		if len(out) == 0 {
			t.Errorf("%s is empty or missing", name)
		}
		return out
	}
	if doc.json["userinfo_endpoint"] != issuer+oauthapi.UserinfoPath || doc.json["claims_parameter_supported"] != true {
		t.Errorf("%s", doc.text)
	}
	for name, some := range map[string]string{
		"scopes_supported": "email", "claims_supported": "birthdate", "subject_types_supported": "pairwise", "introspection_signing_alg_values_supported": "RS256",
	} {
		if !slices.Contains(list(name), some) {
			t.Errorf("%s lacks %s", name, some)
		}
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	jwks, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &ec.PublicKey, Use: "enc", KeyID: "e1"}, {Key: &rsaKey.PublicKey, Use: "enc", KeyID: "r1"}}})
	if err != nil {
		t.Fatal(err)
	}
	serial := 0
	register := func(more func(*clients.Registration)) {
		t.Helper()
		serial++
		r := web(more)
		r.ClientID = fmt.Sprint("c", serial)
		p.client(t, r)
	}
	for _, alg := range list("id_token_signing_alg_values_supported") {
		register(func(r *clients.Registration) { r.IDTokenAlg = alg })
	}
	for _, alg := range list("userinfo_signing_alg_values_supported") {
		register(func(r *clients.Registration) { r.UserinfoAlg = alg })
	}
	for _, kind := range []string{"id_token", "userinfo"} {
		for _, alg := range list(kind + "_encryption_alg_values_supported") {
			for _, enc := range list(kind + "_encryption_enc_values_supported") {
				register(func(r *clients.Registration) {
					r.JWKS = jwks
					if kind == "userinfo" {
						r.UserinfoEncryptedAlg, r.UserinfoEncryptedEnc = alg, enc
					} else {
						r.IDTokenEncryptedAlg, r.IDTokenEncryptedEnc = alg, enc
					}
				})
			}
		}
	}
}
