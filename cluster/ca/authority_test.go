package ca_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/cluster/ca"
)

func now() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

func authority(t testing.TB, cluster string) *ca.Authority {
	t.Helper()
	a, err := ca.Create(cluster, now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t testing.TB, a *ca.Authority, id ca.Identity) (*x509.Certificate, []byte) {
	t.Helper()
	key, csr, err := ca.NewRequest(id.NodeID)
	if err != nil {
		t.Fatal(err)
	}
	der, err := a.Issue(csr, id, now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestIssueMakesACertificateThatVerifiesBothWays(t *testing.T) {
	t.Parallel()
	for _, node := range []string{"n1", strings.Repeat("a", 64), "-", "-a", "0"} {
		a := authority(t, "c1")
		cert, _ := issue(t, a, ca.Identity{ClusterID: "c1", NodeID: node, Generation: 7})
		pool, err := ca.Pool(a.CertDER())
		if err != nil {
			t.Fatal(err)
		}
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			_, err := cert.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now(), KeyUsages: []x509.ExtKeyUsage{usage}})
			if err != nil {
				t.Errorf("node %q, usage %v: %v", node, usage, err)
			}
		}
		id, err := ca.IdentityOf(cert)
		if err != nil {
			t.Fatal(err)
		}
		want := ca.Identity{ClusterID: "c1", NodeID: node, Generation: 7, Serial: cert.SerialNumber.Text(16)}
		if id != want {
			t.Errorf("identity %+v, want %+v", id, want)
		}
		if len(cert.DNSNames) != 1 || cert.DNSNames[0] != ca.DNSName(node) {
			t.Errorf("DNS names %q", cert.DNSNames)
		}
		if !cert.NotAfter.Equal(now().Add(ca.NodeLifetime)) || !cert.NotBefore.Equal(now().Add(-ca.Backdate)) {
			t.Errorf("valid from %s to %s", cert.NotBefore, cert.NotAfter)
		}
	}
}

// TestIssueTakesNothingButTheKey is row CLU-02: a request that asks for
// everything gets the template.
func TestIssueTakesNothingButTheKey(t *testing.T) {
	t.Parallel()
	a := authority(t, "c1")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:     pkix.Name{CommonName: "n2", Organization: []string{"admins"}},
		DNSNames:    []string{ca.DNSName("n2"), "example.com"},
		IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)},
		URIs:        []*url.URL{{Scheme: "keyraft", Host: "c1", Path: "/0/n2"}},
		ExtraExtensions: []pkix.Extension{
			{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}}, // CA:TRUE
		},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := a.Issue(csr, ca.Identity{ClusterID: "c1", NodeID: "n9"}, now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	id, err := ca.IdentityOf(cert)
	if err != nil || id.NodeID != "n9" {
		t.Errorf("identity %+v, %v", id, err)
	}
	if cert.IsCA || cert.Subject.CommonName != "n9" || len(cert.Subject.Organization) != 0 ||
		len(cert.DNSNames) != 1 || len(cert.IPAddresses) != 0 || len(cert.URIs) != 1 {
		t.Errorf("the request reached the certificate: CA %v, subject %s, DNS %q, IP %v, URI %v",
			cert.IsCA, cert.Subject, cert.DNSNames, cert.IPAddresses, cert.URIs)
	}
}

func TestIssueRefuses(t *testing.T) {
	t.Parallel()
	a := authority(t, "c1")
	_, good, err := ca.NewRequest("n1")
	if err != nil {
		t.Fatal(err)
	}
	request := func(key any) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authorityKey, err := x509.ParsePKCS8PrivateKey(a.KeyDER())
	if err != nil {
		t.Fatal(err)
	}
	forged := append([]byte(nil), good...)
	forged[len(forged)-1] ^= 1
	id := ca.Identity{ClusterID: "c1", NodeID: "n1"}
	tests := []struct {
		name string
		csr  []byte
		id   ca.Identity
		at   time.Time
		want string
	}{
		{"a huge request", make([]byte, 5000), id, now(), "at most"},
		{"bytes that are no request", []byte("hello"), id, now(), "parse"},
		{"bytes after the request", append(append([]byte(nil), good...), 0), id, now(), "parse"},
		{"a request signed by another key", forged, id, now(), "not signed"},
		{"an RSA key", request(rsaKey), id, now(), "P-256"},
		{"an Ed25519 key", request(edKey), id, now(), "P-256"},
		{"a P-384 key", request(p384), id, now(), "P-256"},
		{"the authority's own key", request(authorityKey), id, now(), "authority itself"},
		{"another cluster", good, ca.Identity{ClusterID: "c2", NodeID: "n1"}, now(), "not for"},
		{"no node id", good, ca.Identity{ClusterID: "c1"}, now(), "node id"},
		{"a node id with a slash", good, ca.Identity{ClusterID: "c1", NodeID: "a/b"}, now(), "node id"},
		{"a node id in capitals", good, ca.Identity{ClusterID: "c1", NodeID: "N1"}, now(), "node id"},
		{"a node id of 65 characters", good, ca.Identity{ClusterID: "c1", NodeID: strings.Repeat("a", 65)}, now(), "node id"},
		{"a time after the authority's end", good, id, now().Add(ca.AuthorityLifetime), "valid from"},
		{"a time before the authority's beginning", good, id, now().Add(-2 * ca.Backdate), "valid from"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := a.Issue(tt.csr, tt.id, tt.at)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
	if _, err := a.Issue(good, id, now()); err != nil {
		t.Errorf("the good request: %v", err)
	}
}

func TestNodeNeverOutlivesTheAuthority(t *testing.T) {
	t.Parallel()
	a := authority(t, "c1")
	_, csr, err := ca.NewRequest("n1")
	if err != nil {
		t.Fatal(err)
	}
	der, err := a.Issue(csr, ca.Identity{ClusterID: "c1", NodeID: "n1"}, now().Add(ca.AuthorityLifetime-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if end := now().Add(ca.AuthorityLifetime); !cert.NotAfter.Equal(end) {
		t.Errorf("the node's certificate ends %s, the authority's %s", cert.NotAfter, end)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	a, other := authority(t, "c1"), authority(t, "c1")
	back, err := ca.Load(a.CertDER(), a.KeyDER())
	if err != nil {
		t.Fatal(err)
	}
	if back.ClusterID() != "c1" || back.Fingerprint() != a.Fingerprint() {
		t.Errorf("loaded %v", back)
	}
	leaf, leafKey := issue(t, a, ca.Identity{ClusterID: "c1", NodeID: "n1"})
	for name, der := range map[string][2][]byte{
		"the key of another authority":      {a.CertDER(), other.KeyDER()},
		"a node's certificate":              {leaf.Raw, leafKey},
		"a key that is no key":              {a.CertDER(), []byte("x")},
		"a certificate that is none":        {[]byte("x"), a.KeyDER()},
		"an authority that is no cluster's": {foreignAuthority(t), a.KeyDER()},
	} {
		if _, err := ca.Load(der[0], der[1]); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// foreignAuthority is a fine authority of somebody else.
func foreignAuthority(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "public CA"},
		NotBefore: now(), NotAfter: now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestNodeCertificate(t *testing.T) {
	t.Parallel()
	a, other := authority(t, "c1"), authority(t, "c1")
	leaf, key := issue(t, a, ca.Identity{ClusterID: "c1", NodeID: "n1"})
	_, otherKey := issue(t, a, ca.Identity{ClusterID: "c1", NodeID: "n2"})
	cert, err := ca.NodeCertificate(leaf.Raw, key, a.CertDER())
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.Certificate) != 2 {
		t.Errorf("the chain has %d certificates, want the node's and the authority's", len(cert.Certificate))
	}
	if _, err := ca.NodeCertificate(leaf.Raw, otherKey, a.CertDER()); err == nil {
		t.Error("another node's key is accepted")
	}
	if _, err := ca.NodeCertificate(leaf.Raw, key, other.CertDER()); err == nil {
		t.Error("another authority is accepted")
	}
}

func TestSecretsHideThemselves(t *testing.T) {
	t.Parallel()
	a := authority(t, "c1")
	token, err := ca.NewJoinToken(a.Fingerprint(), "10.0.0.1:8444")
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{
		fmt.Sprintf("%x", a.KeyDER()[40:60]), fmt.Sprint(a.KeyDER()[40:60]),
		fmt.Sprintf("%x", [32]byte(token.Secret)), strings.Trim(fmt.Sprint([32]byte(token.Secret)), "[]"), token.Encode(),
	}
	for _, v := range []any{a, token, &token, token.Secret, struct{ T ca.JoinToken }{token}, struct{ A *ca.Authority }{a}} {
		var shown strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&shown, verb, v)
		}
		encoded, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		shown.Write(encoded)
		slog.New(slog.NewJSONHandler(&shown, nil)).Info("shown", "v", v)
		slog.New(slog.NewTextHandler(&shown, nil)).Info("shown", "v", v)
		for _, s := range secrets {
			if strings.Contains(shown.String(), s) {
				t.Errorf("%T shows its secret", v)
			}
		}
	}
}
