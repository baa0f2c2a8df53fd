// Package bench puts load on a server and measures what comes of it: the load
// generator behind 'keyraft bench' and behind the project's own table of figures.
//
// A Load is either open, a constant rate of operations that does not wait for the
// server, or closed, as fast as its connections go. In an open one a latency counts
// from the moment at which the operation was to begin, not from when a connection
// was free for it. So a server that stalls for a second shows a second, many times,
// instead of one slow answer and silence (coordinated omission).
//
//	workers, err := target.Workers(ctx, 64, bench.Mix{Issue: 100}, 0)
//	result, err := bench.Run(ctx, bench.Load{Ops: bench.Ops("jwt"), Workers: workers, Rate: 1000, Duration: 30 * time.Second})
//
// A Result has exact histograms, errors by kind, points over time, and, when
// Load.Server names a process, its CPU time and memory. Rounds repeats a list of such
// runs in turn and gives medians and ratios; cmd/bench is made of it.
//
// Failures: a refusal is counted and has no latency; an operation that got no answer
// within its limit, or that was due and never sent, counts with the time that it had
// waited.
//
// Units: durations, rates a second, bytes; JSON has seconds and microseconds, as its
// member names say.
package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// Worker does operations, one at a time; it is one connection to the server.
type Worker interface {
	// Do does operation n and waits for its end. Close makes it return soon.
	Do(n uint64) Outcome
	// Close may be called while Do runs, and more than once.
	Close()
}

// Load is one run.
type Load struct {
	Ops      []string      // names of the operations that workers do
	Workers  []Worker      // one a connection; Run closes them
	Rate     float64       // operations a second in all; 0: each worker as fast as it goes
	Warmup   time.Duration // the same load before, not measured
	Duration time.Duration // measured
	// GiveUp ends the run when the server has answered nothing for so long and at
	// least three operations failed meanwhile; 0 is five seconds.
	GiveUp time.Duration
	// Server, when set, is the process whose CPU time and memory are read.
	Server *Process
	// Progress, when set, is told of each point as it comes.
	Progress func(Point)

	clock clock         // nil: the real one
	every time.Duration // between two points; 0: a second, more in a long run
}

// Op is what was measured of one operation.
type Op struct {
	Name    string            `json:"name"`
	OK      uint64            `json:"ok"`
	Rate    float64           `json:"rate"` // that succeeded, a second
	Errors  map[string]uint64 `json:"errors,omitempty"`
	Latency *Histogram        `json:"latency_us"`
}

// Failed is how many failed, of all kinds.
func (o Op) Failed() uint64 { return (&tally{errors: o.Errors}).failures() }

// Result is what a run measured.
type Result struct {
	Wanted  float64       // rate; 0: as fast as it goes
	Rate    float64       // that was reached: successes within the measured time, a second
	Elapsed time.Duration // measured; less than wanted in a partial run
	Ops     []Op          // those that were done at least once
	All     *Histogram    // latencies of all of them
	Points  []Point
	Queued  uint64     // operations that were due before a connection was free for them
	Unsent  uint64     // of these, those that were due at the end and never begun
	Late    *Histogram // how late the generator itself began operations that it had a free connection for
	Usage   *Usage     // of Load.Server
	Partial string     // why the run ended early; empty: it is whole
}

// OK is how many operations succeeded, Failed how many did not.
func (r *Result) OK() (n uint64) {
	for _, o := range r.Ops {
		n += o.OK
	}
	return n
}

// Failed is how many operations did not succeed.
func (r *Result) Failed() (n uint64) {
	for _, o := range r.Ops {
		n += o.Failed()
	}
	return n
}

// mostPoints bounds how many points a run has, so that a long one stays small.
const mostPoints = 600

// drain is for how long, at most, an open load works off after its end what was due
// before. The rest is unsent.
const drain = time.Second

// usualGiveUp is how long a server may be silent; an election takes about two seconds.
const usualGiveUp = 5 * time.Second

// Run runs a load to its end, and closes its workers. What was measured until ctx
// ended or the server was lost is a result too, with Partial set. The error is about
// the load itself.
func Run(ctx context.Context, l Load) (*Result, error) {
	defer closeAll(l.Workers)
	switch {
	case len(l.Workers) == 0 || len(l.Ops) == 0:
		return nil, errors.New("bench: a load needs workers and operations")
	case l.Duration <= 0 || l.Warmup < 0:
		return nil, fmt.Errorf("bench: a load of %s after %s can't be run", l.Duration, l.Warmup)
	case l.Rate < 0 || math.IsNaN(l.Rate) || math.IsInf(l.Rate, 0):
		return nil, fmt.Errorf("bench: %v is no rate", l.Rate)
	}
	if l.clock == nil {
		c, err := newClock()
		if err != nil {
			return nil, err
		}
		l.clock = c
	}
	defer l.clock.close()
	if l.GiveUp == 0 {
		l.GiveUp = usualGiveUp
	}
	if l.every == 0 {
		l.every = max(time.Second, (l.Duration / mostPoints).Round(time.Second))
	}
	r := &runner{Load: l, end: l.Warmup + l.Duration, rec: newRecorder(len(l.Ops), len(l.Workers))}
	r.pacer = &pacer{clock: l.clock, rate: l.Rate, end: r.end, quit: r.end + min(drain, l.Duration/10), first: l.Warmup, late: NewHistogram()}
	return r.run(ctx)
}

func closeAll(workers []Worker) {
	for _, w := range workers {
		w.Close()
	}
}

// runner is a run under way.
type runner struct {
	Load
	end    time.Duration
	pacer  *pacer
	rec    *recorder
	points []Point
	usage  *Usage
	lost   string // why it was given up
}

func (r *runner) run(ctx context.Context) (*Result, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	// Whoever waits for an answer when the run is called off is cut off.
	cut := context.AfterFunc(ctx, func() { closeAll(r.Workers) })
	defer cut()
	var watching, working sync.WaitGroup
	done := make(chan struct{})
	watching.Go(func() { r.watch(ctx, done, stop) })
	watching.Go(func() { r.measure(ctx, done) })
	for i, w := range r.Workers {
		working.Go(func() { r.work(ctx, i, w) })
	}
	working.Wait()
	quit := min(r.clock.now(), r.pacer.quit)
	stopped := r.end
	if ctx.Err() != nil {
		stopped = min(stopped, quit)
	}
	close(done)
	watching.Wait()
	return r.result(ctx, stopped, quit), nil
}

// work does operations until the run is over.
func (r *runner) work(ctx context.Context, i int, w Worker) {
	for {
		s, ok := r.pacer.take(ctx)
		if !ok {
			return
		}
		o := w.Do(s.n)
		now := r.clock.now()
		if o.Kind != "" && ctx.Err() != nil {
			if !errors.Is(context.Cause(ctx), errLost) {
				return // cut off by us: nobody knows what would have come of it
			}
			o.Kind = KindTimeout
		}
		r.rec.add(i, s, o, now-s.due, when{now: now, begun: s.due >= r.Warmup, ended: now >= r.Warmup && now <= r.end})
		if o.Kind == KindConnect && r.Rate == 0 {
			pause(ctx)
		}
	}
}

// pause keeps a closed load from spinning on a port where nothing listens.
func pause(ctx context.Context) {
	timer := time.NewTimer(10 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// errLost is why a run was given up.
var errLost = errors.New("the server was lost")

// watch takes a point now and then, and gives up a server that is lost.
func (r *runner) watch(ctx context.Context, done <-chan struct{}, stop context.CancelCauseFunc) {
	look := min(r.every, time.Second) // a long run has points farther apart than that
	tick := time.NewTicker(look)
	defer tick.Stop()
	scratch := NewHistogram()
	var last time.Duration // of the last point
	point := func(final bool) {
		now := r.clock.now() - r.Warmup
		if now <= 0 || now-last < r.every-look/2 && !final {
			return // too short to have a rate
		}
		p := r.rec.point(scratch)
		p.At, p.Length = now, now-last
		if last = now; p.Length < look/4 && len(r.points) > 0 {
			return // the very end, too short as well
		}
		r.points = append(r.points, p)
		if r.Progress != nil {
			r.Progress(p)
		}
	}
	for {
		select {
		case <-done:
			point(true)
			return
		case <-ctx.Done():
			<-done
			point(true)
			return
		case <-tick.C:
			point(false)
			silence := r.clock.now() - time.Duration(r.rec.heard.Load())
			if silence >= r.GiveUp && r.rec.lost.Load() >= 3 && ctx.Err() == nil {
				r.lost = "the server answered nothing for " + silence.Round(time.Second).String()
				stop(errLost)
			}
		}
	}
}

// measure reads the server's process at the beginning and the end of the measured
// time.
func (r *runner) measure(ctx context.Context, done <-chan struct{}) {
	if r.Server == nil {
		return
	}
	if !r.wait(ctx, done, r.Warmup) {
		return
	}
	begun, err := r.Server.readAll()
	before := r.rec.within()
	if err != nil {
		return
	}
	r.wait(ctx, done, r.end) // a partial run is measured too
	ended, err := r.Server.readAll()
	if err != nil {
		return // it is gone: the run is partial
	}
	r.usage = ended.since(begun, r.rec.within()-before)
}

// wait waits for an instant of the run, false when the run was over before.
func (r *runner) wait(ctx context.Context, done <-chan struct{}, at time.Duration) bool {
	timer := time.NewTimer(at - r.clock.now())
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-done:
	case <-ctx.Done():
	}
	return false
}

// result sums up: stopped is when measuring ended, quit when nothing was begun any
// more.
func (r *runner) result(ctx context.Context, stopped, quit time.Duration) *Result {
	tallies, queued := r.rec.sum()
	res := &Result{
		Wanted: r.Rate, Elapsed: max(0, stopped-r.Warmup), All: NewHistogram(),
		Points: r.points, Queued: queued, Late: r.pacer.late, Usage: r.usage,
	}
	switch {
	case r.lost != "":
		res.Partial = r.lost
	case ctx.Err() != nil && stopped < r.end:
		res.Partial = "interrupted"
	}
	if from, to := r.pacer.left(stopped); to > from {
		r.unsent(tallies, from, to, quit, res)
	}
	for i, t := range tallies {
		if t.ok == 0 && len(t.errors) == 0 {
			continue
		}
		op := Op{Name: r.Ops[i], OK: t.ok, Errors: t.errors, Latency: t.latency}
		if res.Elapsed > 0 {
			op.Rate = float64(t.within) / res.Elapsed.Seconds()
		}
		res.Rate += op.Rate
		res.All.Merge(t.latency)
		res.Ops = append(res.Ops, op)
	}
	return res
}

const mostUnsent = 1_000_000

// unsent counts what was due and never begun, with the time that it had waited. It
// belongs to no operation in particular: who would have done it was not asked. It is
// counted with the one that was done most.
func (r *runner) unsent(tallies []tally, from, to uint64, quit time.Duration, res *Result) {
	most := &tallies[0]
	for i := range tallies {
		if tallies[i].latency.Count() > most.latency.Count() {
			most = &tallies[i]
		}
	}
	step := max(1, (to-from)/mostUnsent) // a million of them say as much as all
	for n := from; n < to; n += step {
		if due := r.pacer.due(n); due >= r.Warmup {
			count := min(step, to-n)
			most.latency.RecordN(max(0, quit-due), int64(count))
			res.Unsent += count
		}
	}
	if res.Unsent > 0 {
		most.fail(KindUnsent, res.Unsent)
		res.Queued += res.Unsent
	}
}
