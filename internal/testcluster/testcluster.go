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
	"testing"
	"time"

	"github.com/hashicorp/raft"

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
	WrapLog   func(node string, l raft.LogStore) raft.LogStore
	Now       func(node string) time.Time
	Storage   storage.Options
	Gossip    bool
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
	Name  string
	Dir   string
	Fatal chan error // what halted it
	Gone  chan struct{}
	c     *Cluster
	voter bool
	addr  string
}

// Start makes a cluster of so many voters and waits until all are ready.
func Start(t testing.TB, voters int) *Cluster { return StartWith(t, voters, Options{}) }

// StartWith makes a cluster as opts say.
func StartWith(t testing.TB, voters int, opts Options) *Cluster {
	t.Helper()
	if opts.Heartbeat == 0 {
		opts.Heartbeat = 300 * time.Millisecond
	}
	keys, err := seal.NewKeyring(seal.Generate())
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{t: t, opts: opts, keys: keys, Net: newNetwork()}
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
	for _, name := range []string{tokens.KeyHash, tokens.KeyTag} {
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
	n.Fatal, n.Gone = make(chan error, 16), make(chan struct{})
	bind := n.addr
	if bind == "" {
		bind = "127.0.0.1:0"
	}
	cfg := cluster.Config{
		DataDir: n.Dir, NodeID: n.Name, BindAddr: bind, APIAddr: "http://" + n.Name + ".test",
		Keyring: n.c.keys, HeartbeatTimeout: n.c.opts.Heartbeat, ElectionTimeout: n.c.opts.Heartbeat,
		StalenessBound: n.c.opts.Staleness, Jobs: n.c.opts.Jobs, Version: "test", Storage: n.c.opts.Storage,
		Logger: logger(n.Name),
		Fatal: func(err error) {
			select {
			case n.Fatal <- err:
			default:
			}
		},
		Removed: sync.OnceFunc(func() { close(n.Gone) }),
		Dial:    func(ctx context.Context, addr string) (net.Conn, error) { return n.c.Net.dial(ctx, n.Name, addr) },
	}
	if n.c.opts.Gossip {
		cfg.GossipAddr, cfg.GatewayGossipAddr = "127.0.0.1:0", "127.0.0.1:0"
	}
	if n.c.opts.WrapLog != nil {
		cfg.WrapLog = func(l raft.LogStore) raft.LogStore { return n.c.opts.WrapLog(n.Name, l) }
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
	if err != nil {
		return err
	}
	n.Node = node
	n.addr = node.ClusterAddr()
	n.c.Net.name(n.Name, n.addr)
	return nil
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
	if n.Node != nil {
		n.Node.Kill()
		n.Node = nil
	}
}

// Stop drains the node and stops it.
func (n *Node) Stop() {
	n.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if err := n.Close(ctx); err != nil && !errors.Is(err, raft.ErrRaftShutdown) {
		n.c.t.Errorf("stop %s: %v", n.Name, err)
	}
	n.Node = nil
}

// Restart starts a stopped node on its folder.
func (n *Node) Restart() { n.c.t.Helper(); n.start(nil) }

// TryRestart is Restart that gives the error.
func (n *Node) TryRestart() error { return n.tryStart(nil) }

// Nodes are all nodes, those that are down among them.
func (c *Cluster) Nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*Node(nil), c.nodes...)
}

// Live are the nodes that run.
func (c *Cluster) Live() (out []*Node) {
	for _, n := range c.Nodes() {
		if n.Node != nil {
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
			if s := n.Status(); s.State == "leader" && s.LeaderID == n.Name {
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
		members, err := c.Any().Members(context.Background())
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
		return voters == want
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
	c.Net.heal()
	var wg sync.WaitGroup
	for _, n := range c.Live() {
		wg.Go(n.Kill)
	}
	wg.Wait()
}
