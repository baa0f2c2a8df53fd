package cluster

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
)

// Bounds of what waits to be proposed at one node. Beyond them a write is
// refused at once: waiting longer helps nobody.
const (
	maxQueued = 16384           // commands
	maxBytes  = 64 << 20        // bytes of commands
	maxAge    = 2 * time.Second // of the oldest: the queue is stuck
)

// outcome is what became of a unit: its results, or why there are none.
type outcome struct {
	results []command.Result
	err     error // errNotDone, errUnknown or errGone
}

// unit is commands that travel together: one request's, or a follower's batch.
type unit struct {
	tenant    string
	epoch     uint64 // of the state on which it was decided; 0: not known
	count     int
	envelopes []byte
	at        time.Time
	done      chan outcome // holds one
	state     atomic.Int32
}

const (
	unitQueued int32 = iota
	unitTaken
	unitCancelled
)

func newUnit(tenant string, epoch uint64, count int, envelopes []byte) *unit {
	return &unit{tenant: tenant, epoch: epoch, count: count, envelopes: envelopes, at: time.Now(), done: make(chan outcome, 1)}
}

// units are those whose outcome has come, to be used again. A unit that was given up,
// or that went to another node, is never put here: somebody may still hold it.
type units struct{ pool sync.Pool }

func (p *units) get(tenant string, epoch uint64, count int, envelopes []byte) *unit {
	u, _ := p.pool.Get().(*unit)
	if u == nil {
		return newUnit(tenant, epoch, count, envelopes)
	}
	u.tenant, u.epoch, u.count, u.envelopes, u.at = tenant, epoch, count, envelopes, time.Now()
	u.state.Store(unitQueued)
	return u
}

func (p *units) put(u *unit) {
	u.envelopes = nil
	p.pool.Put(u)
}

// take claims the unit for an entry; false when its caller has given it up.
func (u *unit) take() bool { return u.state.CompareAndSwap(unitQueued, unitTaken) }

// cancel gives the unit up; false when it was taken: then its outcome is unknown.
func (u *unit) cancel() bool { return u.state.CompareAndSwap(unitQueued, unitCancelled) }

// queue holds units by tenant and gives each tenant its turn, so that the storm
// of one doesn't hold up the others.
type queue struct {
	mu       sync.Mutex
	byTenant map[string]*lane
	turns    []*lane // lanes that hold something, in order of turn
	count    int
	bytes    int
	wake     chan struct{}

	refusals atomic.Uint64 // commands that push did not take
}

type lane struct {
	tenant string
	units  []*unit
	count  int
}

func newQueue() *queue { return &queue{byTenant: map[string]*lane{}, wake: make(chan struct{}, 1)} }

// push adds a unit, or refuses it: the queue is full, this tenant has more than
// its share of it, or it does not move.
func (q *queue) push(u *unit) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.byTenant[u.tenant]
	if l == nil {
		l = &lane{tenant: u.tenant}
	}
	share := maxQueued / 2
	if len(q.turns) == 0 || len(q.turns) == 1 && q.turns[0] == l {
		share = maxQueued // alone: all of it
	}
	full := q.count+u.count > maxQueued || q.bytes+len(u.envelopes) > maxBytes || l.count+u.count > share
	if full || len(l.units) > 0 && u.at.Sub(l.units[0].at) > maxAge {
		q.refusals.Add(uint64(u.count))
		return false
	}
	if len(l.units) == 0 {
		q.byTenant[u.tenant] = l
		q.turns = append(q.turns, l)
	}
	l.units = append(l.units, u)
	l.count += u.count
	q.count += u.count
	q.bytes += len(u.envelopes)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// pull takes units for one entry, turn by turn, up to the bounds of an entry.
func (q *queue) pull(maxCommands, maxSize int) []*unit {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []*unit
	count, size := 0, 0
	for len(q.turns) > 0 {
		l := q.turns[0]
		u := l.units[0]
		if len(out) > 0 && (count+u.count > maxCommands || size+len(u.envelopes) > maxSize) {
			break
		}
		l.units[0] = nil
		l.units = l.units[1:]
		l.count -= u.count
		q.count -= u.count
		q.bytes -= len(u.envelopes)
		q.turns = q.turns[1:]
		if len(l.units) > 0 {
			q.turns = append(q.turns, l)
		} else {
			delete(q.byTenant, l.tenant)
		}
		if u.take() {
			out = append(out, u)
			count += u.count
			size += len(u.envelopes)
		}
	}
	if len(q.turns) > 0 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return out
}

// refuse gives every unit that waits the same outcome.
func (q *queue) refuse(err error) {
	for units := q.pull(command.MaxCommands, command.MaxEntry); len(units) > 0; units = q.pull(command.MaxCommands, command.MaxEntry) {
		settle(units, outcome{err: err})
	}
}

// current answers the units that were decided before a restore, and returns the
// others: what they were decided on is gone (R11).
func current(units []*unit, epoch uint64) []*unit {
	kept := units[:0]
	for _, u := range units {
		if u.epoch == 0 || u.epoch == epoch {
			kept = append(kept, u)
		} else {
			u.done <- outcome{err: errGone}
		}
	}
	return kept
}

// depth is how many commands wait.
func (q *queue) depth() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count
}
