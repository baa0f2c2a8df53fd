package oauthapi_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/grants/pending"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/httpapi/oauthapi"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/storage"
	"github.com/keyraft/keyraft/tokens"
	"github.com/keyraft/keyraft/tokens/verify"
)

func TestMain(m *testing.M) { testnode.Main(m) }

const (
	issuer     = testnode.Issuer
	gatewayKey = "gateway-credential"
)

// node is a world behind the real server, on a listener in memory.
type node struct {
	*world
	registry *clients.Registry
	keys     *tokens.SigningKeys
	pipeline *grants.Pipeline
	proofs   *tokens.Proofs
	pending  *pending.Requests
	engine   *authorize.Engine
	id       string
	routes   []httpapi.Route
	http     *http.Client
	log      *strings.Builder
	granted  atomic.Int64
}

// build makes the rooms over w: one node of the cluster that w stands for.
func build(t testing.TB, w *world) *node {
	t.Helper()
	n := &node{world: w, keys: tokens.NewSigningKeys(w.ring), log: new(strings.Builder), id: w.nextID()}
	shared := tokens.NewClusterKeys(w.ring)
	hash := clients.Keys{
		Newest: func(v *state.View) (*seal.Key, uint32, error) { return shared.Newest(v, tokens.KeyHash) },
		Version: func(v *state.View, version uint32) (*seal.Key, error) {
			return shared.Version(v, tokens.KeyHash, version)
		},
	}
	remote := &verify.RemoteSets{Now: w.now, Fetch: func(_ context.Context, url string, _ int64) ([]byte, error) {
		if set, ok := w.published.Load(url); ok {
			return set.([]byte), nil
		}
		return nil, errors.New("nobody answers")
	}}
	var errs [10]error
	n.registry, errs[0] = clients.NewRegistry(clients.RegistryConfig{Propose: w.Propose, Keys: hash, Now: w.now, Issuer: n.keys.Issuer,
		Remote: remote, Fetch: remote.Fetch,
		OutboundURL: func(url string) error {
			if !strings.HasPrefix(url, "https://") {
				return errors.New("an https URL is needed")
			}
			return nil
		},
		Grants: append(grants.Types(), oauth.GrantAuthorizationCode, oauth.GrantRefreshToken),
		// Where a command was proposed it is applied: a view after it is never behind.
		View: func(context.Context, state.Freshness) (*state.View, error) { return w.view(), nil },
	})
	auth, err := clients.NewAuthenticator(clients.AuthenticatorConfig{
		Propose: w.Propose, View: w.View, Keys: hash, Now: w.now, Issuer: n.keys.Issuer, TokenPath: oauthapi.TokenPath, Remote: remote,
	})
	errs[1] = err
	minter, err := tokens.NewMinter(n.keys, n.id)
	errs[2] = err
	opaque, err := tokens.NewOpaque(minter, shared, w.Propose)
	errs[3] = err
	intro, err := tokens.NewIntrospector(tokens.IntrospectorConfig{
		Signing: n.keys, Shared: shared, Now: w.now, Absent: absent,
	})
	errs[4] = err
	revoker, err := tokens.NewRevoker(intro, w.View, w.Propose)
	errs[5] = err
	n.proofs, errs[8] = tokens.NewProofs(tokens.ProofsConfig{
		Node: n.id, Shared: shared, Now: w.now, Ask: func(ctx context.Context, id, topic string, body []byte) ([]byte, error) {
			if other := w.node(id); other != nil && topic == tokens.TopicProofs {
				return other.Answer(ctx, n.id, body)
			}
			return nil, errors.New("that node is gone")
		},
	})
	w.join(n.id, n.proofs)
	n.pending, errs[9] = pending.New(pending.Config{Node: n.id, Propose: w.Propose, View: w.View, Shared: shared, Now: w.now, Absent: absent})
	n.pipeline, errs[6] = grants.New(grants.Config{
		Clients: auth, Keys: n.keys, Minter: minter, Opaque: opaque, View: w.View, Now: w.now,
		Propose: n.Propose, Refresh: tokens.NewRefreshTokens(shared), Boxes: tokens.NewBoxes(shared, tokens.KeyCode), Proofs: n.proofs, TokenPath: oauthapi.TokenPath,
		Absent: absent, Introspector: intro, Pending: n.pending, Locked: w.lockedOut,
		Check: func(context.Context, *state.View, string, string, string, string) (*state.User, error) {
			return nil, oauth.InvalidGrant.With("nobody has a password here")
		},
		Observe: func(g oauth.GrantType, result string) {
			if g == oauth.GrantClientCredentials && result == "ok" {
				n.granted.Add(1)
			}
		},
	})
	subjects, err := tokens.NewSubjects(shared)
	if err != nil {
		t.Fatal(err)
	}
	n.engine, err = authorize.New(authorize.Config{
		Propose: n.Propose, View: w.View, Keys: n.keys, Boxes: tokens.NewBoxes(shared, tokens.KeyCode), Now: w.now, Absent: absent, Subjects: subjects,
		Minter: minter, Pipeline: n.pipeline, ClientKeys: auth.KeySet, FetchObject: func(context.Context, string, int64) ([]byte, error) { return nil, errors.New("nothing is fetched") },
	})
	if err != nil {
		t.Fatal(err)
	}
	n.routes, errs[7] = oauthapi.Routes(oauthapi.Deps{
		Engine: n.engine, Pages: oauthapi.PagesMetadata{AuthorizePath: "/oauth2/authorize", LogoutPath: "/oauth2/logout"},
		Pipeline: n.pipeline, Clients: auth, Keys: n.keys, Introspector: intro, Revoker: revoker, Proofs: n.proofs, View: w.View,
		Minter: minter, Subjects: subjects, Now: w.now, Absent: absent, Grants: grants.Types(), Registry: n.registry,
		Bearer: func(_ *state.View, token string) (tokens.Caller, error) {
			if token != gatewayKey {
				return tokens.Caller{}, oauth.InvalidToken.With("unknown credential")
			}
			return tokens.Caller{}, nil
		},
	})
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return n
}

func absent(err error) bool { return errors.Is(err, storage.ErrNotFound) }

func start(t testing.TB) *node {
	t.Helper()
	w := newWorld(t)
	for _, alg := range []string{"ES256", "EdDSA"} {
		row, err := tokens.NewSigningKey(w.ring, "default", alg)
		if err != nil {
			t.Fatal(err)
		}
		w.must(t, &command.PutSigningKey{Key: row})
	}
	return serve(t, w)
}

func serve(t testing.TB, w *world, change ...func(*httpapi.Config)) *node {
	t.Helper()
	n := build(t, w)
	ln := fasthttputil.NewInmemoryListener()
	cfg := httpapi.Config{
		Routes: n.routes, View: w.View, Translate: oauthapi.Translate, Logger: slog.New(slog.NewTextHandler(n.log, nil)),
	}
	for _, fn := range change {
		fn(&cfg)
	}
	n.http = testnode.Serve(t, ln, ln.Dial, cfg)
	n.http.Timeout = 10 * time.Second
	return n
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	text   string
	json   map[string]any
}

func (a *answer) code() string { s, _ := a.json["error"].(string); return s }

// want checks status and error code ("": none).
func (a *answer) want(t *testing.T, status int, code string) {
	t.Helper()
	if a.status != status || a.code() != code {
		t.Errorf("got %d %s, want %d %q", a.status, a.text, status, code)
	}
	if a.header.Get("Cache-Control") != "no-store" { // TOK-45: on errors too
		t.Errorf("Cache-Control is %q", a.header.Get("Cache-Control"))
	}
	if a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("another origin may read the answer")
	}
}

func (n *node) do(t testing.TB, method, path, body string, header ...string) *answer {
	t.Helper()
	if body != "" || method == "POST" {
		header = append([]string{"Content-Type", "application/x-www-form-urlencoded"}, header...)
	}
	got, err := testnode.Send(context.Background(), n.http, method, "http://sts.example"+path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	a := &answer{status: got.Status, header: got.Header, text: string(got.Body)}
	if strings.HasPrefix(a.text, "{") {
		if err := json.Unmarshal(got.Body, &a.json); err != nil {
			t.Fatalf("answer %s: %v", a.text, err)
		}
	}
	return a
}

func basicAuth(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// client registers a client and returns its secret.
func (n *node) client(t testing.TB, r clients.Registration) string {
	return n.clientOf(t, "default", r)
}

func (n *node) clientOf(t testing.TB, tenant string, r clients.Registration) string {
	t.Helper()
	c, err := n.registry.Create(context.Background(), n.view(), tenant, &r)
	if err != nil {
		t.Fatal(err)
	}
	return c.Secret()
}

// token gets a token by client_secret_basic; more is added to the form.
func (n *node) token(t testing.TB, id, secret, more string) string {
	t.Helper()
	a := n.do(t, "POST", oauthapi.TokenPath, "grant_type=client_credentials"+more, "Authorization", basicAuth(id, secret))
	token, _ := a.json["access_token"].(string)
	if a.status != 200 || token == "" {
		t.Fatalf("token: %d %s", a.status, a.text)
	}
	return token
}

func (n *node) introspect(t testing.TB, id, secret, token string) *answer {
	t.Helper()
	return n.do(t, "POST", oauthapi.IntrospectPath, "token="+url.QueryEscape(token), "Authorization", basicAuth(id, secret))
}

// keyPair is a client's key for assertions.
type keyPair struct {
	private ed25519.PrivateKey
	jwks    json.RawMessage
}

func newKeyPair(t testing.TB) *keyPair {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "k1", Algorithm: "EdDSA", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	return &keyPair{private, set}
}

// sign makes an assertion with typ and claims.
func (k *keyPair) sign(t testing.TB, typ string, claims map[string]any) string {
	t.Helper()
	opts := (&jose.SignerOptions{}).WithHeader("kid", "k1")
	if typ != "" {
		opts = opts.WithType(jose.ContentType(typ))
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: k.private}, opts)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return out
}
