package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/testproof"
)

// kinds are one good specimen of each thing that this server gives or takes, all of one
// user and one client.
func kinds(t *testing.T, s *site, key *testproof.Key) map[string]string {
	t.Helper()
	told := make(chan string, 4)
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.ParseForm() == nil {
			told <- r.PostForm.Get("logout_token")
		}
	}))
	t.Cleanup(app.Close)
	s.call("PATCH", "/admin/v1/clients/web", "Bearer "+s.node.admin(), "application/merge-patch+json",
		`{"backchannel_logout_uri":"`+app.URL+`/back","userinfo_signed_response_alg":"RS256","grant_types":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code","urn:ietf:params:oauth:grant-type:token-exchange","urn:ietf:params:oauth:grant-type:jwt-bearer"],"scope":"openid profile offline_access read"}`, 200)
	const media = "application/x-www-form-urlencoded"
	own := basicAuth("web", s.secret)
	answer := away(t, s.Submit(t, s.signIn(s.Open(t, authorizePath("scope", "openid profile offline_access"))), "decision", "allow"))
	got := s.redeem(200, answer.Get("code"))
	all := map[string]string{}
	for kind, member := range map[string]string{"an access token": "access_token", "an ID token": "id_token", "a refresh token": "refresh_token"} {
		all[kind], _ = got[member].(string)
	}
	_, text := s.ask("GET", "/oauth2/userinfo", "Bearer "+all["an access token"], "", "")
	all["a userinfo answer"] = string(text)
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.node.url+"/oauth2/introspect", strings.NewReader("token="+all["an access token"]))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"Authorization": own, "Content-Type": media, "Accept": "application/token-introspection+jwt"} {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	signed, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	all["an introspection answer"] = string(signed)
	all["a signed answer"] = away(t, s.Open(t, authorizePath("response_mode", "query.jwt", "scope", "openid profile offline_access"))).Get("response")
	all["a code"] = away(t, s.Open(t, authorizePath("scope", "openid profile offline_access"))).Get("code")
	uri, _ := s.call("POST", "/oauth2/par", own, media, authorizeForm().Encode(), 201)["request_uri"].(string)
	all["a request_uri"], all["what a request_uri holds"] = uri, strings.TrimPrefix(uri, "urn:ietf:params:oauth:request_uri:")
	all["a device code"], _ = s.call("POST", "/oauth2/device_authorization", own, media, "scope=openid", 200)["device_code"].(string)
	now := time.Now().Unix()
	all["a DPoP proof"] = key.Proof(t, testproof.Claims("POST", s.issuer+"/oauth2/token", now))
	all["a request object"] = key.Sign(t, map[string]any{"alg": "ES256", "kid": "k1", "typ": "oauth-authz-req+jwt"},
		map[string]any{"iss": "signs", "aud": s.issuer, "exp": now + 60, "nbf": now, "iat": now, "client_id": "signs", "redirect_uri": callback, "response_type": "code", "scope": "openid"})
	all["a client assertion"] = key.Sign(t, map[string]any{"alg": "ES256", "kid": "k1"},
		map[string]any{"iss": "signs", "sub": "signs", "aud": s.issuer, "jti": "a1", "exp": now + 60, "iat": now})
	s.Post(t, "/oauth2/logout", url.Values{"id_token_hint": {all["an ID token"]}, "post_logout_redirect_uri": {"https://app.example/bye"}})
	select {
	case all["a logout token"] = <-told:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody was told of the logout")
	}
	for kind, text := range all {
		if len(text) < 40 {
			t.Fatalf("%s is %q", kind, text)
		}
	}
	return all
}

// TestJWT24NothingPassesForAnotherKind: each thing that this server gives or takes, at each
// place where something is taken: it is refused everywhere but where it belongs (JWT-24,
// TOK-21).
func TestJWT24NothingPassesForAnotherKind(t *testing.T) {
	t.Parallel()
	s, key := newSite(t), testproof.New(t)
	s.admin("clients", map[string]any{
		"client_id": "signs", "token_endpoint_auth_method": "private_key_jwt", "jwks": json.RawMessage(key.JWKS(t, "k1")), "grant_types": []string{"authorization_code"},
		"response_types": []string{"code"}, "redirect_uris": []string{callback}, "scope": "openid",
	})
	s.admin("trusted-issuers", map[string]any{ // the same key: the kind alone tells
		"issuer": "signs", "jwks": json.RawMessage(key.JWKS(t, "k1")), "token_exchange": true,
	})
	all := kinds(t, s, key)
	const media = "application/x-www-form-urlencoded"
	own := basicAuth("web", s.secret)
	form := func(path, auth string, pairs ...string) func(string) (int, string) {
		return func(text string) (int, string) {
			f := url.Values{}
			for i := 0; i < len(pairs); i += 2 {
				f.Set(pairs[i], strings.ReplaceAll(pairs[i+1], "*", text))
			}
			status, body := s.ask("POST", path, auth, media, f.Encode())
			var said struct {
				Error  string
				Active *bool
			}
			_ = json.Unmarshal(body, &said) // what is no JSON has no members
			if said.Active != nil {
				return status, map[bool]string{true: "active", false: "inactive"}[*said.Active]
			}
			return status, said.Error
		}
	}
	bearer := func(path string) func(string) (int, string) {
		return func(text string) (int, string) {
			status, _ := s.ask("GET", path, "Bearer "+text, "", "")
			return status, ""
		}
	}
	exchange := func(kind string) func(string) (int, string) {
		return form("/oauth2/token", own, "grant_type", "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token", "*", "subject_token_type", "urn:ietf:params:oauth:token-type:"+kind)
	}
	assertion := "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	for _, place := range []struct {
		name string
		ask  func(string) (int, string)
		fits []string // what belongs there, or is good there for a reason of its own
		bad  []string // the answers, as "status error"
	}{
		{"a bearer token at userinfo", bearer("/oauth2/userinfo"), []string{"an access token"}, []string{"401 "}},
		{"a bearer token at the admin API", bearer("/admin/v1/clients"), nil, []string{"401 ", "403 "}},
		{"a token at introspection", form("/oauth2/introspect", own, "token", "*"), []string{"an access token"}, []string{"200 inactive"}},
		{"a code", form("/oauth2/token", own, "grant_type", "authorization_code", "code", "*", "redirect_uri", callback, "code_verifier", verifier), []string{"a code"}, []string{"400 invalid_grant"}},
		{"a refresh token", form("/oauth2/token", own, "grant_type", "refresh_token", "refresh_token", "*"), []string{"a refresh token"}, []string{"400 invalid_grant"}},
		{"a device code", form("/oauth2/token", own, "grant_type", "urn:ietf:params:oauth:grant-type:device_code", "device_code", "*"), []string{"a device code"}, []string{"400 invalid_grant"}},
		{"a grant's assertion", form("/oauth2/token", own, "grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion", "*"), []string{"a client assertion"}, []string{"400 invalid_grant"}},
		{"a client assertion", form("/oauth2/revoke", "", "token", "x", "client_assertion", "*", "client_assertion_type", assertion), []string{"a client assertion"}, []string{"401 invalid_client", "400 invalid_request"}},
		{"an access token to exchange", exchange("access_token"), []string{"an access token"}, []string{"400 invalid_request"}},
		{"an ID token to exchange", exchange("id_token"), []string{"an ID token", "a client assertion"}, []string{"400 invalid_request"}},
		{"a JWT to exchange", exchange("jwt"), []string{"an access token", "a client assertion"}, []string{"400 invalid_request"}},
		{"a request object", func(text string) (int, string) {
			p := s.Open(t, "/oauth2/authorize?"+url.Values{"client_id": {"signs"}, "request": {text}, "redirect_uri": {callback}}.Encode())
			if p.Away != nil {
				return p.Status, p.Away.Query().Get("error")
			}
			return p.Status, ""
		}, []string{"a request object"}, []string{"303 invalid_request_object", "303 request_not_supported"}},
		{"a request_uri", func(text string) (int, string) {
			p := s.Open(t, "/oauth2/authorize?"+url.Values{"client_id": {"web"}, "request_uri": {"urn:ietf:params:oauth:request_uri:" + strings.TrimPrefix(text, "urn:ietf:params:oauth:request_uri:")}}.Encode())
			return p.Status, ""
		}, []string{"a request_uri", "what a request_uri holds"}, []string{"400 "}},
		{"an id_token_hint", func(text string) (int, string) {
			p := s.Open(t, authorizePath("prompt", "none", "id_token_hint", text))
			if p.Away != nil {
				return p.Status, p.Away.Query().Get("error")
			}
			return p.Status, ""
		}, nil, []string{"303 login_required"}},
		{"a hint of a logout", func(text string) (int, string) {
			p := s.Open(t, "/oauth2/logout?"+url.Values{"id_token_hint": {text}}.Encode())
			return p.Status, ""
		}, []string{"an ID token"}, []string{"400 "}},
		{"a DPoP proof", func(text string) (int, string) {
			req, err := http.NewRequestWithContext(t.Context(), "POST", s.node.url+"/oauth2/token", strings.NewReader("grant_type=refresh_token&refresh_token=x"))
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range map[string]string{"Authorization": own, "Content-Type": media, "DPoP": text} {
				req.Header.Set(name, value)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }() // only read
			var said struct{ Error string }
			if err := json.NewDecoder(resp.Body).Decode(&said); err != nil {
				t.Fatal(err)
			}
			return resp.StatusCode, said.Error
		}, []string{"a DPoP proof"}, []string{"400 invalid_dpop_proof"}},
	} {
		for kind, text := range all {
			status, said := place.ask(text)
			got := strings.TrimSpace(strconv.Itoa(status) + " " + said)
			refused := slices.ContainsFunc(place.bad, func(b string) bool { return strings.TrimSpace(b) == got })
			if fits := slices.Contains(place.fits, kind); !fits && !refused {
				t.Errorf("%s as %s: %s", kind, place.name, got)
			} else if fits && refused && slices.Contains([]string{"a client assertion", "a request object", "a request_uri", "a DPoP proof", "a hint of a logout"}, place.name) {
				t.Errorf("%s where it belongs: %s", kind, got) // the others end with the login, or want more than this
			}
		}
	}
}
