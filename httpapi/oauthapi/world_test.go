package oauthapi_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/tokens"
)

// world is what the nodes of a test share, in the words of this room's tests.
type world struct {
	*testnode.Node
	ring   *seal.Keyring
	clock  *atomic.Int64 // milliseconds
	halted *atomic.Bool

	mu      sync.Mutex
	propose func(c command.Command) error // when set, may refuse a proposal

	published sync.Map // URL → []byte: what is there to be fetched

	ids   int
	nodes map[string]*tokens.Proofs // those that are up, by id

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

// nextID names a node that is made.
func (w *world) nextID() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ids++
	return fmt.Sprintf("n%d", w.ids)
}

// join makes a node reachable for the others; nil takes it away.
func (w *world) join(id string, p *tokens.Proofs) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nodes == nil {
		w.nodes = make(map[string]*tokens.Proofs)
	}
	w.nodes[id] = p
}

func (w *world) node(id string) *tokens.Proofs {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[id]
}

// lockedOut is the lockout of an account, as identity.Users.Locked has it.
func (w *world) lockedOut(v *state.View, tenant, user string) (bool, error) {
	a, err := v.Attempts(tenant, user, "")
	if absent(err) {
		return false, nil
	}
	return a.GetLockedUntil() > w.now().UnixMilli(), err
}
