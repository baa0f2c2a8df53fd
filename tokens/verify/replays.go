package verify

import (
	"errors"
	"fmt"
	"sync"
)

// Why a proof that is good in itself is not taken.
var (
	ErrReplayed = fmt.Errorf("%w: it was used before; make a new one for each request", ErrProof)
	// ErrFull is not the sender's fault: it may come again with the same proof.
	ErrFull = errors.New("too many DPoP proofs are remembered at once; try again shortly")
)

const (
	// DefaultReplays is how many proofs are remembered at once: some 64 MiB, and 8,700
	// proofs a second for ever.
	DefaultReplays = 1 << 20
	// sweepAtOnce bounds what one Use tidies away. It adds one, so the rest goes soon.
	sweepAtOnce = 64
)

// Replays remembers the proofs that were used, each until its time is over. It refuses
// new ones when it is full, and never forgets one early, whatever the clock does: a
// proof of a time that it has forgotten is refused. Safe for concurrent use.
type Replays struct {
	limit int

	mu     sync.Mutex
	seen   map[ProofID]struct{}
	ending map[int64][]ProofID // by the second after which they may be forgotten
	next   int64               // the first of these seconds that may be left
	swept  int64               // the last second of which one was forgotten
}

// NewReplays makes a memory of so many proofs; 0: DefaultReplays.
func NewReplays(limit int) *Replays {
	if limit <= 0 {
		limit = DefaultReplays
	}
	return &Replays{limit: limit, seen: make(map[ProofID]struct{}), ending: make(map[int64][]ProofID)}
}

// Use notes the first use of a proof, and refuses a second: ErrReplayed. It is kept
// until the given second; now is seconds too.
func (r *Replays) Use(id ProofID, until, now int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now)
	if _, again := r.seen[id]; again || until <= r.swept {
		return ErrReplayed
	}
	if len(r.seen) >= r.limit {
		return ErrFull
	}
	if len(r.seen) == 0 || until < r.next {
		r.next = until
	}
	r.seen[id] = struct{}{}
	r.ending[until] = append(r.ending[until], id)
	return nil
}

// Len is how many are remembered.
func (r *Replays) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}

func (r *Replays) sweep(now int64) {
	for left := sweepAtOnce; len(r.seen) > 0 && r.next < now; r.next++ {
		ids := r.ending[r.next]
		n := min(left, len(ids))
		for _, id := range ids[:n] {
			delete(r.seen, id)
		}
		if left -= n; n > 0 {
			r.swept = max(r.swept, r.next)
		}
		if n < len(ids) {
			r.ending[r.next] = ids[n:]
			return
		}
		delete(r.ending, r.next)
	}
}
