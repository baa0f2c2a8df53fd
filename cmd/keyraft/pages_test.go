package main

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/testbrowser"
)

// pageRoutes are the routes of the server that people see, with something in each place of
// their paths.
func (s *site) pageRoutes() []httpapi.Route {
	var out []httpapi.Route
	for _, r := range s.node.rooms.routes {
		if r.Class == httpapi.Page && !strings.HasPrefix(r.Path, "/assets/") {
			out = append(out, r)
		}
	}
	if len(out) < 20 {
		s.t.Fatalf("%d pages: this test tests nothing", len(out))
	}
	return out
}

// TestWEB02WEB13EveryPageOfTheServer: whichever page it is, signed in or not, found or
// refused, nobody frames it, keeps it, reads it from another origin or learns its address.
func TestWEB02WEB13EveryPageOfTheServer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	onAccount(t, s.account(s.Browser))
	for who, b := range map[string]*testbrowser.Browser{"a stranger": s.browser(), "somebody": s.Browser} {
		for _, r := range s.pageRoutes() {
			for _, bad := range []string{"", "?ui_locales=en&ui_locales=de"} {
				name := fmt.Sprintf("%s at %s %s%s", who, r.Method, r.Path, bad)
				p := b.Open(t, r.Path+bad)
				if r.Method == http.MethodPost {
					p = b.Submit(t, &testbrowser.Page{URL: p.URL, Forms: []testbrowser.Form{{Action: r.Path, Method: "post", Values: url.Values{"x": {"y"}}}}})
				}
				policy := p.Header.Get("Content-Security-Policy")
				for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
					if !strings.Contains(policy, want) {
						t.Errorf("%s: %d, the policy %q lacks %s", name, p.Status, policy, want)
					}
				}
				for header, want := range map[string]string{
					"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Cross-Origin-Opener-Policy": "same-origin",
					"Referrer-Policy": "same-origin", "Access-Control-Allow-Origin": "", "Access-Control-Allow-Credentials": "",
				} {
					if got := p.Header.Get(header); got != want {
						t.Errorf("%s: %d, %s is %q, want %q", name, p.Status, header, got, want)
					}
				}
				if strings.Contains(policy, "unsafe") || strings.Contains(p.Text, "localStorage") || strings.Contains(p.Text, "target=") {
					t.Errorf("%s: %q or its page lets too much", name, policy)
				}
			}
		}
	}
}

// elsewhere are addresses of another site, written as those who look for open redirects do.
func elsewhere() []string {
	return []string{
		"//evil.example", `/\evil.example`, `\\evil.example`, "/%09/evil.example", "https:evil.example", "https://evil.example", "http:///evil.example", "/.evil.example",
		"javascript:alert(1)", "/\r\nLocation: https://evil.example", "%2f%2fevil.example", "///evil.example", "/account/../../evil.example", "data:text/html,x", "//evil.example/%2e%2e",
	}
}

// TestWEB10NoPageLeadsElsewhere: whatever a parameter says, under whichever name, a page
// leads to itself, to a page of ours, or to a client's registered address; the page that
// follows a login stands in the sealed flow.
func TestWEB10NoPageLeadsElsewhere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	names := []string{"return_to", "returnTo", "next", "continue", "url", "redirect", "redirect_to", "target", "page", "flow", "back", "id", "token", "done", "user_code",
		"sessions_after", "consents_after", "post_logout_redirect_uri", "redirect_uri", "target_link_uri"}
	ours := func(p *testbrowser.Page, name string) {
		t.Helper()
		to := p.Header.Get("Location")
		if p.Away != nil || strings.Contains(to, `\`) || to != "" && !(strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "//") || strings.HasPrefix(to, s.issuer+"/")) {
			t.Errorf("%s leads to %q", name, to)
		}
		for _, f := range p.Forms {
			if !strings.HasPrefix(f.Action, "/") || strings.HasPrefix(f.Action, "//") {
				t.Errorf("%s has a form to %q", name, f.Action)
			}
		}
		for _, link := range []string{`href="//`, `href="\`, `href="http`, `href="javascript`, `href="data`} {
			if strings.Contains(p.Text, link) {
				t.Errorf("%s has a link of %s", name, link)
			}
		}
	}
	stranger := s.browser()
	onAccount(t, s.account(s.Browser))
	for _, r := range s.pageRoutes() {
		for i, bad := range elsewhere() {
			query := url.Values{}
			for _, n := range names {
				query.Set(n, bad)
			}
			name := fmt.Sprintf("%s %s with %q", r.Method, r.Path, bad)
			for _, b := range []*testbrowser.Browser{stranger, s.Browser} {
				if r.Method == http.MethodGet {
					ours(b.Open(t, r.Path+"?"+query.Encode()), name)
				} else if i < 3 { // a form says no more than an address
					ours(b.Submit(t, &testbrowser.Page{Forms: []testbrowser.Form{{Action: r.Path, Method: "post", Values: query}}}), name)
				}
			}
		}
	}
	// A path that begins like another host's address, and a login at a page of ours.
	for _, path := range []string{"//evil.example/account", "/t//evil.example/account", "/t/..%2f..%2fevil.example/account", "/t/%2f%2fevil.example/oauth2/logout"} {
		ours(stranger.Open(t, path), path)
	}
	b := s.browser()
	login := b.Open(t, "/account/remove?id=%2F%2Fevil.example")
	p := b.Submit(t, login, "username", "alice", "password", phrase, "return_to", "//evil.example", "page", "https://evil.example")
	ours(p, "the login")
	if p.URL.Host != strings.TrimPrefix(s.issuer, "http://") {
		t.Errorf("the login leads to %s", p.URL)
	}
	ours(b.Submit(t, &testbrowser.Page{Forms: []testbrowser.Form{{Action: "/login", Method: "post", Values: url.Values{
		"flow": {"//evil.example"}, "username": {"alice"}, "password": {phrase},
	}}}}), "a flow that is an address")
}

// TestWEB04NobodyFixesASession: who gives a browser a cookie of their own, an address with a
// session in it or a hundred cookies learns nothing of who signs in there.
func TestWEB04NobodyFixesASession(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.admin("users", map[string]any{"username": "mallory", "password": phrase})
	attacker := s.browser()
	onAccount(t, attacker.Submit(t, attacker.Open(t, "/account"), "username", "mallory", "password", phrase))
	victim := s.browser()
	for name, value := range attacker.Cookies {
		victim.Cookies[name] = value
	}
	planted := attacker.Cookies["keyraft-session"]
	p := victim.Submit(t, victim.Open(t, authorizePath("prompt", "login")), "username", "alice", "password", phrase)
	p.FormTo(t, "/consent")
	if victim.Cookies["keyraft-session"] == planted {
		t.Fatal("the planted cookie is that of the login")
	}
	attacker.Cookies["keyraft-session"] = planted
	if p := attacker.Open(t, "/account"); strings.Contains(p.Text, "alice") || len(p.Forms) == 0 || p.Forms[0].Action != "/login" {
		t.Errorf("the planted cookie is signed in: %s", p.Text)
	}
	// A session in an address is none.
	own := victim.Cookies["keyraft-session"]
	for _, name := range []string{"keyraft-session", "__Host-keyraft-session", "sid", "session", "cookie"} {
		s.browser().Open(t, "/account?"+url.Values{name: {own}}.Encode()).FormTo(t, "/login")
	}
	// Nor does a cookie of another name, or one of many, stand in for it.
	crowd := s.browser()
	for i := range 90 {
		crowd.Cookies[fmt.Sprintf("keyraft-session%02d", i)] = own[:60]
	}
	crowd.Open(t, "/account").FormTo(t, "/login")
	crowd.Cookies["keyraft-session"] = own
	onAccount(t, crowd.Open(t, "/account"))
	for i := range 400 {
		crowd.Cookies[fmt.Sprintf("c%03d", i)] = strings.Repeat("x", 50)
	}
	if p := crowd.Open(t, "/account"); !slices.Contains([]int{400, 431}, p.Status) {
		t.Errorf("400 cookies: %d", p.Status)
	}
	onAccount(t, victim.Open(t, "/account"))
}
