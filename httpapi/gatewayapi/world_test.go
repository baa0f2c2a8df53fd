package gatewayapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp/fasthttputil"
	"go.uber.org/goleak"

	"github.com/keyraft/keyraft/fsm"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/httpapi/gatewayapi"
	"github.com/keyraft/keyraft/internal/seal"
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
	issuer     = "https://sts.example"
)

// world is what a node has below its API: a real state machine on a real store.
type world struct {
	t     testing.TB
	ring  *seal.Keyring
	fsm   *fsm.FSM
	mu    sync.Mutex
	index uint64
	moved chan struct{}
	head  [2]uint64

	lagging  atomic.Pointer[state.View] // when set, what this node has applied
	unproven atomic.Bool                // no proof of freshness since the start
	noLeader atomic.Bool
	reads    atomic.Int64 // linearizable views
}

func newWorld(t testing.TB) *world {
	t.Helper()
	ring, err := seal.NewKeyring(seal.Generate())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, ring: ring, moved: make(chan struct{})}
	w.fsm, err = fsm.Open(fsm.Config{
		Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Observe: w.observe,
		Halt: func(err error) { t.Errorf("the state machine halted: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.fsm.Close() })
	var keys []*state.ClusterKey
	for _, name := range []string{tokens.KeyHash, tokens.KeyTag} {
		k, err := tokens.NewClusterKey(ring, name, 1, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	plain, err := ring.Open(tokens.SealLabel(tokens.KeyHash, 1), keys[0].GetSealed())
	if err != nil {
		t.Fatal(err)
	}
	hashKey := seal.Key(plain)
	hash := seal.Hash(&hashKey, []byte(adminToken))
	w.must(&command.Bootstrap{
		Cluster: &state.Cluster{Id: "test", Issuer: issuer, SealCheck: ring.CheckValue()},
		Tenant:  &state.Tenant{Id: "default", DisplayName: "Default"}, Keys: keys, AdminToken: hash[:],
		Node: &state.Node{Id: "n1", ApiAddr: "127.0.0.1:9763", GatewayGossipAddr: "127.0.0.1:9767"},
	})
	return w
}

func (w *world) observe(v *state.View) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := [2]uint64{v.Epoch(), v.Head()}; now != w.head {
		w.head = now
		close(w.moved)
		w.moved = make(chan struct{})
	}
}

func (w *world) HeadMoved() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.moved
}

var applying sync.Mutex // one Apply at a time, for all worlds of the tests

func (w *world) Propose(_ context.Context, c command.Command) (command.Result, error) {
	applying.Lock()
	defer applying.Unlock()
	k := seal.Generate()
	envelope, err := command.Encode(c, command.Key(k[:16]), [8]byte{}, false)
	if err != nil {
		return command.Result{}, err
	}
	entry := command.AppendHeader(nil, command.Header{Stamp: time.Now().UnixMilli(), Elapsed: 1 << 39, Epoch: w.fsm.View().Epoch()}, 1)
	w.index++
	return w.fsm.Apply(w.index, 1, append(entry, envelope...))[0], nil
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
	switch {
	case f.IsLinearizable():
		w.reads.Add(1)
		if w.noLeader.Load() {
			return nil, command.ErrUnavailable
		}
		w.lagging.Store(nil) // it waits until this node has applied the index
		return w.fsm.View(), nil
	case f.IsStale():
	default:
		if w.unproven.Load() {
			return nil, fmt.Errorf("it has not heard from a leader since it started")
		}
	}
	if v := w.lagging.Load(); v != nil {
		return v, nil
	}
	return w.fsm.View(), nil
}

// revoke records a revocation of a client and returns its seq.
func (w *world) revoke(tenant, target string) uint64 {
	w.t.Helper()
	return w.must(&command.Revoke{Tenant: tenant, TargetKind: "client", Target: target, ExpiresAt: time.Now().Unix() + 3600}).Seq
}

func (w *world) tenant(id string) {
	w.t.Helper()
	w.must(&command.PutTenant{Tenant: &state.Tenant{Id: id}})
}

// gateway registers one and returns its credential.
func (w *world) gateway(id string, tenants ...string) string {
	w.t.Helper()
	credential := "credential-of-" + id + "-0123456789012345"
	key, _, err := tokens.NewClusterKeys(w.ring).Newest(w.fsm.View(), tokens.KeyHash)
	if err != nil {
		w.t.Fatal(err)
	}
	hash := seal.Hash(key, []byte(credential))
	w.must(&command.PutGateway{Gateway: &state.Gateway{Id: id, Name: id, Tenants: tenants, Credential: hash[:]}})
	return credential
}

// nodes are the pollers of several nodes that ask each other directly.
type nodes struct {
	mu   sync.Mutex
	all  map[string]*gatewayapi.Pollers
	down map[string]bool
}

func newNodes() *nodes {
	return &nodes{all: map[string]*gatewayapi.Pollers{}, down: map[string]bool{}}
}

func (n *nodes) ids() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	ids := make([]string, 0, len(n.all))
	for id := range n.all {
		ids = append(ids, id)
	}
	return ids
}

func (n *nodes) set(id string, down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down[id] = down
}

func (n *nodes) ask(ctx context.Context, id, topic string, body []byte) ([]byte, error) {
	n.mu.Lock()
	p, down := n.all[id], n.down[id]
	n.mu.Unlock()
	if down || p == nil || topic != gatewayapi.TopicPollers {
		return nil, fmt.Errorf("node %s does not answer", id)
	}
	return p.Answer(ctx, "n1", body)
}

// node is one API server over a world.
type node struct {
	*world
	pollers *gatewayapi.Pollers
	http    *http.Client
}

type options struct {
	id      string
	nodes   *nodes
	clock   func() time.Time
	deps    func(*gatewayapi.Deps)
	without bool // of the pollers' Run
}

func start(w *world, o options) *node {
	w.t.Helper()
	if o.id == "" {
		o.id = "n1"
	}
	if o.nodes == nil {
		o.nodes = newNodes()
	}
	pollers, err := gatewayapi.NewPollers(gatewayapi.PollersConfig{View: w.View, Nodes: o.nodes.ids, Ask: o.nodes.ask, Clock: o.clock})
	if err != nil {
		w.t.Fatal(err)
	}
	o.nodes.mu.Lock()
	o.nodes.all[o.id] = pollers
	o.nodes.mu.Unlock()
	d := gatewayapi.Deps{
		View: w.View, HeadMoved: w.HeadMoved, Shared: tokens.NewClusterKeys(w.ring), Signing: tokens.NewSigningKeys(w.ring),
		Pollers: pollers, Now: time.Now, Operators: true,
	}
	if o.deps != nil {
		o.deps(&d)
	}
	routes, err := gatewayapi.Routes(d)
	if err != nil {
		w.t.Fatal(err)
	}
	srv, err := httpapi.New(httpapi.Config{Routes: routes, View: w.View})
	if err != nil {
		w.t.Fatal(err)
	}
	ln := fasthttputil.NewInmemoryListener()
	transport := &http.Transport{
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return ln.Dial() },
		DisableCompression: true, MaxIdleConnsPerHost: 16,
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := srv.Serve(ln); err != nil {
			w.t.Errorf("Serve: %v", err)
		}
	})
	if !o.without {
		wg.Go(func() { pollers.Run(ctx) })
	}
	w.t.Cleanup(func() {
		cancel()
		transport.CloseIdleConnections()
		stop, done := context.WithTimeout(context.Background(), 5*time.Second)
		defer done()
		_ = srv.Shutdown(stop)
		wg.Wait()
	})
	return &node{w, pollers, &http.Client{Transport: transport}}
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// get asks with a bearer token and headers as name, value pairs.
func (n *node) get(token, path string, headers ...string) answer {
	n.t.Helper()
	a, err := n.try(context.Background(), token, path, headers...)
	if err != nil {
		n.t.Fatal(err)
	}
	return a
}

func (n *node) try(ctx context.Context, token, path string, headers ...string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://node"+path, nil)
	if err != nil {
		return answer{}, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := n.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, body}, err
}

func (a answer) object(t testing.TB) map[string]any {
	t.Helper()
	out := map[string]any{}
	if err := json.Unmarshal(a.body, &out); err != nil {
		t.Fatalf("status %d, body %q: %v", a.status, a.body, err)
	}
	return out
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 10 s for %s", what)
		}
		time.Sleep(time.Millisecond) // between two looks
	}
}
