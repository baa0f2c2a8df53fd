package main

import (
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/internal/testbrowser"
)

// other signs bob in at b, by a page of his own, while another tab shows alice something.
func (s *site) other(b *testbrowser.Browser) {
	s.t.Helper()
	p := b.Open(s.t, authorizePath("prompt", "login", "scope", "openid"))
	b.Submit(s.t, p, "username", "bob", "password", phrase)
}

// TestAUT15AConsentIsOfWhomItWasShown: what alice was shown is no consent of bob, who has
// signed in at the browser in another tab meanwhile.
func TestAUT15AConsentIsOfWhomItWasShown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.admin("users", map[string]any{"username": "bob", "password": phrase, "name": "Bob"})
	s.signIn(s.Open(t, authorizePath())) // alice is signed in
	alice := s.Open(t, authorizePath())
	alice.FormTo(t, "/consent")
	s.other(s.Browser)
	p := s.Submit(t, alice, "decision", "allow")
	if p.Away != nil {
		t.Fatalf("the consent that alice was shown is one of bob: %s", claimsOf(t, s.redeem(200, p.Away.Query().Get("code")))["sub"])
	}
}

// TestAUT15NoMoreThanWasShown: a scope that the client gets between page and answer is not
// allowed by it.
func TestAUT15NoMoreThanWasShown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.call("PATCH", "/admin/v1/clients/web", "Bearer "+s.node.admin(), "application/merge-patch+json", `{"scope":"read"}`, 200)
	p := s.signIn(s.Open(t, authorizePath("scope", "", "nonce", "")))
	p.FormTo(t, "/consent")
	s.call("PATCH", "/admin/v1/clients/web", "Bearer "+s.node.admin(), "application/merge-patch+json", `{"scope":"read write"}`, 200)
	p = s.Submit(t, p, "decision", "allow")
	if p.Away == nil {
		return
	}
	if got := s.redeem(200, away(t, p).Get("code")); got["scope"] != "read" {
		t.Errorf("the user was shown read and has allowed %q", got["scope"])
	}
}

// TestAUT15ADeviceGetsNoMoreThanWasShown: the same at the page of a device that named no scope.
func TestAUT15ADeviceGetsNoMoreThanWasShown(t *testing.T) {
	t.Parallel()
	p := newParlour(t)
	patch := func(scope string) {
		p.call("PATCH", "/admin/v1/clients/tv", "Bearer "+p.node.admin(), "application/merge-patch+json", `{"scope":"`+scope+`"}`, 200)
	}
	patch("read")
	a := p.call("POST", "/oauth2/device_authorization", "", formType, "client_id=tv", 200)
	ask := p.signIn(p.Submit(t, p.Open(t, "/device"), "user_code", a["user_code"].(string)))
	shown(t, ask, "read")
	patch("read write")
	if again := p.Submit(t, ask, "decision", "allow"); strings.Contains(again.Text, "Access allowed") {
		t.Error("more is allowed than was shown")
	}
	if got := p.poll(a["device_code"].(string), 400); got["error"] != "authorization_pending" {
		t.Errorf("%v", got)
	}
}

// TestAFlowOfOurOwnPageAtTheConsent: a form that is in the wrong place says so.
func TestAFlowOfOurOwnPageAtTheConsent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.Open(t, "/account")
	flow := p.FormTo(t, "/login").Values.Get("flow")
	p.Forms[0].Action = "/consent"
	p = s.Submit(t, p, "flow", flow, "decision", "deny")
	if p.Status != 403 && p.Status != 400 {
		t.Errorf("%d %s %s", p.Status, p.URL, p.Header.Get("Location"))
	}
}

// TestTwoTenantsInOneBrowser: whoever signs in at one tenant stays signed in at another.
func TestTwoTenantsInOneBrowser(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.acme()
	first := s.redeem(200, away(t, s.Submit(t, s.signIn(s.Open(t, authorizePath())), "decision", "allow")).Get("code"))
	p := s.acmeAccount()
	p = s.Submit(t, p, "username", "alice", "password", phrase)
	if !strings.Contains(p.Text, "Where you are signed in") {
		t.Fatalf("%d %s", p.Status, p.Text)
	}
	if p := s.Open(t, authorizePath("prompt", "none")); away(t, p).Get("error") != "" {
		t.Errorf("signed out of the first tenant by a login at the second: %v", p.Away)
	}
	s.Open(t, "/oauth2/logout?"+url.Values{"id_token_hint": {first["id_token"].(string)}}.Encode())
	if code, text := s.ask("POST", "/oauth2/token", basicAuth("web", s.secret), formType, "grant_type=refresh_token&refresh_token="+first["refresh_token"].(string)); code == 200 {
		t.Errorf("told that they are signed out, but the login lives on: %d %.60s", code, text)
	}
}

// TestTOK37ConsentsAddUp: what a user allows a client over time has a bound, which locks
// nobody out.
func TestTOK37ConsentsAddUp(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var names []string
	for i := range 300 {
		names = append(names, "item"+strconv.Itoa(i))
	}
	s.signIn(s.Open(t, authorizePath()))
	for _, part := range [][]string{names[:200], names[200:]} {
		s.call("PATCH", "/admin/v1/clients/web", "Bearer "+s.node.admin(), "application/merge-patch+json", `{"scope":"`+strings.Join(part, " ")+`"}`, 200)
		p := s.Submit(t, s.Open(t, authorizePath("scope", strings.Join(part, " "), "nonce", "")), "decision", "allow")
		s.redeem(200, away(t, p).Get("code"))
	}
}

// TestTheConsentShowsWhatAScopeMeans: the words that the tenant's registry has of it.
func TestTheConsentShowsWhatAScopeMeans(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.admin("scopes", map[string]any{"name": "read", "display_name": "Read your orders", "description": "All of them"})
	p := s.signIn(s.Open(t, authorizePath("scope", "read", "nonce", "")))
	if !strings.Contains(p.Text, "Read your orders") {
		t.Errorf("%s", p.Text)
	}
}
