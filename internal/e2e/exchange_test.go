package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
	"github.com/keyraft/keyraft/internal/testproof"
)

const (
	exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"
	bearerGrant   = "urn:ietf:params:oauth:grant-type:jwt-bearer"
)

// exchanging makes a client that may exchange tokens for an audience.
func (w *world) exchanging(at *node, subject, audience string) proc.Client {
	w.t.Helper()
	return must(at.CreateClient(w.bound(), map[string]any{
		"grant_types": []string{"client_credentials", exchangeGrant, bearerGrant}, "resources": []string{subject, audience},
		"token_exchange_subjects": []string{subject}, "token_exchange_audiences": []string{audience},
	}))(w.t)
}

func exchangeOf(token, audience string) url.Values {
	return url.Values{
		"grant_type": {exchangeGrant}, "subject_token": {token}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "audience": {audience},
	}
}

// TestExchangeOnThreeNodes: tokens that come of one another at different nodes die with
// the first, at every node and gateway; an issuer's word is good once in the cluster, and
// no longer when the issuer is trusted no more (TOK-32, TOK-43, JWT-21).
func TestExchangeOnThreeNodes(t *testing.T) {
	t.Parallel()
	w, nodes := cluster(t)
	gates := []*edge{w.edge("gw1", nodes), w.edge("gw2", nodes)}
	const api, orders, stock = "https://api.example", "https://orders.example", "https://stock.example"
	app := must(nodes[0].CreateClient(w.bound(), map[string]any{"resources": []string{api}}))(t)
	front, back := w.exchanging(nodes[1], api, orders), w.exchanging(nodes[2], orders, stock)

	t.Run("the root takes the tree with it", func(t *testing.T) {
		defer w.during(t)()
		root := must(nodes[0].Grant(w.bound(), app, url.Values{"grant_type": {"client_credentials"}, "audience": {api}}))(t)
		first := must(nodes[1].Grant(w.bound(), front, exchangeOf(root, orders)))(t)
		second := must(nodes[2].Grant(w.bound(), back, exchangeOf(first, stock)))(t)
		tree := map[string]struct {
			token string
			of    proc.Client
		}{"root": {root, app}, "first": {first, front}, "second": {second, back}}
		holds := func(active bool) {
			t.Helper()
			for name, x := range tree {
				for _, n := range nodes {
					if got := must(n.Active(w.bound(), x.of, x.token))(t); got != active {
						t.Errorf("%s says that the %s token is active: %t", n.name, name, got)
					}
				}
				for _, g := range gates {
					status := http.StatusUnauthorized
					if active {
						status = http.StatusNoContent
					}
					if v := must(g.Validate(w.bound(), x.token))(t); v.Status != status {
						t.Errorf("a gateway says %d %q of the %s token", v.Status, v.Reason, name)
					}
				}
			}
		}
		holds(true)
		r := must(nodes[2].Revoke(w.bound(), map[string]any{"token": root}, 10*time.Second))(t)
		if !r.Complete {
			t.Fatalf("the gateways did not all confirm: %+v", r)
		}
		holds(false)
		for _, n := range nodes {
			for name, try := range map[string]func() error{
				"root":  func() error { _, err := n.Grant(w.bound(), front, exchangeOf(root, orders)); return err },
				"first": func() error { _, err := n.Grant(w.bound(), back, exchangeOf(first, stock)); return err },
			} {
				if err := try(); proc.StatusOf(err) != http.StatusBadRequest {
					t.Errorf("TOK-43: %s exchanges the %s token: %v", n.name, name, err)
				}
			}
		}
	})
	t.Run("a trusted issuer's word", func(t *testing.T) {
		defer w.during(t)()
		idp := testproof.New(t)
		var metadata struct {
			Issuer string `json:"issuer"`
		}
		if err := nodes[0].Call(w.bound(), http.MethodGet, "/.well-known/oauth-authorization-server", nil, &metadata); err != nil {
			t.Fatal(err)
		}
		record := map[string]any{"issuer": "https://idp.example", "jwks": json.RawMessage(idp.JWKS(t, "k1")), "scopes": []string{"read"}}
		if err := nodes[0].Write(w.bound(), http.MethodPost, "/admin/v1/trusted-issuers", record, nil); err != nil {
			t.Fatal(err)
		}
		says := func(id string) url.Values {
			now := time.Now().Unix()
			return url.Values{"grant_type": {bearerGrant}, "assertion": {idp.Sign(t, map[string]string{"alg": "ES256", "kid": "k1"}, map[string]any{
				"iss": "https://idp.example", "sub": "build-17", "aud": metadata.Issuer, "iat": now, "exp": now + 300, "jti": id,
			})}}
		}
		once := says("once")
		var all sync.WaitGroup
		won := make(chan string, 30)
		for i := range cap(won) {
			all.Go(func() {
				n := nodes[i%3]
				if _, err := n.Grant(w.bound(), front, once); err == nil {
					won <- n.name
				} else if proc.StatusOf(err) != http.StatusBadRequest {
					t.Errorf("%s: %v", n.name, err)
				}
			})
		}
		if all.Wait(); len(won) != 1 {
			t.Errorf("JWT-21: %d of %d won", len(won), cap(won))
		}
		const one = "/admin/v1/trusted-issuers/~aHR0cHM6Ly9pZHAuZXhhbXBsZQ"
		if err := nodes[1].Write(w.bound(), http.MethodPatch, one, map[string]any{"enabled": false}, nil); err != nil {
			t.Fatal(err)
		}
		for i, n := range nodes {
			if _, err := n.Grant(w.bound(), front, says(fmt.Sprint("late ", i))); proc.StatusOf(err) != http.StatusBadRequest {
				t.Errorf("TOK-32: %s takes the word of a disabled issuer: %v", n.name, err)
			}
		}
	})
}
