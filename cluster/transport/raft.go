package transport

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// raftLayer is the raft side of a Mux.
type raftLayer struct {
	*queue
	mux *Mux
}

// Dial opens a raft stream to the node at addr. Raft knows addresses only, so
// any member may answer: Check decides.
func (l raftLayer) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if timeout <= 0 {
		timeout = l.mux.cfg.HandshakeTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := l.mux.dial(ctx, string(addr), protoRaft, "")
	if err != nil {
		return nil, err // not the nil *conn, which would be a net.Conn that is not nil
	}
	return c, nil
}

// Close ends Accept and closes raft's streams, accepted and dialled: the
// transport's own Close leaves those that it is reading from open.
func (l raftLayer) Close() error {
	err := l.queue.Close()
	for _, c := range l.mux.known() {
		if c.ConnectionState().NegotiatedProtocol == protoRaft {
			c.abort()
		}
	}
	return err
}

// RaftConfig of NewRaft. The zero value is usable.
type RaftConfig struct {
	Logger hclog.Logger // nil: nothing is logged
	// MaxPool is how many idle connections are kept to each peer; 0 means 3.
	MaxPool int
	// Timeout bounds each exchange, that of a snapshot in proportion to its
	// size; 0 means 10 s.
	Timeout time.Duration
	// MaxInFlight is how many appends may be under way to one follower; 0 means
	// 2, the library's own advice.
	MaxInFlight int
	// Addresses, when set, turns a server id into its present address.
	Addresses raft.ServerAddressProvider
}

// RaftTransport is raft's network transport without the fast path for
// heartbeats (rule R1). That path would set term and state beside the main loop
// (hashicorp/raft #695), so that a deposed leader could store an entry under
// its successor's term. Here heartbeats wait in Consumer's channel like every
// other message.
//
// The library bounds no message: a peer that is a member may send as much as it
// delivers. Its decoder takes memory only as the bytes arrive.
//
// One exception keeps a big restore from costing the leader its lease: while the
// main loop installs a snapshot, and so can't answer, the same leader's heartbeats
// of the same term are answered here. That reads and sets nothing: the loop can
// neither vote nor follow anybody else meanwhile (busy.go).
type RaftTransport struct {
	// The concrete type is embedded, so that the optional interfaces that raft
	// looks for stay: it turns pre-vote off, without a word, when they don't.
	*raft.NetworkTransport

	out        chan raft.RPC // to raft's main loop
	installing atomic.Pointer[install]
	done       chan struct{}
	closing    sync.Once
	wg         sync.WaitGroup
}

var (
	_ raft.Transport   = (*RaftTransport)(nil)
	_ raft.WithPreVote = (*RaftTransport)(nil)
	_ raft.WithClose   = (*RaftTransport)(nil)
)

// NewRaft makes the transport on a Mux's stream layer, which it closes in Close.
func NewRaft(layer raft.StreamLayer, cfg RaftConfig) (*RaftTransport, error) {
	if layer == nil {
		return nil, errors.New("raft transport: the stream layer is missing")
	}
	if cfg.MaxPool < 0 || cfg.MaxPool > 64 {
		return nil, errors.New("raft transport: MaxPool must be from 1 to 64")
	}
	if cfg.MaxPool == 0 {
		cfg.MaxPool = 3
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	t := &RaftTransport{out: make(chan raft.RPC), done: make(chan struct{}), NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		ServerAddressProvider:   cfg.Addresses,
		Logger:                  cfg.Logger,
		Stream:                  layer,
		MaxPool:                 cfg.MaxPool,
		MaxRPCsInFlight:         cfg.MaxInFlight,
		Timeout:                 cfg.Timeout,
		MsgpackUseNewTimeFormat: true,
	})}
	t.wg.Go(t.pump)
	return t, nil
}

// SetHeartbeatHandler does nothing, on purpose: see RaftTransport.
func (*RaftTransport) SetHeartbeatHandler(func(raft.RPC)) {}
