package testcluster_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/testcluster"
)

func TestMain(m *testing.M) {
	// What raft was given and had not begun, or not applied, when it was shut down: it
	// never answers.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/keyraft/keyraft/cluster.awaitFuture"),
		goleak.IgnoreAnyFunction("github.com/keyraft/keyraft/cluster.(*batcher).finish"))
}

const tenant = "default"

// seeds is how many seeds a random test takes: KEYRAFT_SEEDS for nightly runs.
func seeds(normal int) int {
	if n, err := strconv.Atoi(os.Getenv("KEYRAFT_SEEDS")); err == nil && n > 0 {
		return n
	}
	return normal
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func revocation(target string) *command.Revoke {
	return &command.Revoke{Tenant: tenant, TargetKind: "token", Target: target, ExpiresAt: math.MaxInt32}
}

// revoke commits one revocation at a node.
func revoke(t testing.TB, n *testcluster.Node, target string) command.Result {
	t.Helper()
	r, err := n.Propose(within(t, 20*time.Second), revocation(target))
	if err != nil || r.Err() != nil {
		t.Fatalf("revoke %s at %s: %v %v", target, n.Name, err, r.Err())
	}
	return r
}

func revoked(v *state.View, target string) bool {
	_, found := v.Revoked(tenant, "", "token", target, 0, 0)
	return found
}

// fill commits so many revocations, one entry each.
func fill(t testing.TB, n *testcluster.Node, name string, count int) {
	t.Helper()
	for i := range count {
		revoke(t, n, fmt.Sprintf("%s-%d", name, i))
	}
}

// sees waits until a linearizable read at a node holds a revocation; the first
// one that is answered must.
func sees(t testing.TB, n *testcluster.Node, target string) {
	t.Helper()
	for ctx := within(t, 20*time.Second); ; {
		v, err := n.View(ctx, state.Linearizable)
		if err == nil {
			if !revoked(v, target) {
				t.Errorf("I2: %s answers a linearizable read at index %d without %s", n.Name, v.Index(), target)
			}
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s answers no linearizable read: %v", n.Name, err)
		}
	}
}

type read struct {
	view *state.View
	err  error
}

// reading starts a linearizable read.
func reading(t testing.TB, n *testcluster.Node) <-chan read {
	t.Helper()
	got, node := make(chan read, 1), n.Running()
	ctx := within(t, 20*time.Second)
	go func() {
		v, err := node.View(ctx, state.Linearizable)
		got <- read{v, err}
	}()
	return got
}

// pending makes sure that a read is not answered for a while.
func pending(t testing.TB, got <-chan read, why string) {
	t.Helper()
	select {
	case r := <-got:
		t.Fatalf("a read was answered (error %v) although %s", r.err, why)
	case <-time.After(300 * time.Millisecond):
	}
}

// newLeader waits until one of nodes leads and has started its term.
func newLeader(t testing.TB, c *testcluster.Cluster, nodes ...*testcluster.Node) *testcluster.Node {
	t.Helper()
	var got *testcluster.Node
	c.Await("a new leader", func() bool {
		for _, n := range nodes {
			if n.Status().State == "leader" {
				got = n
				return true
			}
		}
		return false
	})
	return got
}

// gate lets a test hold what passes it.
type gate struct {
	shut chan chan struct{} // holds the channel to wait for; nil inside: open
}

func newGate() *gate {
	g := &gate{shut: make(chan chan struct{}, 1)}
	g.shut <- nil
	return g
}

func (g *gate) pass() {
	wait := <-g.shut
	g.shut <- wait
	if wait != nil {
		<-wait
	}
}

func (g *gate) close() {
	if was := <-g.shut; was != nil {
		close(was)
	}
	g.shut <- make(chan struct{})
}

func (g *gate) open() {
	if was := <-g.shut; was != nil {
		close(was)
	}
	g.shut <- nil
}

func ctxFor(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}
