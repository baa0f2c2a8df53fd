package oauthapi_test

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/httpapi/oauthapi"
)

// asserted is the form's part with a fresh assertion of the client, good for a minute.
func (n *node) asserted(t *testing.T, keys *keyPair, client, jti string) string {
	t.Helper()
	now := n.now().Unix()
	assertion := keys.sign(t, "", map[string]any{"iss": client, "sub": client, "aud": issuer, "jti": jti, "iat": now, "exp": now + 60})
	return "&client_assertion=" + assertion + "&client_assertion_type=" + url.QueryEscape("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
}

// TestARefusedRequestUsesNoAssertionUp: what was refused for another reason may be sent
// once more, corrected, with the same assertion. What was accepted may not, at no
// endpoint of no node.
func TestARefusedRequestUsesNoAssertionUp(t *testing.T) {
	t.Parallel()
	n := start(t)
	second := serve(t, n.world) // another node of the same cluster
	keys := newKeyPair(t)
	n.client(t, clients.Registration{ClientID: "signer", AuthMethod: "private_key_jwt", JWKS: keys.jwks, Scope: "read"})
	n.client(t, clients.Registration{ClientID: "idle", AuthMethod: "private_key_jwt", JWKS: keys.jwks, GrantTypes: []string{}})
	for i, tt := range []struct {
		name, path, bad, code, good string
	}{
		{"a scope that it may not have", oauthapi.TokenPath, tokenForm + "&scope=admin", "invalid_scope", tokenForm + "&scope=read"},
		{"a resource that it may not name", oauthapi.TokenPath, tokenForm + "&resource=https://evil.example", "invalid_target", tokenForm},
		{"a grant that is not served", oauthapi.TokenPath, "grant_type=kerberos", "unsupported_grant_type", tokenForm},
		{"an introspection without a token", oauthapi.IntrospectPath, "token=", "invalid_request", "token=x"},
		{"a revocation without a token", oauthapi.RevokePath, "token=", "invalid_request", "token=x"},
	} {
		once := n.asserted(t, keys, "signer", fmt.Sprint("once", i))
		for range 2 {
			if a := n.do(t, "POST", tt.path, tt.bad+once); a.status != 400 || a.code() != tt.code {
				t.Errorf("%s: %d %s, want 400 %s", tt.name, a.status, a.text, tt.code)
			}
		}
		if a := n.do(t, "POST", tt.path, tt.good+once); a.status != 200 {
			t.Errorf("%s, corrected: %d %s", tt.name, a.status, a.text)
		}
		for _, at := range []*node{n, second} {
			at.do(t, "POST", tt.path, tt.good+once).want(t, 401, "invalid_client")
			at.do(t, "POST", oauthapi.TokenPath, tokenForm+once).want(t, 401, "invalid_client")
		}
	}
	idle := n.asserted(t, keys, "idle", "gated")
	n.do(t, "POST", oauthapi.TokenPath, tokenForm+idle).want(t, 400, "unauthorized_client")
	n.do(t, "POST", oauthapi.RevokePath, "token=x"+idle).want(t, 200, "")
	second.do(t, "POST", oauthapi.RevokePath, "token=x"+idle).want(t, 401, "invalid_client")
}
