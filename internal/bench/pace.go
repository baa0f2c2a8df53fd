package bench

import (
	"context"
	"math"
	"sync"
	"time"
)

// clock is time since the beginning of a run. Tests bring their own.
type clock interface {
	now() time.Duration
	// sleep returns at or after that instant, or soon after ctx has ended.
	sleep(ctx context.Context, until time.Duration)
	close()
}

// longestSleep is how long a sleep may go on after its context has ended.
const longestSleep = 50 * time.Millisecond

// pacer hands out operations at their intended times. The worker that asks next
// waits for the next one under the lock, so that at most one sleeps and the others
// queue behind it; who is let in late finds its operation due already, and the time
// it waited counts.
type pacer struct {
	mu    sync.Mutex
	clock clock
	rate  float64 // operations a second; 0: each is due when it is asked for
	next  uint64
	end   time.Duration // nothing is due from then on
	quit  time.Duration // and what was due before is not begun any more
	late  *Histogram    // how late an operation was handed to a worker that had waited for it
	first time.Duration
}

// slot is one operation to do.
type slot struct {
	n      uint64
	due    time.Duration
	queued bool // it was due before any worker was free
}

// take gives the next operation, false when the run is over.
func (p *pacer) take(ctx context.Context) (slot, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.now()
	if ctx.Err() != nil || now >= p.quit || p.rate == 0 && now >= p.end {
		return slot{}, false
	}
	s := slot{n: p.next, due: now}
	if p.rate > 0 {
		if s.due = p.due(p.next); s.due >= p.end {
			return slot{}, false
		}
		s.queued = s.due < now
		for now < s.due {
			p.clock.sleep(ctx, min(s.due, now+longestSleep))
			if ctx.Err() != nil {
				return slot{}, false
			}
			now = p.clock.now()
		}
		if !s.queued && s.due >= p.first {
			p.late.Record(now - s.due)
		}
	}
	p.next++
	return s, true
}

// due is when operation n is to begin.
func (p *pacer) due(n uint64) time.Duration {
	return time.Duration(float64(n) / p.rate * float64(time.Second))
}

// left gives the numbers of the operations that were due by then and that nobody came
// to begin.
func (p *pacer) left(end time.Duration) (from, to uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rate == 0 {
		return 0, 0
	}
	to = uint64(math.Ceil(end.Seconds() * p.rate))
	return p.next, max(p.next, to)
}
