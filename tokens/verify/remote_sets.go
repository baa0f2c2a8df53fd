package verify

import (
	"cmp"
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
	document    []byte  // as it came, for what is not about signatures; nil: none was good so far
	set         *KeySet // nil: no key of it verifies
	good, tried time.Time
	busy        chan struct{} // closed when the fetch that is under way has ended
}

// Of is the set at a URL, fetched anew when it is old or lacks kid, but not more often
// than the cool-down allows, and once for all who wait for it. Errors: ErrNoSet, that of
// ctx.
func (r *RemoteSets) Of(ctx context.Context, url, kid string) (*KeySet, error) {
	s, err := r.find(ctx, url, true, func(s *fetchedSet) bool {
		if s.set == nil {
			return false
		}
		_, ok := s.set.Lookup(kid)
		return ok
	})
	if err != nil || s.set == nil {
		return nil, cmp.Or(err, ErrNoSet)
	}
	return s.set, nil
}

// Document is the key set at a URL as it is published, fetched anew by the rules of Of
// where it is old or does not hold what is looked for: for keys to encrypt to, and
// certificates. It is sound as ParseJWKS says, but need not verify anything.
func (r *RemoteSets) Document(ctx context.Context, url string, holds func(document []byte) bool) ([]byte, error) {
	s, err := r.find(ctx, url, false, func(s *fetchedSet) bool { return holds(s.document) })
	if err != nil {
		return nil, err
	}
	return s.document, nil
}

// find is what is known of a URL once it satisfies, or once no more is to be had.
// verifies says that who asks needs a key that does.
func (r *RemoteSets) find(ctx context.Context, url string, verifies bool, satisfies func(*fetchedSet) bool) (fetchedSet, error) {
	if r.Fetch == nil {
		return fetchedSet{}, ErrNoSet
	}
	for {
		r.mu.Lock()
		s := r.entry(url)
		if usable, decided := s.usable(satisfies, r.Now()); decided {
			found := *s
			r.mu.Unlock()
			if !usable {
				return fetchedSet{}, ErrNoSet
			}
			return found, nil
		}
		if busy := s.busy; busy != nil {
			r.mu.Unlock()
			select {
			case <-busy:
				continue
			case <-ctx.Done():
				return fetchedSet{}, fmt.Errorf("wait for a key set: %w", ctx.Err())
			}
		}
		s.busy, s.tried = make(chan struct{}), r.Now()
		r.mu.Unlock()
		r.refresh(context.WithoutCancel(ctx), url, s, verifies) // others wait for it; Fetch has a bound of its own
	}
}

// usable tells whether what is there is good for now, and whether it is the answer.
func (s *fetchedSet) usable(satisfies func(*fetchedSet) bool, now time.Time) (usable, decided bool) {
	age := now.Sub(s.good)
	usable = s.document != nil && age < staleKeys
	if usable && age < freshKeys && satisfies(s) {
		return true, true
	}
	return usable, s.busy == nil && !s.tried.IsZero() && now.Sub(s.tried) < coolDown
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

func (r *RemoteSets) refresh(ctx context.Context, url string, s *fetchedSet, verifies bool) {
	body, err := r.Fetch(ctx, url, maxSet)
	var keys []Key
	if err == nil {
		keys, err = ParseJWKS(body)
	}
	var set *KeySet
	if err == nil {
		set, err = NewKeySet(keys)
	}
	sound := err == nil || errors.Is(err, ErrNoKey)
	if err != nil && (verifies || !sound) && r.Failed != nil {
		r.Failed(url, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if sound {
		s.document, s.set, s.good = body, set, r.Now()
	}
	close(s.busy)
	s.busy = nil
}
