package outbound

import (
	"compress/gzip"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// TestAddresses is SSR-01 and SSR-02: judged on the address itself, whatever it is
// dressed as.
func TestAddresses(t *testing.T) {
	t.Parallel()
	closed := New(Config{})
	for _, a := range []string{
		"127.0.0.1", "::1", "0.0.0.0", "::", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "fd00::1", "fe80::1", "100.64.0.1", "224.0.0.1", "ff02::1",
		"255.255.255.255", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:7f00:1::", "::127.0.0.1", "fe80::1%eth0", "2001:db8::1",
	} {
		if closed.permits(netip.MustParseAddr(a)) {
			t.Errorf("%s may be called", a)
		}
	}
	for _, a := range []string{"1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8"} {
		if !closed.permits(netip.MustParseAddr(a)) {
			t.Errorf("%s may not be called", a)
		}
	}
	all, err := ParseNetworks([]string{"10.1.0.0/16", "169.254.0.0/16", "fd00::/8"})
	if err != nil {
		t.Fatal(err)
	}
	open := New(Config{Allow: all})
	for a, want := range map[string]bool{"10.1.2.3": true, "10.2.0.1": false, "169.254.169.254": false, "fd00::1": true, "::ffff:10.1.0.1": true, "127.0.0.1": false} {
		if open.permits(netip.MustParseAddr(a)) != want {
			t.Errorf("%s with outbound_allow: want %t", a, want)
		}
	}
	if _, err := ParseNetworks([]string{"10.0.0.1"}); err == nil {
		t.Error("an address was taken as a network")
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	closed, dev := New(Config{}), New(Config{Loopback: true})
	for u, want := range map[string]error{
		"https://idp.example/jwks":                           nil,
		"https://93.184.216.34/jwks":                         nil,
		"http://idp.example/jwks":                            ErrURL,
		"file:///etc/passwd":                                 ErrURL,
		"gopher://idp.example/":                              ErrURL,
		"https://":                                           ErrURL,
		"https:idp.example":                                  ErrURL,
		"https://user@idp.example/jwks":                      ErrURL,
		"https://a#@b/":                                      ErrURL,
		"https://idp.example/ jwks":                          ErrURL,
		"https://idp.example\\@evil.example/":                ErrURL,
		"http://127.0.0.1/jwks":                              ErrURL,
		"https://127.0.0.1/jwks":                             ErrAddress,
		"https://[::1]/jwks":                                 ErrAddress,
		"https://[::ffff:127.0.0.1]/jwks":                    ErrAddress,
		"https://169.254.169.254/latest":                     ErrAddress,
		"https://localhost/jwks":                             ErrAddress,
		"https://LocalHost./jwks":                            ErrAddress,
		"https://a.localhost/jwks":                           ErrAddress,
		"https://idp.example/" + strings.Repeat("x", maxURL): ErrURL,
	} {
		if err := closed.Check(u); !errors.Is(err, want) {
			t.Errorf("%.60s: %v, want %v", u, err, want)
		}
	}
	for u, want := range map[string]error{"http://127.0.0.1:1/jwks": nil, "http://idp.example/": ErrURL, "http://10.0.0.1/": ErrURL, "https://169.254.169.254/": ErrAddress} {
		if err := dev.Check(u); !errors.Is(err, want) {
			t.Errorf("with loopback, %s: %v, want %v", u, err, want)
		}
	}
}

// TestFetches is SSR-03 to SSR-06 against a real server over TLS.
func TestFetches(t *testing.T) {
	t.Parallel()
	var inside atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/good", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"keys":[]}`))
	})
	mux.HandleFunc("/inside", func(http.ResponseWriter, *http.Request) { inside.Add(1) })
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/inside", http.StatusFound) })
	mux.HandleFunc("/missing", http.NotFound)
	mux.HandleFunc("/empty", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/taken", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.FormValue("a") != "b&c" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.HandleFunc("/html", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html>"))
	})
	mux.HandleFunc("/object", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/oauth-authz-req+jwt")
		_, _ = w.Write([]byte("x.y.z"))
	})
	mux.HandleFunc("/bomb", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(make([]byte, 1<<20))
		_ = z.Close()
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	s := httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	c := New(Config{Loopback: true, RootCAs: pool})
	for path, want := range map[string]error{
		"/good": nil, "/redirect": ErrAnswer, "/missing": ErrAnswer, "/html": ErrAnswer, "/bomb": ErrAnswer, "/endless": ErrTooLarge,
	} {
		body, err := c.Get(t.Context(), s.URL+path, 1000)
		if !errors.Is(err, want) || err == nil && string(body) != `{"keys":[]}` {
			t.Errorf("%s: %q, %v; want %v", path, body, err, want)
		}
	}
	if body, err := c.GetJWT(t.Context(), s.URL+"/object", 1000); err != nil || string(body) != "x.y.z" {
		t.Errorf("a request object: %q %v", body, err)
	}
	for _, path := range []string{"/good", "/html", "/redirect", "/missing"} {
		if _, err := c.GetJWT(t.Context(), s.URL+path, 1000); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s as a JWT: %v", path, err)
		}
	}
	if _, err := c.Get(t.Context(), s.URL+"/object", 1000); !errors.Is(err, ErrAnswer) {
		t.Errorf("a JWT as JSON: %v", err)
	}
	for path, want := range map[string]error{"/taken": nil, "/empty": nil, "/redirect": ErrNotTaken, "/missing": ErrNotTaken, "/endless": nil} {
		if err := c.Post(t.Context(), s.URL+path, url.Values{"a": {"b&c"}}); !errors.Is(err, want) {
			t.Errorf("a form to %s: %v, want %v", path, err, want)
		}
	}
	if err := c.Post(t.Context(), "https://169.254.169.254/", nil); !errors.Is(err, ErrAddress) {
		t.Errorf("SSR-01: a form was sent to an address of a cloud's own: %v", err)
	}
	if inside.Load() != 0 {
		t.Error("SSR-04: a redirect was followed")
	}
	if _, err := New(Config{Loopback: true}).Get(t.Context(), s.URL+"/good", 1000); !errors.Is(err, ErrUnreachable) {
		t.Errorf("SSR-05: a certificate of nobody was taken: %v", err)
	}
	// What a name leads to is judged when the connection is made (SSR-03).
	closed := New(Config{RootCAs: pool})
	resp, err := closed.http.Get(s.URL + "/good") // past the look at the URL
	if !errors.Is(err, ErrAddress) {
		t.Errorf("SSR-03: a connection to a private address was allowed: %v", err)
		_ = resp.Body.Close()
	}
}
