package main

import (
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/internal/bench"
)

// serve runs the program's server and returns its URL.
func serve(t *testing.T, alg string, opaque bool) (*server, string) {
	t.Helper()
	signer, err := newSigner(alg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(signer, opaque, 100)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &fasthttp.Server{Handler: s.handle}
	done := make(chan error, 1)
	go func() { done <- web.Serve(ln) }()
	t.Cleanup(func() {
		if err := web.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, "http://" + ln.Addr().String()
}

// TestTheLoadRunsAgainstIt: both kinds of tokens, and introspection of the opaque ones.
func TestTheLoadRunsAgainstIt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		opaque bool
		form   bool
		mix    bench.Mix
	}{
		{"jwt", false, true, bench.Mix{Issue: 1}},
		{"jwt", false, false, bench.Mix{Issue: 1}},
		{"opaque", true, true, bench.Mix{Issue: 1, Introspect: 3}},
	} {
		s, url := serve(t, "EdDSA", tt.opaque)
		target := bench.Target{Servers: []string{url}, Client: bench.Credentials{ID: s.id, Secret: s.secret, Form: tt.form}}
		workers, err := target.Workers(t.Context(), 2, tt.mix, 10)
		if err != nil {
			t.Fatal(err)
		}
		for n := range uint64(40) {
			if o := workers[n%2].Do(n); o.Kind != "" {
				t.Fatalf("%s, operation %d: %+v", tt.name, n, o)
			}
		}
		for _, w := range workers {
			w.Close()
		}
		target.Client.Secret += "x"
		if _, err := target.Workers(t.Context(), 1, tt.mix, 1); err == nil || !strings.Contains(err.Error(), "401 invalid_client") {
			t.Errorf("a wrong secret: %v", err)
		}
	}
}

// TestTokens: each kind of token verifies, so the work that is measured is the work.
func TestTokens(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"ES256", "ES256-deterministic", "EdDSA", "RS256"} {
		s, err := newSigner(alg)
		if err != nil {
			t.Fatal(err)
		}
		m, w := newMinter(s), new(work)
		for range map[bool]int{true: 300, false: 3}[s.alg == "ES256"] { // short r and s come once in 256
			if err := m.mint(w, []byte("client-7"), time.Unix(1_800_000_000, 0)); err != nil {
				t.Fatal(err)
			}
			token, err := jose.ParseSigned(string(w.token), []jose.SignatureAlgorithm{jose.SignatureAlgorithm(s.alg)})
			if err != nil {
				t.Fatalf("%s: %v", alg, err)
			}
			payload, err := token.Verify(s.public)
			if err != nil {
				t.Fatalf("%s: %v", alg, err)
			}
			var claims struct {
				Sub, JTI string
				Exp      int64
			}
			if err := json.Unmarshal(payload, &claims); err != nil || claims.Sub != "client-7" || claims.JTI == "" || claims.Exp != 1_800_003_600 {
				t.Fatalf("%s: %s, %v", alg, payload, err)
			}
		}
	}
	if _, err := newSigner("none"); err == nil {
		t.Error("none is an algorithm")
	}
}
