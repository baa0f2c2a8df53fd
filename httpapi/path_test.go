package httpapi_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
)

// TestPaths is ADM-02 and ADM-03: the router sees the raw path and nothing else.
func TestPaths(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	tests := []struct {
		name, method, path string
		status             int
		body               string
	}{
		{"a literal path", "GET", "/plain", 200, "default "},
		{"a segment", "GET", "/admin/v1/clients/c1", 200, "default c1"},
		{"a literal segment wins over {id}", "GET", "/admin/v1/clients/all", 200, "the literal one"},
		{"a segment before a literal one", "POST", "/admin/v1/clients/c1/secret", 200, "default c1"},
		{"the literal one falls back to {id}", "POST", "/admin/v1/clients/all/secret", 200, "default all"},
		{"a segment is decoded once", "GET", "/admin/v1/clients/a%20b%C3%A9", 200, "default a bé"},
		{"a tenant's path", "GET", "/t/acme/admin/v1/clients/c1", 200, "acme c1"},
		{"RFC 8414 §3.1 form", "GET", "/.well-known/oauth-authorization-server/t/acme", 200, "acme "},
		{"RFC 8414 form of a reserved tenant", "GET", "/.well-known/oauth-authorization-server/t/default", 404, ""},
		{"ADM-03 default lives at the root only", "GET", "/t/default/admin/v1/clients/c1", 404, ""},
		{"ADM-03 Default", "GET", "/t/Default/admin/v1/clients/c1", 404, ""},
		{"ADM-03 reserved: t", "GET", "/t/t/admin/v1/clients/c1", 404, ""},
		{"ADM-03 reserved: admin", "GET", "/t/admin/admin/v1/clients/c1", 404, ""},
		{"ADM-03 reserved: .well-known", "GET", "/t/.well-known/admin/v1/clients/c1", 404, ""},
		{"ADM-03 Cyrillic letter", "GET", "/t/%D0%B0cme/admin/v1/clients/c1", 404, ""},
		{"ADM-03 raw Cyrillic letter", "GET", "/t/\xd0\xb0cme/admin/v1/clients/c1", 400, ""},
		{"ADM-03 zero-width space", "GET", "/t/acme%E2%80%8B/admin/v1/clients/c1", 404, ""},
		{"ADM-03 64 letters", "GET", "/t/" + strings.Repeat("a", 64) + "/admin/v1/clients/c1", 404, ""},
		{"ADM-03 63 letters", "GET", "/t/" + strings.Repeat("a", 63) + "/admin/v1/clients/c1", 200, strings.Repeat("a", 63) + " c1"},
		{"ADM-03 punycode", "GET", "/t/xn--acme/admin/v1/clients/c1", 404, ""},
		{"ADM-02 dot segments", "GET", "/t/acme/../default/", 400, ""},
		{"ADM-02 one dot", "GET", "/./plain", 400, ""},
		{"ADM-02 encoded dots", "GET", "/t/%2e%2e/", 400, ""},
		{"ADM-02 encoded slash", "GET", "/t/acme%2fadmin", 400, ""},
		{"ADM-02 encoded slash in a segment", "GET", "/admin/v1/clients/a%2Fb", 400, ""},
		{"ADM-02 doubled slash", "GET", "//admin", 400, ""},
		{"ADM-02 path parameter", "GET", "/t/acme;x/admin/v1/clients/c1", 400, ""},
		{"ADM-02 backslash", "GET", "/admin\\v1", 400, ""},
		{"ADM-02 encoded backslash", "GET", "/admin/v1/clients/%5c", 400, ""},
		{"ADM-02 double encoding", "GET", "/t/%252e%252e/admin", 400, ""},
		{"ADM-02 upper case", "GET", "/PLAIN", 404, ""},
		{"ADM-02 trailing dot", "GET", "/plain.", 404, ""},
		{"ADM-02 empty tenant", "GET", "/t//plain", 400, ""},
		{"ADM-02 no tenant", "GET", "/t/", 404, ""},
		{"ADM-02 an encoded letter", "POST", "/oauth2/%74oken", 400, ""},
		{"ADM-02 capitals in the token endpoint", "POST", "/OAUTH2/token", 404, ""},
		{"ADM-02 slash after the token endpoint", "POST", "/oauth2/token/", 404, ""},
		{"measured: everything at once", "GET", "/t/acme/..%2f..//admin/%2e%2e/x", 400, ""},
		{"measured: NUL", "GET", "/a%00b", 400, ""},
		{"a malformed escape", "GET", "/admin/v1/clients/%zz", 400, ""},
		{"an escape that ends early", "GET", "/admin/v1/clients/a%2", 400, ""},
		{"a segment that is not UTF-8", "GET", "/admin/v1/clients/%ff", 400, ""},
		{"a fragment", "GET", "/plain#a", 400, ""},
		{"an empty segment", "GET", "/admin/v1/clients/", 404, ""},
		{"nothing there", "GET", "/nothing", 404, ""},
		{"a path that a tenant does not have", "GET", "/t/acme/plain", 404, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := one(t, s.addr, req(tt.method+" "+tt.path+" HTTP/1.1", "Host: a", "Content-Length: 0", "", ""))
			if got.status != tt.status || tt.status == 200 && got.body != tt.body {
				t.Errorf("%d %q, want %d %q", got.status, got.body, tt.status, tt.body)
			}
		})
	}
}

func TestTOK01WrongMethodSaysAllow(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	tests := []struct{ name, line, allow, contentType string }{
		{"the token endpoint wants POST", "GET /oauth2/token?grant_type=client_credentials&client_id=a&client_secret=b", "POST", "application/json"},
		{"a path of two methods names both, and HEAD", "PUT /admin/v1/clients/c1", "DELETE, GET, HEAD", "application/problem+json"},
		{"an unknown method too", "BREW /plain", "GET, HEAD", "application/json"},
		{"OPTIONS too", "OPTIONS /plain", "GET, HEAD", "application/json"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := one(t, s.addr, req(tt.line+" HTTP/1.1", "Host: a", "", ""))
			if got.status != 405 || got.header.Get("Allow") != tt.allow || got.header.Get("Content-Type") != tt.contentType {
				t.Errorf("%d, Allow %q, %q", got.status, got.header.Get("Allow"), got.header.Get("Content-Type"))
			}
		})
	}
}

// TestNotFoundHasTheFormOfItsNeighbours: also below a tenant.
func TestNotFoundHasTheFormOfItsNeighbours(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	for path, want := range map[string]string{
		"/admin/v1/nothing": "application/problem+json", "/t/acme/admin/v1/nothing": "application/problem+json",
		"/oauth2/nothing": "application/json", "/": "application/json",
	} {
		got := one(t, s.addr, req("GET "+path+" HTTP/1.1", "Host: a", "", ""))
		if got.status != 404 || got.header.Get("Content-Type") != want || got.close {
			t.Errorf("%s: %d %q, close %v", path, got.status, got.header.Get("Content-Type"), got.close)
		}
	}
}

// TestRefusalsOfTheGateHaveTheFormOfTheirPath: what begins like the admin API's paths
// is refused in its form, however malformed the rest is.
func TestRefusalsOfTheGateHaveTheFormOfTheirPath(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	for _, tt := range []struct {
		line   string
		status int
		form   string
	}{
		{"PATCH /admin/v1/clients/a%2fb", 400, "application/problem+json"},
		{"PATCH /t/acme/admin/v1/clients/a%2fb", 400, "application/problem+json"},
		{"GET /t/Default/admin/v1/clients/a", 404, "application/problem+json"},
		{"GET /t/a%2fb/admin/v1/clients/a", 400, "application/problem+json"},
		{"GET /admin/../oauth2/token", 400, "application/problem+json"},
		{"GET /admin%2fv1", 400, "application/problem+json"},
		{"GET /admin/v1/clients?a#b", 400, "application/problem+json"},
		{"GET /admin/v1/" + strings.Repeat("a", 9<<10), 414, "application/problem+json"},
		{"GET /administrators/a%2fb", 400, "application/json"},
		{"GET /oauth2/a%2fb", 400, "application/json"},
		{"GET /t/acme/oauth2/a%2fb", 400, "application/json"},
		{"GET /t/admin%2f", 400, "application/json"},
		{"GET //admin", 400, "application/json"},
		{"GET http://evil/admin/v1", 400, "application/json"},
	} {
		got := one(t, s.addr, req(tt.line+" HTTP/1.1", "Host: a", "", ""))
		if got.status != tt.status || got.header.Get("Content-Type") != tt.form {
			t.Errorf("%.60s: %d %q, want %d %q", tt.line, got.status, got.header.Get("Content-Type"), tt.status, tt.form)
		}
	}
	for _, header := range []string{"X_Forged: 1", " folded: 1", "Expect: x"} {
		got := one(t, s.addr, req("GET /admin/v1/clients/a HTTP/1.1", "Host: a", header, "", ""))
		if got.status < 400 || got.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%q: %d %q", header, got.status, got.header.Get("Content-Type"))
		}
	}
}

func TestNewRefusesBadTables(t *testing.T) {
	t.Parallel()
	ok := func(*fasthttp.RequestCtx, *state.View) error { return nil }
	tests := []struct {
		name   string
		routes []httpapi.Route
		says   string
	}{
		{"an unknown method", []httpapi.Route{{Method: "get", Path: "/", Serve: ok}}, "method"},
		{"no handler", []httpapi.Route{{Method: "GET", Path: "/"}}, "Serve"},
		{"a path without a slash", []httpapi.Route{{Method: "GET", Path: "a", Serve: ok}}, "slash"},
		{"the same route twice", []httpapi.Route{{Method: "GET", Path: "/a", Serve: ok}, {Method: "GET", Path: "/a", Serve: ok}}, "twice"},
		{"the same pattern under two names", []httpapi.Route{{Method: "GET", Path: "/{a}", Serve: ok}, {Method: "PUT", Path: "/{b}", Serve: ok}}, "differently"},
		{"half a pattern", []httpapi.Route{{Method: "GET", Path: "/a{b}", Serve: ok}}, "literal or one"},
		{"a path that the gate refuses", []httpapi.Route{{Method: "GET", Path: "/a//b", Serve: ok}}, "never be asked"},
		{"a path in the tenants' space", []httpapi.Route{{Method: "GET", Path: "/t/a", Serve: ok}}, "Tenanted"},
		{"a segment name twice", []httpapi.Route{{Method: "GET", Path: "/{a}/{a}", Serve: ok}}, "twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := httpapi.New(httpapi.Config{Routes: tt.routes, View: view})
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want one about %q", err, tt.says)
			}
		})
	}
	if _, err := httpapi.New(httpapi.Config{}); err == nil {
		t.Error("a configuration without View is accepted")
	}
	if _, err := httpapi.New(httpapi.Config{View: view, Limits: httpapi.Limits{Body: -1}}); err == nil {
		t.Error("a negative limit is accepted")
	}
}

// TestHTT16LabelsAreFixed: what the hooks see is the pattern, whatever was asked.
func TestHTT16LabelsAreFixed(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	for i := range 20 {
		one(t, s.addr, req(fmt.Sprintf("BREW%s /admin/v1/clients/c%d?secret=canary%d HTTP/1.1", strings.Repeat("X", i), i, i), "Host: a", "", ""))
		one(t, s.addr, req(fmt.Sprintf("GET /unknown%d HTTP/1.1", i), "Host: a", "", ""))
	}
	for _, a := range s.seen.all() {
		if a.Route != "" && a.Route != "/admin/v1/clients/{id}" || a.Method != "other" && a.Method != "GET" {
			t.Errorf("labels %+v", a)
		}
		if strings.Contains(fmt.Sprintf("%+v", a), "canary") {
			t.Errorf("the access log sees the query: %+v", a)
		}
	}
}
