// Package gorp lets the relying parties that Go programs are made of work against a
// running server: golang.org/x/oauth2 with coreos/go-oidc, and zitadel/oidc. It is a module
// of its own, so that none of them is linked into Keyraft. KEYRAFT_ADDR and KEYRAFT_TOKEN
// say where the server is, as for the command line; make interop starts one.
package gorp

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
)

const (
	redirect = "https://app.example/cb"
	bye      = "https://app.example/bye"
)

// address is where the server is.
func address(t *testing.T) string {
	t.Helper()
	at := os.Getenv("KEYRAFT_ADDR")
	if at == "" || os.Getenv("KEYRAFT_TOKEN") == "" {
		t.Fatal("KEYRAFT_ADDR and KEYRAFT_TOKEN are not set: start a server (make run prints both), or run make interop")
	}
	return at
}

// admin calls the admin API and decodes its answer.
func admin(t *testing.T, method, path string, body, into any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, address(t)+"/admin/v1"+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+os.Getenv("KEYRAFT_TOKEN"))
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, answer, err)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		t.Fatal(err)
	}
}

type user struct {
	ID       string `json:"id"`
	Username string `json:"username"`
	Password string `json:"-"`
}

func newUser(t *testing.T) user {
	t.Helper()
	u := user{Password: rand.Text()}
	name := "user-" + strings.ToLower(rand.Text())
	admin(t, http.MethodPost, "/users", map[string]any{
		"username": name, "password": u.Password, "email": name + "@example.com", "email_verified": true, "name": "Ada Lovelace",
	}, &u)
	return u
}

type client struct {
	ID     string `json:"client_id"`
	Secret string `json:"client_secret"`
}

// newClient makes a client for logins; members change it.
func newClient(t *testing.T, members map[string]any) (c client) {
	t.Helper()
	body := map[string]any{
		"client_id": "client-" + strings.ToLower(rand.Text()), "redirect_uris": []string{redirect}, "post_logout_redirect_uris": []string{bye},
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"}, "scope": "openid profile email offline_access",
	}
	for name, value := range members {
		body[name] = value
	}
	admin(t, http.MethodPost, "/clients", body, &c)
	return c
}

// browser is one without script.
type browser struct {
	t    *testing.T
	http *http.Client
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

var (
	action = regexp.MustCompile(`<form [^>]*action="([^"]*)"`)
	hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)
)

// signIn opens a URL, fills in whatever pages come, and gives the parameters of the first
// URL outside of the server; nil where the last page is one of the server's, at which
// there is nothing to send any more.
func (b *browser) signIn(at string, u user) url.Values {
	b.t.Helper()
	server := address(b.t)
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, at, nil)
	typed, decided := "", false
	for range 12 {
		if err != nil {
			b.t.Fatal(err)
		}
		if !strings.HasPrefix(req.URL.String(), server+"/") {
			return req.URL.Query()
		}
		page, next := b.send(req)
		if next != nil {
			req, err = http.NewRequestWithContext(b.t.Context(), http.MethodGet, next.String(), nil)
			continue
		}
		to := action.FindStringSubmatch(page)
		if to == nil && decided {
			return nil
		}
		if to == nil {
			b.t.Fatalf("%s is no page with a form: %s", req.URL.Path, page)
		}
		if code := req.URL.Query().Get("user_code"); code != "" {
			typed = code
		}
		decided = strings.Contains(page, `name="decision"`)
		form := url.Values{"username": {u.Username}, "password": {u.Password}, "decision": {"allow"}, "user_code": {typed}}
		for _, m := range hidden.FindAllStringSubmatch(page, -1) {
			form.Set(html.UnescapeString(m[1]), html.UnescapeString(m[2]))
		}
		req, err = http.NewRequestWithContext(b.t.Context(), http.MethodPost, server+html.UnescapeString(to[1]), strings.NewReader(form.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Origin", server)
		}
	}
	b.t.Fatal("the login came to no end")
	return nil
}

// send gives the page, or where the browser is sent.
func (b *browser) send(req *http.Request) (string, *url.URL) {
	b.t.Helper()
	resp, err := b.http.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if next, err := resp.Location(); err == nil {
		return "", next
	}
	return string(text), nil
}
