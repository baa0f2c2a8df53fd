package httpapi_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
)

// showsCert answers with the serial number of the client's certificate, and how many
// came with it.
func showsCert() []httpapi.Route {
	return []httpapi.Route{{Method: "GET", Path: "/cert", Read: state.Local, Serve: func(c *fasthttp.RequestCtx, _ *state.View) error {
		cert, chain := httpapi.ClientCertificate(c)
		if cert == nil {
			c.SetBodyString("none")
			return nil
		}
		c.SetBodyString(cert.SerialNumber.String() + strings.Repeat("+", len(chain)))
		return nil
	}}}
}

// fetch is what is at a URL, or the status of a refusal.
func fetch(t *testing.T, client *http.Client, at string, headers ...string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), "GET", at, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		return resp.Status
	}
	return string(body)
}

// TestWhoMayNameAClientsCertificate (POP-11).
func TestWhoMayNameAClientsCertificate(t *testing.T) {
	t.Parallel()
	pair, _ := selfSigned(t)
	named := ":" + base64.StdEncoding.EncodeToString(pair.Certificate[0]) + ":"
	text := url.PathEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})))
	loopback := httpapi.Proxies{netip.MustParsePrefix("127.0.0.0/8")}
	others := httpapi.Proxies{netip.MustParsePrefix("192.0.2.0/24")}
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	for _, tt := range []struct {
		name    string
		proxies httpapi.Proxies
		certs   *httpapi.ClientCerts
		headers []string
		want    string
	}{
		{"a trusted proxy", loopback, &httpapi.ClientCerts{Header: "Client-Cert"}, []string{"Client-Cert", named}, "1"},
		{"another case", loopback, &httpapi.ClientCerts{Header: "Client-Cert"}, []string{"CLIENT-CERT", named}, "1"},
		{"its chain", loopback, &httpapi.ClientCerts{Header: "Client-Cert"}, []string{"Client-Cert", named, "Client-Cert-Chain", named + ", " + named}, "1++"},
		{"percent-encoded PEM", loopback, &httpapi.ClientCerts{Header: "Ssl-Client-Cert"}, []string{"Ssl-Client-Cert", text}, "1"},
		{"no proxies", nil, nil, []string{"Client-Cert", named}, "none"},
		{"TLS only", nil, &httpapi.ClientCerts{}, []string{"Client-Cert", named}, "none"},
		{"from elsewhere", others, &httpapi.ClientCerts{Header: "Client-Cert"}, []string{"Client-Cert", named}, "none"},
		{"from elsewhere by a forged hop", others, &httpapi.ClientCerts{Header: "Client-Cert"}, []string{"Client-Cert", named, "X-Forwarded-For", "192.0.2.1", "Forwarded", "for=192.0.2.1"}, "none"},
		{"other headers", loopback, &httpapi.ClientCerts{Header: "Client-Cert"}, []string{"X-Client-Cert", named, "X-Forwarded-Client-Cert", named}, "none"},
		{"an underscore", loopback, &httpapi.ClientCerts{Header: "Client-Cert"}, []string{"Client_Cert", named}, "400 Bad Request"},
		{"twice", loopback, &httpapi.ClientCerts{Header: "Client-Cert"}, []string{"Client-Cert", named, "Client-Cert", named}, "none"},
		{"two in one", loopback, &httpapi.ClientCerts{Header: "Client-Cert"}, []string{"Client-Cert", named + ", " + named}, "none"},
		{"no certificate", loopback, &httpapi.ClientCerts{Header: "Client-Cert"}, []string{"Client-Cert", ":AAAA:"}, "none"},
		{"a broken chain", loopback, &httpapi.ClientCerts{Header: "Client-Cert"}, []string{"Client-Cert", named, "Client-Cert-Chain", ":AAAA:"}, "none"},
	} {
		s := start(t, httpapi.Config{Routes: showsCert(), Proxies: tt.proxies, ClientCerts: tt.certs})
		if got := fetch(t, client, "http://"+s.addr+"/cert", tt.headers...); got != tt.want {
			t.Errorf("POP-11: %s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestTheConnectionsCertificate: it is taken from the handshake where no proxy speaks.
func TestTheConnectionsCertificate(t *testing.T) {
	t.Parallel()
	pair, pool := selfSigned(t)
	for _, tt := range []struct {
		name    string
		proxies httpapi.Proxies
		certs   *httpapi.ClientCerts
		shows   []tls.Certificate
		want    string
	}{
		{"shown", nil, &httpapi.ClientCerts{}, []tls.Certificate{pair}, "1"},
		{"not shown", nil, &httpapi.ClientCerts{}, nil, "none"},
		{"not looked at", nil, nil, []tls.Certificate{pair}, "none"},
		{"the proxy's own", httpapi.Proxies{netip.MustParsePrefix("127.0.0.0/8")}, &httpapi.ClientCerts{Header: "Client-Cert"}, []tls.Certificate{pair}, "none"},
	} {
		s := start(t, httpapi.Config{Routes: showsCert(), Proxies: tt.proxies, ClientCerts: tt.certs, TLS: &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}})
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: tt.shows, MinVersion: tls.VersionTLS12}}
		if got := fetch(t, &http.Client{Timeout: 5 * time.Second, Transport: transport}, "https://"+s.addr+"/cert"); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		transport.CloseIdleConnections()
	}
}
