// Package transport is the one port on which the nodes of a cluster speak to
// each other: TLS 1.3, and the protocol that the handshake negotiated (ALPN)
// says what follows. "keyraft-raft/1" is raft's stream, "h2" is gRPC,
// "keyraft-join/1" is a node that has no certificate yet. Everything else is
// closed, an empty negotiated protocol too: Go's TLS lets a client that offers
// only http/1.1 through to a server that offers h2, without one.
//
// Peers are checked twice (rule R17): the certificate must come from this
// cluster's authority and name this cluster, and then Config.Check must accept
// the identity in it. Both happen in the handshake, on accepted and on dialled
// connections alike, once more when the connection is entered in the register,
// and on every Recheck, so that a removed member loses the connections that it
// still has.
//
// Before a peer is known it costs little: a handshake has 10 seconds, and one
// address may have only so many connections that are not yet known.
//
// Mux and RaftTransport are safe for concurrent use.
package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/time/rate"

	"github.com/keyraft/keyraft/cluster/ca"
)

// The protocols on the port, as negotiated by ALPN (RFC 7301).
const (
	protoRaft = "keyraft-raft/1"
	protoGRPC = "h2" // grpc-go refuses a TLS peer with any other
	protoJoin = "keyraft-join/1"
)

const (
	defaultHandshake = 10 * time.Second
	defaultPerIP     = 64
	maxUnknown       = 1024             // connections not yet known, of all addresses together
	joinLife         = 30 * time.Second // a joiner that says nothing is gone after this
	maxBackoff       = time.Second      // between two failed accepts, as when files are used up
)

// Peers says whether a peer may speak to this node. It returns nil, or why not:
// not a member, of an older recovery generation, removed. It is called in
// handshakes: it must be quick, must not block and must not call the Mux.
type Peers func(ca.Identity) error

// Config of a Mux. Zero values of the optional fields are usable.
type Config struct {
	// BindAddr is the host:port to listen on; port 0 picks a free one.
	BindAddr string
	// AdvertiseAddr is the host:port by which other nodes reach this one. Empty
	// means BindAddr, which then must name one address. Port 0 means the port
	// that was bound.
	AdvertiseAddr string
	// Certificate gives the node's certificate with the authority's after it
	// (ca.NodeCertificate). It is asked in every handshake, so that a renewed
	// certificate is used without a restart.
	Certificate func() (*tls.Certificate, error)
	// Authorities gives the cluster's authorities (ca.Pool), in every handshake.
	Authorities func() *x509.CertPool
	ClusterID   string
	Check       Peers
	Logger      *slog.Logger // nil: nothing is logged
	// HandshakeTimeout bounds dialling and handshake; 0 means 10 s.
	HandshakeTimeout time.Duration
	// MaxConnsPerIP bounds the connections of one address (one /64 of IPv6) that
	// are in their handshake or are joining; 0 means 64.
	MaxConnsPerIP int
	// Dial opens the connection below TLS; nil means TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Now is the clock by which certificates are valid; nil means time.Now.
	Now func() time.Time
}

// Mux listens on the cluster port and dials other nodes' ports.
type Mux struct {
	cfg       Config
	listener  net.Listener
	advertise address
	warn      *rate.Limiter // strangers must not fill the log

	raft, grpc, join *queue

	wg   sync.WaitGroup // accept loop and handshakes
	done chan struct{}

	mu      sync.Mutex // below: the register; held for no I/O and no callback
	conns   map[*conn]struct{}
	unknown map[netip.Addr]int
	total   int // sum of unknown
	closed  bool
}

// Listen binds the cluster port and serves it until Close.
func Listen(cfg Config) (*Mux, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive()}
	listener, err := lc.Listen(context.Background(), "tcp", cfg.BindAddr)
	if err != nil {
		return nil, fmt.Errorf("listen on the cluster port: %w", err)
	}
	m, err := serve(cfg, listener)
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	return m, nil
}

// keepAlive finds a peer that is gone without a word in 30 s.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}
}

func (c *Config) complete() error {
	switch {
	case c.Certificate == nil:
		return errors.New("transport: Certificate is missing")
	case c.Authorities == nil:
		return errors.New("transport: Authorities is missing")
	case c.Check == nil:
		return errors.New("transport: Check is missing; without it every certificate of the cluster would be accepted, removed nodes' too")
	}
	if err := ca.ValidID(c.ClusterID); err != nil {
		return fmt.Errorf("transport: cluster id: %w", err)
	}
	cert, err := c.Certificate()
	if err != nil {
		return fmt.Errorf("transport: the node's certificate: %w", err)
	}
	if len(cert.Certificate) < 2 {
		return errors.New("transport: the node's certificate comes without its authority's; a joining node could not verify it")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.HandshakeTimeout <= 0 {
		c.HandshakeTimeout = defaultHandshake
	}
	if c.MaxConnsPerIP <= 0 {
		c.MaxConnsPerIP = defaultPerIP
	}
	if c.Dial == nil {
		dialer := &net.Dialer{KeepAliveConfig: keepAlive()}
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// serve runs the accept loop on a listener that is already bound.
func serve(cfg Config, listener net.Listener) (*Mux, error) {
	advertise, err := advertised(cfg.AdvertiseAddr, listener.Addr().String())
	if err != nil {
		return nil, err
	}
	m := &Mux{
		cfg: cfg, listener: listener, advertise: advertise,
		warn: rate.NewLimiter(5, 20),
		raft: newQueue(advertise), grpc: newQueue(advertise), join: newQueue(advertise),
		done:  make(chan struct{}),
		conns: make(map[*conn]struct{}), unknown: make(map[netip.Addr]int),
	}
	m.wg.Add(1)
	go m.accept()
	return m, nil
}

// advertised works out the address that other nodes are told.
func advertised(want, bound string) (address, error) {
	boundHost, boundPort, err := net.SplitHostPort(bound)
	if err != nil {
		return "", fmt.Errorf("the bound address %q: %w", bound, err)
	}
	if want == "" {
		if ip, err := netip.ParseAddr(boundHost); err == nil && ip.IsUnspecified() {
			return "", fmt.Errorf("the cluster port is bound to %s, which other nodes can't dial; set the advertised address", bound)
		}
		return address(bound), nil
	}
	host, port, err := net.SplitHostPort(want)
	if err != nil || host == "" {
		return "", fmt.Errorf("the advertised address %q is not host:port", want)
	}
	if port == "0" {
		port = boundPort
	}
	return address(net.JoinHostPort(host, port)), nil
}

// Addr is the advertised address: by it this node is known to the others.
func (m *Mux) Addr() net.Addr { return m.advertise }

// Raft is the stream layer for NewRaft. Its Addr is the advertised one.
func (m *Mux) Raft() raft.StreamLayer { return raftLayer{m.raft, m} }

// Join listens for nodes that have no certificate yet. Its connections are
// encrypted, and the joiner has verified this node, but this node knows nothing
// of the joiner. They end 30 s after their handshake, unless the one who
// accepts them sets another deadline, and until closed count for MaxConnsPerIP.
func (m *Mux) Join() net.Listener { return m.join }

// Recheck closes the connections of peers that would be refused today: because
// Check says so, or because the certificate has run out or its authority is
// gone. Call it after every change of membership, and now and then.
func (m *Mux) Recheck() {
	for _, c := range m.known() {
		if err := m.verify(c.ConnectionState(), c.usage, ""); err != nil {
			m.cfg.Logger.Warn("closing the connection of a peer that is no longer accepted",
				"peer", c.peer.NodeID, "addr", c.RemoteAddr().String(), "reason", err)
			c.abort()
		}
	}
}

// Close stops listening, closes every connection, accepted and dialled, and
// waits until the handshakes have ended. Safe to call again.
func (m *Mux) Close() error {
	m.mu.Lock()
	first := !m.closed
	m.closed = true
	conns := make([]*conn, 0, len(m.conns))
	for c := range m.conns {
		conns = append(conns, c)
	}
	m.mu.Unlock()
	var err error
	if first {
		close(m.done)
		err = m.listener.Close()
		for _, q := range []*queue{m.raft, m.grpc, m.join} {
			_ = q.Close()
		}
	}
	for _, c := range conns {
		c.abort()
	}
	m.wg.Wait()
	return err
}

// accept owns the listener. A failed accept (out of files, above all) is tried
// again after a pause that doubles up to a second: leaving the loop would make
// the node deaf for ever, and going on at once would burn a core.
func (m *Mux) accept() {
	defer m.wg.Done()
	var pause time.Duration
	for {
		raw, err := m.listener.Accept()
		if err == nil {
			pause = 0
			m.begin(raw)
			continue
		}
		select {
		case <-m.done:
			return
		default:
		}
		pause = min(max(2*pause, 5*time.Millisecond), maxBackoff)
		m.warned("accepting on the cluster port failed", "err", err, "again_in", pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-m.done:
			timer.Stop()
			return
		}
	}
}

// begin starts the handshake of one accepted connection, if its address has
// not too many already.
func (m *Mux) begin(raw net.Conn) {
	c := &conn{Conn: tls.Server(raw, m.serverConfig()), mux: m, usage: x509.ExtKeyUsageClientAuth, slot: addressOf(raw)}
	if err := m.enter(c); err != nil {
		_ = raw.Close()
		m.warned("refused a connection on the cluster port", "addr", raw.RemoteAddr().String(), "reason", err)
		return
	}
	m.wg.Add(1)
	go m.handshake(c)
}

// handshake brings one accepted connection to who waits for its protocol.
func (m *Mux) handshake(c *conn) {
	defer m.wg.Done()
	ctx, cancel := context.WithTimeout(context.Background(), m.cfg.HandshakeTimeout)
	defer cancel()
	err := c.HandshakeContext(ctx)
	var to *queue
	if err == nil {
		to, err = m.route(c)
	}
	if err != nil {
		c.abort()
		m.warned("refused a connection on the cluster port", "addr", c.RemoteAddr().String(), "reason", err)
		return
	}
	if !to.deliver(ctx, c) {
		c.abort()
		m.warned("nobody took a connection on the cluster port in time; is this node still starting?", "addr", c.RemoteAddr().String())
	}
}

func (m *Mux) route(c *conn) (*queue, error) {
	switch proto := c.ConnectionState().NegotiatedProtocol; proto {
	case protoRaft:
		return m.raft, m.admit(c)
	case protoGRPC:
		return m.grpc, m.admit(c)
	case protoJoin:
		return m.join, c.SetDeadline(time.Now().Add(joinLife))
	default:
		return nil, fmt.Errorf("negotiated protocol %q is none of this port's", proto)
	}
}

func (m *Mux) warned(msg string, args ...any) {
	if m.warn.Allow() {
		m.cfg.Logger.Warn(msg, args...)
	}
}
