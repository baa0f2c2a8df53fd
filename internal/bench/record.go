package bench

import (
	"maps"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Outcome is what came of one operation.
type Outcome struct {
	Op   int    // which of Load.Ops was done
	Kind string // of the error; empty: it succeeded
}

// The kinds of errors that are no answer of the server. A refusal's kind is its
// status and error code, such as "503 temporarily_unavailable".
const (
	KindConnect = "connect"           // no connection came about
	KindBroken  = "connection broken" // it ended before the answer did
	KindTimeout = "timeout"           // no answer within the time limit
	KindUnsent  = "not sent in time"  // it was due before the end and no connection was free for it
)

// answered reports whether the server said anything.
func (o Outcome) answered() bool {
	return o.Kind != KindConnect && o.Kind != KindBroken && o.Kind != KindTimeout
}

// waited reports whether the time of a failure counts as a latency: somebody waited
// so long and got nothing. A refusal is quick and would only flatter the figures.
func (o Outcome) waited() bool { return o.Kind == "" || o.Kind == KindTimeout }

// maxKinds bounds the kinds that are told apart; a server chooses its error codes.
const maxKinds = 50

// tally is what is known of one operation.
type tally struct {
	ok      uint64
	within  uint64 // that succeeded within the measured time, whenever they began
	errors  map[string]uint64
	latency *Histogram
}

func (t *tally) fail(kind string, n uint64) {
	if t.errors == nil {
		t.errors = map[string]uint64{}
	}
	if _, known := t.errors[kind]; !known && len(t.errors) >= maxKinds {
		kind = "other"
	}
	t.errors[kind] += n
}

func (t *tally) merge(other *tally) {
	t.ok += other.ok
	t.within += other.within
	for kind, n := range other.errors {
		t.fail(kind, n)
	}
	t.latency.Merge(other.latency)
}

// recorder keeps what happened. It is split so that workers seldom wait for each
// other.
type recorder struct {
	shards []*shard
	heard  atomic.Int64 // when the server last answered anything, by the run's clock
	lost   atomic.Int64 // operations without an answer since then
}

type shard struct {
	mu         sync.Mutex
	tallies    []tally
	interval   *Histogram // since the last point
	ok, failed uint64     // likewise
	queued     uint64

	spare *Histogram // empty; point alone touches it
}

func newRecorder(ops, workers int) *recorder {
	r := &recorder{shards: make([]*shard, min(workers, 4*runtime.GOMAXPROCS(0)))}
	for i := range r.shards {
		s := &shard{interval: NewHistogram(), spare: NewHistogram(), tallies: make([]tally, ops)}
		for j := range s.tallies {
			s.tallies[j].latency = NewHistogram()
		}
		r.shards[i] = s
	}
	return r
}

// when tells how an operation lies to the measured time.
type when struct {
	now   time.Duration // its end
	begun bool          // it was to begin after the warm-up: its latency counts
	ended bool          // it ended after the warm-up, and before the end: it counts into the rate
}

// add records one operation of a worker.
func (r *recorder) add(worker int, s slot, o Outcome, took time.Duration, w when) {
	if o.answered() {
		r.heard.Store(int64(w.now))
		if r.lost.Load() > 0 {
			r.lost.Store(0)
		}
	} else {
		r.lost.Add(1)
	}
	sh := r.shards[worker%len(r.shards)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	t := &sh.tallies[o.Op]
	if w.ended && o.Kind == "" {
		t.within++
		sh.ok++
	}
	if !w.begun {
		return
	}
	if o.Kind == "" {
		t.ok++
	} else {
		t.fail(o.Kind, 1)
		sh.failed++
	}
	if s.queued {
		sh.queued++
	}
	if o.waited() {
		t.latency.Record(took)
		sh.interval.Record(took)
	}
}

// within is how many operations succeeded within the measured time so far.
func (r *recorder) within() (n uint64) {
	for _, sh := range r.shards {
		sh.mu.Lock()
		for i := range sh.tallies {
			n += sh.tallies[i].within
		}
		sh.mu.Unlock()
	}
	return n
}

// Point is one stretch of a run.
type Point struct {
	At     time.Duration // its end, from the beginning of the measured time
	Length time.Duration
	OK     uint64
	Failed uint64
	P50    time.Duration
	P99    time.Duration
	Max    time.Duration
}

// point takes what was recorded since the last one. scratch is overwritten.
func (r *recorder) point(scratch *Histogram) (p Point) {
	scratch.Reset()
	for _, sh := range r.shards {
		sh.mu.Lock()
		p.OK += sh.ok
		p.Failed += sh.failed
		sh.ok, sh.failed = 0, 0
		sh.interval, sh.spare = sh.spare, sh.interval
		sh.mu.Unlock()
		scratch.Merge(sh.spare) // outside the lock: it takes as long as an answer
		sh.spare.Reset()
	}
	p.P50, p.P99, p.Max = scratch.At(50), scratch.At(99), scratch.Max()
	return p
}

// sum merges all shards into one tally an operation.
func (r *recorder) sum() (tallies []tally, queued uint64) {
	tallies = make([]tally, len(r.shards[0].tallies))
	for i := range tallies {
		tallies[i].latency = NewHistogram()
	}
	for _, sh := range r.shards {
		sh.mu.Lock()
		for i := range tallies {
			tallies[i].merge(&sh.tallies[i])
		}
		queued += sh.queued
		sh.mu.Unlock()
	}
	return tallies, queued
}

func (t *tally) failures() (n uint64) {
	for v := range maps.Values(t.errors) {
		n += v
	}
	return n
}
