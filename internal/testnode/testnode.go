// Package testnode is what one node has below its API, inside a test: a real state
// machine on real Pebble, a keyring, the cluster's keys, a bootstrap, a clock, and
// the real HTTP server on a listener in memory. There is no cluster: what is proposed
// is applied here at once, one entry a command. Whole clusters are internal/testcluster.
//
// It links the storage engine and the server, so no test of the gateway SDK (gateway
// and below) may import it.
//
// A Node is safe for concurrent use. Instants are milliseconds since 1970 UTC.
package testnode

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/tokens"
)

const (
	// Issuer is that of the cluster, and of its only tenant, "default".
	Issuer = "https://sts.example"
	// AdminToken is the operators' token that the bootstrap makes.
	AdminToken = "the-operators-own-token-0123456789"
)

// Options change what New makes. The zero value is a node whose clock stands still.
type Options struct {
	// Now is the node's clock; nil is Node.Clock, which only Pass moves.
	Now func() time.Time
	// Before is asked before each proposal, whatever it refuses is not applied. No
	// lock is held: it may propose itself.
	Before func(command.Command) error
	// Observe is told of each view in order, as fsm.Config says.
	Observe func(*state.View)
}

// Node is the one node "n1" of a cluster "test".
type Node struct {
	Ring   *seal.Keyring
	FSM    *fsm.FSM
	Clock  atomic.Int64 // unless Options.Now is given
	Halted atomic.Bool  // the state machine gave up; the test has failed by then

	Reads    atomic.Int64               // linearizable views that were asked for
	Lagging  atomic.Pointer[state.View] // when set, what this node has applied; a linearizable view catches up
	NoLeader atomic.Bool                // linearizable views find none
	Unproven atomic.Bool                // no proof of freshness since the start

	opts Options
	hash seal.Key   // the cluster's first key for what it stores of credentials
	mu   sync.Mutex // one entry after another
}

// New opens a node in a folder of t's and bootstraps its cluster. The node is closed
// at the end of t; that it halts fails t.
func New(t testing.TB, opts Options) *Node {
	t.Helper()
	ring, err := seal.NewKeyring(seal.Generate())
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{Ring: ring, opts: opts}
	n.Clock.Store(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC).UnixMilli())
	n.FSM, err = fsm.Open(fsm.Config{
		Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Observe: opts.Observe,
		Halt: func(err error) { n.Halted.Store(true); t.Errorf("the state machine halted: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.FSM.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	n.bootstrap(t)
	return n
}

func (n *Node) bootstrap(t testing.TB) {
	t.Helper()
	var keys []*state.ClusterKey
	for _, name := range tokens.SharedKeys() {
		k, err := tokens.NewClusterKey(n.Ring, name, 1, n.Now())
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	plain, err := n.Ring.Open(tokens.SealLabel(tokens.KeyHash, 1), keys[0].GetSealed())
	if err != nil {
		t.Fatal(err)
	}
	n.hash = seal.Key(plain)
	n.Must(t, &command.Bootstrap{
		Cluster: &state.Cluster{Id: "test", Issuer: Issuer, SealCheck: n.Ring.CheckValue()},
		Tenant:  &state.Tenant{Id: "default", DisplayName: "Default", CreatedAt: n.Now().UnixMilli()},
		Keys:    keys, AdminToken: n.Hash(AdminToken),
		Node: &state.Node{Id: "n1", ApiAddr: "127.0.0.1:9763", GatewayGossipAddr: "127.0.0.1:9767"},
	})
}

// Hash is what the state keeps of a credential or an admin token.
func (n *Node) Hash(credential string) []byte {
	h := seal.Hash(&n.hash, []byte(credential))
	return h[:]
}

// Now is the node's clock.
func (n *Node) Now() time.Time {
	if n.opts.Now != nil {
		return n.opts.Now()
	}
	return time.UnixMilli(n.Clock.Load())
}

// Pass moves Clock, back too. The cluster's time follows with the next entry.
func (n *Node) Pass(d time.Duration) { n.Clock.Add(d.Milliseconds()) }

// Propose applies one command under the key that ctx carries, or under a new one. A
// refusal is in the result, as a cluster's is; errors are those of Options.Before.
func (n *Node) Propose(ctx context.Context, c command.Command) (command.Result, error) {
	if n.opts.Before != nil {
		if err := n.opts.Before(c); err != nil {
			return command.Result{}, err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	key, body, named := command.KeyFrom(ctx)
	if !named {
		k := seal.Generate()
		copy(key[:], k[:])
	}
	envelope, err := command.Encode(c, key, body, named || command.Remembered(c.Kind()))
	if err != nil {
		return command.Result{}, err
	}
	v := n.FSM.View()
	// Elapsed lets the cluster's clock follow whatever the test's clock does.
	entry := command.AppendHeader(nil, command.Header{Stamp: n.Now().UnixMilli(), Elapsed: 1 << 39, Epoch: v.Epoch()}, 1)
	results := n.FSM.Apply(v.Index()+1, 1, append(entry, envelope...))
	if len(results) != 1 {
		return command.Result{}, errors.New("the state machine has halted: see why above")
	}
	return results[0], nil
}

// Must proposes c and fails t unless it is accepted.
func (n *Node) Must(t testing.TB, c command.Command) command.Result {
	t.Helper()
	r, err := n.Propose(context.Background(), c)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		t.Fatalf("%T: %v", c, err)
	}
	return r
}

// View is what a reader gets who asks for f, after Lagging, NoLeader and Unproven.
// It never waits. Without a leader the error is command.ErrUnavailable.
func (n *Node) View(_ context.Context, f state.Freshness) (*state.View, error) {
	if f.IsLinearizable() {
		n.Reads.Add(1)
		if n.NoLeader.Load() {
			return nil, command.ErrUnavailable
		}
		n.Lagging.Store(nil) // it waits until this node has applied the index
		return n.FSM.View(), nil
	}
	if !f.IsStale() && n.Unproven.Load() {
		return nil, errors.New("it has not heard from a leader since it started")
	}
	if v := n.Lagging.Load(); v != nil {
		return v, nil
	}
	return n.FSM.View(), nil
}
