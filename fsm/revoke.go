package fsm

import (
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// revocable tells the kinds of revocation; each one's target is a claim of the token.
func revocable(kind string) bool {
	switch kind {
	case "token", "grant", "root", "client", "subject", "application", "apikey", "keymanager", "key":
		return true
	}
	return false
}

// revoke records one revocation and gives it the next seq (I5). A second one of
// the same target only widens the first; it gets a new seq all the same, since
// tokens may have been decided in between.
func (s step) revoke(c *command.Revoke) (command.Result, error) {
	if !revocable(c.GetTargetKind()) || c.GetTarget() == "" || c.GetTenant() == "" || c.GetIssuedBefore() < 0 ||
		!keyable(c.GetTenant(), c.GetIssuer(), c.GetTarget()) {
		return reject(command.Invalid)
	}
	if s.over(c.GetExpiresAt()) {
		return reject(command.AlreadyExpired)
	}
	before := c.GetIssuedBefore()
	if before != 0 {
		before = min(before, max(s.now/1000, 1)) // nobody revokes the future; 0 would mean all
	}
	if c.GetTargetKind() == "key" && c.GetIssuer() == "" { // another issuer's kid names no key of ours
		if k, ok := s.SigningKey(c.GetTenant(), c.GetTarget()); ok && k.GetStatus() != statusRevoked {
			if k.GetStatus() == statusActive {
				return reject(command.NotReady) // rotate first: somebody must sign
			}
			k = cloneOf(k)
			k.Status, k.GoneAt, k.Generation = statusRevoked, max(k.GetGoneAt(), millis(c.GetExpiresAt())), s.index
			s.PutSigningKey(k)
			s.keysChanged(c.GetTenant())
		}
	}
	seq := s.record(&state.Event{
		Tenant: c.GetTenant(), Issuer: c.GetIssuer(), Kind: c.GetTargetKind(), Target: c.GetTarget(),
		IssuedBefore: before, ExpiresAt: c.GetExpiresAt(),
	})
	return command.Result{Seq: seq}, nil
}

// record writes a revocation event, widened by the one it replaces. One that
// can never match more than the present one answers with that one's seq: a
// single token, whose head is older than the first revocation for sure.
func (s step) record(e *state.Event) (seq uint64) {
	old, ok := s.Revocation(e.GetTenant(), e.GetIssuer(), e.GetKind(), e.GetTarget(), e.GetIssuedBefore())
	if !ok {
		return s.PutRevocation(nil, e)
	}
	if e.GetKind() == "token" && e.GetIssuedBefore() == 0 && e.GetExpiresAt() <= old.ExpiresAt {
		return old.Seq
	}
	e.IssuedBefore = max(e.GetIssuedBefore(), old.IssuedBefore)
	e.ExpiresAt = max(e.GetExpiresAt(), old.ExpiresAt)
	if e.GetIssuedAfter() != 0 && old.IssuedAfter != 0 {
		e.DecidedAfter, e.IssuedAfter = min(e.GetDecidedAfter(), old.DecidedAfter), min(e.GetIssuedAfter(), old.IssuedAfter)
	} else {
		e.DecidedAfter, e.IssuedAfter = 0, 0
	}
	return s.PutRevocation(&old, e)
}
