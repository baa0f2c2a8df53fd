package testcluster

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// Network is what lies between the nodes of one cluster. Each directed link (who
// dialled whom) can be cut, or made to hold what it carries. A node's name covers
// its raft streams and its questions alike.
type Network struct {
	mu    sync.Mutex
	names map[string]string           // address → node
	cut   map[link]bool               // from → to
	held  map[flow]chan struct{}      // closed when it is let go
	conns map[link]map[*wire]struct{} // open ones
}

type link struct{ from, to string }

// flow is what travels on the connections of a link in one direction.
type flow struct {
	link
	answers bool
}

var errCut = errors.New("the link is cut")

func newNetwork() *Network {
	return &Network{
		names: map[string]string{}, cut: map[link]bool{}, held: map[flow]chan struct{}{}, conns: map[link]map[*wire]struct{}{},
	}
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

// CutBoth cuts two nodes from each other.
func (w *Network) CutBoth(a, b string) {
	w.Cut(a, b)
	w.Cut(b, a)
}

// Isolate cuts a node from all others, both ways.
func (w *Network) Isolate(node string) {
	for _, o := range w.others(node) {
		w.CutBoth(node, o)
	}
}

func (w *Network) others(node string) (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.names {
		if n != node {
			out = append(out, n)
		}
	}
	return out
}

// Mute holds back everything that a node says, and lets it hear: its questions
// and its answers wait, on connections that stay open.
func (w *Network) Mute(node string) {
	for _, o := range w.others(node) {
		w.hold(flow{link{node, o}, false})
		w.hold(flow{link{o, node}, true})
	}
}

// Freeze holds back everything that a node says or is told, as if it were paused;
// nothing is lost.
func (w *Network) Freeze(node string) {
	for _, o := range w.others(node) {
		for _, l := range []link{{node, o}, {o, node}} {
			w.hold(flow{l, false})
			w.hold(flow{l, true})
		}
	}
}

// HoldAnswers holds back what to answers to from, until Heal; nothing is lost.
func (w *Network) HoldAnswers(from, to string) { w.hold(flow{link{from, to}, true}) }

func (w *Network) hold(f flow) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held[f] == nil {
		w.held[f] = make(chan struct{})
	}
}

// Heal joins everything again and lets go what was held.
func (w *Network) Heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.cut)
	for f, held := range w.held {
		close(held)
		delete(w.held, f)
	}
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
	out := &wire{Conn: c, net: w, link: l, closed: make(chan struct{})}
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

// wire is one connection over a link, at the side that dialled.
type wire struct {
	net.Conn
	net    *Network
	link   link
	once   sync.Once
	closed chan struct{}

	mu       sync.Mutex
	deadline [2]time.Time // of reads, of writes
}

// Read implements net.Conn.
func (c *wire) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil {
		err = c.pass(true)
	}
	return n, err
}

// Write implements net.Conn.
func (c *wire) Write(p []byte) (int, error) {
	if err := c.pass(false); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// pass waits while the link holds what goes this way.
func (c *wire) pass(answers bool) error {
	for {
		c.net.mu.Lock()
		held := c.net.held[flow{c.link, answers}]
		c.net.mu.Unlock()
		if held == nil {
			return nil
		}
		look := time.NewTimer(10 * time.Millisecond) // the deadline may move
		select {
		case <-held:
		case <-c.closed:
			look.Stop()
			return net.ErrClosed
		case <-look.C:
		}
		look.Stop()
		c.mu.Lock()
		end := c.deadline[1]
		if answers {
			end = c.deadline[0]
		}
		c.mu.Unlock()
		if !end.IsZero() && time.Now().After(end) {
			return os.ErrDeadlineExceeded
		}
	}
}

// SetDeadline implements net.Conn.
func (c *wire) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *wire) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline[0] = t
	c.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *wire) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline[1] = t
	c.mu.Unlock()
	return c.Conn.SetWriteDeadline(t)
}

// Close implements net.Conn.
func (c *wire) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		close(c.closed)
		c.net.mu.Lock()
		defer c.net.mu.Unlock()
		delete(c.net.conns[c.link], c)
	})
	return err
}
