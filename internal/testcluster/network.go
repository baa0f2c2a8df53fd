package testcluster

import (
	"context"
	"errors"
	"net"
	"sync"
)

// Network is what lies between the nodes of one cluster: each directed link can
// be cut. Only new bytes count: a cut link closes the connections that it has.
type Network struct {
	mu    sync.Mutex
	names map[string]string           // address → node
	cut   map[link]bool               // from → to
	conns map[link]map[*wire]struct{} // open ones
}

type link struct{ from, to string }

var errCut = errors.New("the link is cut")

func newNetwork() *Network {
	return &Network{names: map[string]string{}, cut: map[link]bool{}, conns: map[link]map[*wire]struct{}{}}
}

func (w *Network) name(node, addr string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names[addr] = node
}

// Cut closes and forbids what from dials to to, one way.
func (w *Network) Cut(from, to string) {
	w.mu.Lock()
	var open []*wire
	l := link{from, to}
	w.cut[l] = true
	for c := range w.conns[l] {
		open = append(open, c)
	}
	w.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
}

// Isolate cuts a node from all others, both ways.
func (w *Network) Isolate(node string) {
	w.mu.Lock()
	var others []string
	for _, n := range w.names {
		if n != node {
			others = append(others, n)
		}
	}
	w.mu.Unlock()
	for _, o := range others {
		w.Cut(node, o)
		w.Cut(o, node)
	}
}

// Heal joins everything again.
func (w *Network) Heal() { w.heal() }

func (w *Network) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.cut)
}

func (w *Network) dial(ctx context.Context, from, addr string) (net.Conn, error) {
	w.mu.Lock()
	l := link{from, w.names[addr]}
	cut := w.cut[l]
	w.mu.Unlock()
	if cut {
		return nil, errCut
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	out := &wire{Conn: c, net: w, link: l}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut[l] {
		_ = c.Close()
		return nil, errCut
	}
	if w.conns[l] == nil {
		w.conns[l] = map[*wire]struct{}{}
	}
	w.conns[l][out] = struct{}{}
	return out, nil
}

// wire is one connection over a link.
type wire struct {
	net.Conn
	net  *Network
	link link
	once sync.Once
}

// Close implements net.Conn.
func (c *wire) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.net.mu.Lock()
		defer c.net.mu.Unlock()
		delete(c.net.conns[c.link], c)
	})
	return err
}
