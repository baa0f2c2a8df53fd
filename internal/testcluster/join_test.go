package testcluster_test

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/keyraft/keyraft/cluster/ca"
	"github.com/keyraft/keyraft/cluster/logstore"
	"github.com/keyraft/keyraft/internal/testcluster"
)

// TestM1NonVoterFirst: a node that joins to vote stands in the configuration as a
// non-voter first, so that it can't take the majority away before it has caught
// up, and votes only after it has stayed well for a while. The log tells.
func TestM1NonVoterFirst(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 3)
	n1 := c.Nodes()[0]
	for _, n := range c.Nodes() {
		n.Stop()
	}
	s, err := logstore.Open(filepath.Join(n1.Dir, "raft.db"), logstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	last, err := s.Log().LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	entered := map[raft.ServerID]time.Time{}
	votes := map[raft.ServerID]bool{"n1": true}
	for i := uint64(1); i <= last; i++ {
		var l raft.Log
		if err := s.Log().GetLog(i, &l); err != nil {
			t.Fatal(err)
		}
		if l.Type != raft.LogConfiguration {
			continue
		}
		var changed []raft.ServerID
		for _, server := range raft.DecodeConfiguration(l.Data).Servers {
			switch at, known := entered[server.ID]; {
			case votes[server.ID]:
			case server.Suffrage != raft.Voter && !known:
				entered[server.ID] = l.AppendedAt
				changed = append(changed, server.ID)
			case server.Suffrage != raft.Voter:
			case !known:
				t.Errorf("%s votes at once", server.ID)
				fallthrough
			default:
				if after := l.AppendedAt.Sub(at); after < 300*time.Millisecond {
					t.Errorf("%s votes %s after it has come", server.ID, after)
				}
				votes[server.ID] = true
				changed = append(changed, server.ID)
			}
		}
		if len(changed) > 1 {
			t.Errorf("entry %d changes %v at once", i, changed)
		}
	}
	if len(votes) != 3 {
		t.Errorf("the log holds no way in for %v", votes)
	}
}

// lossy hands connections on to a member; cut breaks those that are open.
type lossy struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
	count atomic.Int32
}

func (l *lossy) run(to string) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", to)
		if err != nil {
			_ = in.Close()
			continue
		}
		l.count.Add(1)
		l.mu.Lock()
		l.conns = append(l.conns, in, out)
		l.mu.Unlock()
		go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
		go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
	}
}

func (l *lossy) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns = nil
}

// TestM3LostAnswerIsAskedForAgain: the cluster lets a node in, and the answer never
// reaches it. The joiner asks again with the same key pair, and gets in by the same
// token.
func TestM3LostAnswerIsAskedForAgain(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	way := &lossy{Listener: listener}
	t.Cleanup(func() { _ = way.Close(); way.cut() })
	var armed atomic.Bool
	c := testcluster.StartWith(t, 1, testcluster.Options{BeforeApply: func(string, uint64) {
		if armed.Load() && way.count.Load() == 1 { // the entry that lets it in
			way.cut()
		}
	}})
	go way.run(c.Any().ClusterAddr())
	token, err := ca.ParseJoinToken(c.Any().JoinTokenText(false))
	if err != nil {
		t.Fatal(err)
	}
	token.Addr = listener.Addr().String()
	armed.Store(true)
	if _, err := c.TryJoin("lost", token.Encode(), nil); err != nil {
		t.Fatalf("the join whose first answer was lost: %v", err)
	}
	if way.count.Load() < 2 {
		t.Error("no answer was lost")
	}
	c.AwaitVoters(2)
	c.EqualChecksums()
}

// TestM3HalfJoinedIDIsFreed: a node that was let in and lost its key before it came
// holds its id for a moment, in which it may yet come, and no longer.
func TestM3HalfJoinedIDIsFreed(t *testing.T) {
	t.Parallel()
	var ahead clock
	c := testcluster.StartWith(t, 1, testcluster.Options{Now: func(string) time.Time { return ahead.now() }})
	join := func() string {
		token, err := ca.ParseJoinToken(c.Any().JoinTokenText(false))
		if err != nil {
			t.Fatal(err)
		}
		return joinMessage(t, token, request(t, "half"), "half")
	}
	if refusal := join(); refusal != "" {
		t.Fatal(refusal)
	}
	if refusal := join(); !strings.Contains(refusal, "is taken by a member") {
		t.Errorf("another key pair at once: %q", refusal)
	}
	ahead.add(30 * time.Second)
	if refusal := join(); refusal != "" {
		t.Errorf("another key pair half a minute later: %s", refusal)
	}
}
