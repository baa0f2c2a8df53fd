package gateway_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/keyraft/keyraft/gateway"
	"github.com/keyraft/keyraft/internal/clientcert"
	"github.com/keyraft/keyraft/internal/testproof"
	"github.com/keyraft/keyraft/keymanagers/match"
)

const ordersURL = "https://api.example/orders/7"

// prove is a good proof for GET ordersURL with the token, with changes.
func prove(t testing.TB, by *testproof.Key, token string, change map[string]any) string {
	t.Helper()
	c := testproof.With(testproof.Claims("GET", ordersURL, time.Now().Unix()), map[string]any{"ath": testproof.Hash(token)})
	return by.Proof(t, testproof.With(c, change))
}

func TestBoundTokens(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	cfg := c.config(c.start())
	cfg.APIs = []match.API{{Name: "admin", Scopes: []string{"admin"}}}
	g, _ := run(t, cfg)
	synced(t, g, c)
	key, other, cert := testproof.New(t), testproof.New(t), []byte("a certificate")
	cnf := func(keys map[string]any) string { return c.mint(map[string]any{"cnf": keys}) }
	bearer := c.mint(nil)
	jkt := cnf(map[string]any{"jkt": key.Thumbprint})
	x5t := cnf(map[string]any{"x5t#S256": clientcert.Thumbprint(cert)})
	both := cnf(map[string]any{"jkt": key.Thumbprint, "x5t#S256": clientcert.Thumbprint(cert)})
	again := prove(t, key, jkt, nil)
	refused := prove(t, key, jkt, nil)
	tests := []struct {
		name string
		r    gateway.Request
		want gateway.Reason
	}{
		{"a bound token with its proof", gateway.Request{Token: jkt, Scheme: "dpop", DPoP: again}, ""},
		{"POP-04 the same proof again", gateway.Request{Token: jkt, Scheme: "DPoP", DPoP: again}, gateway.ProofUsed},
		{"an API that refuses it", gateway.Request{Token: jkt, Scheme: "DPoP", DPoP: refused, API: "admin"}, gateway.InsufficientScope},
		{"uses no proof up", gateway.Request{Token: jkt, Scheme: "DPoP", DPoP: refused}, ""},
		{"POP-08 as bearer token", gateway.Request{Token: jkt}, gateway.Bound},
		{"POP-08 as bearer token with its proof", gateway.Request{Token: jkt, Scheme: "Bearer", DPoP: prove(t, key, jkt, nil)}, gateway.Bound},
		{"POP-08 a bearer token with the scheme DPoP", gateway.Request{Token: bearer, Scheme: "DPoP", DPoP: prove(t, key, bearer, nil)}, gateway.Unbound},
		{"POP-08 no proof", gateway.Request{Token: jkt, Scheme: "DPoP"}, gateway.Bound},
		{"POP-08 the proof of another key", gateway.Request{Token: jkt, Scheme: "DPoP", DPoP: prove(t, other, jkt, nil)}, gateway.BadProof},
		{"POP-08 no ath", gateway.Request{Token: jkt, Scheme: "DPoP", DPoP: prove(t, key, jkt, map[string]any{"ath": nil})}, gateway.BadProof},
		{"POP-08 ath of another token", gateway.Request{Token: jkt, Scheme: "DPoP", DPoP: prove(t, key, bearer, nil)}, gateway.BadProof},
		{"POP-01 a proof that is none", gateway.Request{Token: jkt, Scheme: "DPoP", DPoP: "x"}, gateway.BadProof},
		{"POP-02 two in one header", gateway.Request{Token: jkt, Scheme: "DPoP", DPoP: prove(t, key, jkt, nil) + "," + prove(t, key, jkt, nil)}, gateway.BadProof},
		{"POP-03 another URL", gateway.Request{Token: jkt, Scheme: "DPoP", URL: "https://api.example/orders/8", DPoP: prove(t, key, jkt, nil)}, gateway.BadProof},
		{"POP-03 a URL that nobody told", gateway.Request{Token: jkt, Scheme: "DPoP", URL: "/orders/7", DPoP: prove(t, key, jkt, nil)}, gateway.BadProof},
		{"POP-03 another method", gateway.Request{Token: jkt, Scheme: "DPoP", Method: "DELETE", DPoP: prove(t, key, jkt, nil)}, gateway.BadProof},
		{"a query is not looked at", gateway.Request{Token: jkt, Scheme: "DPoP", URL: ordersURL + "?a=b", DPoP: prove(t, key, jkt, nil)}, ""},
		{"POP-06 iat an hour ahead", gateway.Request{Token: jkt, Scheme: "DPoP", DPoP: prove(t, key, jkt, map[string]any{"iat": time.Now().Unix() + 3600})}, gateway.BadProof},
		{"POP-06 iat two minutes ago", gateway.Request{Token: jkt, Scheme: "DPoP", DPoP: prove(t, key, jkt, map[string]any{"iat": time.Now().Unix() - 120})}, gateway.BadProof},
		{"a token of a certificate with it", gateway.Request{Token: x5t, ClientCert: cert}, ""},
		{"POP-14 without it", gateway.Request{Token: x5t}, gateway.Bound},
		{"POP-14 with another", gateway.Request{Token: x5t, ClientCert: []byte("another")}, gateway.Bound},
		{"POP-14 with a proof instead", gateway.Request{Token: x5t, Scheme: "DPoP", DPoP: prove(t, key, x5t, nil), ClientCert: cert}, gateway.Unbound},
		{"a token of both, with both", gateway.Request{Token: both, Scheme: "DPoP", DPoP: prove(t, key, both, nil), ClientCert: cert}, ""},
		{"a token of both, without the certificate", gateway.Request{Token: both, Scheme: "DPoP", DPoP: prove(t, key, both, nil)}, gateway.Bound},
		{"a token of both, without the proof", gateway.Request{Token: both, ClientCert: cert}, gateway.Bound},
	}
	for _, tt := range tests { // in their order, for some are second uses
		if tt.r.URL == "" {
			tt.r.URL = ordersURL
		}
		if tt.r.Method == "" {
			tt.r.Method = "GET"
		}
		_, err := g.Validate(context.Background(), tt.r)
		if err == nil && tt.want != "" || err != nil && gateway.ReasonOf(err) != tt.want {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if got := g.Status().BoundTokens; got != "checked" {
		t.Errorf("status says %q", got)
	}
}

// TestProofIsTakenOnceByAGateway: POP-04 within one process.
func TestProofIsTakenOnceByAGateway(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	g, _ := run(t, c.config(c.start()))
	synced(t, g, c)
	key := testproof.New(t)
	token := c.mint(map[string]any{"cnf": map[string]any{"jkt": key.Thumbprint}})
	r := gateway.Request{Token: token, Scheme: "DPoP", Method: "GET", URL: ordersURL, DPoP: prove(t, key, token, nil)}
	var all sync.WaitGroup
	reasons := make(chan gateway.Reason, 50)
	for range cap(reasons) {
		all.Go(func() {
			_, err := g.Validate(context.Background(), r)
			if err == nil {
				reasons <- ""
			} else {
				reasons <- gateway.ReasonOf(err)
			}
		})
	}
	all.Wait()
	close(reasons)
	taken := 0
	for reason := range reasons {
		if reason == "" {
			taken++
		} else if reason != gateway.ProofUsed {
			t.Errorf("refused as %q", reason)
		}
	}
	if taken != 1 {
		t.Errorf("taken %d times", taken)
	}
}

// TestAGatewayFullOfProofsRefuses: POP-05.
func TestAGatewayFullOfProofsRefuses(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	cfg := c.config(c.start())
	cfg.MaxProofs = 2
	g, _ := run(t, cfg)
	synced(t, g, c)
	key := testproof.New(t)
	token := c.mint(map[string]any{"cnf": map[string]any{"jkt": key.Thumbprint}})
	ask := func(proof string) error {
		_, err := g.Validate(context.Background(), gateway.Request{Token: token, Scheme: "DPoP", Method: "GET", URL: ordersURL, DPoP: proof})
		return err
	}
	first := prove(t, key, token, nil)
	for _, proof := range []string{first, prove(t, key, token, nil)} {
		if err := ask(proof); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask(prove(t, key, token, nil)); gateway.ReasonOf(err) != gateway.ProofsFull {
		t.Errorf("one more: %v", err)
	}
	if err := ask(first); gateway.ReasonOf(err) != gateway.ProofUsed {
		t.Errorf("an old one: %v", err)
	}
}

func TestOpaqueBoundTokens(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	g, _ := run(t, c.config(c.start()))
	synced(t, g, c)
	key, cert := testproof.New(t), []byte("a certificate")
	answer := func(cnf any) map[string]any {
		return map[string]any{"active": true, "client_id": "a", "sub": "a", "exp": time.Now().Unix() + 600, "ev": "1.0", "iss": issuer, "cnf": cnf}
	}
	c.mu.Lock()
	c.opaque["kr1_jkt"] = answer(map[string]any{"jkt": key.Thumbprint})
	c.opaque["kr1_x5t"] = answer(map[string]any{"x5t#S256": clientcert.Thumbprint(cert)})
	c.opaque["kr1_odd"] = answer([]string{"jkt"})
	c.mu.Unlock()
	for _, tt := range []struct {
		r    gateway.Request
		want gateway.Reason
	}{
		{gateway.Request{Token: "kr1_jkt", Scheme: "DPoP", DPoP: prove(t, key, "kr1_jkt", nil)}, ""},
		{gateway.Request{Token: "kr1_jkt"}, gateway.Bound},
		{gateway.Request{Token: "kr1_x5t", ClientCert: cert}, ""},
		{gateway.Request{Token: "kr1_x5t"}, gateway.Bound},
		{gateway.Request{Token: "kr1_odd", ClientCert: cert}, gateway.Bound},
	} {
		tt.r.Method, tt.r.URL = "GET", ordersURL
		if _, err := g.Validate(context.Background(), tt.r); err == nil && tt.want != "" || err != nil && gateway.ReasonOf(err) != tt.want {
			t.Errorf("%s by %q: %v, want %q", tt.r.Token, tt.r.Scheme, err, tt.want)
		}
	}
}
