package gateway_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/keyraft/keyraft/gateway"
)

// modelToken is a token and what the model knows of it.
type modelToken struct {
	text        string
	client      int
	epoch, head uint64 // when it was minted
}

// modelRevocation is one that was acknowledged. lost says that the cluster forgot
// it by a restore before the gateway can be said to have seen it.
type modelRevocation struct {
	client int
	seq    uint64
	lost   bool
}

// TestModel runs random histories of revocations, lagging nodes, compactions,
// restores and cut answers against three nodes. At every publication the
// (epoch, head) may only rise; once in sync, exactly the revoked tokens are
// refused (G1, G3, G4, G5, S6).
func TestModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			newModel(t, seed).run()
		})
	}
}

type model struct {
	t       *testing.T
	rng     *rand.Rand
	c       *testCluster
	nodes   []*testNode
	g       *gateway.Gateway
	tokens  []modelToken
	revoked []modelRevocation
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, rng: rand.New(rand.NewPCG(seed, 7)), c: newCluster(t, "c1")}
	for range 3 {
		m.nodes = append(m.nodes, m.c.start())
	}
	cfg := m.c.config(m.nodes...)
	var epoch, head atomic.Uint64
	cfg.OnSync = func(e, h uint64) { // from one goroutine
		if e < epoch.Load() || e == epoch.Load() && h < head.Load() {
			t.Errorf("the head fell from %d.%d to %d.%d", epoch.Load(), head.Load(), e, h)
		}
		epoch.Store(e)
		head.Store(h)
	}
	m.g, _ = run(t, cfg)
	return m
}

func (m *model) run() {
	for step := range 40 {
		m.step(step)
	}
	m.settle()
	if m.t.Failed() {
		m.t.Logf("%d tokens, %d revocations", len(m.tokens), len(m.revoked))
	}
}

func (m *model) step(step int) {
	n := m.nodes[m.rng.IntN(len(m.nodes))]
	switch p := m.rng.IntN(20); {
	case p < 6:
		client := m.rng.IntN(8)
		text := m.c.mint(map[string]any{"client_id": fmt.Sprint("c", client)})
		m.c.mu.Lock()
		m.tokens = append(m.tokens, modelToken{text, client, m.c.epoch, m.c.head})
		m.c.mu.Unlock()
		reason(m.g, text) // into the decision cache, if it can be verified
	case p < 11:
		client := m.rng.IntN(8)
		m.revoked = append(m.revoked, modelRevocation{client: client, seq: m.c.revoke("client", fmt.Sprint("c", client))})
	case p < 13:
		m.c.mu.Lock()
		n.limit.Store(m.rng.Uint64N(m.c.head + 1))
		m.c.mu.Unlock()
	case p < 15:
		n.limit.Store(1 << 63)
	case p == 15:
		m.c.compact()
	case p == 16:
		at := m.rng.IntN(300)
		n.answer(n.cut(at))
	case p == 17:
		n.answer(func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		})
	case p == 18:
		n.instead.Store(nil)
	case step > 10:
		if m.rng.IntN(2) == 0 {
			m.settle()
		}
		m.c.restore()
		head := m.g.Status().Head // everything at or below it was seen
		for i := range m.revoked {
			m.revoked[i].lost = m.revoked[i].lost || m.revoked[i].seq > head
		}
		for _, n := range m.nodes {
			n.limit.Store(1 << 63)
		}
	}
	if m.rng.IntN(8) == 0 {
		m.settle()
	}
}

// settle heals everything, waits for the head, and compares each token.
func (m *model) settle() {
	m.t.Helper()
	for _, n := range m.nodes {
		n.limit.Store(1 << 63)
		n.instead.Store(nil)
	}
	synced(m.t, m.g, m.c)
	for i, tok := range m.tokens {
		must, may := false, false
		for _, r := range m.revoked {
			if r.client == tok.client && tok.head < r.seq {
				may = true
				must = must || !r.lost
			}
		}
		switch got := reason(m.g, tok.text); {
		case must && got != gateway.Revoked:
			m.t.Errorf("token %d of client %d (head %d) was revoked and gets %q", i, tok.client, tok.head, got)
		case !may && got != "":
			m.t.Errorf("token %d of client %d (head %d) was not revoked and gets %q", i, tok.client, tok.head, got)
		}
	}
}
