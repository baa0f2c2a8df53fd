package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/testbrowser"
)

// TestConformanceBasic is the plan of Basic OPs: the code flow of a client with a secret,
// which knows nothing of PKCE.
func TestConformanceBasic(t *testing.T) {
	t.Parallel()
	p := newParty(t)
	p.static(nil)
	for _, m := range []struct {
		name string
		run  func(*party)
	}{
		{"oidcc-server, oidcc-idtoken-signature: the code flow gives an ID token with kid and RS256", basicServer},
		{"oidcc-response-type-missing is told to the client", func(p *party) {
			if got := p.refused(p.page(p.request("response_type", ""))); got != "invalid_request" && got != "unsupported_response_type" {
				p.t.Errorf("%s", got)
			}
		}},
		{"oidcc-userinfo-get, -post-header, -post-body give the same", basicUserinfo},
		{"oidcc-ensure-request-without-nonce-succeeds-for-code-flow", func(p *party) {
			got := p.tokens(200, p.code(p.flow(p.request("nonce", "")).Get("code")))
			if c := claims(p.t, got["id_token"]); c["nonce"] != nil {
				p.t.Errorf("a nonce of nowhere: %v", c)
			}
		}},
		{"oidcc-scope-profile, -email, -address, -phone, -all, oidcc-ensure-other-scope-order-succeeds", basicScopes},
		{"oidcc-display-page, -popup, -ui-locales, -claims-locales, -login-hint, -unknown-parameter are no errors", func(p *party) {
			for _, pair := range [][2]string{
				{"display", "page"}, {"display", "popup"}, {"ui_locales", "se"}, {"ui_locales", "de fr-CA"}, {"claims_locales", "se"},
				{"login_hint", "buffy@example.com"}, {"extra", "foobar"}, {"resource_hint", "a b"},
			} {
				p.tokens(200, p.code(p.flow(p.request(pair[0], pair[1])).Get("code")))
			}
		}},
		{"oidcc-prompt-login, oidcc-max-age-1: the user signs in anew, and auth_time moves", basicFresh},
		{"oidcc-prompt-none-logged-in, oidcc-max-age-10000, oidcc-id-token-hint: no page, the same login", basicQuiet},
		{"oidcc-prompt-none-not-logged-in", func(p *party) {
			stranger := *p
			other := *p.site
			other.Browser = testbrowser.New(http.DefaultClient, p.node.url, func() string { return p.node.url })
			stranger.site = &other
			if got := stranger.refused(stranger.page(stranger.request("prompt", "none"))); got != "login_required" {
				p.t.Errorf("%s", got)
			}
		}},
		{"oidcc-ensure-request-with-acr-values-succeeds: one of those that discovery names", func(p *party) {
			all := texts(p.call("GET", "/.well-known/openid-configuration", "", "", "", 200)["acr_values_supported"])
			for _, acr := range []string{strings.Join(all, " "), "1 2"} {
				got := claims(p.t, p.tokens(200, p.code(p.flow(p.request("acr_values", acr)).Get("code")))["id_token"])
				if acr != "1 2" && !slices.Contains(all, fmt.Sprint(got["acr"])) {
					p.t.Errorf("acr_values %s give %v", acr, got["acr"])
				}
			}
		}},
		{"oidcc-codereuse, oidcc-codereuse-30seconds: the second use fails, and ends the token of the first", func(p *party) {
			code := p.flow(p.request()).Get("code")
			first := p.tokens(200, p.code(code))["access_token"].(string)
			p.userinfo(200, first)
			if got := p.tokens(400, p.code(code)); got["error"] != "invalid_grant" {
				p.t.Errorf("%v", got)
			}
			p.userinfo(401, first)
		}},
		{"oidcc-ensure-registered-redirect-uri, -redirect-uri-in-authorization-request: an error page, and no redirect", func(p *party) {
			for _, uri := range []string{p.at.URL + "/callback/other", "https://evil.example/", p.redirect + "?a=b", ""} {
				if page := p.page(p.request("redirect_uri", uri)); page.Away != nil || page.Status != 400 || !strings.Contains(page.Text, "<h1>") {
					p.t.Errorf("%q: %d %v", uri, page.Status, page.Away)
				}
			}
		}},
		{"oidcc-ensure-post-request-succeeds", func(p *party) {
			q := p.request()
			said, _ := p.answer(p.consented(p.Post(p.t, "/oauth2/authorize", q)))
			p.tokens(200, p.code(said.Get("code")))
		}},
		{"oidcc-server-client-secret-post", basicSecretPost},
		{"oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported, -ensure-request-object-with-redirect-uri", func(p *party) {
			q := p.request()
			if got := p.refused(p.page(p.request("request", unsignedObject(p.t, q)))); got != "request_not_supported" {
				p.t.Errorf("%s", got)
			}
		}},
		{"oidcc-claims-essential: the claim is told by userinfo", func(p *party) {
			got := p.tokens(200, p.code(p.flow(p.request("claims", `{"userinfo":{"name":{"essential":true}}}`)).Get("code")))
			if said := p.userinfo(200, got["access_token"].(string)); said["name"] != "Bob Builder" {
				p.t.Errorf("%v", said)
			}
		}},
		{"oidcc-refresh-token: another client's is refused, and the ID token stays of the same login", basicRefresh},
		{"oidcc-ensure-request-with-valid-pkce-succeeds", func(p *party) {
			q := p.request("code_challenge", authorizeForm().Get("code_challenge"), "code_challenge_method", "S256")
			f := p.code(p.flow(q).Get("code"))
			f.Set("code_verifier", verifier)
			p.tokens(200, f)
		}},
	} {
		t.Run(m.name, func(t *testing.T) {
			own, on := *p, *p.site
			on.t, own.site = t, &on
			m.run(&own)
		})
	}
}

func texts(list any) (all []string) {
	items, _ := list.([]any)
	for _, item := range items {
		all = append(all, fmt.Sprint(item))
	}
	return all
}

func basicServer(p *party) {
	q := p.request()
	got := p.tokens(200, p.code(p.flow(q).Get("code")))
	c := p.idToken(got["id_token"], q)
	if c["nonce"] != q.Get("nonce") || got["token_type"] != "Bearer" || got["expires_in"] == nil {
		p.t.Errorf("%v %v", got, c)
	}
	header, err := base64.RawURLEncoding.DecodeString(strings.Split(got["id_token"].(string), ".")[0])
	if err != nil || !strings.Contains(string(header), `"alg":"RS256"`) || !strings.Contains(string(header), `"kid":`) {
		p.t.Errorf("the header is %s", header)
	}
}

func basicUserinfo(p *party) {
	got := p.tokens(200, p.code(p.flow(p.request("scope", "openid profile")).Get("code")))
	token := got["access_token"].(string)
	want := claims(p.t, got["id_token"])["sub"]
	for _, said := range []map[string]any{
		p.userinfo(200, token),
		p.call("POST", "/oauth2/userinfo", "Bearer "+token, "", "", 200),
		p.call("POST", "/oauth2/userinfo", "", "application/x-www-form-urlencoded", url.Values{"access_token": {token}}.Encode(), 200),
	} {
		if said["sub"] != want || said["name"] != "Bob Builder" {
			p.t.Errorf("%v of %v", said, want)
		}
	}
}

func basicScopes(p *party) {
	profile := []string{
		"name", "family_name", "given_name", "middle_name", "nickname", "preferred_username", "profile", "picture", "website", "gender",
		"birthdate", "zoneinfo", "locale", "updated_at",
	}
	email, phone := []string{"email", "email_verified"}, []string{"phone_number", "phone_number_verified"}
	for scope, names := range map[string][]string{
		"openid profile": profile, "openid email": email, "openid address": {"address"}, "openid phone": phone, "email openid": email,
		"openid profile email address phone": slices.Concat(profile, email, phone, []string{"address"}),
	} {
		got := p.tokens(200, p.code(p.flow(p.request("scope", scope)).Get("code")))
		said := p.userinfo(200, got["access_token"].(string))
		if lacks := missing(said, slices.Clone(names)...); len(lacks) > 0 || len(said) != len(names)+1 {
			p.t.Errorf("%s: %v lacks %v", scope, said, lacks)
		}
		if a, ok := said["address"].(map[string]any); said["address"] != nil && (!ok || a["country"] != "GB") {
			p.t.Errorf("the address is %v", said["address"])
		}
		// What there is an access token for is told by userinfo alone (OpenID Connect Core §5.4).
		if id := claims(p.t, got["id_token"]); len(missing(id, slices.Clone(names)...)) != len(names) {
			p.t.Errorf("%s: the ID token says %v", scope, id)
		}
	}
}

func basicFresh(p *party) {
	first := claims(p.t, p.tokens(200, p.code(p.flow(p.request("max_age", "10000")).Get("code")))["id_token"])
	was, _ := first["auth_time"].(float64)
	for _, pair := range [][2]string{{"prompt", "login"}, {"max_age", "1"}} {
		for float64(time.Now().Unix()) < was+2 { // the plan waits, too: auth_time has whole seconds
			<-time.After(50 * time.Millisecond)
		}
		q := p.request(pair[0], pair[1])
		page := p.page(q)
		if len(page.Forms) == 0 || !strings.HasSuffix(page.Forms[0].Action, "/login") {
			p.t.Fatalf("%v shows %s", pair, page.Text)
		}
		said, _ := p.answer(p.consented(page))
		next := claims(p.t, p.tokens(200, p.code(said.Get("code")))["id_token"])
		if now, _ := next["auth_time"].(float64); now <= was || next["sub"] != first["sub"] {
			p.t.Errorf("%v: auth_time %v after %v", pair, next["auth_time"], was)
		}
		was, _ = next["auth_time"].(float64)
	}
}

func basicQuiet(p *party) {
	got := p.tokens(200, p.code(p.flow(p.request("max_age", "10000")).Get("code")))
	first := claims(p.t, got["id_token"])
	for _, pairs := range [][]string{{"prompt", "none"}, {"max_age", "10000"}, {"prompt", "none", "id_token_hint", got["id_token"].(string)}} {
		q := p.request(pairs...)
		said, _ := p.answer(p.page(q))
		next := claims(p.t, p.tokens(200, p.code(said.Get("code")))["id_token"])
		if next["sub"] != first["sub"] || next["auth_time"] != nil && next["auth_time"] != first["auth_time"] {
			p.t.Errorf("%v: %v after %v", pairs, next, first)
		}
	}
}

func basicSecretPost(p *party) {
	other := p.admin("clients", map[string]any{
		"grant_types": []string{"authorization_code"}, "redirect_uris": []string{p.redirect}, "scope": "openid", "token_endpoint_auth_method": "client_secret_post",
	})
	p.id = fmt.Sprint(other["client_id"])
	f := p.code(p.flow(p.request()).Get("code"))
	f.Set("client_id", p.id)
	f.Set("client_secret", fmt.Sprint(other["client_secret"]))
	p.call("POST", "/oauth2/token", "", "application/x-www-form-urlencoded", f.Encode(), 200)
}

func basicRefresh(p *party) {
	q := p.request("scope", "openid offline_access", "prompt", "consent", "max_age", strconv.Itoa(10000))
	got := p.tokens(200, p.code(p.flow(q).Get("code")))
	f := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {fmt.Sprint(got["refresh_token"])}}
	// The client web asks with the refresh token of the party.
	if bad := p.token(400, "grant_type", "refresh_token", "refresh_token", f.Get("refresh_token")); bad["error"] != "invalid_grant" {
		p.t.Errorf("another client's refresh token: %v", bad)
	}
	next := p.tokens(200, f)
	first, second := claims(p.t, got["id_token"]), claims(p.t, next["id_token"])
	for _, name := range []string{"iss", "sub", "aud", "auth_time"} {
		if first[name] != second[name] {
			p.t.Errorf("%s was %v and is %v", name, first[name], second[name])
		}
	}
	if next["access_token"] == got["access_token"] {
		p.t.Error("the access token is the same")
	}
	p.userinfo(200, next["access_token"].(string))
}

// unsignedObject is a request object of alg none.
func unsignedObject(t *testing.T, q url.Values) string {
	t.Helper()
	return jwtOf(t, map[string]any{"alg": "none"}, members(q)) + "."
}
