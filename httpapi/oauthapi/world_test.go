package oauthapi_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/internal/testnode"
)

// world is what the nodes of a test share, in the words of this room's tests.
type world struct {
	*testnode.Node
	ring   *seal.Keyring
	clock  *atomic.Int64 // milliseconds
	halted *atomic.Bool

	mu      sync.Mutex
	propose func(c command.Command) error // when set, may refuse a proposal

	// lagging, when set, is what Local views are for good; Node.Lagging ends with the
	// first linearizable view.
	lagging atomic.Pointer[state.View]
	paused  atomic.Int64 // when set, that many Local views are proved fresh, then none
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := new(world)
	w.Node = testnode.New(t, testnode.Options{Before: w.before})
	w.ring, w.clock, w.halted = w.Ring, &w.Clock, &w.Halted
	return w
}

func (w *world) before(c command.Command) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.propose == nil {
		return nil
	}
	return w.propose(c)
}

func (w *world) View(ctx context.Context, f state.Freshness) (*state.View, error) {
	if f.IsLinearizable() {
		return w.Node.View(ctx, f)
	}
	if n := w.paused.Load(); n == 1 {
		return nil, errors.New("no proof of freshness")
	} else if n > 1 {
		w.paused.Add(-1)
	} else if v := w.lagging.Load(); v != nil {
		return v, nil
	}
	return w.Node.View(ctx, f)
}

func (w *world) now() time.Time       { return w.Now() }
func (w *world) pass(d time.Duration) { w.Pass(d) }
func (w *world) view() *state.View    { return w.FSM.View() }

func (w *world) must(t testing.TB, c command.Command) command.Result {
	t.Helper()
	return w.Must(t, c)
}
