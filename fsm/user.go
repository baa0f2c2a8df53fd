package fsm

import (
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// maxWindow bounds the times of a lockout policy, in milliseconds: ten years, so that
// no sum with the clock overflows.
const maxWindow = 10 * 366 * 86_400_000

// putUser makes or replaces a user. The folded name is unique in the tenant.
func (s step) putUser(c *command.PutUser) (command.Result, error) {
	next := c.GetUser()
	if next.GetId() == "" || next.GetTenant() == "" || next.GetKey() == "" || !keyable(next.GetTenant(), next.GetId(), next.GetKey()) ||
		c.GetRevokeUntil() < 0 || c.GetRevokeUntil() > maxClock/1000 {
		return reject(command.Invalid)
	}
	if _, ok := s.Tenant(next.GetTenant()); !ok {
		return reject(command.NotFound)
	}
	old, err := s.User(next.GetTenant(), next.GetId())
	if err != nil {
		return command.Result{}, err
	}
	switch {
	case c.GetExpect() == 0 && old != nil:
		return reject(command.Exists)
	case c.GetExpect() != 0 && old == nil:
		return reject(command.NotFound)
	case old != nil && old.GetGeneration() != c.GetExpect():
		return reject(command.Stale)
	}
	owner, err := s.UserIDByName(next.GetTenant(), next.GetKey())
	if err != nil {
		return command.Result{}, err
	}
	if owner != "" && owner != next.GetId() {
		return reject(command.Conflict)
	}
	subjects, err := s.subjectsOf(next.GetTenant(), next.GetId())
	if err != nil {
		return command.Result{}, err
	}
	next.Generation, next.CreatedAt, next.UpdatedAt = s.index, s.now, s.now
	next.SessionsAfter = 0
	if old != nil {
		next.CreatedAt, next.SessionsAfter = old.GetCreatedAt(), old.GetSessionsAfter()
	}
	r := command.Result{Generation: s.index}
	if old != nil && (c.GetEndLogins() || next.GetDisabled() && !old.GetDisabled()) {
		next.SessionsAfter = s.now
		r.Seq = s.revokeSubjects(next.GetTenant(), subjects, c.GetRevokeUntil())
	}
	s.PutUser(old, next)
	return r, nil
}

// deleteUser removes a user and revokes their tokens. Their sessions and refresh
// families are good for nothing without the row, and go with their time. What has no
// end of its own, their proofs and consents, goes at once.
func (s step) deleteUser(c *command.DeleteUser) (command.Result, error) {
	if !keyable(c.GetTenant(), c.GetId()) || c.GetRevokeUntil() < 0 || c.GetRevokeUntil() > maxClock/1000 {
		return reject(command.Invalid)
	}
	old, err := s.User(c.GetTenant(), c.GetId())
	if err != nil {
		return command.Result{}, err
	}
	if old == nil {
		return reject(command.NotFound)
	}
	if c.GetExpect() != 0 && c.GetExpect() != old.GetGeneration() {
		return reject(command.Stale)
	}
	subjects, err := s.subjectsOf(c.GetTenant(), c.GetId())
	if err != nil {
		return command.Result{}, err
	}
	s.DeleteUser(old, subjects[1:])
	if err := s.ForgetProofs(c.GetTenant(), c.GetId()); err != nil {
		return command.Result{}, err
	}
	return command.Result{Seq: s.revokeSubjects(c.GetTenant(), subjects, c.GetRevokeUntil())}, nil
}

// subjectsOf are the names under which clients know a user: the public one, and one of
// each sector.
func (s step) subjectsOf(tenant, user string) ([]string, error) {
	pairwise, err := s.SubjectsOf(tenant, user)
	return append([]string{user}, pairwise...), err
}

func (s step) revokeSubjects(tenant string, subjects []string, until int64) (seq uint64) {
	for _, subject := range subjects {
		seq = s.record(&state.Event{Tenant: tenant, Kind: "subject", Target: subject, ExpiresAt: max(until, s.now/1000+DefaultLifetime) + skew})
	}
	return seq
}

// recordAttempt counts one proof of an account, over all nodes (TOK-34).
func (s step) recordAttempt(c *command.RecordAttempt) (command.Result, error) {
	if c.GetTenant() == "" || c.GetUser() == "" || !keyable(c.GetTenant(), c.GetUser(), c.GetClass()) || c.GetLimit() == 0 ||
		c.GetWindow() <= 0 || c.GetWindow() > maxWindow || c.GetLock() <= 0 || c.GetLock() > maxWindow {
		return reject(command.Invalid)
	}
	old, err := s.Attempts(c.GetTenant(), c.GetUser(), c.GetClass())
	if err != nil {
		return command.Result{}, err
	}
	if c.GetOk() {
		if old != nil {
			s.DeleteAttempts(c.GetTenant(), c.GetUser(), c.GetClass())
		}
		return command.Result{}, nil
	}
	next := &state.Attempts{WindowEndsAt: s.now + c.GetWindow()}
	if old != nil && s.now < max(old.GetWindowEndsAt(), old.GetLockedUntil()) {
		next = cloneOf(old)
	}
	next.Failed++
	if next.GetFailed() >= c.GetLimit() {
		next.LockedUntil = s.now + c.GetLock()
	}
	next.ExpiresAt = max(next.GetWindowEndsAt(), next.GetLockedUntil())/1000 + 1
	s.PutAttempts(c.GetTenant(), c.GetUser(), c.GetClass(), next)
	return command.Result{}, nil
}
