package fsm

import (
	"fmt"
	"math"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
)

// at applies an entry with that stamp and elapsed time and returns the clock.
func (n *node) at(stamp int64, elapsed uint64, cmds ...command.Command) int64 {
	n.t.Helper()
	if cmds == nil {
		cmds = []command.Command{&command.TermStart{}}
	}
	var envelopes [][]byte
	for i, c := range cmds {
		envelopes = append(envelopes, encoded(n.t, c, key(fmt.Sprint("at ", n.index, i)), [8]byte{}, false))
	}
	n.raw(entry(command.Header{Stamp: stamp, Elapsed: elapsed, Epoch: n.View().Epoch()}, envelopes...))
	return n.View().Clock()
}

// TestClusterClock: never back, and per entry at most a minute beyond the time
// that passed for the leader; further only by ClockAdvance (R14, C1).
func TestClusterClock(t *testing.T) {
	t.Parallel()
	n := booted(t)
	const year = 365 * 86_400_000
	for _, step := range []struct {
		name    string
		stamp   int64
		elapsed uint64
		want    int64
		clamped uint64
	}{
		{"forward", t0 + 10, 10, t0 + 10, 0},
		{"back", t0 - year, 10, t0 + 10, 0},
		{"before 1970", math.MinInt64, 0, t0 + 10, 0},
		{"just within", t0 + 10 + maxStep, 0, t0 + 10 + maxStep, 0},
		{"one too far", t0 + 10 + 2*maxStep + 1, 0, t0 + 10 + 2*maxStep, 1},
		{"within the time that passed", t0 + 10 + 3*maxStep + 500, 500, t0 + 10 + 3*maxStep + 500, 1},
		{"a year ahead", t0 + year, 40, t0 + 10 + 4*maxStep + 540, 2},
		{"the leader's time overflows", t0 + 10 + 4*maxStep + 541, math.MaxUint64, t0 + 10 + 4*maxStep + 541, 2},
	} {
		got := n.at(step.stamp, step.elapsed)
		if got != step.want || n.View().Counters().Clamped != step.clamped {
			t.Errorf("%s: clock %+d ms and %d clamps, want %+d and %d", step.name, got-t0, n.View().Counters().Clamped, step.want-t0, step.clamped)
		}
	}
	now := n.View().Clock()
	n.now = now
	n.refused(&command.ClockAdvance{To: now}, command.Stale)
	n.refused(&command.ClockAdvance{To: now - 1}, command.Stale)
	n.refused(&command.ClockAdvance{To: math.MaxInt64}, command.Invalid)
	if got := n.at(now, 0, &command.ClockAdvance{To: now + year}); got != now+year {
		t.Errorf("ClockAdvance: %+d ms", got-now)
	}
	if got := n.at(now, 0); got != now+year {
		t.Errorf("the clock went back to %+d ms", got-now)
	}
}

// TestClockAdvanceCountsAtOnce, for the commands behind it in the same entry.
func TestClockAdvanceCountsAtOnce(t *testing.T) {
	t.Parallel()
	n := booted(t)
	got := rejects(n.do(&command.ClockAdvance{To: t0 + 100_000}, code("x")))
	if got[1] != command.AlreadyExpired {
		t.Errorf("a value of 60 s is taken after an advance of 100 s: %v", got[1])
	}
}

// TestTheFirstEntryMaySetAnyTime that a calendar has.
func TestTheFirstEntryMaySetAnyTime(t *testing.T) {
	t.Parallel()
	if got := fresh(t).at(math.MaxInt64, 0); got != maxClock {
		t.Errorf("clock %d", got)
	}
	if got := fresh(t).at(-5, 0); got != 0 {
		t.Errorf("clock %d", got)
	}
}

func TestFeatureLevel(t *testing.T) {
	t.Parallel()
	n := booted(t)
	n.refused(&command.SetFeatureLevel{Level: 0}, command.Invalid)
	n.must(&command.SetFeatureLevel{Level: 1})
}
