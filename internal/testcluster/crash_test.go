package testcluster_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/testcluster"
)

// TestRevokeOnFollowerSurvivesLeader checks I1 and I2: a revocation that a
// follower acknowledged is seen by every linearizable read after the leader dies.
func TestRevokeOnFollowerSurvivesLeader(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 3)
	asked, other := c.Followers()[0], c.Followers()[1]
	revoke(t, asked, "c1")
	c.Leader().Kill() // no hand-over, no flush
	sees(t, other, "c1")
	c.EqualChecksums()
}

// short keeps almost no log behind a snapshot.
var short = testcluster.Options{Trailing: 1}

func snapshot(t *testing.T, n *testcluster.Node) {
	t.Helper()
	if err := n.Snapshot(); err != nil {
		t.Fatalf("snapshot at %s: %v", n.Name, err)
	}
}

// TestK8SnapshotThenCrash: what a snapshot let be cut from the log is durable in
// the state (R5).
func TestK8SnapshotThenCrash(t *testing.T) {
	t.Parallel()
	c := testcluster.StartWith(t, 1, short)
	n := c.Nodes()[0]
	fill(t, n, "before", 40)
	snapshot(t, n)
	fill(t, n, "after", 5)
	for range 2 { // crash, and crash again at once
		n.Kill()
		n.Restart()
	}
	n.AwaitReady()
	sees(t, n, "before-0")
	sees(t, n, "before-39")
	sees(t, n, "after-4")
}

// TestK7CrashBeforeTheSwap: the snapshot is there, the state that it should
// replace is not: the start restores from it, and no entry is missing (R4).
func TestK7CrashBeforeTheSwap(t *testing.T) {
	t.Parallel()
	c := testcluster.StartWith(t, 3, short)
	n := c.Followers()[0]
	fill(t, c.Leader(), "k7", 30)
	sees(t, n, "k7-29")
	snapshot(t, n)
	revoke(t, c.Leader(), "k7-later")
	n.Kill()
	if err := os.RemoveAll(filepath.Join(n.Dir, "state")); err != nil {
		t.Fatal(err)
	}
	n.Restart()
	n.AwaitReady()
	sees(t, n, "k7-0")
	sees(t, n, "k7-later")
	c.EqualChecksums()
}

// TestK9RestoreThatFailsBehindTheSwapEndsTheNode, and nothing is applied twice
// after the next start (R6, R7).
func TestK9RestoreThatFailsBehindTheSwapEndsTheNode(t *testing.T) {
	t.Parallel()
	c := testcluster.StartWith(t, 3, short)
	leader, n := c.Leader(), c.Followers()[0]
	n.Stop()
	fill(t, leader, "k9", 20)
	snapshot(t, leader)
	block := filepath.Join(n.Dir, "state", "CURRENT.tmp")
	if err := os.Mkdir(block, 0o700); err != nil {
		t.Fatal(err)
	}
	n.Restart()
	if err := n.AwaitFatal(20 * time.Second); !strings.Contains(err.Error(), "restore") {
		t.Errorf("the node ended with %v", err)
	}
	n.Kill()
	if err := os.Remove(block); err != nil {
		t.Fatal(err)
	}
	n.Restart()
	n.AwaitReady()
	sees(t, n, "k9-19")
	c.EqualChecksums()
}

// damage flips a byte in the newest snapshots of a node.
func damage(t *testing.T, n *testcluster.Node, count int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(n.Dir, "snapshots", "*", "state.bin"))
	if err != nil || len(files) < count {
		t.Fatalf("%d snapshots (%v), want %d", len(files), err, count)
	}
	for _, f := range files[len(files)-count:] { // names sort by term and index
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)/2] ^= 1
		if err := os.WriteFile(f, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestK10DamagedSnapshot: a node never starts on a hole.
func TestK10DamagedSnapshot(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		trailing  uint64
		damaged   int
		loseState bool
		starts    bool
	}{
		"the state is past it":                      {1, 1, false, true},
		"an older one and the log behind it":        {1000, 1, true, true},
		"an older one, but the log was cut":         {1, 1, true, false},
		"both, and the log was cut":                 {1, 2, true, false},
		"both, but the log is whole from its start": {1000, 2, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testcluster.StartWith(t, 1, testcluster.Options{Trailing: test.trailing})
			n := c.Nodes()[0]
			fill(t, n, "first", 12)
			snapshot(t, n)
			fill(t, n, "second", 12)
			snapshot(t, n)
			revoke(t, n, "last")
			n.Kill()
			damage(t, n, test.damaged)
			if test.loseState {
				if err := os.RemoveAll(filepath.Join(n.Dir, "state")); err != nil {
					t.Fatal(err)
				}
			}
			err := n.TryRestart()
			if !test.starts {
				if err == nil || !strings.Contains(err.Error(), "join again") {
					t.Fatalf("it should refuse to start and say what to do: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			n.AwaitReady()
			for _, target := range []string{"first-0", "second-0", "second-11", "last"} {
				sees(t, n, target)
			}
		})
	}
}

// TestAllNodesKilledAtOnce: the same state and checksum after it (P3, I1, I4).
func TestAllNodesKilledAtOnce(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 3)
	fill(t, c.Leader(), "all", 30)
	c.EqualChecksums()
	before, sum, err := c.Leader().FSM().Checksum()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	for _, n := range c.Nodes() {
		go func() { n.Kill(); done <- struct{}{} }()
	}
	for range c.Nodes() {
		<-done
	}
	for i := range c.Nodes() {
		c.Nodes()[2-i].Restart()
	}
	for _, n := range c.Nodes() {
		if _, err := n.View(t.Context(), state.Local); err == nil && n.Ready() != nil {
			t.Errorf("R13: %s serves before its first proof", n.Name)
		}
		n.AwaitReady()
		sees(t, n, "all-29")
	}
	c.EqualChecksums()
	if index, after, err := c.Leader().FSM().Checksum(); err != nil || index <= before || after == sum {
		t.Errorf("index %d → %d, error %v: a new term writes something", before, index, err)
	}
}

// TestT2OneTimeValueOnAllNodes: a value is consumed once, whichever nodes are
// asked, across a restart and an installed snapshot (I3).
func TestT2OneTimeValueOnAllNodes(t *testing.T) {
	t.Parallel()
	c := testcluster.StartWith(t, 3, short)
	use := func(n *testcluster.Node, id string) error {
		r, err := n.Propose(within(t, 20*time.Second), &command.Consume{Tenant: tenant, ValueKind: "jti", Id: id, ExpiresAt: time.Now().Unix() + 600})
		if err != nil {
			t.Fatalf("consume at %s: %v", n.Name, err)
		}
		return r.Err()
	}
	if err := use(c.Followers()[0], "t2"); err != nil {
		t.Fatal(err)
	}
	again := func(when string) {
		t.Helper()
		for _, n := range c.Live() {
			if err := use(n, "t2"); err != command.AlreadyUsed {
				t.Errorf("I3: used again at %s %s: %v", n.Name, when, err)
			}
		}
	}
	again("at once")
	away := c.Followers()[1]
	away.Stop()
	fill(t, c.Leader(), "t2", 10)
	snapshot(t, c.Leader())
	away.Restart()
	away.AwaitReady()
	again("after an installed snapshot")
	for _, n := range c.Nodes() {
		n.Kill()
	}
	for _, n := range c.Nodes() {
		n.Restart()
	}
	again("after a restart of all")
	c.EqualChecksums()
}
