package gateway_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/keyraft/keyraft/cluster/gossip"
	"github.com/keyraft/keyraft/cluster/member"
	"github.com/keyraft/keyraft/gateway"
	"github.com/keyraft/keyraft/gateway/wire"
)

// TestMembersAreLearned: only one node is configured; it tells the others, and when
// it dies one of those is followed, without gossip.
func TestMembersAreLearned(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	first, second := c.start(), c.start()
	c.members = wire.Members{Cluster: "c1", Items: []wire.Member{
		{ID: "n1", APIAddr: first.srv.Listener.Addr().String()},
		{ID: "n2", APIAddr: second.srv.Listener.Addr().String()},
		{ID: "n3", APIAddr: "https://" + second.srv.Listener.Addr().String()}, // another scheme
		{ID: "n4", APIAddr: "0.0.0.0:1"},
		{ID: "n5"},
	}}
	cfg := c.config(first)
	cfg.Hurry()
	g, _ := run(t, cfg)
	synced(t, g, c)
	until(t, "the second node to be known", func() bool { return len(g.Status().Nodes) == 2 })
	for _, n := range g.Status().Nodes {
		if learned := n.URL == second.srv.URL; n.FromMembers != learned || !learned && n.URL != first.srv.URL {
			t.Errorf("%+v", n)
		}
	}
	c.mu.Lock()
	c.members.Items = c.members.Items[1:2] // the first one has left
	c.mu.Unlock()
	first.stop()
	until(t, "the second node to be followed", func() bool { return g.Status().Node == second.srv.URL })
	token := c.mint(nil)
	c.revoke("client", "orders")
	synced(t, g, c)
	want(t, g, token, gateway.Revoked)
	if n := len(g.Status().Nodes); n != 2 {
		t.Errorf("%d nodes, want 2: the configured one stays", n)
	}
}

// TestMembersOfAnotherClusterAreNotTaken is G10 for the list of nodes.
func TestMembersOfAnotherClusterAreNotTaken(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	c.members = wire.Members{Cluster: "c2", Items: []wire.Member{{ID: "n9", APIAddr: "127.0.0.1:9"}}}
	var said lockedBuffer
	cfg := c.config(c.start())
	cfg.Logger = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	g, _ := run(t, cfg)
	until(t, "the answer to be dropped", func() bool { return strings.Contains(said.String(), "of another cluster") })
	synced(t, g, c)
	if nodes := g.Status().Nodes; len(nodes) != 1 {
		t.Errorf("%+v", nodes)
	}
}

// TestGossipSeedsAreLearned: where the pool is found comes from the nodes when the
// configuration does not say it.
func TestGossipSeedsAreLearned(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	key := bytes.Repeat([]byte{7}, 32)
	pool, err := gossip.Start(gossip.Config{
		Label: "c1", Name: "n1", BindAddr: "127.0.0.1:0", Keys: [][]byte{key},
		Info: func() member.Info { return member.Info{ID: "n1", Kind: member.KindNode, Level: 1, Instance: 1} },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pool.Close() }()
	c.members = wire.Members{Cluster: "c1", Items: []wire.Member{{ID: "n1", GossipAddr: pool.Addr()}, {ID: "n2", GossipAddr: "no address"}}}
	cfg := c.config(c.start())
	cfg.Gossip = &gateway.Gossip{BindAddr: "127.0.0.1:0", Key: key}
	_, stop := run(t, cfg)
	until(t, "the gateway to join the pool", func() bool { return len(pool.Members()) == 2 })
	stop()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
