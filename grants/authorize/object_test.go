package authorize_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/tokens/verify"
)

// signer is a client's key.
type signer struct{ key *ecdsa.PrivateKey }

func newSigner(t testing.TB) *signer {
	t.Helper()
	return &signer{must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)}
}

func (s *signer) jwks() []byte {
	return verify.AppendJWKS(nil, []verify.Key{{ID: "k1", Alg: verify.ES256, Public: s.key.Public()}})
}

func part(t testing.TB, v any) string {
	t.Helper()
	return base64.RawURLEncoding.EncodeToString(must(json.Marshal(v))(t))
}

// jwt signs; a nil header member is left out.
func (s *signer) jwt(t testing.TB, header, payload map[string]any) string {
	t.Helper()
	h := map[string]any{"alg": "ES256", "kid": "k1", "typ": "oauth-authz-req+jwt"}
	maps.Copy(h, header)
	maps.DeleteFunc(h, func(_ string, v any) bool { return v == nil })
	text := part(t, h) + "." + part(t, payload)
	sum := sha256.Sum256([]byte(text))
	r, sig, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, 64)
	r.FillBytes(raw[:32])
	sig.FillBytes(raw[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(raw)
}

// object is a good request object of the client signed, with changes; nil takes away.
func (w *world) object(change map[string]any) map[string]any {
	now := w.Now().Unix()
	o := map[string]any{
		"iss": "signed", "aud": testnode.Issuer, "exp": now + 60, "nbf": now, "jti": "j1", "client_id": "signed", "redirect_uri": callback,
		"response_type": "code", "scope": "openid read", "state": "inside", "nonce": "n2", "code_challenge": challenge(), "code_challenge_method": "S256",
		"max_age": 600, "claims": map[string]any{"userinfo": map[string]any{"name": nil}},
	}
	maps.Copy(o, change)
	maps.DeleteFunc(o, func(_ string, v any) bool { return v == nil })
	return o
}

func (w *world) signedClient(t testing.TB, s *signer, change func(*state.Client)) {
	t.Helper()
	c := &state.Client{
		Tenant: "default", Id: "signed", AuthMethod: "none", GrantTypes: []string{"authorization_code"}, RedirectUris: []string{callback},
		Scopes: []string{"openid", "read"}, SkipConsent: true, Jwks: s.jwks(), RequestObjectAlg: "ES256",
	}
	if change != nil {
		change(c)
	}
	w.Must(t, &command.PutClient{Client: c})
}

// TestRequestObjects is AUT-22 to AUT-25 and JWT-16: what is signed counts and nothing
// beside it, and what is not signed as agreed reaches no address that it names itself.
func TestRequestObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key, other := newSigner(t), newSigner(t)
	w.signedClient(t, key, nil)
	now := w.Now().Unix()
	good := func(change map[string]any) string { return key.jwt(t, nil, w.object(change)) }
	outside := func(object string, pairs ...string) form {
		f := form{"client_id": {"signed"}, "request": {object}}
		for i := 0; i < len(pairs); i += 2 {
			f[pairs[i]] = []string{pairs[i+1]}
		}
		return f
	}
	r := must(w.engine.Parse(t.Context(), w.FSM.View(), "default", outside(good(nil), "scope", "admin", "redirect_uri", "https://evil.example", "state", "outside", "prompt", "none")))(t)
	if r.GetScope() != "openid read" || r.GetState() != "inside" || r.GetRedirectUri() != callback || len(r.GetPrompt()) != 0 || r.GetMaxAge() != 600 || len(r.GetClaims()) == 0 {
		t.Errorf("AUT-23: %v", r)
	}
	tests := []struct {
		name string
		form form
		told bool
		code oauth.Code
	}{
		{name: "AUT-22 alg none", form: outside(part(t, map[string]any{"alg": "none"}) + "." + part(t, w.object(nil)) + "."), code: oauth.InvalidRequestObject},
		{name: "AUT-22 alg none, and an address that is proved", form: outside(part(t, map[string]any{"alg": "none"})+"."+part(t, w.object(nil))+".", "redirect_uri", callback), told: true, code: oauth.InvalidRequestObject},
		{name: "AUT-22 an address that is not", form: outside("x.y.z", "redirect_uri", "https://evil.example"), code: oauth.InvalidRequestObject},
		{name: "AUT-22 another's key", form: outside(other.jwt(t, nil, w.object(nil))), code: oauth.InvalidRequestObject},
		{name: "AUT-22 an unknown key", form: outside(key.jwt(t, map[string]any{"kid": "k2"}, w.object(nil))), code: oauth.InvalidRequestObject},
		{name: "AUT-22 another audience", form: outside(good(map[string]any{"aud": "https://other.example"})), code: oauth.InvalidRequestObject},
		{name: "AUT-22 another issuer", form: outside(good(map[string]any{"iss": "spa"})), code: oauth.InvalidRequestObject},
		{name: "AUT-22 expired", form: outside(good(map[string]any{"exp": now - 120})), code: oauth.InvalidRequestObject},
		{name: "AUT-22 of long ago", form: outside(good(map[string]any{"nbf": now - 3700})), code: oauth.InvalidRequestObject},
		{name: "JWT-11 no end", form: outside(good(map[string]any{"exp": nil})), code: oauth.InvalidRequestObject},
		{name: "JWT-11 a far end", form: outside(good(map[string]any{"exp": now + 86400})), code: oauth.InvalidRequestObject},
		{name: "AUT-23 another client inside", form: outside(good(map[string]any{"client_id": "spa"})), code: oauth.InvalidRequestObject},
		{name: "AUT-24 an object in it", form: outside(good(map[string]any{"request": "x.y.z"})), code: oauth.InvalidRequestObject},
		{name: "AUT-24 a request_uri in it", form: outside(good(map[string]any{"request_uri": "urn:x"})), code: oauth.InvalidRequestObject},
		{name: "AUT-24 a client assertion", form: outside(good(map[string]any{"sub": "signed"})), code: oauth.InvalidRequestObject},
		{name: "AUT-24 typ JWT", form: outside(key.jwt(t, map[string]any{"typ": "JWT"}, w.object(nil))), code: oauth.InvalidRequestObject},
		{name: "AUT-25 both", form: outside(good(nil), "request_uri", "https://app.example/r"), code: oauth.InvalidRequest},
		{name: "AUT-25 an address to fetch from", form: form{"client_id": {"signed"}, "request_uri": {"http://169.254.169.254/"}}, code: oauth.InvalidRequestURI},
		{name: "a parameter of another kind", form: outside(good(map[string]any{"scope": []string{"openid"}})), code: oauth.InvalidRequestObject},
		{name: "a bad request inside", form: outside(good(map[string]any{"scope": "admin"})), told: true, code: oauth.InvalidScope},
		{name: "an address inside that is not registered", form: outside(good(map[string]any{"redirect_uri": "https://evil.example"})), code: oauth.InvalidRequest},
	}
	for _, tt := range tests {
		_, err := w.engine.Parse(t.Context(), w.FSM.View(), "default", tt.form)
		var failure *authorize.Failure
		if !errors.As(err, &failure) || !errors.Is(err, tt.code) || (failure.Request != nil) != tt.told {
			t.Errorf("%s: %v (told %v)", tt.name, err, failure != nil && failure.Request != nil)
		}
	}
	if r := must(w.engine.Parse(t.Context(), w.FSM.View(), "default", outside(key.jwt(t, map[string]any{"typ": nil}, w.object(nil)))))(t); r.GetState() != "inside" {
		t.Error("without typ")
	}
	client, _ := w.FSM.View().Client("default", "signed")
	if r := must(w.engine.Push(t.Context(), w.FSM.View(), client, form{"request": {good(nil)}}))(t); r.GetState() != "inside" {
		t.Error("a pushed object")
	}
}

// TestClientsThatMustSign is AUT-21 and RFC 9101 §10.5.
func TestClientsThatMustSign(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signedClient(t, newSigner(t), func(c *state.Client) { c.RequireRequestObject = true })
	plain := asked("client_id", "signed", "scope", "openid")
	_, err := w.engine.Parse(t.Context(), w.FSM.View(), "default", plain)
	w.refused("a plain request", err, oauth.InvalidRequest)
	client, _ := w.FSM.View().Client("default", "signed")
	_, err = w.engine.Push(t.Context(), w.FSM.View(), client, plain)
	w.refused("a plain pushed one", err, oauth.InvalidRequest)
}

// TestSignedAnswers is AUT-26: whoever reads one knows whose it is, for whom, and until
// when; errors too, in each mode.
func TestSignedAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v := w.FSM.View()
	read := func(text string) map[string]any {
		t.Helper()
		token := must(verify.Parse(text))(t)
		keys := must(verify.ParseJWKS(must(w.engineKeys.JWKS(v, "default"))(t)))(t)
		key, ok := must(verify.NewKeySet(keys))(t).Lookup(token.Header.KeyID)
		if !ok || token.Verify(key) != nil {
			t.Fatalf("the answer is not signed: %s", text)
		}
		var said map[string]any
		if err := json.Unmarshal([]byte(token.Claims.Raw), &said); err != nil {
			t.Fatal(err)
		}
		if end, _ := said["exp"].(float64); said["iss"] != testnode.Issuer || said["aud"] != "spa" || int64(end) > w.Now().Unix()+600 || said["state"] != "s&t" {
			t.Errorf("%v", said)
		}
		return said
	}
	for mode, begins := range map[string]string{"jwt": callback + "?response=", "query.jwt": callback + "?response=", "fragment.jwt": callback + "#response="} {
		r := must(w.engine.Parse(t.Context(), v, "default", asked("response_mode", mode)))(t)
		answer := must(w.engine.Finish(t.Context(), v, r, w.who))(t)
		if !strings.HasPrefix(answer.Location(), begins) || len(answer.Params) != 1 {
			t.Errorf("%s: %s", mode, answer.Location())
		}
		code, _ := read(answer.Params[0][1])["code"].(string)
		if _, err := w.redeem("spa", code); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
	_, err := w.engine.Parse(t.Context(), v, "default", asked("response_mode", "form_post.jwt", "scope", "admin"))
	var failure *authorize.Failure
	if !errors.As(err, &failure) || failure.Request == nil {
		t.Fatal(err)
	}
	refused := must(w.engine.Refuse(t.Context(), v, failure.Request, failure.Err))(t)
	if said := read(refused.Params[0][1]); !refused.IsFormPost() || said["error"] != "invalid_scope" {
		t.Errorf("%v", said)
	}
}

// TestTokensInTheAddress is AUT-07: off unless the tenant and the client are for it, never
// in a query, and bound to the request by nonce and hashes.
func TestTokensInTheAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	front := &state.Client{
		Tenant: "default", Id: "front", AuthMethod: "none", GrantTypes: []string{"authorization_code", "implicit"}, RedirectUris: []string{callback},
		ResponseTypes: []string{"code", "id_token", "id_token token", "code id_token token"}, Scopes: []string{"openid", "read"}, SkipConsent: true,
	}
	w.Must(t, &command.PutClient{Client: front})
	ask := func(pairs ...string) (url.Values, error) {
		v := w.FSM.View()
		r, err := w.engine.Parse(t.Context(), v, "default", asked(append([]string{"client_id", "front", "scope", "openid read"}, pairs...)...))
		if err != nil {
			return nil, err
		}
		answer, err := w.engine.Finish(t.Context(), v, r, w.who)
		if err != nil {
			return nil, err
		}
		at := must(url.Parse(answer.Location()))(t)
		if at.RawQuery != "" {
			t.Errorf("%v: tokens in a query: %s", pairs, at)
		}
		return must(url.ParseQuery(at.Fragment))(t), nil
	}
	_, err := ask("response_type", "id_token")
	w.refused("a tenant that does not allow it", err, oauth.UnsupportedResponseType)
	tenant, _ := w.FSM.View().Tenant("default")
	w.Must(t, &command.PutTenant{Expect: tenant.GetGeneration(), Tenant: &state.Tenant{
		Id: "default", Settings: &state.TenantSettings{GrantTypes: []string{"authorization_code", "implicit"}},
	}})
	for _, bad := range []struct {
		pairs []string
		code  oauth.Code
	}{
		{[]string{"response_type", "id_token", "response_mode", "query"}, oauth.InvalidRequest},
		{[]string{"response_type", "id_token", "response_mode", "query.jwt"}, oauth.InvalidRequest},
		{[]string{"response_type", "id_token", "nonce", ""}, oauth.InvalidRequest},
		{[]string{"response_type", "id_token", "scope", "read"}, oauth.InvalidRequest},
		{[]string{"response_type", "token"}, oauth.UnsupportedResponseType},
		{[]string{"response_type", "id_token code"}, oauth.UnsupportedResponseType},
		{[]string{"response_type", "code code"}, oauth.UnsupportedResponseType},
		{[]string{"response_type", "code token"}, oauth.UnauthorizedClient},
		{[]string{"response_type", "id_token", "client_id", "spa"}, oauth.UnauthorizedClient},
	} {
		_, err := ask(bad.pairs...)
		w.refused(strings.Join(bad.pairs, " "), err, bad.code)
	}
	got := must(ask("response_type", "id_token"))(t)
	if got.Get("id_token") == "" || got.Has("access_token") || got.Has("code") {
		t.Errorf("id_token: %v", got)
	}
	got = must(ask("response_type", "code id_token token"))(t)
	said := must(verify.Parse(got.Get("id_token")))(t).Claims.Raw
	for _, member := range []string{`"at_hash":`, `"c_hash":`, `"s_hash":`, `"nonce":"n1"`} {
		if !strings.Contains(said, member) {
			t.Errorf("the ID token lacks %s: %s", member, said)
		}
	}
	if got.Get("token_type") != "Bearer" || got.Get("expires_in") == "" || got.Get("access_token") == "" {
		t.Errorf("%v", got)
	}
	if _, err := w.redeem("front", got.Get("code")); err != nil {
		t.Error(err)
	}
}

// TestAuthorizationDetails is TOK-39 and RFC 9396: of a type that both know, told to the
// user, in the tokens, and never more than was granted.
func TestAuthorizationDetails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const pay = `[{"type":"payment","amount":"9"},{"type":"payment","amount":"1"}]`
	w.Must(t, &command.PutClient{Client: &state.Client{
		Tenant: "default", Id: "pays", AuthMethod: "none", GrantTypes: []string{"authorization_code", "refresh_token"}, RedirectUris: []string{callback},
		Scopes: []string{"openid", "offline_access"}, DetailsTypes: []string{"payment"},
	}})
	parse := func(details string) (*state.AuthorizationRequest, error) {
		return w.engine.Parse(t.Context(), w.FSM.View(), "default", asked("client_id", "pays", "scope", "openid offline_access", "authorization_details", details))
	}
	_, err := parse(pay)
	w.refused("a type that the tenant does not know", err, oauth.InvalidAuthorizationDetails)
	tenant, _ := w.FSM.View().Tenant("default")
	w.Must(t, &command.PutTenant{Expect: tenant.GetGeneration(), Tenant: &state.Tenant{Id: "default", Settings: &state.TenantSettings{DetailsTypes: []string{"payment", "other"}}}})
	for _, bad := range []string{`{}`, `[]`, `[1]`, `[{}]`, `[{"type":"other"}]`, `[{"Type":"payment"}]`, `[{"type":"payment","type":"payment"}]`, `[{"type":"payment"}`, "[" + strings.Repeat(`{"type":"payment"},`, 16) + `{"type":"payment"}]`, `[{"type":"payment","x":` + strings.Repeat("[", 9) + strings.Repeat("]", 9) + "}]"} {
		_, err := parse(bad)
		w.refused(bad, err, oauth.InvalidAuthorizationDetails)
	}
	r := must(parse(" " + strings.ReplaceAll(pay, ",", " , ")))(t)
	w.Must(t, &command.PutConsent{Consent: &state.Consent{Tenant: "default", User: "u1", ClientId: "pays", Scopes: []string{"openid", "offline_access"}}})
	v := w.FSM.View()
	if step := must(w.engine.Next(v, r, w.who))(t); step != authorize.Consent {
		t.Errorf("step %d: nobody is asked about the details", step)
	}
	code := must(w.engine.Finish(t.Context(), v, r, w.who))(t).Params[0][1]
	_, err = w.redeem("pays", code, "authorization_details", `[{"type":"payment","amount":"99"}]`)
	w.refused("more than was granted", err, oauth.InvalidAuthorizationDetails)
	first := must(w.redeem("pays", code))(t)
	if string(first.Details) != pay || !strings.Contains(must(verify.Parse(string(first.Token)))(t).Claims.Raw, `"authorization_details":`+pay) {
		t.Errorf("%s in %s", first.Details, first.Token)
	}
	w.Pass(time.Second)
	second := must(w.token("pays", "refresh_token", "refresh_token", string(first.Refresh), "authorization_details", `[{"type":"payment","amount":"1"}]`))(t)
	if string(second.Details) != `[{"type":"payment","amount":"1"}]` {
		t.Errorf("%s", second.Details)
	}
}
