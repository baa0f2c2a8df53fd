package cluster

import (
	"sync"
	"time"
)

// patience is how long the waits of the hot path go on before they look at their
// contexts. Most end within milliseconds; a context with its timer and its
// children would cost them more than what they wait for.
const patience = 100 * time.Millisecond

// timers are the stopwatches of such waits, used again and again.
type timers struct{ pool sync.Pool }

// promptly receives from c; false when nothing came within patience.
func promptly[T any](t *timers, c <-chan T) (got T, ok bool) {
	select {
	case got = <-c:
		return got, true
	default:
	}
	timer, _ := t.pool.Get().(*time.Timer)
	if timer == nil {
		timer = time.NewTimer(patience)
	} else {
		timer.Reset(patience)
	}
	defer func() {
		timer.Stop()
		t.pool.Put(timer)
	}()
	select {
	case got = <-c:
		return got, true
	case <-timer.C:
		return got, false
	}
}
