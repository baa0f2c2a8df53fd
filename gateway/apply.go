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

// apply takes a delta in, all or nothing, and moves since to its end. Doing it
// twice changes nothing.
func (g *Gateway) apply(d *wire.Delta, since *uint64) error {
	g.mu.Lock()
	moved, err := g.applyLocked(d, since)
	g.mu.Unlock()
	if moved {
		g.told()
	}
	return err
}

func (g *Gateway) applyLocked(d *wire.Delta, since *uint64) (moved bool, err error) {
	v := g.view.Load()
	next := *v
	next.epoch, next.head = d.Epoch, d.Next()
	var adds []*wire.Event
	var more []verify.Revocation
	for i := range d.Items {
		e := &d.Items[i]
		switch {
		case e.Seq <= *since:
		case e.Kind == wire.KindKeys:
			if keys, err := next.keys.withEvent(e); err == nil { // else the document is in already
				next.keys = keys
			}
		case !revocable(e.Kind):
		case e.IssuedAfter != 0:
			next.keys.named(e)
			more = append(more, revocationOf(e))
		default:
			next.keys.named(e)
			adds = append(adds, e)
		}
	}
	if len(adds) > 0 && v.set.len()+len(adds) > g.cfg.MaxRevocations {
		return false, errFull
	}
	if next.windows, err = v.windows.with(more); err != nil {
		return false, err
	}
	for _, e := range adds {
		v.set.add(&g.cache.hash, e)
	}
	g.counts.pages.Add(1)
	g.confirmed.Store(true)
	if next.head > *since {
		*since = next.head
		g.publish(next)
		moved = true
	}
	return moved, nil
}

// needsKeys is the seq of the last event after since that says that keys changed,
// but not to what; 0 for none. The key document must be as new before the head
// moves past it: a head that a node was told of is one that this gateway acts on.
func (g *Gateway) needsKeys(d *wire.Delta, since uint64) (seq uint64) {
	keys := g.view.Load().keys
	for i := range d.Items {
		if e := &d.Items[i]; e.Seq > since && e.Kind == wire.KindKeys {
			if next, err := keys.withEvent(e); err == nil {
				keys = next
			} else {
				seq = e.Seq
			}
		}
	}
	return seq
}

// install publishes a snapshot's revocations, joined with all that was known before.
// made is the cluster's clock at the snapshot, in seconds.
func (g *Gateway) install(at wire.Snapshot, made int64, set *revset, more []verify.Revocation) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.view.Load()
	if g.confirmed.Load() && (at.Epoch < v.epoch || at.Epoch == v.epoch && at.Head < v.head) {
		return errBehind // the head never goes back
	}
	over := g.over()
	kept := v.windows.live(over)
	kept, err := kept.with(more)
	if err != nil {
		return err
	}
	v.set.each(func(r *record) {
		if !r.expired(over) {
			set.insert(*r)
		}
	})
	set.named.Store(set.named.Load() || v.set.named.Load())
	set.bare.Store(set.bare.Load() || v.set.bare.Load())
	g.confirmed.Store(true)
	g.publish(view{epoch: at.Epoch, head: at.Head, set: set, windows: kept, keys: v.keys, made: made})
	return nil
}

// sweep drops what has expired. That it may have is published first: a token that
// ended before is not decided by what is left, should the clock be set back.
func (g *Gateway) sweep() {
	g.mu.Lock()
	defer g.mu.Unlock()
	over := g.over()
	next := *g.view.Load()
	next.swept = max(next.swept, over)
	next.windows = next.windows.live(over)
	g.publish(next)
	next.set.sweep(over)
}

// setBack says that the clock was set back behind what was swept by it: then live
// revocations may have been dropped.
func (g *Gateway) setBack() bool { return g.over()+nodeKeeps < g.view.Load().swept }

// rewind gives up a position that only the cache file vouched for.
func (g *Gateway) rewind() {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.view.Load()
	next := *v
	next.epoch, next.head, next.keys = 0, 0, v.keys.unplaced()
	g.publish(next)
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

// setKeys takes in a key document, unless what is known is newer. A newer cache
// file is left as it is: the poll that follows tells whether it is to be believed.
func (g *Gateway) setKeys(doc *wire.Keys) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	next := *g.view.Load()
	if doc.Head < next.keys.at {
		if g.confirmed.Load() {
			return errBehind
		}
		return nil
	}
	keys, err := next.keys.with(doc)
	if err != nil {
		g.counts.badAnswers.Add(1)
		return fmt.Errorf("keys: %w", err)
	}
	next.keys = keys
	g.publish(next)
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
	before := g.view.Load()
	doc, err := g.client.keys(ctx, g.cfg.Clock, urls[0])
	if err != nil {
		return err
	}
	if doc.Cluster != g.pinned() {
		return errors.New("the node is of another cluster")
	}
	if doc.Epoch < before.epoch || doc.Epoch == before.epoch && doc.Head < before.head {
		return errBehind
	}
	return g.setKeys(doc)
}
