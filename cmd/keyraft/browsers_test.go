package main

import (
	"strings"
	"testing"

	"github.com/keyraft/keyraft/internal/testbrowser"
)

// guess types wrong passwords of alice at a browser at which nobody is signed in, until they
// lock.
func guess(t *testing.T, b *testbrowser.Browser) {
	t.Helper()
	delete(b.Cookies, "keyraft-session")
	p := b.Open(t, authorizePath())
	for range 11 {
		p = b.Submit(t, p, "username", "alice", "password", "wrong")
	}
}

// enters tells whether a password of alice opens the consent page.
func enters(t *testing.T, b *testbrowser.Browser, password string) bool {
	t.Helper()
	delete(b.Cookies, "keyraft-session")
	p := b.Submit(t, b.Open(t, authorizePath()), "username", "alice", "password", password)
	return len(p.Forms) > 0 && p.Forms[0].Action == "/consent"
}

// TestWEB12AKnownBrowserLocksItselfAlone: who once had the use of a browser at which the
// user has signed in can't lock the user's other browsers, nor what was begun at them.
func TestWEB12AKnownBrowserLocksItselfAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cafe := s.browser()
	p := s.signIn(s.Open(t, authorizePath("scope", "openid offline_access", "prompt", "consent")))
	code := away(t, s.Submit(t, p, "decision", "allow")).Get("code")
	if !enters(t, cafe, phrase) {
		t.Fatal("alice can't sign in at the cafe")
	}
	guess(t, cafe) // alice has signed out of it; a stranger comes
	if enters(t, cafe, phrase) {
		t.Error("eleven wrong passwords lock nothing")
	}
	refresh, _ := s.redeem(200, code)["refresh_token"].(string)
	guess(t, s.browser()) // strangers guess as well
	s.token(200, "grant_type", "refresh_token", "refresh_token", refresh)
	if s.Open(t, authorizePath("prompt", "none")).Away == nil {
		t.Error("the login of before is over")
	}
	delete(s.Cookies, "keyraft-session")
	if p := s.signIn(s.Open(t, authorizePath("prompt", "consent"))); len(p.Forms) == 0 || p.Forms[0].Action != "/consent" {
		t.Errorf("alice is locked out of her own browser by a stranger at another: %s", p.Text)
	}
	s.call("DELETE", "/admin/v1/users/"+s.userID("alice")+"/lockout", "Bearer "+s.node.admin(), "", "", 204)
	for name, b := range map[string]*testbrowser.Browser{"the cafe": cafe, "a stranger": s.browser()} {
		delete(b.Cookies, "keyraft-session")
		if p := b.Submit(t, b.Open(t, authorizePath()), "username", "alice", "password", phrase); p.Away == nil && (len(p.Forms) == 0 || p.Forms[0].Action != "/consent") {
			t.Errorf("%s is locked after the unlocking: %s", name, p.Text)
		}
	}
}

// TestWEB12ANewPasswordMakesBrowsersStrangers: a cookie of before it is no known browser's.
func TestWEB12ANewPasswordMakesBrowsersStrangers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cafe := s.browser()
	onAccount(t, s.account(cafe))
	onAccount(t, s.account(s.Browser))
	p := s.Open(t, "/account/password")
	onAccount(t, s.SubmitTo(t, p, "/account/password", "current", phrase, "new", another, "again", another))
	guess(t, cafe)
	if enters(t, s.browser(), another) {
		t.Error("the cafe's guesses are counted apart from those of strangers")
	}
	if !enters(t, s.Browser, another) {
		t.Error("the browser at which the password was changed is not known")
	}
}

// TestWEB12GuessesAtTheAccountPage are counted with those of its browser, and where that has
// no cookie left, with its login.
func TestWEB12GuessesAtTheAccountPage(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]bool{"a known browser": false, "without its cookie": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			cafe := s.browser()
			onAccount(t, s.account(cafe))
			onAccount(t, s.account(s.Browser))
			if forget {
				delete(cafe.Cookies, "keyraft-known")
			}
			p := cafe.Open(t, "/account/password")
			submit := func(current string) *testbrowser.Page {
				return cafe.SubmitTo(t, p, "/account/password", "current", current, "new", another, "again", another)
			}
			for range 11 {
				submit("wrong")
			}
			if got := submit(phrase); !strings.Contains(got.Text, `role="alert"`) {
				t.Errorf("the right one after eleven wrong ones: %s", got.Text)
			}
			if enters(t, cafe, phrase) != forget {
				t.Errorf("the login page of that browser is open: want %v", forget)
			}
			if !enters(t, s.Browser, phrase) || !enters(t, s.browser(), phrase) {
				t.Error("another browser is locked")
			}
		})
	}
}
