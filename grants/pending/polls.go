package pending

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/internal/oauth"
)

// maxRemembered bounds what a node remembers of polls, in entries.
const maxRemembered = 1 << 16

// maxInterval is the interval that the state lengthens no further, in seconds: a quick
// poll beyond it is refused without a write.
const maxInterval = 60

// pollSlack is how much too early a poll may be, for the network's sake.
const pollSlack = time.Second

// polls is when requests were last polled at this node.
type polls struct {
	mu   sync.Mutex
	last map[string]poll
}

type poll struct{ at, ends time.Time }

// came notes a poll, and tells how long ago the one before it came; known is false where
// this node has seen none.
func (p *polls) came(key string, now, ends time.Time) (since time.Duration, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, known := p.last[key]
	if !known && len(p.last) >= maxRemembered {
		for k, v := range p.last {
			if !v.ends.After(now) {
				delete(p.last, k)
			}
		}
		if len(p.last) >= maxRemembered {
			clear(p.last) // the next polls are told apart by a write
		}
	}
	if p.last == nil {
		p.last = make(map[string]poll)
	}
	p.last[key] = poll{now, ends}
	return now.Sub(before.at), known
}

// poll answers a poll of a request that waits. take tells the state that this node knows
// of its polls now, and is answered by NotReady where another node has seen one a moment
// ago; quick tells it that one came too soon here.
func (r *Requests) poll(ctx context.Context, key, by string, interval, expiresAt int64, take, quick command.Command) error {
	since, known := r.polls.came(key, r.cfg.Now(), time.Unix(expiresAt, 0))
	known = known && by == r.cfg.Node
	soon := known && since < time.Duration(interval)*time.Second-pollSlack
	c := take
	switch {
	case known && !soon:
		return waiting()
	case soon && interval >= maxInterval:
		return slowDown()
	case soon:
		c = quick
	}
	result, err := r.cfg.Propose(ctx, c)
	if err != nil {
		return fmt.Errorf("note a poll: %w", err)
	}
	switch result.Reject {
	case command.Accepted:
		return waiting()
	case command.NotReady:
		return slowDown()
	case command.AlreadyExpired, command.NotFound:
		return Expired()
	}
	return fmt.Errorf("note a poll: %w", result.Reject)
}

func waiting() error {
	return oauth.AuthorizationPending.With("the user has not decided yet; poll again after the interval")
}

func slowDown() error {
	return oauth.SlowDown.With("this poll came too soon; wait five seconds more between polls from now on")
}

// Expired is what the client of a request is told whose time is over.
func Expired() error {
	return oauth.ExpiredToken.With("the user did not decide in time; begin again")
}
