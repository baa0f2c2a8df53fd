package testcluster_test

import (
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/testcluster"
)

// leaveTransferStuck puts the library into the state that a transfer may leave
// behind which ran into a step-down (hashicorp/raft #696): its flag "transfer in
// progress" is set, and nobody is left to take it back. The race itself can't be
// forced from outside.
func leaveTransferStuck(t *testing.T, n *testcluster.Node) {
	t.Helper()
	raft := reflect.ValueOf(n.Running()).Elem().FieldByName("raft").Elem()
	flag := raft.FieldByName("leaderState").FieldByName("leadershipTransferInProgress")
	if !flag.IsValid() || flag.Kind() != reflect.Int32 {
		t.Fatal("the library keeps its flag elsewhere: look at what it does now, and at R12")
	}
	atomic.StoreInt32((*int32)(flag.Addr().UnsafePointer()), 1)
}

// TestK15StuckTransfer: a leader to which the library refuses every write for ever
// ends, and another one takes over (R12): one that is elected with the flag still
// set from an earlier term, and one that meets it at its next transfer.
func TestK15StuckTransfer(t *testing.T) {
	t.Parallel()
	for name, arrange := range map[string]func(t *testing.T, c *testcluster.Cluster) (stuck *testcluster.Node){
		"elected with it": func(t *testing.T, c *testcluster.Cluster) *testcluster.Node {
			next := c.Followers()[0]
			leaveTransferStuck(t, next)
			if err := c.Leader().TransferLeader(within(t, 10*time.Second), next.Name); err != nil {
				t.Logf("hand over: %v", err)
			}
			return next
		},
		"met while leading": func(t *testing.T, c *testcluster.Cluster) *testcluster.Node {
			leader := c.Leader()
			leaveTransferStuck(t, leader)
			if err := leader.TransferLeader(within(t, 5*time.Second), ""); err == nil {
				t.Error("a transfer went through although the library refuses all")
			}
			return leader
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testcluster.Start(t, 3)
			revoke(t, c.Any(), "before")
			stuck := arrange(t, c)
			if err := stuck.AwaitFatal(10 * time.Second); !strings.Contains(err.Error(), "a leadership transfer never ended") {
				t.Errorf("it ended with %v", err)
			}
			stuck.Kill()
			revoke(t, c.Any(), "after")
			stuck.Restart()
			stuck.AwaitReady()
			sees(t, stuck, "after")
			c.EqualChecksums()
		})
	}
}
