package testcluster_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/cluster/member"
	"github.com/keyraft/keyraft/internal/testcluster"
)

// TestM1NoVoterIsMadeBesideOneThatLags: a voter that hears of a new one too late
// refuses it its vote, and the loss of the leader right behind the change would
// leave a majority that elects nobody. So none is made while a voter in reach does
// not follow; afterwards it is, and the rest elects without the leader.
func TestM1NoVoterIsMadeBesideOneThatLags(t *testing.T) {
	t.Parallel()
	var armed atomic.Bool
	hangs, release := make(chan struct{}), make(chan struct{})
	c := testcluster.StartWith(t, 2, testcluster.Options{NonVoters: 1, Heartbeat: 4 * time.Second, LogFault: func(node, op string) error {
		if node == "n2" && op == "store_logs" && armed.CompareAndSwap(true, false) {
			close(hangs)
			<-release // its disk
		}
		return nil
	}})
	old := c.Nodes()[0]
	if c.Leader() != old {
		if err := c.Leader().TransferLeader(within(t, 10*time.Second), old.Name); err != nil {
			t.Fatal(err)
		}
		c.Await("n1 to lead", func() bool { return old.Status().State == "leader" })
	}
	armed.Store(true)
	node := old.Running()
	go func() { _, _ = node.Propose(context.Background(), revocation("it hangs on this")) }()
	<-hangs
	err := old.Promote(within(t, 5*time.Second), "x1")
	close(release)
	var refused *member.RefusedError
	if !errors.As(err, &refused) || refused.Status != http.StatusConflict || refused.Code != "behind" {
		t.Errorf("a voter beside one that hangs: %v", err)
	}
	c.Await("the promotion", func() bool { return old.Promote(within(t, 10*time.Second), "x1") == nil })
	c.AwaitVoters(3)
	for _, n := range c.Nodes()[1:] {
		c.Net.CutBoth(old.Name, n.Name)
	}
	revoke(t, newLeader(t, c, c.Nodes()[1:]...), "elected")
	c.Net.Heal()
	c.EqualChecksums()
}
