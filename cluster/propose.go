package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
)

// retryPause is the wait before a proposal is tried again, unless leadership
// moves before that.
const retryPause = 50 * time.Millisecond

// Propose commits one command, wherever the leader is, and answers once this
// node has applied it, so that the caller reads its own write here. It retries
// under one key until ctx or the write timeout ends. See command.Propose for
// the errors.
func (n *Node) Propose(ctx context.Context, c command.Command) (command.Result, error) {
	key, body, ok := command.KeyFrom(ctx)
	if !ok {
		if _, err := rand.Read(key[:]); err != nil {
			return command.Result{}, fmt.Errorf("make an idempotency key: %w", err)
		}
	}
	// A key that a caller named is kept with its result, whatever the kind: the same
	// request again gives the same answer.
	envelope, err := command.Encode(c, key, body, ok || command.Remembered(c.Kind()))
	if err != nil {
		return command.Result{}, err
	}
	results, err := n.commit(ctx, tenantOf(c), 1, envelope)
	if err != nil {
		return command.Result{}, err
	}
	return results[0], nil
}

// tenantOf names whose turn a command takes in the queue.
func tenantOf(c command.Command) string {
	switch c := c.(type) {
	case *command.IssueOpaque:
		return c.GetToken().GetTenant()
	case interface{ GetTenant() string }:
		return c.GetTenant()
	case *command.PutClient:
		return c.GetClient().GetTenant()
	}
	return ""
}

func (n *Node) commit(ctx context.Context, tenant string, count int, envelopes []byte) ([]command.Result, error) {
	begun, maybe, epoch := time.Now(), false, uint64(0)
	if n.provedAt.Load() != 0 { // before that, the state may still be replayed
		epoch = n.fsm.View().Epoch()
	}
	changed := n.leadership.changed()
	u := n.units.get(tenant, epoch, count, envelopes)
	out, ended, here := n.submit(u)
	if ended && here && out.err == nil {
		n.units.put(u)
	}
	if ended && out.err == nil && n.progress.promptly(&n.timers, last(out)) {
		return out.results, nil
	}
	ctx, cancel := n.within(ctx, n.cfg.WriteTimeout-time.Since(begun))
	defer cancel()
	for {
		if !ended {
			out = await(ctx, u)
		}
		switch {
		case out.err == nil:
			// Committed: what follows only makes the caller read its own write.
			_ = n.progress.wait(ctx, last(out))
			return out.results, nil
		case errors.Is(out.err, errGone):
			return gone(count), nil
		case errors.Is(out.err, errUnknown):
			maybe = true
		}
		select {
		case <-ctx.Done():
			if maybe {
				n.metrics.givenUp.WithLabelValues(outcomeUnknown).Inc()
				return nil, command.ErrOutcomeUnknown
			}
			n.metrics.givenUp.WithLabelValues(outcomeNotDone).Inc()
			return nil, command.ErrUnavailable
		case <-changed:
		case <-time.After(retryPause):
		}
		changed = n.leadership.changed()
		u = newUnit(tenant, epoch, count, envelopes)
		out, ended, _ = n.submit(u)
	}
}

// last is the index of a committed unit's last command.
func last(out outcome) uint64 { return out.results[len(out.results)-1].Index }

// gone answers commands that were decided on a state which a restore replaced.
func gone(count int) []command.Result {
	out := make([]command.Result, count)
	for i := range out {
		out[i].Reject = command.EpochChanged
	}
	return out
}

// submit puts a unit on its way, here or to the leader, and waits a moment for its
// outcome; ended is false when it is still under way: await it then.
func (n *Node) submit(u *unit) (out outcome, ended, here bool) {
	q := n.forward.queue
	if here = n.isLeader(); here {
		q = n.batcher.queue
	}
	if !q.push(u) {
		return outcome{err: errNotDone}, true, here
	}
	out, ended = promptly(&n.timers, u.done)
	return out, ended, here
}
