package gatewayapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/keyraft/keyraft/fsm"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/httpapi/gatewayapi"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/tokens"
)

func TestMain(m *testing.M) { testnode.Main(m) }

const (
	adminToken = testnode.AdminToken
	issuer     = testnode.Issuer
)

// world is what a node has below its API, in the words of this room's tests.
type world struct {
	*testnode.Node
	t        testing.TB
	ring     *seal.Keyring
	fsm      *fsm.FSM
	lagging  *atomic.Pointer[state.View]
	unproven *atomic.Bool
	noLeader *atomic.Bool

	index uint64 // of the last entry, guarded by applying

	mu    sync.Mutex
	moved chan struct{}
	head  [2]uint64
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, moved: make(chan struct{})}
	w.Node = testnode.New(t, testnode.Options{Now: time.Now, Observe: w.observe})
	w.ring, w.fsm, w.index = w.Ring, w.FSM, w.FSM.View().Index()
	w.lagging, w.unproven, w.noLeader = &w.Lagging, &w.Unproven, &w.NoLeader
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

var applying sync.Mutex // no entry while a test replaces the state

func (w *world) must(c command.Command) command.Result {
	w.t.Helper()
	applying.Lock()
	defer applying.Unlock()
	r := w.Must(w.t, c)
	w.index = w.fsm.View().Index()
	return r
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
	w.must(&command.PutGateway{Gateway: &state.Gateway{Id: id, Name: id, Tenants: tenants, Credential: w.Hash(credential)}})
	return credential
}

// nodes are the pollers of several nodes that ask each other directly.
type nodes struct {
	mu   sync.Mutex
	all  map[string]*gatewayapi.Pollers
	down map[string]bool
	cut  map[[2]string]bool // from, to
}

func newNodes() *nodes {
	return &nodes{all: map[string]*gatewayapi.Pollers{}, down: map[string]bool{}, cut: map[[2]string]bool{}}
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

// from is how one node asks the others.
func (n *nodes) from(me string) func(ctx context.Context, id, topic string, body []byte) ([]byte, error) {
	return func(ctx context.Context, id, topic string, body []byte) ([]byte, error) {
		n.mu.Lock()
		p, down := n.all[id], n.down[id] || n.cut[[2]string{me, id}]
		n.mu.Unlock()
		if down || p == nil || topic != gatewayapi.TopicPollers {
			return nil, fmt.Errorf("node %s does not answer", id)
		}
		return p.Answer(ctx, me, body)
	}
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
	pollers, err := gatewayapi.NewPollers(gatewayapi.PollersConfig{View: w.View, Nodes: o.nodes.ids, Ask: o.nodes.from(o.id), Clock: o.clock})
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
	ln := fasthttputil.NewInmemoryListener()
	client := testnode.Serve(w.t, ln, ln.Dial, httpapi.Config{Routes: routes, View: w.View})
	if !o.without {
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { pollers.Run(ctx) })
		w.t.Cleanup(func() { cancel(); wg.Wait() })
	}
	return &node{w, pollers, client}
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
	if token != "" {
		headers = append([]string{"Authorization", "Bearer " + token}, headers...)
	}
	a, err := testnode.Send(ctx, n.http, "GET", "http://node"+path, "", headers...)
	return answer{a.Status, a.Header, a.Body}, err
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
