package transport_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/keyraft/keyraft/cluster/ca"
	"github.com/keyraft/keyraft/cluster/transport"
)

// selfSigned is a certificate with a member's names, signed by itself.
func selfSigned(t *testing.T, names *url.URL) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "n2"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{names}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestAccept is the table of row CLU-03: who may speak on the raft and gRPC
// protocols, and who may not.
func TestAccept(t *testing.T) {
	t.Parallel()
	cluster := newClusterAt(t, "c1", time.Now().Add(-200*24*time.Hour))
	// Same product, same cluster id even, another authority.
	other, twin := newCluster(t, "c2"), newCluster(t, "c1")
	cluster.remove("gone")
	m := echoing(t, cluster.config(t, "n1"))

	member := cluster.certificate(t, "n2", time.Now())
	expired := cluster.certificate(t, "n2", time.Now().Add(-100*24*time.Hour))
	client := func(cert *tls.Certificate, protos ...string) *tls.Config {
		c := &tls.Config{InsecureSkipVerify: true, NextProtos: protos}
		if cert != nil {
			c.Certificates = []tls.Certificate{*cert}
		}
		return c
	}
	tls12 := client(member, "keyraft-raft/1")
	tls12.MaxVersion = tls.VersionTLS12
	name := &url.URL{Scheme: "keyraft", Host: "c1", Path: "/0/n2"}
	tests := []struct {
		name string
		cfg  *tls.Config
		ok   bool
	}{
		{"a member on the raft protocol", client(member, "keyraft-raft/1"), true},
		{"a member on gRPC", client(member, "h2"), true},
		{"a certificate of another cluster", client(other.certificate(t, "n2", time.Now()), "keyraft-raft/1"), false},
		{"another authority with this cluster's id", client(twin.certificate(t, "n2", time.Now()), "keyraft-raft/1"), false},
		{"a removed member", client(cluster.certificate(t, "gone", time.Now()), "keyraft-raft/1"), false},
		{"a removed member on gRPC", client(cluster.certificate(t, "gone", time.Now()), "h2"), false},
		{"an expired certificate", client(expired, "keyraft-raft/1"), false},
		{"a self-signed certificate with a member's names", client(selfSigned(t, name), "keyraft-raft/1"), false},
		{"no certificate", client(nil, "keyraft-raft/1"), false},
		{"no certificate on gRPC", client(nil, "h2"), false},
		{"TLS 1.2", tls12, false},
		{"an unknown protocol", client(member, "keyraft-raft/2"), false},
		{"only http/1.1, which Go lets through to h2", client(member, "http/1.1"), false},
		{"no protocol at all", client(member), false},
		{"join and raft offered together without a certificate", client(nil, "keyraft-join/1", "keyraft-raft/1"), false},
		{"join offered after h2 without a certificate", client(nil, "h2", "keyraft-join/1"), false},
		{"join alone without a certificate", client(nil, "keyraft-join/1"), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := dialTLS(t, m.Addr().String(), tt.cfg)
			if tt.ok && err != nil {
				t.Errorf("refused: %v", err)
			}
			if !tt.ok && err == nil {
				t.Error("accepted")
			}
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("left waiting in place of a refusal: %v", err)
			}
		})
	}
}

// TestTheClusterIDCounts: an authority is trusted that also signed for another
// cluster's name, as when two clusters' files were mixed.
func TestTheClusterIDCounts(t *testing.T) {
	t.Parallel()
	cluster, other := newCluster(t, "c1"), newCluster(t, "c2")
	cfg := cluster.config(t, "n1")
	both, err := ca.Pool(cluster.authority.CertDER(), other.authority.CertDER())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Authorities = func() *x509.CertPool { return both }
	m := echoing(t, cfg)
	client := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"keyraft-raft/1"},
		Certificates: []tls.Certificate{*other.certificate(t, "n2", time.Now())}}
	if err := dialTLS(t, m.Addr().String(), client); err == nil {
		t.Error("a member of another cluster is accepted")
	}
	c, err := m.Raft().Dial(raft.ServerAddress(echoing(t, other.config(t, "n2")).Addr().String()), wait)
	if err == nil {
		_ = c.Close()
		t.Error("a server of another cluster is accepted")
	}
}

// TestExpiry: a member's own certificate ends while the node runs.
func TestExpiry(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, "c1")
	var ahead atomic.Int64
	cfg := cluster.config(t, "n1")
	cfg.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	m := echoing(t, cfg)
	client := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"keyraft-raft/1"},
		Certificates: []tls.Certificate{*cluster.certificate(t, "n2", time.Now())}}
	if err := dialTLS(t, m.Addr().String(), client); err != nil {
		t.Fatalf("before its end: %v", err)
	}
	ahead.Store(int64(ca.NodeLifetime + time.Minute))
	if err := dialTLS(t, m.Addr().String(), client); err == nil {
		t.Error("accepted after its end")
	}
}

func TestNoResumption(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, "c1")
	m := echoing(t, cluster.config(t, "n1"))
	cache := &countingCache{ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"keyraft-raft/1"}, ServerName: "x",
		Certificates: []tls.Certificate{*cluster.certificate(t, "n2", time.Now())}, ClientSessionCache: cache}
	for range 2 {
		if err := dialTLS(t, m.Addr().String(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	if n := cache.puts.Load(); n != 0 {
		t.Errorf("the server gave %d session tickets, want none", n)
	}
	if cache.gets.Load() == 0 {
		t.Error("the client never looked for a session: this test proves nothing")
	}
}

type countingCache struct {
	tls.ClientSessionCache
	gets, puts atomic.Int64
}

func (c *countingCache) Get(key string) (*tls.ClientSessionState, bool) {
	c.gets.Add(1)
	return c.ClientSessionCache.Get(key)
}

func (c *countingCache) Put(key string, s *tls.ClientSessionState) {
	if s != nil {
		c.puts.Add(1)
	}
	c.ClientSessionCache.Put(key, s)
}

// TestDialChecksTheServer: the same judgement on the dialling side.
func TestDialChecksTheServer(t *testing.T) {
	t.Parallel()
	cluster, other, twin := newCluster(t, "c1"), newCluster(t, "c2"), newCluster(t, "c1")
	me := listen(t, cluster.config(t, "n1"))
	good := echoing(t, cluster.config(t, "n2"))
	foreign := echoing(t, other.config(t, "n2"))
	double := echoing(t, twin.config(t, "n2"))
	gone := echoing(t, cluster.config(t, "gone"))
	cluster.remove("gone")

	dial := func(m *transport.Mux) error {
		c, err := me.Raft().Dial(raft.ServerAddress(m.Addr().String()), wait)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		return spoken(c)
	}
	if err := dial(good); err != nil {
		t.Errorf("a member: %v", err)
	}
	for name, m := range map[string]*transport.Mux{"another cluster": foreign, "another authority": double, "a removed member": gone} {
		if err := dial(m); err == nil || !strings.Contains(err.Error(), "handshake") {
			t.Errorf("%s: error %v, want a refusal in the handshake", name, err)
		}
	}
}

func TestCertificateIsRenewedWithoutARestart(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, "c1")
	cfg := cluster.config(t, "n1")
	var present atomic.Pointer[tls.Certificate]
	present.Store(cluster.certificate(t, "n1", time.Now()))
	cfg.Certificate = func() (*tls.Certificate, error) { return present.Load(), nil }
	m := echoing(t, cfg)
	shown := func() string {
		c, err := transport.DialJoin(t.Context(), m.Addr().String(), cluster.authority.Fingerprint())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		return c.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := shown()
	present.Store(cluster.certificate(t, "n1", time.Now()))
	if after := shown(); after == before || after != present.Load().Leaf.SerialNumber.String() {
		t.Errorf("serial %s after the renewal, %s before", after, before)
	}
}

func TestRecheckClosesWhatIsNowRefused(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, "c1")
	m := echoing(t, cluster.config(t, "n1"))
	conns := map[string]net.Conn{}
	for _, node := range []string{"n2", "n3"} {
		peer := listen(t, cluster.config(t, node))
		c, err := peer.Raft().Dial(raft.ServerAddress(m.Addr().String()), wait)
		if err != nil {
			t.Fatal(err)
		}
		if err := spoken(c); err != nil {
			t.Fatalf("%s before: %v", node, err)
		}
		conns[node] = c
	}
	m.Recheck()
	for node, c := range conns {
		if err := spoken(c); err != nil {
			t.Errorf("a recheck without a change closed %s: %v", node, err)
		}
	}
	cluster.remove("n2")
	m.Recheck()
	if err := spoken(conns["n2"]); err == nil {
		t.Error("the removed member still speaks on its old connection")
	}
	if err := spoken(conns["n3"]); err != nil {
		t.Errorf("the other member lost its connection: %v", err)
	}
}

// TestRecheckClosesDialled: the removed one may also be who was dialled.
func TestRecheckClosesDialled(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, "c1")
	me, peer := listen(t, cluster.config(t, "n1")), echoing(t, cluster.config(t, "n2"))
	c, err := me.Raft().Dial(raft.ServerAddress(peer.Addr().String()), wait)
	if err != nil {
		t.Fatal(err)
	}
	if err := spoken(c); err != nil {
		t.Fatal(err)
	}
	cluster.remove("n2")
	me.Recheck()
	if err := spoken(c); err == nil {
		t.Error("a dialled connection outlived its peer's removal")
	}
}

// TestRemovedDuringHandshake: the removal falls between the check in the
// handshake and the register. The check after it must see it.
func TestRemovedDuringHandshake(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, "c1")
	var asked atomic.Int64
	cfg := cluster.config(t, "n1")
	cfg.Check = func(ca.Identity) error {
		if asked.Add(1) > 1 {
			return errors.New("removed meanwhile")
		}
		return nil
	}
	m := echoing(t, cfg)
	peer := listen(t, cluster.config(t, "n2"))
	c, err := peer.Raft().Dial(raft.ServerAddress(m.Addr().String()), wait)
	if err == nil {
		err = spoken(c)
	}
	if err == nil {
		t.Error("a peer that was removed during its handshake speaks")
	}
}

func TestJoin(t *testing.T) {
	t.Parallel()
	cluster, other := newCluster(t, "c1"), newCluster(t, "c1")
	m := echoing(t, cluster.config(t, "n1"))
	c, err := transport.DialJoin(t.Context(), m.Addr().String(), cluster.authority.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := spoken(c); err != nil {
		t.Fatal(err)
	}
	shown := c.(*tls.Conn).ConnectionState().PeerCertificates
	if len(shown) != 2 || string(shown[1].Raw) != string(cluster.authority.CertDER()) {
		t.Error("the joiner was not shown the authority that it pinned")
	}
	for name, pin := range map[string][32]byte{
		"the fingerprint of another authority":         other.authority.Fingerprint(),
		"no fingerprint":                               {},
		"the fingerprint of the node's own, not of CA": sum(shown[0].Raw),
	} {
		if _, err := transport.DialJoin(t.Context(), m.Addr().String(), pin); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func sum(der []byte) [32]byte { return sha256.Sum256(der) }

// TestIdleAndGarbage is row CLU-04 before TLS.
func TestIdleAndGarbage(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, "c1")
	cfg := cluster.config(t, "n1")
	cfg.HandshakeTimeout = 300 * time.Millisecond
	cfg.MaxConnsPerIP = 8
	m := echoing(t, cfg)
	addr := m.Addr().String()
	for name, first := range map[string][]byte{
		"nothing":              nil,
		"raw bytes":            []byte("GET / HTTP/1.1\r\n\r\n"),
		"half a record":        {22, 3, 1, 2, 0, 1},
		"a 64 kB record":       {22, 3, 1, 0xff, 0xff},
		"zeros":                make([]byte, 4096),
		"an alert":             {21, 3, 3, 0, 2, 2, 40},
		"raft without the TLS": {0, 0xdd, 0xff, 0xff, 0xff, 0xff},
	} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(first); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("%s: the connection was left open", name)
			}
		}
		_ = c.Close()
	}

	// One address fills its share; the next connection is closed at once, and
	// when the idle ones have run out, members come in again.
	cfg.HandshakeTimeout = 3 * time.Second
	m = echoing(t, cfg)
	addr = m.Addr().String()
	var closed atomic.Int64
	var wg sync.WaitGroup
	started := time.Now()
	for range 40 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(wait))
			_, _ = c.Read(make([]byte, 1))
			if time.Since(started) < 2*time.Second {
				closed.Add(1)
			}
		})
	}
	wg.Wait()
	if got := closed.Load(); got != 32 {
		t.Errorf("%d of 40 idle connections were closed at once, want the 32 above the limit of 8", got)
	}
	peer := listen(t, cluster.config(t, "n2"))
	eventually(t, "a member comes in after the idle ones have run out", func() bool {
		c, err := peer.Raft().Dial(raft.ServerAddress(addr), wait)
		if err != nil {
			return false
		}
		defer func() { _ = c.Close() }()
		return spoken(c) == nil
	})
}

// TestMembersDontCount: known peers may have more connections than the limit
// for strangers; joiners may not.
func TestMembersDontCount(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, "c1")
	cfg := cluster.config(t, "n1")
	cfg.MaxConnsPerIP = 2
	m := echoing(t, cfg)
	peer := listen(t, cluster.config(t, "n2"))
	for i := range 6 {
		c, err := peer.Raft().Dial(raft.ServerAddress(m.Addr().String()), wait)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if err := spoken(c); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	join := func() (net.Conn, error) {
		c, err := transport.DialJoin(t.Context(), m.Addr().String(), cluster.authority.Fingerprint())
		if err != nil {
			return nil, err
		}
		return c, spoken(c)
	}
	var joiners []net.Conn
	for i := range 2 {
		c, err := join()
		if err != nil {
			t.Fatalf("joiner %d: %v", i, err)
		}
		joiners = append(joiners, c)
	}
	if _, err := join(); err == nil {
		t.Error("a third joiner of one address is let in")
	}
	for _, c := range joiners {
		_ = c.Close()
	}
	eventually(t, "closed joiners give back their places", func() bool {
		c, err := join()
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
}

func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, "c1")
	m := echoing(t, cluster.config(t, "n1"))
	peer := listen(t, cluster.config(t, "n2"))
	c, err := peer.Raft().Dial(raft.ServerAddress(m.Addr().String()), wait)
	if err != nil {
		t.Fatal(err)
	}
	if err := spoken(c); err != nil {
		t.Fatal(err)
	}
	idle, err := net.Dial("tcp", m.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = idle.Close() }()
	started := time.Now()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if d := time.Since(started); d > 5*time.Second {
		t.Errorf("Close took %s: it waited for a handshake", d)
	}
	if err := spoken(c); err == nil {
		t.Error("a connection outlived Close")
	}
	if _, err := m.Raft().Dial(raft.ServerAddress(peer.Addr().String()), wait); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dialling after Close: %v, want net.ErrClosed", err)
	}
	if _, err := m.Raft().Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepting after Close: %v, want net.ErrClosed", err)
	}
}

func TestListenRefuses(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, "c1")
	for name, change := range map[string]func(*transport.Config){
		"no check":       func(c *transport.Config) { c.Check = nil },
		"no authorities": func(c *transport.Config) { c.Authorities = nil },
		"no certificate": func(c *transport.Config) { c.Certificate = nil },
		"a certificate that can't come": func(c *transport.Config) {
			c.Certificate = func() (*tls.Certificate, error) { return nil, errors.New("x") }
		},
		"a chain without the authority": func(c *transport.Config) {
			c.Certificate = func() (*tls.Certificate, error) { return selfSigned(t, &url.URL{Scheme: "keyraft"}), nil }
		},
		"no cluster id":                          func(c *transport.Config) { c.ClusterID = "" },
		"every address, and none advertised":     func(c *transport.Config) { c.BindAddr = ":0" },
		"an advertised address without its port": func(c *transport.Config) { c.AdvertiseAddr = "host" },
	} {
		cfg := cluster.config(t, "n1")
		change(&cfg)
		if m, err := transport.Listen(cfg); err == nil {
			_ = m.Close()
			t.Errorf("%s is accepted", name)
		}
	}
	cfg := cluster.config(t, "n1")
	cfg.AdvertiseAddr = "node-1.example:0"
	m := listen(t, cfg)
	host, port, err := net.SplitHostPort(m.Addr().String())
	if err != nil || host != "node-1.example" || port == "0" {
		t.Errorf("advertised as %s, want the name with the port that was bound", m.Addr())
	}
	if m.Raft().Addr().String() != m.Addr().String() {
		t.Errorf("raft is told %s, the others %s", m.Raft().Addr(), m.Addr())
	}
}

func TestDialGoesThroughTheGivenDialler(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, "c1")
	peer := echoing(t, cluster.config(t, "n2"))
	cfg := cluster.config(t, "n1")
	cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
		if addr != "n2.proxy:1" {
			t.Errorf("dialled %s", addr)
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", peer.Addr().String())
	}
	c, err := listen(t, cfg).Raft().Dial("n2.proxy:1", wait)
	if err != nil {
		t.Fatal(err)
	}
	if err := spoken(c); err != nil {
		t.Error(err)
	}
}
