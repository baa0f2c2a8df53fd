package main

import (
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
)

// half is at_hash or c_hash of a value, for RS256 (OpenID Connect Core §3.1.3.6).
func half(value string) string {
	sum := sha256.Sum256([]byte(value))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// TestConformanceFrontChannel is the plans of implicit and hybrid OPs, and those of form
// post: what each response type gives, where, and how its ID token binds the rest.
func TestConformanceFrontChannel(t *testing.T) {
	t.Parallel()
	p := newParty(t)
	p.redirect = "https://party.example/callback"
	types := []string{"code", "id_token", "id_token token", "code id_token", "code token", "code id_token token"}
	p.static(map[string]any{"grant_types": []string{"authorization_code", "refresh_token", "implicit"}, "response_types": types})
	// A node that has just started makes its keys yet, which the token endpoint alone can
	// tell a program to wait for.
	p.tokens(200, p.code(p.flow(p.request()).Get("code")))
	for _, mode := range []string{"fragment", "form_post"} {
		for _, kind := range types {
			if kind == "code" && mode == "fragment" {
				continue
			}
			t.Run(kind+" by "+mode, func(t *testing.T) {
				own, on := *p, *p.site
				on.t, own.site = t, &on
				own.front(kind, mode)
			})
		}
	}
	for _, kind := range types[1:] {
		t.Run("oidcc-ensure-request-without-nonce-fails, oidcc-response-mode-query: "+kind, func(t *testing.T) {
			own, on := *p, *p.site
			on.t, own.site = t, &on
			if !strings.Contains(kind, "id_token") { // a nonce is of the ID token
				return
			}
			if got := own.refused(own.page(own.request("response_type", kind, "nonce", ""))); got != "invalid_request" {
				t.Errorf("no nonce: %s", got)
			}
			if got := own.refused(own.page(own.request("response_type", kind, "response_mode", "query"))); got != "invalid_request" {
				t.Errorf("tokens in a query: %s", got)
			}
		})
	}
}

// front runs one response type.
func (p *party) front(kind, mode string) {
	p.t.Helper()
	q := p.request("response_type", kind, "scope", "openid email")
	if mode == "form_post" {
		q.Set("response_mode", mode)
	}
	said, by := p.answer(p.consented(p.page(q)))
	if by != mode || said.Get("state") != q.Get("state") || said.Get("error") != "" {
		p.t.Fatalf("by %s: %v", by, said)
	}
	gives := func(word string) bool {
		for w := range strings.FieldsSeq(kind) {
			if w == word {
				return true
			}
		}
		return false
	}
	if gives("code") != said.Has("code") || gives("id_token") != said.Has("id_token") || gives("token") != said.Has("access_token") {
		p.t.Fatalf("%s gives %v", kind, said)
	}
	sub := any(nil)
	if gives("id_token") {
		sub = p.frontID(q, said, kind == "id_token")
	}
	if gives("token") {
		if said.Get("token_type") != "Bearer" || said.Get("expires_in") == "" {
			p.t.Errorf("beside the token: %v", said)
		}
		if info := p.userinfo(200, said.Get("access_token")); info["email"] != "bob@example.com" || sub != nil && info["sub"] != sub {
			p.t.Errorf("userinfo of the front token: %v", info)
		}
	}
	if gives("code") {
		got := p.tokens(200, p.code(said.Get("code")))
		back := p.idToken(got["id_token"], q)
		if sub != nil && back["sub"] != sub {
			p.t.Errorf("two subjects: %v and %v", sub, back["sub"])
		}
		if info := p.userinfo(200, got["access_token"].(string)); info["sub"] != back["sub"] {
			p.t.Errorf("userinfo %v of %v", info, back)
		}
	}
}

// frontID holds the ID token of the browser to what came beside it. Where no access token
// is given at all it alone can tell the claims of the scopes (OpenID Connect Core §5.4).
func (p *party) frontID(q, said url.Values, alone bool) (sub any) {
	p.t.Helper()
	c := p.idToken(said.Get("id_token"), q)
	if c["nonce"] != q.Get("nonce") {
		p.t.Errorf("nonce %v", c["nonce"])
	}
	if token := said.Get("access_token"); token != "" && c["at_hash"] != half(token) {
		p.t.Errorf("at_hash %v of a token", c["at_hash"])
	}
	if code := said.Get("code"); code != "" && c["c_hash"] != half(code) {
		p.t.Errorf("c_hash %v of a code", c["c_hash"])
	}
	if alone != (c["email"] == "bob@example.com") {
		p.t.Errorf("the claims of the scope email, alone %t: %v", alone, c)
	}
	return c["sub"]
}
