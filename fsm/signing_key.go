package fsm

import (
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// The life of a signing key: published as next, signs as active, is kept as
// retired until the last token it signed has expired. A revoked one is
// published no more.
const (
	statusNext    = "next"
	statusActive  = "active"
	statusRetired = "retired"
	statusRevoked = "revoked"
)

// keyWith returns the key of a tenant and algorithm that has this status; there
// is at most one next and one active (Y1).
func (s step) keyWith(tenant, alg, status string) *state.SigningKey {
	for _, k := range s.SigningKeys(tenant) {
		if k.GetAlg() == alg && k.GetStatus() == status {
			return k
		}
	}
	return nil
}

// putSigningKey adds a key: the first of its algorithm signs at once, a later
// one is published as next.
func (s step) putSigningKey(c *command.PutSigningKey) (command.Result, error) {
	k := c.GetKey()
	if k.GetId() == "" || k.GetAlg() == "" || !keyable(k.GetTenant(), k.GetId()) || len(k.GetSealed()) == 0 || len(k.GetPublicKey()) == 0 {
		return reject(command.Invalid)
	}
	if _, ok := s.Tenant(k.GetTenant()); !ok {
		return reject(command.NotFound)
	}
	if old, ok := s.SigningKey(k.GetTenant(), k.GetId()); ok {
		if old.GetGeneration() != c.GetExpect() {
			return reject(command.Exists)
		}
		sealed := cloneOf(old) // sealed anew under another sealing key: nothing else changes
		sealed.Sealed, sealed.Generation = k.GetSealed(), s.index
		s.PutSigningKey(sealed)
		return command.Result{Generation: s.index}, nil
	}
	if c.GetExpect() != 0 {
		return reject(command.NotFound) // dropped since: sealing it anew must not bring it back
	}
	if s.keyWith(k.GetTenant(), k.GetAlg(), statusNext) != nil {
		return reject(command.Exists)
	}
	k.Status, k.CreatedAt, k.RetiredAt, k.GoneAt, k.Generation = statusNext, s.now, 0, 0, s.index
	if s.keyWith(k.GetTenant(), k.GetAlg(), statusActive) == nil {
		k.Status, k.SignsFrom = statusActive, s.now
	}
	s.PutSigningKey(k)
	s.keysChanged(k.GetTenant())
	return command.Result{Generation: s.index}, nil
}

// rotateSigningKey makes next active and active retired, as one change. A
// scheduled one waits until next was published long enough; an emergency
// (revoke_old) does not, and refuses the old key's tokens.
func (s step) rotateSigningKey(c *command.RotateSigningKey) (command.Result, error) {
	if !keyable(c.GetTenant(), c.GetTo()) || !lifetimes(c.GetLongestLifetime()) {
		return reject(command.Invalid)
	}
	next, ok := s.SigningKey(c.GetTenant(), c.GetTo())
	if !ok || next.GetAlg() != c.GetAlg() || next.GetStatus() != statusNext {
		return reject(command.NotFound)
	}
	if !c.GetRevokeOld() && next.GetSignsFrom() > s.now {
		return reject(command.NotReady)
	}
	if old := s.keyWith(c.GetTenant(), c.GetAlg(), statusActive); old != nil {
		tenant, _ := s.Tenant(c.GetTenant())
		gone := s.now + (max(c.GetLongestLifetime(), DefaultLifetime, tenant.GetLongestLifetime())+skew)*1000
		old = cloneOf(old)
		old.Status, old.RetiredAt, old.GoneAt, old.Generation = statusRetired, s.now, gone, s.index
		if c.GetRevokeOld() {
			old.Status = statusRevoked
			s.record(&state.Event{Tenant: c.GetTenant(), Kind: "key", Target: old.GetId(), ExpiresAt: gone/1000 + 1})
		}
		s.PutSigningKey(old)
	}
	next = cloneOf(next)
	next.Status, next.SignsFrom, next.Generation = statusActive, s.now, s.index
	s.PutSigningKey(next)
	seq := s.keysChanged(c.GetTenant())
	return command.Result{Generation: s.index, Seq: seq}, nil
}

// dropSigningKey removes a key whose last token has expired.
func (s step) dropSigningKey(c *command.DropSigningKey) (command.Result, error) {
	if !keyable(c.GetTenant(), c.GetId()) {
		return reject(command.Invalid)
	}
	k, ok := s.SigningKey(c.GetTenant(), c.GetId())
	if !ok {
		return reject(command.NotFound)
	}
	if k.GetStatus() != statusRetired && k.GetStatus() != statusRevoked || k.GetGoneAt() > s.now {
		return reject(command.NotReady)
	}
	s.DeleteSigningKey(c.GetTenant(), c.GetId())
	s.keysChanged(c.GetTenant())
	return command.Result{}, nil
}

// keysChanged tells gateways that the tenant's published keys are others now.
// Only the latest such event of a tenant is kept.
func (s step) keysChanged(tenant string) uint64 {
	e := &state.Event{Tenant: tenant, Kind: "keys", Target: tenant}
	if old, ok := s.Revocation(tenant, "", "keys", tenant, 0); ok {
		return s.PutRevocation(&old, e)
	}
	return s.PutRevocation(nil, e)
}
