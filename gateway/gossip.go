package gateway

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/keyraft/keyraft/cluster/gossip"
	"github.com/keyraft/keyraft/cluster/member"
)

const (
	gossipRetry = 2 * time.Second // until the cluster is known and the port is free
	hintEvery   = 2 * time.Second // between two looks at who is there
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
	retry := time.NewTicker(gossipRetry)
	defer retry.Stop()
	for pool == nil {
		if g.confirmed.Load() {
			var err error
			if pool, err = g.join(s); err != nil {
				g.cfg.Logger.Warn("gossip could not be started; the gateway polls without it", "error", err)
			}
		}
		if pool == nil {
			select {
			case <-retry.C:
			case <-ctx.Done():
				return
			}
		}
	}
	look := time.NewTicker(hintEvery)
	defer look.Stop()
	head := g.view.Load().head
	for {
		select {
		case <-ctx.Done():
			_ = pool.Leave(leaveLimit)
			_ = pool.Close()
			return
		case <-look.C:
			g.nodes.hint(g.addresses(pool.Members()))
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
		Rejoin: func() []string { return c.Join },
	})
	if err != nil {
		return nil, err
	}
	if _, err := pool.Join(c.Join); err != nil {
		g.cfg.Logger.Warn("nobody answered in gossip yet; it is tried again", "error", err)
	}
	return pool, nil
}

// addresses are the API addresses that gossip names. Our credential goes there,
// so they are taken only where the server has to prove who it is (TLS), or on
// this machine.
func (g *Gateway) addresses(members []member.Info) []string {
	secure := strings.HasPrefix(g.cfg.Nodes[0], "https://")
	var urls []string
	for _, m := range members {
		if m.Kind != member.KindNode || m.APIAddr == "" {
			continue
		}
		address := m.APIAddr
		if !strings.Contains(address, "://") {
			scheme := "http://"
			if secure {
				scheme = "https://"
			}
			address = scheme + address
		}
		u, err := url.Parse(address)
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			continue
		}
		ip := net.ParseIP(u.Hostname())
		if u.Scheme == "https" || u.Scheme == "http" && !secure && ip != nil && ip.IsLoopback() {
			urls = append(urls, strings.TrimRight(u.String(), "/"))
		}
	}
	return urls
}
