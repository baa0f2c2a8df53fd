package cluster

import (
	"container/heap"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyraft/keyraft/fsm/state"
)

// progress is told every new view by Apply and wakes who waits for an index or
// for the head. Its methods are short: Apply waits for none of them.
type progress struct {
	mu      sync.Mutex
	index   uint64
	waiting indexHeap
	head    uint64
	epoch   uint64
	moved   chan struct{} // closed when the head or the epoch moves
	last    atomic.Int64  // when the last entry was applied, nanoseconds since start
	began   time.Time
}

func newProgress() *progress {
	return &progress{moved: make(chan struct{}), began: time.Now()}
}

// since is time on the monotonic clock since start.
func (p *progress) since() time.Duration { return time.Since(p.began) }

// observe is the FSM's observer.
func (p *progress) observe(v *state.View) {
	p.last.Store(int64(p.since()))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.index = v.Index()
	for len(p.waiting) > 0 && p.waiting[0].index <= p.index {
		close(heap.Pop(&p.waiting).(*indexWaiter).done)
	}
	if v.Head() != p.head || v.Epoch() != p.epoch {
		p.head, p.epoch = v.Head(), v.Epoch()
		close(p.moved)
		p.moved = make(chan struct{})
	}
}

// headMoved is closed at the next move of head or epoch.
func (p *progress) headMoved() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.moved
}

// wait returns when the FSM itself has applied index.
func (p *progress) wait(ctx context.Context, index uint64) error {
	w := p.waiter(index)
	if w == nil {
		return nil
	}
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		p.leave(w)
		return context.Cause(ctx)
	}
}

// promptly is wait for a moment; false when index was not applied in it.
func (p *progress) promptly(t *timers, index uint64) bool {
	w := p.waiter(index)
	if w == nil {
		return true
	}
	if _, ok := promptly(t, w.done); !ok {
		p.leave(w)
		return false
	}
	return true
}

// waiter waits for index; nil when it is applied already.
func (p *progress) waiter(index uint64) *indexWaiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.index >= index {
		return nil
	}
	w := &indexWaiter{index: index, done: make(chan struct{})}
	heap.Push(&p.waiting, w)
	return w
}

func (p *progress) leave(w *indexWaiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.at >= 0 {
		heap.Remove(&p.waiting, w.at)
	}
}

type indexWaiter struct {
	index uint64
	done  chan struct{}
	at    int // in the heap; -1 when out of it
}

type indexHeap []*indexWaiter

func (h indexHeap) Len() int           { return len(h) }
func (h indexHeap) Less(i, j int) bool { return h[i].index < h[j].index }
func (h indexHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *indexHeap) Push(x any) {
	w := x.(*indexWaiter)
	w.at = len(*h)
	*h = append(*h, w)
}

// Pop implements heap.Interface.
func (h *indexHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	w.at = -1
	return w
}
