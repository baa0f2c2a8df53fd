package tokens

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
)

// The life of a signing key.
const (
	keyNext    = "next"
	keyActive  = "active"
	keyRetired = "retired"
	keyRevoked = "revoked"
)

// KeyJobConfig says when keys change.
type KeyJobConfig struct {
	View    func(ctx context.Context, f state.Freshness) (*state.View, error)
	Propose command.Propose
	Ring    *seal.Keyring
	Now     func() time.Time

	Rotation time.Duration // how long a key signs; 0: 90 days
	Lead     time.Duration // how long before that its successor is published; 0: 7 days
	CacheFor time.Duration // how long a JWKS may be cached; 0: 5 minutes
}

func (c KeyJobConfig) withDefaults() (KeyJobConfig, error) {
	if c.View == nil || c.Propose == nil || c.Ring == nil || c.Now == nil {
		return c, errors.New("tokens: KeyJobConfig needs View, Propose, Ring and Now")
	}
	if c.Rotation < 0 || c.Lead < 0 || c.CacheFor < 0 {
		return c, errors.New("tokens: rotation, lead and cache time of signing keys must not be negative")
	}
	if c.Rotation == 0 {
		c.Rotation = 90 * 24 * time.Hour
	}
	if c.CacheFor == 0 {
		c.CacheFor = DefaultJWKSCache
	}
	if c.Lead == 0 {
		c.Lead = min(7*24*time.Hour, c.Rotation/2)
	}
	c.Lead = max(c.Lead, c.published())
	if c.Lead >= c.Rotation {
		return c, fmt.Errorf("signing keys rotate every %s, but a successor must be published for %s first; rotate less often or cache the JWKS for less long", c.Rotation, c.Lead)
	}
	return c, nil
}

// published is how long a key is shown before it signs: twice the cache time, so
// that a verifier that fetched just before has fetched again.
func (c KeyJobConfig) published() time.Duration { return 2 * c.CacheFor }

// DefaultJWKSCache is how long a JWKS may be cached.
const DefaultJWKSCache = 5 * time.Minute

// KeyJob keeps every tenant's signing keys: the leader's job, and what the admin
// API calls. All state is in the rows, so any node can go on where another stopped.
type KeyJob struct{ cfg KeyJobConfig }

// NewKeyJob checks its configuration.
func NewKeyJob(cfg KeyJobConfig) (*KeyJob, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &KeyJob{cfg}, nil
}

// Run does what is due and returns: a key for each tenant and algorithm that has
// none (those that are quick to make first, for all tenants), successors ahead of
// time, rotations, and the removal of keys whose last token has expired. The leader
// calls it again and again; a lost race or a change of leader is made good then.
func (j *KeyJob) Run(ctx context.Context) error {
	v, err := j.cfg.View(ctx, state.Linearizable)
	if err != nil {
		return fmt.Errorf("look at the signing keys: %w", err)
	}
	if err := j.shared(ctx, v); err != nil {
		return err
	}
	for _, algs := range [][]string{Algs()[:2], Algs()[2:]} {
		for _, t := range v.Tenants() {
			keys := v.SigningKeys(t.GetId())
			for _, alg := range algs {
				if err := j.tend(ctx, v, t.GetId(), alg, keys); err != nil {
					return fmt.Errorf("signing key %s of tenant %q: %w", alg, t.GetId(), err)
				}
			}
		}
	}
	return j.drop(ctx, v)
}

// shared makes what a cluster of an older version lacks of the keys that all nodes share.
func (j *KeyJob) shared(ctx context.Context, v *state.View) error {
	for _, name := range SharedKeys() {
		if len(v.ClusterKeys(name)) > 0 {
			continue
		}
		k, err := NewClusterKey(j.cfg.Ring, name, 1, j.cfg.Now())
		if err != nil {
			return err
		}
		result, err := j.cfg.Propose(ctx, &command.PutClusterKey{Key: k, NewVersion: true})
		if err == nil && result.Reject != command.Exists { // another leader was quicker
			err = result.Err()
		}
		if err != nil {
			return fmt.Errorf("make the shared key %q: %w", name, err)
		}
	}
	return nil
}

// tend does the one thing that is due for one tenant and algorithm.
func (j *KeyJob) tend(ctx context.Context, v *state.View, tenant, alg string, keys []*state.SigningKey) error {
	active, next := keyWith(keys, alg, keyActive), keyWith(keys, alg, keyNext)
	now := j.cfg.Now().UnixMilli()
	if active == nil {
		return j.add(ctx, tenant, alg)
	}
	if now < j.stepAt(active, next) {
		return nil
	}
	if next == nil {
		return j.add(ctx, tenant, alg)
	}
	_, err := j.rotate(ctx, v, next, false)
	if errors.Is(err, command.NotReady) {
		return nil // the cluster's clock is behind ours: next time
	}
	return err
}

// stepAt is when the active key's successor is due to be made, or to take over:
// milliseconds since 1970 UTC.
func (j *KeyJob) stepAt(active, next *state.SigningKey) int64 {
	due := active.GetSignsFrom() + j.cfg.Rotation.Milliseconds()
	ahead := due - j.cfg.Lead.Milliseconds()
	switch {
	case next == nil:
		return ahead
	case next.GetCreatedAt() < ahead:
		// A successor that was made before its time was asked for by call: it signs as
		// soon as it was published long enough.
		return next.GetSignsFrom()
	default:
		return max(due, next.GetSignsFrom())
	}
}

func keyWith(keys []*state.SigningKey, alg, status string) *state.SigningKey {
	for _, k := range keys {
		if k.GetAlg() == alg && k.GetStatus() == status {
			return k
		}
	}
	return nil
}

// add makes and proposes a key: the state makes it active when it is the first of
// its algorithm, else next. A key that somebody else added meanwhile is as good.
func (j *KeyJob) add(ctx context.Context, tenant, alg string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k, err := NewSigningKey(j.cfg.Ring, tenant, alg)
	if err != nil {
		return err
	}
	k.SignsFrom = j.cfg.Now().Add(j.cfg.published()).UnixMilli()
	result, err := j.cfg.Propose(ctx, &command.PutSigningKey{Key: k})
	if err != nil {
		return err
	}
	if result.Reject != command.Accepted && result.Reject != command.Exists {
		return result.Reject
	}
	return nil
}

func (j *KeyJob) rotate(ctx context.Context, v *state.View, next *state.SigningKey, emergency bool) (command.Result, error) {
	result, err := j.cfg.Propose(ctx, &command.RotateSigningKey{
		Tenant: next.GetTenant(), Alg: next.GetAlg(), To: next.GetId(),
		LongestLifetime: tenantLongest(v, next.GetTenant()), RevokeOld: emergency,
	})
	if err != nil {
		return result, err
	}
	return result, result.Err()
}

func (j *KeyJob) drop(ctx context.Context, v *state.View) error {
	now := min(j.cfg.Now().UnixMilli(), v.Clock())
	for _, k := range v.SigningKeys("") {
		if s := k.GetStatus(); s != keyRetired && s != keyRevoked || k.GetGoneAt() > now {
			continue
		}
		result, err := j.cfg.Propose(ctx, &command.DropSigningKey{Tenant: k.GetTenant(), Id: k.GetId()})
		if err != nil {
			return fmt.Errorf("drop signing key %s: %w", k.GetId(), err)
		}
		if r := result.Reject; r != command.Accepted && r != command.NotFound && r != command.NotReady {
			return fmt.Errorf("drop signing key %s: %w", k.GetId(), r)
		}
	}
	return nil
}

// Rotated says what a rotation by call came to.
type Rotated struct {
	KeyID     string // of the new key
	SignsFrom int64  // milliseconds since 1970 UTC: in the future when it is only published so far
	Active    bool   // it signs now
	Seq       uint64 // of the event, when it signs now
}

// Rotate changes the key of one tenant and algorithm by call. A planned rotation
// publishes the successor and lets it sign once every cache has it: at once when it
// was published long ago. An emergency lets it sign at once and refuses every token
// of the old key.
func (j *KeyJob) Rotate(ctx context.Context, tenant, alg string, emergency bool) (Rotated, error) {
	if algIndex(alg) < 0 {
		return Rotated{}, oauth.InvalidRequest.Withf("alg must be one of %v", Algs()).WithField("alg")
	}
	v, next, err := j.successor(ctx, tenant, alg)
	if err != nil {
		return Rotated{}, err
	}
	if next == nil { // the first key of all: it signs already
		k := keyWith(v.SigningKeys(tenant), alg, keyActive)
		return Rotated{KeyID: k.GetId(), SignsFrom: k.GetSignsFrom(), Active: true, Seq: v.Head()}, nil
	}
	if !emergency && j.cfg.Now().UnixMilli() < next.GetSignsFrom() {
		return Rotated{KeyID: next.GetId(), SignsFrom: next.GetSignsFrom()}, nil
	}
	result, err := j.rotate(ctx, v, next, emergency)
	switch {
	case errors.Is(err, command.NotReady):
		return Rotated{KeyID: next.GetId(), SignsFrom: next.GetSignsFrom()}, nil
	case errors.Is(err, command.NotFound):
		return Rotated{}, oauth.TemporarilyUnavailable.With("the key was rotated by another call at the same time; look at the keys, then try again").WithRetryAfter(1)
	case err != nil:
		return Rotated{}, fmt.Errorf("rotate the signing key: %w", err)
	}
	return Rotated{KeyID: next.GetId(), SignsFrom: j.cfg.Now().UnixMilli(), Active: true, Seq: result.Seq}, nil
}

// successor returns the next key, made now if there was none; nil when there was no
// key at all, so that the new one signs already.
func (j *KeyJob) successor(ctx context.Context, tenant, alg string) (*state.View, *state.SigningKey, error) {
	for made := false; ; made = true {
		v, err := j.cfg.View(ctx, state.Linearizable)
		if err != nil {
			return nil, nil, fmt.Errorf("look at the signing keys: %w", err)
		}
		if _, ok := v.Tenant(tenant); !ok {
			return nil, nil, oauth.InvalidRequest.With("the tenant does not exist")
		}
		keys := v.SigningKeys(tenant)
		next := keyWith(keys, alg, keyNext)
		if next != nil || made && keyWith(keys, alg, keyActive) != nil {
			return v, next, nil
		}
		if made {
			return nil, nil, oauth.TemporarilyUnavailable.With("the new key is not there yet; try again").WithRetryAfter(1)
		}
		if err := j.add(ctx, tenant, alg); err != nil {
			return nil, nil, fmt.Errorf("make the successor: %w", err)
		}
	}
}
