package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/testbrowser"
)

const (
	callback = "https://app.example/cb"
	verifier = "a-verifier-of-forty-three-characters-or-more-0123456789"
	phrase   = "a long phrase of mine"
)

// authorizePath is a good request of the client app, with the changes of pairs; an empty
// value takes one away.
func authorizePath(pairs ...string) string {
	return "/oauth2/authorize?" + authorizeForm(pairs...).Encode()
}

func authorizeForm(pairs ...string) url.Values {
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"client_id": {"web"}, "redirect_uri": {callback}, "response_type": {"code"}, "scope": {"openid profile"}, "state": {"s&t"},
		"nonce": {"n1"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	for i := 0; i < len(pairs); i += 2 {
		q.Del(pairs[i])
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

// site is a server with a user and the client web.
type site struct {
	t      *testing.T
	node   *live
	issuer string
	secret string
	*testbrowser.Browser
}

// browser is another one.
func (s *site) browser() *testbrowser.Browser {
	return testbrowser.New(http.DefaultClient, s.issuer, func() string { return s.node.url })
}

// newSite starts a server; issuer is where it believes to be, if not at its address.
func newSite(t *testing.T, issuer ...string) *site {
	t.Helper()
	settings := map[string]string{"dev": "true"}
	if len(issuer) > 0 {
		settings["issuer"] = issuer[0]
	}
	node := startLive(t, settings)
	s := &site{t: t, node: node, issuer: node.url}
	if len(issuer) > 0 {
		s.issuer = issuer[0]
	}
	s.Browser = s.browser()
	s.admin("users", map[string]any{"username": "alice", "password": phrase, "name": "Alice"})
	made := s.admin("clients", map[string]any{
		"client_id": "web", "client_name": "Shop <b>", "grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
		"redirect_uris": []string{callback}, "post_logout_redirect_uris": []string{"https://app.example/bye"}, "scope": "openid profile offline_access read",
	})
	s.secret, _ = made["client_secret"].(string)
	return s
}

func (s *site) admin(path string, body map[string]any) map[string]any {
	s.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.call("POST", "/admin/v1/"+path, "Bearer "+s.node.admin(), "application/json", string(text), 201)
}

// token asks the token endpoint as the client web.
func (s *site) token(status int, pairs ...string) map[string]any {
	s.t.Helper()
	f := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		f.Set(pairs[i], pairs[i+1])
	}
	return s.call("POST", "/oauth2/token", basicAuth("web", s.secret), "application/x-www-form-urlencoded", f.Encode(), status)
}

func (s *site) redeem(status int, code string) map[string]any {
	s.t.Helper()
	return s.token(status, "grant_type", "authorization_code", "code", code, "redirect_uri", callback, "code_verifier", verifier)
}

func (s *site) call(method, path, auth, media, body string, status int) map[string]any {
	s.t.Helper()
	got, text := s.ask(method, path, auth, media, body)
	// A node that has just started makes its keys yet, and asks to come again.
	for deadline := time.Now().Add(20 * time.Second); got == http.StatusServiceUnavailable && status != got && time.Now().Before(deadline); {
		<-time.After(200 * time.Millisecond)
		got, text = s.ask(method, path, auth, media, body)
	}
	if got != status {
		s.t.Fatalf("%s %s: %d %s, want %d", method, path, got, text, status)
	}
	var out map[string]any
	_ = json.Unmarshal(text, &out) // what is no JSON has no members
	return out
}

func (s *site) ask(method, path, auth, media, body string) (int, []byte) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.node.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", auth)
	req.Header.Set("Content-Type", media)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, text
}

func (s *site) signIn(p *testbrowser.Page) *testbrowser.Page {
	s.t.Helper()
	return s.Submit(s.t, p, "username", "alice", "password", phrase)
}

// away is the answer that the client gets.
func away(t *testing.T, p *testbrowser.Page) url.Values {
	t.Helper()
	if p.Away == nil || !strings.HasPrefix(p.Away.String(), callback) {
		t.Fatalf("%d at %s, not with the client:\n%s", p.Status, p.URL, p.Text)
	}
	return p.Away.Query()
}

// TestSignIn walks a user through login and consent by a browser without script, and
// their client to its tokens; a second visit asks nothing.
func TestSignIn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.Open(t, authorizePath())
	if p.Status != 200 || !strings.Contains(p.Text, "Shop &lt;b&gt;") {
		t.Fatalf("%d %s", p.Status, p.Text)
	}
	wrong := s.Submit(t, p, "username", "alice", "password", "wrong")
	if wrong.Away != nil || !strings.Contains(wrong.Text, `role="alert"`) {
		t.Fatalf("a wrong password: %d %s", wrong.Status, wrong.Text)
	}
	p = s.signIn(wrong)
	if !strings.Contains(p.Text, "Your name and profile") {
		t.Fatalf("no consent page: %s", p.Text)
	}
	answer := away(t, s.Submit(t, p, "decision", "allow"))
	if answer.Get("state") != "s&t" || answer.Get("iss") != s.node.url {
		t.Errorf("state and iss of %v (AUT-09, AUT-11)", answer)
	}
	got := s.redeem(200, answer.Get("code"))
	if got["id_token"] == nil || got["refresh_token"] == nil {
		t.Errorf("the tokens are %v", got)
	}
	info := s.call("GET", "/oauth2/userinfo", "Bearer "+got["access_token"].(string), "", "", 200)
	if info["name"] != "Alice" {
		t.Errorf("userinfo %v", info)
	}
	s.redeem(400, answer.Get("code"))
	again := away(t, s.Open(t, authorizePath("prompt", "none")))
	refresh, _ := s.redeem(200, again.Get("code"))["refresh_token"].(string)

	denied := s.Open(t, authorizePath("scope", "openid read"))
	if got := away(t, s.Submit(t, denied, "decision", "deny")); got.Get("error") != "access_denied" || got.Get("code") != "" {
		t.Errorf("denied: %v", got)
	}
	fresh := s.Open(t, authorizePath("prompt", "login"))
	if len(fresh.Forms) == 0 || !strings.HasSuffix(fresh.Forms[0].Action, "/login") {
		t.Fatalf("prompt=login shows %s", fresh.Text)
	}
	old := s.Cookies["keyraft-session"]
	away(t, s.signIn(fresh))
	if s.Cookies["keyraft-session"] == old {
		t.Error("the cookie of before the login is good after it (WEB-04)")
	}
	if s.token(200, "grant_type", "refresh_token", "refresh_token", refresh)["access_token"] == nil {
		t.Error("a fresh login has ended what lives by the session")
	}
}

// TestFormsOfOtherSites is WEB-01 and OpenID Connect Core §3.1.2.1: a client may send its
// user by a form, with whom the user is signed in as; nobody else's form does anything.
func TestFormsOfOtherSites(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	login := s.Open(t, authorizePath())
	p := s.Post(t, "/login", url.Values{"flow": login.Forms[0].Values["flow"], "username": {"alice"}, "password": {phrase}})
	if p.Status != 403 || p.Away != nil {
		t.Errorf("a login form of another site: %d", p.Status)
	}
	away(t, s.Submit(t, s.signIn(login), "decision", "allow"))
	s.redeem(200, away(t, s.Post(t, "/oauth2/authorize", authorizeForm())).Get("code"))
	stranger := testbrowser.New(http.DefaultClient, s.node.url, func() string { return s.node.url })
	if p := stranger.Submit(t, login, "username", "alice", "password", phrase); p.Away != nil || p.Status != 400 {
		t.Errorf("another browser goes on with the login: %d (AUT-16)", p.Status)
	}
}

// TestSignOut is AUT-29: a link of another site's making asks; the client's own, with an
// ID token of this login, does not.
func TestSignOut(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.redeem(200, away(t, s.Submit(t, s.signIn(s.Open(t, authorizePath())), "decision", "allow")).Get("code"))
	p := s.Open(t, "/oauth2/logout")
	if len(p.Forms) == 0 || s.Cookies["keyraft-session"] == "" {
		t.Fatalf("nobody was asked: %s", p.Text)
	}
	if p := s.Post(t, "/oauth2/logout", url.Values{"confirm": {"yes"}, "browser": p.Forms[0].Values["browser"]}); s.Cookies["keyraft-session"] == "" {
		t.Fatalf("a form of another site signs out: %s", p.Text)
	}
	s.Submit(t, s.Open(t, "/oauth2/logout"))
	if s.Cookies["keyraft-session"] != "" || s.Open(t, authorizePath()).Away != nil {
		t.Fatal("signed in after signing out")
	}
	if s.token(400, "grant_type", "refresh_token", "refresh_token", first["refresh_token"].(string))["error"] != "invalid_grant" {
		t.Error("a refresh token outlives its login")
	}
	second := s.redeem(200, away(t, s.signIn(s.Open(t, authorizePath()))).Get("code"))
	hint := second["id_token"].(string)
	for _, bad := range []url.Values{
		{"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://evil.example"}},
		{"id_token_hint": {hint[:len(hint)-4] + "AAAA"}},
		{"id_token_hint": {second["access_token"].(string)}},
		{"id_token_hint": {hint}, "client_id": {"other"}},
		{"post_logout_redirect_uri": {"https://app.example/bye"}},
	} {
		if p := s.Open(t, "/oauth2/logout?"+bad.Encode()); p.Status != 400 || p.Away != nil || s.Cookies["keyraft-session"] == "" {
			t.Errorf("%v: %d", bad, p.Status)
		}
	}
	bye := s.Post(t, "/oauth2/logout", url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://app.example/bye"}, "state": {"x y"}})
	if bye.Away == nil || bye.Away.String() != "https://app.example/bye?state=x+y" || s.Cookies["keyraft-session"] != "" {
		t.Errorf("the client's own sign-out: %d %v", bye.Status, bye.Away)
	}
	p = s.Open(t, authorizePath("id_token_hint", hint, "prompt", "none"))
	if got := away(t, p); got.Get("error") != "login_required" {
		t.Errorf("a hint for somebody who is signed out: %v", got)
	}
}

// TestPushedRequestsAtTheServer is RFC 9126 from end to end.
func TestPushedRequestsAtTheServer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	push := func(status int, f url.Values) string {
		t.Helper()
		uri, _ := s.call("POST", "/oauth2/par", basicAuth("web", s.secret), "application/x-www-form-urlencoded", f.Encode(), status)["request_uri"].(string)
		return uri
	}
	push(400, authorizeForm("redirect_uri", "https://evil.example"))
	push(400, authorizeForm("scope", "admin"))
	uri := push(201, authorizeForm())
	p := s.Open(t, "/oauth2/authorize?"+url.Values{"client_id": {"web"}, "request_uri": {uri}}.Encode())
	s.redeem(200, away(t, s.Submit(t, s.signIn(p), "decision", "allow")).Get("code"))
	if got := away(t, s.Open(t, "/oauth2/authorize?"+url.Values{"client_id": {"web"}, "request_uri": {uri}}.Encode())); got.Get("error") != "invalid_request_uri" {
		t.Errorf("a request_uri that was used: %v", got)
	}
}

// TestAnswersByForm is the Form Post Response Mode, and AUT-01: a person alone is told of
// a request whose redirect URI is not proved.
func TestAnswersByForm(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.Submit(t, s.signIn(s.Open(t, authorizePath("response_mode", "form_post"))), "decision", "allow")
	if p.Status != 200 || len(p.Forms) != 1 || p.Forms[0].Action != callback {
		t.Fatalf("%d %s", p.Status, p.Text)
	}
	s.redeem(200, p.Forms[0].Values.Get("code"))
	for _, path := range []string{
		authorizePath("redirect_uri", "https://evil.example"), authorizePath("client_id", "nobody"), authorizePath("redirect_uri", ""), "/oauth2/authorize",
	} {
		p := s.Open(t, path)
		if p.Status != 400 || p.Away != nil || !strings.Contains(p.Text, "<h1>") || strings.Contains(p.Text, "evil") {
			t.Errorf("%s: %d %v %s", path, p.Status, p.Away, p.Text)
		}
	}
	if p := s.Open(t, "/t/nobody"+authorizePath()); p.Status != 404 && p.Status != 400 {
		t.Errorf("no such tenant: %d", p.Status)
	}
	if p := s.Open(t, "/login"); p.Status != 405 || !strings.Contains(p.Text, "<h1>") {
		t.Errorf("GET /login: %d %s", p.Status, p.Text)
	}
}

// TestApplicationsAreToldOfALogout: by back channel with a token, by front channel with a
// frame, which the page alone may load.
func TestApplicationsAreToldOfALogout(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	told := make(chan url.Values, 4)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm() // what is malformed holds no token
		told <- r.PostForm
	}))
	defer app.Close()
	s.call("PATCH", "/admin/v1/clients/web", "Bearer "+s.node.admin(), "application/merge-patch+json",
		`{"backchannel_logout_uri": "`+app.URL+`/back", "frontchannel_logout_uri": "https://app.example/front?x=1"}`, 200)
	first := s.redeem(200, away(t, s.Submit(t, s.signIn(s.Open(t, authorizePath())), "decision", "allow")).Get("code"))
	hint := url.Values{"id_token_hint": {first["id_token"].(string)}, "post_logout_redirect_uri": {"https://app.example/bye"}}
	p := s.Open(t, "/oauth2/logout?"+hint.Encode())
	if p.Status != 200 || !strings.Contains(p.Text, `<iframe src="https://app.example/front?iss=`) || !strings.Contains(p.Text, `href="https://app.example/bye"`) ||
		!strings.HasSuffix(p.Header.Get("Content-Security-Policy"), "; frame-src https://app.example") {
		t.Errorf("%d %s %s", p.Status, p.Header.Get("Content-Security-Policy"), p.Text)
	}
	select {
	case form := <-told:
		if strings.Count(form.Get("logout_token"), ".") != 2 {
			t.Errorf("%v", form)
		}
	case <-time.After(20 * time.Second):
		t.Error("nobody was told by back channel")
	}
}
