package gateway

import "sync/atomic"

// counters are what Status tells; each is one atomic, so that the hot path adds
// without a lock.
type counters struct {
	accepted, misses, open       atomic.Uint64
	polls, pages, snapshots      atomic.Uint64
	badAnswers, switches, hints  atomic.Uint64
	keyRefreshes, introspections atomic.Uint64
	refused                      map[Reason]*atomic.Uint64 // fixed at New
}

func (c *counters) init() {
	c.refused = make(map[Reason]*atomic.Uint64)
	for _, r := range reasons() {
		c.refused[r] = new(atomic.Uint64)
	}
}

func (c *counters) decided(err error) {
	if err == nil {
		c.accepted.Add(1)
		return
	}
	c.refused[ReasonOf(err)].Add(1)
}
