package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
	"github.com/keyraft/keyraft/internal/testproof"
)

// prover asks for tokens that are bound to its key.
type prover struct {
	w      *world
	key    *testproof.Key
	client proc.Client
	url    string // of the token endpoint, as metadata tells it
}

// told is an answer, with what matters here.
type told struct {
	status int
	header http.Header
	Error  string `json:"error"`
	Type   string `json:"token_type"`
	Token  string `json:"access_token"`
}

func (t *told) want(tb testing.TB, what string, status int, code string) {
	tb.Helper()
	if t.status != status || t.Error != code {
		tb.Errorf("%s: %d %q, want %d %q", what, t.status, t.Error, status, code)
	}
}

func (p *prover) proof(nonce string) string {
	c := testproof.Claims("POST", p.url, time.Now().Unix())
	if nonce != "" {
		c["nonce"] = nonce
	}
	return p.key.Proof(p.w.t, c)
}

// ask asks one node for a token with this proof.
func (p *prover) ask(t testing.TB, at *node, proof string) *told {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at.Base+"/oauth2/token", strings.NewReader("grant_type=client_credentials"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(p.client.ID, p.client.Secret)
	req.Header["DPoP"] = []string{proof}
	resp, err := p.w.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	out := &told{status: resp.StatusCode, header: resp.Header}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		t.Fatal(err)
	}
	return out
}

// nonce is one that the node gives.
func (p *prover) nonce(t testing.TB, of *node) string {
	t.Helper()
	a := p.ask(t, of, p.proof(""))
	a.want(t, "a proof without nonce at "+of.name, http.StatusBadRequest, "use_dpop_nonce")
	if a.header.Get("DPoP-Nonce") == "" {
		t.Fatal("no nonce came")
	}
	return a.header.Get("DPoP-Nonce")
}

// TestBoundTokensOnThreeNodes is POP-04 and POP-07 with real nodes: a proof is taken once
// in the cluster, whatever becomes of the node that gave its nonce; and a gateway takes a
// bound token with its proof alone.
func TestBoundTokensOnThreeNodes(t *testing.T) {
	t.Parallel()
	w, nodes := cluster(t)
	var metadata struct {
		URL string `json:"token_endpoint"`
	}
	if err := nodes[0].Call(w.bound(), http.MethodGet, "/.well-known/oauth-authorization-server", nil, &metadata); err != nil {
		t.Fatal(err)
	}
	p := &prover{w, testproof.New(t), w.client, metadata.URL}
	g := w.edge("gw1", nodes)

	t.Run("with any node's nonce, once in the cluster", func(t *testing.T) {
		defer w.during(t)()
		for i, giver := range nodes {
			proof := p.proof(p.nonce(t, giver))
			first := p.ask(t, nodes[(i+1)%3], proof)
			if first.want(t, "first", http.StatusOK, ""); first.Type != "DPoP" {
				t.Errorf("a token of type %q", first.Type)
			}
			for _, at := range nodes {
				p.ask(t, at, proof).want(t, "again at "+at.name+" by a nonce of "+giver.name, http.StatusBadRequest, "invalid_dpop_proof")
			}
		}
	})
	t.Run("of many tries at once over all nodes one wins", func(t *testing.T) {
		defer w.during(t)()
		proof := p.proof(p.nonce(t, nodes[1]))
		var all sync.WaitGroup
		won := make(chan string, 30)
		for i := range cap(won) {
			all.Go(func() {
				a := p.ask(t, nodes[i%3], proof)
				if a.status == http.StatusOK {
					won <- nodes[i%3].name
				} else if a.Error != "invalid_dpop_proof" {
					t.Errorf("%s: %d %q", nodes[i%3].name, a.status, a.Error)
				}
			})
		}
		if all.Wait(); len(won) != 1 {
			t.Errorf("%d tries got a token", len(won))
		}
	})
	t.Run("at the gateway", func(t *testing.T) {
		defer w.during(t)()
		token := p.ask(t, nodes[0], p.proof(p.nonce(t, nodes[0]))).Token
		const at = "https://api.example/orders"
		proof := p.key.Proof(t, testproof.With(testproof.Claims("GET", at, time.Now().Unix()), map[string]any{"ath": testproof.Hash(token)}))
		for _, step := range []struct {
			scheme, proof, reason string
			status                int
		}{
			{"Bearer", "", "bound_token", http.StatusUnauthorized}, {"DPoP", "", "bound_token", http.StatusUnauthorized},
			{"DPoP", proof, "", http.StatusNoContent}, {"DPoP", proof, "proof_used", http.StatusUnauthorized},
		} {
			header := http.Header{"Authorization": {step.scheme + " " + token}, "X-Forwarded-Method": {"GET"}, "X-Forwarded-Uri": {at}}
			if step.proof != "" {
				header["DPoP"] = []string{step.proof}
			}
			status, got, _ := w.get(g.Base+"/validate", "", header)
			if status != step.status || got.Get("X-Keyraft-Reason") != step.reason {
				t.Errorf("%s: the gateway says %d %q, want %d %q", step.scheme, status, got.Get("X-Keyraft-Reason"), step.status, step.reason)
			}
		}
	})
	t.Run("the node that gave the nonce is killed and comes back", func(t *testing.T) {
		defer w.during(t)()
		giver := w.leader(nodes...)
		rest := without(nodes, giver)
		used, unused := p.proof(p.nonce(t, giver)), p.proof(p.nonce(t, giver))
		p.ask(t, rest[0], used).want(t, "first", http.StatusOK, "")
		giver.kill()
		w.leader(rest...) // they have another
		for what, proof := range map[string]string{"used": used, "unused": unused} {
			a := p.ask(t, rest[0], proof)
			a.want(t, what+", while its giver is gone", http.StatusBadRequest, "use_dpop_nonce")
			p.ask(t, rest[1], p.proof(a.header.Get("DPoP-Nonce"))).want(t, "with the nonce that came", http.StatusOK, "")
		}
		giver.run()
		w.awaitVoters(rest[0], 3)
		for _, at := range nodes {
			p.ask(t, at, used).want(t, fmt.Sprintf("used, at %s after its giver has started again", at.name), http.StatusBadRequest, "use_dpop_nonce")
		}
	})
}
