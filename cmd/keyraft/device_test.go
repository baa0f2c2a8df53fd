package main

import (
	"maps"
	"net/url"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/internal/testbrowser"
)

const formType = "application/x-www-form-urlencoded"

// parlour is a site with a television and a bank.
type parlour struct {
	*site
	bank string // its secret
}

func newParlour(t *testing.T) *parlour {
	t.Helper()
	s := newSite(t)
	s.admin("clients", map[string]any{
		"client_id": "tv", "client_name": "TV <b>", "token_endpoint_auth_method": "none", "scope": "openid profile read", "id_token_signed_response_alg": "ES256",
		"grant_types": []string{"urn:ietf:params:oauth:grant-type:device_code", "refresh_token"},
	})
	made := s.admin("clients", map[string]any{
		"client_id": "bank", "client_name": "Bank", "scope": "openid profile", "id_token_signed_response_alg": "ES256",
		"grant_types": []string{"urn:openid:params:grant-type:ciba", "refresh_token"}, "backchannel_token_delivery_mode": "poll",
	})
	p := &parlour{site: s}
	p.bank, _ = made["client_secret"].(string)
	return p
}

// begin is the answer that the television gets.
func (p *parlour) begin() (device, user string, complete string) {
	p.t.Helper()
	a := p.call("POST", "/oauth2/device_authorization", "", formType, "client_id=tv&scope=openid+read", 200)
	device, _ = a["device_code"].(string)
	user, _ = a["user_code"].(string)
	complete, _ = a["verification_uri_complete"].(string)
	return device, user, strings.TrimPrefix(complete, p.node.url)
}

func (p *parlour) poll(device string, status int) map[string]any {
	p.t.Helper()
	return p.call("POST", "/oauth2/token", "", formType, url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {"tv"}, "device_code": {device},
	}.Encode(), status)
}

// shown fails unless a page has all of these, none of them as markup.
func shown(t *testing.T, p *testbrowser.Page, texts ...string) {
	t.Helper()
	if p.Status != 200 {
		t.Fatalf("%d %s", p.Status, p.Text)
	}
	for _, text := range texts {
		if !strings.Contains(p.Text, text) {
			t.Errorf("the page does not show %q:\n%s", text, p.Text)
		}
	}
	if strings.Contains(p.Text, "TV <b>") || p.Header.Get("X-Frame-Options") != "DENY" || p.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("the page %s is not safe (WEB-02, WEB-03)", p.URL)
	}
}

// TestADeviceIsAllowedAtABrowser by a code that was typed with other case and dashes than
// it was shown with (TOK-41).
func TestADeviceIsAllowedAtABrowser(t *testing.T) {
	t.Parallel()
	p := newParlour(t)
	device, code, _ := p.begin()
	form := p.Open(t, "/device")
	shown(t, form, "Connect a device")
	for wrong, text := range map[string]string{"hello": "not a code", "BBBBB-BBBB0": "not a code"} {
		shown(t, p.Submit(t, form, "user_code", wrong), text)
	}
	login := p.Submit(t, form, "user_code", strings.ToLower(strings.ReplaceAll(code, "-", " ")))
	shown(t, login, "Sign in")
	if strings.Contains(login.Text, "TV &lt;b&gt;") {
		t.Error("a code was looked up before anybody had signed in (TOK-41)")
	}
	ask := p.signIn(login)
	shown(t, ask, "TV &lt;b&gt;", code, "127.0.0.1", "openid", "read", "alice", "started it yourself")
	shown(t, p.Submit(t, ask, "decision", "allow"), "Access allowed")
	got := p.poll(device, 200)
	if got["id_token"] == nil || got["refresh_token"] == nil || got["scope"] != "openid read" {
		t.Errorf("tokens %v", got)
	}
	shown(t, p.Submit(t, ask, "decision", "allow"), "Access allowed") // a second click
	if got := p.poll(device, 400); got["error"] != "invalid_grant" {
		t.Errorf("%v", got)
	}
	if again := p.Submit(t, form, "user_code", code); !strings.Contains(again.Text, "No device waits") {
		t.Errorf("a code that was used: %d %s", again.Status, again.Text)
	}
}

// TestDevicePhishing is TOK-42: a link with the code in it shows and asks, whoever is
// signed in and whatever they have allowed before; a form of another site does nothing.
func TestDevicePhishing(t *testing.T) {
	t.Parallel()
	p := newParlour(t)
	for range 2 { // the second time the client has consent
		device, code, link := p.begin()
		form := p.Open(t, link)
		shown(t, form, code, "your own device")
		if got := p.poll(device, 400); got["error"] != "authorization_pending" {
			t.Errorf("opening the link decided: %v", got)
		}
		if got := p.Post(t, "/device", url.Values{"user_code": {code}}); got.Status != 403 {
			t.Errorf("a form of another site: %d (WEB-01)", got.Status)
		}
		ask := p.Submit(t, form)
		if strings.HasSuffix(ask.Forms[0].Action, "/login") {
			ask = p.signIn(ask)
		}
		shown(t, ask, "TV &lt;b&gt;", code, "started it yourself")
		if got := p.Post(t, "/device", url.Values{"flow": {ask.Forms[0].Values.Get("flow")}, "decision": {"allow"}}); got.Status != 403 {
			t.Errorf("an answer from another site: %d (WEB-01)", got.Status)
		}
		other := testbrowser.New(p.HTTP, p.node.url, func() string { return p.node.url })
		if got := other.Submit(t, ask, "decision", "allow"); got.Status != 400 {
			t.Errorf("an answer from another browser: %d (AUT-16)", got.Status)
		}
		if got := p.Submit(t, ask, "flow", "forged", "decision", "allow"); got.Status != 400 {
			t.Errorf("a forged answer: %d (AUT-15)", got.Status)
		}
		shown(t, p.Submit(t, ask, "decision", "allow"), "Access allowed")
		p.poll(device, 200)
	}
}

// TestADeviceIsDenied: at the page, which says so, and not by leaving it.
func TestADeviceIsDenied(t *testing.T) {
	t.Parallel()
	p := newParlour(t)
	device, _, link := p.begin()
	login := p.Submit(t, p.Open(t, link))
	if left := p.Submit(t, login, "cancel", "yes"); left.Away != nil || left.Status != 400 {
		t.Errorf("leaving the login: %d %s", left.Status, left.URL)
	}
	if got := p.poll(device, 400); got["error"] != "authorization_pending" {
		t.Errorf("%v", got)
	}
	ask := p.signIn(login)
	shown(t, p.Submit(t, ask, "decision", "deny"), "Access denied")
	if got := p.poll(device, 400); got["error"] != "access_denied" {
		t.Errorf("%v", got)
	}
	if late := p.Submit(t, ask, "decision", "allow"); late.Status != 400 || !strings.Contains(late.Text, "decided before") {
		t.Errorf("allowing what was denied: %d %s", late.Status, late.Text)
	}
}

// TestAFlowIsOfItsPage: what was sealed for a device's page is refused at the consent
// page of the authorization endpoint, and the other way round (TOK-21, AUT-15).
func TestAFlowIsOfItsPage(t *testing.T) {
	t.Parallel()
	p := newParlour(t)
	_, _, link := p.begin()
	ask := p.signIn(p.Submit(t, p.Open(t, link)))
	if got := p.send(t, "/consent", ask); got.Away != nil || got.Status != 200 || !strings.Contains(got.Text, "started it yourself") {
		t.Errorf("a device's flow at /consent: %d %s", got.Status, got.Text)
	}
	if got := p.send(t, "/requests", ask); got.Status != 200 {
		t.Errorf("a device's flow at /requests: %d", got.Status)
	}
	consent := p.Open(t, authorizePath())
	if got := p.send(t, "/device", consent); got.Status != 400 {
		t.Errorf("a client's flow at /device: %d %s", got.Status, got.Text)
	}
}

// send posts the flow of a page to another path, from a page of ours.
func (p *parlour) send(t *testing.T, path string, from *testbrowser.Page) *testbrowser.Page {
	t.Helper()
	other := *from
	other.Forms = []testbrowser.Form{{Action: path, Method: "post", Values: url.Values{"flow": {from.Forms[0].Values.Get("flow")}}}}
	return p.Submit(t, &other, "decision", "allow")
}

// TestOtherUsersAnswerNothing: what one user was shown another one, who signs in
// meanwhile at this browser, is asked to sign in for.
func TestOtherUsersAnswerNothing(t *testing.T) {
	t.Parallel()
	p := newParlour(t)
	p.admin("users", map[string]any{"username": "bob", "password": phrase})
	device, _, link := p.begin()
	ask := p.signIn(p.Submit(t, p.Open(t, link)))
	delete(p.Cookies, sessionOf(p.Cookies))
	_, _, second := p.begin()
	p.Submit(t, p.Submit(t, p.Open(t, second)), "username", "bob", "password", phrase)
	shown(t, p.Submit(t, ask, "decision", "allow"), "Sign in")
	if got := p.poll(device, 400); got["error"] != "authorization_pending" {
		t.Errorf("%v", got)
	}
}

func sessionOf(cookies map[string]string) string {
	for name := range maps.Keys(cookies) {
		if strings.HasSuffix(name, "keyraft-session") {
			return name
		}
	}
	return ""
}

// TestTooManyUserCodes is TOK-41 at the page: after ten of them no code of this user is
// looked up, and another user's are.
func TestTooManyUserCodes(t *testing.T) {
	t.Parallel()
	p := newParlour(t)
	_, code, link := p.begin()
	p.signIn(p.Submit(t, p.Open(t, link)))
	form := p.Open(t, "/device")
	for range 9 {
		shown(t, p.Submit(t, form, "user_code", "BBBBB-BBBBB"), "No device waits")
	}
	shown(t, p.Submit(t, form, "user_code", "BBBBB-BBBBB"), "Too many codes")
	shown(t, p.Submit(t, form, "user_code", code), "Too many codes")
	p.admin("users", map[string]any{"username": "bob", "password": phrase})
	other := testbrowser.New(p.HTTP, p.node.url, func() string { return p.node.url })
	shown(t, other.Submit(t, other.Submit(t, other.Open(t, link)), "username", "bob", "password", phrase), code)
}

// TestRequestsPage: a user sees what waits for them, with its message, and allows one and
// denies another; others see nothing of it.
func TestRequestsPage(t *testing.T) {
	t.Parallel()
	p := newParlour(t)
	ask := func(message string) string {
		a := p.call("POST", "/oauth2/bc-authorize", basicAuth("bank", p.bank), formType,
			url.Values{"scope": {"openid profile"}, "login_hint": {"Alice"}, "binding_message": {message}}.Encode(), 200)
		id, _ := a["auth_req_id"].(string)
		return id
	}
	poll := func(id string, status int) map[string]any {
		return p.call("POST", "/oauth2/token", basicAuth("bank", p.bank), formType,
			url.Values{"grant_type": {"urn:openid:params:grant-type:ciba"}, "auth_req_id": {id}}.Encode(), status)
	}
	first, second := ask("till <i>"), ask("till 7")
	list := p.signIn(p.Open(t, "/requests"))
	shown(t, list, "Bank", "till &lt;i&gt;", "till 7", "alice", "started it yourself")
	if len(list.Forms) != 2 {
		t.Fatalf("%d forms:\n%s", len(list.Forms), list.Text)
	}
	yes, no := list, *list
	no.Forms = list.Forms[1:]
	told := []*testbrowser.Page{p.Submit(t, yes, "decision", "allow"), p.Submit(t, &no, "decision", "deny")}
	shown(t, told[0], "Access allowed")
	shown(t, told[1], "Access denied")
	// They are listed by their ids, which are random.
	if strings.Index(list.Text, "till &lt;i&gt;") > strings.Index(list.Text, "till 7") {
		first, second = second, first
	}
	if got := poll(first, 200); got["id_token"] == nil {
		t.Errorf("%v", got)
	}
	if got := poll(second, 400); got["error"] != "access_denied" {
		t.Errorf("%v", got)
	}
	shown(t, p.Open(t, "/requests"), "Nothing waits for you")
	if late := p.Submit(t, yes, "decision", "allow"); late.Status != 400 {
		t.Errorf("a second answer: %d", late.Status)
	}

	ask("for alice alone")
	p.admin("users", map[string]any{"username": "bob", "password": phrase})
	other := testbrowser.New(p.HTTP, p.node.url, func() string { return p.node.url })
	shown(t, other.Submit(t, other.Open(t, "/requests"), "username", "bob", "password", phrase), "Nothing waits for you")
}
