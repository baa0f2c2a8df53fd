package tokens_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/testproof"
	"github.com/keyraft/keyraft/tokens"
	"github.com/keyraft/keyraft/tokens/verify"
)

const proofURL = "https://sts.example/oauth2/token"

// herd are the nodes of a cluster, as far as proofs go, over one state.
type herd struct {
	*world
	mu    sync.Mutex
	nodes map[string]*tokens.Proofs
	asked int
}

func newHerd(t testing.TB, ids ...string) *herd {
	t.Helper()
	h := &herd{world: newWorld(t), nodes: make(map[string]*tokens.Proofs)}
	for _, id := range ids {
		h.start(t, id, 0)
	}
	return h
}

// start starts a node, which has forgotten what an earlier one of its id knew.
func (h *herd) start(t testing.TB, id string, limit int) {
	t.Helper()
	p, err := tokens.NewProofs(tokens.ProofsConfig{Node: id, Shared: tokens.NewClusterKeys(h.ring), Now: h.now, Ask: h.ask, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nodes[id] = p
}

func (h *herd) stop(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.nodes, id)
}

func (h *herd) ask(ctx context.Context, node, topic string, body []byte) ([]byte, error) {
	h.mu.Lock()
	p := h.nodes[node]
	h.asked++
	h.mu.Unlock()
	if p == nil || topic != tokens.TopicProofs {
		return nil, errors.New("that node is gone")
	}
	return p.Answer(ctx, "", body)
}

func (h *herd) nonce(t testing.TB, id, tenant string) string {
	t.Helper()
	n, err := h.nodes[id].Nonce(h.view(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// show shows a proof to a node and has it taken.
func (h *herd) show(id, proof string) error {
	s, err := h.nodes[id].Read(h.view(), "default", proof, verify.ProofExpect{Method: "POST", URL: proofURL})
	if err != nil {
		return err
	}
	return h.nodes[id].Use(context.Background(), &s)
}

func (h *herd) claims(jti, nonce string) map[string]any {
	c := testproof.With(testproof.Claims("POST", proofURL, h.now().Unix()), map[string]any{"jti": jti})
	if nonce != "" {
		c["nonce"] = nonce
	}
	return c
}

func TestProofIsTakenOnceInTheCluster(t *testing.T) {
	t.Parallel()
	p := testproof.New(t)
	for _, second := range []string{"n1", "n2", "n3"} {
		for _, first := range []string{"n1", "n2", "n3"} {
			h := newHerd(t, "n1", "n2", "n3")
			proof := p.Proof(t, h.claims("j1", h.nonce(t, "n1", "default")))
			if err := h.show(first, proof); err != nil {
				t.Fatalf("the first use, at %s: %v", first, err)
			}
			if err := h.show(second, proof); !errors.Is(err, oauth.InvalidDPoPProof) {
				t.Errorf("POP-04: first at %s, again at %s: %v", first, second, err)
			}
			other := p.Proof(t, h.claims("j1", h.nonce(t, second, "default")))
			if second == "n1" { // the same jti under another nonce of the same giver
				if err := h.show("n2", other); !errors.Is(err, oauth.InvalidDPoPProof) {
					t.Errorf("POP-04: the same jti again: %v", err)
				}
			}
		}
	}
}

func TestProofIsTakenOnceOfManyTries(t *testing.T) {
	t.Parallel()
	h := newHerd(t, "n1", "n2", "n3")
	proof := testproof.New(t).Proof(t, h.claims("j1", h.nonce(t, "n2", "default")))
	results := make(chan error, 60)
	for i := range cap(results) {
		go func() { results <- h.show(fmt.Sprintf("n%d", i%3+1), proof) }()
	}
	taken := 0
	for range cap(results) {
		if err := <-results; err == nil {
			taken++
		} else if !errors.Is(err, oauth.InvalidDPoPProof) {
			t.Error(err)
		}
	}
	if taken != 1 {
		t.Errorf("POP-04: taken %d times", taken)
	}
}

func TestNonce(t *testing.T) {
	t.Parallel()
	p := testproof.New(t)
	tests := []struct {
		name string
		err  oauth.Code // "": taken
		try  func(t *testing.T, h *herd) error
	}{
		{"a nonce of the node itself is good", "", func(t *testing.T, h *herd) error {
			return h.show("n1", p.Proof(t, h.claims("j", h.nonce(t, "n1", "default"))))
		}},
		{"POP-07 a nonce of another node is good where that node can be asked", "", func(t *testing.T, h *herd) error {
			return h.show("n1", p.Proof(t, h.claims("j", h.nonce(t, "n2", "default"))))
		}},
		{"POP-06 without a nonce", oauth.UseDPoPNonce, func(t *testing.T, h *herd) error {
			return h.show("n1", p.Proof(t, h.claims("j", "")))
		}},
		{"POP-07 of a node that is gone", oauth.UseDPoPNonce, func(t *testing.T, h *herd) error {
			proof := p.Proof(t, h.claims("j", h.nonce(t, "n2", "default")))
			h.stop("n2")
			return h.show("n1", proof)
		}},
		{"POP-07 reused after restart, at the node itself", oauth.UseDPoPNonce, func(t *testing.T, h *herd) error {
			proof := p.Proof(t, h.claims("j", h.nonce(t, "n1", "default")))
			h.start(t, "n1", 0)
			return h.show("n1", proof)
		}},
		{"POP-04 used before its node was restarted, at another", oauth.UseDPoPNonce, func(t *testing.T, h *herd) error {
			proof := p.Proof(t, h.claims("j", h.nonce(t, "n2", "default")))
			if err := h.show("n2", proof); err != nil {
				return err
			}
			h.start(t, "n2", 0)
			return h.show("n1", proof)
		}},
		{"POP-07 of another tenant", oauth.UseDPoPNonce, func(t *testing.T, h *herd) error {
			return h.show("n1", p.Proof(t, h.claims("j", h.nonce(t, "n1", "acme"))))
		}},
		{"POP-07 expired", oauth.UseDPoPNonce, func(t *testing.T, h *herd) error {
			nonce := h.nonce(t, "n1", "default")
			h.pass(tokens.NonceLifetime * time.Second)
			return h.show("n1", p.Proof(t, h.claims("j", nonce)))
		}},
		{"a moment before it expires it is good", "", func(t *testing.T, h *herd) error {
			nonce := h.nonce(t, "n1", "default")
			h.pass((tokens.NonceLifetime - 1) * time.Second)
			return h.show("n1", p.Proof(t, h.claims("j", nonce)))
		}},
		{"POP-07 forged", oauth.UseDPoPNonce, func(t *testing.T, h *herd) error {
			nonce := []byte(h.nonce(t, "n1", "default"))
			nonce[20] ^= 1
			return h.show("n1", p.Proof(t, h.claims("j", string(nonce))))
		}},
		{"POP-07 made up", oauth.UseDPoPNonce, func(t *testing.T, h *herd) error {
			return h.show("n1", p.Proof(t, h.claims("j", "AAAA")))
		}},
		{"POP-07 of the key version before is good while it is kept", "", func(t *testing.T, h *herd) error {
			nonce := h.nonce(t, "n1", "default")
			key, err := tokens.NewClusterKey(h.ring, tokens.KeyNonce, 2, h.now())
			if err != nil {
				return err
			}
			h.must(t, &command.PutClusterKey{NewVersion: true, Key: key})
			return h.show("n1", p.Proof(t, h.claims("j", nonce)))
		}},
		{"POP-01 a proof that is none", oauth.InvalidDPoPProof, func(_ *testing.T, h *herd) error { return h.show("n1", "x") }},
		{"POP-04 again 60 seconds later", oauth.InvalidDPoPProof, func(t *testing.T, h *herd) error {
			proof := p.Proof(t, h.claims("j", h.nonce(t, "n1", "default")))
			if err := h.show("n1", proof); err != nil {
				return err
			}
			h.pass(60 * time.Second)
			return h.show("n1", proof)
		}},
		{"POP-05 a node that remembers as many as it may refuses others", oauth.TemporarilyUnavailable, func(t *testing.T, h *herd) error {
			h.start(t, "n1", 2)
			for i := range 2 {
				if err := h.show("n1", p.Proof(t, h.claims(fmt.Sprint(i), h.nonce(t, "n1", "default")))); err != nil {
					return err
				}
			}
			return h.show("n2", p.Proof(t, h.claims("one more", h.nonce(t, "n1", "default"))))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.try(t, newHerd(t, "n1", "n2"))
			if tt.err == "" && err != nil || tt.err != "" && !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

// TestNonceDoesNotLoop: a client that sprays its requests over three nodes and keeps to the
// newest nonce that any of them gave is never sent back twice (POP-07).
func TestNonceDoesNotLoop(t *testing.T) {
	t.Parallel()
	h := newHerd(t, "n1", "n2", "n3")
	p, nonce, refused := testproof.New(t), "", 0
	for i := range 30 {
		id := fmt.Sprintf("n%d", i%3+1)
		err := h.show(id, p.Proof(t, h.claims(fmt.Sprint(i), nonce)))
		if errors.Is(err, oauth.UseDPoPNonce) {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
		nonce = h.nonce(t, id, "default")
	}
	if refused != 1 {
		t.Errorf("%d requests were sent back for a nonce, want the first alone", refused)
	}
}

func TestProofsKeepToTheirKindOfQuestion(t *testing.T) {
	t.Parallel()
	h := newHerd(t, "n1")
	for _, body := range []string{"", "x", strings.Repeat("\x02", 41)} {
		if answer, err := h.nodes["n1"].Answer(context.Background(), "n2", []byte(body)); err == nil {
			t.Errorf("a question of %d bytes was answered with %q", len(body), answer)
		}
	}
	// A peer whose clock is far ahead must not fill the memory for ever.
	proof := testproof.New(t).Proof(t, h.claims("j", h.nonce(t, "n1", "default")))
	h.start(t, "n2", 0)
	s, err := h.nodes["n2"].Read(h.view(), "default", proof, verify.ProofExpect{Method: "POST", URL: proofURL})
	if err != nil {
		t.Fatal(err)
	}
	h.pass(-time.Hour)
	if err := h.nodes["n2"].Use(context.Background(), &s); !errors.Is(err, oauth.UseDPoPNonce) {
		t.Errorf("error %v, want use_dpop_nonce", err)
	}
	if n := h.nodes["n1"].Remembered(); n != 0 {
		t.Errorf("%d proofs are remembered", n)
	}
}

func TestHeld(t *testing.T) {
	t.Parallel()
	h := newHerd(t, "n1")
	p, other := testproof.New(t), testproof.New(t)
	const token, url = "the-access-token", "https://sts.example/userinfo"
	proof := func(by *testproof.Key, change map[string]any) string {
		c := testproof.With(testproof.Claims("GET", url, h.now().Unix()), map[string]any{
			"nonce": h.nonce(t, "n1", "default"), "ath": testproof.Hash(token),
		})
		return by.Proof(t, testproof.With(c, change))
	}
	jkt := tokens.Subject{Tenant: "default", Bound: true, JKT: p.Thumbprint}
	x5t := tokens.Subject{Tenant: "default", Bound: true, X5T: "cert"}
	both := tokens.Subject{Tenant: "default", Bound: true, X5T: "cert", JKT: p.Thumbprint}
	bearer := tokens.Subject{Tenant: "default"}
	used := proof(p, nil)
	tests := []struct {
		name  string
		s     tokens.Subject
		shown tokens.Presented
		err   oauth.Code
	}{
		{"a bearer token as bearer token", bearer, tokens.Presented{Scheme: "bearer"}, ""},
		{"a bearer token with a certificate beside it", bearer, tokens.Presented{Scheme: "Bearer", X5T: "cert"}, ""},
		{"a bound token with its proof", jkt, tokens.Presented{Scheme: "dpop", Proof: used}, ""},
		{"POP-04 the same proof again", jkt, tokens.Presented{Scheme: "DPoP", Proof: used}, oauth.InvalidDPoPProof},
		{"POP-08 a bound token as bearer token", jkt, tokens.Presented{Scheme: "Bearer"}, oauth.InvalidToken},
		{"POP-08 a bound token as bearer token, with its proof", jkt, tokens.Presented{Scheme: "Bearer", Proof: proof(p, nil)}, oauth.InvalidToken},
		{"POP-08 a bearer token with the scheme DPoP", bearer, tokens.Presented{Scheme: "DPoP", Proof: proof(p, nil)}, oauth.InvalidToken},
		{"POP-08 no proof", jkt, tokens.Presented{Scheme: "DPoP"}, oauth.InvalidDPoPProof},
		{"POP-08 proof with another key", jkt, tokens.Presented{Scheme: "DPoP", Proof: proof(other, nil)}, oauth.InvalidDPoPProof},
		{"POP-08 no ath", jkt, tokens.Presented{Scheme: "DPoP", Proof: proof(p, map[string]any{"ath": nil})}, oauth.InvalidDPoPProof},
		{"POP-08 ath of another token", jkt, tokens.Presented{Scheme: "DPoP", Proof: proof(p, map[string]any{"ath": testproof.Hash("x")})}, oauth.InvalidDPoPProof},
		{"POP-08 ath of a prefix", jkt, tokens.Presented{Scheme: "DPoP", Proof: proof(p, map[string]any{"ath": testproof.Hash(token[:8])})}, oauth.InvalidDPoPProof},
		{"POP-03 htu of another endpoint", jkt, tokens.Presented{Scheme: "DPoP", Proof: proof(p, map[string]any{"htu": proofURL})}, oauth.InvalidDPoPProof},
		{"POP-06 no nonce", jkt, tokens.Presented{Scheme: "DPoP", Proof: proof(p, map[string]any{"nonce": nil})}, oauth.UseDPoPNonce},
		{"a token of a certificate with it", x5t, tokens.Presented{Scheme: "Bearer", X5T: "cert"}, ""},
		{"POP-14 without it", x5t, tokens.Presented{Scheme: "Bearer"}, oauth.InvalidToken},
		{"POP-14 with another", x5t, tokens.Presented{Scheme: "Bearer", X5T: "other"}, oauth.InvalidToken},
		{"POP-14 with a proof instead", x5t, tokens.Presented{Scheme: "DPoP", X5T: "cert", Proof: proof(p, nil)}, oauth.InvalidToken},
		{"a token of both, with both", both, tokens.Presented{Scheme: "DPoP", X5T: "cert", Proof: proof(p, nil)}, ""},
		{"a token of both, without the certificate", both, tokens.Presented{Scheme: "DPoP", Proof: proof(p, nil)}, oauth.InvalidToken},
		{"a token that is bound in an unknown way", tokens.Subject{Tenant: "default", Bound: true}, tokens.Presented{Scheme: "Bearer", X5T: "cert"}, oauth.InvalidToken},
	}
	for _, tt := range tests { // in their order, for one is a second use
		t.Run(tt.name, func(t *testing.T) {
			tt.shown.Token, tt.shown.Method, tt.shown.URL = token, "GET", url
			nonce, err := h.nodes["n1"].Held(context.Background(), h.view(), &tt.s, &tt.shown)
			if (nonce != "") != (tt.shown.Proof != "") {
				t.Errorf("nonce %q for the proof %q", nonce, tt.shown.Proof)
			}
			if tt.err == "" {
				if err != nil {
					t.Errorf("error %v", err)
				}
				return
			}
			var refusal *oauth.Error
			if !errors.As(err, &refusal) || refusal.Code() != tt.err || refusal.Status() != 401 {
				t.Fatalf("error %v, want %q with 401", err, tt.err)
			}
			if tt.err != oauth.InvalidToken && !strings.HasPrefix(refusal.Challenge(), `DPoP algs="ES256 `) {
				t.Errorf("challenge %q", refusal.Challenge())
			}
			if tt.err == oauth.UseDPoPNonce && !strings.HasSuffix(refusal.Challenge(), `error="use_dpop_nonce"`) {
				t.Errorf("challenge %q", refusal.Challenge())
			}
		})
	}
}
