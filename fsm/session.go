package fsm

import (
	"bytes"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// endLimit bounds how many families one command ends.
const endLimit = 256

// Bounds of what a session keeps, in bytes and items.
const (
	maxSessionText = 512
	maxAMR         = 16
)

func validSession(m *state.Session) bool {
	if m.GetTenant() == "" || m.GetId() == "" || m.GetUser() == "" || !keyable(m.GetTenant(), m.GetId(), m.GetUser()) ||
		len(m.GetSecret()) != 32 || len(m.GetAmr()) > maxAMR || m.GetExpiresAt() <= 0 || m.GetExpiresAt() > maxClock/1000 {
		return false
	}
	for _, text := range append([]string{m.GetAcr(), m.GetUserAgent(), m.GetAddress(), m.GetIdentityProvider()}, m.GetAmr()...) {
		if len(text) > maxSessionText {
			return false
		}
	}
	return true
}

// putSession makes a session, or gives one another secret after a further proof. The
// user must be as they were when they proved who they are. A session is always made
// after the moment that ended the user's earlier ones, so a login in the very
// millisecond of a change of password is good.
func (s step) putSession(c *command.PutSession) (command.Result, error) {
	next := c.GetSession()
	if !validSession(next) {
		return reject(command.Invalid)
	}
	if s.over(next.GetExpiresAt()) {
		return reject(command.AlreadyExpired)
	}
	user, err := s.User(next.GetTenant(), next.GetUser())
	if err != nil {
		return command.Result{}, err
	}
	old, err := s.Session(next.GetTenant(), next.GetId())
	if err != nil {
		return command.Result{}, err
	}
	if old != nil && bytes.Equal(old.GetSecret(), next.GetSecret()) && old.GetUser() == next.GetUser() {
		return command.Result{Generation: old.GetGeneration()}, nil // this proposal, tried again
	}
	tenant, there := s.Tenant(next.GetTenant())
	switch {
	case !there || user == nil || c.GetExpect() != 0 && old == nil:
		return reject(command.NotFound)
	case tenant.GetDisabled() || user.GetDisabled():
		return reject(command.Disabled)
	case user.GetGeneration() != c.GetUserGeneration():
		return reject(command.Stale)
	case c.GetExpect() == 0 && old != nil:
		return reject(command.Exists)
	case old != nil && old.GetUser() != next.GetUser():
		return reject(command.Conflict)
	case old != nil && (old.GetGeneration() != c.GetExpect() || old.GetCreatedAt() <= user.GetSessionsAfter() || s.over(old.GetExpiresAt())):
		return reject(command.Stale)
	}
	next.CreatedAt, next.Generation = max(s.now, user.GetSessionsAfter()+1), s.index
	if old != nil {
		next.CreatedAt = old.GetCreatedAt()
		next.ExpiresAt = min(next.GetExpiresAt(), old.GetExpiresAt()) // the absolute end stays
	}
	s.PutSession(old, next)
	return command.Result{Generation: s.index}, nil
}

// endSession deletes a session at once, and works its families off: those that live by
// it end, those that outlive it (offline_access) only leave its list. Generation is 1
// when there are more of them.
func (s step) endSession(c *command.EndSession) (command.Result, error) {
	if c.GetTenant() == "" || c.GetId() == "" || !keyable(c.GetTenant(), c.GetId()) {
		return reject(command.Invalid)
	}
	session, err := s.Session(c.GetTenant(), c.GetId())
	if err != nil {
		return command.Result{}, err
	}
	if session != nil {
		s.DeleteSession(session)
	}
	families, err := s.FamiliesOfSession(c.GetTenant(), c.GetId(), endLimit+1)
	if err != nil {
		return command.Result{}, err
	}
	var r command.Result
	for i, id := range families {
		if i == endLimit {
			r.Generation = 1
			break
		}
		f, err := s.RefreshFamily(c.GetTenant(), id)
		if err != nil {
			return command.Result{}, err
		}
		if f == nil || f.GetOffline() {
			s.LeaveSession(c.GetTenant(), c.GetId(), id)
			continue
		}
		if r.Seq, err = s.endGrant(c.GetTenant(), f.GetAuthorization().GetClientId(), id); err != nil {
			return command.Result{}, err
		}
	}
	return r, nil
}

func validConsent(m *state.Consent) bool {
	return m.GetTenant() != "" && m.GetUser() != "" && m.GetClientId() != "" && keyable(m.GetTenant(), m.GetUser(), m.GetClientId()) && m.Fits()
}

// putConsent remembers what a user allowed a client.
func (s step) putConsent(c *command.PutConsent) (command.Result, error) {
	next := c.GetConsent()
	if !validConsent(next) {
		return reject(command.Invalid)
	}
	user, err := s.User(next.GetTenant(), next.GetUser())
	if err != nil {
		return command.Result{}, err
	}
	client, there := s.Client(next.GetTenant(), next.GetClientId())
	if !there || user == nil {
		return reject(command.NotFound)
	}
	if client.GetDisabled() || user.GetDisabled() {
		return reject(command.Disabled)
	}
	old, err := s.Consent(next.GetTenant(), next.GetUser(), next.GetClientId())
	if err != nil {
		return command.Result{}, err
	}
	if old.GetGeneration() != c.GetExpect() {
		return reject(command.Stale)
	}
	next.GrantedAt, next.Generation = s.now, s.index
	s.PutConsent(next)
	return command.Result{Generation: s.index}, nil
}

// deleteConsent takes a consent back, and ends those of the named families that are
// this user's at this client. Without its consent no family of it is refreshed and no
// new one starts, whether it was named or not.
func (s step) deleteConsent(c *command.DeleteConsent) (command.Result, error) {
	if c.GetTenant() == "" || c.GetUser() == "" || c.GetClientId() == "" || len(c.GetFamilies()) > endLimit ||
		!keyable(c.GetTenant(), c.GetUser(), c.GetClientId()) || !keyable(c.GetFamilies()...) {
		return reject(command.Invalid)
	}
	old, err := s.Consent(c.GetTenant(), c.GetUser(), c.GetClientId())
	if err != nil {
		return command.Result{}, err
	}
	if old != nil {
		s.DeleteConsent(c.GetTenant(), c.GetUser(), c.GetClientId())
	}
	var r command.Result
	for _, id := range c.GetFamilies() {
		f, err := s.RefreshFamily(c.GetTenant(), id)
		if err != nil {
			return command.Result{}, err
		}
		if a := f.GetAuthorization(); f == nil || a.GetUser() != c.GetUser() || a.GetClientId() != c.GetClientId() {
			continue
		}
		if r.Seq, err = s.endGrant(c.GetTenant(), c.GetClientId(), id); err != nil {
			return command.Result{}, err
		}
	}
	return r, nil
}
