package bench

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// spin is how near an instant must be to be waited for by yielding: setting the
// timer and being woken by it takes about as long.
const spin = 15 * time.Microsecond

// realClock sleeps on a timer of the kernel's that the Go scheduler polls like a
// socket. The scheduler's own timers round up to a millisecond when the process is
// otherwise idle, which at low rates is more than a server takes to answer.
type realClock struct {
	begun time.Time
	timer *os.File
	fd    int
}

func newClock() (clock, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a timer: %w", err)
	}
	return &realClock{begun: time.Now(), timer: os.NewFile(uintptr(fd), "timerfd"), fd: fd}, nil
}

func (c *realClock) now() time.Duration { return time.Since(c.begun) }

func (c *realClock) sleep(_ context.Context, until time.Duration) {
	var expirations [8]byte
	for {
		left := until - c.now()
		switch {
		case left <= 0:
			return
		case left <= spin:
			runtime.Gosched()
			continue
		}
		at := unix.ItimerSpec{Value: unix.NsecToTimespec((left - spin/2).Nanoseconds())}
		if err := unix.TimerfdSettime(c.fd, 0, &at, nil); err != nil {
			time.Sleep(left)
			continue
		}
		if _, err := c.timer.Read(expirations[:]); err != nil {
			time.Sleep(left)
		}
	}
}

func (c *realClock) close() { _ = c.timer.Close() } // nothing was written
