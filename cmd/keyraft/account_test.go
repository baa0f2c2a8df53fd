package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/testbrowser"
	"github.com/keyraft/keyraft/internal/testfactor"
	"github.com/keyraft/keyraft/tokens"
)

// named is an issuer that can have passkeys; the tests reach it at its address.
const namedIssuer = "https://id.example"

// at opens the account page, signing in if need be.
func (s *site) account(b *testbrowser.Browser) *testbrowser.Page {
	s.t.Helper()
	p := b.Open(s.t, "/account")
	if p.Status == 200 && len(p.Forms) > 0 && p.Forms[0].Action == "/login" {
		p = b.Submit(s.t, p, "username", "alice", "password", phrase)
	}
	return p
}

// onAccount wants the account page.
func onAccount(t *testing.T, p *testbrowser.Page) *testbrowser.Page {
	t.Helper()
	if p.Status != 200 || p.URL.Path != "/account" || !strings.Contains(p.Text, "Where you are signed in") {
		t.Fatalf("%d at %s, not the account:\n%s", p.Status, p.URL, p.Text)
	}
	return p
}

// secretOf is what a page tells to type into an authenticator.
func secretOf(t *testing.T, p *testbrowser.Page) string {
	t.Helper()
	m := regexp.MustCompile(`<code>([A-Z2-7]{32})</code>`).FindStringSubmatch(p.Text)
	if m == nil || !strings.Contains(p.Text, "<svg") {
		t.Fatalf("%d at %s shows no secret or no picture:\n%s", p.Status, p.URL, p.Text)
	}
	return m[1]
}

// enrol sets up an authenticator and recovery codes for alice; used is the code that it took.
func (s *site) enrol() (secret, used string, codes []string) {
	s.t.Helper()
	onAccount(s.t, s.account(s.Browser))
	p := s.Open(s.t, "/account/authenticator")
	secret = secretOf(s.t, p)
	wrong := s.SubmitTo(s.t, p, "/account/authenticator", "code", "12")
	if !strings.Contains(wrong.Text, `role="alert"`) || secretOf(s.t, wrong) != secret {
		s.t.Fatalf("a wrong first code: %s", wrong.Text)
	}
	used = testfactor.Code(s.t, secret, time.Now())
	onAccount(s.t, s.SubmitTo(s.t, wrong, "/account/authenticator", "code", used))
	p = s.SubmitTo(s.t, s.Open(s.t, "/account/recovery"), "/account/recovery")
	for _, m := range regexp.MustCompile(`<code>([A-Z2-7-]{20,})</code>`).FindAllStringSubmatch(p.Text, -1) {
		codes = append(codes, m[1])
	}
	if len(codes) != 10 {
		s.t.Fatalf("%d recovery codes: %s", len(codes), p.Text)
	}
	return secret, used, codes
}

// claims are what an ID token says.
func claimsOf(t *testing.T, answer map[string]any) map[string]any {
	t.Helper()
	token, _ := answer["id_token"].(string)
	part := strings.Split(token, ".")
	if len(part) != 3 {
		t.Fatalf("no ID token in %v", answer)
	}
	text, err := base64.RawURLEncoding.DecodeString(part[1])
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// consented is the answer to the client after the consent page, if it is shown.
func (s *site) consented(b *testbrowser.Browser, p *testbrowser.Page) url.Values {
	s.t.Helper()
	if p.Away == nil {
		p = b.SubmitTo(s.t, p, "/consent", "decision", "allow")
	}
	return away(s.t, p)
}

// TestWEB09TwoFactors: after a password alone there is no session, whatever is asked for
// next; with the code there is, and the client hears of it. A code is good once.
func TestWEB09TwoFactors(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	secret, used, codes := s.enrol()
	b := s.browser()
	p := b.Submit(t, b.Open(t, authorizePath()), "username", "alice", "password", phrase)
	p.FormTo(t, "/factor")
	if b.Cookies["keyraft-session"] != "" {
		t.Fatal("a password alone has made a session")
	}
	for _, path := range []string{"/account", "/account/authenticator", authorizePath()} {
		b.Open(t, path).FormTo(t, "/login")
	}
	if got := away(t, b.Open(t, authorizePath("prompt", "none"))); got.Get("error") != "login_required" {
		t.Errorf("prompt=none after a password alone: %v", got)
	}
	b.SubmitTo(t, p, "/factor", "code", "000 000").FormTo(t, "/factor")
	if wrong := b.SubmitTo(t, p, "/factor", "code", used); wrong.Away != nil || !strings.Contains(wrong.Text, `role="alert"`) {
		t.Errorf("the code that set the authenticator up (WEB-07): %s", wrong.Text)
	}
	// Steps are skipped by nobody: not by consent, nor by setting up another authenticator.
	flow := url.Values{"flow": p.FormTo(t, "/factor").Values["flow"], "decision": {"allow"}, "code": {"1"}, "enrolment": {"x"}}
	for _, path := range []string{"/consent", "/factor/setup"} {
		got := b.SubmitTo(t, &testbrowser.Page{URL: p.URL, Forms: []testbrowser.Form{{Action: path, Method: "post", Values: flow}}}, path)
		if got.Away != nil || b.Cookies["keyraft-session"] != "" {
			t.Errorf("%s skips the second step", path)
		}
		got.FormTo(t, "/factor")
	}
	next := testfactor.Code(t, secret, time.Now().Add(30*time.Second))
	p = b.SubmitTo(t, p, "/factor", "code", next[:3]+" "+next[3:])
	answer := s.consented(b, p)
	claims := claimsOf(t, s.redeem(200, answer.Get("code")))
	if fmt.Sprint(claims["amr"]) != "[pwd otp mfa]" || claims["acr"] != "urn:keyraft:acr:2fa" {
		t.Errorf("amr %v, acr %v", claims["amr"], claims["acr"])
	}
	onAccount(t, b.Open(t, "/account"))

	other := s.browser() // a recovery code stands in for the app, once
	p = other.Submit(t, other.Open(t, authorizePath()), "username", "alice", "password", phrase)
	other.SubmitTo(t, p, "/factor", "code", next).FormTo(t, "/factor")
	s.consented(other, other.SubmitTo(t, p, "/factor", "code", strings.ToLower(codes[0])))
	third := s.browser()
	p = third.Submit(t, third.Open(t, authorizePath()), "username", "alice", "password", phrase)
	third.SubmitTo(t, p, "/factor", "code", codes[0]).FormTo(t, "/factor")
	if cancelled := away(t, third.SubmitTo(t, p, "/factor", "cancel", "yes")); cancelled.Get("error") != "access_denied" {
		t.Errorf("cancelled: %v", cancelled)
	}
}

// TestWEB07TheSecondStepLocks: wrong codes lock the second step, over everything that was
// begun, and a right password opens it no sooner.
func TestWEB07TheSecondStepLocks(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	secret, _, codes := s.enrol()
	b := s.browser()
	p := b.Submit(t, b.Open(t, authorizePath()), "username", "alice", "password", phrase)
	for range 10 {
		p = b.SubmitTo(t, p, "/factor", "code", "000000")
	}
	b = s.browser()
	p = b.Submit(t, b.Open(t, authorizePath()), "username", "alice", "password", phrase)
	for _, right := range []string{testfactor.Code(t, secret, time.Now().Add(30*time.Second)), codes[0]} {
		b.SubmitTo(t, p, "/factor", "code", right).FormTo(t, "/factor")
	}
	onAccount(t, s.Open(t, "/account")) // who is signed in stays so
	made := s.call("GET", "/admin/v1/users?username=alice", "Bearer "+s.node.admin(), "", "", 200)
	id := made["items"].([]any)[0].(map[string]any)["id"].(string)
	s.call("DELETE", "/admin/v1/users/"+id+"/lockout", "Bearer "+s.node.admin(), "", "", 204)
	s.consented(b, b.SubmitTo(t, p, "/factor", "code", codes[0]))
}

// TestStepUp is RFC 9470: a client that asks for two factors gets them, also of a user who
// has none yet, by the way of setting one up; the session is the same one.
func TestStepUp(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const two = "urn:keyraft:acr:2fa"
	first := claimsOf(t, s.redeem(200, s.consented(s.Browser, s.signIn(s.Open(t, authorizePath()))).Get("code")))
	if fmt.Sprint(first["amr"]) != "[pwd]" || first["acr"] != "urn:keyraft:acr:1fa" {
		t.Errorf("amr %v, acr %v", first["amr"], first["acr"])
	}
	old := s.Cookies["keyraft-session"]
	if got := away(t, s.Open(t, authorizePath("acr_values", two, "prompt", "none"))); got.Get("error") != "interaction_required" {
		t.Errorf("prompt=none: %v", got)
	}
	p := s.Open(t, authorizePath("acr_values", two))
	secret := secretOf(t, p)
	other := s.browser() // of one who knows the password, and waits
	theirs := other.Submit(t, other.Open(t, authorizePath("acr_values", two)), "username", "alice", "password", phrase)
	theirSecret := secretOf(t, theirs)
	p = s.SubmitTo(t, p, "/factor/setup", "code", "x")
	if secretOf(t, p) != secret {
		t.Error("a wrong first code makes another secret")
	}
	up := claimsOf(t, s.redeem(200, away(t, s.SubmitTo(t, p, "/factor/setup", "code", testfactor.Code(t, secret, time.Now()))).Get("code")))
	if fmt.Sprint(up["amr"]) != "[pwd otp mfa]" || up["acr"] != two || up["sid"] != first["sid"] {
		t.Errorf("amr %v, acr %v, the session is the same: %v", up["amr"], up["acr"], up["sid"] == first["sid"])
	}
	late := other.SubmitTo(t, theirs, "/factor/setup", "code", testfactor.Code(t, theirSecret, time.Now()))
	if late.FormTo(t, "/factor"); other.Cookies["keyraft-session"] != "" {
		t.Error("a second factor was replaced with a password alone (WEB-09)")
	}
	other.SubmitTo(t, late, "/factor", "code", testfactor.Code(t, theirSecret, time.Now().Add(30*time.Second))).FormTo(t, "/factor")
	if s.Cookies["keyraft-session"] == old {
		t.Error("the cookie of before the step up is good after it (WEB-04)")
	}
	again := claimsOf(t, s.redeem(200, away(t, s.Open(t, authorizePath("acr_values", two, "prompt", "none"))).Get("code")))
	if again["acr"] != two {
		t.Errorf("a second visit: %v", again["acr"])
	}
	s.Cookies["keyraft-session"] = old
	s.Open(t, authorizePath()).FormTo(t, "/login")
}

// TestPasskeys: one is added, signs in alone as two factors, is the second of two, and is
// taken away. An answer is good once (WEB-08).
func TestPasskeys(t *testing.T) {
	t.Parallel()
	s := newSite(t, namedIssuer)
	key := &testfactor.Authenticator{Origin: namedIssuer}
	onAccount(t, s.account(s.Browser))
	p := s.Open(t, "/account/passkey")
	form := p.FormTo(t, "/account/passkey")
	evil := &testfactor.Authenticator{Origin: "https://evil.example"}
	if p := s.SubmitTo(t, p, "/account/passkey", "answer", evil.Create(t, form.Data["options"])); !strings.Contains(p.Text, `role="alert" id="wrong"`) {
		t.Errorf("a passkey of another origin: %s", p.Text)
	}
	p = onAccount(t, s.SubmitTo(t, p, "/account/passkey", "answer", key.Create(t, form.Data["options"]), "name", "my <b>phone"))
	if !strings.Contains(p.Text, "my &lt;b&gt;phone") {
		t.Errorf("the account lacks it: %s", p.Text)
	}

	b := s.browser()
	p = b.Open(t, authorizePath())
	if strings.Contains(p.Text, "allowCredentials") {
		t.Error("the login page tells of passkeys (WEB-12)")
	}
	login := p.FormTo(t, "/passkey")
	answer := key.Get(t, login.Data["options"])
	if got := s.browser().SubmitTo(t, p, "/passkey", "answer", answer); got.Away != nil || got.Status != 400 {
		t.Errorf("another browser shows it: %d", got.Status)
	}
	claims := claimsOf(t, s.redeem(200, s.consented(b, b.SubmitTo(t, p, "/passkey", "answer", answer)).Get("code")))
	if fmt.Sprint(claims["amr"]) != "[pop mfa]" || claims["acr"] != "urn:keyraft:acr:2fa" {
		t.Errorf("amr %v, acr %v", claims["amr"], claims["acr"])
	}
	b.SubmitTo(t, b.Open(t, "/account"), "/account/sessions", "others", "yes")
	delete(b.Cookies, "__Host-keyraft-session")
	if again := b.SubmitTo(t, p, "/passkey", "answer", answer); again.Away != nil || !strings.Contains(again.Text, `role="alert" id="wrong"`) {
		t.Errorf("the same answer once more: %s", again.Text)
	}

	p = b.Submit(t, b.Open(t, authorizePath()), "username", "alice", "password", phrase)
	second := p.FormTo(t, "/factor")
	if second.Values.Has("code") {
		t.Error("a code is asked for, and there is none")
	}
	var asked *testbrowser.Form
	for i := range p.Forms {
		if p.Forms[i].Data["options"] != "" {
			asked = &p.Forms[i]
		}
	}
	if asked == nil {
		t.Fatalf("no passkey is asked for: %s", p.Text)
	}
	touch := func(a *testfactor.Answer) { a.Verified = false }
	p = b.SubmitTo(t, &testbrowser.Page{URL: p.URL, Forms: []testbrowser.Form{*asked}}, "/factor", "answer", key.Get(t, asked.Data["options"], touch))
	claims = claimsOf(t, s.redeem(200, away(t, p).Get("code")))
	if fmt.Sprint(claims["amr"]) != "[pwd pop mfa]" {
		t.Errorf("amr %v", claims["amr"])
	}

	remove := regexp.MustCompile(`/account/remove\?id=[A-Za-z0-9_-]+`).FindString(onAccount(t, b.Open(t, "/account")).Text)
	p = onAccount(t, b.SubmitTo(t, b.Open(t, remove), "/account/remove"))
	if strings.Contains(p.Text, "phone") {
		t.Error("it is still there")
	}
	c := s.browser()
	p = c.Open(t, authorizePath())
	if got := c.SubmitTo(t, p, "/passkey", "answer", key.Get(t, p.FormTo(t, "/passkey").Data["options"])); got.Away != nil {
		t.Error("a passkey that was removed signs in")
	}
}

// TestWEB05Sessions: a user sees their logins, and those that they end are ended.
func TestWEB05Sessions(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b, c := s.browser(), s.browser()
	for _, one := range []*testbrowser.Browser{s.Browser, b, c} {
		onAccount(t, s.account(one))
	}
	p := s.Open(t, "/account")
	ends := slices.DeleteFunc(slices.Clone(p.FormTo(t, "/account/sessions").Buttons), func(b string) bool { return !strings.HasPrefix(b, "end=") })
	if len(ends) != 3 {
		t.Fatalf("%d sessions are listed", len(ends))
	}
	refresh, _ := s.redeem(200, s.consented(b, b.Open(t, authorizePath())).Get("code"))["refresh_token"].(string)
	onAccount(t, s.SubmitTo(t, p, "/account/sessions", "others", "yes"))
	for _, one := range []*testbrowser.Browser{b, c} {
		one.Open(t, "/account").FormTo(t, "/login")
	}
	if s.token(400, "grant_type", "refresh_token", "refresh_token", refresh)["error"] != "invalid_grant" {
		t.Error("a refresh token outlives its session (TOK-30)")
	}
	// Nobody ends another user's.
	s.admin("users", map[string]any{"username": "bob", "password": phrase})
	bobs := b.Submit(t, b.Open(t, "/account"), "username", "bob", "password", phrase)
	mine := slices.IndexFunc(s.Open(t, "/account").FormTo(t, "/account/sessions").Buttons, func(b string) bool { return strings.HasPrefix(b, "end=") })
	sid := strings.TrimPrefix(s.Open(t, "/account").FormTo(t, "/account/sessions").Buttons[mine], "end=")
	onAccount(t, b.SubmitTo(t, bobs, "/account/sessions", "end", sid))
	p = onAccount(t, s.Open(t, "/account"))
	out := s.SubmitTo(t, p, "/account/sessions", "end", sid)
	if s.Cookies["keyraft-session"] != "" || !strings.Contains(out.Text, "signed out") {
		t.Errorf("ending one's own: %s", out.Text)
	}
}

// TestForgetAConsentAtTheAccount is TOK-30: what was taken back, the client has no more.
func TestForgetAConsentAtTheAccount(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	got := s.redeem(200, s.consented(s.Browser, s.signIn(s.Open(t, authorizePath()))).Get("code"))
	p := s.Open(t, "/account")
	if !strings.Contains(p.Text, "Shop &lt;b&gt;") {
		t.Fatalf("the consent is not listed: %s", p.Text)
	}
	onAccount(t, s.SubmitTo(t, p, "/account/consents", "client", "web"))
	if s.token(400, "grant_type", "refresh_token", "refresh_token", got["refresh_token"].(string))["error"] != "invalid_grant" {
		t.Error("the refresh token is good")
	}
	active := s.call("POST", "/oauth2/introspect", basicAuth("web", s.secret), "application/x-www-form-urlencoded", "token="+got["access_token"].(string), 200)
	if active["active"] != false {
		t.Error("the access token is active")
	}
	s.Open(t, authorizePath()).FormTo(t, "/consent")
}

// TestWEB05ChangePassword ends every login but that of the browser that changed it.
func TestWEB05ChangePassword(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.browser()
	onAccount(t, s.account(b))
	onAccount(t, s.account(s.Browser))
	const next = "another phrase of mine"
	p := s.Open(t, "/account/password")
	for why, pairs := range map[string][]string{
		"a wrong one": {"current", "wrong", "new", next, "again", next}, "two that differ": {"current", phrase, "new", next, "again", next + "x"},
		"a weak one": {"current", phrase, "new", "short", "again", "short"}, "none": {"current", phrase}, "the user's name": {"current", phrase, "new", "alice", "again", "alice"},
	} {
		if got := s.SubmitTo(t, p, "/account/password", pairs...); !strings.Contains(got.Text, `role="alert"`) {
			t.Errorf("%s: %s", why, got.Text)
		}
	}
	old := s.Cookies["keyraft-session"]
	onAccount(t, s.SubmitTo(t, p, "/account/password", "current", phrase, "new", next, "again", next))
	b.Open(t, "/account").FormTo(t, "/login")
	now := s.Cookies["keyraft-session"]
	s.Cookies["keyraft-session"] = old
	s.Open(t, "/account").FormTo(t, "/login")
	s.Cookies["keyraft-session"] = now
	onAccount(t, s.Open(t, "/account"))
	b.Submit(t, b.Open(t, "/account"), "username", "alice", "password", phrase).FormTo(t, "/login")
	onAccount(t, b.Submit(t, b.Open(t, "/account"), "username", "alice", "password", next))
}

// TestWEB01AccountForms: a form without this login's token at this browser does nothing.
func TestWEB01AccountForms(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.enrol()
	p := onAccount(t, s.Open(t, "/account"))
	token := p.FormTo(t, "/account/sessions").Values.Get("token")
	remove := regexp.MustCompile(`/account/remove\?id=([A-Za-z0-9_-]+)`).FindStringSubmatch(p.Text)[1]
	s.admin("users", map[string]any{"username": "bob", "password": phrase})
	b := s.browser()
	bobs := onAccount(t, b.Submit(t, b.Open(t, "/account"), "username", "bob", "password", phrase)).FormTo(t, "/account/sessions").Values.Get("token")
	if token == "" || token == bobs {
		t.Fatal("two logins have one token")
	}
	for path, form := range map[string]url.Values{
		"/account/sessions": {"others": {"yes"}}, "/account/consents": {"client": {"web"}}, "/account/remove": {"id": {remove}}, "/account/recovery": {},
		"/account/password":      {"current": {phrase}, "new": {"another phrase of mine"}, "again": {"another phrase of mine"}},
		"/account/authenticator": {"code": {"000000"}, "enrolment": {"x"}}, "/account/passkey": {"answer": {"{}"}},
	} {
		for why, forged := range map[string]string{"none": "", "another login's": bobs, "a changed one": token[1:] + "A"} {
			form.Set("token", forged)
			got := s.SubmitTo(t, &testbrowser.Page{URL: p.URL, Forms: []testbrowser.Form{{Action: path, Method: "post", Values: form}}}, path)
			if got.Status != 403 {
				t.Errorf("POST %s with a token that is %s: %d", path, why, got.Status)
			}
		}
		form.Set("token", token)
		if got := s.Post(t, path, form); got.Status != 403 {
			t.Errorf("POST %s by another site: %d", path, got.Status)
		}
	}
	if p := onAccount(t, s.Open(t, "/account")); !strings.Contains(p.Text, remove) {
		t.Error("a forged form has removed the second factor")
	}
	if p := s.Open(t, "/account?done=yes"); p.Header.Get("Cache-Control") != "no-store" { // WEB-13
		t.Error("the account is kept by caches")
	}
}

// aged gives a browser a session of alice whose last proof is so old.
func (s *site) aged(b *testbrowser.Browser, age time.Duration, amr ...string) {
	s.t.Helper()
	view := s.node.rooms.server.node.FSM().View()
	user, err := view.UserByName("default", "alice")
	if err != nil {
		s.t.Fatal(err)
	}
	secret := []byte(rand.Text())
	hashes, err := s.node.rooms.shared.Hashes(view, secret)
	if err != nil {
		s.t.Fatal(err)
	}
	row := &state.Session{
		Tenant: "default", Id: rand.Text(), User: user.GetId(), Secret: hashes[0][:], AuthTime: time.Now().Add(-age).Unix(), Amr: amr, ExpiresAt: time.Now().Add(time.Hour).Unix(),
	}
	result, err := s.node.rooms.server.propose(s.t.Context(), &command.PutSession{Session: row, UserGeneration: user.GetGeneration()})
	if err := errors.Join(err, result.Err()); err != nil {
		s.t.Fatal(err)
	}
	plain, err := json.Marshal(map[string]any{"t": "default", "i": row.GetId(), "s": secret, "u": time.Now().Unix()})
	if err != nil {
		s.t.Fatal(err)
	}
	cookie, err := tokens.NewBoxes(s.node.rooms.shared, tokens.KeyCode).Seal(view, "session cookie", plain)
	if err != nil {
		s.t.Fatal(err)
	}
	b.Cookies["keyraft-session"] = cookie
}

// TestAUT13TheAccountWantsARecentProof for all that changes how its user signs in, to see
// it and to send it: the second factor of who has one, however fresh the password is.
func TestAUT13TheAccountWantsARecentProof(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	changes := []string{"/account/authenticator", "/account/passkey", "/account/recovery", "/account/remove", "/account/password"}
	wants := func(b *testbrowser.Browser, form string) {
		t.Helper()
		token := onAccount(t, b.Open(t, "/account")).FormTo(t, "/account/sessions").Values
		for _, path := range changes {
			b.Open(t, path).FormTo(t, form)
			sent := &testbrowser.Page{URL: &url.URL{}, Forms: []testbrowser.Form{{Action: path, Method: "post", Values: token}}}
			b.SubmitTo(t, sent, path, "new", "another phrase of mine", "again", "another phrase of mine", "current", phrase, "id", "x").FormTo(t, form)
		}
	}
	b := s.browser()
	s.aged(b, 20*time.Minute, "pwd")
	wants(b, "/login")
	s.enrol()
	b = s.browser()
	s.aged(b, 20*time.Minute, "pwd", "otp", "mfa")
	wants(b, "/factor")
	c := s.browser()
	s.aged(c, time.Second, "pwd")
	for _, path := range append(changes, "/account") {
		c.Open(t, path).FormTo(t, "/factor")
	}
	c = s.browser() // the password in place of the second factor
	c.Submit(t, c.Open(t, "/account/password"), "username", "alice", "password", phrase).FormTo(t, "/factor")
}

// acme makes a further tenant, with a user alice of its own.
func (s *site) acme() {
	s.t.Helper()
	result, err := s.node.rooms.server.propose(s.t.Context(), &command.PutTenant{Tenant: &state.Tenant{Id: "acme", DisplayName: "ACME"}})
	if err := errors.Join(err, result.Err()); err != nil {
		s.t.Fatal(err)
	}
	s.call("POST", "/t/acme/admin/v1/users", "Bearer "+s.node.admin(), "application/json", `{"username":"alice","password":"`+phrase+`"}`, 201)
}

// acmeAccount is its account page, once the tenant has its keys.
func (s *site) acmeAccount() *testbrowser.Page {
	s.t.Helper()
	p := s.Open(s.t, "/t/acme/account")
	for deadline := time.Now().Add(20 * time.Second); p.Status == 503 && time.Now().Before(deadline); p = s.Open(s.t, "/t/acme/account") {
		<-time.After(200 * time.Millisecond) // they are made yet
	}
	return p
}

// TestAccountOfATenant: its pages stay below its issuer, and a login there is none here.
func TestAccountOfATenant(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.acme()
	p := s.acmeAccount()
	p = s.SubmitTo(t, p, "/t/acme/login", "username", "alice", "password", phrase)
	if p.URL.Path != "/t/acme/account" {
		t.Fatalf("%d at %s: %s", p.Status, p.URL, p.Text)
	}
	p.FormTo(t, "/t/acme/account/sessions")
	s.Open(t, "/account").FormTo(t, "/login")
	secretOf(t, s.Open(t, "/t/acme/account/authenticator"))
}

// TestWEB09NoStepByItsForm: the form of a step does nothing where another step is due: a
// fresh login is not had by the second factor alone (AUT-13), nor is a first factor set up
// by a login of long ago.
func TestWEB09NoStepByItsForm(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	old := s.browser()
	s.aged(old, 20*time.Minute, "pwd")
	step := func(b *testbrowser.Browser, p *testbrowser.Page, path string, pairs ...string) *testbrowser.Page {
		t.Helper()
		flow := url.Values{"flow": p.FormTo(t, "/login").Values["flow"]}
		return b.SubmitTo(t, &testbrowser.Page{URL: p.URL, Forms: []testbrowser.Form{{Action: path, Method: "post", Values: flow}}}, path, pairs...)
	}
	p := old.Open(t, authorizePath("acr_values", "urn:keyraft:acr:2fa"))
	step(old, p, "/factor/setup", "enrolment", "x", "code", "000000").FormTo(t, "/login")
	step(old, p, "/factor", "code", "000000").FormTo(t, "/login")

	_, _, codes := s.enrol()
	p = s.Open(t, authorizePath("prompt", "login"))
	step(s.Browser, p, "/factor", "code", codes[0]).FormTo(t, "/login")
	if p = s.signIn(p); p.Away != nil {
		t.Fatal("a password alone is enough")
	}
	s.consented(s.Browser, s.SubmitTo(t, p, "/factor", "code", codes[0])) // it was not used up
}

// TestWEB09ADeviceNeedsBothFactors of a user who has two, whether they sign in for it or are
// signed in by a password alone from before; its tokens tell of both.
func TestWEB09ADeviceNeedsBothFactors(t *testing.T) {
	t.Parallel()
	s := newParlour(t)
	_, _, codes := s.enrol()
	for i, b := range []*testbrowser.Browser{s.browser(), s.browser()} {
		device, code, _ := s.begin()
		p := b.Open(t, "/device")
		if i == 0 {
			p = b.Submit(t, b.Submit(t, p, "user_code", code), "username", "alice", "password", phrase)
		} else {
			s.aged(b, time.Minute, "pwd")
			p = b.Submit(t, p, "user_code", code)
		}
		skip := testbrowser.Form{Action: "/device", Method: "post", Values: url.Values{"flow": p.FormTo(t, "/factor").Values["flow"]}}
		if got := b.SubmitTo(t, &testbrowser.Page{URL: p.URL, Forms: []testbrowser.Form{skip}}, "/device", "decision", "allow"); strings.Contains(got.Text, "Access allowed") {
			t.Error("a device is allowed in place of the second step")
		}
		ask := b.SubmitTo(t, p, "/factor", "code", codes[i])
		shown(t, b.Submit(t, ask, "decision", "allow"), "Access allowed")
		if claims := claimsOf(t, s.poll(device, 200)); fmt.Sprint(claims["amr"]) != "[pwd otp mfa]" {
			t.Errorf("amr %v", claims["amr"])
		}
	}
}
