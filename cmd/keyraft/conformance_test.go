package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"html"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keyraft/keyraft/internal/testbrowser"
)

// The tests of conformance_*_test.go do what the modules of the OpenID Foundation's plans
// do, and hold the answers to what those hold them to (docs/conformance.md names them).

// party is a relying party: a client with an address of its own, at which it publishes
// documents and is called.
type party struct {
	*site
	*desk
	id, secret, redirect string
}

// desk is the party's own server.
type desk struct {
	at     *httptest.Server
	mu     sync.Mutex
	serves map[string]string // by path
	calls  []*http.Request   // with their form read
}

// newParty makes the site of a party: a tenant that serves all response types, and a user
// of whom everything is known.
func newParty(t *testing.T) *party {
	t.Helper()
	p := &party{site: newSite(t), desk: &desk{serves: map[string]string{}}}
	p.at = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.at.Close)
	p.redirect = p.at.URL + "/callback"
	p.call("PATCH", "/admin/v1/tenants/default", "Bearer "+p.node.admin(), "application/json",
		`{"grant_types":["authorization_code","refresh_token","client_credentials","implicit"]}`, 200)
	p.admin("users", map[string]any{
		"username": "bob", "password": phrase, "name": "Bob Builder", "given_name": "Bob", "family_name": "Builder", "locale": "en-GB",
		"email": "bob@example.com", "email_verified": true, "phone_number": "+44 20 7946 0000", "phone_number_verified": true,
		"claims": map[string]any{
			"middle_name": "B", "nickname": "bobby", "profile": "https://bob.example/", "picture": "https://bob.example/b.png", "website": "https://bob.example/",
			"gender": "male", "birthdate": "1980-12-31", "zoneinfo": "Europe/London",
			"address": map[string]any{"formatted": "1 High Street\nLondon", "street_address": "1 High Street", "locality": "London", "postal_code": "N1", "country": "GB"},
		},
	})
	return p
}

func (p *desk) serve(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, r)
	body, ok := p.serves[r.URL.Path]
	if !ok {
		w.WriteHeader(http.StatusOK)
		return
	}
	media := "application/json"
	if strings.HasPrefix(r.URL.Path, "/requesturi/") {
		media = "application/jose"
	}
	w.Header().Set("Content-Type", media)
	_, _ = w.Write([]byte(body))
}

func (p *desk) publish(path, body string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serves[path] = body
}

// called are the requests that came to a path.
func (p *desk) called(path string) (all []*http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.calls {
		if r.URL.Path == path {
			all = append(all, r)
		}
	}
	return all
}

// static makes the party a client of the operator's.
func (p *party) static(change map[string]any) {
	p.t.Helper()
	members := map[string]any{
		"client_name": "Party", "grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
		"redirect_uris": []string{p.redirect}, "scope": "openid profile email address phone offline_access",
	}
	maps.Copy(members, change)
	made := p.admin("clients", members)
	p.id, _ = made["client_id"].(string)
	p.secret, _ = made["client_secret"].(string)
}

// request is an authorization request of the party, as the plans make it: without PKCE.
func (p *party) request(pairs ...string) url.Values {
	q := url.Values{
		"client_id": {p.id}, "redirect_uri": {p.redirect}, "response_type": {"code"}, "scope": {"openid"},
		"state": {rand.Text()}, "nonce": {rand.Text()},
	}
	for i := 0; i < len(pairs); i += 2 {
		q.Del(pairs[i])
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

// page opens a request in the party's browser.
func (p *party) page(q url.Values) *testbrowser.Page {
	p.t.Helper()
	return p.Open(p.t, "/oauth2/authorize?"+q.Encode())
}

// consented goes through the pages, as far as there are any, until the party is answered.
func (p *party) consented(page *testbrowser.Page) *testbrowser.Page {
	p.t.Helper()
	for range 3 {
		if page.Away != nil || len(page.Forms) == 0 || page.Forms[0].Action == p.redirect {
			break
		}
		if strings.HasSuffix(page.Forms[0].Action, "/login") {
			page = p.Submit(p.t, page, "username", "bob", "password", phrase)
		} else {
			page = p.Submit(p.t, page, "decision", "allow")
		}
	}
	return page
}

// answer is what the party is told, and how: by query, fragment or form_post.
func (p *party) answer(page *testbrowser.Page) (said url.Values, mode string) {
	p.t.Helper()
	switch {
	case page.Away == nil && len(page.Forms) == 1 && page.Forms[0].Action == p.redirect:
		return page.Forms[0].Values, "form_post"
	case page.Away == nil && onward(page) != nil: // the person at the browser goes on (AUT-17)
		page.Away = onward(page)
	}
	switch {
	case page.Away == nil || !strings.HasPrefix(page.Away.String(), p.redirect):
		p.t.Fatalf("%d at %s, not with the party:\n%s", page.Status, page.URL, page.Text)
	}
	if page.Away.Fragment == "" {
		return page.Away.Query(), "query"
	}
	said, err := url.ParseQuery(page.Away.EscapedFragment())
	if err != nil || page.Away.Query().Has("code") || page.Away.Query().Has("error") {
		p.t.Fatalf("the answer %s: %v", page.Away, err)
	}
	return said, "fragment"
}

// onward is where the link of an error page leads to; nil for a page without one.
func onward(page *testbrowser.Page) *url.URL {
	found := regexp.MustCompile(`<a href="([^"]+)" rel="noreferrer noopener">`).FindStringSubmatch(page.Text)
	if found == nil {
		return nil
	}
	to, err := url.Parse(html.UnescapeString(found[1]))
	if err != nil {
		return nil
	}
	return to
}

// flow runs a request to its end, and holds state and iss to it.
func (p *party) flow(q url.Values) url.Values {
	p.t.Helper()
	said, _ := p.answer(p.consented(p.page(q)))
	if said.Get("error") != "" || said.Get("state") != q.Get("state") || said.Get("iss") != p.node.url {
		p.t.Fatalf("the answer to %v is %v", q, said)
	}
	return said
}

// refused is the error that the party is told.
func (p *party) refused(page *testbrowser.Page) string {
	p.t.Helper()
	said, _ := p.answer(page)
	if said.Get("code") != "" || said.Get("access_token") != "" || said.Get("id_token") != "" {
		p.t.Fatalf("a refusal with %v", said)
	}
	return said.Get("error")
}

func (p *party) tokens(status int, f url.Values) map[string]any {
	p.t.Helper()
	return p.call("POST", "/oauth2/token", basicAuth(p.id, p.secret), "application/x-www-form-urlencoded", f.Encode(), status)
}

func (p *party) code(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {p.redirect}}
}

func (p *party) userinfo(status int, token string) map[string]any {
	p.t.Helper()
	return p.call("GET", "/oauth2/userinfo", "Bearer "+token, "", "", status)
}

// claims are those of a JWT; its signature is the matter of other tests.
func claims(t *testing.T, jwt any) map[string]any {
	t.Helper()
	text, _ := jwt.(string)
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		t.Fatalf("%v is no signed JWT", jwt)
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// idToken holds an ID token to the request that it came of.
func (p *party) idToken(jwt any, q url.Values) map[string]any {
	p.t.Helper()
	c := claims(p.t, jwt)
	if c["iss"] != p.node.url || c["aud"] != p.id || c["sub"] == "" || c["nonce"] != nil && c["nonce"] != q.Get("nonce") || c["exp"] == nil || c["iat"] == nil {
		p.t.Errorf("the ID token of %v says %v", q, c)
	}
	return c
}

func missing(said map[string]any, names ...string) []string {
	return slices.DeleteFunc(names, func(n string) bool { return said[n] != nil })
}

// members are the parameters of a request, as a request object has them.
func members(q url.Values) map[string]any {
	out := map[string]any{}
	for name := range q {
		out[name] = q.Get(name)
	}
	return out
}

// jwtOf is the first two parts of a JWT.
func jwtOf(t *testing.T, header, payload map[string]any) string {
	t.Helper()
	h, err1 := json.Marshal(header)
	c, err2 := json.Marshal(payload)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(c)
}
