package logstore

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// lines is an FSM that keeps what was applied.
type lines struct {
	mu  sync.Mutex
	all [][]byte
}

func (f *lines) Apply(l *raft.Log) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, bytes.Clone(l.Data))
	return nil
}

func (f *lines) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.all)
}

func (f *lines) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return linesSnapshot(bytes.Join(f.all, []byte("\n"))), nil
}

func (f *lines) Restore(r io.ReadCloser) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = bytes.Split(b, []byte("\n"))
	return r.Close()
}

type linesSnapshot []byte

func (s linesSnapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		return err
	}
	return sink.Close()
}

func (linesSnapshot) Release() {}

type node struct {
	raft  *raft.Raft
	store *Store
	fault *faulty
	fsm   *lines
	fatal *fatals
	trans *raft.InmemTransport
}

// startCluster runs real raft over this package's stores.
func startCluster(t *testing.T, n int) []*node {
	t.Helper()
	var nodes []*node
	var members raft.Configuration
	for i := range n {
		addr, trans := raft.NewInmemTransport(raft.ServerAddress(fmt.Sprintf("node%d", i)))
		members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(addr), Address: addr})
		nodes = append(nodes, &node{trans: trans, fsm: new(lines), fatal: newFatals()})
	}
	for i, nd := range nodes {
		for _, other := range nodes {
			nd.trans.Connect(other.trans.LocalAddr(), other.trans)
		}
		dir := t.TempDir()
		o := Options{Fatal: nd.fatal.call, Stall: 2 * time.Second, CacheEntries: 8}
		nd.store, nd.fault = openFaulty(t, dir+"/log.db", o)
		snapshots, err := NewSnapshots(dir, 1, o)
		if err != nil {
			t.Fatal(err)
		}
		c := raft.DefaultConfig()
		c.LocalID, c.Logger = members.Servers[i].ID, hclog.NewNullLogger()
		c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout, c.CommitTimeout = time.Second, time.Second, time.Second, 5*time.Millisecond
		c.TrailingLogs = 10
		if err := raft.BootstrapCluster(c, nd.store.Log(), nd.store.Stable(), snapshots, nd.trans, members); err != nil {
			t.Fatal(err)
		}
		if nd.raft, err = raft.NewRaft(c, nd.fsm, nd.store.Log(), nd.store.Stable(), snapshots, nd.trans); err != nil {
			t.Fatal(err)
		}
		nd.store.halt = haltWait
		t.Cleanup(func() {
			ended := nd.raft.Shutdown()
			_ = nd.store.Close()
			_ = ended.Error()
		})
	}
	return nodes
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func leader(t *testing.T, nodes []*node) (lead *node) {
	t.Helper()
	until(t, "a leader", func() bool {
		for _, n := range nodes {
			if n.raft.State() == raft.Leader {
				lead = n
				return true
			}
		}
		return false
	})
	return lead
}

// TestRaftRunsOnIt: seals travel with the entries, followers accept them, and after
// compaction and a restore by the user each log is contiguous (R4, R9, R10).
func TestRaftRunsOnIt(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3)
	lead := leader(t, nodes)
	for i := range 60 {
		if err := lead.raft.Apply(fmt.Appendf(nil, "line %d", i), 5*time.Second).Error(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		until(t, "all lines everywhere", func() bool { return n.fsm.count() == 60 })
	}
	snap := lead.raft.Snapshot()
	if err := snap.Error(); err != nil {
		t.Fatal(err)
	}
	first, err := lead.store.Log().FirstIndex()
	if err != nil || first < 40 {
		t.Errorf("the log begins at %d after compaction, %v", first, err)
	}
	state := []byte("one\ntwo\nthree")
	meta := &raft.SnapshotMeta{Version: 1, Size: int64(len(state)), Index: 500, Term: 1}
	if err := lead.raft.Restore(meta, bytes.NewReader(state), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := lead.raft.Apply([]byte("four"), 5*time.Second).Error(); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		until(t, "the restored lines everywhere", func() bool { return n.fsm.count() == 4 })
		first, err1 := n.store.log.FirstIndex()
		last, err2 := n.store.log.LastIndex()
		if err1 != nil || err2 != nil || first <= 500 {
			t.Fatalf("after the restore the log is %d to %d, %v, %v", first, last, err1, err2)
		}
		assertLog(t, n.store.log, first, last)
		if n.store.Err() != nil {
			t.Errorf("a sound store was broken: %v", n.store.Err())
		}
	}
}

// TestK17ALeaderWithAHungLogIsReplaced: heartbeats go on, so only the latch ends
// its rule; the process that Fatal ends is played by cutting it off.
func TestK17ALeaderWithAHungLogIsReplaced(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3)
	lead := leader(t, nodes)
	if err := lead.raft.Apply([]byte("before"), 5*time.Second).Error(); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	lead.fault.set(func(string) error { <-release; return nil }, nil)
	hung := lead.raft.Apply([]byte("hung"), 5*time.Second)
	lead.fatal.wait(t)
	lead.trans.DisconnectAll()
	var rest []*node
	for _, n := range nodes {
		if n != lead {
			n.trans.Disconnect(lead.trans.LocalAddr())
			rest = append(rest, n)
		}
	}
	next := leader(t, rest)
	if err := next.raft.Apply([]byte("after"), 5*time.Second).Error(); err != nil {
		t.Errorf("write at the new leader: %v", err)
	}
	close(release)
	if err := hung.Error(); err == nil {
		t.Error("the leader acknowledged a write that it could not store in time")
	}
}

// TestK18ALeaderWithEIOIsNotElectedAgain: the first error breaks its store, so that
// it can't even store a vote for itself.
func TestK18ALeaderWithEIOIsNotElectedAgain(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3)
	lead := leader(t, nodes)
	lead.fault.set(func(op string) error {
		if op == "store" {
			return io.ErrUnexpectedEOF
		}
		return nil
	}, nil)
	if err := lead.raft.Apply([]byte("lost"), 5*time.Second).Error(); err == nil {
		t.Error("a write that could not be stored was acknowledged")
	}
	lead.fatal.wait(t)
	writes := lead.fault.writes.Load()
	var rest []*node
	for _, n := range nodes {
		if n != lead {
			rest = append(rest, n)
		}
	}
	next := leader(t, rest)
	if err := next.raft.Apply([]byte("after"), 5*time.Second).Error(); err != nil {
		t.Errorf("write at the new leader: %v", err)
	}
	if n := lead.fault.writes.Load(); n != writes {
		t.Errorf("%d writes reached the broken disk", n-writes)
	}
	if n := lead.fatal.calls.Load(); n != 1 {
		t.Errorf("Fatal was called %d times", n)
	}
}
