package verify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// freshKeys is how long a fetched set is used without a look at its server, and
	// staleKeys how long while that can't be reached: what its owner has taken out of a
	// set is not trusted for longer (JWT-27).
	freshKeys = 10 * time.Minute
	staleKeys = time.Hour
	// coolDown is between two fetches of one set, whoever asks for what (JWT-05, JWT-27).
	coolDown = 30 * time.Second
	// maxFetched bounds the sets that are kept, and maxSet the bytes of one.
	maxFetched = 1024
	maxSet     = 64 << 10
)

// ErrNoSet says that the key set at a URL can't be had now.
var ErrNoSet = errors.New("the key set can't be fetched now")

// RemoteSets are JWK sets that are fetched from where their owners publish them, once for
// all who ask; a fetched set replaces the one before. Safe for concurrent use.
type RemoteSets struct {
	// Fetch gets the document at a URL, of at most so many bytes; nil: none can be had.
	Fetch func(ctx context.Context, url string, limit int64) ([]byte, error)
	Now   func() time.Time
	// Failed is told why a set could not be had: for the operator's log, since who asked
	// is told no more than that (SSR-06). Nil: nobody is.
	Failed func(url string, err error)

	mu      sync.Mutex
	fetched map[string]*fetchedSet // by URL
}

// fetchedSet is the set of one URL. What it holds is changed under RemoteSets.mu.
type fetchedSet struct {
	set         *KeySet // nil: none was good so far
	good, tried time.Time
	busy        chan struct{} // closed when the fetch that is under way has ended
}

// Of is the set at a URL, fetched anew when it is old or lacks kid, but not more often
// than the cool-down allows, and once for all who wait for it. Errors: ErrNoSet, that of
// ctx.
func (r *RemoteSets) Of(ctx context.Context, url, kid string) (*KeySet, error) {
	if r.Fetch == nil {
		return nil, ErrNoSet
	}
	for {
		r.mu.Lock()
		s := r.entry(url)
		if set, decided := s.usable(kid, r.Now()); decided {
			r.mu.Unlock()
			if set == nil {
				return nil, ErrNoSet
			}
			return set, nil
		}
		if busy := s.busy; busy != nil {
			r.mu.Unlock()
			select {
			case <-busy:
				continue
			case <-ctx.Done():
				return nil, fmt.Errorf("wait for a key set: %w", ctx.Err())
			}
		}
		s.busy, s.tried = make(chan struct{}), r.Now()
		r.mu.Unlock()
		r.refresh(context.WithoutCancel(ctx), url, s) // others wait for it; Fetch has a bound of its own
	}
}

// usable tells whether what is there is the answer for now; nil for none.
func (s *fetchedSet) usable(kid string, now time.Time) (set *KeySet, decided bool) {
	age := now.Sub(s.good)
	if s.set != nil && age < staleKeys {
		set = s.set
	}
	if set != nil && age < freshKeys {
		if _, ok := set.Lookup(kid); ok {
			return set, true
		}
	}
	return set, s.busy == nil && !s.tried.IsZero() && now.Sub(s.tried) < coolDown
}

// entry is the place of a URL, made when there is none. One that nobody waits for gives
// way where there are too many.
func (r *RemoteSets) entry(url string) *fetchedSet {
	if s := r.fetched[url]; s != nil {
		return s
	}
	if r.fetched == nil {
		r.fetched = make(map[string]*fetchedSet)
	}
	if len(r.fetched) >= maxFetched {
		for other, s := range r.fetched {
			if s.busy == nil {
				delete(r.fetched, other)
				break
			}
		}
	}
	s := new(fetchedSet)
	r.fetched[url] = s
	return s
}

func (r *RemoteSets) refresh(ctx context.Context, url string, s *fetchedSet) {
	body, err := r.Fetch(ctx, url, maxSet)
	var keys []Key
	if err == nil {
		keys, err = ParseJWKS(body)
	}
	var set *KeySet
	if err == nil {
		set, err = NewKeySet(keys)
	}
	if err != nil && r.Failed != nil {
		r.Failed(url, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		s.set, s.good = set, r.Now()
	}
	close(s.busy)
	s.busy = nil
}
