package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// issuing asks for JWTs without a pause from several workers a node, and keeps
// every refusal.
type issuing struct {
	stop   context.CancelFunc
	wg     sync.WaitGroup
	issued atomic.Int64
	mu     sync.Mutex
	failed []string
}

func (w *world) issuing(workers int, nodes ...*node) *issuing {
	ctx, stop := context.WithCancel(w.t.Context())
	g := &issuing{stop: stop}
	for _, n := range nodes {
		api := n.API
		for range workers {
			g.wg.Go(func() {
				for ctx.Err() == nil {
					_, err := api.Issue(ctx, w.client, "read")
					switch {
					case err == nil:
						g.issued.Add(1)
					case ctx.Err() == nil:
						g.fail(n.name, err)
					}
				}
			})
		}
	}
	w.t.Cleanup(func() { stop(); g.wg.Wait() })
	return g
}

func (g *issuing) fail(node string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.failed) < 10 {
		g.failed = append(g.failed, fmt.Sprintf("%s %s: %v", time.Now().Format("05.000"), node, err))
	} else {
		g.failed[9] = "and more"
	}
}

// end stops the workers and says what they met.
func (g *issuing) end() (issued int64, failed []string) {
	g.stop()
	g.wg.Wait()
	return g.issued.Load(), g.failed
}

// writing registers clients without a pause from several workers a node. Each
// write is tried again under its key until its outcome is known.
type writing struct {
	stop  context.CancelFunc
	wg    sync.WaitGroup
	mu    sync.Mutex
	acked map[string]time.Time
	wrong []string
	gap   time.Duration // longest time between two acknowledgements
	last  time.Time
}

func (w *world) writing(workers int, nodes ...*node) *writing {
	ctx, stop := context.WithCancel(w.t.Context())
	g := &writing{stop: stop, acked: map[string]time.Time{}, last: time.Now()}
	for _, n := range nodes {
		api := n.API
		for range workers {
			g.wg.Go(func() {
				for ctx.Err() == nil {
					g.one(ctx, n.name, api)
				}
			})
		}
	}
	w.t.Cleanup(func() { stop(); g.wg.Wait() })
	return g
}

func (g *writing) one(ctx context.Context, name string, api proc.API) {
	try, cancel := context.WithTimeout(ctx, waitBound)
	defer cancel()
	c, err := api.CreateClient(try, nil)
	if err == nil && c.ID == "" {
		err = errors.New("the answer names no client_id")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err == nil:
		now := time.Now()
		g.acked[c.ID] = now
		g.gap, g.last = max(g.gap, now.Sub(g.last)), now
	case ctx.Err() == nil && len(g.wrong) < 10:
		g.wrong = append(g.wrong, name+": "+err.Error())
	}
}

func (g *writing) end() (acked map[string]time.Time, wrong []string) {
	g.stop()
	g.wg.Wait()
	return g.acked, g.wrong
}

// count is how many writes were acknowledged so far.
func (g *writing) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.acked)
}

// kept checks I1: what was acknowledged is there at every node.
func (w *world) kept(acked map[string]time.Time, nodes ...*node) {
	w.t.Helper()
	for _, n := range nodes {
		ids := must(n.ClientIDs(w.bound()))(w.t)
		lost := 0
		for id := range acked {
			if !ids[id] {
				lost++
			}
		}
		if lost > 0 {
			w.t.Errorf("I1: %s has lost %d of %d acknowledged writes", n.name, lost, len(acked))
		}
	}
}

// event is an item of the delta that gateways read.
type event struct {
	Seq    uint64 `json:"seq"`
	Kind   string `json:"kind"`
	Target string `json:"target"`
}

// delta asks a node for what gateways would learn.
func (w *world) delta(ctx context.Context, n *node, since, epoch uint64) (d struct {
	Epoch, Head uint64
	Truncated   bool
	Items       []event
}, err error) {
	api := n.API
	api.Token = w.gateway
	path := fmt.Sprintf("/gateway/v1/revocations?since=%d&wait=0s", since)
	if epoch > 0 {
		path += fmt.Sprintf("&epoch=%d", epoch)
	}
	return d, api.Call(ctx, http.MethodGet, path, nil, &d)
}

// gapless checks I5 at a node: no revocation seq comes twice or out of order, and
// none of those that were acknowledged is missing.
func (w *world) gapless(n *node, acked map[uint64]bool) {
	w.t.Helper()
	seen, last := map[uint64]bool{}, uint64(0)
	for {
		d, err := w.delta(w.bound(), n, last, 0)
		if err != nil {
			w.t.Fatalf("delta of %s since %d: %v", n.name, last, err)
		}
		for _, item := range d.Items {
			if item.Seq <= last {
				w.t.Errorf("I5: %s gives seq %d after %d", n.name, item.Seq, last)
			}
			last, seen[item.Seq] = item.Seq, true
		}
		if !d.Truncated {
			break
		}
	}
	for seq := range acked {
		if !seen[seq] {
			w.t.Errorf("I5: %s does not give the acknowledged seq %d", n.name, seq)
		}
	}
}
