package main

import (
	"bufio"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/testbrowser"
)

// TestAUT06ParametersThatComeTwice: of a client or an address that is named twice nobody
// but the person is told; of anything else the client is. No value of it counts.
func TestAUT06ParametersThatComeTwice(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	away(t, s.Submit(t, s.signIn(s.Open(t, authorizePath())), "decision", "allow"))
	twice := func(name, value string) string {
		return authorizeForm().Encode() + "&" + url.Values{name: {value}}.Encode()
	}
	for name, other := range map[string]string{"redirect_uri": "https://app.example/other", "client_id": "other"} {
		for _, value := range []string{authorizeForm().Get(name), other} {
			if p := s.Open(t, "/oauth2/authorize?"+twice(name, value)); p.Status != 400 || p.Away != nil {
				t.Errorf("%s twice: %d, sent to %v", name, p.Status, p.Away)
			}
		}
	}
	for name, other := range map[string]string{
		"state": "other", "response_type": "token", "scope": "openid read", "nonce": "n2", "code_challenge": strings.Repeat("A", 43),
	} {
		for _, value := range []string{authorizeForm().Get(name), other} {
			got := away(t, s.Open(t, "/oauth2/authorize?"+twice(name, value)))
			if got.Get("error") != "invalid_request" || got.Has("code") || got.Get("iss") != s.issuer || got.Get("state") != map[bool]string{false: "s&t"}[name == "state"] {
				t.Errorf("%s twice: %v", name, got)
			}
		}
	}
	for _, unknown := range []string{"prompt=none&prompt=login", "unknown=1&unknown=2"} {
		if got := away(t, s.Open(t, authorizePath()+"&"+unknown)); got.Get("error") != "invalid_request" || got.Has("code") {
			t.Errorf("%s: %v", unknown, got)
		}
	}
	q, err := url.ParseQuery(twice("state", "other")) // by a form of the client's own site
	if err != nil {
		t.Fatal(err)
	}
	if got := away(t, s.Post(t, "/oauth2/authorize", q)); got.Get("error") != "invalid_request" || got.Has("code") {
		t.Errorf("state twice, by POST: %v", got)
	}
	for _, name := range []string{"client_id", "redirect_uri", "state", "response_type"} {
		if p := s.Post(t, "/oauth2/authorize?"+url.Values{name: {authorizeForm().Get(name)}}.Encode(), authorizeForm(name, "")); p.Status != 400 || p.Away != nil {
			t.Errorf("%s in the query, the rest in the body: %d, sent to %v", name, p.Status, p.Away)
		}
	}
}

// TestAUT09AStateComesBackAsItWas: byte by byte, after one encoding, in each mode; one that
// would end a header is refused, one that is too long is not sent back.
func TestAUT09AStateComesBackAsItWas(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	away(t, s.Submit(t, s.signIn(s.Open(t, authorizePath())), "decision", "allow"))
	for _, state := range []string{`"><script>alert(1)</script>`, "x&error=access_denied&code=y", "a+b c%20d", "é€😀", "x#y?z=1", "'; --", "%0d%0aSet-Cookie: a=b", strings.Repeat("s", 2048)} {
		for _, mode := range []string{"query", "fragment", "form_post"} {
			p := s.Open(t, authorizePath("state", state, "response_mode", mode))
			var got url.Values
			switch {
			case mode == "form_post" && len(p.Forms) == 1:
				got = p.Forms[0].Values
			case p.Away == nil:
				t.Fatalf("%q, %s: %d %s", state, mode, p.Status, p.Text)
			case mode == "fragment":
				got, _ = url.ParseQuery(p.Away.EscapedFragment()) // what is malformed has no state
			default:
				got = p.Away.Query()
			}
			if got.Get("state") != state || len(got["code"]) != 1 || got.Has("error") || p.Header.Get("Set-Cookie") != "" && strings.Contains(p.Header.Get("Set-Cookie"), "a=b") {
				t.Errorf("%q, %s: %v", state, mode, got)
			}
			if strings.Contains(p.Text, "<script>alert") {
				t.Errorf("%q, %s: %s", state, mode, p.Text)
			}
		}
	}
	if got := away(t, s.Open(t, authorizePath("state", strings.Repeat("s", 3000)))); got.Get("error") != "invalid_request" || got.Has("state") || got.Has("code") {
		t.Errorf("a long state: %v", got)
	}
	for _, bad := range []string{"%0d%0aSet-Cookie:%20a=b", "%00", "%c0%ae", "%80", "%ed%a0%80", "%"} {
		if p := s.Open(t, strings.Replace(authorizePath("state", "STATE"), "STATE", bad, 1)); p.Status != 400 || p.Away != nil {
			t.Errorf("the state %s: %d, sent to %v", bad, p.Status, p.Away)
		}
	}
}

// TestAUT17NobodyIsSentOnByALinkAlone: who has registered themselves gets no browser from
// our address by a request that is refused at once, nor by one that asks for nothing: the
// person reads where they would be brought, and decides.
func TestAUT17NobodyIsSentOnByALinkAlone(t *testing.T) {
	t.Parallel()
	p := newParty(t)
	p.opened(openPolicy)
	p.register(201, map[string]any{"redirect_uris": []string{p.redirect, "https://evil.example/cb"}, "token_endpoint_auth_method": "client_secret_basic"})
	bad := [][]string{{"scope", "admin"}, {"response_type", "code token"}, {"response_mode", "other"}, {"prompt", "other"}, {"claims", "["}, {"scope", "admin", "prompt", "none"}, {"max_age", "x"}}
	for _, pairs := range bad {
		page := p.page(p.request(pairs...))
		if page.Away != nil || page.Status == 200 || onward(page) == nil || !strings.HasPrefix(onward(page).String(), p.redirect) || !strings.Contains(page.Text, p.at.URL) {
			t.Errorf("%v: %d, sent to %v: %s", pairs, page.Status, page.Away, page.Text)
		}
	}
	byForm := p.page(p.request("scope", "admin", "response_mode", "form_post"))
	if byForm.Status == 200 || len(byForm.Forms) != 1 || byForm.Forms[0].Action != p.redirect || strings.Contains(byForm.Text, "data-submit") {
		t.Errorf("by form: %d %s", byForm.Status, byForm.Text)
	}
	if page := p.page(p.request("prompt", "none")); p.refused(page) != "login_required" || page.Away == nil {
		t.Errorf("prompt=none, which is meant for no person: %d", page.Status)
	}
	login := p.page(p.request())
	denied := p.Submit(t, p.Submit(t, login, "username", "bob", "password", phrase), "decision", "deny")
	if denied.Away == nil || denied.Away.Query().Get("error") != "access_denied" {
		t.Errorf("whom the user has denied it is not told: %d %s", denied.Status, denied.Text)
	}
	if page := p.page(p.request("scope", "")); page.Away != nil || len(page.Forms) == 0 || !strings.Contains(page.Text, "has registered itself") {
		t.Errorf("a request for nothing, of somebody who is signed in: sent to %v: %s", page.Away, page.Text)
	}
	if page := p.Open(t, authorizePath("scope", "admin")); page.Away == nil {
		t.Errorf("a client that somebody here has made is not told: %d", page.Status)
	}
}

// TestAUT18EveryAnswerToAFormIsA303: a 307 or 308 would send the password on to where it
// leads.
func TestAUT18EveryAnswerToAFormIsA303(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	login := s.Open(t, authorizePath())
	denied := s.Submit(t, login, "cancel", "yes")
	consent := s.signIn(s.Open(t, authorizePath()))
	answered := s.Submit(t, consent, "decision", "allow")
	for name, p := range map[string]*testbrowser.Page{
		"a login that is given up": denied, "consent": answered,
		"somebody who is signed in":   s.Open(t, authorizePath()),
		"a form of the client's site": s.Post(t, "/oauth2/authorize", authorizeForm()),
		"a fresh login":               s.signIn(s.Open(t, authorizePath("prompt", "login"))),
		"a refusal":                   s.Open(t, authorizePath("scope", "admin")),
	} {
		if p.Away == nil || p.Status != http.StatusSeeOther {
			t.Errorf("%s: %d, sent to %v", name, p.Status, p.Away)
		}
	}
	hint := s.redeem(200, away(t, answered).Get("code"))["id_token"].(string)
	if p := s.Post(t, "/oauth2/logout", url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://app.example/bye"}}); p.Away == nil || p.Status != http.StatusSeeOther {
		t.Errorf("a logout: %d", p.Status)
	}
}

// TestAUT20BadPushedRequests: of the right method, one client's that proves itself, no
// larger than others, and good in itself; what is refused names no request_uri.
func TestAUT20BadPushedRequests(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const media = "application/x-www-form-urlencoded"
	own := basicAuth("web", s.secret)
	good := s.call("POST", "/oauth2/par", own, media, authorizeForm().Encode(), 201)
	if uri, _ := good["request_uri"].(string); !strings.HasPrefix(uri, "urn:ietf:params:oauth:request_uri:") {
		t.Fatalf("%v", good)
	}
	inside := authorizeForm()
	inside.Set("request_uri", good["request_uri"].(string))
	for _, tt := range []struct {
		name, method, auth, media, body string
		status                          int
		code                            string
	}{
		{"GET", "GET", own, "", "", 405, ""},
		{"PUT", "PUT", own, media, authorizeForm().Encode(), 405, ""},
		{"a request_uri in it", "POST", own, media, inside.Encode(), 400, "invalid_request"},
		{"nobody", "POST", "", media, authorizeForm("client_id", "").Encode(), 401, "invalid_client"},
		{"a client that does not prove itself", "POST", "", media, authorizeForm().Encode(), 401, "invalid_client"},
		{"a wrong secret", "POST", basicAuth("web", "wrong"), media, authorizeForm().Encode(), 401, "invalid_client"},
		{"another client inside", "POST", own, media, authorizeForm("client_id", "other").Encode(), 401, "invalid_client"}, // TOK-08
		{"an address that is not registered", "POST", own, media, authorizeForm("redirect_uri", "https://evil.example").Encode(), 400, "invalid_request"},
		{"no address", "POST", own, media, authorizeForm("redirect_uri", "").Encode(), 400, "invalid_request"},
		{"state twice", "POST", own, media, authorizeForm().Encode() + "&state=x", 400, "invalid_request"},
		{"JSON", "POST", own, "application/json", `{"response_type":"code"}`, 400, "invalid_request"},
		{"a scope beyond", "POST", own, media, authorizeForm("scope", "openid admin").Encode(), 400, "invalid_scope"},
		{"1 MiB", "POST", own, media, authorizeForm("state", strings.Repeat("s", 1<<20)).Encode(), 413, ""},
	} {
		status, text := s.ask(tt.method, "/oauth2/par", tt.auth, tt.media, tt.body)
		var said map[string]any
		if status != tt.status || tt.code != "" && (json.Unmarshal(text, &said) != nil || said["error"] != tt.code) || strings.Contains(string(text), "request_uri\"") {
			t.Errorf("%s: %d %s", tt.name, status, text)
		}
	}
}

// forged are headers by which a request may say where it came to.
var forged = map[string]string{
	"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/evil", "X-Forwarded-Port": "4443", "X-Forwarded-For": "203.0.113.9",
	"Forwarded": `host=evil.example;proto=https;for="203.0.113.9"`, "X-Host": "evil.example", "X-Original-URL": "/evil", "X-Rewrite-URL": "/evil", "X-Forwarded-Server": "evil.example",
}

// TestAUT28WhatARequestSaysOfItsPlaceCountsForNothing: documents, links, redirects and
// cookies are the same, whatever a header or the request line says of host and scheme.
func TestAUT28WhatARequestSaysOfItsPlaceCountsForNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, "https://sts.example")
	get := func(path, host string, header map[string]string) (int, http.Header, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.node.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range header {
			req.Header.Set(name, value)
		}
		req.Host = host
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }() // only read
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header, string(text)
	}
	stable := func(text string) string { // a page's sealed values are others each time
		for _, name := range []string{`name="flow" value="`, `name="browser" value="`, `data-options="`, `name="ceremony" value="`} {
			for from := 0; ; {
				at := strings.Index(text[from:], name)
				if at < 0 {
					break
				}
				from += at + len(name)
				text = text[:from] + text[from+strings.IndexByte(text[from:], '"'):]
			}
		}
		return text
	}
	paths := []string{
		"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", authorizePath(), authorizePath("scope", "admin"), authorizePath("client_id", "nobody"),
		"/device", "/oauth2/logout", "/account",
	}
	for _, path := range paths {
		status, header, text := get(path, "sts.example", nil)
		for _, host := range []string{"sts.example", "evil.example", "evil.example:80", "STS.example", "127.0.0.1", "[::1]:9"} {
			for _, with := range []map[string]string{nil, forged} {
				s2, h2, t2 := get(path, host, with)
				if s2 != status || stable(t2) != stable(text) || h2.Get("Location") != header.Get("Location") || strings.Contains(t2+h2.Get("Location")+strings.Join(h2["Set-Cookie"], ""), "evil") {
					t.Errorf("%s at %s: %d %s", path, host, s2, h2.Get("Location"))
				}
				for _, cookie := range h2["Set-Cookie"] {
					if !strings.HasPrefix(cookie, "__Host-") || !strings.Contains(cookie, "; secure") && !strings.Contains(cookie, "; Secure") || strings.Contains(strings.ToLower(cookie), "domain") {
						t.Errorf("%s: the cookie %s", path, cookie)
					}
				}
			}
		}
	}
	for _, bad := range []string{
		"GET http://evil.example/.well-known/openid-configuration HTTP/1.1\r\nHost: sts.example\r\n\r\n",
		"GET http://sts.example/.well-known/openid-configuration HTTP/1.1\r\nHost: sts.example\r\n\r\n",
		"GET /.well-known/openid-configuration HTTP/1.1\r\nHost: evil.example/x\r\n\r\n",
		"GET /.well-known/openid-configuration HTTP/1.1\r\nHost: a@evil.example\r\n\r\n",
		"GET /.well-known/openid-configuration HTTP/1.1\r\nHost: a, evil.example\r\n\r\n",
		"GET /.well-known/openid-configuration HTTP/1.1\r\nHost: sts.example\r\nHost: evil.example\r\n\r\n",
		"GET /.well-known/openid-configuration HTTP/1.1\r\nHost: \r\n\r\n",
		"GET /.well-known/openid-configuration HTTP/1.1\r\n\r\n",
	} {
		if status := rawStatus(t, strings.TrimPrefix(s.node.url, "http://"), bad); status != 400 && status != 421 {
			t.Errorf("%q: %d", bad, status)
		}
	}
}

// rawStatus sends bytes, and gives the status of the answer.
func rawStatus(t *testing.T, addr, request string) int {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // the test has what it wants
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	_ = resp.Body.Close() // not read
	return resp.StatusCode
}

// TestAUT31AnIssuerHasOneNameAtBothPlaces: the document of a tenant is served where RFC
// 8414 has it and where OpenID Connect has it, and names the configured issuer whichever
// way it was asked for; other spellings of the path are nowhere.
func TestAUT31AnIssuerHasOneNameAtBothPlaces(t *testing.T) {
	t.Parallel()
	s := newSite(t, "https://sts.example")
	s.acme()
	for tenant, paths := range map[string][]string{
		"https://sts.example":        {"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"},
		"https://sts.example/t/acme": {"/t/acme/.well-known/openid-configuration", "/t/acme/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server/t/acme"},
	} {
		var first map[string]any
		for _, path := range paths {
			got := s.call("GET", path, "", "", "", 200)
			if got["issuer"] != tenant {
				t.Errorf("%s: issuer %v", path, got["issuer"])
			}
			for name, value := range got {
				if at, ok := value.(string); ok && strings.HasSuffix(name, "_endpoint") && !strings.HasPrefix(at, tenant+"/") {
					t.Errorf("%s: %s is %s", path, name, at)
				}
			}
			if first == nil {
				first = got
			} else if !slices.Equal(slices.Sorted(maps.Keys(first)), slices.Sorted(maps.Keys(got))) {
				t.Errorf("%s has other members than %s", path, paths[0])
			}
		}
	}
	for _, path := range []string{
		"//.well-known/openid-configuration", "/.well-known//openid-configuration", "/.well-known/openid-configuration/", "/.Well-Known/openid-configuration", "/.well-known/OpenID-configuration",
		"/.well-known/openid-configuration/t/acme/", "/.well-known/oauth-authorization-server//t/acme", "/.well-known/oauth-authorization-server/t/ACME", "/.well-known/oauth-authorization-server/T/acme",
		"/.well-known/oauth-authorization-server/t/nobody", "/t/nobody/.well-known/openid-configuration", "/t/ACME/.well-known/openid-configuration", "/t//acme/.well-known/openid-configuration",
		"/t/acme//.well-known/openid-configuration", "/t/acme/.well-known/openid-configuration/", "/t/default/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/t/default",
		"/.well-known/oauth-authorization-server/acme", "/t/acme/t/acme/.well-known/openid-configuration", "/t/%61cme/.well-known/openid-configuration", "/./.well-known/openid-configuration",
	} {
		status := rawStatus(t, strings.TrimPrefix(s.node.url, "http://"), "GET "+path+" HTTP/1.1\r\nHost: sts.example\r\nConnection: close\r\n\r\n")
		if status != 404 && status != 400 {
			t.Errorf("%s: %d", path, status)
		}
	}
}
