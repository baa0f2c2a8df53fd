package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/keyraft/keyraft/cluster/ca"
)

// conn is one TLS connection in the register, from before its handshake until
// it is closed, by either side of this program.
type conn struct {
	*tls.Conn
	mux   *Mux
	usage x509.ExtKeyUsage // what the peer's certificate is used for

	// Below: guarded by mux.mu until known is set, then constant but for slot.
	known bool        // the peer has shown a certificate and was accepted
	peer  ca.Identity // of a known peer
	slot  netip.Addr  // counts in mux.unknown while valid
}

// Close ends the connection with TLS's own farewell.
func (c *conn) Close() error {
	c.mux.leave(c)
	return c.Conn.Close()
}

// abort ends the connection at once: no farewell, which could block on a dead
// peer.
func (c *conn) abort() {
	c.mux.leave(c)
	_ = c.NetConn().Close()
}

// enter puts c into the register, and counts it for its address if it has one.
func (m *Mux) enter(c *conn) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return fmt.Errorf("the cluster port is closed: %w", net.ErrClosed)
	}
	if c.slot.IsValid() {
		if m.unknown[c.slot] >= m.cfg.MaxConnsPerIP {
			return fmt.Errorf("%d connections of this address are still in their handshake", m.unknown[c.slot])
		}
		if m.total >= maxUnknown {
			return fmt.Errorf("%d connections are still in their handshake", m.total)
		}
		m.unknown[c.slot]++
		m.total++
	}
	m.conns[c] = struct{}{}
	return nil
}

// admit marks c as that of a known peer. Check is asked once more after c can
// be found by Recheck: a member removed during its handshake must not slip
// between the two.
func (m *Mux) admit(c *conn) error {
	state := c.ConnectionState()
	if len(state.PeerCertificates) == 0 {
		return errors.New("the peer showed no certificate")
	}
	peer, err := ca.IdentityOf(state.PeerCertificates[0])
	if err != nil {
		return err
	}
	m.mu.Lock()
	c.peer, c.known = peer, true
	m.free(c)
	m.mu.Unlock()
	return m.cfg.Check(peer)
}

// known copies out the connections whose peer was accepted.
func (m *Mux) known() []*conn {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := make([]*conn, 0, len(m.conns))
	for c := range m.conns {
		if c.known {
			known = append(known, c)
		}
	}
	return known
}

func (m *Mux) leave(c *conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.conns, c)
	m.free(c)
}

// free gives back what c counts for its address; m.mu is held.
func (m *Mux) free(c *conn) {
	if !c.slot.IsValid() {
		return
	}
	m.total--
	if m.unknown[c.slot]--; m.unknown[c.slot] == 0 {
		delete(m.unknown, c.slot)
	}
	c.slot = netip.Addr{}
}

// addressOf is what connections are counted by: the IPv4 address, or the /64
// that one holder of IPv6 addresses has.
func addressOf(raw net.Conn) netip.Addr {
	at, err := netip.ParseAddrPort(raw.RemoteAddr().String())
	if err != nil {
		return netip.IPv6Unspecified() // a test's pipe: all count together
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return ip
}

// queue is an in-memory listener for connections whose handshake is done.
type queue struct {
	addr  net.Addr
	conns chan net.Conn // unbuffered: a connection is with the sender or with the taker
	done  chan struct{}
	once  sync.Once
}

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

// Accept waits for a connection, or for this listener's own Close: who serves
// it (grpc.Server.Stop) waits for that end.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case <-q.done: // looked at first: select picks at random
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept; connections that were taken live on.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

func (q *queue) Addr() net.Addr { return q.addr }

// deliver waits for a taker, at most until ctx ends.
func (q *queue) deliver(ctx context.Context, c net.Conn) bool {
	select {
	case q.conns <- c:
		return true
	case <-q.done:
		return false
	case <-ctx.Done():
		return false
	}
}

// address is host:port as configured, not resolved: raft compares it.
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }
