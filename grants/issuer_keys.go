package grants

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

const (
	// freshKeys is how long a fetched set is used without a look at its server, and
	// staleKeys how long while that can't be reached: what an issuer has taken out of its
	// set is not trusted for longer (JWT-27).
	freshKeys = 10 * time.Minute
	staleKeys = time.Hour
	// coolDown is between two fetches of one set, whoever asks for what (JWT-05, JWT-27).
	coolDown = 30 * time.Second
	// maxFetched bounds the sets that are kept, and maxSet the bytes of one.
	maxFetched = 1024
	maxSet     = 64 << 10
)

// Fetch gets the document at a URL, of at most so many bytes.
type Fetch func(ctx context.Context, url string, limit int64) ([]byte, error)

// issuerKeys are the keys of trusted issuers: those of their records, and those that
// are fetched from where a record says, once for all who ask. A fetched set replaces
// the one before. Safe for concurrent use.
type issuerKeys struct {
	fetch  Fetch
	failed func(url string, err error) // nil: nobody is told
	now    func() time.Time
	known  verify.KeySets // by text

	mu      sync.Mutex
	fetched map[string]*fetchedSet // by URL
}

// fetchedSet is the set of one URL. What it holds is changed under issuerKeys.mu.
type fetchedSet struct {
	set         *verify.KeySet // nil: none was good so far
	good, tried time.Time
	busy        chan struct{} // closed when the fetch that is under way has ended
}

var errFetch = oauth.TemporarilyUnavailable.With("the keys of the token's issuer can't be had now; try again in a minute").WithRetryAfter(30)

// candidates are the keys of an issuer that may have signed a token with this kid: one,
// or where the record names keys without an id, all of them. None is no error.
func (k *issuerKeys) candidates(ctx context.Context, i *state.TrustedIssuer, kid string, now int64) ([]verify.Key, error) {
	var set *verify.KeySet
	var err error
	switch {
	case len(i.GetCertificates()) > 0:
		return namedKeys(i.GetCertificates(), kid, now)
	case len(i.GetJwks()) > 0:
		set, err = k.known.Of(i.GetJwks())
	default:
		set, err = k.remote(ctx, i.GetJwksUri(), kid)
	}
	if err != nil {
		return nil, err
	}
	if key, ok := set.Lookup(kid); ok {
		return []verify.Key{key}, nil
	}
	return nil, nil
}

// remote is the set at a URL, fetched anew when it is old or lacks kid, but not more
// often than the cool-down allows, and once for all who wait for it.
func (k *issuerKeys) remote(ctx context.Context, url, kid string) (*verify.KeySet, error) {
	if k.fetch == nil {
		return nil, errFetch
	}
	for {
		k.mu.Lock()
		s := k.entry(url)
		if set, decided := s.usable(kid, k.now()); decided {
			k.mu.Unlock()
			if set == nil {
				return nil, errFetch
			}
			return set, nil
		}
		if busy := s.busy; busy != nil {
			k.mu.Unlock()
			select {
			case <-busy:
				continue
			case <-ctx.Done():
				return nil, fmt.Errorf("wait for the keys of a trusted issuer: %w", ctx.Err())
			}
		}
		s.busy, s.tried = make(chan struct{}), k.now()
		k.mu.Unlock()
		k.refresh(context.WithoutCancel(ctx), url, s) // others wait for it; Fetch has a bound of its own
	}
}

// usable tells whether what is there is the answer for now; nil for none.
func (s *fetchedSet) usable(kid string, now time.Time) (set *verify.KeySet, decided bool) {
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
func (k *issuerKeys) entry(url string) *fetchedSet {
	if s := k.fetched[url]; s != nil {
		return s
	}
	if k.fetched == nil {
		k.fetched = make(map[string]*fetchedSet)
	}
	if len(k.fetched) >= maxFetched {
		for other, s := range k.fetched {
			if s.busy == nil {
				delete(k.fetched, other)
				break
			}
		}
	}
	s := new(fetchedSet)
	k.fetched[url] = s
	return s
}

func (k *issuerKeys) refresh(ctx context.Context, url string, s *fetchedSet) {
	var set *verify.KeySet
	body, err := k.fetch(ctx, url, maxSet)
	if err == nil {
		set, err = parseSet(body)
	}
	if err != nil && k.failed != nil {
		k.failed(url, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		s.set, s.good = set, k.now()
	}
	close(s.busy)
	s.busy = nil
}

func parseSet(jwks []byte) (*verify.KeySet, error) {
	keys, err := verify.ParseJWKS(jwks)
	if err != nil {
		return nil, err
	}
	return verify.NewKeySet(keys)
}

// namedKeys are the public keys of certificates, or keys as they are, in DER, under the
// kid that the token says: such keys have none of their own. A certificate counts while
// it is valid.
func namedKeys(all [][]byte, kid string, now int64) ([]verify.Key, error) {
	var out []verify.Key
	for _, der := range all {
		public, valid, err := publicKey(der)
		if err != nil {
			return nil, fmt.Errorf("stored key of a trusted issuer: %w", err)
		}
		if !valid(now) {
			continue
		}
		alg, ok := algOf(public)
		if !ok {
			continue
		}
		out = append(out, verify.Key{ID: kid, Alg: alg, Public: public})
	}
	return out, nil
}

func publicKey(der []byte) (public any, valid func(now int64) bool, err error) {
	if c, err := x509.ParseCertificate(der); err == nil {
		return c.PublicKey, func(now int64) bool { return c.NotBefore.Unix() <= now && now < c.NotAfter.Unix() }, nil
	}
	public, err = x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, nil, errors.New("neither a certificate nor a public key (PKIX)")
	}
	return public, func(int64) bool { return true }, nil
}

// algOf is the one algorithm that a key without a word of its own verifies (RFC 8725
// §3.1): that of its curve, RS256 of an RSA key.
func algOf(public any) (alg string, ok bool) {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		switch p.Curve {
		case elliptic.P256():
			return verify.ES256, true
		case elliptic.P384():
			return verify.ES384, true
		}
	case ed25519.PublicKey:
		return verify.EdDSA, true
	case *rsa.PublicKey:
		return verify.RS256, true
	}
	return "", false
}
