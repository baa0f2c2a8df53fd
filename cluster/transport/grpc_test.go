package transport_test

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/keyraft/keyraft/cluster/ca"
	"github.com/keyraft/keyraft/cluster/transport"
)

// whoami answers a health check with the caller's identity.
type whoami struct {
	grpc_health_v1.UnimplementedHealthServer
	seen chan ca.Identity
}

func (w *whoami) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	id, err := transport.PeerIdentity(ctx)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	w.seen <- id
	return &grpc_health_v1.HealthCheckResponse{}, nil
}

func serveGRPC(t *testing.T, cfg transport.Config) (*transport.Mux, *whoami) {
	t.Helper()
	m := listen(t, cfg)
	l, creds := m.GRPC()
	w := &whoami{seen: make(chan ca.Identity, 4)}
	server := grpc.NewServer(append(transport.GRPCOptions(), grpc.Creds(creds))...)
	grpc_health_v1.RegisterHealthServer(server, w)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop() // hangs when the listener's Accept does not end on its own Close
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return m, w
}

func call(t *testing.T, m *transport.Mux, addr, node string) error {
	t.Helper()
	client, err := m.DialGRPC(addr, node)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	_, err = grpc_health_v1.NewHealthClient(client).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return err
}

func TestGRPCSeesThePeer(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, "c1")
	server, w := serveGRPC(t, cluster.config(t, "n1"))
	client := listen(t, cluster.config(t, "n2"))
	if err := call(t, client, server.Addr().String(), "n1"); err != nil {
		t.Fatal(err)
	}
	if id := <-w.seen; id.NodeID != "n2" || id.ClusterID != "c1" || id.Serial == "" {
		t.Errorf("the handler saw %+v", id)
	}
}

func TestGRPCRefuses(t *testing.T) {
	t.Parallel()
	cluster, other := newCluster(t, "c1"), newCluster(t, "c1")
	server, w := serveGRPC(t, cluster.config(t, "n1"))
	client := listen(t, cluster.config(t, "n2"))
	stranger := listen(t, other.config(t, "n2"))
	cluster.remove("gone")
	gone := listen(t, cluster.config(t, "gone"))
	addr := server.Addr().String()
	for name, err := range map[string]error{
		"an address where another node answers": call(t, client, addr, "n3"),
		"a stranger":                            call(t, stranger, addr, "n1"),
		"a removed member":                      call(t, gone, addr, "n1"),
	} {
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v, want unavailable", name, err)
		}
	}
	if len(w.seen) != 0 {
		t.Error("a refused call reached the handler")
	}
	if _, err := client.DialGRPC(addr, ""); err == nil {
		t.Error("a client that names no node is accepted")
	}
}

func TestGRPCMessageLimit(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, "c1")
	server, w := serveGRPC(t, cluster.config(t, "n1"))
	client, err := listen(t, cluster.config(t, "n2")).DialGRPC(server.Addr().String(), "n1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	huge := &grpc_health_v1.HealthCheckRequest{Service: string(make([]byte, transport.MaxMessage+1))}
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	// The sender's own limit is lifted, so that the receiver's is what refuses.
	_, err = grpc_health_v1.NewHealthClient(client).Check(ctx, huge, grpc.MaxCallSendMsgSize(1<<30))
	if status.Code(err) != codes.ResourceExhausted || len(w.seen) != 0 {
		t.Errorf("a message above the limit: %v", err)
	}
}

func TestPeerIdentityNeedsThisPort(t *testing.T) {
	t.Parallel()
	if id, err := transport.PeerIdentity(t.Context()); err == nil {
		t.Errorf("a call without a peer is %v", id)
	}
	_, creds := listen(t, newCluster(t, "c1").config(t, "n1")).GRPC()
	a, b := net.Pipe()
	defer func() { _, _ = a.Close(), b.Close() }()
	if _, _, err := creds.ServerHandshake(a); err == nil {
		t.Error("a connection that did not come through the port is taken for a verified one")
	}
}
