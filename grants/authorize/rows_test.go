package authorize_test

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/tokens/verify"
)

// change writes a client's record as it is now, with changes.
func (w *world) change(id string, change func(*state.Client)) {
	w.t.Helper()
	have, _ := w.FSM.View().Client("default", id)
	next := proto.CloneOf(have)
	change(next)
	w.Must(w.t, &command.PutClient{Client: next, Expect: have.GetGeneration()})
}

// spellings are other texts for a sealed or random value: none of them is it.
func spellings(value string) map[string]string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, value[len(value)-1])
	out := map[string]string{
		"without its end": value[:len(value)-1], "without its beginning": value[1:], "with a space": value + " ", "with a space before": " " + value, "with a line end": value + "\n",
		"with a line end inside": value[:20] + "\n" + value[20:], "padded": value + "=", "in upper case": strings.ToUpper(value), "in lower case": strings.ToLower(value), "twice": value + value,
		"with a bit flipped":          value[:30] + string(alphabet[(strings.IndexByte(alphabet, value[30])+1)%64]) + value[31:],
		"with other last bits":        value[:len(value)-1] + string(alphabet[last^1]),
		"with another last character": value[:len(value)-1] + string(alphabet[last^32]),
	}
	for name, text := range out {
		if text == value {
			delete(out, name)
		}
	}
	return out
}

// TestTOK22OneSpellingAlone: a code and a refresh token are good as they were given, and in
// no other way of writing the same bytes.
func TestTOK22OneSpellingAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	code := w.code()
	for name, text := range spellings(code) {
		_, err := w.redeem("spa", text)
		w.refused("a code "+name, err, oauth.InvalidGrant)
	}
	refresh := string(must(w.redeem("spa", code))(t).Refresh)
	for name, text := range spellings(refresh) {
		_, err := w.refresh("spa", text)
		w.refused("a refresh token "+name, err, oauth.InvalidGrant)
	}
	must(w.refresh("spa", refresh))(t)
}

// TestTOK16And17And19WhatARedemptionMustRepeat: the redirect URI byte by byte, also that
// there was none, and a verifier that is one, and not the challenge itself.
func TestTOK16And17And19WhatARedemptionMustRepeat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	code := w.code()
	for _, other := range []string{"https://app.example/CB", "https://app.example/c%62", "HTTPS://app.example/cb", callback + "?", callback + "#", "http://127.0.0.1/cb"} {
		_, err := w.redeem("spa", code, "redirect_uri", other)
		w.refused("TOK-16 "+other, err, oauth.InvalidGrant)
	}
	for _, bad := range []string{verifier[:42], strings.Repeat("v", 129), verifier + "=", verifier + "\n", verifier + " ", verifier[:50] + "+" + verifier[51:], verifier[:50] + "é"} {
		_, err := w.redeem("spa", code, "code_verifier", bad)
		w.refused("TOK-17 "+bad, err, oauth.InvalidRequest)
	}
	for _, wrong := range []string{challenge(), strings.ToUpper(verifier), verifier + "x", verifier[1:]} {
		_, err := w.redeem("spa", code, "code_verifier", wrong)
		w.refused("TOK-19 "+wrong, err, oauth.InvalidGrant)
	}
	must(w.redeem("spa", code))(t) // nothing was used up
	w.Must(t, &command.PutClient{Client: &state.Client{
		Tenant: "default", Id: "one", AuthMethod: "none", GrantTypes: []string{"authorization_code"}, RedirectUris: []string{callback}, Scopes: []string{"read"}, SkipConsent: true,
	}})
	without := w.code("client_id", "one", "redirect_uri", "", "scope", "read")
	_, err := w.redeem("one", without)
	w.refused("TOK-16 the request had none, the redemption has one", err, oauth.InvalidGrant)
	must(w.redeem("one", without, "redirect_uri", ""))(t)
	for _, method := range []string{"none", "S256 ", "sha256", "plain"} {
		_, err := w.engine.Parse(t.Context(), w.FSM.View(), "default", asked("code_challenge_method", method))
		w.refused("TOK-19 "+method, err, oauth.InvalidRequest)
	}
}

// TestTOK20NothingCrossesTenants: a code, a pushed request and a refresh token of one
// tenant are nothing in another one that has the same client and user.
func TestTOK20NothingCrossesTenants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Must(t, &command.PutTenant{Tenant: &state.Tenant{Id: "acme"}})
	spa, _ := w.FSM.View().Client("default", "spa")
	twin := proto.CloneOf(spa)
	twin.Tenant = "acme"
	w.Must(t, &command.PutClient{Client: twin})
	there := func(grant string, pairs ...string) error {
		f := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			f.Set(pairs[i], pairs[i+1])
		}
		return w.pipeline.Token(t.Context(), w.FSM.View(), &grants.Request{Credentials: clients.Request{Tenant: "acme", ID: "spa"}, GrantType: grant, Form: form(f)}, new(grants.Answer))
	}
	code := w.code()
	w.refused("a code", there("authorization_code", "code", code, "redirect_uri", callback, "code_verifier", verifier), oauth.InvalidGrant)
	refresh := string(must(w.redeem("spa", code))(t).Refresh)
	w.refused("a refresh token", there("refresh_token", "refresh_token", refresh), oauth.InvalidGrant)
	must(w.refresh("spa", refresh))(t)
	v := w.FSM.View()
	client, _ := v.Client("default", "spa")
	uri := must(w.engine.SealPushed(v, must(w.engine.Push(t.Context(), v, client, asked()))(t)))(t)
	_, err := w.engine.Parse(t.Context(), v, "acme", form{"client_id": {"spa"}, "request_uri": {uri}})
	w.refused("AUT-19 a pushed request", err, oauth.InvalidRequestURI)
}

// TestTOK29WhatARefreshMayNotWiden: another resource than was granted is refused, and the
// family goes on as it was.
func TestTOK29WhatARefreshMayNotWiden(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.change("spa", func(c *state.Client) { c.Resources = []string{"https://a.example", "https://b.example"} })
	first := string(must(w.redeem("spa", w.code("resource", "https://a.example")))(t).Refresh)
	_, err := w.token("spa", "refresh_token", "refresh_token", first, "resource", "https://b.example")
	w.refused("another resource", err, oauth.InvalidTarget)
	_, err = w.token("spa", "refresh_token", "refresh_token", first, "audience", "https://c.example")
	w.refused("an unknown one", err, oauth.InvalidTarget)
	for _, wider := range []string{"openid read write", "admin", "READ"} {
		_, err = w.token("spa", "refresh_token", "refresh_token", first, "scope", wider)
		w.refused("the scope "+wider, err, oauth.InvalidScope)
	}
	got := must(w.token("spa", "refresh_token", "refresh_token", first, "resource", "https://a.example"))(t)
	if said := must(verify.Parse(string(got.Token)))(t).Claims; len(said.Audience) != 1 || said.Audience[0] != "https://a.example" || got.Scope != "openid offline_access read" {
		t.Errorf("%v %q", said.Audience, got.Scope)
	}
}

// TestAUT11EveryAnswerNamesItsIssuer: in each response mode, of success and of refusal.
func TestAUT11EveryAnswerNamesItsIssuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v := w.FSM.View()
	of := func(a *authorize.Answer, name string) (value string, count int) {
		for _, p := range a.Params {
			if p[0] == name {
				value = p[1]
				count++
			}
			if p[0] == "response" {
				said := map[string]any{}
				if err := json.Unmarshal([]byte(must(verify.Parse(p[1]))(t).Claims.Raw), &said); err != nil {
					t.Fatal(err)
				}
				if text, ok := said[name].(string); ok {
					return text, 1
				}
			}
		}
		return value, count
	}
	for _, mode := range authorize.Modes() {
		r := must(w.engine.Parse(t.Context(), v, "default", asked("response_mode", mode)))(t)
		good := must(w.engine.Finish(t.Context(), v, r, w.who))(t)
		_, err := w.engine.Parse(t.Context(), v, "default", asked("response_mode", mode, "scope", "admin"))
		var failure *authorize.Failure
		if !errors.As(err, &failure) || failure.Request == nil {
			t.Fatal(err)
		}
		bad := must(w.engine.Refuse(t.Context(), v, failure.Request, failure.Err))(t)
		for what, a := range map[string]*authorize.Answer{"code": good, "error": bad} {
			iss, times := of(a, "iss")
			state, _ := of(a, "state")
			if value, _ := of(a, what); iss != testnode.Issuer || times != 1 || state != "s&t" || value == "" {
				t.Errorf("%s, %s: iss %q %d times, state %q: %v", mode, what, iss, times, state, a.Params)
			}
		}
	}
}

// TestAUT12NoPageForAStepUp: with prompt=none, what would need a second factor.
func TestAUT12NoPageForAStepUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := must(w.engine.Parse(t.Context(), w.FSM.View(), "default", asked("prompt", "none", "acr_values", authorize.ACRFactors)))(t)
	_, err := w.engine.Next(w.FSM.View(), r, w.who)
	w.refused("a step up", err, oauth.InteractionRequired)
}

// TestAUT19APushedRequestIsOfItsClientsLife: not of another client of the same id, nor
// good for an address that the client no longer has, nor of before a restore.
func TestAUT19APushedRequestIsOfItsClientsLife(t *testing.T) {
	t.Parallel()
	for name, happens := range map[string]func(w *world, backup []byte){
		"the client was made anew": func(w *world, _ []byte) {
			old, _ := w.FSM.View().Client("default", "spa")
			w.Must(t, &command.DeleteClient{Tenant: "default", Id: "spa"})
			w.Pass(time.Second)
			again := proto.CloneOf(old)
			again.CreatedAt, again.Generation = 0, 0
			w.Must(t, &command.PutClient{Client: again})
		},
		"its address is gone": func(w *world, _ []byte) {
			w.change("spa", func(c *state.Client) { c.RedirectUris = []string{"https://app.example/new"} })
		},
		"a backup was restored":  func(w *world, backup []byte) { w.Restore(t, backup) },
		"the client is disabled": func(w *world, _ []byte) { w.change("spa", func(c *state.Client) { c.Disabled = true }) },
	} {
		w := newWorld(t)
		backup := w.Backup(t)
		v := w.FSM.View()
		client, _ := v.Client("default", "spa")
		uri := must(w.engine.SealPushed(v, must(w.engine.Push(t.Context(), v, client, asked()))(t)))(t)
		flow := must(w.engine.Parse(t.Context(), v, "default", asked()))(t)
		must(w.engine.Parse(t.Context(), v, "default", form{"client_id": {"spa"}, "request_uri": {uri}}))(t)
		happens(w, backup)
		if _, err := w.engine.Parse(t.Context(), w.FSM.View(), "default", form{"client_id": {"spa"}, "request_uri": {uri}}); !errors.Is(err, oauth.InvalidRequestURI) && !errors.Is(err, oauth.InvalidRequest) {
			t.Errorf("%s: the pushed request: %v", name, err)
		}
		if name == "its address is gone" { // what was begun may end
			continue
		}
		if _, err := w.engine.Next(w.FSM.View(), flow, w.who); !errors.Is(err, oauth.InvalidRequest) {
			t.Errorf("%s: a flow of before: %v", name, err)
		}
	}
}

// TestAUT22AnObjectIsSignedAsRegistered: not by another key of the client of another kind,
// not by its secret, and not unsigned, wherever it comes from.
func TestAUT22AnObjectIsSignedAsRegistered(t *testing.T) {
	t.Parallel()
	w, key := newWorld(t), newSigner(t)
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	const secret, at = "a-secret-of-the-client-0123456789", "https://app.example/object"
	w.signedClient(t, key, func(c *state.Client) {
		c.Jwks = verify.AppendJWKS(nil, []verify.Key{{ID: "k1", Alg: verify.ES256, Public: key.key.Public()}, {ID: "k2", Alg: verify.EdDSA, Public: public}})
		c.RequestUris = []string{at}
	})
	parse := func(f form) error {
		_, err := w.engine.Parse(t.Context(), w.FSM.View(), "default", f)
		return err
	}
	object := w.object(nil)
	other := part(t, map[string]any{"alg": "EdDSA", "kid": "k2", "typ": "oauth-authz-req+jwt"}) + "." + part(t, object)
	other += "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(private, []byte(other)))
	bySecret := part(t, map[string]any{"alg": "HS256", "typ": "oauth-authz-req+jwt"}) + "." + part(t, object)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(bySecret))
	bySecret += "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	unsigned := part(t, map[string]any{"alg": "none"}) + "." + part(t, object) + "."
	for name, text := range map[string]string{"by another key of the client": other, "by its secret": bySecret, "unsigned": unsigned} {
		w.refused(name, parse(form{"client_id": {"signed"}, "request": {text}}), oauth.InvalidRequestObject)
		w.fetched = text
		w.refused(name+", fetched", parse(form{"client_id": {"signed"}, "request_uri": {at}}), oauth.InvalidRequestObject)
	}
	w.change("signed", func(c *state.Client) { c.RequestObjectAlg, c.RequireRequestObject = "", true })
	w.fetched = other
	if err := parse(form{"client_id": {"signed"}, "request_uri": {at}}); err != nil {
		t.Errorf("any key of the client, where none is named: %v", err)
	}
	w.fetched = unsigned
	w.refused("unsigned and fetched, of a client that must sign", parse(form{"client_id": {"signed"}, "request_uri": {at}}), oauth.RequestNotSupported)
	w.change("signed", func(c *state.Client) { c.RequireRequestObject = false })
	if err := parse(form{"client_id": {"signed"}, "request_uri": {at}}); err != nil {
		t.Errorf("unsigned and fetched: %v", err)
	}
}

// TestConsentCoversWhatIsAsked: a resource or a claim that the user was not asked about is
// asked about, whatever they have allowed before.
func TestConsentCoversWhatIsAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.change("spa", func(c *state.Client) { c.SkipConsent, c.Resources = false, []string{"https://a.example"} })
	user := must(w.FSM.View().User("default", "u1"))(t)
	known := proto.CloneOf(user)
	known.Email = "alice@example.com"
	w.Must(t, &command.PutUser{User: known, Expect: user.GetGeneration()})
	w.who.User = must(w.FSM.View().User("default", "u1"))(t)
	w.Must(t, &command.PutConsent{Consent: &state.Consent{Tenant: "default", User: "u1", ClientId: "spa", Scopes: []string{"openid", "offline_access", "read"}}})
	for _, tt := range []struct {
		name  string
		pairs []string
		want  authorize.Step
	}{
		{"what was allowed", nil, authorize.Done},
		{"a resource", []string{"resource", "https://a.example"}, authorize.Consent},
		{"a claim by its name", []string{"claims", `{"userinfo":{"email":{"essential":true}}}`}, authorize.Consent},
		{"a claim that nobody knows of them", []string{"claims", `{"userinfo":{"zoneinfo":null}}`}, authorize.Done},
	} {
		r := must(w.engine.Parse(t.Context(), w.FSM.View(), "default", asked(tt.pairs...)))(t)
		if step, err := w.engine.Next(w.FSM.View(), r, w.who); err != nil || step != tt.want {
			t.Errorf("%s: step %d, %v, want %d", tt.name, step, err, tt.want)
		}
	}
}

// TestAUT21WhatAClientMustDo: push its request, sign it, use PKCE, though it is
// confidential; and be enabled, in a tenant that is.
func TestAUT21WhatAClientMustDo(t *testing.T) {
	t.Parallel()
	w, key := newWorld(t), newSigner(t)
	w.signedClient(t, key, nil)
	object := key.jwt(t, nil, w.object(nil))
	for _, tt := range []struct {
		name   string
		change func(*state.Client)
		form   form
		told   bool
	}{
		{"a plain request of a client that must push", func(c *state.Client) { c.RequirePar = true }, asked("client_id", "signed", "scope", "openid"), false},
		{"a signed one", func(c *state.Client) { c.RequirePar = true }, form{"client_id": {"signed"}, "request": {object}}, false},
		{"no PKCE of one that must use it", func(c *state.Client) { c.RequirePkce, c.AuthMethod = true, "client_secret_basic" }, asked("client_id", "signed", "scope", "openid", "code_challenge", "", "code_challenge_method", ""), true},
		{"a disabled client", func(c *state.Client) { c.Disabled = true }, asked("client_id", "signed", "scope", "openid"), false},
	} {
		w.change("signed", func(c *state.Client) {
			c.RequirePar, c.RequirePkce, c.Disabled, c.AuthMethod = false, false, false, "client_secret_basic"
		})
		if _, err := w.engine.Parse(t.Context(), w.FSM.View(), "default", tt.form); err != nil && !strings.HasPrefix(tt.name, "a disabled") {
			t.Errorf("%s: without it: %v", tt.name, err)
		}
		w.change("signed", tt.change)
		_, err := w.engine.Parse(t.Context(), w.FSM.View(), "default", tt.form)
		var failure *authorize.Failure
		if !errors.As(err, &failure) || !errors.Is(err, oauth.InvalidRequest) || (failure.Request != nil) != tt.told {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	tenant, _ := w.FSM.View().Tenant("default")
	suspended := proto.CloneOf(tenant)
	suspended.Disabled = true
	w.Must(t, &command.PutTenant{Tenant: suspended, Expect: tenant.GetGeneration()})
	_, err := w.engine.Parse(t.Context(), w.FSM.View(), "default", asked())
	w.refused("a suspended tenant", err, oauth.InvalidRequest)
}

// TestACodeIsOfItsHistory: a restore may have forgotten that it was used (R15, TOK-15).
func TestACodeIsOfItsHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signInAgain()
	used, unused := w.code(), w.code()
	backup := w.Backup(t)
	must(w.redeem("spa", used))(t)
	w.Restore(t, backup)
	for what, code := range map[string]string{"used since": used, "never used": unused} {
		_, err := w.redeem("spa", code)
		w.refused("a code "+what, err, oauth.InvalidGrant)
	}
}

// TestTOK30AGrantEndsWithItsLogin: a code of before all logins of its user were ended gives
// nothing, and what lives by a session ends at that session's own end.
func TestTOK30AGrantEndsWithItsLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	code := w.code()
	w.Pass(time.Second)
	user := must(w.FSM.View().User("default", "u1"))(t)
	w.Must(t, &command.PutUser{User: user, Expect: user.GetGeneration(), EndLogins: true})
	_, err := w.redeem("spa", code)
	w.refused("a code of before all logins ended", err, oauth.InvalidGrant)

	w = newWorld(t)
	online := string(must(w.redeem("spa", w.code("scope", "openid read")))(t).Refresh)
	offline := string(must(w.redeem("spa", w.code()))(t).Refresh)
	w.Pass(2*time.Hour + time.Second) // the session's end
	_, err = w.refresh("spa", online)
	w.refused("a session that is over", err, oauth.InvalidGrant)
	must(w.refresh("spa", offline))(t)
}
