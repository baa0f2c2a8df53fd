package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/tokens/verify"
)

// revocable says whether events of this kind are revocations.
func revocable(kind string) bool {
	switch kind {
	case verify.KindToken, verify.KindGrant, verify.KindRoot, verify.KindClient, verify.KindSubject,
		verify.KindApplication, verify.KindAPIKey, verify.KindKeyManager, verify.KindKey:
		return true
	}
	return false
}

// add puts one revocation event into the set. Writer only.
func (s *revset) add(h *hasher, e *wire.Event) {
	if e.Issuer == "" {
		s.bare.Store(true)
	} else {
		s.named.Store(true)
	}
	s.insert(newRecord(h.target(e.Tenant, e.Issuer, e.Kind, e.Target), e.Seq, e.IssuedBefore, e.ExpiresAt))
}

// apply takes a delta in, all or nothing, and moves since to its end. stale says
// that keys changed to something that the delta does not hold. Doing it twice
// changes nothing.
func (g *Gateway) apply(d *wire.Delta, since *uint64) (stale bool, err error) {
	g.mu.Lock()
	moved, stale, err := g.applyLocked(d, since)
	g.mu.Unlock()
	if moved {
		g.told()
	}
	return stale, err
}

func (g *Gateway) applyLocked(d *wire.Delta, since *uint64) (moved, stale bool, err error) {
	v := g.view.Load()
	keys, adds := v.keys, 0
	for i := range d.Items {
		e := &d.Items[i]
		switch {
		case e.Seq <= *since:
		case revocable(e.Kind):
			adds++
		case e.Kind == wire.KindKeys:
			next, err := keys.withEvent(e)
			if err != nil || len(e.Data) == 0 {
				stale = true
				continue
			}
			keys = next
		}
	}
	if adds > 0 && v.set.len()+adds > g.cfg.MaxRevocations {
		return false, false, errFull
	}
	for i := range d.Items {
		if e := &d.Items[i]; e.Seq > *since && revocable(e.Kind) {
			v.set.add(&g.cache.hash, e)
		}
	}
	g.counts.pages.Add(1)
	g.confirmed.Store(true)
	if next := d.Next(); next > *since {
		*since = next
		g.publish(view{epoch: d.Epoch, head: next, set: v.set, keys: keys})
		moved = true
	}
	return moved, stale, nil
}

// install publishes a snapshot's set, joined with all that was known before.
func (g *Gateway) install(at wire.Snapshot, set *revset) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.view.Load()
	if g.confirmed.Load() && (at.Epoch < v.epoch || at.Epoch == v.epoch && at.Head < v.head) {
		return errBehind // the head never goes back
	}
	over := g.over()
	v.set.each(func(r *record) {
		if !r.expired(over) {
			set.insert(*r)
		}
	})
	set.named.Store(set.named.Load() || v.set.named.Load())
	set.bare.Store(set.bare.Load() || v.set.bare.Load())
	g.confirmed.Store(true)
	g.publish(view{epoch: at.Epoch, head: at.Head, set: set, keys: v.keys})
	return nil
}

// rewind gives up a position that only the cache file vouched for.
func (g *Gateway) rewind() {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.view.Load()
	g.publish(view{set: v.set, keys: v.keys.unplaced()})
}

// over is the time up to which expired revocations may be dropped: later by this
// gateway's own skew, for which it still takes an expired token.
func (g *Gateway) over() int64 { return g.cfg.Clock.Now().Unix() - g.skew }

// forget drops everything that the cache file brought.
func (g *Gateway) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	keys, err := newKeyring(g.cfg.APIs)
	if err != nil { // New built one of the same APIs
		panic("gateway: " + err.Error())
	}
	g.publish(view{set: newRevset(), keys: keys})
	g.cached.Store(false)
}

// setKeys takes in a key document. An older one than what is known changes only
// issuers that no later event spoke of.
func (g *Gateway) setKeys(doc *wire.Keys) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.view.Load()
	keys, err := v.keys.with(doc)
	if err != nil {
		g.counts.badAnswers.Add(1)
		return fmt.Errorf("keys: %w", err)
	}
	g.publish(view{epoch: v.epoch, head: v.head, set: v.set, keys: keys})
	return nil
}

// proved notes when the poll was sent that showed the head to be the cluster's.
func (g *Gateway) proved(sent instant) {
	if old := g.proof.Load(); old == nil || sent.boot > old.boot {
		g.proof.Store(&sent)
	}
}

func (g *Gateway) told() {
	if g.cfg.OnSync != nil {
		v := g.view.Load()
		g.cfg.OnSync(v.epoch, v.head)
	}
}

const (
	refreshPause = 5 * time.Second // between two refreshes that unknown keys asked for
	maxWaiting   = 64              // callers that wait for one
)

// refresher lets an unknown kid fetch the keys, once in refreshPause for all
// callers together. Until the next one every unknown kid is refused from memory,
// whatever its name: random ones can't fill a negative cache (Y3).
type refresher struct {
	mu      sync.Mutex
	began   bool
	last    time.Duration
	flight  chan struct{}
	waiting int
}

// refreshKeys says whether keys were fetched, so that looking again is worth it.
func (g *Gateway) refreshKeys(ctx context.Context) bool {
	r := &g.refresh
	r.mu.Lock()
	now := g.cfg.Clock.Boot()
	if flight := r.flight; flight != nil {
		if r.waiting >= maxWaiting {
			r.mu.Unlock()
			return false
		}
		r.waiting++
		r.mu.Unlock()
		select {
		case <-flight:
			return true
		case <-ctx.Done():
			return false
		}
	}
	if r.began && now-r.last < refreshPause {
		r.mu.Unlock()
		return false
	}
	flight := make(chan struct{})
	r.began, r.last, r.flight, r.waiting = true, now, flight, 0
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.flight = nil
		r.mu.Unlock()
		close(flight)
	}()
	g.counts.keyRefreshes.Add(1)
	if err := g.fetchKeys(context.WithoutCancel(ctx)); err != nil {
		g.cfg.Logger.Warn("keys could not be refreshed for an unknown kid", "error", err)
		return false
	}
	return true
}

func (g *Gateway) fetchKeys(ctx context.Context) error {
	urls := g.nodes.order(1)
	if len(urls) == 0 {
		return errors.New("no node is known")
	}
	doc, err := g.client.keys(ctx, g.cfg.Clock, urls[0])
	if err != nil {
		return err
	}
	if doc.Cluster != g.pinned() {
		return errors.New("the node is of another cluster")
	}
	if doc.Epoch < g.view.Load().epoch {
		return errBehind
	}
	return g.setKeys(doc)
}
