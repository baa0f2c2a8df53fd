package gossip

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// bindTries: a picked port may be free for TCP and taken for UDP.
const bindTries = 10

// network is memberlist's own transport, but what it has dialled ends with it:
// else Close would wait for a member that does not answer.
type network struct {
	*memberlist.NetTransport
	dial   func(addr string, timeout time.Duration) (net.Conn, error)
	cancel context.CancelFunc // ends the dials that are under way

	mu     sync.Mutex
	conns  map[*dialled]struct{}
	closed bool
}

var _ memberlist.NodeAwareTransport = (*network)(nil)

func newNetwork(ip netip.Addr, port int, logger *log.Logger) (*network, error) {
	tries := 1
	if port == 0 {
		tries = bindTries
	}
	var inner *memberlist.NetTransport
	var err error
	for range tries {
		inner, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{ip.String()}, BindPort: port, Logger: logger})
		if err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listen for gossip: %w", err)
	}
	life, cancel := context.WithCancel(context.Background())
	return &network{
		NetTransport: inner, cancel: cancel, conns: make(map[*dialled]struct{}),
		dial: func(addr string, timeout time.Duration) (net.Conn, error) {
			ctx, stop := context.WithTimeout(life, timeout)
			defer stop()
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		},
	}, nil
}

// DialTimeout is memberlist.Transport.
func (n *network) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	c, err := n.dial(addr, timeout)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		_ = c.Close()
		return nil, ErrClosed
	}
	d := &dialled{Conn: c, of: n}
	n.conns[d] = struct{}{}
	return d, nil
}

// DialAddressTimeout is memberlist.NodeAwareTransport.
func (n *network) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return n.DialTimeout(a.Addr, timeout)
}

// Shutdown is memberlist.Transport. Safe to call again.
func (n *network) Shutdown() error {
	n.cancel()
	n.mu.Lock()
	n.closed = true
	for d := range n.conns {
		_ = d.Conn.Close()
	}
	clear(n.conns)
	n.mu.Unlock()
	return n.NetTransport.Shutdown()
}

// dialled forgets itself when it is closed.
type dialled struct {
	net.Conn
	of *network
}

func (d *dialled) Close() error {
	d.of.mu.Lock()
	delete(d.of.conns, d)
	d.of.mu.Unlock()
	return d.Conn.Close()
}
