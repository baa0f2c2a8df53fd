package clients_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/internal/testnode"
)

// world is a node, in the words of this room's tests.
type world struct {
	*testnode.Node
	ring  *seal.Keyring
	looks *atomic.Int64 // linearizable views
}

func newWorld(t testing.TB) *world {
	t.Helper()
	n := testnode.New(t, testnode.Options{})
	return &world{Node: n, ring: n.Ring, looks: &n.Reads}
}

func (w *world) now() time.Time       { return w.Now() }
func (w *world) pass(d time.Duration) { w.Pass(d) }
func (w *world) view() *state.View    { return w.FSM.View() }
