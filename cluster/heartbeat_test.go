package cluster_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/keyraft/keyraft/cluster/transport"
)

// layer is plain TCP: the fast path that R1 closes is in raft's own transport.
type layer struct{ net.Listener }

func (layer) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(addr), timeout)
}

type nothing struct{}

func (nothing) Apply(*raft.Log) any                 { return nil }
func (nothing) Snapshot() (raft.FSMSnapshot, error) { return nil, io.EOF }
func (nothing) Restore(r io.ReadCloser) error       { return r.Close() }

func open(t *testing.T) *transport.RaftTransport {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	trans, err := transport.NewRaft(layer{l}, transport.RaftConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return trans
}

// TestK1DeposedLeaderNeverStoresUnderTheNextTerm: a heartbeat of term T+1 reaches
// a leader of term T while a client's write is under way. The write may be lost;
// it is never in the log under the new leader's term, where another entry may
// stand elsewhere (R1; hashicorp/raft #695).
func TestK1DeposedLeaderNeverStoresUnderTheNextTerm(t *testing.T) {
	t.Parallel()
	rounds := 10
	if n, err := strconv.Atoi(os.Getenv("KEYRAFT_SEEDS")); err == nil && n > rounds {
		rounds = n
	}
	for round := range rounds {
		deposeBesideWrite(t, round)
	}
}

func deposeBesideWrite(t *testing.T, round int) {
	t.Helper()
	config := raft.DefaultConfig()
	config.LocalID = "a"
	config.Logger = hclog.NewNullLogger()
	config.HeartbeatTimeout, config.ElectionTimeout, config.LeaderLeaseTimeout = 100*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond
	store, snaps, trans, other := raft.NewInmemStore(), raft.NewInmemSnapshotStore(), open(t), open(t)
	defer func() { _ = other.Close() }()
	err := raft.BootstrapCluster(config, store, store, snaps, trans, raft.Configuration{Servers: []raft.Server{{ID: "a", Address: trans.LocalAddr()}}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := raft.NewRaft(config, nothing{}, store, store, snaps, trans)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Shutdown().Error() }()
	for until := time.Now().Add(10 * time.Second); a.State() != raft.Leader || a.Barrier(0).Error() != nil; {
		if time.Now().After(until) {
			t.Fatal("no leader")
		}
		time.Sleep(time.Millisecond)
	}
	term := a.CurrentTerm()
	before := a.LastIndex()
	heartbeat := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("b"), Addr: []byte(other.LocalAddr())},
		Term:      term + 1, Leader: []byte(other.LocalAddr()),
	}
	if err := other.AppendEntries("a", trans.LocalAddr(), heartbeat, &raft.AppendEntriesResponse{}); err != nil {
		t.Fatal(err)
	}
	_ = a.Apply([]byte(fmt.Sprint(round)), 50*time.Millisecond).Error() // lost or refused
	last, err := store.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	for i := before + 1; i <= last; i++ {
		var l raft.Log
		if err := store.GetLog(i, &l); err == nil && l.Type == raft.LogCommand && l.Term > term && a.State() != raft.Leader {
			t.Errorf("round %d: the leader of term %d stored a write under term %d", round, term, l.Term)
		}
	}
}
