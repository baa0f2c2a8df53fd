package gateway

import "time"

// Clock is where the gateway takes time from; the zero value is the machine's.
// Both functions must be safe for concurrent use.
type Clock struct {
	Now  func() time.Time     // wall clock, for exp and nbf
	Boot func() time.Duration // runs on while the machine or the process is paused, for staleness
}

func (c Clock) withDefaults() Clock {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Boot == nil {
		c.Boot = bootTime
	}
	return c
}

// instant is one moment on all clocks.
type instant struct {
	wall time.Time // with its monotonic reading
	boot time.Duration
}

func (c Clock) instant() instant { return instant{c.Now(), c.Boot()} }

// elapsed is the time since at, never negative: the largest that any clock says,
// so that a clock which was set back or stood still can't make a head look young.
func (c Clock) elapsed(at instant, now time.Time) time.Duration {
	return max(c.Boot()-at.boot, now.Sub(at.wall), 0)
}

// within says whether at is at most limit ago. Reading the boot clock is a
// system call, so it is left out where the monotonic clock and the wall clock
// agree and are far from the limit: a pause of the process moves both, a
// suspension of the machine moves the wall clock alone.
func (c Clock) within(at instant, now time.Time, limit time.Duration) bool {
	mono := now.Sub(at.wall)
	wall := time.Duration(now.UnixNano() - at.wall.UnixNano())
	if apart := mono - wall; mono >= 0 && mono < limit/2 && apart < time.Second && apart > -time.Second && limit > 4*time.Second {
		return true
	}
	return c.elapsed(at, now) <= limit
}
