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
	page("POST", "/login", "flow="+hidden(first, "flow")+"&username=visitor&password=wrong", 200)
	onward := page("POST", "/login", "flow="+hidden(first, "flow")+credentials, 303).header.Get("Location")
	second := page("GET", onward, "", 200)
	page("GET", "/continue?flow=forged", "", 400)
	page("POST", "/consent", "flow=forged&decision=allow", 400)
	page("POST", "/consent", "flow="+hidden(second, "flow")+"&decision=allow", 303)
	page("GET", authorizePath(), "", 303)
	page("GET", onward, "", 303)
	h.newPasswords(b)
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

// newPasswords are the pages that set one.
func (h *holder) newPasswords(b *jar) {
	user := h.admin("POST", "users", map[string]any{"username": "newcomer", "password": phrase, "must_change_password": true}, 201).text("id")
	h.admin("POST", "users/nobody/reset-link", nil, 404)
	link, err := url.Parse(h.admin("POST", "users/"+user+"/reset-link", nil, 201).text("url"))
	if err != nil {
		h.t.Fatal(err)
	}
	b.page("GET", "/reset?token=forged", "", 400)
	form := b.page("GET", b.page("GET", link.RequestURI(), "", 303).header.Get("Location"), "", 200)
	b.page("POST", "/reset", "page="+b.hidden(form, "page")+"&new=short&again=short", 200)
	b.page("POST", "/reset", "page="+b.hidden(form, "page")+"&new=another+phrase+of+mine&again=another+phrase+of+mine", 303)
	b.page("POST", "/reset", "page="+b.hidden(form, "page")+"&new=a+third+phrase+of+mine&again=a+third+phrase+of+mine", 400)
	b.page("GET", "/reset?done=yes", "", 200)
	h.admin("DELETE", "users/"+user+"/reset-link", nil, 204)
	h.admin("DELETE", "users/nobody/reset-link", nil, 404)

	h.admin("POST", "users/"+user+"/password", map[string]any{"password": phrase, "must_change_password": true}, 200)
	other := h.browser()
	first := other.page("GET", authorizePath(), "", 200)
	onward := other.page("POST", "/login", "flow="+other.hidden(first, "flow")+"&username=newcomer&password="+url.QueryEscape(phrase), 303)
	form = other.page("GET", onward.header.Get("Location"), "", 200)
	other.page("POST", "/login/password", "flow=forged", 400)
	other.page("POST", "/login/password", "flow="+other.hidden(form, "flow")+"&new=short&again=short", 200)
	other.page("POST", "/login/password", "flow="+other.hidden(form, "flow")+"&new=a+third+phrase+of+mine&again=a+third+phrase+of+mine", 303)
}
