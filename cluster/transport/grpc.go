package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"

	"github.com/keyraft/keyraft/cluster/ca"
)

// MaxMessage bounds one gRPC message in bytes, in both directions: a batch of
// forwarded commands is far smaller.
const MaxMessage = 16 << 20

// A dead peer is found by gRPC after 10 s without a sign plus 5 s without an
// answer, streams open or not.
const (
	pingEvery   = 10 * time.Second
	pingTimeout = 5 * time.Second
)

// GRPC is what a grpc.Server needs to serve this port: the listener, whose
// connections are already verified, and the credentials for grpc.Creds, which
// tell the server who the peer is. Use GRPCOptions too.
func (m *Mux) GRPC() (net.Listener, credentials.TransportCredentials) { return m.grpc, finished{} }

// GRPCOptions are the limits of a server on this port.
func GRPCOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.MaxConcurrentStreams(1024),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(defaultHandshake),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingEvery, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery / 2, PermitWithoutStream: true}),
	}
}

// PeerIdentity is who called, in a handler of a server on this port: the
// identity in the verified certificate, never anything from metadata.
func PeerIdentity(ctx context.Context) (ca.Identity, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ca.Identity{}, errors.New("the call has no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return ca.Identity{}, errors.New("the call did not come over the cluster port")
	}
	return ca.IdentityOf(info.State.PeerCertificates[0])
}

// DialGRPC makes a client for the node nodeID at addr. It connects when it is
// first used and again when the connection is lost; each time the certificate
// must name nodeID and Check must accept it. Nothing is retried: an idempotency
// key decides what may be. The caller closes it.
func (m *Mux) DialGRPC(addr, nodeID string) (*grpc.ClientConn, error) {
	if err := ca.ValidID(nodeID); err != nil {
		return nil, fmt.Errorf("dial %s: node id: %w", addr, err)
	}
	client, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := m.dial(ctx, addr, protoGRPC, nodeID)
			if err != nil {
				return nil, err // not the nil *conn, which would be a net.Conn that is not nil
			}
			return c, nil
		}),
		grpc.WithTransportCredentials(finished{}),
		grpc.WithAuthority(ca.DNSName(nodeID)),
		grpc.WithNoProxy(),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithMaxHeaderListSize(16<<10),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTimeout, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			// A leader that comes back must be found within an election, not after minutes.
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: m.cfg.HandshakeTimeout,
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("make a client for node %q at %s: %w", nodeID, addr, err)
	}
	return client, nil
}

// finished tells gRPC of a handshake that the Mux has already done, on either
// side. It refuses any other connection.
type finished struct{}

func (finished) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := raw.(*conn)
	if !ok {
		return nil, nil, fmt.Errorf("a %T did not come through the cluster port", raw)
	}
	return c, credentials.TLSInfo{
		State:          c.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

func (f finished) ClientHandshake(_ context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return f.ServerHandshake(raw)
}

func (finished) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (f finished) Clone() credentials.TransportCredentials { return f }

func (finished) OverrideServerName(string) error { return nil }
