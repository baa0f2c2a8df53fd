package storage

import (
	"math"
	"sync"
	"sync/atomic"
)

// guard counts the calls that are inside Pebble, so that Close can wait for them:
// Pebble panics when it is used after or during its own Close. A plain RWMutex
// would deadlock when the function of a Scan reads again while Close waits.
type guard struct {
	state atomic.Int64 // calls inside, plus closedBias once it is shut
	once  sync.Once
	idle  chan struct{} // closed when it is shut and nobody is inside
}

const closedBias = math.MinInt64 / 2

func newGuard() *guard { return &guard{idle: make(chan struct{})} }

// enter reports whether the caller may go in; it must then leave.
func (g *guard) enter() bool {
	if g.state.Add(1) < 0 {
		g.leave()
		return false
	}
	return true
}

func (g *guard) leave() {
	if g.state.Add(-1) == closedBias {
		g.once.Do(func() { close(g.idle) })
	}
}

// shut lets nobody in from now on. It reports whether this call did it.
func (g *guard) shut() bool {
	for {
		n := g.state.Load()
		if n < 0 {
			return false
		}
		if g.state.CompareAndSwap(n, n+closedBias) {
			if n == 0 {
				g.once.Do(func() { close(g.idle) })
			}
			return true
		}
	}
}

// closed reports whether shut was called.
func (g *guard) closed() bool { return g.state.Load() < 0 }
