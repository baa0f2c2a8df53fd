package gatewayapi

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/keyraft/keyraft/gateway/wire"
)

// What receipts are made of.
type (
	Instance     = wire.Instance
	Revocation   = wire.Revocation
	Confirmation = wire.Confirmation
)

// Instances are the gateways that poll any node.
func (p *Pollers) Instances(ctx context.Context) []Instance {
	nodes := p.cfg.Nodes()
	p.askAll(ctx)
	all, _ := p.everywhere(nodes)
	out := make([]Instance, 0, len(all))
	for i := range all {
		out = append(out, all[i].instance())
	}
	return out
}

// Here are the gateways that poll this node, as it knows without asking anybody.
func (p *Pollers) Here() []Instance {
	r, _ := p.here()
	out := make([]Instance, 0, len(r.Items))
	for i := range r.Items {
		out = append(out, r.Items[i].instance())
	}
	return out
}

// holdEach is how long a node is asked to hold its answer back.
const holdEach = 400 * time.Millisecond

// Receipt waits, at most for timeout, until every gateway that may let a token of the
// tenant pass has acknowledged the revocation. complete says that all have: one that
// fails open and has gone silent is not waited for, but listed as not reached. So is
// a node that does not answer, for as long as a gateway of it may live on unheard of.
func (p *Pollers) Receipt(ctx context.Context, r Revocation, timeout time.Duration) (receipt []Confirmation, complete bool) {
	q := &inquiry{Tenant: r.Tenant, Epoch: r.Epoch, Seq: r.Seq, WaitMS: holdEach.Milliseconds()}
	t := &tally{pollers: p, q: q, at: r.At, nodes: p.cfg.Nodes(), asked: make(map[string][]string), after: make(map[instanceKey]int64), news: make(chan struct{}, 1)}
	if until := p.cfg.Clock().Add(timeout); t.at.IsZero() || t.at.After(until) {
		t.at = p.cfg.Clock()
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, node := range t.nodes {
		wg.Go(func() { t.follow(ctx, node) })
	}
	for settled := false; !settled && ctx.Err() == nil; {
		select {
		case <-t.news:
			_, settled, _ = t.look()
		case <-ctx.Done():
		}
	}
	cancel()
	wg.Wait()
	receipt, settled, reached := t.look()
	return receipt, settled && reached
}

// tally gathers what the nodes say about one revocation.
type tally struct {
	pollers *Pollers
	q       *inquiry
	at      time.Time
	nodes   []string
	news    chan struct{}

	mu    sync.Mutex
	asked map[string][]string   // nodes that answered, or failed to, since the revocation, and of whom they were asked
	after map[instanceKey]int64 // milliseconds until each one acknowledged
}

// follow asks one node again and again until ctx ends.
func (t *tally) follow(ctx context.Context, node string) {
	for ctx.Err() == nil {
		q := *t.q
		q.Of = t.pollers.troubled()
		err := t.pollers.ask(ctx, node, &q)
		if ctx.Err() != nil {
			return
		}
		t.mu.Lock()
		t.asked[node] = q.Of
		t.mu.Unlock()
		select {
		case t.news <- struct{}{}:
		default:
		}
		pause := 25 * time.Millisecond // all its gateways have it; one may still come over from another node
		if err != nil {
			pause = 100 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// heardAll tells whether every node was asked since the revocation, those that answer
// also for what they have heard of those that don't. The caller holds mu.
func (t *tally) heardAll(troubled []string) bool {
	for _, node := range t.nodes {
		of, asked := t.asked[node]
		if !asked {
			return false
		}
		for _, silent := range troubled {
			if !slices.Contains(troubled, node) && !slices.Contains(of, silent) {
				return false
			}
		}
	}
	return true
}

// look makes the receipt of what is known by now. settled: there is nobody left to
// wait for; reached: nobody is left out.
func (t *tally) look() (receipt []Confirmation, settled, reached bool) {
	troubled := t.pollers.troubled()
	all, blind := t.pollers.everywhere(t.nodes)
	now := t.pollers.cfg.Clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	settled, reached = !blind && t.heardAll(troubled), true
	receipt = []Confirmation{}
	for i := range all {
		s, key := &all[i], instanceKey{all[i].Gateway, all[i].Instance}
		_, before := t.after[key]
		live := s.expected(t.q)
		if !live && !before && !(s.FailOpen && s.sees(t.q.Tenant)) {
			continue // it refuses by itself by now, or never knew tokens of the tenant
		}
		c := Confirmation{Gateway: s.Gateway, Instance: s.Instance, Head: s.Head, MS: -1, OK: s.has(t.q)}
		if c.OK {
			if !before {
				t.after[key] = max(now.Add(-time.Duration(s.HeadMS)*time.Millisecond).Sub(t.at).Milliseconds(), 0)
			}
			c.MS = t.after[key]
		}
		settled = settled && (c.OK || !live)
		reached = reached && c.OK
		receipt = append(receipt, c)
	}
	return slices.Clip(receipt), settled, reached
}
