package cluster

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/keyraft/keyraft/fsm/command"
)

// What may befall a unit besides results (R11).
var (
	errNotDone = errors.New("not done") // surely never in the log
	errUnknown = errors.New("unknown")  // may be in the log
	errGone    = errors.New("gone")     // decided on a state that a restore replaced
)

// inFlight is how many entries are under way at once: while one is being
// synced, the next ones form, so no timer is needed (docs/performance.md).
const inFlight = 4

// enqueueWait bounds the wait for raft to take an entry.
const enqueueWait = time.Second

// batcher makes entries of what waits at the leader, and hands them to raft.
// One goroutine forms entries; each slot waits for one of them.
type batcher struct {
	node  *Node
	queue *queue
	slots chan struct{}

	mu   sync.Mutex // guards last
	last time.Time  // when the entry before was formed
}

func newBatcher(n *Node) *batcher {
	return &batcher{node: n, queue: newQueue(), slots: make(chan struct{}, inFlight), last: time.Now()}
}

// submit waits for the outcome of a unit at this node, which should lead.
func (b *batcher) submit(ctx context.Context, u *unit) outcome {
	if !b.queue.push(u) {
		return outcome{err: errNotDone}
	}
	return await(ctx, u)
}

// await waits for a unit's outcome, or gives it up.
func await(ctx context.Context, u *unit) outcome {
	select {
	case out := <-u.done:
		return out
	case <-ctx.Done():
		if u.cancel() {
			return outcome{err: errNotDone}
		}
		select {
		case out := <-u.done:
			return out
		default:
			return outcome{err: errUnknown}
		}
	}
}

// run forms entries until ctx ends; then whatever waits is refused.
func (b *batcher) run(ctx context.Context) {
	defer b.queue.refuse(errNotDone)
	gather, err := newGatherer()
	if err != nil {
		b.node.log.Warn("entries form without a look at the network first: more syncs under load", "error", err)
	} else {
		b.node.wg.Go(gather.run)
		defer gather.close()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.queue.wake:
		}
		select {
		case <-ctx.Done():
			return
		case b.slots <- struct{}{}:
		}
		if !b.node.leads(ctx) {
			b.queue.refuse(errNotDone)
			<-b.slots
			continue
		}
		runtime.Gosched() // whoever is about to propose shares this entry
		if gather != nil && b.queue.depth() > 1 {
			gather.wait(ctx)
		}
		epoch := b.node.fsm.View().Epoch()
		units := current(b.queue.pull(command.MaxCommands, command.MaxEntry-64), epoch)
		if len(units) == 0 {
			<-b.slots
			continue
		}
		future := b.node.raft.Apply(b.entry(units, epoch), enqueueWait)
		go b.finish(units, future)
	}
}

// pause waits until no entry is under way, and lets none begin until resume.
func (b *batcher) pause(ctx context.Context) (resume func(), err error) {
	held := 0
	resume = func() {
		for range held {
			<-b.slots
		}
	}
	for range inFlight {
		select {
		case b.slots <- struct{}{}:
			held++
		case <-ctx.Done():
			resume()
			return nil, context.Cause(ctx)
		}
	}
	return resume, nil
}

// entry puts the units behind one header, which names the epoch by which they
// were sorted: if a restore comes in between, Apply refuses them. The commands
// were encoded where they were proposed, and are not encoded again.
func (b *batcher) entry(units []*unit, epoch uint64) []byte {
	count, size := 0, 0
	for _, u := range units {
		count += u.count
		size += len(u.envelopes)
	}
	b.node.metrics.entry.Observe(float64(count))
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	elapsed := now.Sub(b.last)
	if applied := b.node.progress.since() - time.Duration(b.node.progress.last.Load()); applied < elapsed {
		elapsed = applied // another leader's entry came in between
	}
	b.last = now
	h := command.Header{
		Stamp: b.node.cfg.Now().UnixMilli(), Elapsed: uint64(max(elapsed, 0).Milliseconds()),
		Epoch: epoch,
	}
	out := command.AppendHeader(make([]byte, 0, size+64), h, count)
	for _, u := range units {
		out = append(out, u.envelopes...)
	}
	return out
}

// finish waits for raft's answer, gives each unit its part and the slot back. Nobody
// waits for its end: at its shutdown raft forgets the entries that it handed to the
// FSM's goroutine and never answers them. Their callers learn of the stop by their
// contexts, and that the outcome is unknown.
func (b *batcher) finish(units []*unit, future raft.ApplyFuture) {
	defer func() { <-b.slots }()
	begun := time.Now()
	if err := future.Error(); err != nil {
		settle(units, outcome{err: outcomeOf(err)})
		return
	}
	b.node.metrics.commit.Observe(time.Since(begun).Seconds())
	results, _ := future.Response().([]command.Result)
	for _, u := range units {
		count := u.count // once it has its outcome, it may be another one
		if len(results) < count {
			u.done <- outcome{err: errUnknown} // this node has halted
			continue
		}
		u.done <- outcome{results: results[:count]}
		results = results[count:]
	}
}

func settle(units []*unit, out outcome) {
	for _, u := range units {
		u.done <- out
	}
}

// outcomeOf reads raft's errors: only these three say that nothing was done.
func outcomeOf(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return errNotDone
	case errors.Is(err, raft.ErrAbortedByRestore):
		return errGone
	default:
		return errUnknown
	}
}
