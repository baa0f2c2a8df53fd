package storage

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// ErrBroken is wrapped by every error that a store gives after its Latch has
// closed: the disk failed or hung, and nothing may be written or read any more.
var ErrBroken = errors.New("the disk of this node failed, so the node stops; check the disk and the kernel log, then start it again")

// Latch is the poison latch of rule R8. The first write or sync that fails, or
// that takes longer than its bound, closes it for good; from then on every call
// of every store that shares it is refused before it touches the disk. An fsync
// is never tried twice, since a kernel may forget the pages that it could not
// write. Safe for concurrent use.
type Latch struct {
	once  sync.Once
	done  chan struct{}
	err   atomic.Pointer[latchError]
	fatal func(error)
}

type latchError struct{ err error }

// NewLatch returns an open latch. fatal (may be nil) is called exactly once, when
// the latch closes, on a goroutine of its own: the failing call may hold locks of
// the store, and a hung one never comes back. It should end the process.
func NewLatch(fatal func(error)) *Latch {
	return &Latch{done: make(chan struct{}), fatal: fatal}
}

// Trip closes the latch because of err, unless it is closed already, and returns
// the error that closed it.
func (l *Latch) Trip(err error) error {
	l.once.Do(func() {
		broken := fmt.Errorf("%w: %w", ErrBroken, err)
		l.err.Store(&latchError{broken})
		close(l.done)
		if l.fatal != nil {
			go l.fatal(broken)
		}
	})
	return l.Err()
}

// Err returns nil while the latch is open, else the error that closed it.
func (l *Latch) Err() error {
	if e := l.err.Load(); e != nil {
		return e.err
	}
	return nil
}

// Done is closed when the latch closes.
func (l *Latch) Done() <-chan struct{} { return l.done }

// Write runs one write or sync under the latch. It is refused when the latch is
// closed. The latch closes when write returns an error, and also while write is
// still blocked, as soon as limit has passed (0: no limit). A write that comes
// back late is reported as failed although it may have landed: the caller must
// not build on it.
func (l *Latch) Write(what string, limit time.Duration, write func() error) error {
	if err := l.Err(); err != nil {
		return err
	}
	if limit > 0 {
		watch := time.AfterFunc(limit, func() {
			_ = l.Trip(fmt.Errorf("%s has not returned after %v", what, limit))
		})
		defer watch.Stop()
	}
	if err := write(); err != nil {
		return l.Trip(fmt.Errorf("%s: %w", what, err))
	}
	return l.Err()
}
