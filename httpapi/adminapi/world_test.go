package adminapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp/fasthttputil"
	"go.uber.org/goleak"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/cluster/member"
	"github.com/keyraft/keyraft/fsm"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/httpapi/adminapi"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/storage"
	"github.com/keyraft/keyraft/tokens"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp's clock and its pool of idle workers live as long as the process.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

const (
	adminToken = "the-operators-own-token-0123456789"
	acmeToken  = "the-admin-token-of-acme-0123456789"
	overToken  = "an-admin-token-whose-time-is-over-1"
	issuer     = "https://sts.example"
)

// world is one node's API over a real state machine on a real store.
type world struct {
	t    testing.TB
	ring *seal.Keyring
	fsm  *fsm.FSM
	mu   sync.Mutex
	next uint64 // Raft index
	http *http.Client

	lagging  atomic.Pointer[state.View] // when set, what this node has applied
	noLeader atomic.Bool
	broken   atomic.Pointer[error] // what every proposal meets

	calls    chan string // of the cluster: what was asked of it
	refuse   atomic.Pointer[error]
	gateways []adminapi.Instance
	receipt  func(adminapi.Revocation, time.Duration) ([]adminapi.Confirmation, bool)
	before   func(c command.Command) // called before each proposal
	minter   *tokens.Minter
	routes   []httpapi.Route
}

func newWorld(t testing.TB) *world {
	t.Helper()
	ring, err := seal.NewKeyring(seal.Generate())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, ring: ring, calls: make(chan string, 100)}
	w.receipt = func(adminapi.Revocation, time.Duration) ([]adminapi.Confirmation, bool) { return nil, true }
	w.fsm, err = fsm.Open(fsm.Config{
		Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler),
		Halt: func(err error) { t.Errorf("the state machine halted: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.fsm.Close() })
	w.bootstrap()
	w.serve()
	return w
}

func (w *world) bootstrap() {
	w.t.Helper()
	var keys []*state.ClusterKey
	for _, name := range []string{tokens.KeyHash, tokens.KeyTag} {
		k, err := tokens.NewClusterKey(w.ring, name, 1, time.Now())
		if err != nil {
			w.t.Fatal(err)
		}
		keys = append(keys, k)
	}
	plain, err := w.ring.Open(tokens.SealLabel(tokens.KeyHash, 1), keys[0].GetSealed())
	if err != nil {
		w.t.Fatal(err)
	}
	key := seal.Key(plain)
	hash := func(token string) []byte { h := seal.Hash(&key, []byte(token)); return h[:] }
	w.must(&command.Bootstrap{
		Cluster: &state.Cluster{Id: "test", Issuer: issuer, SealCheck: w.ring.CheckValue()},
		Tenant:  &state.Tenant{Id: "default", DisplayName: "Default", CreatedAt: time.Now().UnixMilli()}, Keys: keys, AdminToken: hash(adminToken),
		Node: &state.Node{Id: "n1", ApiAddr: "127.0.0.1:9763"},
	})
	w.must(&command.PutTenant{Tenant: &state.Tenant{Id: "acme", DisplayName: "ACME"}})
	w.must(&command.PutAdminToken{Hash: hash(acmeToken), Token: &state.AdminToken{Id: "acme-1", Tenant: "acme"}})
	w.must(&command.PutAdminToken{Hash: hash(overToken), Token: &state.AdminToken{Id: "over", ExpiresAt: time.Now().Add(-time.Minute).UnixMilli()}})
}

func (w *world) Propose(ctx context.Context, c command.Command) (command.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if before := w.before; before != nil {
		w.before = nil // one time; it may propose itself
		w.mu.Unlock()
		before(c)
		w.mu.Lock()
	}
	if err := w.broken.Load(); err != nil {
		return command.Result{}, *err
	}
	key, body, named := command.KeyFrom(ctx)
	if !named {
		k := seal.Generate()
		key = command.Key(k[:16])
	}
	envelope, err := command.Encode(c, key, body, named && command.Remembered(c.Kind()))
	if err != nil {
		return command.Result{}, err
	}
	entry := command.AppendHeader(nil, command.Header{Stamp: time.Now().UnixMilli(), Elapsed: 1 << 39, Epoch: w.fsm.View().Epoch()}, 1)
	w.next++
	return w.fsm.Apply(w.next, 1, append(entry, envelope...))[0], nil
}

func (w *world) must(c command.Command) command.Result {
	w.t.Helper()
	r, err := w.Propose(context.Background(), c)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		w.t.Fatalf("%T: %v", c, err)
	}
	return r
}

func (w *world) View(_ context.Context, f state.Freshness) (*state.View, error) {
	if f.IsLinearizable() {
		if w.noLeader.Load() {
			return nil, command.ErrUnavailable
		}
		w.lagging.Store(nil) // it waits until this node has applied the index
	}
	if v := w.lagging.Load(); v != nil {
		return v, nil
	}
	return w.fsm.View(), nil
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
	revoker, err := tokens.NewRevoker(introspector, w.Propose)
	if err != nil {
		w.t.Fatal(err)
	}
	registry, err := clients.NewRegistry(clients.RegistryConfig{
		Propose: w.Propose, View: w.View, Now: time.Now, Grants: []oauth.GrantType{oauth.GrantClientCredentials},
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
	w.routes, err = adminapi.Routes(adminapi.Deps{
		View: w.View, Propose: w.Propose, Clients: registry, Revoker: revoker, Introspector: introspector, Signing: signing, Shared: shared,
		Rotation: tokens.KeyJobConfig{View: w.View, Ring: w.ring, Now: time.Now}, Now: time.Now, Cluster: w.cluster(),
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
	srv, err := httpapi.New(httpapi.Config{Routes: w.routes, View: w.View})
	if err != nil {
		w.t.Fatal(err)
	}
	ln := fasthttputil.NewInmemoryListener()
	transport := &http.Transport{
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return ln.Dial() },
		DisableCompression: true,
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	w.http = &http.Client{Transport: transport}
	w.t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx)
		if err := <-done; err != nil {
			w.t.Errorf("Serve: %v", err)
		}
	})
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// call sends a request as the operator; headers are name, value pairs and win.
func (w *world) call(method, path, body string, headers ...string) answer {
	w.t.Helper()
	req, err := http.NewRequest(method, "http://node"+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := w.http.Do(req)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, out}
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
	now := time.Now().Unix()
	token, err := w.minter.AppendJWT(w.t.Context(), nil, w.fsm.View(), &tokens.Claims{
		Tenant: tenant, Subject: client, ClientID: client, Scope: scope, Audience: audience, IssuedAt: now, Expires: now + 600,
	})
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
