package authorize_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/internal/testproof"
)

// FuzzRequestObject: of what a client signs, a request is made only where encoding/json
// finds in it what RFC 9101 asks for: its own client, our issuer, an end that is near, no
// object within the object, and nothing but what is in it. What it did not sign is refused.
func FuzzRequestObject(f *testing.F) {
	w, key := newWorld(f), testproof.New(f)
	w.Must(f, &command.PutClient{Client: &state.Client{
		Tenant: "default", Id: "signed", AuthMethod: "none", GrantTypes: []string{"authorization_code"}, RedirectUris: []string{callback},
		Scopes: []string{"openid", "read"}, Jwks: key.JWKS(f, "k1"), RequestObjectAlg: "ES256",
	}})
	const header = `{"alg":"ES256","kid":"k1","typ":"oauth-authz-req+jwt"}`
	add := func(change map[string]any) {
		f.Add(header, string(must(json.Marshal(w.object(change)))(f)), true)
	}
	add(nil)
	f.Add(header, string(must(json.Marshal(w.object(nil)))(f)), false)
	for name, values := range map[string][]any{
		"aud": {"https://other.example", []string{"https://other.example", testnode.Issuer}, nil}, "iss": {"spa"}, "client_id": {"spa", nil}, "sub": {"signed"},
		"exp": {nil, 1, 1 << 60}, "nbf": {1}, "request": {"x"}, "request_uri": {"urn:x"}, "redirect_uri": {"https://evil.example"}, "state": {7}, "claims": {map[string]any{"userinfo": nil}},
	} {
		for _, value := range values {
			add(map[string]any{name: value})
		}
	}
	f.Add(`{"alg":"none"}`, `{}`, false)
	f.Fuzz(func(t *testing.T, header, payload string, signed bool) {
		text := key.SignRaw(t, header, payload)
		if !signed {
			last := byte('A')
			if text[len(text)-5] == last {
				last = 'B'
			}
			text = text[:len(text)-5] + string(last) + text[len(text)-4:]
		}
		outside := form{"client_id": {"signed"}, "request": {text}, "scope": {"read"}, "redirect_uri": {callback}, "state": {"outside"}, "prompt": {"none"}}
		r, err := w.engine.Parse(t.Context(), w.FSM.View(), "default", outside)
		var failure *authorize.Failure
		if err != nil {
			if !errors.As(err, &failure) {
				t.Errorf("%s: %v is no refusal", payload, err)
			}
			return
		}
		var said map[string]any
		if json.Unmarshal([]byte(payload), &said) != nil || !signed {
			t.Fatalf("%s %s is taken (signed: %v)", header, payload, signed)
		}
		has := func(name, value string) bool {
			switch v := said[name].(type) {
			case string:
				return v == value
			case []any:
				return slices.Contains(v, any(value))
			}
			return false
		}
		end, _ := said["exp"].(float64)
		now := float64(w.Now().Unix())
		if said["iss"] != "signed" || said["client_id"] != "signed" || !has("aud", testnode.Issuer) || said["sub"] == "signed" || end < now-120 || end > now+3700 ||
			has("request", "x") || has("request_uri", "urn:x") {
			t.Errorf("%s is taken", payload)
		}
		if text, _ := said["state"].(string); r.GetState() == "outside" && text != "outside" || !clients.RedirectMatches([]string{callback}, r.GetRedirectUri()) || slices.Contains(r.GetPrompt(), "none") && !has("prompt", "none") {
			t.Errorf("of %s came %v", payload, r)
		}
	})
}
