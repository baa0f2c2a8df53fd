package transport_test

import (
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/keyraft/keyraft/cluster/transport"
)

// TestRaftRunsOnIt: three real nodes elect, replicate and hear their leader with
// heartbeats that wait in the queue.
func TestRaftRunsOnIt(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, "c1")
	var servers []raft.Server
	var trans []*transport.RaftTransport
	for _, node := range []string{"n1", "n2", "n3"} {
		tr, err := transport.NewRaft(listen(t, cluster.config(t, node)).Raft(), transport.RaftConfig{})
		if err != nil {
			t.Fatal(err)
		}
		trans = append(trans, tr)
		servers = append(servers, raft.Server{ID: raft.ServerID(node), Address: tr.LocalAddr()})
	}
	var nodes []*raft.Raft
	for i, tr := range trans {
		cfg := raft.DefaultConfig()
		cfg.LocalID, cfg.Logger = servers[i].ID, hclog.NewNullLogger()
		cfg.NoLegacyTelemetry = true
		store := raft.NewInmemStore()
		r, err := raft.NewRaft(cfg, &raft.MockFSM{}, store, store, raft.NewInmemSnapshotStore(), tr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := r.Shutdown().Error(); err != nil {
				t.Errorf("shutdown: %v", err)
			}
		})
		if err := r.BootstrapCluster(raft.Configuration{Servers: servers}).Error(); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, r)
	}
	leader := func() *raft.Raft {
		for _, r := range nodes {
			if r.State() == raft.Leader {
				return r
			}
		}
		return nil
	}
	eventually(t, "a leader", func() bool { return leader() != nil })
	eventually(t, "a write", func() bool {
		r := leader() // asked again: a slow machine may elect twice
		return r != nil && r.Apply([]byte("x"), wait).Error() == nil
	})
	for _, r := range nodes {
		eventually(t, "the write at every node", func() bool {
			l := leader()
			return l != nil && r.AppliedIndex() >= l.CommitIndex() && l.CommitIndex() > 1
		})
	}
	// Without a write followers hear of their leader by heartbeats alone.
	quiet := time.Now()
	for _, r := range nodes {
		eventually(t, "a heartbeat", func() bool { return r.State() == raft.Leader || r.LastContact().After(quiet) })
	}
}
