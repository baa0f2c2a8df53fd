package adminapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/cluster/member"
	"github.com/keyraft/keyraft/fsm"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/httpapi/adminapi"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/outbound"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/storage"
	"github.com/keyraft/keyraft/tokens"
)

func TestMain(m *testing.M) { testnode.Main(m) }

const (
	adminToken = testnode.AdminToken
	acmeToken  = "the-admin-token-of-acme-0123456789"
	overToken  = "an-admin-token-whose-time-is-over-1"
	issuer     = testnode.Issuer
)

// world is one node's API, in the words of this room's tests.
type world struct {
	*testnode.Node
	t        testing.TB
	ring     *seal.Keyring
	fsm      *fsm.FSM
	lagging  *atomic.Pointer[state.View]
	noLeader *atomic.Bool
	http     *http.Client

	mu     sync.Mutex
	before func(c command.Command) // called before the next proposal
	broken atomic.Pointer[error]   // what every proposal meets

	calls    chan string // of the cluster: what was asked of it
	refuse   atomic.Pointer[error]
	gateways []adminapi.Instance
	receipt  func(adminapi.Revocation, time.Duration) ([]adminapi.Confirmation, bool)
	minter   *tokens.Minter
	routes   []httpapi.Route
	sessions *identity.Sessions
	consents *identity.Consents
	factors  *identity.Factors
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, calls: make(chan string, 100)}
	w.receipt = func(adminapi.Revocation, time.Duration) ([]adminapi.Confirmation, bool) { return nil, true }
	w.Node = testnode.New(t, testnode.Options{Now: time.Now, Before: w.meet})
	w.ring, w.fsm, w.lagging, w.noLeader = w.Ring, w.FSM, &w.Lagging, &w.NoLeader
	w.must(&command.PutTenant{Tenant: &state.Tenant{Id: "acme", DisplayName: "ACME"}})
	w.must(&command.PutAdminToken{Hash: w.Hash(acmeToken), Token: &state.AdminToken{Id: "acme-1", Tenant: "acme"}})
	w.must(&command.PutAdminToken{Hash: w.Hash(overToken), Token: &state.AdminToken{Id: "over", ExpiresAt: time.Now().Add(-time.Minute).UnixMilli()}})
	w.serve()
	return w
}

// meet is what a proposal meets on its way.
func (w *world) meet(c command.Command) error {
	w.mu.Lock()
	before := w.before
	w.before = nil // one time; it may propose itself
	w.mu.Unlock()
	if before != nil {
		before(c)
	}
	if err := w.broken.Load(); err != nil {
		return *err
	}
	return nil
}

func (w *world) must(c command.Command) command.Result {
	w.t.Helper()
	return w.Must(w.t, c)
}

func (w *world) told(call string) error {
	w.calls <- call
	if err := w.refuse.Load(); err != nil {
		return *err
	}
	return nil
}

// cluster is a cluster of one node that writes down what it was asked.
func (w *world) cluster() adminapi.Cluster {
	return adminapi.Cluster{
		Status: func() member.Status {
			v := w.fsm.View()
			return member.Status{NodeID: "n1", State: "leader", LeaderID: "n1", Term: 3, AppliedIndex: v.Index(), CommitIndex: v.Index(), Head: v.Head(), FeatureLevel: 1, Healthy: true}
		},
		Members: func(context.Context) ([]member.Node, error) {
			return []member.Node{{ID: "n1", Role: "leader", Suffrage: "voter", State: "ready", APIAddr: "127.0.0.1:9763", ClusterAddr: "127.0.0.1:9764", AppliedIndex: w.fsm.View().Index()}}, nil
		},
		Remove: func(_ context.Context, id string, force bool) error {
			if force {
				return w.told("force remove " + id)
			}
			return w.told("remove " + id)
		},
		Promote:  func(_ context.Context, id string) error { return w.told("promote " + id) },
		Transfer: func(_ context.Context, id string) error { return w.told("transfer " + id) },
		JoinToken: func(_ context.Context, ttl time.Duration, nonVoter bool) (string, time.Time, error) {
			kind := "voter"
			if nonVoter {
				kind = "nonvoter"
			}
			return "krj1_token", time.Now().Add(ttl), w.told("join " + kind + " " + ttl.String())
		},
		Checksum: w.fsm.Checksum,
		Backup: func(ctx context.Context, out io.Writer) error {
			if err := w.told("backup"); err != nil {
				return err
			}
			s, err := w.fsm.Snapshot(time.Now().UnixMilli())
			if err != nil {
				return err
			}
			defer s.Release()
			_, err = s.WriteTo(out)
			return err
		},
		Restore: func(_ context.Context, in io.Reader, foreign bool) (member.Restored, error) {
			n, err := io.Copy(io.Discard, in)
			if err != nil {
				return member.Restored{}, err
			}
			call := "restore"
			if foreign {
				call = "restore foreign"
			}
			return member.Restored{Epoch: 2, Index: uint64(n), Head: 9}, w.told(call)
		},
		RotateGossipKey:  func(_ context.Context, pool string) error { return w.told("gossip " + pool) },
		GatewayGossipKey: func() ([]byte, error) { return bytes.Repeat([]byte{7}, 32), nil },
	}
}

func (w *world) serve() {
	w.t.Helper()
	shared, signing := tokens.NewClusterKeys(w.ring), tokens.NewSigningKeys(w.ring)
	introspector, err := tokens.NewIntrospector(tokens.IntrospectorConfig{Signing: signing, Shared: shared, Now: time.Now, Absent: func(err error) bool { return err == storage.ErrNotFound }})
	if err != nil {
		w.t.Fatal(err)
	}
	revoker, err := tokens.NewRevoker(introspector, w.View, w.Propose)
	if err != nil {
		w.t.Fatal(err)
	}
	registry, err := clients.NewRegistry(clients.RegistryConfig{
		Propose: w.Propose, View: w.View, Now: time.Now, Grants: []oauth.GrantType{oauth.GrantClientCredentials}, Issuer: signing.Issuer,
		Keys: clients.Keys{
			Newest:  func(v *state.View) (*seal.Key, uint32, error) { return shared.Newest(v, tokens.KeyHash) },
			Version: func(v *state.View, n uint32) (*seal.Key, error) { return shared.Version(v, tokens.KeyHash, n) },
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if w.minter, err = tokens.NewMinter(signing, "n1"); err != nil {
		w.t.Fatal(err)
	}
	passwords, err1 := seal.NewPasswords(2, 16)
	absent := func(err error) bool { return errors.Is(err, storage.ErrNotFound) }
	if err1 != nil {
		panic(err1)
	}
	users, err1 := identity.NewUsers(identity.UsersConfig{
		Propose: w.Propose, View: w.View, Passwords: passwords, Now: w.Now, Absent: absent, TokensEnd: revoker.TokensEnd,
	})
	if err1 != nil {
		panic(err1)
	}
	boxes := tokens.NewBoxes(shared, tokens.KeyCode)
	sessions, err1 := identity.NewSessions(identity.SessionsConfig{
		Propose: w.Propose, View: w.View, Now: w.Now, Absent: absent, Seal: boxes.Seal, Open: boxes.Open, Hashes: shared.Hashes,
	})
	factors, err2 := identity.NewFactors(identity.FactorsConfig{
		Propose: w.Propose, View: w.View, Now: w.Now, Users: users, Seal: boxes.Seal, Open: boxes.Open, Hashes: shared.Hashes, Issuer: signing.Issuer,
	})
	if err := errors.Join(err1, err2); err != nil {
		panic(err)
	}
	w.sessions, w.factors = sessions, factors
	w.consents = &identity.Consents{Propose: w.Propose, View: w.View, Absent: absent}
	w.routes, err = adminapi.Routes(adminapi.Deps{
		Users: users, Sessions: sessions, Consents: w.consents, Factors: factors, Absent: absent,
		Resets: &identity.Resets{Users: users, Hashes: shared.Hashes, Seal: boxes.Seal, Open: boxes.Open}, ResetPath: "/reset",
		View: w.View, Propose: w.Propose, Clients: registry, Revoker: revoker, Introspector: introspector, Signing: signing, Shared: shared, Proofs: newProofs(w.t, shared, time.Now),
		Rotation: tokens.KeyJobConfig{View: w.View, Ring: w.ring, Now: time.Now}, Now: time.Now, Cluster: w.cluster(),
		OutboundURL: outbound.New(outbound.Config{}).Check,
		Gateways: adminapi.Gateways{
			Instances: func(context.Context) []adminapi.Instance { return w.gateways },
			Receipt: func(_ context.Context, r adminapi.Revocation, d time.Duration) ([]adminapi.Confirmation, bool) {
				return w.receipt(r, d)
			},
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ln := fasthttputil.NewInmemoryListener()
	w.http = testnode.Serve(w.t, ln, ln.Dial, httpapi.Config{Routes: w.routes, View: w.View})
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// call sends a request as the operator; headers are name, value pairs and win.
func (w *world) call(method, path, body string, headers ...string) answer {
	w.t.Helper()
	defaults := []string{"Authorization", "Bearer " + adminToken}
	if body != "" {
		defaults = append(defaults, "Content-Type", "application/json")
	}
	a, err := testnode.Send(context.Background(), w.http, method, "http://node"+path, body, append(defaults, headers...)...)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{a.Status, a.Header, a.Body}
}

// object calls and reads a JSON object; want is the status that must come.
func (w *world) object(want int, method, path, body string, headers ...string) map[string]any {
	w.t.Helper()
	a := w.call(method, path, body, headers...)
	if a.status != want {
		w.t.Fatalf("%s %s: %d, want %d: %s", method, path, a.status, want, a.body)
	}
	out := map[string]any{}
	if err := json.Unmarshal(a.body, &out); err != nil {
		w.t.Fatalf("%s %s: %v in %q", method, path, err, a.body)
	}
	return out
}

// refused calls and wants a problem document of this status, code and field.
func (w *world) refused(status int, code, field, method, path, body string, headers ...string) answer {
	w.t.Helper()
	a := w.call(method, path, body, headers...)
	p := map[string]any{}
	if err := json.Unmarshal(a.body, &p); err != nil {
		w.t.Errorf("%s %s: %d, no problem document: %q", method, path, a.status, a.body)
		return a
	}
	named, _ := p["field"].(string)
	if a.status != status || code != "" && p["code"] != code || named != field || a.header.Get("Content-Type") != "application/problem+json" || p["detail"] == "" {
		w.t.Errorf("%s %s %.80s: %d, want %d %s %q: %s", method, path, body, a.status, status, code, field, a.body)
	}
	return a
}

func (w *world) asked() string {
	select {
	case c := <-w.calls:
		return c
	default:
		return ""
	}
}

// mint makes a JWT of a client of the tenant, for these audiences.
func (w *world) mint(tenant, client, scope string, audience ...string) string {
	w.t.Helper()
	return w.minted(&tokens.Claims{Tenant: tenant, Subject: client, ClientID: client, Scope: scope, Audience: audience})
}

func (w *world) minted(c *tokens.Claims) string {
	w.t.Helper()
	c.IssuedAt = time.Now().Unix()
	c.Expires = c.IssuedAt + 600
	token, err := w.minter.AppendJWT(w.t.Context(), nil, w.fsm.View(), c)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(token)
}

// signs makes the first ES256 key of a tenant.
func (w *world) signs(path string) map[string]any {
	w.t.Helper()
	return w.object(200, "POST", path+"/admin/v1/keys/rotate", `{"alg":"ES256"}`)
}

// newProofs are the DPoP proofs of a node that is alone.
func newProofs(t testing.TB, shared *tokens.ClusterKeys, now func() time.Time) *tokens.Proofs {
	t.Helper()
	p, err := tokens.NewProofs(tokens.ProofsConfig{
		Node: "n1", Shared: shared, Now: now,
		Ask: func(context.Context, string, string, []byte) ([]byte, error) {
			return nil, errors.New("there is no other node")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}
