package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// proofEvery is how often a node asks for a read index by itself, and proofTime
// bounds a proof: its questions, and the wait for the index.
const (
	proofEvery = time.Second
	proofTime  = 3 * time.Second
)

// ErrStale says that this node's state can't be proved fresh enough (I7).
var ErrStale = errors.New("this node can't prove that its state is fresh")

// ErrBehind says that this node has not applied what the asker has already seen.
var ErrBehind = errors.New("this node is behind the asker")

// View gives a read of the state with the promise that f names, or an error
// that wraps ErrStale, ErrBehind or command.ErrUnavailable. It waits at most for
// ctx.
func (n *Node) View(ctx context.Context, f state.Freshness) (*state.View, error) {
	switch since, monotonic := f.Since(); {
	case f.IsStale():
		return n.fsm.View(), nil
	case f.IsLinearizable():
		if err := n.prove(ctx); err != nil {
			return nil, err
		}
		return n.fsm.View(), nil
	case monotonic:
		return n.monotonic(since)
	default:
		return n.local()
	}
}

// local is state that was proved within the staleness bound, and at all since
// this start (R13).
func (n *Node) local() (*state.View, error) {
	if err := n.Fresh(); err != nil {
		return nil, err
	}
	return n.fsm.View(), nil
}

// Fresh tells whether the state is within the staleness bound right now. A
// token's handler asks again after signing, before the answer leaves: the
// process may have been stopped in between.
func (n *Node) Fresh() error {
	at := n.provedAt.Load()
	if at == 0 {
		return fmt.Errorf("%w: it has not heard from a leader since it started", ErrStale)
	}
	if age := n.progress.since() - time.Duration(at); age > n.cfg.StalenessBound {
		return fmt.Errorf("%w: the last proof is %s old, %s are allowed", ErrStale, age.Round(time.Millisecond), n.cfg.StalenessBound)
	}
	return nil
}

// monotonic never gives a head below one that the asker has seen.
func (n *Node) monotonic(since uint64) (*state.View, error) {
	if n.provedAt.Load() == 0 {
		return nil, fmt.Errorf("%w: it has not heard from a leader since it started", ErrBehind)
	}
	v := n.fsm.View()
	if v.Head() < since {
		return v, ErrBehind
	}
	return v, nil
}

// prove proves this state fresh, and tries again for a moment while leadership
// moves. Its error wraps command.ErrUnavailable.
func (n *Node) prove(ctx context.Context) error {
	begun := time.Now()
	if n.provePromptly() {
		return nil
	}
	ctx, cancel := n.within(ctx, proofTime-time.Since(begun))
	defer cancel()
	for {
		changed := n.leadership.changed()
		err := n.proveOnce(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", command.ErrUnavailable, err)
		case <-changed:
		case <-time.After(retryPause):
		}
	}
}

// proveOnce asks for a read index and waits until this node has applied it. The
// proof counts from when the question was sent.
func (n *Node) proveOnce(ctx context.Context) error {
	got, err := n.reader.index(ctx)
	if err != nil {
		return err
	}
	if err := n.progress.wait(ctx, got.index); err != nil {
		return err
	}
	n.proved(got)
	return nil
}

// provePromptly is a proof by the next round, as it goes where nothing is wrong. It
// makes no context and no timer: the round has its own. false: prove at leisure.
func (n *Node) provePromptly() bool {
	asked, err := n.reader.ask()
	if err != nil {
		return false
	}
	<-asked.done
	if asked.err != nil || !n.progress.promptly(&n.timers, asked.index) {
		return false
	}
	n.proved(asked.readResult)
	return true
}

// proved notes that the state was fresh when the question was sent.
func (n *Node) proved(got readResult) {
	for {
		at := n.provedAt.Load()
		if at >= int64(got.sent) || n.provedAt.CompareAndSwap(at, max(int64(got.sent), 1)) {
			return
		}
	}
}

// keepProving asks once a second, and at once when leadership moves, so that
// local reads go on.
func (n *Node) keepProving(ctx context.Context) {
	for ctx.Err() == nil {
		changed := n.leadership.changed()
		pause := proofEvery
		if err := n.prove(ctx); err != nil {
			pause = retryPause
		}
		n.mux.Recheck() // membership may have moved
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(pause):
		}
	}
}

// HeadMoved is closed when the event head or the epoch moves next.
func (n *Node) HeadMoved() <-chan struct{} { return n.progress.headMoved() }
