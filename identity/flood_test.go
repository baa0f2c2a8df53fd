package identity_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
)

// TestTOK12AFloodOfPasswordsTakesBoundedMemory: of two thousand wrong passwords at once as
// many are hashed as the pool has slots and places to wait; the others are told to come
// again, at the price of nothing.
//
// It is not parallel: others' hashes would count.
func TestTOK12AFloodOfPasswordsTakesBoundedMemory(t *testing.T) { //nolint:paralleltest // see above
	const flood, pool = 2000, 2 + 16 // newWorld's slots and queue
	w := newWorld(t)
	w.make("alice")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var refused, busy atomic.Int64
	gate := make(chan struct{})
	var all sync.WaitGroup
	for i := range flood {
		all.Go(func() {
			<-gate
			_, err := w.users.Check(t.Context(), w.FSM.View(), "default", fmt.Sprintf("nobody%d", i), "wrong", "")
			switch {
			case errors.Is(err, seal.ErrBusy):
				busy.Add(1)
			case errors.Is(err, oauth.InvalidGrant):
				refused.Add(1)
			default:
				t.Errorf("%v", err)
			}
		})
	}
	close(gate)
	all.Wait()
	runtime.ReadMemStats(&after)
	if refused.Load() == 0 || busy.Load() == 0 {
		t.Errorf("%d hashed, %d told to come again", refused.Load(), busy.Load())
	}
	// Each hash takes 19 MiB; the rest costs little.
	if grown, most := after.TotalAlloc-before.TotalAlloc, uint64(refused.Load()+10)*(20<<20); grown > most {
		t.Errorf("%d MiB were allocated for %d hashes", grown>>20, refused.Load())
	}
	if refused.Load() > flood/2 {
		t.Errorf("%d of %d were hashed by a pool of %d", refused.Load(), flood, pool)
	}
	if _, err := w.users.Check(t.Context(), w.FSM.View(), "default", "alice", phrase, ""); err != nil {
		t.Errorf("after the flood its owner: %v", err)
	}
}
