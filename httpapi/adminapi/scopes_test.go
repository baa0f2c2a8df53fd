package adminapi_test

import (
	"encoding/base64"
	"strings"
	"testing"
)

func TestScopesRolesAndGroups(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	role := w.object(201, "POST", "/admin/v1/roles", `{"name":"clerk","description":"Takes orders"}`)
	if role["name"] != "clerk" || role["description"] != "Takes orders" || role["created_at"] == nil {
		t.Errorf("role: %v", role)
	}
	w.object(201, "POST", "/admin/v1/groups", `{"name":"staff","roles":["clerk"]}`)
	a := w.call("POST", "/admin/v1/scopes", `{"name":"orders:read","display_name":"Read orders","roles":["clerk"]}`)
	if a.status != 201 || a.header.Get("Location") != "/admin/v1/scopes/orders:read" || a.header.Get("Etag") == "" {
		t.Fatalf("%d %v %s", a.status, a.header, a.body)
	}
	w.object(201, "POST", "/admin/v1/scopes", `{"name":"orders","includes":["orders:read"]}`)
	w.refused(400, "invalid_request", "includes", "PATCH", "/admin/v1/scopes/orders:read", `{"includes":["orders"]}`)
	w.refused(400, "invalid_request", "includes", "PATCH", "/admin/v1/scopes/orders:read", `{"includes":["nothing"]}`)
	w.refused(400, "invalid_request", "roles", "PATCH", "/admin/v1/scopes/orders:read", `{"roles":["nobody"]}`)
	w.refused(400, "invalid_request", "name", "PATCH", "/admin/v1/scopes/orders:read", `{"name":"other"}`)
	w.refused(400, "invalid_request", "name", "POST", "/admin/v1/scopes", `{"name":"a b"}`)
	w.refused(400, "invalid_request", "name", "POST", "/admin/v1/roles", `{}`)
	w.refused(409, "exists", "name", "POST", "/admin/v1/scopes", `{"name":"orders"}`)
	patched := w.object(200, "PATCH", "/admin/v1/scopes/orders:read", `{"description":"All","display_name":null}`)
	if patched["description"] != "All" || patched["display_name"] != nil || len(patched["roles"].([]any)) != 1 {
		t.Errorf("patched: %v", patched)
	}
	w.refused(412, "precondition_failed", "If-Match", "PUT", "/admin/v1/scopes/orders:read", `{}`, "If-Match", a.header.Get("Etag"))
	w.refused(409, "in_use", "", "DELETE", "/admin/v1/roles/clerk", "")
	w.refused(409, "in_use", "", "DELETE", "/admin/v1/scopes/orders:read", "")
	if a := w.call("DELETE", "/admin/v1/roles/clerk?force=true", ""); a.status != 204 {
		t.Errorf("by force: %d %s", a.status, a.body)
	}
	if got := w.object(200, "GET", "/admin/v1/scopes/orders:read", ""); len(got["roles"].([]any)) != 1 {
		t.Errorf("the scope was opened: %v", got)
	}
	put := w.object(200, "PUT", "/admin/v1/scopes/orders:read", `{"name":"orders:read"}`)
	if put["roles"] != nil || put["description"] != nil {
		t.Errorf("put: %v", put)
	}
	for _, path := range []string{"/admin/v1/scopes/orders", "/admin/v1/scopes/orders:read", "/admin/v1/groups/staff"} {
		if a := w.call("DELETE", path, ""); a.status != 204 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		for _, method := range []string{"GET", "PUT", "PATCH", "DELETE"} {
			body := ""
			if method[0] == 'P' {
				body = "{}"
			}
			w.refused(404, "not_found", "", method, path, body)
		}
	}
}

// TestServerOwnedMembersOfScopes is ADM-04.
func TestServerOwnedMembersOfScopes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, member := range []string{"tenant", "generation", "created_at", "id"} {
		w.refused(400, "invalid_request", member, "POST", "/admin/v1/scopes", `{"name":"x","`+member+`":1}`)
	}
}

// TestNamesWithASlash: such a name stands in a path as ~ and its base64url.
func TestNamesWithASlash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"https://api.example/read", "~x", "..", "a%2Fb"} {
		a := w.call("POST", "/admin/v1/scopes", `{"name":"`+name+`"}`)
		at := a.header.Get("Location")
		if a.status != 201 {
			t.Fatalf("%s: %d %s", name, a.status, a.body)
		}
		if got := w.object(200, "GET", at, ""); got["name"] != name {
			t.Errorf("%s at %s: %v", name, at, got)
		}
		coded := "/admin/v1/scopes/~" + base64.RawURLEncoding.EncodeToString([]byte(name))
		if a := w.call("DELETE", coded, ""); a.status != 204 {
			t.Errorf("%s: %d %s", coded, a.status, a.body)
		}
	}
	w.refused(400, "invalid_request", "name", "GET", "/admin/v1/scopes/~!", "")
}

// TestScopesOfATenant is ADM-01: nobody sees or changes another tenant's.
func TestScopesOfATenant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.object(201, "POST", "/t/acme/admin/v1/scopes", `{"name":"theirs"}`)
	w.refused(404, "not_found", "", "GET", "/admin/v1/scopes/theirs", "")
	page := w.call("GET", "/admin/v1/scopes?limit=1", "")
	if strings.Contains(string(page.body), "theirs") {
		t.Errorf("another tenant's scopes: %s", page.body)
	}
}

func TestTenantSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const at = "/admin/v1/tenants/acme"
	got := w.object(200, "PATCH", at, `{"refresh_token_lifetime":"24h","refresh_grace":0,"scope_patterns":["device_.*"],"narrow_scopes":true,
		"refuse_unknown_scopes":true,"grant_types":["client_credentials"],"allow_never_expires":true}`)
	if got["refresh_token_lifetime"] != 86400.0 || got["refresh_grace"] != 0.0 || got["narrow_scopes"] != true || got["allow_never_expires"] != true || got["display_name"] != "ACME" {
		t.Errorf("%v", got)
	}
	got = w.object(200, "PATCH", at, `{"refresh_grace":null,"grant_types":null}`, "Authorization", "Bearer "+acmeToken)
	if _, there := got["refresh_grace"]; there || got["grant_types"] != nil || got["refresh_token_lifetime"] != 86400.0 {
		t.Errorf("%v", got)
	}
	got = w.object(200, "PATCH", at, `{"access_token_claims":[{"claim":"office","source":"attribute:office"}]}`)
	if rules, _ := got["access_token_claims"].([]any); len(rules) != 1 {
		t.Errorf("%v", got)
	}
	w.refused(400, "invalid_client_metadata", "access_token_claims", "PATCH", at, `{"access_token_claims":[{"claim":"sub","source":"email"}]}`) // REG-05
	w.refused(400, "invalid_request", "access_token_claims", "PATCH", at, `{"access_token_claims":[{"claim":"a","source":"email","x":1}]}`)
	w.object(201, "POST", "/admin/v1/clients", `{"client_id":"claims","access_token_claims":[{"claim":"roles","source":"roles"}]}`)
	w.refused(400, "invalid_client_metadata", "access_token_claims", "PATCH", "/admin/v1/clients/claims", `{"access_token_claims":[{"claim":"scope","source":"roles"}]}`)
	got = w.object(200, "PATCH", at, `{"refresh_token_lifetime":-1,"user_access_token_lifetime":"10m","refresh_token_rotation":false,"require_pushed_authorization_requests":true,
		"require_pkce":true,"require_signed_request_object":true,"dpop_bound_access_tokens":true}`, "Authorization", "Bearer "+acmeToken)
	if got["refresh_token_lifetime"] != -1.0 || got["user_access_token_lifetime"] != 600.0 || got["refresh_token_rotation"] != false || got["require_pushed_authorization_requests"] != true ||
		got["require_pkce"] != true || got["require_signed_request_object"] != true || got["dpop_bound_access_tokens"] != true {
		t.Errorf("%v", got)
	}
	w.refused(400, "invalid_request", "refresh_token_lifetime", "PATCH", at, `{"allow_never_expires":false}`)
	w.object(200, "PATCH", at, `{"allow_never_expires":false,"refresh_token_lifetime":null,"refresh_token_rotation":null}`)
	for _, field := range []string{"access_token_lifetime", "user_access_token_lifetime", "refresh_token_lifetime"} {
		w.refused(400, "invalid_request", field, "PATCH", at, `{"`+field+`":-1}`, "Authorization", "Bearer "+acmeToken)
		w.refused(400, "invalid_client_metadata", field, "POST", "/t/acme/admin/v1/clients", `{"client_id":"endless","`+field+`":-1}`)
	}
	w.refused(403, "insufficient_scope", "", "PATCH", at, `{"allow_never_expires":true}`, "Authorization", "Bearer "+acmeToken)
	w.refused(404, "not_found", "", "PATCH", "/admin/v1/tenants/default", `{"narrow_scopes":true}`, "Authorization", "Bearer "+acmeToken) // ADM-01
	w.refused(404, "not_found", "", "PATCH", "/admin/v1/tenants/nobody", `{}`)
	for field, bad := range map[string]string{
		"scope_patterns": `["(a"]`, "grant_types": `["magic"]`, "refresh_token_lifetime": `0`, "id_token_lifetime": `-1`,
		"narrow_scopes": `"yes"`, "id": `"other"`, "generation": `1`, "longest_lifetime": `1`, // ADM-04
	} {
		w.refused(400, "invalid_request", field, "PATCH", at, `{"`+field+`":`+bad+`}`)
	}
}

// TestBEA05NamesOfScopesCannotLeaveTheirQuotes: a scope comes back in challenges, so none
// is made of a character that ends a quoted string or a header (RFC 6749 §3.3).
func TestBEA05NamesOfScopesCannotLeaveTheirQuotes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, bad := range []string{`a\"b`, `a\\b`, `a\r\nX: y`, `a\nb`, `a\tb`, `a\u0000b`, `a\u007fb`, `aéb`, `a b`, ``} {
		w.refused(400, "invalid_request", "name", "POST", "/admin/v1/scopes", `{"name":"`+bad+`"}`)
		if bad == "" || bad == "a b" { // none, and two
			continue
		}
		if a := w.call("POST", "/admin/v1/clients", `{"client_id":"c","scope":"`+bad+`","grant_types":["client_credentials"]}`); a.status != 400 {
			t.Errorf("a client's scope %q: %d %s", bad, a.status, a.body)
		}
	}
}
