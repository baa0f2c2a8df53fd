package gateway_test

import (
	"bytes"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/cluster/gossip"
	"github.com/keyraft/keyraft/cluster/member"
	"github.com/keyraft/keyraft/gateway"
)

// TestG8ForgedHead: whoever holds the gossip key may name any head. It makes the
// gateway ask, no oftener than five times a second, and nothing else; a node's
// address that it names gets no credential unless it is on this machine.
func TestG8ForgedHead(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	n, second := c.start(), c.start()
	key := bytes.Repeat([]byte{7}, 32)
	var head atomic.Uint64
	head.Store(1)
	forger, err := gossip.Start(gossip.Config{
		Label: "c1", Name: "n1", BindAddr: "127.0.0.1:0", Keys: [][]byte{key},
		Info: func() member.Info {
			return member.Info{ID: "n1", Kind: member.KindNode, APIAddr: second.srv.Listener.Addr().String(), Level: 1, Epoch: 1, Head: head.Load(), Instance: 1}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = forger.Close() }()
	cfg := c.config(n)
	cfg.Gossip = &gateway.Gossip{BindAddr: "127.0.0.1:0", Key: key, Join: []string{forger.Addr()}}
	g, stop := run(t, cfg)
	synced(t, g, c)
	until(t, "the pool to see both", func() bool { return len(forger.Members()) == 2 })
	until(t, "the node that gossip names", func() bool { return len(g.Status().Nodes) == 2 })
	token := c.mint(nil)
	want(t, g, token, "")
	start, hints := time.Now(), g.Status().Counts.GossipPolls
	head.Store(math.MaxUint64)
	forger.Announce()
	until(t, "gossip to be followed up", func() bool { return g.Status().Counts.GossipPolls > hints })
	if s := g.Status(); s.Head != 0 || s.Epoch != 1 {
		t.Errorf("a forged head was taken: %d.%d", s.Epoch, s.Head)
	}
	c.revoke("client", "orders")
	synced(t, g, c)
	want(t, g, token, gateway.Revoked)
	if got, most := g.Status().Counts.GossipPolls-hints, uint64(time.Since(start)/(200*time.Millisecond))+1; got > most {
		t.Errorf("%d polls for gossip in %v, want %d at most", got, time.Since(start), most)
	}
	stop()
}
