package gateway

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/keyraft/keyraft/cluster/gossip"
	"github.com/keyraft/keyraft/cluster/member"
)

const (
	confirmLook = 50 * time.Millisecond  // until the cluster is known
	gossipRetry = 2 * time.Second        // until the port is free
	hintEvery   = 500 * time.Millisecond // between two looks at who is there
	leaveLimit  = 2 * time.Second
)

// startGossip joins the gateways' pool as soon as the cluster's id, its label, is
// known. The result ends it and waits for its end. Gossip is a hint only (R16):
// the gateway works without it.
func (g *Gateway) startGossip(ctx context.Context, s *syncer) (stop func()) {
	if g.cfg.Gossip == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.gossip(ctx, s)
	}()
	return func() {
		cancel()
		<-done
	}
}

func (g *Gateway) gossip(ctx context.Context, s *syncer) {
	var pool *gossip.Pool
	for pool == nil {
		wait := confirmLook
		if g.confirmed.Load() {
			var err error
			if pool, err = g.join(s); err == nil {
				break
			}
			g.cfg.Logger.Warn("gossip could not be started; the gateway polls without it", "error", err)
			wait = gossipRetry
		}
		s.pause(ctx, wait)
		if ctx.Err() != nil {
			return
		}
	}
	look := time.NewTicker(hintEvery)
	defer look.Stop()
	head := g.view.Load().head
	var called *[]string
	for {
		if seeds := g.seeds.Load(); len(g.cfg.Gossip.Join) == 0 && seeds != called {
			called = seeds
			g.call(pool)
		}
		select {
		case <-ctx.Done():
			_ = pool.Leave(leaveLimit)
			_ = pool.Close()
			return
		case <-look.C:
			g.nodes.hint(byGossip, g.addresses(pool.Members()))
			if now := g.view.Load().head; now != head {
				head = now
				pool.Announce()
			}
		}
	}
}

func (g *Gateway) join(s *syncer) (*gossip.Pool, error) {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	instance := binary.BigEndian.Uint64(b[:])
	c := g.cfg.Gossip
	pool, err := gossip.Start(gossip.Config{
		Label: g.pinned(), Name: gossip.GatewayName(g.cfg.Instance), BindAddr: c.BindAddr, AdvertiseAddr: c.AdvertiseAddr,
		Keys: [][]byte{c.Key},
		Info: func() member.Info {
			v := g.view.Load()
			return member.Info{ID: g.cfg.Instance, Kind: member.KindGateway, Level: 1, Epoch: v.epoch, Head: v.head, Instance: instance}
		},
		OnHead: func(epoch, head uint64) {
			select {
			case s.kick <- hint{epoch, head}:
			default: // one is waiting already
			}
		},
		Logger: g.cfg.Logger,
		Rejoin: g.gossipSeeds,
	})
	if err != nil {
		return nil, err
	}
	if len(c.Join) > 0 {
		g.call(pool)
	}
	return pool, nil
}

func (g *Gateway) call(pool *gossip.Pool) {
	if _, err := pool.Join(g.gossipSeeds()); err != nil {
		g.cfg.Logger.Warn("nobody answered in gossip yet; it is tried again", "error", err)
	}
}

// gossipSeeds is where the pool is found: as configured, else as the nodes say.
func (g *Gateway) gossipSeeds() []string {
	if join := g.cfg.Gossip.Join; len(join) > 0 {
		return join
	}
	if seeds := g.seeds.Load(); seeds != nil {
		return *seeds
	}
	return nil
}

// addresses are the API addresses that gossip names. Our credential goes there, and
// what comes back is believed, so they are taken only where the server must prove with
// a certificate of a CA of the operator's own who it is (with the system's roots
// anybody can, for a name of his own), or on this machine where the nodes are on it.
func (g *Gateway) addresses(members []member.Info) []string {
	own := g.cfg.TLS != nil && g.cfg.TLS.RootCAs != nil
	local := slices.ContainsFunc(g.cfg.Nodes, func(n string) bool {
		u, err := url.Parse(n)
		return err == nil && loopback(u)
	})
	var urls []string
	for _, m := range members {
		if m.Kind != member.KindNode || m.APIAddr == "" {
			continue
		}
		u, err := url.Parse(g.place(m.APIAddr))
		if err != nil || u.Host == "" {
			continue
		}
		if u.Scheme == "https" && own || local && loopback(u) {
			urls = append(urls, u.String())
		}
	}
	return urls
}

func loopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return ip != nil && ip.IsLoopback()
}
