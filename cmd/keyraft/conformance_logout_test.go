package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/testbrowser"
)

// login signs the party's user in and gives the ID token.
func (p *party) login() string {
	p.t.Helper()
	return fmt.Sprint(p.tokens(200, p.code(p.flow(p.request()).Get("code")))["id_token"])
}

// end goes to the end_session_endpoint.
func (p *party) end(pairs ...string) *testbrowser.Page {
	p.t.Helper()
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return p.Open(p.t, "/oauth2/logout?"+q.Encode())
}

// signedIn asks without a page.
func (p *party) signedIn() bool {
	p.t.Helper()
	said, _ := p.answer(p.page(p.request("prompt", "none")))
	return said.Get("error") == ""
}

// TestConformanceRPInitiatedLogout is the plan of RP-initiated logout.
func TestConformanceRPInitiatedLogout(t *testing.T) {
	t.Parallel()
	p := newParty(t)
	bye := p.at.URL + "/post_logout_redirect"
	p.static(map[string]any{"post_logout_redirect_uris": []string{bye}})
	state := strings.Repeat("s&=", 43)

	t.Run("oidcc-rp-initiated-logout, -no-state: the user is signed out, and back", func(t *testing.T) {
		for _, s := range []string{state, ""} {
			page := p.end("id_token_hint", p.login(), "post_logout_redirect_uri", bye, "state", s)
			if page.Away == nil || !strings.HasPrefix(page.Away.String(), bye) || page.Away.Query().Get("state") != s || s == "" && page.Away.RawQuery != "" {
				t.Fatalf("%d %v", page.Status, page.Away)
			}
			if p.signedIn() {
				t.Error("still signed in")
			}
		}
	})
	for name, pairs := range map[string][]string{
		"oidcc-rp-initiated-logout-bad-post-logout-redirect-uri":          {"post_logout_redirect_uri", bye + "/foo"},
		"oidcc-rp-initiated-logout-query-added-to-post-logout-redirect":   {"post_logout_redirect_uri", bye + "?foo=bar"},
		"oidcc-rp-initiated-logout-no-id-token-hint":                      {"post_logout_redirect_uri", bye, "id_token_hint", ""},
		"oidcc-rp-initiated-logout-bad-id-token-hint":                     {"post_logout_redirect_uri", bye, "id_token_hint", "bad"},
		"oidcc-rp-initiated-logout-modified-id-token-hint: an error page": {"post_logout_redirect_uri", bye, "id_token_hint", "modified"},
	} {
		t.Run(name, func(t *testing.T) {
			hint := p.login()
			all := append([]string{"id_token_hint", hint, "state", state}, pairs...)
			if all[len(all)-1] == "modified" {
				parts := strings.Split(hint, ".")
				c, err := base64.RawURLEncoding.DecodeString(parts[1])
				if err != nil {
					t.Fatal(err)
				}
				parts[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(c), `"sub":"`, `"sub":"x`, 1)))
				all[len(all)-1] = strings.Join(parts, ".")
			}
			page := p.end(all...)
			if page.Away != nil || page.Status != 400 || !strings.Contains(page.Text, "<h1>") {
				t.Errorf("%d %v", page.Status, page.Away)
			}
			if !p.signedIn() {
				t.Error("signed out by a bad request")
			}
		})
	}
	for name, pairs := range map[string][]string{
		"oidcc-rp-initiated-logout-no-params: the user is asked":  {},
		"oidcc-rp-initiated-logout-only-state: the user is asked": {"state", state},
	} {
		t.Run(name, func(t *testing.T) {
			p.login()
			page := p.end(pairs...)
			if page.Away != nil || page.Status != 200 || !p.signedIn() {
				t.Fatalf("%d %v", page.Status, page.Away)
			}
			if page = p.Submit(t, page); page.Away != nil || page.Status != 200 || p.signedIn() {
				t.Errorf("%d %v", page.Status, page.Away)
			}
		})
	}
	t.Run("oidcc-rp-initiated-logout-no-post-logout-redirect-uri: a page says so", func(t *testing.T) {
		page := p.end("id_token_hint", p.login(), "state", state)
		if page.Away != nil || page.Status != 200 || p.signedIn() {
			t.Errorf("%d %v", page.Status, page.Away)
		}
	})
}

// TestConformanceChannelLogout is the plans of front-channel and back-channel logout.
func TestConformanceChannelLogout(t *testing.T) {
	t.Parallel()
	p := newParty(t)
	bye := p.at.URL + "/post_logout_redirect"
	p.static(map[string]any{
		"post_logout_redirect_uris": []string{bye}, "backchannel_logout_uri": p.at.URL + "/backchannel_logout", "backchannel_logout_session_required": true,
	})
	t.Run("oidcc-backchannel-rp-initiated-logout: one logout token comes, and the user is back", func(t *testing.T) {
		hint := p.login()
		page := p.end("id_token_hint", hint, "post_logout_redirect_uri", bye, "state", "s")
		if page.Away == nil || page.Away.Query().Get("state") != "s" || p.signedIn() {
			t.Fatalf("%d %v", page.Status, page.Away)
		}
		var calls []*http.Request
		for calls = p.called("/backchannel_logout"); len(calls) == 0 && t.Context().Err() == nil; calls = p.called("/backchannel_logout") {
			<-time.After(20 * time.Millisecond)
		}
		id, said := claims(t, hint), claims(t, calls[0].PostForm.Get("logout_token"))
		events, _ := said["events"].(map[string]any)
		if calls[0].Method != "POST" || len(calls[0].PostForm) != 1 {
			t.Errorf("%s %v", calls[0].Method, calls[0].PostForm)
		}
		if lacks := missing(said, "iat", "exp", "jti"); len(lacks) > 0 || said["iss"] != id["iss"] || said["aud"] != p.id || said["sid"] != id["sid"] ||
			said["sub"] != nil && said["sub"] != id["sub"] || said["nonce"] != nil || events["http://schemas.openid.net/event/backchannel-logout"] == nil {
			t.Errorf("the logout token says %v of %v", said, id)
		}
		header, err := base64.RawURLEncoding.DecodeString(strings.Split(calls[0].PostForm.Get("logout_token"), ".")[0])
		if err != nil || !strings.Contains(string(header), `"alg":"RS256"`) || !strings.Contains(string(header), `"typ":"logout+jwt"`) {
			t.Errorf("its header is %s", header)
		}
	})
	t.Run("oidcc-frontchannel-rp-initiated-logout: a frame calls the party with iss and sid", func(t *testing.T) {
		p.static(map[string]any{
			"post_logout_redirect_uris": []string{bye}, "frontchannel_logout_uri": p.at.URL + "/frontchannel_logout?a=b", "frontchannel_logout_session_required": true,
		})
		hint := p.login()
		page := p.end("id_token_hint", hint, "post_logout_redirect_uri", bye, "state", "s")
		want := url.Values{"a": {"b"}, "iss": {p.node.url}, "sid": {fmt.Sprint(claims(t, hint)["sid"])}}
		if frame := p.at.URL + "/frontchannel_logout?" + strings.ReplaceAll(want.Encode(), "&", "&amp;"); !strings.Contains(page.Text, `src="`+frame+`"`) {
			t.Errorf("no frame %s in %s", frame, page.Text)
		}
		if !strings.Contains(page.Text, bye+"?state=s") || !strings.Contains(page.Header.Get("Content-Security-Policy"), "frame-src "+p.at.URL) || p.signedIn() {
			t.Errorf("%s %s", page.Header.Get("Content-Security-Policy"), page.Text)
		}
	})
}
