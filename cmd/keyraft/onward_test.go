package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/testbrowser"
	"github.com/keyraft/keyraft/internal/testfactor"
)

// reload asks for the page once more, as the browser's button does.
func reload(t *testing.T, b *testbrowser.Browser, p *testbrowser.Page) *testbrowser.Page {
	t.Helper()
	if p.URL.Path != "/continue" {
		t.Fatalf("the page is at %s: a reload sends the form once more", p.URL)
	}
	return b.Open(t, p.URL.RequestURI())
}

// TestAUT18AFormIsAnsweredByAnAddress: whatever proved or decided something leads to a page
// of its own address, which shows the same again on a reload; it is this browser's alone.
func TestAUT18AFormIsAnsweredByAnAddress(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.signIn(s.Open(t, authorizePath("prompt", "consent", "response_mode", "form_post")))
	p.FormTo(t, "/consent")
	p = reload(t, s.Browser, p)
	if strings.Contains(p.Text, phrase) || strings.Contains(p.URL.String(), url.QueryEscape(phrase)) || strings.Contains(p.URL.RawQuery, "alice") {
		t.Errorf("%s tells what was typed", p.URL)
	}
	if stranger := s.browser().Open(t, p.URL.RequestURI()); stranger.Status != 400 || stranger.Away != nil {
		t.Errorf("another browser goes on at the address: %d (AUT-16)", stranger.Status)
	}
	if p.Header.Get("Referrer-Policy") != "same-origin" || p.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("the address is told on: %v", p.Header)
	}
	given := s.SubmitTo(t, p, "/consent", "decision", "allow")
	given.FormTo(t, callback)
	s.redeem(200, reload(t, s.Browser, given).FormTo(t, callback).Values.Get("code"))

	// What was taken back meanwhile is asked for anew.
	s.call("DELETE", "/admin/v1/users/"+s.userID("alice")+"/consents/web", "Bearer "+s.node.admin(), "", "", 204)
	reload(t, s.Browser, given).FormTo(t, "/consent")
	if p := s.Open(t, "/continue?flow=forged"); p.Status != 400 || p.Away != nil {
		t.Errorf("a forged flow: %d", p.Status)
	}
	for _, path := range []string{"/login", "/consent", "/factor", "/factor/setup", "/passkey"} {
		if p := s.Open(t, path); p.Status != 405 {
			t.Errorf("GET %s: %d", path, p.Status)
		}
	}
}

// TestAUT18TheSecondStepHasAnAddress: so has the second step; who has begun to sign in goes
// on with that, whoever is signed in at the browser meanwhile.
func TestAUT18TheSecondStepHasAnAddress(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	secret, _, _ := s.enrol()
	s.admin("users", map[string]any{"username": "bob", "password": phrase})
	b := s.browser()
	p := b.Submit(t, b.Open(t, authorizePath()), "username", "alice", "password", phrase)
	reload(t, b, p).FormTo(t, "/factor")
	onAccount(t, b.Submit(t, b.Open(t, "/account"), "username", "bob", "password", phrase))
	p = reload(t, b, p)
	p.FormTo(t, "/factor")
	p = b.SubmitTo(t, p, "/factor", "code", testfactor.Code(t, secret, time.Now().Add(30*time.Second)))
	reload(t, b, p).FormTo(t, "/consent")
	if !strings.Contains(p.Text, "<bdi>alice</bdi>") {
		t.Errorf("somebody else goes on: %s", p.Text)
	}
}

// TestAUT18AFormOfAnOldLogin: a password form of the account whose login is too old is no
// page that a reload would send again.
func TestAUT18AFormOfAnOldLogin(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	onAccount(t, s.account(s.Browser))
	form := s.Open(t, "/account/password")
	form.FormTo(t, "/account/password")
	s.aged(s.Browser, time.Hour, "pwd")
	p := s.SubmitTo(t, form, "/account/password", "current", phrase, "new", "another phrase of mine", "again", "another phrase of mine")
	reload(t, s.Browser, p).FormTo(t, "/login")
}

// userID is the id of a user.
func (s *site) userID(name string) string {
	s.t.Helper()
	items, _ := s.call("GET", "/admin/v1/users?username="+name, "Bearer "+s.node.admin(), "", "", 200)["items"].([]any)
	if len(items) != 1 {
		s.t.Fatalf("no user %s", name)
	}
	return items[0].(map[string]any)["id"].(string)
}

// TestAUT29AHintFromABackEndEndsNothing: whoever posts an ID token without a browser has not
// shown to be its user, nor its client. They are told where to send the browser, and there
// the same request ends the session at once.
func TestAUT29AHintFromABackEndEndsNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	got := s.redeem(200, away(t, s.Submit(t, s.signIn(s.Open(t, authorizePath())), "decision", "allow")).Get("code"))
	hint := got["id_token"].(string)
	post := func(form url.Values, status int) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.node.url+"/oauth2/logout", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := s.HTTP.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close() // a redirect or a page
		if resp.StatusCode != status {
			t.Fatalf("%v: %d", form, resp.StatusCode)
		}
		return resp.Header.Get("Location")
	}
	form := url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://app.example/bye"}, "state": {"s1"}}
	to := post(form, 303)
	if !strings.HasPrefix(to, s.issuer+"/oauth2/logout?") {
		t.Fatalf("the back end is sent to %s", to)
	}
	if s.token(200, "grant_type", "refresh_token", "refresh_token", got["refresh_token"].(string))["access_token"] == nil || s.Open(t, authorizePath("prompt", "none")).Away.Query().Get("code") == "" {
		t.Error("an ID token alone has ended the session")
	}
	post(url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://evil.example"}}, 400)
	post(url.Values{"id_token_hint": {hint[:len(hint)-4] + "AAAA"}}, 400)
	if stranger := s.browser().Open(t, strings.TrimPrefix(to, s.issuer)); stranger.Away == nil || stranger.Away.String() != "https://app.example/bye?state=s1" {
		t.Errorf("at another browser: %d %v", stranger.Status, stranger.Away)
	}
	if s.Open(t, authorizePath("prompt", "none")).Away.Query().Get("code") == "" {
		t.Error("another browser has ended the session")
	}
	bye := s.Open(t, strings.TrimPrefix(to, s.issuer))
	if bye.Away == nil || bye.Away.String() != "https://app.example/bye?state=s1" || s.Cookies["keyraft-session"] != "" {
		t.Errorf("at the browser itself: %d %v", bye.Status, bye.Away)
	}
	if p := s.Open(t, authorizePath("prompt", "none")); p.Away.Query().Get("error") != "login_required" {
		t.Errorf("the session lives on: %v", p.Away)
	}
}
