package gateway

import (
	"math/bits"
	"sync/atomic"
)

// cache is the decision cache: what was verified about tokens that were seen,
// found by the digest of the whole token and a full comparison. Bounded in
// bytes; no lock: a bucket of eight slots is searched and changed by single
// atomic steps, and losing a race costs one verification.
type cache struct {
	hash    hasher
	buckets []bucket
	limit   int64
	bytes   atomic.Int64
	entries atomic.Int64
	hand    atomic.Uint64
}

const ways = 8

// bucket is one cache line of pointers.
type bucket [ways]atomic.Pointer[entry]

// entry is one verified token. All but the atomics is immutable.
type entry struct {
	id     digest
	token  string
	who    Identity
	claims claims
	until  int64         // an opaque token's answer is good until then; 0: exp alone decides
	gen    atomic.Uint64 // publication that it was last held against
	used   atomic.Bool
	gone   atomic.Pointer[Refusal] // set once it is refused for good
}

// typicalEntry is what an entry of a 450-byte token takes, to size the buckets.
const (
	entryOverhead = 1408 // the entry itself, measured, and its slot
	typicalEntry  = entryOverhead + 2*450
)

func newCache(hash hasher, limit int64) *cache {
	n := uint64(limit/typicalEntry/ways) + 1
	return &cache{hash: hash, buckets: make([]bucket, 1<<bits.Len64(n)), limit: limit}
}

// size is what an entry takes: the token, its claims (no longer than the token)
// and the fixed parts.
func (e *entry) size() int64 { return entryOverhead + 2*int64(len(e.token)) }

func (c *cache) bucket(id digest) *bucket { return &c.buckets[id[0]&uint64(len(c.buckets)-1)] }

func (c *cache) find(id digest, token string) *entry {
	b := c.bucket(id)
	for i := range b {
		if e := b[i].Load(); e != nil && e.id == id && e.token == token {
			if !e.used.Load() {
				e.used.Store(true)
			}
			return e
		}
	}
	return nil
}

// put adds e in the place of the same token, an empty one, or one that was not
// used since the last search; then evicts until the bound holds again.
func (c *cache) put(e *entry) {
	if e.size() > c.limit/16 {
		return // one token must not push out all others
	}
	b := c.bucket(e.id)
	at := b.place(e)
	old := b[at].Load()
	if !b[at].CompareAndSwap(old, e) {
		return
	}
	c.count(old, e)
	for n := 0; c.bytes.Load() > c.limit && n < len(c.buckets); n++ {
		c.evict()
	}
}

// place chooses the slot for e: the same token's, an empty one, one that was not
// used lately, any.
func (b *bucket) place(e *entry) int {
	first := int(e.id[1] % ways)
	empty, idle := -1, -1
	for n := range ways {
		i := (first + n) % ways
		switch old := b[i].Load(); {
		case old == nil:
			empty = i
		case old.id == e.id && old.token == e.token:
			return i
		case idle < 0 && !old.used.Load():
			idle = i
		}
	}
	if empty >= 0 {
		return empty
	}
	if idle >= 0 {
		return idle
	}
	for i := range b {
		if old := b[i].Load(); old != nil {
			old.used.Store(false)
		}
	}
	return first
}

func (c *cache) count(old, now *entry) {
	if old != nil {
		c.bytes.Add(-old.size())
		c.entries.Add(-1)
	}
	if now != nil {
		c.bytes.Add(now.size())
		c.entries.Add(1)
	}
}

// evict clears the next bucket: first of what was not used, of all if it all was.
func (c *cache) evict() {
	b := &c.buckets[c.hand.Add(1)&uint64(len(c.buckets)-1)]
	for i := range b {
		e := b[i].Load()
		if e == nil || e.used.Swap(false) {
			continue
		}
		if b[i].CompareAndSwap(e, nil) {
			c.count(e, nil)
		}
	}
}

// drop removes an entry that is of no more use.
func (c *cache) drop(e *entry) {
	b := c.bucket(e.id)
	for i := range b {
		if b[i].CompareAndSwap(e, nil) {
			c.count(e, nil)
			return
		}
	}
}
