package oauthapi_test

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi/oauthapi"
	"github.com/keyraft/keyraft/tokens/verify"
)

func (a *answer) wantInactive(t *testing.T) {
	t.Helper()
	a.want(t, 200, "")
	if a.text != `{"active":false}` { // INT-03: byte-equal, whatever the reason
		t.Errorf("answer %s", a.text)
	}
}

// forms registers a client of each token format and runs test with it.
func forms(t *testing.T, test func(t *testing.T, n *node, id, secret string)) {
	t.Helper()
	for _, form := range []string{"jwt", "opaque"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			n := start(t)
			r := orders
			r.AccessTokenFormat = form
			test(t, n, "orders", n.client(t, r))
		})
	}
}

func TestIntrospection(t *testing.T) {
	t.Parallel()
	forms(t, func(t *testing.T, n *node, id, secret string) {
		token := n.token(t, id, secret, "&audience=orders-api")
		a := n.introspect(t, id, secret, token)
		a.want(t, 200, "")
		if a.json["active"] != true || a.json["sub"] != "orders" || a.json["scope"] != "read write" || a.json["ev"] != nil {
			t.Errorf("the client that got it: %s", a.text)
		}
		api := n.client(t, clients.Registration{ClientID: "orders-api"})
		if got := n.introspect(t, "orders-api", api, token); got.json["active"] != true {
			t.Errorf("INT-04: the API it is for: %s", got.text)
		}
		other := n.client(t, clients.Registration{ClientID: "other"})
		n.introspect(t, "other", other, token).wantInactive(t)
		audit := n.client(t, clients.Registration{ClientID: "audit", Introspection: "any"})
		if got := n.introspect(t, "audit", audit, token); got.json["active"] != true {
			t.Errorf("a client that may see any: %s", got.text)
		}
		gw := n.do(t, "POST", oauthapi.IntrospectPath, "token="+token, "Authorization", "bearer "+gatewayKey)
		if gw.json["active"] != true || gw.json["ev"] == nil || gw.json["gid"] == nil {
			t.Errorf("a gateway: %s", gw.text)
		}
		for _, bad := range []string{"x", token + "x", token[:len(token)-1], " " + token, strings.ToUpper(token), "kr1_" + strings.Repeat("A", 59)} {
			n.introspect(t, id, secret, bad).wantInactive(t)
		}
	})
}

func TestIntrospectionRefusals(t *testing.T) {
	t.Parallel()
	n := start(t)
	secret := n.client(t, orders)
	n.client(t, clients.Registration{ClientID: "spa", AuthMethod: "none"})
	token := n.token(t, "orders", secret, "")
	body := "token=" + token
	auth := []string{"Authorization", basicAuth("orders", secret)}
	tests := []struct {
		name, method, path, body string
		header                   []string
		status                   int
		code                     string
	}{
		{"INT-01 nobody asks", "POST", oauthapi.IntrospectPath, body, nil, 401, "invalid_client"},
		{"INT-01 a wrong secret", "POST", oauthapi.IntrospectPath, body, []string{"Authorization", basicAuth("orders", "x")}, 401, "invalid_client"},
		{"INT-01 a public client", "POST", oauthapi.IntrospectPath, body + "&client_id=spa", nil, 401, "invalid_client"},
		{"INT-01 an unknown bearer credential", "POST", oauthapi.IntrospectPath, body, []string{"Authorization", "Bearer abc"}, 401, "invalid_token"},
		{"INT-01 a bearer credential with odd bytes", "POST", oauthapi.IntrospectPath, body, []string{"Authorization", "Bearer a b"}, 401, "invalid_token"},
		{"a bearer credential and a client's secret", "POST", oauthapi.IntrospectPath, body + "&client_id=orders&client_secret=x", []string{"Authorization", "Bearer " + gatewayKey}, 400, "invalid_request"},
		{"INT-05 no token", "POST", oauthapi.IntrospectPath, "", auth, 400, "invalid_request"},
		{"INT-05 an empty token", "POST", oauthapi.IntrospectPath, "token=", auth, 400, "invalid_request"},
		{"INT-05 a GET", "GET", oauthapi.IntrospectPath + "?" + body, "", auth, 405, "invalid_request"},
		{"INT-05 the token in the query", "POST", oauthapi.IntrospectPath + "?" + body, body, auth, 400, "invalid_request"},
		{"INT-05 a hint that is wrong", "POST", oauthapi.IntrospectPath, body + "&token_type_hint=refresh_token", auth, 200, ""},
		{"INT-05 a hint that nobody knows", "POST", oauthapi.IntrospectPath, body + "&token_type_hint=x", auth, 200, ""},
		{"REV-03 a GET", "GET", oauthapi.RevokePath + "?" + body, "", auth, 405, "invalid_request"},
		{"revoke without a client", "POST", oauthapi.RevokePath, body, nil, 401, "invalid_client"},
		{"revoke without a token", "POST", oauthapi.RevokePath, "", auth, 400, "invalid_request"},
		{"BEA-01 two credentials", "POST", oauthapi.RevokePath, body + "&client_secret=x", auth, 400, "invalid_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := n.do(t, tt.method, tt.path, tt.body, tt.header...)
			a.want(t, tt.status, tt.code)
			challenge := a.header.Get("WWW-Authenticate")
			basic, bearer := strings.HasPrefix(challenge, `Basic realm="keyraft"`), strings.Contains(challenge, `Bearer realm="keyraft"`)
			asks := tt.path == oauthapi.IntrospectPath // by either way, but for a bearer token that is refused
			if tt.status == 401 && (basic != (tt.code == "invalid_client") || bearer != asks) || tt.status != 401 && challenge != "" {
				t.Errorf("WWW-Authenticate is %q", challenge)
			}
		})
	}
}

// TestRevocation is REV-01, REV-02, REV-03, REV-06 and INT-07: inactive at every
// node, one that lags included, from the moment of the 2xx.
func TestRevocation(t *testing.T) {
	t.Parallel()
	forms(t, func(t *testing.T, n *node, id, secret string) {
		revoke := func(id, secret, token string) *answer {
			return n.do(t, "POST", oauthapi.RevokePath, "token_type_hint=x&token="+url.QueryEscape(token), "Authorization", basicAuth(id, secret))
		}
		token, other := n.token(t, id, secret, ""), n.token(t, id, secret, "")
		stranger := n.client(t, clients.Registration{ClientID: "stranger"})
		revoke("stranger", stranger, token).want(t, 400, "unauthorized_client")
		if n.introspect(t, id, secret, token).json["active"] != true {
			t.Error("REV-02: a stranger's try took the token back")
		}
		second := serve(t, n.world)
		n.lagging.Store(n.view()) // what Local views see from now on
		a := revoke(id, secret, token)
		a.want(t, 200, "")
		if a.text != "" {
			t.Errorf("body %q", a.text)
		}
		second.introspect(t, id, secret, token).wantInactive(t)
		if n.introspect(t, id, secret, other).json["active"] != true {
			t.Error("another token of the client went along")
		}
		for _, again := range []string{token, "unknown", "a.b.c", "kr1_x", strings.Repeat("a", 20_000)} {
			if got := revoke(id, secret, again); got.status != 200 {
				t.Errorf("REV-01: %d %s", got.status, got.text)
			}
		}
		if n.halted.Load() {
			t.Error("halted")
		}
	})
}

// TestRevocationOfRefreshTokens is REV-02 and REV-03: the grant ends whole, whichever of
// its refresh tokens is shown, and nobody else's.
func TestRevocationOfRefreshTokens(t *testing.T) {
	t.Parallel()
	p := signedIn(t, nil)
	auth := basicAuth("web", p.secret)
	revoke := func(auth, token string) *answer {
		return p.do(t, "POST", oauthapi.RevokePath, "token="+url.QueryEscape(token), "Authorization", auth)
	}
	refresh := func(token string) *answer {
		return p.do(t, "POST", oauthapi.TokenPath, "grant_type=refresh_token&refresh_token="+token, "Authorization", auth)
	}
	stranger := p.client(t, clients.Registration{ClientID: "stranger"})
	for _, replaced := range []bool{false, true} {
		first, other := p.redeem("openid", ""), p.redeem("openid", "")
		shown := first.json["refresh_token"].(string)
		second := refresh(shown)
		second.want(t, 200, "")
		last := second.json["refresh_token"].(string)
		if !replaced {
			shown = last
		}
		revoke(basicAuth("stranger", stranger), shown).want(t, 400, "unauthorized_client")
		forged := shown[:len(shown)-6] + "AAAAAA"
		revoke(auth, forged).want(t, 200, "") // REV-01
		if p.introspect(t, "web", p.secret, second.json["access_token"].(string)).json["active"] != true {
			t.Error("a stranger's or a forged token ended the grant")
		}
		revoke(auth, shown).want(t, 200, "")
		for _, a := range []*answer{first, second} {
			p.introspect(t, "web", p.secret, a.json["access_token"].(string)).wantInactive(t)
		}
		refresh(last).want(t, 400, "invalid_grant")
		revoke(auth, shown).want(t, 200, "") // REV-01: once more
		refresh(other.json["refresh_token"].(string)).want(t, 200, "")
	}
}

// TestOtherSpellingOfARevokedJWT is REV-04: ECDSA has two signatures for one token.
func TestOtherSpellingOfARevokedJWT(t *testing.T) {
	t.Parallel()
	n := start(t)
	secret := n.client(t, orders)
	token := n.token(t, "orders", secret, "")
	twin := otherS(t, token)
	if twin == token {
		t.Fatal("the twin is the token itself")
	}
	if n.introspect(t, "orders", secret, twin).json["active"] != true {
		t.Fatal("the twin does not verify, so this test shows nothing")
	}
	n.do(t, "POST", oauthapi.RevokePath, "token="+token, "Authorization", basicAuth("orders", secret)).want(t, 200, "")
	n.introspect(t, "orders", secret, twin).wantInactive(t)
}

func TestPublishedKeysAndDiscovery(t *testing.T) {
	t.Parallel()
	n := start(t)
	jwks := n.do(t, "GET", oauthapi.JWKSPath, "")
	if jwks.status != 200 || jwks.header.Get("Cache-Control") != "public, max-age=300" {
		t.Errorf("%d, %v", jwks.status, jwks.header)
	}
	if keys, err := verify.ParseJWKS([]byte(jwks.text)); err != nil || len(keys) != 2 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if strings.Contains(jwks.text, `"d"`) {
		t.Error("a private member is published")
	}
	root := n.do(t, "GET", oauthapi.MetadataPath, "")
	openid := n.do(t, "GET", oauthapi.OpenIDPath, "")
	if root.text != openid.text || root.status != 200 {
		t.Errorf("%s and %s differ", root.text, openid.text)
	}
	for name, want := range map[string]string{
		"issuer": issuer, "token_endpoint": issuer + "/oauth2/token", "introspection_endpoint": issuer + "/oauth2/introspect",
		"revocation_endpoint": issuer + "/oauth2/revoke", "jwks_uri": issuer + "/oauth2/jwks",
	} {
		if root.json[name] != want {
			t.Errorf("%s is %v", name, root.json[name])
		}
	}
	var doc struct {
		Grants  []string `json:"grant_types_supported"`
		Methods []string `json:"token_endpoint_auth_methods_supported"`
		Intro   []string `json:"introspection_endpoint_auth_methods_supported"`
	}
	if err := json.Unmarshal([]byte(root.text), &doc); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(doc.Grants, []string{"client_credentials", "authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:ietf:params:oauth:grant-type:token-exchange", deviceGrant, cibaGrant}) || !slices.Equal(doc.Methods, []string{"client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "none"}) || slices.Contains(doc.Intro, "none") {
		t.Errorf("discovery says %+v", doc)
	}
}

func TestDiscoveryOfATenant(t *testing.T) {
	t.Parallel()
	n := start(t)
	for _, path := range []string{"/t/acme" + oauthapi.MetadataPath, oauthapi.MetadataPath + "/t/acme", "/t/acme" + oauthapi.OpenIDPath, "/t/acme" + oauthapi.JWKSPath} {
		if a := n.do(t, "GET", path, ""); a.status != 404 {
			t.Errorf("%s before there is such a tenant: %d", path, a.status)
		}
	}
	n.lagging.Store(n.view())
	addTenant(t, n, "acme")
	for _, path := range []string{"/t/acme" + oauthapi.MetadataPath, oauthapi.MetadataPath + "/t/acme", "/t/acme" + oauthapi.OpenIDPath} {
		if a := n.do(t, "GET", path, ""); a.status != 200 || a.json["issuer"] != issuer+"/t/acme" || a.json["jwks_uri"] != issuer+"/t/acme/oauth2/jwks" {
			t.Errorf("%s: %d %s", path, a.status, a.text)
		}
	}
	// What the tenant demands of every client is told, and of no other tenant.
	demands := []string{"require_pushed_authorization_requests", "require_signed_request_object"}
	acme, _ := n.view().Tenant("acme")
	n.must(t, &command.PutTenant{Tenant: &state.Tenant{Id: "acme", Settings: &state.TenantSettings{RequirePar: true, RequireRequestObject: true}}, Expect: acme.GetGeneration()})
	n.lagging.Store(nil)
	for path, want := range map[string]bool{"/t/acme" + oauthapi.MetadataPath: true, oauthapi.MetadataPath: false} {
		a := n.do(t, "GET", path, "")
		for _, name := range demands {
			if got, there := a.json[name].(bool); !there || got != want {
				t.Errorf("%s: %s is %v, want %v", path, name, a.json[name], want)
			}
		}
	}
}

func TestRoutesRefuseWhatIsMissing(t *testing.T) {
	t.Parallel()
	if _, err := oauthapi.Routes(oauthapi.Deps{}); err == nil {
		t.Error("routes of nothing were made")
	}
}
