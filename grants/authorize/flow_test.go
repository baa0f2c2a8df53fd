package authorize_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/grants/pending"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/storage"
	"github.com/keyraft/keyraft/tokens"
)

const (
	callback = "https://app.example/cb"
	verifier = "a-verifier-of-forty-three-characters-or-more-0123456789"
)

func challenge() string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// world is a node with the engine, the token endpoint's rule, a user who is signed in,
// and two public clients.
type world struct {
	*testnode.Node
	t          testing.TB
	engine     *authorize.Engine
	engineKeys *tokens.SigningKeys
	pipeline   *grants.Pipeline
	who        authorize.Present
	fetched    string // what is found at a client's request_uri; "": nothing
}

func newWorld(t testing.TB) *world {
	t.Helper()
	n := testnode.New(t, testnode.Options{})
	w := &world{Node: n, t: t}
	absent := func(err error) bool { return errors.Is(err, storage.ErrNotFound) }
	shared, signing := tokens.NewClusterKeys(n.Ring), tokens.NewSigningKeys(n.Ring)
	w.engineKeys = signing
	boxes := tokens.NewBoxes(shared, tokens.KeyCode)
	minter, err1 := tokens.NewMinter(signing, "n1")
	opaque, err2 := tokens.NewOpaque(minter, shared, n.Propose)
	auth, err3 := clients.NewAuthenticator(clients.AuthenticatorConfig{
		Propose: n.Propose, View: n.View, Now: n.Now, Issuer: signing.Issuer, TokenPath: "/oauth2/token",
		Keys: clients.Keys{
			Newest:  func(v *state.View) (*seal.Key, uint32, error) { return shared.Newest(v, tokens.KeyHash) },
			Version: func(v *state.View, n uint32) (*seal.Key, error) { return shared.Version(v, tokens.KeyHash, n) },
		},
	})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	subjects, err1 := tokens.NewSubjects(shared)
	proofs, err2 := tokens.NewProofs(tokens.ProofsConfig{Node: "n1", Shared: shared, Now: n.Now, Ask: func(context.Context, string, string, []byte) ([]byte, error) {
		return nil, errors.New("there is no other node")
	}})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	intro, err := tokens.NewIntrospector(tokens.IntrospectorConfig{Signing: signing, Shared: shared, Now: n.Now, Absent: absent})
	if err != nil {
		t.Fatal(err)
	}
	requests, err := pending.New(pending.Config{Node: "n1", Propose: n.Propose, View: n.View, Shared: shared, Now: n.Now, Absent: absent})
	if err != nil {
		t.Fatal(err)
	}
	w.pipeline, err2 = grants.New(grants.Config{
		Clients: auth, Keys: signing, Minter: minter, Opaque: opaque, View: n.View, Now: n.Now, Propose: n.Propose,
		Refresh: tokens.NewRefreshTokens(shared), Boxes: boxes, Absent: absent, Pending: requests, Proofs: proofs, TokenPath: "/oauth2/token",
		Check: noUser, Introspector: intro,
	})
	if err2 != nil {
		t.Fatal(err2)
	}
	w.engine, err1 = authorize.New(authorize.Config{Propose: n.Propose, View: n.View, Keys: signing, Boxes: boxes, Now: n.Now, Absent: absent, Subjects: subjects, Minter: minter, Pipeline: w.pipeline, ClientKeys: auth.KeySet, FetchObject: w.fetch})
	if err1 != nil {
		t.Fatal(err1)
	}
	for _, alg := range []string{"ES256", "RS256"} {
		row, err := tokens.NewSigningKey(n.Ring, "default", alg)
		if err != nil {
			t.Fatal(err)
		}
		n.Must(t, &command.PutSigningKey{Key: row})
	}
	for _, id := range []string{"spa", "other"} {
		n.Must(t, &command.PutClient{Client: &state.Client{
			Tenant: "default", Id: id, AuthMethod: "none", GrantTypes: []string{"authorization_code", "refresh_token"}, RedirectUris: []string{callback, "http://127.0.0.1/cb", "com.example.app:/cb"},
			Scopes: []string{"openid", "offline_access", "read"}, SkipConsent: true,
		}})
	}
	w.signIn()
	return w
}

func (w *world) fetch(context.Context, string, int64) ([]byte, error) {
	if w.fetched == "" {
		return nil, errors.New("nothing is fetched")
	}
	return []byte(w.fetched), nil
}

// noUser is the store of passwords where none is shown.
func noUser(context.Context, *state.View, string, string, string, string) (*state.User, error) {
	return nil, oauth.InvalidGrant.With("nobody has a password here")
}

// signIn makes a user, and a session of theirs.
func (w *world) signIn() {
	w.t.Helper()
	w.Must(w.t, &command.PutUser{User: &state.User{Tenant: "default", Id: "u1", Username: "alice", Key: "alice"}})
	user, err := w.FSM.View().User("default", "u1")
	if err != nil {
		w.t.Fatal(err)
	}
	w.Must(w.t, &command.PutSession{UserGeneration: user.GetGeneration(), Session: &state.Session{
		Tenant: "default", Id: "s1", User: "u1", Secret: make([]byte, 32), AuthTime: w.Now().Unix(), Amr: []string{"pwd"}, Acr: authorize.ACRPassword, ExpiresAt: w.Now().Unix() + 7200,
	}})
	w.who = authorize.Present{Session: must(w.FSM.View().Session("default", "s1"))(w.t), User: user}
}

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

type form url.Values

func (f form) Get(name string) string   { return url.Values(f).Get(name) }
func (f form) All(name string) []string { return f[name] }

// asked is a good request, with the changes of pairs; an empty value takes one away.
func asked(pairs ...string) form {
	f := url.Values{
		"client_id": {"spa"}, "redirect_uri": {callback}, "response_type": {"code"}, "scope": {"openid offline_access read"}, "state": {"s&t"},
		"nonce": {"n1"}, "code_challenge": {challenge()}, "code_challenge_method": {"S256"},
	}
	for i := 0; i < len(pairs); i += 2 {
		f.Del(pairs[i])
		if pairs[i+1] != "" {
			f.Set(pairs[i], pairs[i+1])
		}
	}
	return form(f)
}

// code goes through a whole request and gives its code.
func (w *world) code(pairs ...string) string {
	w.t.Helper()
	v := w.FSM.View()
	r := must(w.engine.Parse(w.t.Context(), v, "default", asked(pairs...)))(w.t)
	if step := must(w.engine.Next(v, r, w.who))(w.t); step != authorize.Done {
		w.t.Fatalf("step %d", step)
	}
	a := must(w.engine.Finish(w.t.Context(), v, r, w.who))(w.t)
	u := must(url.Parse(a.Location()))(w.t)
	if q := u.Query(); q.Get("iss") != testnode.Issuer || q.Get("state") != "s&t" {
		w.t.Errorf("answer %s has another iss or state (AUT-09, AUT-11)", a.Location())
	}
	return u.Query().Get("code")
}

// token asks the token endpoint's rule.
func (w *world) token(client, grant string, pairs ...string) (*grants.Answer, error) {
	f := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		f.Set(pairs[i], pairs[i+1])
	}
	out := new(grants.Answer)
	err := w.pipeline.Token(context.Background(), w.FSM.View(), &grants.Request{
		Credentials: clients.Request{Tenant: "default", ID: client}, GrantType: grant, Scope: f.Get("scope"), Form: form(f),
	}, out)
	return out, err
}

func (w *world) redeem(client, code string, pairs ...string) (*grants.Answer, error) {
	all := append([]string{"code", code, "redirect_uri", callback, "code_verifier", verifier}, pairs...)
	return w.token(client, "authorization_code", all...)
}

func (w *world) refresh(client, token string) (*grants.Answer, error) {
	return w.token(client, "refresh_token", "refresh_token", token)
}

func (w *world) refused(what string, err error, code oauth.Code) {
	w.t.Helper()
	if !errors.Is(err, code) {
		w.t.Errorf("%s: %v, want %s", what, err, code)
	}
}

// TestWhatARequestMayAsk: where the redirect URI is proved the client is told, else the
// person alone (AUT-01 to AUT-09, AUT-12, AUT-27, TOK-19).
func TestWhatARequestMayAsk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tests := []struct {
		name   string
		form   form
		told   bool // the client
		code   oauth.Code
		passes bool
	}{
		{name: "a good request", form: asked(), passes: true},
		{name: "AUT-04 a loopback port", form: asked("redirect_uri", "http://127.0.0.1:51004/cb"), passes: true},
		{name: "AUT-01 no client", form: asked("client_id", ""), code: oauth.InvalidRequest},
		{name: "AUT-01 an unknown client", form: asked("client_id", "nobody"), code: oauth.InvalidRequest},
		{name: "AUT-01 no redirect URI of several", form: asked("redirect_uri", ""), code: oauth.InvalidRequest},
		{name: "AUT-02 a path more", form: asked("redirect_uri", callback+"/"), code: oauth.InvalidRequest},
		{name: "AUT-02 another case", form: asked("redirect_uri", "https://app.example/CB"), code: oauth.InvalidRequest},
		{name: "AUT-03 a user before the host", form: asked("redirect_uri", "https://app.example@evil.example/cb"), code: oauth.InvalidRequest},
		{name: "AUT-04 another loopback address", form: asked("redirect_uri", "http://127.0.0.2/cb"), code: oauth.InvalidRequest},
		{name: "AUT-07 a token response", form: asked("response_type", "token"), told: true, code: oauth.UnsupportedResponseType},
		{name: "AUT-07 no response type", form: asked("response_type", ""), told: true, code: oauth.InvalidRequest},
		{name: "AUT-07 an unknown mode", form: asked("response_mode", "web_message"), told: true, code: oauth.InvalidRequest},
		{name: "AUT-08 no challenge of a public client", form: asked("code_challenge", "", "code_challenge_method", ""), told: true, code: oauth.InvalidRequest},
		{name: "AUT-08 a short challenge", form: asked("code_challenge", "abc"), told: true, code: oauth.InvalidRequest},
		{name: "TOK-19 plain", form: asked("code_challenge_method", "plain"), told: true, code: oauth.InvalidRequest},
		{name: "TOK-19 no method, which means plain", form: asked("code_challenge_method", ""), told: true, code: oauth.InvalidRequest},
		{name: "TOK-19 another spelling", form: asked("code_challenge_method", "s256"), told: true, code: oauth.InvalidRequest},
		{name: "AUT-09 a long state", form: asked("state", strings.Repeat("s", 64<<10)), told: true, code: oauth.InvalidRequest},
		{name: "AUT-12 none and login", form: asked("prompt", "none login"), told: true, code: oauth.InvalidRequest},
		{name: "AUT-12 an unknown prompt", form: asked("prompt", "create"), told: true, code: oauth.InvalidRequest},
		{name: "max_age that is no number", form: asked("max_age", "-1"), told: true, code: oauth.InvalidRequest},
		{name: "AUT-25 a request object", form: asked("request", "e30.e30."), told: true, code: oauth.RequestNotSupported},
		{name: "AUT-27 claims that are no object", form: asked("claims", "[]"), told: true, code: oauth.InvalidRequest},
		{name: "AUT-27 deep claims", form: asked("claims", `{"a":`+strings.Repeat("[", 50)+strings.Repeat("]", 50)+"}"), told: true, code: oauth.InvalidRequest},
		{name: "a scope beyond", form: asked("scope", "openid admin"), told: true, code: oauth.InvalidScope},
		{name: "TOK-38 an unregistered resource", form: asked("resource", "https://api.example"), told: true, code: oauth.InvalidTarget},
		{name: "TOK-39 details", form: asked("authorization_details", "[]"), told: true, code: oauth.InvalidAuthorizationDetails},
		{name: "a form post to an application's own scheme is no page", form: asked("redirect_uri", "com.example.app:/cb", "response_mode", "form_post"), told: true, code: oauth.InvalidRequest},
		{name: "AUT-19 a request_uri of nobody's", form: asked("request_uri", "urn:ietf:params:oauth:request_uri:x"), code: oauth.InvalidRequestURI},
	}
	for _, tt := range tests {
		r, err := w.engine.Parse(t.Context(), w.FSM.View(), "default", tt.form)
		var failure *authorize.Failure
		switch {
		case tt.passes:
			if err != nil || r == nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		case !errors.As(err, &failure) || !errors.Is(err, tt.code) || (failure.Request != nil) != tt.told:
			t.Errorf("%s: %v (told %v), want %s (told %v)", tt.name, err, failure != nil && failure.Request != nil, tt.code, tt.told)
		}
	}
}

// TestWhatItsUserMustDo is AUT-12 and AUT-13: a login of before the request is not the
// fresh one that was asked for, and with prompt=none nobody is shown a page.
func TestWhatItsUserMustDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Must(t, &command.PutClient{Client: &state.Client{Tenant: "default", Id: "asks", AuthMethod: "none", GrantTypes: []string{"authorization_code"}, RedirectUris: []string{callback}, Scopes: []string{"read"}}})
	w.Pass(10 * time.Minute)
	next := func(who authorize.Present, pairs ...string) (authorize.Step, error) {
		v := w.FSM.View()
		r := must(w.engine.Parse(t.Context(), v, "default", asked(pairs...)))(t)
		return w.engine.Next(v, r, who)
	}
	tests := []struct {
		name  string
		who   authorize.Present
		pairs []string
		step  authorize.Step
		code  oauth.Code
	}{
		{name: "somebody who is signed in", who: w.who, step: authorize.Done},
		{name: "nobody", step: authorize.Login},
		{name: "nobody, and no page", pairs: []string{"prompt", "none"}, code: oauth.LoginRequired},
		{name: "a fresh login", who: w.who, pairs: []string{"prompt", "login"}, step: authorize.Login},
		{name: "an old login", who: w.who, pairs: []string{"max_age", "60"}, step: authorize.Login},
		{name: "a login that is young enough", who: w.who, pairs: []string{"max_age", "3600"}, step: authorize.Done},
		{name: "an old login, and no page", who: w.who, pairs: []string{"max_age", "60", "prompt", "none"}, code: oauth.LoginRequired},
		{name: "a second factor", who: w.who, pairs: []string{"acr_values", authorize.ACRFactors}, step: authorize.Factor},
		{name: "consent asked anew", who: w.who, pairs: []string{"prompt", "consent"}, step: authorize.Consent},
		{name: "a client that needs consent", who: w.who, pairs: []string{"client_id", "asks", "scope", "read"}, step: authorize.Consent},
		{name: "consent, and no page", who: w.who, pairs: []string{"client_id", "asks", "scope", "read", "prompt", "none"}, code: oauth.ConsentRequired},
	}
	for _, tt := range tests {
		step, err := next(tt.who, tt.pairs...)
		if step != tt.step || tt.code != "" && !errors.Is(err, tt.code) || tt.code == "" && err != nil {
			t.Errorf("%s: step %d, %v", tt.name, step, err)
		}
	}
}

// TestAFlowBelongsToItsBrowser is AUT-15 and AUT-16.
func TestAFlowBelongsToItsBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v := w.FSM.View()
	r := must(w.engine.Parse(t.Context(), v, "default", asked()))(t)
	flow := must(w.engine.SealFlow(v, r, "mine"))(t)
	if back := must(w.engine.OpenFlow(v, "default", flow, "mine"))(t); back.GetRedirectUri() != callback {
		t.Errorf("%v", back)
	}
	code := w.code()
	for name, try := range map[string][3]string{
		"another browser": {"default", flow, "theirs"}, "another tenant": {"acme", flow, "mine"}, "a code": {"default", code, "mine"}, "nothing": {"default", "", "mine"},
	} {
		if _, err := w.engine.OpenFlow(v, try[0], try[1], try[2]); err == nil {
			t.Errorf("%s opens it", name)
		}
	}
}

// TestPushedRequests is AUT-19: for its client alone, in its time, answered once.
func TestPushedRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v := w.FSM.View()
	client, _ := v.Client("default", "spa")
	r := must(w.engine.Push(t.Context(), v, client, asked()))(t)
	uri := must(w.engine.SealPushed(v, r))(t)
	back := must(w.engine.Parse(t.Context(), v, "default", form{"client_id": {"spa"}, "request_uri": {uri}, "scope": {"admin"}}))(t)
	if back.GetScope() != r.GetScope() {
		t.Error("what the browser brought besides counts (AUT-23)")
	}
	must(w.engine.Finish(t.Context(), v, back, w.who))(t)
	_, err := w.engine.Finish(t.Context(), v, back, w.who)
	w.refused("a second answer", err, oauth.InvalidRequestURI)
	_, err = w.engine.Parse(t.Context(), v, "default", form{"client_id": {"other"}, "request_uri": {uri}})
	w.refused("another client", err, oauth.InvalidRequestURI)
	_, err = w.engine.Push(t.Context(), v, client, asked("request_uri", uri))
	w.refused("a pushed request_uri", err, oauth.InvalidRequest)
	w.Pass(2 * time.Minute)
	_, err = w.engine.Parse(t.Context(), w.FSM.View(), "default", form{"client_id": {"spa"}, "request_uri": {uri}})
	w.refused("after its time", err, oauth.InvalidRequestURI)
}

// TestCodes is TOK-13 to TOK-22: what is refused uses nothing up; a code gives its tokens
// once, and a second use takes them back.
func TestCodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	code := w.code()
	_, err := w.redeem("other", code)
	w.refused("TOK-13 another client", err, oauth.InvalidGrant)
	_, err = w.redeem("spa", code, "redirect_uri", callback+"/")
	w.refused("TOK-16 another redirect URI", err, oauth.InvalidGrant)
	_, err = w.redeem("spa", code, "redirect_uri", "")
	w.refused("TOK-16 no redirect URI", err, oauth.InvalidGrant)
	_, err = w.redeem("spa", code, "code_verifier", verifier+"x")
	w.refused("TOK-17 a wrong verifier", err, oauth.InvalidGrant)
	_, err = w.redeem("spa", code, "code_verifier", verifier[:42])
	w.refused("TOK-17 a short verifier", err, oauth.InvalidRequest)
	_, err = w.redeem("spa", code, "code_verifier", challenge()+"=")
	w.refused("TOK-17 the challenge itself", err, oauth.InvalidRequest)
	_, err = w.redeem("spa", code, "code_verifier", "")
	w.refused("TOK-17 no verifier", err, oauth.InvalidGrant)
	for name, other := range map[string]string{"cut": code[:len(code)-1], "longer": code + "A", "with a line end": code + "\n", "empty inside": code[:10] + code[11:]} {
		_, err = w.redeem("spa", other)
		w.refused("TOK-22 a code "+name, err, oauth.InvalidGrant)
	}
	got := must(w.redeem("spa", code))(t)
	if len(got.Token) == 0 || len(got.Refresh) == 0 || strings.Count(string(got.ID), ".") != 2 || got.Scope != "openid offline_access read" {
		t.Errorf("token %d, refresh %d, ID %q, scope %q", len(got.Token), len(got.Refresh), got.ID, got.Scope)
	}
	_, err = w.redeem("spa", code)
	w.refused("TOK-14 a second use", err, oauth.InvalidGrant)
	_, err = w.refresh("spa", string(got.Refresh))
	w.refused("TOK-14 the family of a code that was used twice", err, oauth.InvalidGrant)
	late := w.code()
	w.Pass(61 * time.Second)
	_, err = w.redeem("spa", late)
	w.refused("a code whose time is over", err, oauth.InvalidGrant)
}

// TestACodeIsOfItsClientsLife is TOK-20: a client of the same id that was made anew is
// another one.
func TestACodeIsOfItsClientsLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	code := w.code()
	old, _ := w.FSM.View().Client("default", "spa")
	w.Must(t, &command.DeleteClient{Tenant: "default", Id: "spa"})
	w.Pass(time.Second)
	w.Must(t, &command.PutClient{Client: &state.Client{Tenant: "default", Id: "spa", AuthMethod: "none", GrantTypes: old.GetGrantTypes(), RedirectUris: old.GetRedirectUris(), Scopes: old.GetScopes(), SkipConsent: true}})
	_, err := w.redeem("spa", code)
	w.refused("TOK-20", err, oauth.InvalidGrant)
}

// TestPKCEDowngrade is TOK-18: a verifier where no challenge was refuses the code.
func TestPKCEDowngrade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v := w.FSM.View()
	r := must(w.engine.Parse(t.Context(), v, "default", asked()))(t)
	r.Challenge = "" // as of a confidential client without PKCE
	a := must(w.engine.Finish(t.Context(), v, r, w.who))(t)
	_, err := w.redeem("spa", a.Params[0][1])
	w.refused("TOK-18", err, oauth.InvalidRequest)
}

// TestRefresh is TOK-22 to TOK-29 through the token endpoint's rule.
func TestRefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := string(must(w.redeem("spa", w.code()))(t).Refresh)
	_, err := w.refresh("other", first)
	w.refused("TOK-23 another client", err, oauth.InvalidGrant)
	_, err = w.token("spa", "refresh_token", "refresh_token", first, "scope", "openid read admin")
	w.refused("TOK-29 a wider scope", err, oauth.InvalidScope)
	for name, other := range map[string]string{"cut": first[:len(first)-1], "longer": first + "A", "another kind": w.code()} {
		_, err = w.refresh("spa", other)
		w.refused("TOK-22 a refresh token "+name, err, oauth.InvalidGrant)
	}
	narrow := must(w.token("spa", "refresh_token", "refresh_token", first, "scope", "read"))(t)
	if narrow.Scope != "read" || len(narrow.ID) != 0 {
		t.Errorf("scope %q, ID token %q", narrow.Scope, narrow.ID)
	}
	second := string(narrow.Refresh)
	again := must(w.refresh("spa", first))(t)
	if string(again.Refresh) != second {
		t.Error("TOK-28: within the window another branch was made")
	}
	third := must(w.refresh("spa", second))(t)
	if third.Scope != "openid offline_access read" || len(third.ID) == 0 {
		t.Errorf("TOK-29: the grant has changed: scope %q", third.Scope)
	}
	_, err = w.refresh("spa", first)
	w.refused("TOK-27 a token of two rotations ago", err, oauth.InvalidGrant)
	_, err = w.refresh("spa", string(third.Refresh))
	w.refused("TOK-24 the family after a reuse", err, oauth.InvalidGrant)
}

// TestRefreshAfterTheUserHasChanged is TOK-30 and TOK-31: disabled, or with all logins
// ended, a user's grants give nothing; of a session that has ended only the offline ones
// go on.
func TestRefreshAfterTheUserHasChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	offline := string(must(w.redeem("spa", w.code()))(t).Refresh)
	online := string(must(w.redeem("spa", w.code("scope", "openid read")))(t).Refresh)
	w.Must(t, &command.EndSession{Tenant: "default", Id: "s1"})
	_, err := w.refresh("spa", online)
	w.refused("a session that has ended", err, oauth.InvalidGrant)
	offline = string(must(w.refresh("spa", offline))(t).Refresh)
	w.Pass(time.Second)
	user := must(w.FSM.View().User("default", "u1"))(t)
	w.Must(t, &command.PutUser{User: user, Expect: user.GetGeneration(), EndLogins: true})
	_, err = w.refresh("spa", offline)
	w.refused("all logins ended", err, oauth.InvalidGrant)
}

// TestCodeOfADisabledUser is TOK-31.
func TestCodeOfADisabledUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	code := w.code()
	user := must(w.FSM.View().User("default", "u1"))(t)
	user.Disabled = true
	w.Must(t, &command.PutUser{User: user, Expect: user.GetGeneration()})
	_, err := w.redeem("spa", code)
	w.refused("TOK-31", err, oauth.InvalidGrant)
}

// TestConsentIsHeldToItsScope is TOK-36: what was withdrawn or never given is not given.
func TestConsentIsHeldToItsScope(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spa, _ := w.FSM.View().Client("default", "spa")
	asks := &state.Client{Tenant: "default", Id: "spa", AuthMethod: "none", GrantTypes: spa.GetGrantTypes(), RedirectUris: spa.GetRedirectUris(), Scopes: spa.GetScopes()}
	code := w.code()
	w.Must(t, &command.PutClient{Client: asks, Expect: spa.GetGeneration()})
	_, err := w.redeem("spa", code)
	w.refused("no consent", err, oauth.InvalidGrant)
	w.Must(t, &command.PutConsent{Consent: &state.Consent{Tenant: "default", User: "u1", ClientId: "spa", Scopes: []string{"openid", "offline_access", "read"}}})
	token := string(must(w.redeem("spa", code))(t).Refresh) // the refusal has used nothing up
	w.Must(t, &command.DeleteConsent{Tenant: "default", User: "u1", ClientId: "spa"})
	_, err = w.refresh("spa", token)
	w.refused("consent withdrawn", err, oauth.InvalidGrant)
}

func FuzzParse(f *testing.F) {
	f.Add("client_id=spa&redirect_uri=https%3A%2F%2Fapp.example%2Fcb&response_type=code&claims=%7B%7D&prompt=none")
	f.Add("client_id=spa&request_uri=urn:ietf:params:oauth:request_uri:AAAA")
	f.Add("claims={\"a\":\"\\\"[\"}&max_age=0")
	w := newWorld(f)
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return // the form decoder refuses it first
		}
		r, err := w.engine.Parse(t.Context(), w.FSM.View(), "default", form(q))
		var failure *authorize.Failure
		switch {
		case err != nil && !errors.As(err, &failure):
			t.Errorf("%q: %v is no refusal", query, err)
		case err == nil && !clients.RedirectMatches([]string{callback, "http://127.0.0.1/cb", "com.example.app:/cb"}, r.GetRedirectUri()):
			t.Errorf("%q leads to %q", query, r.GetRedirectUri())
		}
	})
}
