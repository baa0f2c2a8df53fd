package grants_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/testproof"
	"github.com/keyraft/keyraft/tokens"
)

// exchangeWorld has the application "app", at which alice signs in, and two services:
// "front" gets tokens for api and may exchange them for orders, "back" gets tokens for
// orders.
func exchangeWorld(t testing.TB) *world {
	w := newWorld(t)
	w.client("app", func(*clients.Registration) {})
	w.client("front", func(r *clients.Registration) {
		r.ExchangeSubjects, r.ExchangeAudiences = []string{api}, []string{orders}
	})
	w.client("back", func(r *clients.Registration) { r.ExchangeSubjects = []string{orders} })
	return w
}

// active tells whether a token of ours is good for anything now.
func (w *world) active(token []byte) bool {
	w.t.Helper()
	a := must(w.intro.Introspect(w.FSM.View(), &tokens.Caller{}, string(token)))(w.t)
	return a.Active
}

func actOf(claims map[string]any) string {
	raw, err := json.Marshal(claims["act"])
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// TestDelegation is RFC 8693 §1.1, §4.1: a service acts for a user, and another one for
// it, and the token says so.
func TestDelegation(t *testing.T) {
	t.Parallel()
	w := exchangeWorld(t)
	login := w.login("app", "read write", "resource", api)
	root := payload(t, string(login.Token))
	before := len(w.writes)
	first, err := w.exchanged("front", string(login.Token), "audience", orders, "scope", "read")
	c := w.good(first, err)
	if c["sub"] != "u1" || c["aud"] != orders || c["scope"] != "read" || c["client_id"] != "front" || actOf(c) != `{"sub":"front"}` {
		t.Errorf("the first says %v", c)
	}
	if c["root"] != root["jti"] || c["gid"] != root["gid"] || c["auth_time"] != root["auth_time"] || c["acr"] != root["acr"] {
		t.Errorf("the first says %v, and comes of %v", c, root)
	}
	if string(first.IssuedTokenType) != access || len(first.Refresh) != 0 || len(first.ID) != 0 {
		t.Errorf("the answer has %s, %d, %d", first.IssuedTokenType, len(first.Refresh), len(first.ID))
	}
	second, err := w.exchanged("back", string(first.Token), "requested_token_type", plainJWT)
	c = w.good(second, err)
	if actOf(c) != `{"act":{"sub":"front"},"sub":"back"}` || c["root"] != root["jti"] || c["aud"] != orders || string(second.IssuedTokenType) != plainJWT {
		t.Errorf("the second says %v", c)
	}
	if len(w.writes) != before {
		t.Errorf("exchanges cost %d writes", len(w.writes)-before)
	}
	if a := must(w.intro.Introspect(w.FSM.View(), &tokens.Caller{}, string(second.Token)))(t); string(a.Act) != `{"sub":"back","act":{"sub":"front"}}` || a.Root != root["jti"] {
		t.Errorf("introspection says %s of root %s", a.Act, a.Root)
	}
}

// TestActorTokens: whoever the actor token speaks of acts.
func TestActorTokens(t *testing.T) {
	t.Parallel()
	w := exchangeWorld(t)
	w.client("support", func(r *clients.Registration) { r.ExchangeSubjects = []string{api} })
	login := w.login("app", "read", "resource", api)
	own := must(w.ask("support", "client_credentials", "scope", "read"))(t)
	with := func(text, kind string) []string { return []string{"actor_token", text, "actor_token_type", kind} }
	c := w.good(w.exchanged("support", string(login.Token), with(string(own.Token), access)...))
	if actOf(c) != `{"sub":"support"}` {
		t.Errorf("act is %s", actOf(c))
	}
	c = w.good(w.exchanged("support", string(login.Token), with(w.assertion("exp", w.Now().Unix()+90), plainJWT)...))
	if actOf(c) != `{"iss":"https://idp.example","sub":"alice"}` || c["exp"].(float64) > float64(w.Now().Unix()+90) {
		t.Errorf("act is %s, exp %v", actOf(c), c["exp"])
	}
	delegated := must(w.exchanged("front", string(login.Token)))(t)
	for name, pairs := range map[string][]string{
		"TOK-43 without its type":       {"actor_token", string(own.Token)},
		"TOK-43 a type alone":           {"actor_token_type", access},
		"TOK-43 of an unknown type":     with(string(own.Token), "urn:x"),
		"TOK-43 of the wrong type":      with(string(own.Token), idToken),
		"TOK-43 unreadable":             with("x", access),
		"TOK-44 delegated itself":       with(string(delegated.Token), access),
		"TOK-43 another client's":       with(string(must(w.ask("back", "client_credentials", "scope", "read"))(t).Token), access),
		"TOK-43 of an untrusted issuer": with(newIDP(t, "https://evil.example").sign(t, map[string]any{"alg": "ES256", "kid": "k1"}, w.says("iss", "https://evil.example")), plainJWT),
	} {
		out, err := w.exchanged("support", string(login.Token), pairs...)
		w.refused(name, out, err, oauth.InvalidRequest)
	}
	w.user(func(u *state.User) { u.Disabled = true })
	mine := must(w.ask("support", "client_credentials", "scope", "read"))(t)
	out, err := w.exchanged("support", string(mine.Token), with(w.assertion(), plainJWT)...)
	w.refused("TOK-31 an actor who is disabled", out, err, oauth.InvalidRequest)
}

// TestImpersonation is off until a client is registered for it, and forgets nobody who
// acted before.
func TestImpersonation(t *testing.T) {
	t.Parallel()
	w := exchangeWorld(t)
	w.client("mask", func(r *clients.Registration) {
		r.ExchangeSubjects, r.ExchangeImpersonation = []string{api, orders}, true
	})
	login := w.login("app", "read", "resource", api)
	if c := w.good(w.exchanged("mask", string(login.Token))); c["act"] != nil || c["sub"] != "u1" || c["client_id"] != "mask" || c["root"] == nil {
		t.Errorf("says %v", c)
	}
	delegated := must(w.exchanged("front", string(login.Token), "audience", orders))(t)
	if c := w.good(w.exchanged("mask", string(delegated.Token))); actOf(c) != `{"sub":"front"}` {
		t.Errorf("TOK-44: who acted is forgotten: %v", c)
	}
	// A client that narrows its own token acts for nobody else.
	if c := w.good(w.exchanged("app", string(login.Token), "scope", "read")); c["act"] != nil {
		t.Errorf("says %v", c)
	}
}

// TestBadSubjectTokens is TOK-43: always invalid_request, and never the client's own
// token instead.
func TestBadSubjectTokens(t *testing.T) {
	t.Parallel()
	w := exchangeWorld(t)
	login := w.login("app", "openid read offline_access", "resource", api)
	revoked := w.login("app", "read", "resource", api)
	app, _ := w.FSM.View().Client("default", "app")
	if err := w.revoker.Revoke(t.Context(), w.FSM.View(), app, string(revoked.Token)); err != nil {
		t.Fatal(err)
	}
	w.Must(t, &command.PutTenant{Tenant: &state.Tenant{Id: "acme"}})
	evil := newIDP(t, "https://evil.example")
	typed := func(text, kind string) []string { return []string{"subject_token", text, "subject_token_type", kind} }
	good := string(login.Token)
	for name, pairs := range map[string][]string{
		"missing":                  {},
		"empty":                    typed("", access),
		"without a type":           {"subject_token", good},
		"a type alone":             {"subject_token_type", access},
		"an unknown type":          typed(good, "urn:ietf:params:oauth:token-type:saml2"),
		"an empty type":            typed(good, ""),
		"unreadable":               typed("\x00\xff", access),
		"not ours":                 typed(w.assertion(), access),
		"an ID token's type":       typed(good, idToken),
		"an ID token as access":    typed(string(login.ID), access),
		"an ID token as JWT":       typed(string(login.ID), plainJWT),
		"a refresh token":          typed(string(login.Refresh), access),
		"a refresh token's type":   typed(string(login.Refresh), "urn:ietf:params:oauth:token-type:refresh_token"),
		"revoked":                  typed(string(revoked.Token), access),
		"of an unknown issuer":     typed(evil.sign(t, map[string]any{"alg": "ES256", "kid": "k1"}, w.says("iss", evil.issuer)), plainJWT),
		"a foreign one, no alg":    typed("eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlIn0.", plainJWT),
		"changed":                  typed(good[:len(good)-2]+"AA", access),
		"a line end":               typed(good+"\n", access),
		"a JWT of another service": typed(w.assertion("aud", "https://other.example"), plainJWT),
	} {
		out, err := w.ask("front", exchange, pairs...)
		w.refused("TOK-43 "+name, out, err, oauth.InvalidRequest)
	}
	// A token that was issued to somebody else, for somebody else.
	back := must(w.exchanged("front", good, "audience", orders))(t)
	out, err := w.exchanged("front", string(must(w.exchanged("back", string(back.Token)))(t).Token))
	w.refused("TOK-43 a token that is none of its business", out, err, oauth.InvalidRequest)
	out, err = w.ask("front", exchange, typed(string(login.ID), idToken)...)
	w.refused("TOK-43 an ID token of another client", out, err, oauth.InvalidRequest)
	for _, kind := range []string{idToken, "urn:ietf:params:oauth:token-type:refresh_token", "x"} {
		out, err = w.exchanged("front", good, "requested_token_type", kind)
		w.refused("a type that is not made: "+kind, out, err, oauth.InvalidRequest)
	}
	w.trust(func(i *state.TrustedIssuer) { i.TokenExchange = false })
	out, err = w.ask("front", exchange, typed(w.assertion(), plainJWT)...)
	w.refused("TOK-43 an issuer that is not trusted for it", out, err, oauth.InvalidRequest)
	w.Pass(2 * time.Hour)
	out, err = w.exchanged("front", good)
	w.refused("TOK-43 expired", out, err, oauth.InvalidRequest)
}

// TestATokenOfAnotherTenantIsNotExchanged is TOK-43, JWT-25.
func TestATokenOfAnotherTenantIsNotExchanged(t *testing.T) {
	t.Parallel()
	w := exchangeWorld(t)
	w.Must(t, &command.PutTenant{Tenant: &state.Tenant{Id: "acme"}})
	w.Must(t, &command.PutSigningKey{Key: must(tokens.NewSigningKey(w.Ring, "acme", "ES256"))(t)})
	made := must(w.registry.Create(t.Context(), w.FSM.View(), "acme", &clients.Registration{ClientID: "front", Scope: "read"}))(t)
	out := new(grants.Answer)
	err := w.pipeline.Token(t.Context(), w.FSM.View(), &grants.Request{
		Credentials: clients.Request{Tenant: "acme", Authorization: basic("front", made.Secret())}, GrantType: "client_credentials", Form: form{},
	}, out)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{access, plainJWT} {
		got, err := w.ask("front", exchange, "subject_token", string(out.Token), "subject_token_type", kind)
		w.refused("TOK-43 another tenant's", got, err, oauth.InvalidRequest)
	}
}

// TestNothingIsWidened is TOK-44.
func TestNothingIsWidened(t *testing.T) {
	t.Parallel()
	w := exchangeWorld(t)
	w.change("app", func(c *state.Client) { c.AccessTokenLifetime, c.UserAccessTokenLifetime = 100, 100 })
	w.change("front", func(c *state.Client) { c.AccessTokenLifetime, c.UserAccessTokenLifetime = 3600, 3600 })
	login := w.login("app", "openid read", "resource", api)
	root := payload(t, string(login.Token))
	w.Pass(40 * time.Second)
	out, err := w.exchanged("front", string(login.Token))
	c := w.good(out, err)
	if c["exp"] != root["exp"] || out.ExpiresIn != 60 {
		t.Errorf("TOK-44: a longer life: %v, of %v (%d s)", c["exp"], root["exp"], out.ExpiresIn)
	}
	if c["scope"] != "read" || c["aud"] != api || c["sub"] != root["sub"] {
		t.Errorf("what was not asked for is more than the token's: %v", c)
	}
	for name, tt := range map[string]struct {
		pairs []string
		want  oauth.Code
	}{
		"more scope":         {[]string{"scope", "read write"}, oauth.InvalidScope},
		"userinfo":           {[]string{"scope", "openid"}, oauth.InvalidScope},
		"a refresh token":    {[]string{"scope", "read offline_access"}, oauth.InvalidScope},
		"an audience":        {[]string{"audience", "https://evil.example"}, oauth.InvalidTarget},
		"an audience beside": {[]string{"audience", api, "audience", "https://evil.example"}, oauth.InvalidTarget},
		"a resource":         {[]string{"resource", "https://evil.example"}, oauth.InvalidTarget},
	} {
		out, err := w.exchanged("front", string(login.Token), tt.pairs...)
		w.refused("TOK-44 "+name, out, err, tt.want)
	}
	// An audience that is the client's resource, but not one to exchange for.
	out, err = w.exchanged("app", string(login.Token), "audience", orders)
	w.refused("TOK-44 another audience", out, err, oauth.InvalidTarget)
	// A wider scope that includes it is the token's, too; the other way round it is not.
	w.Must(t, &command.PutScope{Scope: &state.Scope{Tenant: "default", Name: "read"}})
	w.Must(t, &command.PutScope{Scope: &state.Scope{Tenant: "default", Name: "write", Includes: []string{"read"}}})
	if c := w.good(w.exchanged("front", string(w.login("app", "write", "resource", api).Token), "scope", "read")); c["scope"] != "read" {
		t.Errorf("scope %v", c["scope"])
	}
	out, err = w.exchanged("front", string(w.login("app", "read", "resource", api).Token), "scope", "write")
	w.refused("TOK-44 a scope that includes it", out, err, oauth.InvalidScope)
}

// TestTheChainEnds is TOK-44: no act claim grows without end.
func TestTheChainEnds(t *testing.T) {
	t.Parallel()
	w := exchangeWorld(t)
	w.client("odd", func(r *clients.Registration) { r.ExchangeSubjects = []string{api} })
	token := string(w.login("app", "read", "resource", api).Token)
	links := 0
	for ; links < 20; links++ {
		out, err := w.exchanged([]string{"front", "odd"}[links%2], token)
		if err != nil {
			w.refused("TOK-44 the end of the chain", out, err, oauth.InvalidRequest)
			break
		}
		token = string(out.Token)
	}
	if links != 8 {
		t.Errorf("%d act one for another", links)
	}
	nested := strings.Repeat(`{"sub":"x","act":`, 1000) + `{}` + strings.Repeat("}", 1000)
	for name, act := range map[string]any{"deep": json.RawMessage(nested), "a text": "x", "a list": []string{}, "nobody": map[string]any{}, "null": json.RawMessage("null"), "a number": map[string]any{"sub": 7}} {
		out, err := w.ask("front", exchange, "subject_token", w.assertion("act", act), "subject_token_type", plainJWT)
		w.refused("TOK-44 an act claim that is "+name, out, err, oauth.InvalidRequest)
	}
	c := w.good(w.ask("front", exchange, "subject_token", w.assertion("act", map[string]any{"sub": "robot", "email": "x"}), "subject_token_type", plainJWT))
	if actOf(c) != `{"act":{"iss":"https://idp.example","sub":"robot"},"sub":"front"}` {
		t.Errorf("act is %s", actOf(c))
	}
}

// TestMayAct is RFC 8693 §4.4, TOK-44.
func TestMayAct(t *testing.T) {
	t.Parallel()
	w := exchangeWorld(t)
	ask := func(may any, pairs ...string) (*grants.Answer, error) {
		return w.ask("front", exchange, append([]string{"subject_token", w.assertion("may_act", may), "subject_token_type", plainJWT}, pairs...)...)
	}
	w.good(ask(map[string]string{"sub": "front"}))
	w.good(ask(map[string]string{"sub": "front", "iss": "https://sts.example", "client_id": "front"}))
	for name, may := range map[string]any{
		"someone else":          map[string]string{"sub": "back"},
		"another issuer's":      map[string]string{"sub": "front", "iss": "https://idp.example"},
		"what can't be checked": map[string]string{"sub": "front", "email": "front@example.com"},
		"nobody":                map[string]string{}, "a text": "front", "a list": []string{"front"}, "null": json.RawMessage("null"), "a number": map[string]any{"sub": 1},
	} {
		out, err := ask(may)
		w.refused("TOK-44 may_act names "+name, out, err, oauth.InvalidRequest)
	}
	own := must(w.ask("front", "client_credentials", "scope", "read"))(t)
	w.good(ask(map[string]string{"sub": "front"}, "actor_token", string(own.Token), "actor_token_type", access))
	w.change("front", func(c *state.Client) { c.ExchangeImpersonation = true })
	out, err := ask(map[string]string{"sub": "back"})
	w.refused("TOK-44 an impersonator whom may_act does not name", out, err, oauth.InvalidRequest)
}

// TestRevokingTheRootTakesTheTree: by the client, by an operator with the root's id, and
// with the whole grant.
func TestRevokingTheRootTakesTheTree(t *testing.T) {
	t.Parallel()
	for name, revoke := range map[string]func(w *world, root *grants.Answer, claims map[string]any) error{
		"the client revokes it": func(w *world, root *grants.Answer, _ map[string]any) error {
			app, _ := w.FSM.View().Client("default", "app")
			return w.revoker.Revoke(w.t.Context(), w.FSM.View(), app, string(root.Token))
		},
		"an operator revokes the token": func(w *world, root *grants.Answer, _ map[string]any) error {
			_, err := w.revoker.RevokeTarget(w.t.Context(), w.FSM.View(), "default", &tokens.Target{Token: string(root.Token)})
			return err
		},
		"an operator revokes the root": func(w *world, _ *grants.Answer, claims map[string]any) error {
			_, err := w.revoker.RevokeTarget(w.t.Context(), w.FSM.View(), "default", &tokens.Target{Root: claims["jti"].(string)})
			return err
		},
		"the grant ends": func(w *world, _ *grants.Answer, claims map[string]any) error {
			r, err := w.Propose(w.t.Context(), &command.EndGrant{Tenant: "default", ClientId: "app", Grant: claims["gid"].(string)})
			return errors.Join(err, r.Err())
		},
		"an operator revokes the client's": func(w *world, _ *grants.Answer, _ map[string]any) error {
			_, err := w.revoker.RevokeTarget(w.t.Context(), w.FSM.View(), "default", &tokens.Target{ClientID: "app"})
			return err
		},
		"the client is disabled": func(w *world, _ *grants.Answer, _ map[string]any) error {
			w.change("app", func(c *state.Client) { c.Disabled = true })
			return nil
		},
		"the user is disabled": func(w *world, _ *grants.Answer, _ map[string]any) error {
			w.user(func(u *state.User) { u.Disabled = true })
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := exchangeWorld(t)
			w.change("back", func(c *state.Client) { c.AccessTokenFormat = "opaque" })
			root := w.login("app", "read", "resource", api)
			other := w.login("app", "read", "resource", api)
			kept := must(w.ask("app", "client_credentials", "scope", "read"))(t)
			first := must(w.exchanged("front", string(root.Token), "audience", orders))(t)
			second := must(w.exchanged("back", string(first.Token)))(t)
			for _, token := range [][]byte{root.Token, first.Token, second.Token} {
				if !w.active(token) {
					t.Fatal("a token is not active yet")
				}
			}
			if err := revoke(w, root, payload(t, string(root.Token))); err != nil {
				t.Fatal(err)
			}
			for i, token := range [][]byte{root.Token, first.Token, second.Token} {
				if w.active(token) {
					t.Errorf("token %d of the tree is still active", i)
				}
			}
			out, err := w.exchanged("front", string(root.Token))
			w.refused("the root", out, err, oauth.InvalidRequest)
			out, err = w.exchanged("back", string(first.Token))
			w.refused("its child", out, err, oauth.InvalidRequest)
			all := strings.Contains(name, "disabled") || strings.HasSuffix(name, "client's") // that is revoked
			if ofUser := name == "the user is disabled"; !all && !w.active(other.Token) || (ofUser || !all) && !w.active(kept.Token) {
				t.Error("a token of another tree went with it")
			}
		})
	}
}

// TestBoundTokensStayBound is TOK-44, POP-10: a token that needs a proof needs it here,
// and what comes of it needs it, too.
func TestBoundTokensStayBound(t *testing.T) {
	t.Parallel()
	w := exchangeWorld(t)
	key, other := testproof.New(t), testproof.New(t)
	w.prove(key)
	login := w.login("app", "read", "resource", api)
	w.prove(nil)
	for name, holds := range map[string]*testproof.Key{"no key": nil, "another key": other} {
		w.prove(holds)
		out, err := w.exchanged("front", string(login.Token))
		w.refused("TOK-44 laundered with "+name, out, err, oauth.InvalidRequest)
	}
	w.prove(key)
	out, err := w.exchanged("front", string(login.Token))
	c := w.good(out, err)
	if cnf, _ := c["cnf"].(map[string]any); cnf["jkt"] != key.Thumbprint || !out.DPoP {
		t.Errorf("bound to %v", c["cnf"])
	}
	w.prove(nil)
	plain := w.login("app", "read", "resource", api)
	w.prove(other) // the client may bind what was a bearer token
	if c := w.good(w.exchanged("front", string(plain.Token))); c["cnf"] == nil {
		t.Errorf("says %v", c)
	}
	w.prove(nil)
	tls := w.assertion("cnf", map[string]string{"x5t#S256": "x"})
	out, err = w.ask("front", exchange, "subject_token", tls, "subject_token_type", plainJWT)
	w.refused("TOK-44 a certificate's token without it", out, err, oauth.InvalidRequest)
}

// TestExchangeOfAnIDToken: for its own client, as long as user and session stand.
func TestExchangeOfAnIDToken(t *testing.T) {
	t.Parallel()
	w := exchangeWorld(t)
	login := w.login("app", "openid read", "resource", api)
	ask := func(pairs ...string) (*grants.Answer, error) {
		return w.ask("app", exchange, append([]string{"subject_token", string(login.ID), "subject_token_type", idToken}, pairs...)...)
	}
	c := w.good(ask("scope", "read"))
	if c["sub"] != "u1" || c["act"] != nil || fmt.Sprint(c["amr"]) != "[pwd]" {
		t.Errorf("says %v", c)
	}
	out, err := ask("scope", "read", "audience", orders)
	w.refused("TOK-44 an audience that it may not exchange for", out, err, oauth.InvalidTarget)
	// All logins of the user end: what was said before counts no more.
	w.Pass(time.Second)
	u := must(w.FSM.View().User("default", "u1"))(t)
	w.Must(t, &command.PutUser{User: u, Expect: u.GetGeneration(), EndLogins: true, RevokeUntil: w.Now().Unix() + 7200})
	out, err = ask("scope", "read")
	w.refused("an ID token from before all logins ended", out, err, oauth.InvalidRequest)
	w.Pass(time.Second)
	login = w.login("app", "openid read", "resource", api)
	w.good(ask("scope", "read"))
}

// TestExchangeOfAnIDTokenOfASession: the session, too, must stand, and learns of the
// client that it signed in to: that is the one write.
func TestExchangeOfAnIDTokenOfASession(t *testing.T) {
	t.Parallel()
	w := exchangeWorld(t)
	u := must(w.FSM.View().User("default", "u1"))(t)
	w.Must(t, &command.PutSession{UserGeneration: u.GetGeneration(), Session: &state.Session{
		Tenant: "default", Id: "s1", User: "u1", Secret: make([]byte, 32), AuthTime: w.Now().Unix(), Amr: []string{"pwd"}, Acr: grants.ACRPassword, ExpiresAt: w.Now().Unix() + 7200,
	}})
	v := w.FSM.View()
	app, _ := v.Client("default", "app")
	code := must(grants.SealCode(w.boxes, v, &state.AuthorizationCode{
		Id: "c1", ExpiresAt: w.Now().Unix() + 60, ClientCreatedAt: app.GetCreatedAt(), Epoch: v.Epoch(),
		Authorization: &state.Authorization{
			Tenant: "default", ClientId: "app", User: "u1", Subject: "u1", Session: "s1", Scope: "openid read", Grant: tokens.NewGrantID(), AuthTime: w.Now().Unix(), Amr: []string{"pwd"},
		},
	}))(t)
	login := must(w.ask("app", "authorization_code", "code", code))(t)
	ask := func() (*grants.Answer, error) {
		return w.ask("app", exchange, "subject_token", string(login.ID), "subject_token_type", idToken, "scope", "read")
	}
	before := len(w.writes)
	w.good(ask())
	if n := len(w.writes) - before; n != 1 {
		t.Errorf("%d writes, want 1", n)
	}
	w.Must(t, &command.EndSession{Tenant: "default", Id: "s1"})
	out, err := ask()
	w.refused("TOK-30 an ID token of a session that has ended", out, err, oauth.InvalidRequest)
}

// TestExchangeOfAForeignToken: as often as it is good, for no more than its issuer gives.
func TestExchangeOfAForeignToken(t *testing.T) {
	t.Parallel()
	w := exchangeWorld(t)
	w.trust(func(i *state.TrustedIssuer) {
		i.MapToUser, i.ClaimMapping = false, []*state.ClaimMapping{{Remote: "ref", Local: "ref"}}
	})
	text := w.idp.sign(t, map[string]any{"alg": "ES256", "kid": "k1", "typ": "at+jwt"}, w.says("sub", "build-17", "scope", "read other", "ref", "main"))
	for range 2 {
		c := w.good(w.ask("front", exchange, "subject_token", text, "subject_token_type", plainJWT, "audience", orders))
		if c["sub"] != "build-17" || c["scope"] != "read" || c["ref"] != "main" || actOf(c) != `{"sub":"front"}` || c["root"] != nil {
			t.Errorf("says %v", c)
		}
	}
	out, err := w.ask("front", exchange, "subject_token", text, "subject_token_type", plainJWT, "scope", "write")
	w.refused("TOK-44 more than the foreign token's scope", out, err, oauth.InvalidScope)
	_, err = w.ask("app", jwtBearer, "assertion", text)
	w.refused("JWT-24 an access token as an assertion", nil, err, oauth.InvalidGrant)
}

// TestTheTreeOfAClientsOwnToken: a client's token goes on as a user's does, until that
// client is disabled.
func TestTheTreeOfAClientsOwnToken(t *testing.T) {
	t.Parallel()
	w := exchangeWorld(t)
	own := must(w.ask("app", "client_credentials", "scope", "read", "audience", api))(t)
	first := must(w.exchanged("front", string(own.Token), "audience", orders))(t)
	second, err := w.exchanged("back", string(first.Token))
	c := w.good(second, err)
	if c["sub"] != "app" || actOf(c) != `{"act":{"sub":"front"},"sub":"back"}` || c["root"] != payload(t, string(own.Token))["jti"] {
		t.Errorf("says %v", c)
	}
	w.change("app", func(c *state.Client) { c.Disabled = true })
	out, err := w.exchanged("back", string(first.Token))
	w.refused("TOK-31 of a client that is disabled", out, err, oauth.InvalidRequest)
}

// TestSubjectsStay: what another client knows a user by stays, and still means that user.
func TestSubjectsStay(t *testing.T) {
	t.Parallel()
	w := exchangeWorld(t)
	w.client("pair", func(r *clients.Registration) { r.SubjectType = "pairwise" })
	w.allowPassword()
	login := must(w.ask("pair", "password", "username", "alice", "password", phrase, "scope", "read", "resource", api))(t)
	sub := payload(t, string(login.Token))["sub"]
	if sub == "u1" {
		t.Fatal("the subject is public")
	}
	if c := w.good(w.exchanged("front", string(login.Token))); c["sub"] != sub {
		t.Errorf("TOK-44: %v became %v", sub, c["sub"])
	}
	w.user(func(u *state.User) { u.SecondFactor = true })
	out, err := w.exchanged("front", string(login.Token))
	w.refused("WEB-09 a second factor that was skipped", out, err, oauth.InvalidGrant)
}

// TestDetailsStayWithTheirClient is TOK-44 for RFC 9396: rights of one client are not
// another's by exchange.
func TestDetailsStayWithTheirClient(t *testing.T) {
	t.Parallel()
	w := exchangeWorld(t)
	w.tenant(func(t *state.Tenant) { t.Settings = &state.TenantSettings{DetailsTypes: []string{"pay"}} })
	for _, id := range []string{"app", "front"} {
		w.change(id, func(c *state.Client) { c.DetailsTypes = []string{"pay"} })
	}
	const pay = `[{"type":"pay","max":5}]`
	own := must(w.ask("app", "client_credentials", "scope", "read", "audience", api, "authorization_details", pay))(t)
	if c := w.good(w.exchanged("app", string(own.Token))); c["authorization_details"] == nil {
		t.Errorf("its own details are gone: %v", c)
	}
	if c := w.good(w.exchanged("front", string(own.Token))); c["authorization_details"] != nil {
		t.Errorf("TOK-44: another client has %v", c["authorization_details"])
	}
	for client, asked := range map[string]string{"front": pay, "app": `[{"type":"pay","max":6}]`} {
		out, err := w.exchanged(client, string(own.Token), "authorization_details", asked)
		w.refused("TOK-44 details of "+client, out, err, oauth.InvalidAuthorizationDetails)
	}
	_, err := w.ask("app", jwtBearer, "assertion", w.assertion(), "authorization_details", pay)
	w.refused("details that nobody has seen", nil, err, oauth.InvalidAuthorizationDetails)
}

// TestWhoMayExchange: nobody, until an operator says so (REG-04).
func TestWhoMayExchange(t *testing.T) {
	t.Parallel()
	w := exchangeWorld(t)
	w.client("plain", func(r *clients.Registration) { r.GrantTypes = []string{"client_credentials"} })
	own := must(w.ask("plain", "client_credentials", "scope", "read"))(t)
	out, err := w.exchanged("plain", string(own.Token))
	w.refused("TOK-35 a client that is not registered for it", out, err, oauth.UnauthorizedClient)
	for field, r := range map[string]*clients.Registration{
		"token_exchange_subjects":      {ClientID: "x", ExchangeSubjects: []string{api}},
		"token_exchange_audiences":     {ClientID: "x", GrantTypes: []string{exchange}, ExchangeAudiences: []string{api}},
		"token_exchange_impersonation": {ClientID: "x", ExchangeImpersonation: true},
		"grant_types":                  {ClientID: "x", AuthMethod: "none", GrantTypes: []string{exchange}},
	} {
		var refusal *clients.FieldError
		if _, err := w.registry.Create(t.Context(), w.FSM.View(), "default", r); !errors.As(err, &refusal) || refusal.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	w.change("plain", func(c *state.Client) { c.AuthMethod, c.GrantTypes = "none", []string{exchange} })
	_, err = w.exchanged("plain", string(own.Token))
	if err == nil {
		t.Error("a public client exchanged a token")
	}
}
