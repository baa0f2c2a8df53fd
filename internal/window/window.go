// Package window counts what addresses do at this node within a time, for limits that
// one address must not pass.
package window

import (
	"net/netip"
	"sync"
	"time"
)

// MaxRemembered bounds the addresses that are told apart within one window.
const MaxRemembered = 1 << 16

// Window counts for as long as Lasts, then begins anew. Its counts are this node's alone
// and end with it. Safe for concurrent use.
type Window struct {
	Lasts time.Duration

	mu     sync.Mutex
	ends   time.Time
	counts map[key]int
}

// key is what is counted under: a tenant, or "" for all together, and an address.
type key struct{ tenant, address string }

// Add counts one, and tells how many there are with it.
func (w *Window) Add(now time.Time, tenant, address string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := w.key(now, tenant, address)
	w.counts[k]++
	return w.counts[k]
}

// Count tells how many there are.
func (w *Window) Count(now time.Time, tenant, address string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[w.key(now, tenant, address)]
}

// key is what an address is counted under, in a window that has begun: an IPv6 network of
// 64 bits is one (RFC 6177: a site has at least that). Where too many are counted already
// the others share one.
func (w *Window) key(now time.Time, tenant, address string) key {
	if w.counts == nil || !now.Before(w.ends) {
		w.ends, w.counts = now.Add(w.Lasts), make(map[key]int)
	}
	if a, err := netip.ParseAddr(address); err == nil && a.Is6() && !a.Is4In6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			address = p.String()
		}
	}
	k := key{tenant, address}
	if _, there := w.counts[k]; !there && len(w.counts) >= MaxRemembered {
		return key{}
	}
	return k
}
