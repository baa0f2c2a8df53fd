package tokens

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/tokens/verify"
)

// SigningKeys keeps, for each tenant, what follows from its rows of signing keys:
// the published set, its JWKS, and the unsealed keys that sign. Private keys stay
// in memory as long as they are active.
type SigningKeys struct {
	ring *seal.Keyring
	lane *lane

	mu   sync.Mutex // of those who replace an entry
	sets atomic.Pointer[map[string]*keySet]
}

// NewSigningKeys makes an empty cache over the node's keyring.
func NewSigningKeys(ring *seal.Keyring) *SigningKeys {
	s := &SigningKeys{ring: ring, lane: newLane()}
	s.sets.Store(&map[string]*keySet{})
	return s
}

// Lane tells how many RSA signatures are being made or waited for here, and how
// many were refused since the start because too many were.
func (s *SigningKeys) Lane() (queued int, refused uint64) {
	return len(s.lane.line), s.lane.refused.Load()
}

// keySet is what one generation of a tenant's keys comes to. Immutable, but for the
// signers, which are opened when they first sign.
type keySet struct {
	epoch, generation uint64
	cluster           *state.Cluster

	issuer  string
	public  *verify.KeySet // next, active and retired
	jwks    []byte
	active  [algCount]*state.SigningKey
	signers [algCount]atomic.Pointer[signer]
}

// of returns the tenant's key set in this view. A view and its set always agree,
// so a request decided on an older view signs with that view's key.
func (s *SigningKeys) of(v *state.View, tenant string) (*keySet, error) {
	cluster, ok := v.Cluster()
	if !ok {
		return nil, oauth.TemporarilyUnavailable.With("the cluster is not bootstrapped yet; try again shortly").WithRetryAfter(1)
	}
	// The state machine makes an event "keys" of the tenant at each change of them,
	// and keeps the latest as if it were a revocation: its seq is their generation.
	generation, _ := v.Revoked(tenant, "", "keys", tenant, 0, 0)
	have := (*s.sets.Load())[tenant]
	if have != nil && have.epoch == v.Epoch() && have.generation == generation && have.cluster == cluster {
		return have, nil
	}
	made, err := newKeySet(v, tenant, cluster, generation)
	if err != nil {
		return nil, err
	}
	if _, ok := v.Tenant(tenant); !ok {
		return made, nil // not kept: names that don't exist would fill the memory
	}
	return s.keep(tenant, made), nil
}

func newKeySet(v *state.View, tenant string, cluster *state.Cluster, generation uint64) (*keySet, error) {
	set := &keySet{epoch: v.Epoch(), generation: generation, cluster: cluster, issuer: IssuerOf(cluster, tenant)}
	var keys []verify.Key
	for _, row := range v.SigningKeys(tenant) {
		if row.GetTenant() != tenant {
			continue // an empty tenant asks for all
		}
		switch row.GetStatus() {
		case keyActive:
			if i := algIndex(row.GetAlg()); i >= 0 {
				set.active[i] = row
			}
		case keyNext, keyRetired:
		default:
			continue // revoked: published no more
		}
		key, err := publicKey(row)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	var err error
	if set.public, err = verify.NewKeySet(keys); err != nil {
		return nil, fmt.Errorf("signing keys of tenant %q: %w", tenant, err)
	}
	set.jwks = verify.AppendJWKS(nil, keys)
	return set, nil
}

// keep publishes a set unless a newer one is there, and takes over the signers of
// keys that sign on.
func (s *SigningKeys) keep(tenant string, made *keySet) *keySet {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := *s.sets.Load()
	have := all[tenant]
	if have != nil {
		for i := range made.active {
			if made.active[i] == nil || have.active[i] == nil || made.active[i].GetId() != have.active[i].GetId() {
				continue
			}
			if opened := have.signers[i].Load(); opened != nil {
				made.signers[i].Store(opened)
			}
		}
		if have.epoch > made.epoch || have.epoch == made.epoch && have.generation > made.generation {
			return made // for this request only: an older view than the kept one
		}
	}
	next := make(map[string]*keySet, len(all)+1)
	for name, set := range all {
		next[name] = set
	}
	next[tenant] = made
	s.sets.Store(&next)
	return made
}

// signer returns the key that signs with alg ("" is DefaultAlg).
func (s *SigningKeys) signer(set *keySet, alg string) (*signer, error) {
	i := algIndex(alg)
	if i < 0 || set.active[i] == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoKey, alg)
	}
	if opened := set.signers[i].Load(); opened != nil {
		return opened, nil
	}
	private, err := openSigningKey(s.ring, set.active[i])
	if err != nil {
		return nil, err
	}
	opened, err := newSigner(set.active[i], private)
	if err != nil {
		return nil, err
	}
	set.signers[i].Store(opened)
	return opened, nil
}

// JWKS is the tenant's published key set (RFC 7517 §5): next, active and retired
// keys. The caller must not change it.
func (s *SigningKeys) JWKS(v *state.View, tenant string) ([]byte, error) {
	set, err := s.of(v, tenant)
	if err != nil {
		return nil, err
	}
	return set.jwks, nil
}

// Issuer is the tenant's issuer identifier now. It does not allocate once the
// tenant was asked for.
func (s *SigningKeys) Issuer(v *state.View, tenant string) (string, error) {
	set, err := s.of(v, tenant)
	if err != nil {
		return "", err
	}
	return set.issuer, nil
}

// Ready tells whether the tenant's default algorithm can sign here now: what a
// node waits for before it says that it is ready. The error says what is missing.
func (s *SigningKeys) Ready(v *state.View, tenant string) error {
	set, err := s.of(v, tenant)
	if err != nil {
		return err
	}
	t, _ := v.Tenant(tenant)
	alg := t.GetSettings().GetSigningAlg()
	if alg == "" {
		alg = DefaultAlg
	}
	_, err = s.signer(set, alg)
	return err
}

// unready is what a client is told when no key signs.
func unready(err error) error {
	if errors.Is(err, ErrNoKey) {
		return oauth.TemporarilyUnavailable.With("the signing key for this algorithm is being made; try again shortly").WithRetryAfter(1)
	}
	return err
}

// IssuerOf is the issuer identifier of a tenant: the cluster's, and below it
// /t/{tenant} for all but the default tenant.
func IssuerOf(cluster *state.Cluster, tenant string) string {
	return issuerBelow(cluster.GetIssuer(), tenant)
}

func issuerBelow(base, tenant string) string {
	if tenant == DefaultTenant {
		return base
	}
	return base + "/t/" + tenant
}

// tenantOf tells which tenant an issuer names, present or former; the token's iss
// must be byte-equal to it.
func tenantOf(cluster *state.Cluster, issuer string) (string, bool) {
	if tenant, ok := tenantBelow(cluster.GetIssuer(), issuer); ok {
		return tenant, true
	}
	for _, base := range cluster.GetFormerIssuers() {
		if tenant, ok := tenantBelow(base, issuer); ok {
			return tenant, true
		}
	}
	return "", false
}

func tenantBelow(base, issuer string) (string, bool) {
	const below = "/t/"
	if base == "" || len(issuer) < len(base) || issuer[:len(base)] != base {
		return "", false
	}
	rest := issuer[len(base):]
	if rest == "" {
		return DefaultTenant, true
	}
	if len(rest) <= len(below) || rest[:len(below)] != below || rest[len(below):] == DefaultTenant {
		return "", false
	}
	return rest[len(below):], true
}
