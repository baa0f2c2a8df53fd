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
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/keyraft/keyraft/cluster/gossip"
	"github.com/keyraft/keyraft/cluster/logstore"
	"github.com/keyraft/keyraft/cluster/transport"
	"github.com/keyraft/keyraft/fsm"
	"github.com/keyraft/keyraft/fsm/command"
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
	timers     timers
	units      units

	provedAt     atomic.Int64  // progress's clock when the newest proof was asked for; 0: none
	joinedAt     atomic.Uint64 // index of the entry that let this node in
	nonce        atomic.Uint64
	repeats      repeats
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
	for _, j := range n.jobs() {
		n.metrics.jobFailures.WithLabelValues(j.Name) // the series is there from the start
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

// pools are the two gossip pools; nil where there is none.
type pools struct {
	mu       sync.Mutex
	nodes    *gossip.Pool
	gateways *gossip.Pool
}
