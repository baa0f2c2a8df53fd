package transport_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyraft/keyraft/cluster/ca"
	"github.com/keyraft/keyraft/cluster/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wait is the bound of whatever a test waits for.
const wait = 10 * time.Second

// testCluster is an authority and its members.
type testCluster struct {
	id        string
	authority *ca.Authority

	mu      sync.Mutex
	removed map[string]bool
}

func newCluster(t testing.TB, id string) *testCluster {
	t.Helper()
	return newClusterAt(t, id, time.Now())
}

func newClusterAt(t testing.TB, id string, at time.Time) *testCluster {
	t.Helper()
	a, err := ca.Create(id, at)
	if err != nil {
		t.Fatal(err)
	}
	return &testCluster{id: id, authority: a, removed: map[string]bool{}}
}

func (c *testCluster) remove(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removed[node] = true
}

func (c *testCluster) check(id ca.Identity) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed[id.NodeID] {
		return errors.New("it was removed; join again with a new token and an empty data directory")
	}
	return nil
}

func (c *testCluster) pool(t testing.TB) *x509.CertPool {
	t.Helper()
	pool, err := ca.Pool(c.authority.CertDER())
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

func (c *testCluster) certificate(t testing.TB, node string, at time.Time) *tls.Certificate {
	t.Helper()
	key, csr, err := ca.NewRequest(node)
	if err != nil {
		t.Fatal(err)
	}
	der, err := c.authority.Issue(csr, ca.Identity{ClusterID: c.id, NodeID: node}, at)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.NodeCertificate(der, key, c.authority.CertDER())
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (c *testCluster) config(t testing.TB, node string) transport.Config {
	t.Helper()
	cert, pool := c.certificate(t, node, time.Now()), c.pool(t)
	return transport.Config{
		BindAddr:    "127.0.0.1:0",
		Certificate: func() (*tls.Certificate, error) { return cert, nil },
		Authorities: func() *x509.CertPool { return pool },
		ClusterID:   c.id,
		Check:       c.check,
	}
}

func listen(t testing.TB, cfg transport.Config) *transport.Mux {
	t.Helper()
	m, err := transport.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// echo answers on the raft listener of m, so that a dialler that speaks TLS 1.3
// learns whether the server accepted it.
func echo(t testing.TB, l net.Listener) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer func() { _ = c.Close() }()
				b := make([]byte, 1)
				for {
					if _, err := c.Read(b); err != nil {
						return
					}
					if _, err := c.Write(b); err != nil {
						return
					}
				}
			}()
		}
	}()
	t.Cleanup(wg.Wait) // runs after the Mux's own cleanup only when registered before it: see echoing
}

// echoing is a Mux whose raft, gRPC and join listeners echo.
func echoing(t testing.TB, cfg transport.Config) *transport.Mux {
	t.Helper()
	m, err := transport.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g, _ := m.GRPC()
	for _, l := range []net.Listener{m.Raft(), g, m.Join()} {
		echo(t, l)
	}
	t.Cleanup(func() { _ = m.Close() }) // cleanups run last first: Close, then the waits
	return m
}

// spoken says whether one byte comes back over c.
func spoken(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	if _, err := c.Write([]byte{42}); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1))
	return err
}

// dialTLS dials with a client of the test's own making.
func dialTLS(t testing.TB, addr string, cfg *tls.Config) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	d := tls.Dialer{Config: cfg}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return spoken(c)
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(wait)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain: %s", wait, what)
		}
		timer := time.NewTimer(2 * time.Millisecond)
		<-timer.C
	}
}
