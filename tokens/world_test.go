package tokens_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/internal/testnode"
)

// world is a node, in the words of this room's tests.
type world struct {
	*testnode.Node
	ring  *seal.Keyring
	clock *atomic.Int64 // milliseconds

	mu      sync.Mutex
	propose func(c command.Command) error // when set, may refuse a proposal
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := new(world)
	w.Node = testnode.New(t, testnode.Options{Before: w.before})
	w.ring, w.clock = w.Ring, &w.Clock
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

func (w *world) now() time.Time       { return w.Now() }
func (w *world) pass(d time.Duration) { w.Pass(d) }
func (w *world) view() *state.View    { return w.FSM.View() }

func (w *world) must(t testing.TB, c command.Command) command.Result {
	t.Helper()
	return w.Must(t, c)
}
