package testcluster_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/testcluster"
)

func backup(t *testing.T, n *testcluster.Node) ([]byte, fsm.Header) {
	t.Helper()
	var out bytes.Buffer
	h, err := n.Backup(within(t, 10*time.Second), &out)
	if err != nil {
		t.Fatalf("backup at %s: %v", n.Name, err)
	}
	return out.Bytes(), h
}

// TestS6RestoreOfAnOlderBackup into the same cluster: a new epoch, a head above
// every known one, equal nodes, and no revocation is forgotten, not even one that
// was acknowledged while the restore ran (R15, I2, I4, I5).
func TestS6RestoreOfAnOlderBackup(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 3)
	leader, follower, away := c.Leader(), c.Followers()[0], c.Followers()[1]
	revoke(t, follower, "s6-before")
	old, h := backup(t, follower)
	if got, _, err := fsm.Inspect(bytes.NewReader(old)); err != nil || got != h {
		t.Fatalf("the backup says %+v, Backup said %+v: %v", got, h, err)
	}
	head := revoke(t, follower, "s6-after").Head
	away.Kill() // comes back later, with the old state

	var acked []string
	var wg sync.WaitGroup
	stop := make(chan struct{})
	node := leader.Running()
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			id := "s6-during-" + time.Duration(i).String()
			if r, err := node.Propose(context.Background(), revocation(id)); err == nil && r.Err() == nil {
				acked = append(acked, id)
			}
		}
	})
	ctx := within(t, 30*time.Second)
	got, err := follower.Restore(ctx, bytes.NewReader(old), false)
	for errors.Is(err, command.ErrUnavailable) && ctx.Err() == nil { // the load may move the lead
		got, err = follower.Restore(ctx, bytes.NewReader(old), false)
	}
	close(stop)
	wg.Wait()
	if err != nil {
		t.Fatalf("restore: %v", err)
	}
	if got.Epoch != h.Epoch+1 || got.Head <= head+fsm.HeadMargin/2 {
		t.Errorf("epoch %d after %d, head %d after %d", got.Epoch, h.Epoch, got.Head, head)
	}
	away.Restart()
	away.AwaitReady()
	for _, n := range c.Live() {
		for _, id := range append(acked, "s6-before", "s6-after") {
			sees(t, n, id)
		}
		if e := n.FSM().View().Epoch(); e != got.Epoch {
			t.Errorf("%s is at epoch %d, want %d", n.Name, e, got.Epoch)
		}
	}
	if next := revoke(t, away, "s6-later"); next.Seq <= got.Head || next.Epoch != got.Epoch {
		t.Errorf("I5: the next event is %d of epoch %d, the head was %d", next.Seq, next.Epoch, got.Head)
	}
	c.EqualChecksums()
	for _, n := range c.Nodes() {
		n.Kill()
	}
	for _, n := range c.Nodes() {
		n.Restart()
	}
	c.AwaitVoters(3)
	sees(t, c.Leader(), "s6-after")
	c.EqualChecksums()
}

// TestS10TwoRestoresAtOnce: one wins, or both one after the other; all nodes agree.
func TestS10TwoRestoresAtOnce(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 3)
	revoke(t, c.Any(), "s10")
	old, h := backup(t, c.Any())
	done := make(chan error, 2)
	for _, n := range c.Followers() {
		node := n.Running()
		go func() {
			_, err := node.Restore(within(t, 20*time.Second), bytes.NewReader(old), false)
			done <- err
		}()
	}
	good := 0
	for range cap(done) {
		if err := <-done; err == nil {
			good++
		} else {
			t.Logf("refused: %v", err)
		}
	}
	if good == 0 {
		t.Error("neither restore was done")
	}
	sees(t, c.Leader(), "s10")
	c.EqualChecksums()
	if got := c.Leader().FSM().View().Epoch(); got != h.Epoch+uint64(good) {
		t.Errorf("epoch %d after %d restores from %d", got, good, h.Epoch)
	}
}

// TestRestoreRefusesDamage and changes nothing then.
func TestRestoreRefusesDamage(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 1)
	n := c.Nodes()[0]
	revoke(t, n, "kept")
	good, h := backup(t, n)
	for _, bad := range [][]byte{nil, good[:len(good)-1], good[:len(good)/2], append(bytes.Clone(good), 1), flipped(good)} {
		if _, err := n.Restore(within(t, 10*time.Second), bytes.NewReader(bad), false); err == nil {
			t.Errorf("a stream of %d bytes was restored", len(bad))
		}
	}
	sees(t, n, "kept")
	if e := n.FSM().View().Epoch(); e != h.Epoch {
		t.Errorf("epoch %d, want %d", e, h.Epoch)
	}
}

func flipped(b []byte) []byte {
	out := bytes.Clone(b)
	out[len(out)/2] ^= 1
	return out
}

// TestBackupBesideWrites: header and rows are of one moment.
func TestBackupBesideWrites(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 1)
	n := c.Nodes()[0]
	stop := load(t, c)
	for range 20 {
		b, _ := backup(t, n)
		if _, err := n.Restore(within(t, 10*time.Second), bytes.NewReader(b), false); err != nil {
			t.Fatalf("a backup that was taken under load: %v", err) // Restore compares header and rows
		}
	}
	stop()
}

// TestShorterSnapshotThanTheLog: a deposed leader whose log is longer than the
// snapshot that it is sent. raft alone would be sent it for ever; here the node
// ends and goes on after its next start.
func TestShorterSnapshotThanTheLog(t *testing.T) {
	t.Parallel()
	c := testcluster.StartWith(t, 3, short)
	old, others := c.Leader(), c.Followers()
	fill(t, old, "common", 5)
	for _, o := range others {
		c.Net.CutBoth(old.Name, o.Name)
	}
	node := old.Running()
	for range 4 { // entries that nobody else ever gets
		go func() { _, _ = node.Propose(context.Background(), revocation("orphan")) }()
		last := old.Status().LastIndex
		for until := time.Now().Add(50 * time.Millisecond); old.Status().LastIndex == last && time.Now().Before(until); {
			time.Sleep(time.Millisecond)
		}
	}
	leader := newLeader(t, c, others...)
	c.Await("the new term to start", func() bool { _, err := leader.View(within(t, time.Second), state.Linearizable); return err == nil })
	orphans, at := old.Status().LastIndex, leader.Status().LastIndex
	if orphans <= at {
		t.Fatalf("the old leader's log ends at %d, the new one's at %d already", orphans, at)
	}
	snapshot(t, leader)
	c.Net.Heal()
	if err := old.AwaitFatal(20 * time.Second); err == nil {
		t.Fatal("no reason")
	} else {
		t.Log(err)
	}
	old.Kill()
	old.Restart()
	old.AwaitReady()
	revoke(t, old, "again")
	c.EqualChecksums()
}

// TestK11RestoreThatLostItsMajority: the leader is cut off in the middle of a
// restore. Its caller doesn't hear "done", the others go on with the old state,
// and the cut-off node stops with a clear sentence instead of serving a history
// that nobody shares.
func TestK11RestoreThatLostItsMajority(t *testing.T) {
	t.Parallel()
	var c *testcluster.Cluster
	var armed atomic.Bool
	// A long lease: on a busy machine the leader had stepped down before it came from
	// ReportedHead to raft, and then there was nothing to halt for.
	c = testcluster.StartWith(t, 3, testcluster.Options{Heartbeat: 2 * time.Second, ReportedHead: func(node string) uint64 {
		if armed.CompareAndSwap(true, false) {
			c.Net.Isolate(node)
		}
		return 0
	}})
	revoke(t, c.Any(), "k11")
	old, h := backup(t, c.Any())
	lead := c.Leader()
	armed.Store(true)
	if got, err := lead.Restore(within(t, 20*time.Second), bytes.NewReader(old), false); err == nil {
		t.Errorf("a restore without a majority was reported as done: %+v", got)
	}
	if armed.Load() {
		t.Fatal("the leader was never cut off")
	}
	var rest []*testcluster.Node
	for _, n := range c.Nodes() {
		if n != lead {
			rest = append(rest, n)
		}
	}
	next := revoke(t, rest[0], "k11-after")
	c.Net.Heal()
	err := lead.AwaitFatal(30 * time.Second)
	if !strings.Contains(err.Error(), "join again") {
		t.Errorf("what stops it doesn't say what to do: %v", err)
	}
	lead.Kill()
	if next.Epoch != h.Epoch || rest[1].FSM().View().Epoch() != h.Epoch {
		t.Errorf("the others are at epoch %d, the backup was of %d", next.Epoch, h.Epoch)
	}
	c.EqualChecksums()
}
