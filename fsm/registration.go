package fsm

import (
	"crypto/subtle"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// maxUses bounds the uses of one initial access token.
const maxUses = 1_000_000

// putInitialAccessToken makes a token by which clients register themselves.
func (s step) putInitialAccessToken(c *command.PutInitialAccessToken) (command.Result, error) {
	t := c.GetToken()
	if t.GetTenant() == "" || t.GetId() == "" || !keyable(t.GetTenant(), t.GetId()) || len(t.GetHash()) != 32 ||
		t.GetUnlimited() != (t.GetUsesLeft() == 0) || t.GetUsesLeft() > maxUses || t.GetExpiresAt() > maxClock/1000 {
		return reject(command.Invalid)
	}
	if s.over(t.GetExpiresAt()) {
		return reject(command.AlreadyExpired)
	}
	if _, ok := s.Tenant(t.GetTenant()); !ok {
		return reject(command.NotFound)
	}
	if _, ok := s.InitialAccessToken(t.GetTenant(), t.GetId()); ok {
		return reject(command.Exists)
	}
	t.CreatedAt = s.now
	s.PutInitialAccessToken(t)
	return command.Result{Generation: s.index}, nil
}

// deleteInitialAccessToken takes one back.
func (s step) deleteInitialAccessToken(c *command.DeleteInitialAccessToken) (command.Result, error) {
	if !keyable(c.GetTenant(), c.GetId()) {
		return reject(command.Invalid)
	}
	if _, ok := s.InitialAccessToken(c.GetTenant(), c.GetId()); !ok {
		return reject(command.NotFound)
	}
	s.DeleteInitialAccessToken(c.GetTenant(), c.GetId())
	return command.Result{}, nil
}

// registerClient uses a token once and makes the client (REG-01): of many at once, at as
// many nodes, as many succeed as it has uses.
func (s step) registerClient(c *command.RegisterClient) (command.Result, error) {
	next := c.GetClient()
	if !keyable(next.GetTenant(), c.GetToken()) || !next.GetSelfRegistered() || next.GetDisabled() {
		return reject(command.Invalid)
	}
	tenant, known := s.Tenant(next.GetTenant())
	token, ok := s.InitialAccessToken(next.GetTenant(), c.GetToken())
	switch open := tenant.GetSettings().GetRegistration().GetOpen(); {
	case c.GetToken() == "" && open: // nobody is asked for one
		token = &state.InitialAccessToken{Unlimited: true}
	case !ok || subtle.ConstantTimeCompare(token.GetHash(), c.GetHash()) != 1:
		return reject(command.AlreadyUsed)
	case s.over(token.GetExpiresAt()):
		return reject(command.AlreadyExpired)
	}
	if !known || tenant.GetDisabled() {
		return reject(command.Disabled)
	}
	if s.Registrations(next.GetTenant()) >= c.GetLimit() {
		return reject(command.NotReady)
	}
	r, err := s.putClient(&command.PutClient{Client: next})
	if err != nil || r.Reject != command.Accepted {
		return r, err
	}
	s.countRegistered(next.GetTenant(), 1)
	if token.GetUnlimited() {
		return r, nil
	}
	if token.GetUsesLeft() <= 1 {
		s.DeleteInitialAccessToken(next.GetTenant(), c.GetToken())
		return r, nil
	}
	used := cloneOf(token)
	used.UsesLeft--
	s.PutInitialAccessToken(used)
	return r, nil
}

// useClient keeps a client that is used for the first time (REG-10). Nothing of its
// registration changes, and so no generation.
func (s step) useClient(c *command.UseClient) (command.Result, error) {
	if !keyable(c.GetTenant(), c.GetId()) {
		return reject(command.Invalid)
	}
	old, ok := s.Client(c.GetTenant(), c.GetId())
	if !ok {
		return reject(command.NotFound)
	}
	if old.GetUnusedUntil() == 0 {
		return command.Result{}, nil
	}
	used := cloneOf(old)
	used.UnusedUntil = 0
	s.PutClient(used)
	return command.Result{}, nil
}

// countRegistered keeps the number of the tenant's clients that registered themselves.
func (s step) countRegistered(tenant string, by int64) {
	s.PutRegistrations(tenant, &state.Registrations{Clients: uint64(max(0, int64(s.Registrations(tenant))+by))})
}
