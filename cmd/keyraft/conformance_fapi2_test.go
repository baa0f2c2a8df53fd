package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/testproof"
)

// fapi is a client of FAPI 2.0: private_key_jwt, pushed requests, PKCE and DPoP.
type fapi struct {
	*party
	key, bound *testproof.Key
	nonce      string
}

func newFAPI(p *party) *fapi {
	p.t.Helper()
	f := &fapi{party: p, key: testproof.NewRSA(p.t, "PS256"), bound: testproof.New(p.t)}
	own := *p
	f.party = &own
	f.static(map[string]any{
		"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "PS256", "jwks": json.RawMessage(f.key.JWKS(p.t, "k")),
		"require_pushed_authorization_requests": true, "require_pkce": true, "dpop_bound_access_tokens": true, "refresh_token_rotation": false,
		"id_token_signed_response_alg": "PS256",
	})
	return f
}

// told is an answer.
type told struct {
	status int
	header http.Header
	said   map[string]any
}

// send asks with a DPoP proof with changes ("": none is sent), and once more with the
// nonce that it is given.
func (f *fapi) send(method, path, scheme, token string, form url.Values, change map[string]any) *told {
	f.t.Helper()
	for {
		req, err := http.NewRequestWithContext(f.t.Context(), method, f.node.url+path, strings.NewReader(form.Encode()))
		if err != nil {
			f.t.Fatal(err)
		}
		if form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		proof := testproof.Claims(method, f.node.url+path, time.Now().Unix())
		if token != "" {
			req.Header.Set("Authorization", scheme+" "+token)
			proof["ath"] = testproof.Hash(token)
		}
		if f.nonce != "" {
			proof["nonce"] = f.nonce
		}
		if _, no := change["no proof"]; !no {
			req.Header.Set("DPoP", f.bound.Proof(f.t, testproof.With(proof, change)))
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			f.t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			f.t.Fatal(err)
		}
		got := &told{status: resp.StatusCode, header: resp.Header}
		_ = json.Unmarshal(text, &got.said) // what is no JSON has no members
		if nonce := resp.Header.Get("DPoP-Nonce"); nonce != "" && nonce != f.nonce {
			f.nonce = nonce
			if got.said["error"] == "use_dpop_nonce" || strings.Contains(resp.Header.Get("WWW-Authenticate"), "use_dpop_nonce") {
				if form.Has("client_assertion") { // it was not used up, and a new one is as good
					form = asserted(maps.Clone(form), f.sign(nil))
				}
				continue
			}
		}
		if resp.StatusCode == http.StatusServiceUnavailable { // the node makes its keys yet
			<-time.After(100 * time.Millisecond)
			continue
		}
		return got
	}
}

// sign makes a client assertion; its audience is the issuer as a text.
func (f *fapi) sign(change map[string]any) string {
	all := map[string]any{"aud": f.node.url}
	maps.Copy(all, change)
	return f.assertion(f.key, "k", all)
}

// pushed is a request with PKCE.
func (f *fapi) pushed(pairs ...string) url.Values {
	q := f.request(append([]string{"code_challenge", authorizeForm().Get("code_challenge"), "code_challenge_method", "S256"}, pairs...)...)
	return q
}

// push gives the request_uri.
func (f *fapi) push(q url.Values) string {
	f.t.Helper()
	got := f.send("POST", "/oauth2/par", "", "", asserted(maps.Clone(q), f.sign(nil)), map[string]any{"no proof": true})
	if life, _ := got.said["expires_in"].(float64); got.status != 201 || life < 5 || life >= 600 {
		f.t.Fatalf("PAR: %d %v", got.status, got.said)
	}
	return fmt.Sprint(got.said["request_uri"])
}

func (f *fapi) refer(uri string) url.Values {
	return url.Values{"client_id": {f.id}, "request_uri": {uri}}
}

// granted is a code.
func (f *fapi) granted(pairs ...string) string {
	f.t.Helper()
	q := f.pushed(pairs...)
	said, _ := f.answer(f.consented(f.page(f.refer(f.push(q)))))
	if said.Get("state") != q.Get("state") || said.Get("iss") != f.node.url || said.Get("code") == "" {
		f.t.Fatalf("%v", said)
	}
	return said.Get("code")
}

func (f *fapi) redemption(code string) url.Values {
	form := f.code(code)
	form.Set("code_verifier", verifier)
	return form
}

func (f *fapi) take(code string) map[string]any {
	f.t.Helper()
	got := f.send("POST", "/oauth2/token", "", "", asserted(f.redemption(code), f.sign(nil)), nil)
	if got.status != 200 || got.said["token_type"] != "DPoP" {
		f.t.Fatalf("%d %v", got.status, got.said)
	}
	return got.said
}

// TestConformanceFAPI2 is the plan of the FAPI 2.0 security profile, with private_key_jwt
// and DPoP.
func TestConformanceFAPI2(t *testing.T) {
	t.Parallel()
	p := newParty(t)
	f, other := newFAPI(p), newFAPI(p)
	for _, m := range []struct {
		name string
		run  func(*fapi)
	}{
		{"happy-flow, ensure-authorization-request-without-state-success, -without-nonce-success, -with-64-char-nonce-success", func(f *fapi) {
			for _, pairs := range [][]string{nil, {"state", ""}, {"nonce", ""}, {"nonce", strings.Repeat("n", 64)}, {"scope", "email openid"}} {
				got := f.take(f.granted(pairs...))
				info := f.send("GET", "/oauth2/userinfo", "DPoP", got["access_token"].(string), nil, nil)
				if info.status != 200 || info.said["sub"] != claims(f.t, got["id_token"])["sub"] {
					f.t.Errorf("%d %v", info.status, info.said)
				}
			}
		}},
		{"user-rejects-authentication", func(f *fapi) {
			page := f.page(f.refer(f.push(f.pushed("prompt", "consent"))))
			for range 2 {
				if len(page.Forms) > 0 && strings.HasSuffix(page.Forms[0].Action, "/login") {
					page = f.Submit(f.t, page, "username", "bob", "password", phrase)
				}
			}
			if got := f.refused(f.Submit(f.t, page, "decision", "deny")); got != "access_denied" {
				f.t.Errorf("%s", got)
			}
		}},
		{"long nonce and state of 384 characters", func(f *fapi) {
			f.take(f.granted("nonce", strings.Repeat("n", 384), "state", strings.Repeat("s", 384)))
		}},
		{"refresh-token: not rotated, bound to client and key", fapiRefresh},
		{"dpop-negative-tests, check-dpop-proof-nbf-exp, iat-10-seconds-before and -after, access-token-type-header-case-sensitivity", fapiProofs},
		{"dpop_jkt, and a proof at PAR, bind the code", fapiBinding},
		{"ensure-authorization-code-is-bound-to-client, attempt-reuse-authorization-code-after-one-second", func(f *fapi) {
			code := f.granted()
			if got := other.send("POST", "/oauth2/token", "", "", asserted(other.redemption(code), other.sign(nil)), nil); got.status != 400 || got.said["error"] != "invalid_grant" {
				f.t.Errorf("another client: %d %v", got.status, got.said)
			}
			first := f.take(code)["access_token"].(string)
			if got := f.send("POST", "/oauth2/token", "", "", asserted(f.redemption(code), f.sign(nil)), nil); got.status != 400 || got.said["error"] != "invalid_grant" {
				f.t.Errorf("a second use: %d %v", got.status, got.said)
			}
			if got := f.send("GET", "/oauth2/userinfo", "DPoP", first, nil, nil); got.status != 401 {
				f.t.Errorf("what the first use gave: %d", got.status)
			}
		}},
		{"ensure-client-id-in-token-endpoint, ensure-client-assertion-in-token-endpoint, -with-exp-is-5-minutes-in-past-fails, -wrong-aud, -no-sub, -rs256", fapiAssertions},
		{"par-attempt-reuse-request_uri, ensure-reused-before-authentication, request-uri-is-bound-to-client", func(f *fapi) {
			uri := f.push(f.pushed("prompt", "login"))
			if page := f.page(f.refer(uri)); page.Status != 200 || len(page.Forms) == 0 {
				f.t.Fatalf("%d", page.Status)
			}
			said, _ := f.answer(f.consented(f.page(f.refer(uri)))) // the page was loaded anew
			f.take(said.Get("code"))
			if got := f.refused(f.page(f.refer(uri))); got != "invalid_request_uri" {
				f.t.Errorf("used: %s", got)
			}
			stolen := f.refer(f.push(f.pushed()))
			stolen.Set("client_id", other.id)
			if page := f.page(stolen); page.Away != nil && page.Away.Query().Get("code") != "" || page.Status == 200 {
				f.t.Errorf("another client's: %d %v", page.Status, page.Away)
			}
		}},
		{"par: refusals", fapiPushes},
		{"ensure-unsigned-authorization-request-without-using-par-fails, state outside is not used", func(f *fapi) {
			if page := f.page(f.pushed()); page.Away != nil || page.Status != 400 {
				f.t.Errorf("%d %v", page.Status, page.Away)
			}
			q := f.pushed()
			outside := f.refer(f.push(q))
			outside.Set("state", "outside")
			outside.Set("redirect_uri", "https://evil.example/")
			said, _ := f.answer(f.consented(f.page(outside)))
			if said.Get("state") != q.Get("state") {
				f.t.Errorf("%v", said)
			}
		}},
	} {
		t.Run(m.name, func(t *testing.T) {
			own, party, on := *f, *f.party, *p.site
			on.t, party.site, own.party = t, &on, &party
			m.run(&own)
		})
	}
}

func fapiRefresh(f *fapi) {
	got := f.take(f.granted("scope", "openid offline_access", "prompt", "consent"))
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {fmt.Sprint(got["refresh_token"])}}
	for range 2 { // a client that lost the answer asks again
		next := f.send("POST", "/oauth2/token", "", "", asserted(maps.Clone(form), f.sign(nil)), nil)
		if rotated := next.said["refresh_token"]; next.status != 200 || rotated != nil && rotated != form.Get("refresh_token") {
			f.t.Errorf("%d %v", next.status, next.said)
		}
	}
	bare := f.send("POST", "/oauth2/token", "", "", asserted(maps.Clone(form), f.sign(nil)), map[string]any{"no proof": true})
	if bare.status != 400 {
		f.t.Errorf("without a proof: %d %v", bare.status, bare.said)
	}
	foreign := *f
	foreign.bound = testproof.New(f.t)
	made := newFAPI(f.party)
	if got := made.send("POST", "/oauth2/token", "", "", asserted(maps.Clone(form), made.sign(nil)), nil); got.status != 400 || got.said["error"] != "invalid_grant" {
		f.t.Errorf("another client: %d %v", got.status, got.said)
	}
}

func fapiProofs(f *fapi) {
	token := f.take(f.granted())["access_token"].(string)
	now := time.Now().Unix()
	for name, tt := range map[string]struct {
		change map[string]any
		ok     bool
	}{
		"nbf and exp":       {map[string]any{"nbf": now, "exp": now + 300}, true},
		"10 seconds ago":    {map[string]any{"iat": now - 10}, true},
		"10 seconds ahead":  {map[string]any{"iat": now + 10}, true},
		"more members":      {map[string]any{"extra": "x"}, true},
		"htu with a query":  {map[string]any{"htu": f.node.url + "/oauth2/userinfo?a=b#c"}, true},
		"htu in upper case": {map[string]any{"htu": strings.Replace(f.node.url, "http://", "HTTP://", 1) + "/oauth2/userinfo"}, true},
		"no jti":            {map[string]any{"jti": nil}, false},
		"no htm":            {map[string]any{"htm": nil}, false},
		"no htu":            {map[string]any{"htu": nil}, false},
		"no iat":            {map[string]any{"iat": nil}, false},
		"no ath":            {map[string]any{"ath": nil}, false},
		"another method":    {map[string]any{"htm": "PUT"}, false},
		"another URL":       {map[string]any{"htu": f.node.url + "/oauth2/token"}, false},
		"another token":     {map[string]any{"ath": testproof.Hash("x")}, false},
		"no proof at all":   {map[string]any{"no proof": true}, false},
	} {
		if got := f.send("GET", "/oauth2/userinfo", "DPoP", token, nil, tt.change); (got.status == 200) != tt.ok || !tt.ok && got.status != 400 && got.status != 401 {
			f.t.Errorf("%s: %d %v", name, got.status, got.header.Get("WWW-Authenticate"))
		}
	}
	jti := map[string]any{"jti": rand.Text()}
	if a, b := f.send("GET", "/oauth2/userinfo", "DPoP", token, nil, jti), f.send("GET", "/oauth2/userinfo", "DPoP", token, nil, jti); a.status != 200 || b.status != 401 {
		f.t.Errorf("a proof twice: %d %d", a.status, b.status)
	}
	for scheme, status := range map[string]int{"dpop": 200, "DPOP": 200, "Bearer": 401} {
		if got := f.send("GET", "/oauth2/userinfo", scheme, token, nil, nil); got.status != status {
			f.t.Errorf("%s: %d", scheme, got.status)
		}
	}
	stranger := *f
	stranger.bound = testproof.New(f.t)
	if got := stranger.send("GET", "/oauth2/userinfo", "DPoP", token, nil, nil); got.status != 401 {
		f.t.Errorf("another key: %d", got.status)
	}
}

func fapiBinding(f *fapi) {
	q := f.pushed()
	q.Set("dpop_jkt", testproof.Hash("another key"))
	said, _ := f.answer(f.consented(f.page(f.refer(f.push(q)))))
	if got := f.send("POST", "/oauth2/token", "", "", asserted(f.redemption(said.Get("code")), f.sign(nil)), nil); got.status != 400 {
		f.t.Errorf("another key than dpop_jkt: %d %v", got.status, got.said)
	}
	if got := f.send("POST", "/oauth2/par", "", "", asserted(q, f.sign(nil)), nil); got.status != 400 {
		f.t.Errorf("a proof and a dpop_jkt that differ: %d %v", got.status, got.said)
	}
	q = f.pushed()
	got := f.send("POST", "/oauth2/par", "", "", asserted(maps.Clone(q), f.sign(nil)), nil)
	said, _ = f.answer(f.consented(f.page(f.refer(fmt.Sprint(got.said["request_uri"])))))
	f.take(said.Get("code"))
}

func fapiAssertions(f *fapi) {
	now := time.Now().Unix()
	for name, tt := range map[string]struct {
		assertion string
		ok        bool
	}{
		"good":                           {f.sign(nil), true},
		"made 8 seconds ahead":           {f.sign(map[string]any{"iat": now + 8, "nbf": now + 8}), true},
		"made more than a minute ahead":  {f.sign(map[string]any{"iat": now + 90, "nbf": now + 90, "exp": now + 150}), false},
		"expired 5 minutes ago":          {f.sign(map[string]any{"iat": now - 360, "exp": now - 300}), false},
		"for the token endpoint":         {f.sign(map[string]any{"aud": f.node.url + "/oauth2/token"}), false},
		"for the PAR endpoint":           {f.sign(map[string]any{"aud": f.node.url + "/oauth2/par"}), false},
		"for the PAR endpoint in a list": {f.sign(map[string]any{"aud": []string{f.node.url + "/oauth2/par", "https://other.example"}}), false},
		"for somebody else":              {f.sign(map[string]any{"aud": "https://other.example"}), false},
		"without sub":                    {f.sign(map[string]any{"sub": nil}), false},
		"of another alg":                 {f.key.Sign(f.t, map[string]any{"alg": "RS256", "kid": "k"}, map[string]any{"iss": f.id, "sub": f.id, "aud": f.node.url, "jti": "j", "exp": now + 60}), false},
		"missing":                        {"", false},
	} {
		form := f.pushed()
		if asserted(form, tt.assertion); tt.assertion == "" {
			form.Del("client_assertion")
			form.Del("client_assertion_type")
		}
		got := f.send("POST", "/oauth2/par", "", "", form, map[string]any{"no proof": true})
		if code := got.said["error"]; (got.status == 201) != tt.ok || !tt.ok && code != "invalid_client" && code != "invalid_request" {
			f.t.Errorf("%s: %d %v", name, got.status, got.said)
		}
	}
}

func fapiPushes(f *fapi) {
	for name, pairs := range map[string][]string{
		"par-ensure-pkce-required":                         {"code_challenge", "", "code_challenge_method", ""},
		"par-ensure-plain-pkce-rejected":                   {"code_challenge_method", "plain"},
		"ensure-response-type-code-idtoken-fails":          {"response_type", "code id_token"},
		"ensure-response-type-token-fails":                 {"response_type", "token"},
		"ensure-registered-redirect-uri":                   {"redirect_uri", "https://evil.example/"},
		"ensure-request-object-without-redirect-uri":       {"redirect_uri", ""},
		"without a redirect URI, and without openid":       {"redirect_uri", "", "scope", "email"},
		"par-authorization-request-containing-request_uri": {"request_uri", "urn:ietf:params:oauth:request_uri:x"},
	} {
		got := f.send("POST", "/oauth2/par", "", "", asserted(f.pushed(pairs...), f.sign(nil)), map[string]any{"no proof": true})
		if got.status != 400 || got.said["error"] == nil {
			f.t.Errorf("%s: %d %v", name, got.status, got.said)
		}
	}
	for _, method := range []string{"GET", "PUT"} {
		if got := f.send(method, "/oauth2/par", "", "", asserted(f.pushed(), f.sign(nil)), map[string]any{"no proof": true}); got.status != 405 {
			f.t.Errorf("%s: %d", method, got.status)
		}
	}
	for name, change := range map[string]string{"par-incorrect-pkce-code-verifier-rejected": strings.Repeat("x", 43), "par-ensure-pkce-code-verifier-required": ""} {
		form := f.redemption(f.granted())
		if form.Set("code_verifier", change); change == "" {
			form.Del("code_verifier")
		}
		if got := f.send("POST", "/oauth2/token", "", "", asserted(form, f.sign(nil)), nil); got.status != 400 || got.said["error"] != "invalid_grant" && got.said["error"] != "invalid_request" {
			f.t.Errorf("%s: %d %v", name, got.status, got.said)
		}
	}
	// ensure-holder-of-key-required: no token without a proof.
	if got := f.send("POST", "/oauth2/token", "", "", asserted(f.redemption(f.granted()), f.sign(nil)), map[string]any{"no proof": true}); got.status != 400 {
		f.t.Errorf("no proof: %d %v", got.status, got.said)
	}
}
