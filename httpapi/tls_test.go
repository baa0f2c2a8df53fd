package httpapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/keyraft/keyraft/httpapi"
)

func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestHTT15TLS: 1.2 and 1.3 are served, 1.1 is not, HTTP/2 is never negotiated.
func TestHTT15TLS(t *testing.T) {
	t.Parallel()
	cert, pool := selfSigned(t)
	s := start(t, httpapi.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10}}) //nolint:gosec // the server must raise it
	for _, tt := range []struct {
		name    string
		version uint16
		served  bool
	}{{"TLS 1.3", tls.VersionTLS13, true}, {"TLS 1.2", tls.VersionTLS12, true}, {"TLS 1.1", tls.VersionTLS11, false}} {
		conf := &tls.Config{RootCAs: pool, MinVersion: tt.version, MaxVersion: tt.version, NextProtos: []string{"h2", "http/1.1"}}
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: conf}}
		resp, err := client.Get("https://" + s.addr + "/plain")
		if tt.served != (err == nil) {
			t.Errorf("%s: %v, want served %v", tt.name, err, tt.served)
		}
		if err == nil {
			if resp.TLS.NegotiatedProtocol == "h2" || resp.StatusCode != 200 {
				t.Errorf("%s: %q, %d", tt.name, resp.TLS.NegotiatedProtocol, resp.StatusCode)
			}
			_ = resp.Body.Close()
		}
		client.CloseIdleConnections()
	}
}
