package oauthapi_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/httpapi/oauthapi"
	"github.com/keyraft/keyraft/internal/testproof"
)

// TestTOK37AClientsOwnTokenIsNoUsers: whatever scope a client asks for itself, however it
// is registered, there is no refresh token and no ID token of nobody; and odd scopes give
// none at all.
func TestTOK37AClientsOwnTokenIsNoUsers(t *testing.T) {
	t.Parallel()
	n := start(t)
	secret := n.client(t, clients.Registration{
		ClientID: "both", Scope: "openid offline_access read", GrantTypes: []string{"client_credentials", "refresh_token", "authorization_code"},
		RedirectURIs: []string{"https://app.example/cb"}, ResponseTypes: []string{"code"},
	})
	ask := func(scope string) *answer {
		return n.do(t, "POST", oauthapi.TokenPath, tokenForm+scope, "Authorization", basicAuth("both", secret))
	}
	for _, scope := range []string{"", "&scope=", "&scope=read", "&scope=openid", "&scope=openid+offline_access+read", "&scope=" + strings.Repeat("read+", 200) + "read"} {
		a := ask(scope)
		if a.status != 200 && a.code() != "invalid_scope" || a.json["refresh_token"] != nil || a.json["id_token"] != nil {
			t.Errorf("%.60s: %d %s", scope, a.status, a.text)
		}
		if given, _ := a.json["scope"].(string); strings.Contains(given, "openid") || strings.Contains(given, "offline") || strings.Count(given, "read") > 1 {
			t.Errorf("%.60s gives %q", scope, given)
		}
	}
	for _, bad := range []string{"*", "read++read", "+read", "read+", "re%22ad", "re%5Cad", "read%2A", "READ", "read,openid", "r%C3%A9ad", ".*", "(a%2B)%2B%24"} {
		ask("&scope="+bad).want(t, 400, "invalid_scope")
	}
	for _, bad := range []string{"re%00ad", "re%0Aad", "re%0D%0Aad", "re%7Fad"} {
		ask("&scope="+bad).want(t, 400, "invalid_request")
	}
	if a := ask("&scope=" + strings.Repeat("a", 1<<20)); a.status != 413 {
		t.Errorf("1 MiB of scope: %d", a.status)
	}
}

// TestPOP09ProofsOfPushedRequests: the key of the proof is the one that dpop_jkt names, if
// it names one; the code to come is bound to it; neither proof nor assertion is good twice.
func TestPOP09ProofsOfPushedRequests(t *testing.T) {
	t.Parallel()
	n := start(t)
	keys, key, other := newKeyPair(t), testproof.New(t), testproof.New(t)
	n.client(t, clients.Registration{
		ClientID: "pushes", AuthMethod: "private_key_jwt", JWKS: keys.jwks, Scope: "openid", GrantTypes: []string{"authorization_code"},
		RedirectURIs: []string{"https://app.example/cb"}, ResponseTypes: []string{"code"},
	})
	serial := 0
	push := func(assertion, more, proof string) *answer {
		if assertion == "" {
			serial++
			assertion = n.asserted(t, keys, "pushes", fmt.Sprint("par", serial))
		}
		return n.do(t, "POST", oauthapi.PARPath, "response_type=code&scope=openid&redirect_uri=https%3A%2F%2Fapp.example%2Fcb"+more+assertion, "DPoP", proof)
	}
	proof := func(by *testproof.Key, change map[string]any) string {
		return n.proof(t, by, testproof.With(map[string]any{"htu": issuer + oauthapi.PARPath}, change))
	}
	push("", "", "").want(t, 201, "")
	push("", "&dpop_jkt="+key.Thumbprint, proof(key, nil)).want(t, 201, "")
	push("", "&dpop_jkt="+key.Thumbprint, proof(other, nil)).want(t, 400, "invalid_dpop_proof")
	push("", "&dpop_jkt=short", "").want(t, 400, "invalid_request")
	for name, bad := range map[string]string{
		"for the token endpoint": n.proof(t, key, nil), "of another method": proof(key, map[string]any{"htm": "GET"}), "of an hour ago": proof(key, map[string]any{"iat": n.now().Unix() - 3600}), "no JWT": "x",
	} {
		if a := push("", "", bad); a.status != 400 || a.code() != "invalid_dpop_proof" {
			t.Errorf("a proof %s: %d %s", name, a.status, a.text)
		}
	}
	used := proof(key, nil)
	push("", "", used).want(t, 201, "")
	push("", "", used).want(t, 400, "invalid_dpop_proof") // POP-04
	once := n.asserted(t, keys, "pushes", "once")
	push(once, "", "").want(t, 201, "")
	push(once, "", "").want(t, 401, "invalid_client") // JWT-21
	// AUT-20: what is too long for a browser's URL is told before anything is used up.
	var long []string
	for i := range 70 {
		long = append(long, fmt.Sprintf(`"%d%s":null`, i, strings.Repeat("c", 100)))
	}
	used, once = proof(key, nil), n.asserted(t, keys, "pushes", "of a long one")
	push(once, "&claims="+url.QueryEscape(`{"userinfo":{`+strings.Join(long, ",")+`}}`), used).want(t, 413, "invalid_request")
	push(once, "", used).want(t, 201, "")
}

// TestJWT25UserinfoOfAnotherTenant: a token is good at its own tenant's endpoint alone.
func TestJWT25UserinfoOfAnotherTenant(t *testing.T) {
	t.Parallel()
	p := signedIn(t, nil)
	addTenant(t, p.node, "acme")
	token := p.granted("openid", "")
	p.userinfo(token).want(t, 200, "")
	p.do(t, "GET", "/t/acme"+oauthapi.UserinfoPath, "", "Authorization", "Bearer "+token).want(t, 401, "invalid_token")
}
