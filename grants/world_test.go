package grants_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/grants/pending"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/internal/testproof"
	"github.com/keyraft/keyraft/storage"
	"github.com/keyraft/keyraft/tokens"
)

func TestMain(m *testing.M) { testnode.Main(m) }

const (
	phrase = "a long phrase of mine"
	api    = "https://api.example"
	orders = "https://orders.example"

	jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	exchange  = "urn:ietf:params:oauth:grant-type:token-exchange"
	access    = "urn:ietf:params:oauth:token-type:access_token"
	idToken   = "urn:ietf:params:oauth:token-type:id_token"
	plainJWT  = "urn:ietf:params:oauth:token-type:jwt"
)

// hashed is the hash of phrase, made once: it costs on purpose.
var hashed = sync.OnceValues(func() (string, error) {
	p, err := seal.NewPasswords(1, 1)
	if err != nil {
		return "", err
	}
	return p.Hash(context.Background(), phrase)
})

// world is a node with the token endpoint's rule, the user alice, and an issuer of
// another organisation.
type world struct {
	*testnode.Node
	t          testing.TB
	pipeline   *grants.Pipeline
	minter     *tokens.Minter
	registry   *clients.Registry
	intro      *tokens.Introspector
	revoker    *tokens.Revoker
	boxes      *tokens.Boxes
	proofs     *tokens.Proofs
	pending    *pending.Requests
	secrets    map[string]string
	proof      string // DPoP header of the requests; "" for none
	idp        *idp
	fetched    func(url string) ([]byte, error)
	keysFailed atomic.Int64
	mu         sync.Mutex
	writes     []command.Command // all that was proposed
}

func absent(err error) bool { return errors.Is(err, storage.ErrNotFound) }

func newWorld(t testing.TB) *world { return newWorldBefore(t, func(command.Command) {}) }

// newWorldBefore is newWorld of which before is told of each proposal first.
func newWorldBefore(t testing.TB, before func(command.Command)) *world {
	t.Helper()
	w := &world{t: t, secrets: map[string]string{}, idp: newIDP(t, "https://idp.example")}
	w.Node = testnode.New(t, testnode.Options{Before: func(c command.Command) error {
		before(c)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.writes = append(w.writes, c)
		return nil
	}})
	n := w.Node
	shared, signing := tokens.NewClusterKeys(n.Ring), tokens.NewSigningKeys(n.Ring)
	w.boxes = tokens.NewBoxes(shared, tokens.KeyCode)
	keys := clients.Keys{
		Newest:  func(v *state.View) (*seal.Key, uint32, error) { return shared.Newest(v, tokens.KeyHash) },
		Version: func(v *state.View, n uint32) (*seal.Key, error) { return shared.Version(v, tokens.KeyHash, n) },
	}
	minter := must(tokens.NewMinter(signing, "n1"))(t)
	w.minter = minter
	opaque := must(tokens.NewOpaque(minter, shared, n.Propose))(t)
	auth := must(clients.NewAuthenticator(clients.AuthenticatorConfig{
		Propose: n.Propose, View: n.View, Now: n.Now, Issuer: signing.Issuer, TokenPath: "/oauth2/token", Keys: keys,
	}))(t)
	w.registry = must(clients.NewRegistry(clients.RegistryConfig{Propose: n.Propose, View: n.View, Now: n.Now, Keys: keys, Grants: grants.Types(), Issuer: signing.Issuer}))(t)
	w.intro = must(tokens.NewIntrospector(tokens.IntrospectorConfig{Signing: signing, Shared: shared, Now: n.Now, Absent: absent}))(t)
	w.revoker = must(tokens.NewRevoker(w.intro, n.View, n.Propose))(t)
	w.proofs = must(tokens.NewProofs(tokens.ProofsConfig{Node: "n1", Shared: shared, Now: n.Now, Ask: func(context.Context, string, string, []byte) ([]byte, error) {
		return nil, errors.New("there is no other node")
	}}))(t)
	subjects := must(tokens.NewSubjects(shared))(t)
	w.pending = must(pending.New(pending.Config{Node: "n1", Propose: n.Propose, View: n.View, Shared: shared, Now: n.Now, Absent: absent}))(t)
	w.pipeline = must(grants.New(grants.Config{
		Clients: auth, Keys: signing, Minter: minter, Opaque: opaque, View: n.View, Now: n.Now, Propose: n.Propose,
		Refresh: tokens.NewRefreshTokens(shared), Boxes: w.boxes, Absent: absent, Proofs: w.proofs, Pending: w.pending, TokenPath: "/oauth2/token",
		Check: w.check(), Locked: locked(n), Subject: subjects.Subject, Introspector: w.intro,
		KeysFailed: func(string, error) { w.keysFailed.Add(1) },
		Fetch:      func(_ context.Context, url string, _ int64) ([]byte, error) { return w.fetched(url) },
	}))(t)
	n.Must(t, &command.PutSigningKey{Key: must(tokens.NewSigningKey(n.Ring, "default", "ES256"))(t)})
	w.user(func(*state.User) {})
	w.trust(func(*state.TrustedIssuer) {})
	return w
}

// users are made when a test first needs them, for that costs a password's hash.
func (w *world) check() func(context.Context, *state.View, string, string, string, string) (*state.User, error) {
	users := sync.OnceValue(func() *identity.Users {
		return must(identity.NewUsers(identity.UsersConfig{
			Propose: w.Propose, View: w.View, Passwords: must(seal.NewPasswords(2, 16))(w.t), Now: w.Now, Absent: absent,
			TokensEnd: w.revoker.TokensEnd, Policy: identity.Policy{Failures: 3},
		}))(w.t)
	})
	return func(ctx context.Context, v *state.View, tenant, name, password, browser string) (*state.User, error) {
		return users().Check(ctx, v, tenant, name, password, browser)
	}
}

func locked(n *testnode.Node) func(*state.View, string, string) (bool, error) {
	return func(v *state.View, tenant, user string) (bool, error) {
		a, err := v.Attempts(tenant, user, "")
		if absent(err) {
			return false, nil
		}
		return a.GetLockedUntil() > n.Now().UnixMilli(), err
	}
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

// user makes alice, or changes her.
func (w *world) user(change func(*state.User)) {
	w.t.Helper()
	old, err := w.FSM.View().User("default", "u1")
	u := &state.User{Tenant: "default", Id: "u1", Username: "alice", Key: "alice", Password: must(hashed())(w.t)}
	if err == nil {
		u = old
	}
	expect := u.GetGeneration()
	change(u)
	w.Must(w.t, &command.PutUser{User: u, Expect: expect, RevokeUntil: w.Now().Unix() + 7200, EndLogins: u.GetDisabled()})
}

// trust makes the issuer's record, or changes it.
func (w *world) trust(change func(*state.TrustedIssuer)) {
	w.t.Helper()
	i := &state.TrustedIssuer{Tenant: "default", Issuer: w.idp.issuer, Kind: "jwt", Jwks: w.idp.jwks(), MapToUser: true, TokenExchange: true}
	if old, ok := w.FSM.View().TrustedIssuer("default", w.idp.issuer); ok {
		i = clone(old)
	}
	expect := i.GetGeneration()
	change(i)
	w.Must(w.t, &command.PutTrustedIssuer{Issuer: i, Expect: expect})
}

func clone(i *state.TrustedIssuer) *state.TrustedIssuer {
	return &state.TrustedIssuer{
		Tenant: i.GetTenant(), Issuer: i.GetIssuer(), Kind: i.GetKind(), Disabled: i.GetDisabled(), JwksUri: i.GetJwksUri(), Jwks: i.GetJwks(), Certificates: i.GetCertificates(),
		Audiences: i.GetAudiences(), SubjectClaim: i.GetSubjectClaim(), ClaimMapping: i.GetClaimMapping(), MapToUser: i.GetMapToUser(), Clients: i.GetClients(),
		MaxLife: i.GetMaxLife(), Generation: i.GetGeneration(), TokenExchange: i.GetTokenExchange(), Scopes: i.GetScopes(),
	}
}

// tenant changes the tenant's record.
func (w *world) tenant(change func(*state.Tenant)) {
	w.t.Helper()
	old, _ := w.FSM.View().Tenant("default")
	next := &state.Tenant{Id: "default", DisplayName: old.GetDisplayName(), Settings: old.GetSettings()}
	change(next)
	w.Must(w.t, &command.PutTenant{Tenant: next, Expect: old.GetGeneration()})
}

// client registers a confidential client that needs no consent.
func (w *world) client(id string, change func(*clients.Registration)) {
	w.t.Helper()
	r := &clients.Registration{
		ClientID: id, Scope: "openid offline_access read write", Resources: []string{api, orders}, SkipConsent: true, IDTokenAlg: "ES256", RedirectURIs: []string{"https://app.example/cb"},
		GrantTypes: []string{"authorization_code", "refresh_token", "client_credentials", "password", jwtBearer, exchange, string(oauth.GrantDeviceCode), string(oauth.GrantCIBA)},
	}
	change(r)
	made := must(w.registry.Create(w.t.Context(), w.FSM.View(), "default", r))(w.t)
	w.secrets[id] = made.Secret()
}

// allowPassword lets the tenant's clients use the password grant, too.
func (w *world) allowPassword() {
	w.t.Helper()
	w.tenant(func(t *state.Tenant) {
		t.Settings = &state.TenantSettings{GrantTypes: []string{"password"}}
		for _, g := range grants.Types() {
			if g != oauth.GrantPassword {
				t.Settings.GrantTypes = append(t.Settings.GrantTypes, string(g))
			}
		}
	})
}

type form url.Values

func (f form) Get(name string) string   { return url.Values(f).Get(name) }
func (f form) All(name string) []string { return f[name] }

// ask asks the token endpoint's rule; what is named twice in pairs is there twice.
func (w *world) ask(client, grant string, pairs ...string) (*grants.Answer, error) {
	f := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		f.Add(pairs[i], pairs[i+1])
	}
	out := new(grants.Answer)
	err := w.pipeline.Token(context.Background(), w.FSM.View(), &grants.Request{
		Credentials: clients.Request{Tenant: "default", Authorization: basic(client, w.secrets[client])}, GrantType: grant, Scope: f.Get("scope"), Form: form(f), Proof: w.proof,
	}, out)
	return out, err
}

func basic(id, secret string) []byte {
	return []byte("Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret))))
}

// good wants an answer and gives the claims of its token.
func (w *world) good(out *grants.Answer, err error) map[string]any {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	return payload(w.t, string(out.Token))
}

// refused wants a refusal.
func (w *world) refused(what string, out *grants.Answer, err error, code oauth.Code) {
	w.t.Helper()
	if !errors.Is(err, code) {
		w.t.Errorf("%s: %v, want %s", what, err, code)
	}
	if err == nil && out != nil {
		w.t.Errorf("%s: got a token of %v", what, payload(w.t, string(out.Token)))
	}
}

func payload(t testing.TB, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil // opaque
	}
	raw := must(base64.RawURLEncoding.DecodeString(parts[1]))(t)
	out := map[string]any{}
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// code is a good authorization code of alice's for a client.
func (w *world) code(client, scope string) string {
	w.t.Helper()
	v := w.FSM.View()
	c, _ := v.Client("default", client)
	a := w.allows(client, scope)
	return must(grants.SealCode(w.boxes, v, &state.AuthorizationCode{
		Id: a.GetGrant(), ExpiresAt: w.Now().Unix() + 60, ClientCreatedAt: c.GetCreatedAt(), Epoch: v.Epoch(), Offline: true, RedirectUri: "https://app.example/cb",
		Authorization: a,
	}))(w.t)
}

// allows is what alice, signed in at a browser, allows a client.
func (w *world) allows(client, scope string) *state.Authorization {
	w.t.Helper()
	user := must(w.FSM.View().User("default", "u1"))(w.t)
	sid := tokens.NewGrantID()
	w.Must(w.t, &command.PutSession{UserGeneration: user.GetGeneration(), Session: &state.Session{
		Tenant: "default", Id: sid, User: "u1", Secret: make([]byte, 32), AuthTime: w.Now().Unix(), Amr: []string{"pwd"}, ExpiresAt: w.Now().Unix() + 7200,
	}})
	return &state.Authorization{
		Tenant: "default", ClientId: client, User: "u1", Subject: "u1", Session: sid, Scope: scope, Grant: tokens.NewGrantID(), AuthTime: w.Now().Unix(),
		Acr: grants.ACRPassword, Amr: []string{"pwd"},
	}
}

// device is the code of a device that alice has allowed.
func (w *world) device(client, scope string) string {
	w.t.Helper()
	c, _ := w.FSM.View().Client("default", client)
	code := must(w.pending.StartDevice(w.t.Context(), w.FSM.View(), &state.DeviceRequest{
		Tenant: "default", ClientId: client, ClientGeneration: c.GetGeneration(), Scope: scope, ScopeGiven: true,
	}))(w.t)
	_, hash, err := w.pending.Device(w.FSM.View(), "default", code)
	if err == nil {
		err = w.pending.DecideDevice(w.t.Context(), "default", hash, w.allows(client, scope))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return code
}

// backchannel is the id of a request that alice has allowed.
func (w *world) backchannel(client, scope string) string {
	w.t.Helper()
	c, _ := w.FSM.View().Client("default", client)
	id := must(w.pending.StartBackchannel(w.t.Context(), w.FSM.View(), &state.BackchannelRequest{
		Tenant: "default", ClientId: client, ClientGeneration: c.GetGeneration(), Scope: scope, User: "u1",
	}, 300))(w.t)
	_, hash, err := w.pending.Backchannel(w.FSM.View(), "default", id)
	if err == nil {
		err = w.pending.DecideBackchannel(w.t.Context(), "default", "u1", hash, w.allows(client, scope))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// login is what alice's login at a client gives.
func (w *world) login(client, scope string, pairs ...string) *grants.Answer {
	w.t.Helper()
	return must(w.ask(client, "authorization_code", append([]string{"code", w.code(client, scope), "redirect_uri", "https://app.example/cb"}, pairs...)...))(w.t)
}

// exchanged asks for an exchange of an access token of ours.
func (w *world) exchanged(client, token string, pairs ...string) (*grants.Answer, error) {
	return w.ask(client, exchange, append([]string{"subject_token", token, "subject_token_type", access}, pairs...)...)
}

// prove makes the next requests come with a proof of key.
func (w *world) prove(key *testproof.Key) {
	w.proof = ""
	if key != nil {
		claims := testproof.Claims("POST", testnode.Issuer+"/oauth2/token", w.Now().Unix())
		w.proof = key.Proof(w.t, testproof.With(claims, map[string]any{"nonce": must(w.proofs.Nonce(w.FSM.View(), "default"))(w.t)}))
	}
}

// idp is an issuer of somebody else's.
type idp struct {
	issuer, kid string
	key         *testproof.Key
	t           testing.TB
}

func newIDP(t testing.TB, issuer string) *idp {
	t.Helper()
	return &idp{issuer, "k1", testproof.New(t), t}
}

func (p *idp) jwks() []byte { return p.key.JWKS(p.t, p.kid) }

// sign makes a JWT of a header and claims.
func (p *idp) sign(t testing.TB, header, claims map[string]any) string {
	t.Helper()
	return p.key.Sign(t, header, claims)
}

// says is a good assertion's payload, with the changes of pairs; nil takes one away.
func (w *world) says(pairs ...any) map[string]any {
	now := w.Now().Unix()
	c := map[string]any{"iss": w.idp.issuer, "sub": "alice", "aud": testnode.Issuer, "iat": now, "exp": now + 300, "jti": tokens.NewGrantID()}
	for i := 0; i < len(pairs); i += 2 {
		delete(c, pairs[i].(string))
		if pairs[i+1] != nil {
			c[pairs[i].(string)] = pairs[i+1]
		}
	}
	return c
}

// assertion is a good one, with the changes of pairs.
func (w *world) assertion(pairs ...any) string {
	return w.idp.sign(w.t, map[string]any{"alg": "ES256", "kid": w.idp.kid}, w.says(pairs...))
}
