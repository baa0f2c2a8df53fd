package cluster

import (
	"sync"

	"google.golang.org/grpc"

	"github.com/keyraft/keyraft/cluster/peer"
	"github.com/keyraft/keyraft/cluster/transport"
)

// peers keeps one gRPC connection to each node that this one has asked.
type peers struct {
	mux *transport.Mux

	mu     sync.Mutex
	conns  map[string]*peerConn // by node id
	closed bool
}

type peerConn struct {
	addr   string
	conn   *grpc.ClientConn
	client peer.PeerClient
}

func newPeers(mux *transport.Mux) *peers { return &peers{mux: mux, conns: map[string]*peerConn{}} }

// client returns the connection to a node; it connects when it is first used.
func (p *peers) client(id, addr string) (peer.PeerClient, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errStopped
	}
	if c := p.conns[id]; c != nil {
		if c.addr == addr {
			return c.client, nil
		}
		_ = c.conn.Close() // it has moved
	}
	conn, err := p.mux.DialGRPC(addr, id)
	if err != nil {
		return nil, err
	}
	c := &peerConn{addr: addr, conn: conn, client: peer.NewPeerClient(conn)}
	p.conns[id] = c
	return c.client, nil
}

// forget closes the connection to a node that is no member any more.
func (p *peers) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.conns[id]; c != nil {
		_ = c.conn.Close()
		delete(p.conns, id)
	}
}

func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for id, c := range p.conns {
		_ = c.conn.Close()
		delete(p.conns, id)
	}
}
