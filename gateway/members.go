package gateway

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keyraft/keyraft/gateway/wire"
)

// membersEvery is how often a node is asked for the others, besides each time
// that one begins to be followed.
const membersEvery = 30 * time.Second

// startMembers asks the nodes that come in for the other nodes. The result ends
// it and waits for its end.
func (g *Gateway) startMembers(ctx context.Context, ask <-chan string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case node := <-ask:
				if err := g.learn(ctx, node); err != nil && ctx.Err() == nil {
					g.cfg.Logger.Debug("a node could not tell the other nodes", "node", node, "error", err)
				}
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// askMembers has the node asked, unless a question waits already.
func (s *syncer) askMembers(node string) {
	select {
	case s.ask <- node:
	default:
	}
}

// learn takes in what a node says about the others: places to try, and where
// gossip begins. Nothing else of it is believed.
func (g *Gateway) learn(ctx context.Context, node string) error {
	m, err := g.client.members(ctx, g.cfg.Clock, node)
	if err != nil {
		return err
	}
	if m.Cluster != "" && m.Cluster != g.pinned() {
		return fmt.Errorf("members: %w: it is of another cluster", errHostile)
	}
	var urls, seeds []string
	for _, n := range m.Items {
		if u := g.place(n.APIAddr); u != "" {
			urls = append(urls, u)
		}
		if dialable(n.GossipAddr) {
			seeds = append(seeds, n.GossipAddr)
		}
	}
	if len(urls) > 0 {
		g.nodes.hint(byMembers, urls)
	}
	slices.Sort(seeds)
	if old := g.seeds.Load(); len(seeds) > 0 && (old == nil || !slices.Equal(*old, seeds)) {
		g.seeds.Store(&seeds)
	}
	return nil
}

// place is the base URL of an address that somebody named, host:port or a URL;
// empty when it is none. It has the scheme of the configured nodes: https as soon
// as one of them has it, so that nobody can talk us out of TLS.
func (g *Gateway) place(address string) string {
	scheme := "http"
	if slices.ContainsFunc(g.cfg.Nodes, func(n string) bool { return strings.HasPrefix(n, "https://") }) {
		scheme = "https"
	}
	if !strings.Contains(address, "://") {
		address = scheme + "://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != scheme || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Hostname() == "" {
		return ""
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsUnspecified() {
		return ""
	}
	return strings.TrimRight(u.String(), "/")
}

// dialable says whether this is host:port of somebody.
func dialable(address string) bool {
	host, port, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && host != "" && port != "" && port != "0" && (ip == nil || !ip.IsUnspecified())
}

// members asks a node for all nodes.
func (c *client) members(ctx context.Context, clock Clock, node string) (*wire.Members, error) {
	ctx, cancel := context.WithTimeout(ctx, helloLimit)
	defer cancel()
	a, err := c.get(ctx, clock, node+"/gateway/v1/members", wire.TypeJSON, wire.MaxMembersDoc)
	if err != nil {
		return nil, err
	}
	if a.refused != nil {
		return nil, refusalError(a.refused)
	}
	return wire.ParseMembers(a.body)
}
