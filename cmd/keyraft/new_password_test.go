package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/testbrowser"
	"github.com/keyraft/keyraft/internal/testfactor"
)

const another = "another phrase of mine"

// patch changes what an administrator may.
func (s *site) patch(path string, status int, body string) map[string]any {
	s.t.Helper()
	return s.call("PATCH", "/admin/v1/"+path, "Bearer "+s.node.admin(), "application/merge-patch+json", body, status)
}

// wrongIs wants a page that says what was wrong.
func wrongIs(t *testing.T, p *testbrowser.Page, text string) {
	t.Helper()
	if p.Status != 200 || p.Away != nil || !strings.Contains(p.Text, `role="alert" id="wrong"`) || !strings.Contains(p.Text, text) {
		t.Errorf("%d at %s, want a page that says %q:\n%s", p.Status, p.URL, text, p.Text)
	}
}

// TestAPasswordThatMustBeChanged: there is no session, and no other grant, before the new
// password; then the flow goes on, and what was signed in before is not.
func TestAPasswordThatMustBeChanged(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	other := s.browser()
	onAccount(t, s.account(other))
	id := s.userID("alice")
	if got := s.patch("users/"+id, 200, `{"must_change_password": true}`); got["must_change_password"] != true {
		t.Fatalf("%v", got)
	}
	// Who is signed in by that password goes through the login page, too.
	other.Open(t, "/account").FormTo(t, "/login")
	if got := away(t, other.Open(t, authorizePath("prompt", "none"))); got.Get("error") != "login_required" {
		t.Errorf("prompt=none: %v", got)
	}
	p := s.signIn(s.Open(t, authorizePath()))
	p.FormTo(t, "/login/password")
	if s.Cookies["keyraft-session"] != "" || !strings.Contains(p.Text, "At least 10 and at most 1024 characters") {
		t.Fatalf("a session, or no policy:\n%s", p.Text)
	}
	p = reload(t, s.Browser, p)
	submit := func(first, again string) *testbrowser.Page {
		return s.SubmitTo(t, p, "/login/password", "new", first, "again", again)
	}
	wrongIs(t, submit("short", "short"), "too short")
	wrongIs(t, submit("alice", "alice"), "too short")
	wrongIs(t, submit("password1234", "password1234"), "one of the commonest")
	wrongIs(t, submit(phrase, phrase), "the password which you have")
	wrongIs(t, submit(another, another+"x"), "differ")
	if got := s.browser().SubmitTo(t, p, "/login/password", "new", another, "again", another); got.Status != 400 || got.Away != nil {
		t.Errorf("another browser sets it: %d", got.Status)
	}
	// The password grant can't ask anybody (WEB-09).
	s.patch("tenants/default", 200, `{"grant_types": ["password", "authorization_code"]}`)
	s.patch("clients/web", 200, `{"grant_types": ["authorization_code", "refresh_token", "password"]}`)
	if got := s.token(400, "grant_type", "password", "username", "alice", "password", phrase); got["error"] != "invalid_grant" {
		t.Errorf("the password grant: %v", got)
	}
	wrote := &s.node.rooms.server.writes
	users, sessions := wrote[command.KindPutUser].Load(), wrote[command.KindPutSession].Load()
	next := submit(another, another)
	next.FormTo(t, "/consent")
	if users, sessions = wrote[command.KindPutUser].Load()-users, wrote[command.KindPutSession].Load()-sessions; users != 1 || sessions != 1 {
		t.Errorf("%d writes of the user, %d of a session", users, sessions)
	}
	away(t, s.Submit(t, next, "decision", "allow"))
	other.Open(t, "/account").FormTo(t, "/login")
	if got := s.call("GET", "/admin/v1/users/"+id, "Bearer "+s.node.admin(), "", "", 200); got["must_change_password"] != nil {
		t.Errorf("it must be changed still: %v", got)
	}
	onAccount(t, s.Open(t, "/account"))
	if got := submit("a third phrase of mine", "a third phrase of mine"); strings.Contains(got.Text, `action="/login/password"`) && got.Status == 200 {
		t.Errorf("the page of before sets another one: %s", got.Text)
	}
	s.token(200, "grant_type", "password", "username", "alice", "password", another, "scope", "openid profile")
}

// TestWEB09ANewPasswordNeedsTheSecondFactorFirst: who has only the password can't replace it.
func TestWEB09ANewPasswordNeedsTheSecondFactorFirst(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	secret, _, _ := s.enrol()
	s.patch("users/"+s.userID("alice"), 200, `{"must_change_password": true}`)
	b := s.browser()
	p := b.Submit(t, b.Open(t, authorizePath()), "username", "alice", "password", phrase)
	factor := p.FormTo(t, "/factor")
	forged := &testbrowser.Page{URL: p.URL, Forms: []testbrowser.Form{{Action: "/login/password", Method: "post", Values: url.Values{"flow": factor.Values["flow"]}}}}
	skipped := b.SubmitTo(t, forged, "/login/password", "new", another, "again", another)
	skipped.FormTo(t, "/factor")
	p = b.SubmitTo(t, p, "/factor", "code", testfactor.Code(t, secret, time.Now().Add(30*time.Second)))
	if b.Cookies["keyraft-session"] != "" {
		t.Error("there is a session before the new password")
	}
	p = b.SubmitTo(t, p, "/login/password", "new", another, "again", another)
	claims := claimsOf(t, s.redeem(200, s.consented(b, p).Get("code")))
	if fmt.Sprint(claims["amr"]) != "[pwd otp mfa]" {
		t.Errorf("amr %v", claims["amr"])
	}
}

// resetLink makes a link, and gives its path.
func (s *site) resetLink(id string) string {
	s.t.Helper()
	got := s.call("POST", "/admin/v1/users/"+id+"/reset-link", "Bearer "+s.node.admin(), "", "", 201)
	text, _ := got["url"].(string)
	path, ok := strings.CutPrefix(text, s.issuer)
	if !ok || got["expires_at"] == nil {
		s.t.Fatalf("%v is no link of the issuer %s", got, s.issuer)
	}
	return path
}

// TestWEB06AResetLinkAtTheServer: a link sets a password once and signs nobody in; its token
// stands in no page and no address of one; opening it changes nothing; whatever host asked
// for it, it leads to the issuer.
func TestWEB06AResetLinkAtTheServer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	secret, _, _ := s.enrol()
	id := s.userID("alice")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.node.url+"/admin/v1/users/"+id+"/reset-link", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example"
	req.Header.Set("Authorization", "Bearer "+s.node.admin())
	req.Header.Set("X-Forwarded-Host", "evil.example")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // what it says is of a link of our own host, or of nobody
	link := s.resetLink(id)
	_, token, _ := strings.Cut(link, "token=")

	b := s.browser()
	for range 2 { // a mail scanner first
		p := b.Open(t, link)
		p.FormTo(t, "/reset")
		if strings.Contains(p.URL.String(), token) || strings.Contains(p.Text, token) || p.URL.Query().Get("page") == "" {
			t.Errorf("the token stands in the page or its address: %s", p.URL)
		}
	}
	first := b.HTTP
	raw, err := first.Get(s.node.url + link)
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Body.Close() // a redirect
	if raw.StatusCode != 303 || raw.Header.Get("Referrer-Policy") != "no-referrer" || raw.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", raw.StatusCode, raw.Header)
	}
	p := b.Open(t, link)
	if got := s.browser().SubmitTo(t, p, "/reset", "new", another, "again", another); got.Status != 400 {
		t.Errorf("another browser goes on with the page: %d", got.Status)
	}
	wrongIs(t, b.SubmitTo(t, p, "/reset", "new", "short", "again", "short"), "too short")
	wrongIs(t, b.SubmitTo(t, p, "/reset", "new", another, "again", phrase), "differ")
	forged := &testbrowser.Page{URL: p.URL, Forms: []testbrowser.Form{{Action: "/login", Method: "post", Values: url.Values{"flow": {p.URL.Query().Get("page")}, "username": {"alice"}, "password": {phrase}}}}}
	if got := b.Submit(t, forged); got.Status != 400 {
		t.Errorf("the page's value passes for a flow: %d", got.Status)
	}
	set := b.SubmitTo(t, p, "/reset", "new", another, "again", another)
	if set.Status != 200 || !strings.Contains(set.Text, "The password is set") || b.Cookies["keyraft-session"] != "" || b.Cookies["keyraft-known"] == "" {
		t.Errorf("%d %v %s", set.Status, b.Cookies, set.Text)
	}
	for name, got := range map[string]*testbrowser.Page{
		"the page once more": b.SubmitTo(t, p, "/reset", "new", phrase, "again", phrase), "the link once more": b.Open(t, link),
		"a forged one": b.Open(t, "/reset?token=x.y"), "none": b.Open(t, "/reset"),
	} {
		if got.Status != 400 || len(got.Forms) != 0 {
			t.Errorf("%s: %d %s", name, got.Status, got.Text)
		}
	}
	s.Open(t, "/account").FormTo(t, "/login") // what was signed in is not
	// The second factor is asked for as ever (WEB-09).
	p = b.Submit(t, b.Open(t, authorizePath()), "username", "alice", "password", another)
	away(t, b.SubmitTo(t, b.SubmitTo(t, p, "/factor", "code", testfactor.Code(t, secret, time.Now().Add(30*time.Second))), "/consent", "decision", "allow"))

	// The admin API of one tenant makes no link for a user of another, and no link is in a user's record.
	if text := fmt.Sprint(s.call("GET", "/admin/v1/users/"+id, "Bearer "+s.node.admin(), "", "", 200)); strings.Contains(text, "reset") {
		t.Errorf("the user's record tells of links: %s", text)
	}
}

// TestStrangersDontLockOutOfAResetLink: the browser of a link is known to be the user's from
// then on, so a lock that strangers cause does not keep them out.
func TestStrangersDontLockOutOfAResetLink(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.patch("tenants/default", 200, `{"lockout_failures": 3, "lockout_time": "1h"}`)
	stranger := s.browser()
	for range 3 {
		stranger.Submit(t, stranger.Open(t, authorizePath()), "username", "alice", "password", "a guess")
	}
	wrongIs(t, stranger.Submit(t, stranger.Open(t, authorizePath()), "username", "alice", "password", phrase), "wrong")
	b := s.browser()
	b.SubmitTo(t, b.Open(t, s.resetLink(s.userID("alice"))), "/reset", "new", another, "again", another)
	b.Submit(t, b.Open(t, authorizePath()), "username", "alice", "password", another).FormTo(t, "/consent")
	wrongIs(t, stranger.Submit(t, stranger.Open(t, authorizePath()), "username", "alice", "password", another), "wrong")
}

// TestTheAccountChangesAPassword: by the tenant's policy, which the page shows.
func TestTheAccountChangesAPassword(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if got := s.patch("tenants/default", 200, `{"password_min_length": 24, "password_refused": ["An Own Long Phrase Of Acme"]}`); got["password_min_length"] != 24.0 ||
		fmt.Sprint(got["password_refused"]) != "[an own long phrase of acme]" {
		t.Fatalf("%v", got)
	}
	for body, field := range map[string]string{
		`{"password_min_length": 7}`: "password_min_length", `{"password_min_length": 0}`: "password_min_length", `{"password_max_length": 2000}`: "password_max_length",
		`{"lockout_failures": 1}`: "lockout_failures", `{"lockout_time": "48h"}`: "lockout_time", `{"lockout_window": "1s"}`: "lockout_window",
		`{"password_refused": "x"}`: "password_refused", `{"password_min_length": 9.5}`: "password_min_length",
	} {
		if got := fmt.Sprint(s.patch("tenants/default", 400, body)); !strings.Contains(got, field) {
			t.Errorf("%s: %s", body, got)
		}
	}
	onAccount(t, s.account(s.Browser))
	p := s.Open(t, "/account/password")
	if !strings.Contains(p.Text, "At least 24 and at most 1024 characters") {
		t.Errorf("the policy is not shown: %s", p.Text)
	}
	change := func(current, next string) *testbrowser.Page {
		return s.SubmitTo(t, p, "/account/password", "current", current, "new", next, "again", next)
	}
	wrongIs(t, change(phrase, another), "too short")
	wrongIs(t, change(phrase, "An own long phrase of acme"), "refused here")
	wrongIs(t, change("a guess", "a much longer phrase of mine"), "password of now is wrong")
	onAccount(t, change(phrase, "a much longer phrase of mine"))
	s.patch("tenants/default", 200, `{"password_min_length": null, "password_refused": null}`)
}

// TestSetUpOffersAPasskey: who needs a second factor and has none may make a passkey it at
// the login, too; by then the other way is shut (WEB-09).
func TestSetUpOffersAPasskey(t *testing.T) {
	t.Parallel()
	s := newSite(t, namedIssuer)
	id := s.userID("alice")
	s.patch("users/"+id, 200, `{"second_factor": true}`)
	key := &testfactor.Authenticator{Origin: namedIssuer}
	p := s.signIn(s.Open(t, authorizePath()))
	secretOf(t, p)
	var asked *testbrowser.Form
	for i := range p.Forms {
		if p.Forms[i].Data["passkey"] == "create" {
			asked = &p.Forms[i]
		}
	}
	if asked == nil || asked.Action != "/factor/setup" || s.Cookies["__Host-keyraft-session"] != "" {
		t.Fatalf("no passkey is offered, or there is a session: %s", p.Text)
	}
	create := func(from *testfactor.Authenticator) *testbrowser.Page {
		return s.SubmitTo(t, &testbrowser.Page{URL: p.URL, Forms: []testbrowser.Form{*asked}}, "/factor/setup", "answer", from.Create(t, asked.Data["options"]))
	}
	wrongIs(t, create(&testfactor.Authenticator{Origin: "https://evil.example"}), "passkey was not accepted")
	done := create(key)
	claims := claimsOf(t, s.redeem(200, s.consented(s.Browser, done).Get("code")))
	if fmt.Sprint(claims["amr"]) != "[pwd pop mfa]" || claims["acr"] != "urn:keyraft:acr:2fa" {
		t.Errorf("amr %v, acr %v", claims["amr"], claims["acr"])
	}
	if got := create(&testfactor.Authenticator{Origin: namedIssuer}); got.Away != nil {
		t.Errorf("the page of before adds a second one: %v", got.Away)
	}
	b := s.browser()
	b.Submit(t, b.Open(t, authorizePath()), "username", "alice", "password", phrase).FormTo(t, "/factor")
}

// TestConsentNamesClaims: standard claims by words in the user's language, own ones by name.
func TestConsentNamesClaims(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.patch("users/"+s.userID("alice"), 200, `{"phone_number": "+431234", "claims": {"department": "sales"}}`)
	p := s.signIn(s.Open(t, authorizePath("claims", `{"userinfo": {"phone_number": null, "department": null}}`, "ui_locales", "de")))
	if !strings.Contains(p.Text, `<bdi>Ihre Telefonnummer</bdi> <span class="name">(<bdi>phone_number</bdi>)`) || !strings.Contains(p.Text, "<li><bdi>department</bdi></li>") {
		t.Errorf("%s", p.Text)
	}
	s.Submit(t, p, "decision", "allow")
	if p := onAccount(t, s.account(s.Browser)); !strings.Contains(p.Text, "<bdi>Your telephone number</bdi>") {
		t.Errorf("%s", p.Text)
	}
}

// TestTheAccountByPages: more applications than fit one page are on the next.
func TestTheAccountByPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	onAccount(t, s.account(s.Browser))
	id := s.userID("alice")
	s.fill(id, 103)
	p := onAccount(t, s.Open(t, "/account"))
	count := func(p *testbrowser.Page, name string) int {
		return len(regexp.MustCompile(`name="`+name+`" value="`).FindAllString(p.Text, -1))
	}
	if count(p, "client") != 100 || count(p, "end") < 100 || count(p, "end") > 101 || !strings.Contains(p.Text, "this browser") {
		t.Fatalf("%d applications, %d logins", count(p, "client"), count(p, "end"))
	}
	apps := regexp.MustCompile(`/account\?consents_after=[^"]+`).FindString(p.Text)
	logins := regexp.MustCompile(`/account\?sessions_after=[^"]+`).FindString(p.Text)
	if rest := onAccount(t, s.Open(t, apps)); count(rest, "client") != 3 || strings.Contains(rest.Text, "consents_after") {
		t.Errorf("%d applications on the last page of %q", count(rest, "client"), apps)
	}
	rest := onAccount(t, s.Open(t, logins))
	if count(rest, "end") != 4 || strings.Contains(rest.Text, "sessions_after") {
		t.Errorf("%d logins on the last page of %q", count(rest, "end"), logins)
	}
	last := regexp.MustCompile(`name="end" value="([^"]+)"`).FindAllStringSubmatch(rest.Text, -1)
	onAccount(t, s.SubmitTo(t, rest, "/account/sessions", "end", last[len(last)-1][1]))
}

// fill gives a user so many consents, each of a client of its own, and so many sessions
// beside the one that there is.
func (s *site) fill(user string, n int) {
	s.t.Helper()
	view := s.node.rooms.server.node.FSM().View()
	row, err := view.User("default", user)
	if err != nil {
		s.t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range n {
		id := fmt.Sprintf("app-%03d", i)
		all.Go(func() {
			for _, c := range []command.Command{
				&command.PutClient{Client: &state.Client{Tenant: "default", Id: id, Name: id, AuthMethod: "none", GrantTypes: []string{"authorization_code"}, RedirectUris: []string{callback}}},
				&command.PutConsent{Consent: &state.Consent{Tenant: "default", User: user, ClientId: id, Scopes: []string{"openid"}}},
				&command.PutSession{UserGeneration: row.GetGeneration(), Session: &state.Session{
					Tenant: "default", Id: rand.Text(), User: user, Secret: make([]byte, 32), AuthTime: time.Now().Unix(), Amr: []string{"pwd"}, ExpiresAt: time.Now().Add(time.Hour).Unix(),
				}},
			} {
				result, err := s.node.rooms.server.propose(s.t.Context(), c)
				if err := errors.Join(err, result.Err()); err != nil {
					s.t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
