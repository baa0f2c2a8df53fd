package testcluster_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyraft/keyraft/cluster"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/internal/testcluster"
	"github.com/keyraft/keyraft/storage"
)

// TestK14CommittedButLeadershipLost: a redemption that the old leader could not
// confirm is tried again under its key at the new one, and succeeds once.
func TestK14CommittedButLeadershipLost(t *testing.T) {
	t.Parallel()
	c := testcluster.StartWith(t, 3, testcluster.Options{Write: 15 * time.Second})
	old, others := c.Leader(), c.Followers()
	before := others[0].Status().LastIndex
	code := &command.Consume{Tenant: tenant, ValueKind: "code", Id: "k14", ExpiresAt: time.Now().Unix() + 600}
	for _, o := range others {
		c.Net.HoldAnswers(old.Name, o.Name) // they store it; the leader never learns
	}
	type answer struct {
		r   command.Result
		err error
	}
	got, node := make(chan answer, 1), old.Running()
	go func() {
		r, err := node.Propose(context.Background(), code)
		got <- answer{r, err}
	}()
	c.Await("the followers to store it", func() bool { return others[0].Status().LastIndex > before })
	leader := newLeader(t, c, others...)
	c.Await("the new leader to apply it", func() bool { return leader.FSM().View().Index() > before })
	c.Net.Heal()
	if a := <-got; a.err != nil || a.r.Err() != nil {
		t.Errorf("I3: the redemption that was committed: %v %v", a.err, a.r.Err())
	}
	for _, n := range c.Live() {
		r, err := n.Propose(within(t, 10*time.Second), code)
		if err != nil || r.Reject != command.AlreadyUsed {
			t.Errorf("I3: another redemption at %s: %v %v", n.Name, err, r.Reject)
		}
	}
	c.EqualChecksums()
}

// faults are what the log stores of one cluster's nodes do.
type faults struct {
	mu   sync.Mutex
	node string
	do   func(op string) error
}

func (f *faults) set(node string, do func(op string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.node, f.do = node, do
}

func (f *faults) at(node, op string) error {
	f.mu.Lock()
	do := f.do
	if node != f.node {
		do = nil
	}
	f.mu.Unlock()
	if do == nil {
		return nil
	}
	return do(op)
}

// background keeps proposing at a node until the node's end, so that its log is written.
func background(n *testcluster.Node) {
	node := n.Running()
	go func() { _, _ = node.Propose(context.Background(), revocation("background")) }()
}

// TestK17HungLogStore: a leader whose disk hangs ends, though its heartbeats go
// on, and another leads (R8).
func TestK17HungLogStore(t *testing.T) {
	t.Parallel()
	var disk faults
	c := testcluster.StartWith(t, 3, testcluster.Options{LogFault: disk.at, Storage: storage.Options{Stall: 1200 * time.Millisecond}})
	old, others := c.Leader(), c.Followers()
	hang := make(chan struct{})
	disk.set(old.Name, func(op string) error {
		if op == "store_logs" {
			<-hang
		}
		return nil
	})
	background(old)
	err := old.AwaitFatal(10 * time.Second)
	if !errors.Is(err, storage.ErrBroken) || !strings.Contains(err.Error(), "has not returned") {
		t.Errorf("it ended with %v", err)
	}
	close(hang)
	disk.set("", nil)
	old.Kill()
	revoke(t, newLeader(t, c, others...), "k17")
	old.Restart()
	old.AwaitReady()
	sees(t, old, "k17")
	c.EqualChecksums()
}

// TestK18LogStoreError: the first error ends the leader; it does not win the next
// election with the same disk (R8).
func TestK18LogStoreError(t *testing.T) {
	t.Parallel()
	var disk faults
	c := testcluster.StartWith(t, 3, testcluster.Options{LogFault: disk.at})
	old, others := c.Leader(), c.Followers()
	disk.set(old.Name, func(string) error { return syscall.EIO })
	background(old)
	if err := old.AwaitFatal(5 * time.Second); !errors.Is(err, syscall.EIO) {
		t.Errorf("it ended with %v", err)
	}
	disk.set("", nil)
	old.Kill()
	revoke(t, newLeader(t, c, others...), "k18")
	old.Restart()
	old.AwaitReady()
	sees(t, old, "k18")
	c.EqualChecksums()
}

// TestK15TransferBesideStepDown: a transfer that runs into the loss of the quorum
// leaves no node that leads and refuses every write (R12).
func TestK15TransferBesideStepDown(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 3)
	for range seeds(3) {
		old, others := c.Leader(), c.Followers()
		done := make(chan struct{})
		node := old.Running()
		go func() {
			defer close(done)
			_ = node.TransferLeader(context.Background(), others[0].Name) // either way
		}()
		c.Net.Isolate(old.Name)
		newLeader(t, c, others...)
		c.Net.Heal()
		<-done
		c.Await("the old leader to follow", func() bool { return old.Status().LeaderID != "" })
		if err := c.Any().TransferLeader(within(t, 10*time.Second), old.Name); err != nil {
			t.Logf("back to %s: %v", old.Name, err)
		}
		began := time.Now()
		revoke(t, c.Any(), "k15")
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the first write after the transfers took %s", took)
		}
	}
	c.EqualChecksums()
}

// TestHandOverToTheLeaderIsDone: asked again, as after an answer that was lost, it
// is no error and moves nothing.
func TestHandOverToTheLeaderIsDone(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 3)
	to := c.Followers()[0]
	for range 2 {
		if err := c.Any().TransferLeader(within(t, 10*time.Second), to.Name); err != nil {
			t.Errorf("hand over to %s: %v", to.Name, err)
		}
		c.Await("it to lead", func() bool { return to.Status().State == "leader" })
	}
	c.EqualChecksums()
}

// TestK21FlappingLeadership: leader work that takes its time blocks nothing.
func TestK21FlappingLeadership(t *testing.T) {
	t.Parallel()
	c := testcluster.StartWith(t, 3, testcluster.Options{Jobs: []cluster.Job{{
		Name: "slow", Every: time.Hour, Run: func(ctx context.Context) error { <-ctx.Done(); return nil },
	}}})
	for i := range 20 {
		if err := c.Leader().TransferLeader(within(t, 10*time.Second), ""); err != nil {
			t.Logf("transfer %d: %v", i, err)
		}
	}
	ctx := within(t, 5*time.Second)
	if r, err := c.Followers()[0].Propose(ctx, revocation("k21")); err != nil || r.Err() != nil {
		t.Errorf("a write after all that: %v %v", err, r.Err())
	}
	c.EqualChecksums()
}

// TestK22SnapshotOfAnIdleCluster: a configuration is the last entry.
func TestK22SnapshotOfAnIdleCluster(t *testing.T) {
	t.Parallel()
	c := testcluster.StartWith(t, 1, testcluster.Options{NonVoters: 1})
	x := c.Nodes()[1]
	if err := c.Leader().Remove(within(t, 10*time.Second), x.Name, false); err != nil {
		t.Fatal(err)
	}
	x.Kill()
	snapshot(t, c.Leader())
}

// TestDrainHandsOver: a leader that is stopped ends quickly, and no write fails.
func TestDrainHandsOver(t *testing.T) {
	t.Parallel()
	c := testcluster.StartWith(t, 3, testcluster.Options{Heartbeat: 3 * time.Second}) // an election takes longer than this test allows
	old, other := c.Leader(), c.Followers()[0]
	stop, done := make(chan struct{}), make(chan error, 1)
	node := other.Running()
	go func() {
		var err error
		for i := 0; err == nil; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
				_, err = node.Propose(context.Background(), revocation("drain"))
			}
		}
		done <- err
	}()
	began := time.Now()
	old.Stop()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("draining the leader took %s", took)
	}
	began = time.Now()
	revoke(t, other, "drained")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the first write after the drain took %s", took)
	}
	close(stop)
	if err := <-done; err != nil {
		t.Errorf("a write at another node during the drain: %v", err)
	}
	old.Restart()
	old.AwaitReady()
	sees(t, old, "drained")
	c.EqualChecksums()
}
