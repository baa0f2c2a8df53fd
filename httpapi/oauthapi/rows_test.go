package oauthapi_test

import (
	"strings"
	"testing"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/httpapi/oauthapi"
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
