// Package testcluster runs whole clusters inside a test: real raft, real Pebble,
// real TLS on loopback, each node in its own folder. Nodes are killed without a
// flush, cut off, paused and started again.
//
// Tests that need a cluster live here, so that neither package gateway nor any
// package that it imports is tied to one (docs/dependencies.md).
package testcluster

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
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyraft/keyraft/cluster"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/storage"
	"github.com/keyraft/keyraft/tokens"
)

// Options change what Start makes. The zero value is three voters.
type Options struct {
	NonVoters int
	Heartbeat time.Duration // 0: 300 ms, so that tests need not wait long
	Staleness time.Duration // 0: the default
	Jobs      []cluster.Job
	Trailing  uint64        // entries kept behind a snapshot; 0: the default
	Write     time.Duration // bound of a write; 0: the default
	// LogFault is called before each write of a node's log store, BeforeApply
	// before each entry that it applies.
	LogFault     func(node, op string) error
	BeforeApply  func(node string, index uint64)
	Now          func(node string) time.Time
	ReportedHead func(node string) uint64 // asked in the middle of a restore
	Storage      storage.Options
	Gossip       bool
	Metrics      func(node string) prometheus.Registerer // of each start
	Keys         *seal.Keyring                           // sealing keys; nil: new ones
}

// Cluster is a running cluster.
type Cluster struct {
	t     testing.TB
	opts  Options
	keys  *seal.Keyring
	Net   *Network
	mu    sync.Mutex
	nodes []*Node
}

// Node is one member; Node.Node is nil while it is down.
type Node struct {
	*cluster.Node
	Name string
	Dir  string
	Gone chan struct{} // closed when it has applied its own removal

	c     *Cluster
	voter bool
	addr  string
	fatal chan error   // what halted it
	ended *atomic.Bool // Kill or Stop was called: what breaks now means nothing
	life  sync.RWMutex // guards Node against who uses it beside Kill and Restart
}

// Start makes a cluster of so many voters and waits until all are ready.
func Start(t testing.TB, voters int) *Cluster { return StartWith(t, voters, Options{}) }

// StartWith makes a cluster as opts say.
func StartWith(t testing.TB, voters int, opts Options) *Cluster {
	t.Helper()
	if opts.Heartbeat == 0 {
		opts.Heartbeat = 300 * time.Millisecond
	}
	if opts.Keys == nil {
		keys, err := seal.NewKeyring(seal.Generate())
		if err != nil {
			t.Fatal(err)
		}
		opts.Keys = keys
	}
	c := &Cluster{t: t, opts: opts, keys: opts.Keys, Net: newNetwork()}
	t.TempDir() // its removal is arranged now, so that it comes behind stop
	t.Cleanup(c.stop)
	first := c.newNode("n1", true)
	first.start(func(cfg *cluster.Config) { cfg.Bootstrap = c.bootstrap() })
	for i := 2; i <= voters; i++ {
		c.Join(fmt.Sprintf("n%d", i), true)
	}
	for i := 1; i <= opts.NonVoters; i++ {
		c.Join(fmt.Sprintf("x%d", i), false)
	}
	c.AwaitVoters(voters)
	return c
}

func (c *Cluster) bootstrap() *command.Bootstrap {
	c.t.Helper()
	b := &command.Bootstrap{
		Cluster: &state.Cluster{Issuer: "https://keyraft.test"},
		Tenant:  &state.Tenant{Id: "default", DisplayName: "Default", Settings: &state.TenantSettings{}},
	}
	var admin [32]byte
	b.AdminToken = admin[:]
	for _, name := range tokens.SharedKeys() {
		k, err := tokens.NewClusterKey(c.keys, name, 1, time.Now())
		if err != nil {
			c.t.Fatal(err)
		}
		b.Keys = append(b.Keys, k)
	}
	return b
}

func (c *Cluster) newNode(name string, voter bool) *Node {
	n := &Node{Name: name, Dir: filepath.Join(c.t.TempDir(), name), c: c, voter: voter}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = append(c.nodes, n)
	return n
}

// Join lets one more node in and waits until it is ready.
func (c *Cluster) Join(name string, voter bool) *Node {
	c.t.Helper()
	n := c.newNode(name, voter)
	token := c.Token(!voter)
	n.start(func(cfg *cluster.Config) { cfg.Join, cfg.NonVoter = &cluster.JoinPlan{Token: token}, !voter })
	n.AwaitReady()
	return n
}

// TryJoin is Join with a token and changes of its own, that gives the error and
// doesn't wait.
func (c *Cluster) TryJoin(name, token string, change func(*cluster.Config)) (*Node, error) {
	c.t.Helper()
	n := &Node{Name: name, Dir: filepath.Join(c.t.TempDir(), name), c: c, voter: true}
	err := n.tryStart(func(cfg *cluster.Config) {
		cfg.Join = &cluster.JoinPlan{Token: token}
		if change != nil {
			change(cfg)
		}
	})
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.nodes = append(c.nodes, n)
	}
	return n, err
}

// JoinTokenText is a join token that names this very node.
func (n *Node) JoinTokenText(nonVoter bool) string {
	n.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	token, _, err := n.JoinToken(ctx, time.Hour, nonVoter)
	if err != nil {
		n.c.t.Fatalf("make a join token: %v", err)
	}
	return token
}

// Token makes a join token at some live node.
func (c *Cluster) Token(nonVoter bool) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		token, _, err := c.Any().JoinToken(ctx, time.Hour, nonVoter)
		if err == nil {
			return token
		}
		if ctx.Err() != nil {
			c.t.Fatalf("make a join token: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (n *Node) start(change func(*cluster.Config)) {
	n.c.t.Helper()
	if err := n.tryStart(change); err != nil {
		n.c.t.Fatalf("start %s: %v", n.Name, err)
	}
}

func (n *Node) tryStart(change func(*cluster.Config)) error {
	fatal, ended, gone := make(chan error, 16), new(atomic.Bool), make(chan struct{})
	bind := n.addr
	if bind == "" {
		bind = "127.0.0.1:0"
	}
	cfg := cluster.Config{
		DataDir: n.Dir, NodeID: n.Name, BindAddr: bind, APIAddr: "http://" + n.Name + ".test",
		Keyring: n.c.keys, HeartbeatTimeout: n.c.opts.Heartbeat, ElectionTimeout: n.c.opts.Heartbeat,
		StalenessBound: n.c.opts.Staleness, Jobs: n.c.opts.Jobs, Version: "test", Storage: n.c.opts.Storage,
		Logger:       logger(n.Name),
		TrailingLogs: n.c.opts.Trailing, WriteTimeout: n.c.opts.Write,
		Fatal: func(err error) {
			if !ended.Load() {
				fatal <- err
			}
		},
		Removed: sync.OnceFunc(func() { close(gone) }),
		Dial:    func(ctx context.Context, addr string) (net.Conn, error) { return n.c.Net.dial(ctx, n.Name, addr) },
	}
	if n.c.opts.Gossip {
		cfg.GossipAddr, cfg.GatewayGossipAddr = "127.0.0.1:0", "127.0.0.1:0"
	}
	if n.c.opts.Metrics != nil {
		cfg.Registerer = n.c.opts.Metrics(n.Name)
	}
	if n.c.opts.LogFault != nil {
		cfg.LogFault = func(op string) error { return n.c.opts.LogFault(n.Name, op) }
	}
	if n.c.opts.BeforeApply != nil {
		cfg.BeforeApply = func(index uint64) { n.c.opts.BeforeApply(n.Name, index) }
	}
	if n.c.opts.ReportedHead != nil {
		cfg.ReportedHead = func(context.Context) uint64 { return n.c.opts.ReportedHead(n.Name) }
	}
	if n.c.opts.Now != nil {
		cfg.Now = func() time.Time { return n.c.opts.Now(n.Name) }
	}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	node, err := cluster.Start(ctx, cfg)
	for try := 0; errors.Is(err, syscall.EADDRINUSE) && ctx.Err() == nil; try++ { // another test got the port
		if try > 10 {
			cfg.BindAddr = "127.0.0.1:0"
		}
		time.Sleep(10 * time.Millisecond)
		node, err = cluster.Start(ctx, cfg)
	}
	if err != nil {
		return err
	}
	n.life.Lock()
	n.Node, n.fatal, n.ended, n.Gone = node, fatal, ended, gone
	n.life.Unlock()
	n.addr = node.ClusterAddr()
	n.c.Net.name(n.Name, n.addr)
	return nil
}

// Running is the node for who uses it beside Kill and Restart; nil while it is
// down. A node that has ended since answers with errors.
func (n *Node) Running() *cluster.Node {
	n.life.RLock()
	defer n.life.RUnlock()
	return n.Node
}

func (n *Node) take() *cluster.Node {
	n.life.Lock()
	defer n.life.Unlock()
	node := n.Node
	n.Node = nil
	return node
}

// AwaitFatal waits for what halts the node, within a bound. The process would end
// now: Kill follows.
func (n *Node) AwaitFatal(within time.Duration) error {
	n.c.t.Helper()
	select {
	case err := <-n.fatal:
		n.ended.Store(true)
		return err
	case <-time.After(within):
		n.c.t.Fatalf("nothing has halted %s within %s", n.Name, within)
		return nil
	}
}

// logger is silent, unless KEYRAFT_TEST_LOG is set.
func logger(name string) *slog.Logger {
	if os.Getenv("KEYRAFT_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", name)
}

// AwaitReady waits until the node may serve.
func (n *Node) AwaitReady() {
	n.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := n.Node.AwaitReady(ctx); err != nil {
		n.c.t.Fatalf("%s is not ready: %v", n.Name, err)
	}
}

// Kill stops the node as a crash would: no hand-over, no flush.
func (n *Node) Kill() {
	if node := n.take(); node != nil {
		n.check()
		n.ended.Store(true)
		node.Kill()
	}
}

// check finds a halt that the test did not expect.
func (n *Node) check() {
	n.c.t.Helper()
	if n.ended.Load() {
		return
	}
	select {
	case err := <-n.fatal:
		n.c.t.Errorf("%s has halted: %v", n.Name, err)
	default:
	}
}

// Stop drains the node and stops it.
func (n *Node) Stop() {
	n.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	node := n.take()
	if err := node.Close(ctx); err != nil {
		n.c.t.Errorf("stop %s: %v", n.Name, err)
	}
	n.check()
	n.ended.Store(true)
}

// Restart starts a stopped node on its folder.
func (n *Node) Restart() { n.c.t.Helper(); n.start(nil) }

// TryRestart is Restart that gives the error.
func (n *Node) TryRestart() error { return n.tryStart(nil) }

// TryRestartWith is TryRestart with changes of its own.
func (n *Node) TryRestartWith(change func(*cluster.Config)) error { return n.tryStart(change) }

// Nodes are all nodes, those that are down among them.
func (c *Cluster) Nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*Node(nil), c.nodes...)
}

// Live are the nodes that run.
func (c *Cluster) Live() (out []*Node) {
	for _, n := range c.Nodes() {
		if n.Running() != nil {
			out = append(out, n)
		}
	}
	return out
}

// Any is some node that runs.
func (c *Cluster) Any() *Node { return c.Live()[0] }

// Leader waits for the node that leads.
func (c *Cluster) Leader() *Node {
	c.t.Helper()
	var got *Node
	c.Await("a leader", func() bool {
		for _, n := range c.Live() {
			if node := n.Running(); node == nil {
				continue
			} else if s := node.Status(); s.State == "leader" && s.LeaderID == n.Name {
				got = n
				return true
			}
		}
		return false
	})
	return got
}

// Followers are the live nodes that don't lead.
func (c *Cluster) Followers() (out []*Node) {
	c.t.Helper()
	leader := c.Leader()
	for _, n := range c.Live() {
		if n != leader {
			out = append(out, n)
		}
	}
	return out
}

// AwaitVoters waits until so many members vote and all are ready.
func (c *Cluster) AwaitVoters(want int) {
	c.t.Helper()
	c.Await(fmt.Sprintf("%d voters", want), func() bool {
		for _, n := range c.Live() { // each by its own configuration: who lacks the last change gives no vote to a new voter
			members, err := n.Members(context.Background())
			if err != nil {
				return false
			}
			voters := 0
			for _, m := range members {
				if m.Suffrage == "voter" {
					voters++
				}
				if m.State != "ready" {
					return false
				}
			}
			if voters != want {
				return false
			}
		}
		return true
	})
}

// Await waits for a condition, at most 30 s.
func (c *Cluster) Await(what string, ok func() bool) {
	c.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			c.t.Fatalf("waited 30 s in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// EqualChecksums checks I4: at one applied index all live nodes have the same
// chain and the same table checksum.
func (c *Cluster) EqualChecksums() {
	c.t.Helper()
	type at struct {
		index uint64
		sum   [32]byte
		chain string
	}
	var got []at
	c.Await("one applied index with equal checksums", func() bool {
		got = got[:0]
		for _, n := range c.Live() {
			chain := n.Status().Chain
			index, sum, err := n.FSM().Checksum()
			if err != nil {
				c.t.Fatalf("checksum of %s: %v", n.Name, err)
			}
			if chain != n.Status().Chain {
				return false // it moved meanwhile
			}
			got = append(got, at{index, sum, chain})
		}
		for _, g := range got {
			if g.index != got[0].index {
				return false
			}
		}
		return true
	})
	for i, g := range got {
		if g != got[0] {
			c.t.Errorf("I4: %s and %s differ at index %d", c.Live()[0].Name, c.Live()[i].Name, g.index)
		}
	}
}

func (c *Cluster) stop() {
	c.Net.Heal()
	var wg sync.WaitGroup
	for _, n := range c.Live() {
		wg.Go(n.Kill)
	}
	wg.Wait()
}
