package main

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// login is what a browser is sent to.
func (h *holder) login() {
	h.admin("POST", "users", map[string]any{"username": "visitor", "password": phrase}, 201)
	app := h.admin("POST", "clients", map[string]any{
		"client_id": "web", "grant_types": []string{"authorization_code"}, "response_types": []string{"code"}, "redirect_uris": []string{callback},
		"post_logout_redirect_uris": []string{callback}, "scope": "openid profile",
	}, 201)
	basic := basicAuth("web", app.text("client_secret"))
	b := h.browser()
	page, hidden := b.page, b.hidden
	first := page("GET", authorizePath(), "", 200)
	page("GET", authorizePath("client_id", "nobody"), "", 400)
	page("POST", "/oauth2/authorize", authorizeForm().Encode(), 200)
	page("POST", "/oauth2/authorize", authorizeForm("redirect_uri", "https://evil.example").Encode(), 400)
	credentials := "&username=visitor&password=" + url.QueryEscape(phrase)
	page("POST", "/login", "flow=forged"+credentials, 400)
	second := page("POST", "/login", "flow="+hidden(first, "flow")+credentials, 200)
	page("POST", "/consent", "flow=forged&decision=allow", 400)
	page("POST", "/consent", "flow="+hidden(second, "flow")+"&decision=allow", 303)
	page("GET", authorizePath(), "", 303)
	page("GET", "/oauth2/logout", "", 200)
	page("GET", "/oauth2/logout?id_token_hint=forged", "", 400)
	page("POST", "/oauth2/logout", "id_token_hint=forged", 400)
	page("POST", "/oauth2/logout", "client_id=web&post_logout_redirect_uri="+url.QueryEscape(callback), 200)
	style := regexp.MustCompile(`/assets/style[^"]*`).Find(first.body)
	h.do(ask{method: "GET", path: string(style), status: 200})
	h.do(ask{method: "GET", path: "/assets/other.css", status: 404})
	h.do(ask{method: "POST", path: "/oauth2/par", body: authorizeForm().Encode(), auth: basic, status: 201})
	h.do(ask{method: "POST", path: "/oauth2/par", body: authorizeForm("redirect_uri", "https://evil.example").Encode(), auth: basic, status: 400, code: "invalid_request"})
	h.do(ask{method: "POST", path: "/oauth2/par", body: authorizeForm().Encode(), status: 401, code: "invalid_client"})
}

// still is a client that tells of a redirect instead of following it.
func still() *http.Client {
	return &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// jar is a browser's cookies.
type jar struct {
	*holder
	cookies string
}

func (h *holder) browser() *jar { return &jar{holder: h} }

// page asks for a page, or sends a form, with the cookies that came so far.
func (b *jar) page(method, path, body string, status int) *reply {
	b.t.Helper()
	a := ask{method: method, path: path, status: status, header: []string{"Cookie", strings.TrimSuffix(b.cookies, "; ")}}
	if b.cookies == "" {
		a.header = nil
	}
	if method == "POST" {
		a.body = body
	}
	r := b.do(a)
	for _, line := range r.header.Values("Set-Cookie") {
		pair, _, _ := strings.Cut(line, ";")
		b.cookies += pair + "; "
	}
	return r
}

// hidden is a hidden field of a page.
func (b *jar) hidden(r *reply, name string) string {
	b.t.Helper()
	m := regexp.MustCompile(`name="` + name + `" value="([^"]+)"`).FindSubmatch(r.body)
	if m == nil {
		b.t.Fatalf("no %s in %s", name, r.body)
	}
	return string(m[1])
}
