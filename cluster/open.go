package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"

	"github.com/keyraft/keyraft/cluster/logstore"
	"github.com/keyraft/keyraft/cluster/peer"
	"github.com/keyraft/keyraft/cluster/transport"
	"github.com/keyraft/keyraft/fsm"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/storage"
)

// open brings up everything in the order in which it may be trusted: who the
// node is, its stores, their reconciliation, the port, raft.
func (n *Node) open(ctx context.Context) error {
	if err := os.MkdirAll(n.cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	if err := n.identify(ctx); err != nil {
		return err
	}
	if err := n.openStores(); err != nil {
		return err
	}
	if n.knowsRemoved() {
		return ErrRemoved
	}
	if err := n.openPort(); err != nil {
		return err
	}
	config := n.raftConfig()
	if err := n.reconcile(config); err != nil {
		return err
	}
	if n.pendingBootstrap() {
		if err := n.bootstrapRaft(config); err != nil {
			return err
		}
	}
	var err error
	n.raft, err = raft.NewRaft(config, n.adapter, n.logs, n.store.Stable(), n.snapshots, n.transport)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	return nil
}

// identify finds out who this node is; in an empty folder it becomes somebody.
func (n *Node) identify(ctx context.Context) error {
	if n.keys != nil {
		var err error
		if n.id, err = loadIdentity(n.cfg.DataDir, n.keys); err != nil {
			return err
		}
	}
	if n.id != nil {
		if n.id.NodeID != n.cfg.NodeID {
			return fmt.Errorf("the data folder belongs to node %q, not to %q: set --node-id %s, or give another --data-dir", n.id.NodeID, n.cfg.NodeID, n.id.NodeID)
		}
		return nil
	}
	switch {
	case n.cfg.Bootstrap != nil:
		return n.found()
	case n.cfg.Join != nil:
		got, err := requestJoin(ctx, &n.cfg, *n.cfg.Join)
		if err != nil {
			return fmt.Errorf("join the cluster: %w", err)
		}
		if got.sealText != "" {
			if err := n.cfg.Join.SaveSealKeys(got.sealText); err != nil {
				return fmt.Errorf("keep the cluster's sealing key: %w", err)
			}
			n.cfg.ShareSealKeys = got.sealText
		}
		n.id, n.keys = got.id, got.keys
		n.joinedAt.Store(got.index)
		return n.id.save(n.cfg.DataDir)
	default:
		return errors.New("the data folder is empty: make a cluster with --bootstrap, or enter one with --join ADDR --join-token TOKEN")
	}
}

func (n *Node) openStores() error {
	n.latch = storage.NewLatch(n.cfg.Fatal)
	logs := logstore.Options{
		Latch: n.latch, Stall: n.cfg.Storage.Stall, Logger: raftLogger(n.log),
		Observe: func(op string, d time.Duration) { n.metrics.disk.WithLabelValues(op).Observe(d.Seconds()) },
		Fault:   n.cfg.LogFault,
	}
	var err error
	if n.store, err = logstore.Open(filepath.Join(n.cfg.DataDir, "raft.db"), logs); err != nil {
		return err
	}
	files, err := logstore.NewSnapshots(n.cfg.DataDir, 2, logs)
	if err != nil {
		return err
	}
	n.snapshots = &snapshots{SnapshotStore: files}
	n.logs = &watchedLog{LogStore: n.store.Log(), halt: n.cfg.Fatal}
	o := n.cfg.Storage
	o.Latch, o.Logger = n.latch, n.log
	n.fsm, err = fsm.Open(fsm.Config{
		Dir: filepath.Join(n.cfg.DataDir, "state"), Storage: o, Halt: n.cfg.Fatal, Observe: n.observe, Logger: n.log,
	})
	if err != nil {
		return err
	}
	n.progress.observe(n.fsm.View())
	n.adapter = &adapter{fsm: n.fsm, log: n.logs, halt: n.cfg.Fatal, now: n.cfg.Now, before: n.cfg.BeforeApply}
	return nil
}

// observe is told each new view by Apply; it must not block.
func (n *Node) observe(v *state.View) {
	n.progress.observe(v)
	if row, ok := v.Node(n.id.NodeID); ok && row.GetRemoved() && holds(row, n.serial()) && !n.removed.Load() {
		n.noteRemoved()
	}
}

func (n *Node) openPort() error {
	var err error
	n.mux, err = transport.Listen(transport.Config{
		BindAddr: n.cfg.BindAddr, AdvertiseAddr: n.cfg.AdvertiseAddr, ClusterID: n.id.ClusterID,
		Certificate: n.certificate, Authorities: n.authorities, Check: n.checkPeer,
		Logger: n.log, Dial: n.cfg.Dial, Now: n.cfg.Now,
	})
	if err != nil {
		return err
	}
	n.peers = newPeers(n.mux)
	// No pipelining: when a connection breaks with three appends under way, raft
	// v1.8.0's pipeline blocks its sender for ever, and that follower gets nothing
	// more in this term while heartbeats go on. One append carries 64 entries.
	n.transport, err = transport.NewRaft(n.mux.Raft(), transport.RaftConfig{Logger: raftLogger(n.log), MaxInFlight: 1})
	return err
}

// answer serves the other nodes' questions; raft runs by then.
func (n *Node) answer() {
	listener, creds := n.mux.GRPC()
	n.grpc = grpc.NewServer(append(transport.GRPCOptions(), grpc.Creds(creds))...)
	peer.RegisterPeerServer(n.grpc, &server{node: n})
	n.wg.Go(func() { _ = n.grpc.Serve(listener) })
	n.wg.Go(func() { n.acceptJoins(n.mux.Join()) })
}

func (n *Node) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(n.id.NodeID)
	c.HeartbeatTimeout, c.ElectionTimeout = n.cfg.HeartbeatTimeout, n.cfg.ElectionTimeout
	c.LeaderLeaseTimeout = n.cfg.HeartbeatTimeout / 2
	// An idle leader tells its followers after this time what is committed: a lone
	// write at a follower waits for it. 5 ms cost an idle node some 1 % of a core.
	c.CommitTimeout = min(10*time.Millisecond, n.cfg.HeartbeatTimeout/10)
	// Unbuffered: raft answers no future that still lies in the buffer when it is
	// shut down, and who waits for one would wait for ever.
	c.BatchApplyCh = false
	c.NoLegacyTelemetry = true
	c.NoSnapshotRestoreOnStart = true // reconcile decides (R4)
	c.ShutdownOnRemove = false        // a removed node says so, then exits
	// Snapshots are asked for by bytes of log (snapshotLoop), never by count (R5).
	c.SnapshotThreshold = 1 << 62
	c.SnapshotInterval = 24 * time.Hour
	c.TrailingLogs = n.cfg.TrailingLogs
	c.Logger = raftLogger(n.log)
	return c
}
