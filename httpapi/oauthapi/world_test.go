package oauthapi_test

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

// world is the state that a node has: a real state machine on a real store, with a
// clock of the test's. Propose applies one entry a command.
type world struct {
	ring  *seal.Keyring
	fsm   *fsm.FSM
	mu    sync.Mutex
	index uint64
	clock atomic.Int64 // milliseconds

	// lagging, when set, is what Local views are: this node has not applied more.
	lagging atomic.Pointer[state.View]
	looks   atomic.Int64 // linearizable views
	halted  atomic.Bool
	propose func(c command.Command) error // when set, may refuse a proposal
	paused  atomic.Int64                  // when set, that many Local views are proved fresh, then none
}

func newWorld(t testing.TB) *world {
	t.Helper()
	ring, err := seal.NewKeyring(seal.Generate())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{ring: ring}
	w.clock.Store(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC).UnixMilli())
	w.fsm, err = fsm.Open(fsm.Config{
		Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler),
		Halt: func(err error) { w.halted.Store(true); t.Errorf("the state machine halted: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.fsm.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	var keys []*state.ClusterKey
	for _, name := range []string{tokens.KeyHash, tokens.KeyTag} {
		k, err := tokens.NewClusterKey(ring, name, 1, w.now())
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	w.must(t, &command.Bootstrap{
		Cluster: &state.Cluster{Id: "test", Issuer: "https://sts.example", SealCheck: ring.CheckValue()},
		Tenant:  &state.Tenant{Id: "default"}, Keys: keys,
		Node: &state.Node{Id: "n1"}, AdminToken: make([]byte, 32),
	})
	return w
}

func (w *world) now() time.Time { return time.UnixMilli(w.clock.Load()) }

func (w *world) pass(d time.Duration) { w.clock.Add(d.Milliseconds()) }

func (w *world) Propose(ctx context.Context, c command.Command) (command.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.propose != nil {
		if err := w.propose(c); err != nil {
			return command.Result{}, err
		}
	}
	key, body, named := command.KeyFrom(ctx)
	if !named {
		k := seal.Generate()
		copy(key[:], k[:])
	}
	envelope, err := command.Encode(c, key, body, named && command.Remembered(c.Kind()))
	if err != nil {
		return command.Result{}, err
	}
	// Elapsed lets the cluster clock follow whatever the test's clock does.
	entry := command.AppendHeader(nil, command.Header{Stamp: w.clock.Load(), Elapsed: 1 << 39, Epoch: w.fsm.View().Epoch()}, 1)
	w.index++
	return w.fsm.Apply(w.index, 1, append(entry, envelope...))[0], nil
}

func (w *world) View(_ context.Context, f state.Freshness) (*state.View, error) {
	if f.IsLinearizable() {
		w.looks.Add(1)
	} else if n := w.paused.Load(); n == 1 {
		return nil, errors.New("no proof of freshness")
	} else if n > 1 {
		w.paused.Add(-1)
	} else if v := w.lagging.Load(); v != nil {
		return v, nil
	}
	return w.fsm.View(), nil
}

func (w *world) view() *state.View { return w.fsm.View() }

func (w *world) must(t testing.TB, c command.Command) command.Result {
	t.Helper()
	r, err := w.Propose(context.Background(), c)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		t.Fatalf("%T: %v", c, err)
	}
	return r
}
