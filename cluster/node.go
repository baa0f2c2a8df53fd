// Package cluster makes one node of many: it keeps the Raft log, proposes
// commands from anywhere, proves reads fresh, and lets nodes come and go.
//
// What the library raft gets wrong, and what a straightforward cluster inherits
// from it, is repaired here by the rules R1–R20 of docs/architecture.md: no
// asynchronous heartbeats (transport), an own read index (readindex.go), a first
// command of every term (leader.go), a reconciliation of state, snapshot and log
// at start (reconcile.go), and one latch for every durable store.
//
// A Node is safe for concurrent use. Times are durations; instants are
// milliseconds since 1970 UTC. Errors of writes wrap command.ErrUnavailable
// (nothing was done) or command.ErrOutcomeUnknown; those of reads ErrStale or
// ErrBehind. Locks are never held over a call to raft, the disk or a peer.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/keyraft/keyraft/cluster/gossip"
	"github.com/keyraft/keyraft/cluster/logstore"
	"github.com/keyraft/keyraft/cluster/peer"
	"github.com/keyraft/keyraft/cluster/transport"
	"github.com/keyraft/keyraft/fsm"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/storage"
)

// Config of a Node. Fields without a remark must be given.
type Config struct {
	DataDir string
	NodeID  string

	BindAddr          string // cluster port; port 0 picks one
	AdvertiseAddr     string // what the others dial; "" is BindAddr
	APIAddr           string // told to clients and gateways
	GossipAddr        string // bind address of the nodes' pool; "": no gossip
	GatewayGossipAddr string // bind address of the gateways' pool; "": none

	Keyring       *seal.Keyring // nil only with Join: the cluster then sends its own
	ShareSealKeys string        // what a joiner without sealing keys is given; "": nothing

	Bootstrap *command.Bootstrap // makes a cluster in an empty folder; the CA, gossip keys and node are added here
	Join      *JoinPlan          // enters a cluster from an empty folder
	NonVoter  bool

	HeartbeatTimeout time.Duration // 0: 1 s
	ElectionTimeout  time.Duration // 0: 1 s
	StalenessBound   time.Duration // of local reads; 0: 5 s
	WriteTimeout     time.Duration // of one proposal with its retries; 0: 5 s

	Storage    storage.Options
	Jobs       []Job
	Topics     map[string]Topic
	Version    string
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: metrics are kept and not shown
	Fatal      func(error)           // the node must stop at once; it should end the process
	Removed    func()                // called once when this node has applied its own removal
	// ReportedHead is the highest head that a gateway has reported to any node;
	// nil: none are known.
	ReportedHead func(ctx context.Context) uint64
	Now          func() time.Time // nil: time.Now
	Dial         func(ctx context.Context, addr string) (net.Conn, error)
	SnapshotLog  int64  // bytes of log after which a snapshot is taken; 0: 64 MiB
	TrailingLogs uint64 // entries that stay in the log behind a snapshot, so that a follower that was away for a moment needs none; 0: 4096

	// Tests put faults here: LogFault before each write of the log store, whose
	// error is that of the disk; BeforeApply before each entry. nil: none.
	LogFault    func(op string) error
	BeforeApply func(index uint64)
}

// JoinPlan lets a node into a cluster. SaveSealKeys is called, before anything
// else is kept, with the sealing keys that the cluster sent.
type JoinPlan struct {
	Token        string
	SaveSealKeys func(text string) error
	// Find gives another member's cluster port, for when the one that made the
	// token doesn't answer; nil: none. Its answer is only a place to try: whoever
	// answers there must show the authority of the fingerprint.
	Find func(ctx context.Context, fingerprint [32]byte) (addr string, err error)
}

// Node is one member of a cluster.
type Node struct {
	cfg  Config
	id   *identity
	keys *seal.Keyring
	log  *slog.Logger

	fsm       *fsm.FSM
	adapter   *adapter
	store     *logstore.Store
	snapshots *snapshots
	logs      *watchedLog
	latch     *storage.Latch
	mux       *transport.Mux
	transport *transport.RaftTransport
	raft      *raft.Raft
	grpc      *grpc.Server
	peers     *peers
	pools     pools

	progress   *progress
	leadership *leadership
	reader     *reader
	batcher    *batcher
	forward    *forwarder
	metrics    *metrics

	provedAt     atomic.Int64  // progress's clock when the newest proof was asked for; 0: none
	joinedAt     atomic.Uint64 // index of the entry that let this node in
	nonce        atomic.Uint64
	failedStarts atomic.Int32
	healthySince sync.Map // raft.ServerID → time.Duration
	restoring    sync.Mutex
	removed      atomic.Bool

	ctx      context.Context
	cancel   context.CancelFunc
	spawning sync.Mutex // guards stopped: no goroutine begins behind the wait for their end
	stopped  bool
	wg       sync.WaitGroup
	closing  sync.Once
	ended    chan struct{} // closed when Close or Kill is done
	closed   error
	stopping raft.Future // of raft's shutdown: the library waits for its end in the first one alone
}

var errStopped = errors.New("this node is stopping")

func (c *Config) complete() error {
	switch {
	case c.DataDir == "" || c.NodeID == "" || c.BindAddr == "":
		return errors.New("cluster: DataDir, NodeID and BindAddr must be given")
	case c.Logger == nil || c.Fatal == nil:
		return errors.New("cluster: Logger and Fatal must be given")
	case c.Keyring == nil && c.Join == nil:
		return errors.New("cluster: a sealing key must be given")
	}
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&c.HeartbeatTimeout, time.Second)
	set(&c.ElectionTimeout, time.Second)
	set(&c.StalenessBound, 5*time.Second)
	set(&c.WriteTimeout, 5*time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Removed == nil {
		c.Removed = func() {}
	}
	if c.SnapshotLog == 0 {
		c.SnapshotLog = 64 << 20
	}
	if c.TrailingLogs == 0 {
		c.TrailingLogs = 4096
	}
	return nil
}

// Start opens what the data folder holds, makes a cluster or enters one where it
// is empty, and runs the node until Close. It returns before the node is ready:
// see AwaitReady.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, keys: cfg.Keyring, log: cfg.Logger,
		progress: newProgress(), leadership: newLeadership(), metrics: newMetrics(cfg.Registerer),
		ended: make(chan struct{}),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.reader = &reader{node: n}
	n.batcher, n.forward = newBatcher(n), newForwarder(n)
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.release())
	}
	n.run()
	return n, nil
}

// open brings up everything in the order in which it may be trusted: who the
// node is, its stores, their reconciliation, the port, raft.
func (n *Node) open(ctx context.Context) error {
	if err := os.MkdirAll(n.cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	fresh, err := n.identify(ctx)
	if err != nil {
		return err
	}
	if err := n.openStores(); err != nil {
		return err
	}
	if row, ok := n.fsm.View().Node(n.id.NodeID); ok && row.GetRemoved() && holds(row, n.serial()) {
		return ErrRemoved
	}
	if err := n.openPort(); err != nil {
		return err
	}
	config := n.raftConfig()
	if err := n.reconcile(config); err != nil {
		return err
	}
	if fresh && n.cfg.Join == nil {
		if err := n.bootstrapRaft(config); err != nil {
			return err
		}
	}
	n.raft, err = raft.NewRaft(config, n.adapter, n.logs, n.store.Stable(), n.snapshots, n.transport)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	return nil
}

// identify finds out who this node is; fresh says that the folder was empty.
func (n *Node) identify(ctx context.Context) (fresh bool, err error) {
	if n.keys != nil {
		if n.id, err = loadIdentity(n.cfg.DataDir, n.keys); err != nil {
			return false, err
		}
	}
	if n.id != nil {
		if n.id.NodeID != n.cfg.NodeID {
			return false, fmt.Errorf("the data folder belongs to node %q, not to %q: set --node-id %s, or give another --data-dir", n.id.NodeID, n.cfg.NodeID, n.id.NodeID)
		}
		return n.pendingBootstrap() && !n.hasLog(), nil
	}
	switch {
	case n.cfg.Bootstrap != nil:
		return true, n.found()
	case n.cfg.Join != nil:
		got, err := requestJoin(ctx, &n.cfg, *n.cfg.Join)
		if err != nil {
			return false, fmt.Errorf("join the cluster: %w", err)
		}
		if got.sealText != "" {
			if err := n.cfg.Join.SaveSealKeys(got.sealText); err != nil {
				return false, fmt.Errorf("keep the cluster's sealing key: %w", err)
			}
			n.cfg.ShareSealKeys = got.sealText
		}
		n.id, n.keys = got.id, got.keys
		n.joinedAt.Store(got.index)
		return true, n.id.save(n.cfg.DataDir)
	default:
		return false, errors.New("the data folder is empty: make a cluster with --bootstrap, or enter one with --join ADDR --join-token TOKEN")
	}
}

func (n *Node) hasLog() bool {
	info, err := os.Stat(filepath.Join(n.cfg.DataDir, "raft.db"))
	return err == nil && info.Size() > 0
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
	if row, ok := v.Node(n.id.NodeID); ok && row.GetRemoved() && holds(row, n.serial()) && n.removed.CompareAndSwap(false, true) {
		n.spawn(n.farewell)
	}
}

// farewell makes the removal durable, so that the next start knows it too, and
// tells the owner, who ends the node.
func (n *Node) farewell() {
	if err := n.fsm.Flush(); err != nil {
		n.log.Warn("this node was removed; that could not be kept for its next start", "error", err)
	}
	go n.cfg.Removed() // it may call Close, which waits for this
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

// spawn runs fn on a goroutine whose end release waits for; false when the node
// is stopping, and then fn is not run.
func (n *Node) spawn(fn func()) bool {
	n.spawning.Lock()
	defer n.spawning.Unlock()
	if n.stopped {
		return false
	}
	n.wg.Go(fn)
	return true
}

// within is ctx, ended by the node's own end as well.
func (n *Node) within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	stop := context.AfterFunc(n.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// run starts what the node does all the time.
func (n *Node) run() {
	for _, loop := range []func(context.Context){
		n.watchLeader, n.lead, n.batcher.run, n.forward.run, n.keepProving, n.snapshotLoop, n.announce, n.gossipLoop, n.keepGossipKeys, n.watchRemoved, n.renewLoop,
	} {
		n.wg.Go(func() { loop(n.ctx) })
	}
	n.answer()
	n.electLone()
}

// electLone makes a lone voter leader at once: nobody else can be, so there is
// no election timeout to wait out (R3).
func (n *Node) electLone() {
	voters, err := n.voters()
	if err != nil || len(voters) != 1 || string(voters[0].ID) != n.id.NodeID {
		return
	}
	n.wg.Go(func() {
		var answer raft.TimeoutNowResponse
		err := n.transport.TimeoutNow(voters[0].ID, n.transport.LocalAddr(), &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
			ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.id.NodeID), Addr: []byte(n.transport.LocalAddr()),
		}}, &answer)
		if err != nil {
			n.log.Debug("a lone voter waits out its election timeout", "error", err)
		}
	})
}

// Ready tells whether this node may serve: nil, or what it waits for (R13).
func (n *Node) Ready() error {
	if n.removed.Load() {
		return ErrRemoved
	}
	if err := n.latch.Err(); err != nil {
		return err
	}
	if _, ok := n.fsm.View().Cluster(); !ok {
		return fmt.Errorf("%w: its state is empty so far (applied index %d)", ErrStale, n.fsm.View().Index())
	}
	return n.Fresh()
}

// ErrRemoved says that this node was taken out of the cluster.
var ErrRemoved = errors.New("removed: this node was taken out of the cluster; it needs a new join token and an empty data folder")

// AwaitReady waits until the node may serve.
func (n *Node) AwaitReady(ctx context.Context) error {
	for {
		err := n.Ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), err)
		case <-n.ctx.Done():
			return errStopped
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// HasLeader tells whether a leader is in reach: what writes need.
func (n *Node) HasLeader() bool { id, _ := n.leader(); return id != "" }

// ID, ClusterID and ClusterAddr are how the cluster knows this node.
func (n *Node) ID() string { return n.id.NodeID }

// ClusterID is the id of the cluster.
func (n *Node) ClusterID() string { return n.id.ClusterID }

// ClusterAddr is the advertised address of the cluster port.
func (n *Node) ClusterAddr() string { return n.mux.Addr().String() }

// Keyring seals and opens what is kept at rest.
func (n *Node) Keyring() *seal.Keyring { return n.keys }

// FSM is the state machine of this node, for checksums and figures.
func (n *Node) FSM() *fsm.FSM { return n.fsm }

// Close drains: it hands leadership over, stops raft, flushes and closes the
// stores. It waits at most for ctx; a second call waits for the first.
func (n *Node) Close(ctx context.Context) error {
	n.closing.Do(func() {
		go func() {
			defer close(n.ended)
			n.drain(ctx)
			n.closed = n.release()
		}()
	})
	select {
	case <-n.ended:
		return n.closed
	case <-ctx.Done():
		return fmt.Errorf("the node did not stop in time: %w", context.Cause(ctx))
	}
}

func (n *Node) drain(ctx context.Context) {
	if voters, err := n.voters(); err == nil && len(voters) > 1 && n.isLeader() {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if err := n.transfer(ctx, ""); err != nil {
			n.log.Warn("leadership could not be handed over before the stop", "error", err)
		}
	}
	n.pools.leave()
}

// Kill stops the node as a crash would: nothing is handed over or flushed.
func (n *Node) Kill() {
	n.closing.Do(func() {
		defer close(n.ended)
		_ = n.mux.Close()
		n.cancel()
		n.shutdown()
		_ = n.fsm.Kill()
		n.closed = n.release()
	})
	<-n.ended
}

func (n *Node) shutdown() raft.Future {
	if n.stopping == nil {
		n.stopping = n.raft.Shutdown()
	}
	return n.stopping
}

// release closes whatever is open, in the reverse order. With a broken disk the
// log is closed before raft's end is waited for: raft may be held in a write.
func (n *Node) release() error {
	n.cancel()
	n.spawning.Lock()
	n.stopped = true
	n.spawning.Unlock()
	var errs []error
	switch {
	case n.raft != nil:
		stopping := n.shutdown()
		if n.latch.Err() != nil {
			errs = append(errs, n.store.Close())
		}
		errs = append(errs, stopping.Error())
	case n.transport != nil:
		errs = append(errs, n.transport.Close())
	}
	if n.peers != nil {
		n.peers.close()
	}
	if n.grpc != nil {
		n.grpc.Stop()
	}
	n.pools.close()
	if n.mux != nil {
		errs = append(errs, n.mux.Close())
	}
	n.wg.Wait()
	if n.fsm != nil {
		errs = append(errs, n.fsm.Close())
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	return errors.Join(errs...)
}

// pools are the two gossip pools; nil where there is none.
type pools struct {
	mu       sync.Mutex
	nodes    *gossip.Pool
	gateways *gossip.Pool
}
