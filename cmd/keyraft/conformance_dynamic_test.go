package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/testproof"
)

// opened opens the registration of the tenant as the plan needs it: to all, with clients
// whose assertions name the token endpoint.
func (p *party) opened(policy string) {
	p.t.Helper()
	p.call("PUT", "/admin/v1/registration-policy", "Bearer "+p.node.admin(), "application/json", policy, 200)
}

const openPolicy = `{"open":true,"assertion_audience_token_endpoint":true,"grant_types":["authorization_code","refresh_token","implicit"]}`

// register makes the party a client of its own making; a nil member is left out.
func (p *party) register(status int, change map[string]any) map[string]any {
	p.t.Helper()
	members := map[string]any{
		"grant_types": []string{"authorization_code"}, "response_types": []string{"code"}, "redirect_uris": []string{p.redirect},
		"token_endpoint_auth_method": "private_key_jwt", "contacts": []string{"certification@party.example"}, "client_name": "party " + rand.Text(),
	}
	maps.Copy(members, change)
	maps.DeleteFunc(members, func(_ string, v any) bool { return v == nil })
	text, err := json.Marshal(members)
	if err != nil {
		p.t.Fatal(err)
	}
	got := p.call("POST", "/oauth2/register", "", "application/json", string(text), status)
	if status == 201 {
		p.id = fmt.Sprint(got["client_id"])
		p.secret, _ = got["client_secret"].(string)
	}
	return got
}

// assertion signs a client assertion with kid ("": none) in its header.
func (p *party) assertion(key *testproof.Key, kid string, change map[string]any) string {
	p.t.Helper()
	header := map[string]any{"alg": key.Alg}
	if kid != "" {
		header["kid"] = kid
	}
	now := time.Now().Unix()
	return key.Sign(p.t, header, testproof.With(map[string]any{
		"iss": p.id, "sub": p.id, "aud": p.node.url + "/oauth2/token", "jti": rand.Text(), "iat": now, "exp": now + 60,
	}, change))
}

// asserted adds a client assertion to a form.
func asserted(f url.Values, assertion string) url.Values {
	f.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	f.Set("client_assertion", assertion)
	return f
}

func (p *party) post(path string, status int, f url.Values) map[string]any {
	p.t.Helper()
	return p.call("POST", path, "", "application/x-www-form-urlencoded", f.Encode(), status)
}

// TestConformanceDynamic is the plan of OPs that clients register themselves with.
func TestConformanceDynamic(t *testing.T) {
	t.Parallel()
	p := newParty(t)
	for _, m := range []struct {
		name string
		run  func(*party)
	}{
		{"registration is closed until it is opened", func(p *party) {
			text := `{"redirect_uris":["` + p.redirect + `"],"token_endpoint_auth_method":"none"}`
			p.call("POST", "/oauth2/register", "", "application/json", text, 401)
			p.opened(`{"open":false}`)
			p.call("POST", "/oauth2/register", "", "application/json", text, 401)
			p.opened(openPolicy)
			p.call("POST", "/oauth2/register", "Bearer kri_x.y", "application/json", text, 401) // what is shown must be good
			p.call("POST", "/oauth2/register", "", "application/json", text, 201)
		}},
		{"oidcc-server: keys by value without kid, an assertion for the token endpoint", dynamicServer},
		{"oidcc-registration-jwks-uri, oidcc-refresh-token-rp-key-rotation", dynamicKeys},
		{"oidcc-registration-sector-uri, -sector-bad", dynamicSector},
		{"oidcc-registration-logo-uri, -policy-uri, -tos-uri: the login page names what the client published", dynamicLinks},
		{"REG-09: the consent page says that nobody has checked the client", func(p *party) {
			const said = "This application has registered itself. Nobody here has checked it."
			p.register(201, map[string]any{"token_endpoint_auth_method": "client_secret_basic", "client_name": "Keyraft login"})
			if page := p.page(p.request("prompt", "consent")); !strings.Contains(page.Text, said) {
				p.t.Errorf("nothing of it on\n%s", page.Text)
			}
			p.static(nil)
			if page := p.page(p.request("prompt", "consent")); strings.Contains(page.Text, said) || !strings.Contains(page.Text, "Party") {
				p.t.Errorf("a client of the operator's:\n%s", page.Text)
			}
		}},
		{"oidcc-redirect-uri-query-ok, -query-mismatch, -query-added, -regfrag", dynamicRedirects},
		{"oidcc-userinfo-rs256: a signed answer of userinfo", func(p *party) {
			key := testproof.New(p.t)
			p.register(201, map[string]any{"jwks": json.RawMessage(key.JWKS(p.t, "k")), "userinfo_signed_response_alg": "RS256"})
			got := p.post("/oauth2/token", 200, asserted(p.code(p.flow(p.request()).Get("code")), p.assertion(key, "k", nil)))
			status, text := p.ask("GET", "/oauth2/userinfo", "Bearer "+got["access_token"].(string), "", "")
			if c := claims(p.t, string(text)); status != 200 || c["iss"] != p.node.url || c["aud"] != p.id || c["sub"] == nil {
				p.t.Errorf("%d %v", status, c)
			}
		}},
		{"oidcc-request-uri-unsigned, -signed", dynamicRequestURI},
		{"oidcc-ensure-client-assertion-with-iss-aud-succeeds", func(p *party) {
			key := testproof.New(p.t)
			p.register(201, map[string]any{"jwks": json.RawMessage(key.JWKS(p.t, "k"))})
			p.post("/oauth2/token", 200, asserted(p.code(p.flow(p.request()).Get("code")), p.assertion(key, "k", map[string]any{"aud": p.node.url})))
		}},
		{"oidcc-idtoken-unsigned: alg none is none of ours, and refused", func(p *party) {
			p.register(400, map[string]any{"id_token_signed_response_alg": "none", "token_endpoint_auth_method": "client_secret_basic"})
		}},
		{"oidcc-server-rotate-keys: a new key is published before it signs", func(p *party) {
			kids := func() (all []string) {
				keys, _ := p.call("GET", "/oauth2/jwks", "", "", "", 200)["keys"].([]any)
				for _, k := range keys {
					all = append(all, fmt.Sprint(k.(map[string]any)["kid"]))
				}
				return all
			}
			old := kids()
			status, text := p.ask("POST", "/admin/v1/keys/rotate", "Bearer "+p.node.admin(), "application/json", `{}`)
			if now := kids(); status/100 != 2 || !slices.ContainsFunc(now, func(k string) bool { return !slices.Contains(old, k) }) {
				p.t.Errorf("%d %s: %v after %v", status, text, now, old)
			}
		}},
	} {
		t.Run(m.name, func(t *testing.T) {
			own, on := *p, *p.site
			on.t, own.site = t, &on
			m.run(&own)
		})
	}
}

func dynamicServer(p *party) {
	for _, key := range []*testproof.Key{testproof.NewRSA(p.t, "RS256"), testproof.NewRSA(p.t, "PS256"), testproof.New(p.t)} {
		dynamicServerWith(p, key)
	}
}

func dynamicServerWith(p *party, key *testproof.Key) {
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(key.JWKS(p.t, ""), &set); err != nil {
		p.t.Fatal(err)
	}
	delete(set.Keys[0], "kid")
	delete(set.Keys[0], "alg") // as keys that a client makes for many uses
	made := p.register(201, map[string]any{"jwks": set, "token_endpoint_auth_signing_alg": key.Alg})
	if lacks := missing(made, "client_id", "registration_access_token", "registration_client_uri", "redirect_uris", "grant_types", "response_types", "contacts"); len(lacks) > 0 {
		p.t.Errorf("the answer lacks %v", lacks)
	}
	q := p.request()
	p.idToken(p.post("/oauth2/token", 200, asserted(p.code(p.flow(q).Get("code")), p.assertion(key, "", nil)))["id_token"], q)
}

func dynamicKeys(p *party) {
	first, second := testproof.NewRSA(p.t, "RS256"), testproof.NewRSA(p.t, "RS256")
	p.publish("/jwks", string(first.JWKS(p.t, "one")))
	p.register(201, map[string]any{"jwks_uri": p.at.URL + "/jwks", "grant_types": []string{"authorization_code", "refresh_token"}})
	q := p.request("scope", "openid offline_access", "prompt", "consent")
	got := p.post("/oauth2/token", 200, asserted(p.code(p.flow(q).Get("code")), p.assertion(first, "one", nil)))
	if n := len(p.called("/jwks")); n != 1 {
		p.t.Errorf("the keys were fetched %d times", n)
	}
	refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {fmt.Sprint(got["refresh_token"])}}
	p.publish("/jwks", string(second.JWKS(p.t, "two")))
	// Within the cool-down the new key is not looked for; the plan waits for it, and the
	// clock of verify's own test goes on past it.
	p.post("/oauth2/token", 401, asserted(maps.Clone(refresh), p.assertion(second, "two", nil)))
	if n := len(p.called("/jwks")); n != 1 {
		p.t.Errorf("a stranger's kid makes the server fetch: %d times", n)
	}
	p.post("/oauth2/token", 200, asserted(maps.Clone(refresh), p.assertion(first, "one", nil)))
	for uri, why := range map[string]string{
		"http://127.0.0.1.evil.example/k": "another host", "http://169.254.169.254/": "SSR-01", "https://10.0.0.1/k": "SSR-01", "file:///etc/passwd": "no web",
	} {
		if got := p.register(400, map[string]any{"jwks_uri": uri}); got["error"] != "invalid_client_metadata" {
			p.t.Errorf("%s (%s): %v", uri, why, got)
		}
	}
}

func dynamicSector(p *party) {
	p.publish("/redirect_uris.json", `["`+p.redirect+`","https://other.example/cb"]`)
	sector := map[string]any{
		"token_endpoint_auth_method": "client_secret_basic", "subject_type": "pairwise", "sector_identifier_uri": p.at.URL + "/redirect_uris.json",
	}
	p.register(201, sector)
	public := *p
	public.register(201, map[string]any{"token_endpoint_auth_method": "client_secret_basic"})
	if a, b := p.tokens(200, p.code(p.flow(p.request()).Get("code"))), public.tokens(200, public.code(public.flow(public.request()).Get("code"))); claims(p.t, a["id_token"])["sub"] == claims(p.t, b["id_token"])["sub"] {
		p.t.Error("a pairwise subject is the public one")
	}
	for _, list := range []string{`["https://other.example/cb"]`, `{"redirect_uris":[]}`, `[]`, `no JSON`} {
		p.publish("/redirect_uris.json", list)
		if got := p.register(400, sector); got["error"] != "invalid_client_metadata" {
			p.t.Errorf("the list %s: %v (REG-11)", list, got)
		}
	}
	sector["sector_identifier_uri"] = "https://169.254.169.254/latest"
	if got := p.register(400, sector); got["error"] != "invalid_client_metadata" {
		p.t.Errorf("%v (SSR-01)", got)
	}
}

func dynamicLinks(p *party) {
	p.register(201, map[string]any{
		"token_endpoint_auth_method": "client_secret_basic", "logo_uri": p.at.URL + "/logo.png", "policy_uri": p.at.URL + "/policy", "tos_uri": p.at.URL + "/tos",
	})
	page := p.page(p.request("prompt", "login"))
	for _, path := range []string{"/policy", "/tos"} {
		if !strings.Contains(page.Text, `href="`+p.at.URL+path+`"`) {
			p.t.Errorf("no link to %s:\n%s", path, page.Text)
		}
	}
}

func dynamicRedirects(p *party) {
	plain := p.redirect
	p.redirect = plain + "?foo=bar"
	p.register(201, map[string]any{"token_endpoint_auth_method": "client_secret_basic"})
	q := p.request()
	page := p.consented(p.page(q))
	if page.Away == nil || page.Away.Query().Get("foo") != "bar" || page.Away.Query().Get("code") == "" {
		p.t.Fatalf("%v", page.Away)
	}
	p.tokens(200, p.code(page.Away.Query().Get("code")))
	for _, uri := range []string{plain + "?foo=baz", plain + "?foo=bar&a=b", plain} {
		if page := p.page(p.request("redirect_uri", uri)); page.Away != nil || page.Status != 400 {
			p.t.Errorf("%s: %d %v", uri, page.Status, page.Away)
		}
	}
	p.redirect = plain
	if got := p.register(400, map[string]any{"redirect_uris": []string{plain + "#foobar"}, "token_endpoint_auth_method": "client_secret_basic"}); got["error"] != "invalid_redirect_uri" && got["error"] != "invalid_client_metadata" {
		p.t.Errorf("a fragment: %v", got)
	}
}

func dynamicRequestURI(p *party) {
	path := "/requesturi/" + rand.Text()
	uri := p.at.URL + path
	p.register(201, map[string]any{"token_endpoint_auth_method": "client_secret_basic", "request_uris": []string{uri}})
	q := p.request()
	p.publish(path, unsignedObject(p.t, q))
	outside := url.Values{"client_id": {p.id}, "response_type": {"code"}, "scope": {"openid"}, "request_uri": {uri}, "redirect_uri": {p.redirect}, "state": {"outside"}}
	said, _ := p.answer(p.consented(p.page(outside)))
	if said.Get("state") != q.Get("state") {
		p.t.Errorf("the state is %v, and what is inside counts", said)
	}
	if c := claims(p.t, p.tokens(200, p.code(said.Get("code")))["id_token"]); c["nonce"] != q.Get("nonce") {
		p.t.Errorf("the nonce is %v", c["nonce"])
	}
	outside.Set("request_uri", uri+"x")
	if got := p.refused(p.page(outside)); got != "invalid_request_uri" {
		p.t.Errorf("a URI that is not registered: %s (AUT-25)", got)
	}
	if n := len(p.called(path + "x")); n != 0 {
		p.t.Errorf("it was called %d times", n)
	}
	p.publish(path, "<html>")
	outside.Set("request_uri", uri)
	if got := p.refused(p.page(outside)); got != "invalid_request_object" {
		p.t.Errorf("no JWT at all: %s", got)
	}

	key := testproof.NewRSA(p.t, "PS256")
	p.register(201, map[string]any{"jwks": json.RawMessage(key.JWKSWithoutAlg(p.t, "k")), "request_uris": []string{uri},
		"request_object_signing_alg": "PS256", "token_endpoint_auth_signing_alg": "PS256"})
	outside.Set("client_id", p.id)
	q = p.request()
	p.publish(path, unsignedObject(p.t, q))
	if got := p.refused(p.page(outside)); got != "invalid_request_object" {
		p.t.Errorf("unsigned where the client signs: %s (AUT-22)", got)
	}
	object := members(q)
	object["iss"], object["aud"] = p.id, p.node.url
	p.publish(path, key.Sign(p.t, map[string]any{"alg": "PS256", "kid": "k"}, object))
	said, _ = p.answer(p.consented(p.page(outside)))
	p.post("/oauth2/token", 200, asserted(p.code(said.Get("code")), p.assertion(key, "k", nil)))
	if p.called(path)[0].Method != http.MethodGet {
		p.t.Error("not by GET")
	}
}
