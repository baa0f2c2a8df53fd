package forwardauth_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net/url"
	"testing"
)

// TestWhatTheProxyTellsOfAProof: method and URL as the client sees them, and its proof.
func TestWhatTheProxyTellsOfAProof(t *testing.T) {
	t.Parallel()
	f := start(t)
	tests := []struct {
		name    string
		headers []string
		url     string
	}{
		{"the whole URL", []string{"X-Forwarded-Uri: https://api.example/a?b"}, "https://api.example/a?b"},
		{"in parts", []string{"X-Forwarded-Uri: /a?b", "X-Forwarded-Proto: https", "X-Forwarded-Host: api.example:8443"}, "https://api.example:8443/a?b"},
		{"a path alone stays one, which no proof names", []string{"X-Forwarded-Uri: /a"}, "/a"},
		{"without the host", []string{"X-Forwarded-Uri: /a", "X-Forwarded-Proto: https"}, "/a"},
		{"nothing", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.ask(t, get("/validate", append(tt.headers, "Authorization: DPoP good", "DPoP: a.b.c", "X-Forwarded-Method: PUT", "Client-Cert: :AAAA:")...))
			f.mu.Lock()
			defer f.mu.Unlock()
			got := f.asked[len(f.asked)-1]
			if got.URL != tt.url || got.Method != "PUT" || got.Scheme != "DPoP" || got.DPoP != "a.b.c" || got.Token != "good" || got.ClientCert != nil {
				t.Errorf("asked %+v, want the URL %q, and no certificate that nobody was told to believe", got, tt.url)
			}
		})
	}
}

// TestTheProxyNamesTheCertificate: RFC 9440, and POP-11 for names that are read as it.
func TestTheProxyNamesTheCertificate(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	rfc9440 := ":" + base64.StdEncoding.EncodeToString(der) + ":"
	escaped := url.PathEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	f := startWith(t, &front{header: "Client-Cert"}, nil, nil)
	tests := []struct {
		name    string
		headers []string
		status  int
		cert    bool
	}{
		{"as RFC 9440 writes it", []string{"client-cert: " + rfc9440}, 204, true},
		{"as percent-encoded PEM", []string{"Client-Cert: " + escaped}, 204, true},
		{"none", nil, 204, false},
		{"empty, as nginx sends it", []string{"Client-Cert: "}, 204, false},
		{"twice", []string{"Client-Cert: " + rfc9440, "Client-Cert: " + rfc9440}, 401, false},
		{"garbled", []string{"Client-Cert: :AAAA:"}, 401, false},
		{"POP-11 under a name with an underscore", []string{"client_cert: " + rfc9440}, 401, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, _ := f.ask(t, get("/validate", append(tt.headers, "Authorization: Bearer good")...))
			if resp.StatusCode != tt.status {
				t.Fatalf("status %d, want %d", resp.StatusCode, tt.status)
			}
			if tt.status != 204 {
				return
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if got := f.asked[len(f.asked)-1].ClientCert; tt.cert != (string(got) == string(der)) || !tt.cert && got != nil {
				t.Errorf("certificate of %d bytes", len(got))
			}
		})
	}
}
