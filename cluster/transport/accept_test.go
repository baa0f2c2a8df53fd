package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyraft/keyraft/cluster/ca"
)

// starved is a listener that is out of files for its first accepts.
type starved struct {
	net.Listener
	left, asked atomic.Int64
}

func (s *starved) Accept() (net.Conn, error) {
	s.asked.Add(1)
	if s.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return s.Listener.Accept()
}

func starvedMux(t *testing.T, failures int64) (*Mux, *starved, *ca.Authority) {
	t.Helper()
	a, err := ca.Create("c1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, csr, err := ca.NewRequest("n1")
	if err != nil {
		t.Fatal(err)
	}
	der, err := a.Issue(csr, ca.Identity{ClusterID: "c1", NodeID: "n1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.NodeCertificate(der, key, a.CertDER())
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Certificate: func() (*tls.Certificate, error) { return cert, nil },
		Authorities: func() *x509.CertPool { return x509.NewCertPool() },
		ClusterID:   "c1",
		Check:       func(ca.Identity) error { return nil },
	}
	if err := cfg.complete(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &starved{Listener: l}
	s.left.Store(failures)
	m, err := serve(cfg, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m, s, a
}

func TestAcceptGoesOnAfterRunningOutOfFiles(t *testing.T) {
	t.Parallel()
	m, _, a := starvedMux(t, 5)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	taken := make(chan error, 1)
	go func() {
		c, err := m.Join().Accept()
		if err == nil {
			err = c.Close()
		}
		taken <- err
	}()
	c, err := DialJoin(ctx, m.Addr().String(), a.Fingerprint())
	if err != nil {
		t.Fatalf("after five failed accepts: %v", err)
	}
	_ = c.Close()
	if err := <-taken; err != nil {
		t.Error(err)
	}
}

func TestAcceptPausesAndClosesAtOnce(t *testing.T) {
	t.Parallel()
	m, s, _ := starvedMux(t, 1<<40)
	deadline := time.Now().Add(10 * time.Second)
	for s.asked.Load() < 4 && time.Now().Before(deadline) {
		timer := time.NewTimer(time.Millisecond)
		<-timer.C
	}
	started, asked := time.Now(), s.asked.Load()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(started); d > 900*time.Millisecond {
		t.Errorf("Close waited %s for the pause to end", d)
	}
	// 5, 10, 20, 40 ms …: in the time until Close there is room for few.
	if asked > 12 {
		t.Errorf("accept was called %d times: the loop spins", asked)
	}
}

func TestAddressOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, remote, want string }{
		{"IPv4", "192.0.2.7:1", "192.0.2.7"},
		{"IPv4 in IPv6", "[::ffff:192.0.2.7]:1", "192.0.2.7"},
		{"IPv6 counts by its /64", "[2001:db8:1:2:3:4:5:6]:1", "2001:db8:1:2::"},
		{"a zone does not make a new address", "[fe80::1%eth0]:1", "fe80::"},
	} {
		got := addressOf(remote{addr: address(tt.remote)})
		if got.String() != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

type remote struct {
	net.Conn
	addr net.Addr
}

func (r remote) RemoteAddr() net.Addr { return r.addr }
