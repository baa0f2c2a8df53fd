package bench

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeClock moves when somebody sleeps, and when a worker says that time passed.
type fakeClock struct {
	mu sync.Mutex
	at time.Duration
}

func (c *fakeClock) now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *fakeClock) sleep(_ context.Context, until time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = max(c.at, until)
}

func (c *fakeClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at += d
}

func (c *fakeClock) close() {}

// worker does what do says.
type worker struct {
	do     func(n uint64) Outcome
	once   sync.Once
	closed chan struct{}
}

func newWorker(do func(n uint64) Outcome) *worker {
	return &worker{do: do, closed: make(chan struct{})}
}

func (w *worker) Do(n uint64) Outcome { return w.do(n) }
func (w *worker) Close()              { w.once.Do(func() { close(w.closed) }) }

// slow is a worker whose operation n takes as long as takes says.
func slow(c *fakeClock, takes func(n uint64) time.Duration) *worker {
	return newWorker(func(n uint64) Outcome {
		c.pass(takes(n))
		return Outcome{}
	})
}

func mustRun(t *testing.T, l Load) *Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := Run(ctx, l)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func equal(a, b *Histogram) bool { return a.hdr.Equals(b.hdr) }

// TestAStallIsSeenByAllWhoWouldHaveCome: a server that stands still for half a second
// delays the fifty operations that were due meanwhile, and each of them says so. A
// generator that waits for its answer before it looks at the time sees one.
func TestAStallIsSeenByAllWhoWouldHaveCome(t *testing.T) {
	t.Parallel()
	const stalled, stall, usual = 20, 500 * time.Millisecond, time.Millisecond
	takes := func(n uint64) time.Duration {
		if n == stalled {
			return stall
		}
		return usual
	}
	want, free, behind := NewHistogram(), time.Duration(0), uint64(0)
	for n := range uint64(100) {
		due := time.Duration(n) * 10 * time.Millisecond
		if due < free {
			behind++
		}
		free = max(due, free) + takes(n)
		want.Record(free - due)
	}
	c := new(fakeClock)
	open := mustRun(t, Load{Ops: []string{"x"}, Workers: []Worker{slow(c, takes)}, Rate: 100, Duration: time.Second, clock: c})
	if !equal(open.Ops[0].Latency, want) {
		t.Errorf("latencies: %d with p50 %s, p90 %s, max %s; want %d with %s, %s, %s", open.All.Count(), open.All.At(50), open.All.At(90), open.All.Max(),
			want.Count(), want.At(50), want.At(90), want.Max())
	}
	if open.All.At(90) < 300*time.Millisecond || open.Queued != behind || behind < 50 || open.Unsent != 0 {
		t.Errorf("p90 %s; %d of %d were queued; %d unsent", open.All.At(90), open.Queued, behind, open.Unsent)
	}
	if open.OK() != 100 || open.Rate != 100 || open.Partial != "" {
		t.Errorf("%d done at %v/s, partial %q", open.OK(), open.Rate, open.Partial)
	}
	// The same server under a closed load: ninety per cent of what it says is a lie.
	c = new(fakeClock)
	closed := mustRun(t, Load{Ops: []string{"x"}, Workers: []Worker{slow(c, takes)}, Duration: time.Second, clock: c})
	if closed.All.At(99) > 2*usual || closed.All.Max() < stall || closed.Queued != 0 {
		t.Errorf("closed: p99 %s, max %s, %d queued", closed.All.At(99), closed.All.Max(), closed.Queued)
	}
}

// TestWhatWasNeverSentCounts: a server with a fifth of the wanted rate leaves nearly
// four fifths unsent, and they count with the time that they had waited.
func TestWhatWasNeverSentCounts(t *testing.T) {
	t.Parallel()
	c := new(fakeClock)
	r := mustRun(t, Load{Ops: []string{"x"}, Rate: 100, Duration: time.Second, clock: c,
		Workers: []Worker{slow(c, func(uint64) time.Duration { return 50 * time.Millisecond })}})
	// Twenty are done in time, two more in the tenth of a second after it.
	if r.OK() != 22 || r.Unsent != 78 || r.Failed() != 78 || r.Ops[0].Errors[KindUnsent] != 78 || r.All.Count() != 100 {
		t.Fatalf("%d done, %d unsent, errors %v, %d latencies", r.OK(), r.Unsent, r.Ops[0].Errors, r.All.Count())
	}
	if r.Rate != 20 || r.Wanted != 100 {
		t.Errorf("rate %v of %v", r.Rate, r.Wanted)
	}
	// Number 21 began 840 ms late and took 50; number 22 had waited 880 by then, 99 had 110.
	if got := r.All.Max().Round(10 * time.Millisecond); got != 890*time.Millisecond {
		t.Errorf("max %s", got)
	}
	if got := r.All.At(50).Round(10 * time.Millisecond); got != 490*time.Millisecond {
		t.Errorf("p50 %s", got)
	}
}

// TestWarmupIsNotMeasured: nor is what was due in it, however late it ends.
func TestWarmupIsNotMeasured(t *testing.T) {
	t.Parallel()
	c := new(fakeClock)
	r := mustRun(t, Load{Ops: []string{"x"}, Rate: 10, Warmup: time.Second, Duration: 2 * time.Second, clock: c,
		Workers: []Worker{slow(c, func(n uint64) time.Duration {
			if n < 10 {
				return 90 * time.Millisecond
			}
			return time.Millisecond
		})}})
	if r.OK() != 20 || r.All.Max() > 2*time.Millisecond || r.Elapsed != 2*time.Second || r.Rate != 10 {
		t.Errorf("%d done, max %s, %v/s in %s", r.OK(), r.All.Max(), r.Rate, r.Elapsed)
	}
}

// TestErrorsByKind: each is counted under its operation and its kind; a refusal has no
// latency, a timeout has.
func TestErrorsByKind(t *testing.T) {
	t.Parallel()
	c := new(fakeClock)
	kinds := []string{"", "503 temporarily_unavailable", KindTimeout, KindBroken, ""}
	r := mustRun(t, Load{Ops: []string{"a", "b", "never"}, Rate: 100, Duration: time.Second, clock: c,
		Workers: []Worker{newWorker(func(n uint64) Outcome {
			c.pass(time.Millisecond)
			return Outcome{Op: int(n % 2), Kind: kinds[n%5]}
		})}})
	if len(r.Ops) != 2 || r.Ops[0].Name != "a" || r.Ops[1].Name != "b" {
		t.Fatalf("operations %+v", r.Ops)
	}
	for _, o := range r.Ops {
		if o.OK != 20 || o.Failed() != 30 || o.Latency.Count() != 30 {
			t.Errorf("%s: %d succeeded, %d failed, %d latencies", o.Name, o.OK, o.Failed(), o.Latency.Count())
		}
		for _, kind := range kinds[1:4] {
			if o.Errors[kind] != 10 {
				t.Errorf("%s: %d of %q", o.Name, o.Errors[kind], kind)
			}
		}
	}
	if r.Rate != 40 {
		t.Errorf("rate %v counts what failed", r.Rate)
	}
}

// TestAServerChoosesNoEndlessKinds: error codes are the server's, memory is ours.
func TestAServerChoosesNoEndlessKinds(t *testing.T) {
	t.Parallel()
	var a tally
	for n := range uint64(1000) {
		a.fail(fmt.Sprintf("400 code%d", n), 1)
	}
	if len(a.errors) > maxKinds+1 || a.failures() != 1000 || a.errors["other"] != 1000-maxKinds {
		t.Errorf("%d kinds, %d failures, %d others", len(a.errors), a.failures(), a.errors["other"])
	}
}

// TestAllWorkersShareOneSchedule: with the real clock and many workers each operation
// is handed out once, in all as many as the rate says.
func TestAllWorkersShareOneSchedule(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[uint64]int{}
	workers := make([]Worker, 8)
	for i := range workers {
		workers[i] = newWorker(func(n uint64) Outcome {
			mu.Lock()
			defer mu.Unlock()
			seen[n]++
			return Outcome{}
		})
	}
	progress := 0
	r := mustRun(t, Load{Ops: []string{"x"}, Workers: workers, Rate: 2000, Warmup: 50 * time.Millisecond, Duration: 250 * time.Millisecond,
		every: 10 * time.Millisecond, Progress: func(Point) { progress++ }})
	if len(seen)+int(r.Unsent) != 600 && len(seen) != 600 || r.OK()+r.Unsent != 500 {
		t.Errorf("%d were handed out, %d measured, %d unsent", len(seen), r.OK(), r.Unsent)
	}
	for n, times := range seen {
		if times != 1 {
			t.Errorf("%d was handed out %d times", n, times)
		}
	}
	var ok uint64
	for _, p := range r.Points {
		ok += p.OK
	}
	if progress != len(r.Points) || ok == 0 || ok > uint64(len(seen)) {
		t.Errorf("%d points, told of %d; they have %d of %d", len(r.Points), progress, ok, r.OK())
	}
	if r.Late.Count()+int64(r.Queued) < int64(r.OK()) {
		t.Errorf("%d measured; of %d the lateness is known, %d were queued", r.OK(), r.Late.Count(), r.Queued)
	}
	for _, w := range workers {
		<-w.(*worker).closed
	}
}

// TestAnInterruptedRunKeepsWhatItMeasured and cuts off who waits for an answer.
func TestAnInterruptedRunKeepsWhatItMeasured(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var w *worker
	w = newWorker(func(n uint64) Outcome {
		if n < 7 {
			return Outcome{}
		}
		cancel()
		<-w.closed
		return Outcome{Kind: KindBroken}
	})
	r, err := Run(ctx, Load{Ops: []string{"x"}, Workers: []Worker{w}, Duration: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if r.Partial != "interrupted" || r.OK() != 7 || r.Failed() != 0 || r.Elapsed <= 0 || r.Elapsed >= time.Hour {
		t.Errorf("partial %q, %d done, %d failed, %s", r.Partial, r.OK(), r.Failed(), r.Elapsed)
	}
}

// TestALostServerEndsTheRun: no answer for GiveUp, and failures meanwhile. Who still
// waits then counts as a timeout.
func TestALostServerEndsTheRun(t *testing.T) {
	t.Parallel()
	c := new(fakeClock)
	var w *worker
	w = newWorker(func(n uint64) Outcome {
		switch {
		case n < 5:
			c.pass(time.Second)
			return Outcome{}
		case n < 9:
			c.pass(3 * time.Second)
			return Outcome{Kind: KindConnect}
		}
		<-w.closed
		return Outcome{Kind: KindBroken}
	})
	r := mustRun(t, Load{Ops: []string{"x"}, Workers: []Worker{w}, Rate: 1, Duration: time.Hour, GiveUp: 4 * time.Second, clock: c, every: time.Millisecond})
	if r.Partial == "" || r.Partial == "interrupted" || r.OK() != 5 || r.Ops[0].Errors[KindTimeout] != 1 || r.Ops[0].Errors[KindConnect] != 4 {
		t.Errorf("partial %q, %d done, errors %v", r.Partial, r.OK(), r.Ops[0].Errors)
	}
}

func TestALoadThatCanNotBeRun(t *testing.T) {
	t.Parallel()
	w := newWorker(func(uint64) Outcome { return Outcome{} })
	for name, l := range map[string]Load{
		"no workers":  {Ops: []string{"x"}, Duration: time.Second},
		"no ops":      {Workers: []Worker{w}, Duration: time.Second},
		"no time":     {Ops: []string{"x"}, Workers: []Worker{w}},
		"minus":       {Ops: []string{"x"}, Workers: []Worker{w}, Duration: time.Second, Rate: -1},
		"no number":   {Ops: []string{"x"}, Workers: []Worker{w}, Duration: time.Second, Rate: math.NaN()},
		"minus first": {Ops: []string{"x"}, Workers: []Worker{w}, Duration: time.Second, Warmup: -1},
	} {
		if _, err := Run(t.Context(), l); err == nil {
			t.Errorf("%s: it ran", name)
		}
	}
}

// TestHistogramMerge: two halves together are the whole.
func TestHistogramMerge(t *testing.T) {
	t.Parallel()
	whole, odd, even := NewHistogram(), NewHistogram(), NewHistogram()
	for i := range 10_000 {
		d := time.Duration(i*i) * time.Microsecond
		whole.Record(d)
		if i%2 == 0 {
			even.Record(d)
		} else {
			odd.Record(d)
		}
	}
	odd.Merge(even)
	if !equal(odd, whole) || odd.Count() != 10_000 {
		t.Errorf("merged: %d with p50 %s, p99.9 %s; whole %d with %s, %s", odd.Count(), odd.At(50), odd.At(99.9), whole.Count(), whole.At(50), whole.At(99.9))
	}
	for _, percent := range []float64{50, 90, 99, 99.9} {
		i := math.Ceil(percent/100*10_000) - 1
		if want := i * i * 1000; math.Abs(float64(whole.At(percent))-want) > want/500 {
			t.Errorf("p%v is %s, want %s", percent, whole.At(percent), time.Duration(want))
		}
	}
	whole.Record(-time.Second)
	whole.Record(100 * time.Hour)
	if whole.Count() != 10_002 || whole.Max() < longest || whole.Max() > longest+longest/500 {
		t.Errorf("what lies outside is not counted at the ends: %d, max %s", whole.Count(), whole.Max())
	}
	if empty := NewHistogram(); empty.At(50) != 0 || empty.Max() != 0 || empty.Mean() != 0 {
		t.Error("an empty histogram has figures")
	}
}

func TestPatternKeepsTheShares(t *testing.T) {
	t.Parallel()
	got := pattern(1, 3, 0)
	slices.Sort(got)
	if !slices.Equal(got, []int{0, 1, 1, 1}) {
		t.Errorf("pattern %v", got)
	}
	if got := pattern(2, 2); !slices.Equal(got, []int{0, 1, 0, 1}) {
		t.Errorf("two equal ones take turns: %v", got)
	}
}

// TestRounds: rows are run in turn, and figures are compared round by round.
func TestRounds(t *testing.T) {
	t.Parallel()
	var order string
	row := func(name string, values ...float64) Row {
		return Row{Name: name, Run: func(context.Context) (Figures, error) {
			order += name
			v := values[0]
			values = values[1:]
			return Figures{"x": v}, nil
		}}
	}
	// The machine is half as fast in the second round: the ratio does not care.
	table, err := Rounds(t.Context(), 3, []Row{row("a", 10, 20, 14), row("b", 5, 10, 7)})
	if err != nil || order != "ababab" {
		t.Fatalf("order %s, %v", order, err)
	}
	if got := table.Ratio("a", "x", "b", "x"); got != (Stats{2, 2, 2, 3}) {
		t.Errorf("ratio %+v", got)
	}
	if got := table.Of("a", "x"); got != (Stats{14, 10, 20, 3}) {
		t.Errorf("median %+v", got)
	}
	if got := table.Of("a", "y"); got != (Stats{}) {
		t.Errorf("a figure that nobody has: %+v", got)
	}
	table, err = Rounds(t.Context(), 2, []Row{row("a", 1, 2), {Name: "b", Run: func(context.Context) (Figures, error) { return nil, context.Canceled }}})
	if err == nil || table.Of("a", "x").N != 1 {
		t.Errorf("%v, %+v", err, table)
	}
}
