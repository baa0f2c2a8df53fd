package testcluster_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/testcluster"
)

// TestAStopWaitsForNoEntryThatRaftForgot: at its shutdown raft drops the entries
// that wait for the FSM's goroutine and never answers them. The node ends all the
// same, and who proposed them is told.
func TestAStopWaitsForNoEntryThatRaftForgot(t *testing.T) {
	t.Parallel()
	for range 4 { // whether raft drops them is a throw of dice
		var held atomic.Bool
		gate, arrived := make(chan struct{}), make(chan struct{}, 64)
		c := testcluster.StartWith(t, 1, testcluster.Options{BeforeApply: func(string, uint64) {
			if held.Load() {
				arrived <- struct{}{}
				<-gate
			}
		}})
		n := c.Any()
		node := n.Running()
		held.Store(true)
		var callers sync.WaitGroup
		for range 4 { // one entry is being applied, the others wait
			callers.Go(func() { _, _ = node.Propose(t.Context(), revocation("forgotten")) })
			time.Sleep(20 * time.Millisecond) // an entry of its own for each
		}
		<-arrived
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			n.Kill()
		}()
		time.Sleep(50 * time.Millisecond) // raft has been told
		held.Store(false)
		close(gate)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Fatal("the node doesn't end")
		}
		callers.Wait()
	}
}
