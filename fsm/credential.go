package fsm

import (
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// Bounds of a user's credentials.
const (
	maxCredentials = 32
	maxSealed      = 4 << 10
	maxPasskey     = 16 << 10
)

// maxRecoveryCodes is how many codes one row can keep: a bit each tells the used ones.
const maxRecoveryCodes = 64

func validCredential(m *state.Credential) bool {
	switch m.GetKind() {
	case state.KindTOTP, state.KindRecovery:
		if len(m.GetSealed()) == 0 || len(m.GetPublic()) != 0 {
			return false
		}
	case state.KindPasskey:
		if len(m.GetPublic()) == 0 || len(m.GetSealed()) != 0 {
			return false
		}
	default:
		return false
	}
	return m.GetTenant() != "" && m.GetUser() != "" && m.GetId() != "" && keyable(m.GetTenant(), m.GetUser()) &&
		len(m.GetId()) <= maxPart && len(m.GetName()) <= maxSessionText && len(m.GetSealed()) <= maxSealed && len(m.GetPublic()) <= maxPasskey
}

// putCredential adds a proof of a user. A passkey's id is of one user of a tenant only
// (WebAuthn L2 §7.1 step 22).
func (s step) putCredential(c *command.PutCredential) (command.Result, error) {
	next := c.GetCredential()
	if !validCredential(next) || !keyable(c.GetReplaces()) {
		return reject(command.Invalid)
	}
	user, err := s.User(next.GetTenant(), next.GetUser())
	if err != nil {
		return command.Result{}, err
	}
	if user == nil {
		return reject(command.NotFound)
	}
	if user.GetDisabled() {
		return reject(command.Disabled)
	}
	if next.GetKind() == state.KindPasskey {
		owner, err := s.UserByPasskey(next.GetTenant(), next.GetId())
		if err != nil {
			return command.Result{}, err
		}
		if owner != "" && owner != next.GetUser() {
			return reject(command.Conflict)
		}
	}
	have, err := s.CredentialsOf(next.GetTenant(), next.GetUser())
	if err != nil {
		return command.Result{}, err
	}
	var replaced *state.Credential
	for _, m := range have {
		switch {
		case m.GetId() == next.GetId():
			return reject(command.Exists)
		case m.GetId() == c.GetReplaces():
			replaced = m
		case m.GetKind() == next.GetKind() && m.GetKind() != state.KindPasskey:
			return reject(command.Stale) // one of these at most, decided on when there was none or another
		}
		if c.GetFirst() && m.GetKind() != state.KindRecovery {
			return reject(command.Stale)
		}
	}
	if c.GetReplaces() != "" && replaced == nil {
		return reject(command.Stale)
	}
	if replaced != nil {
		if replaced.GetKind() != next.GetKind() {
			return reject(command.Conflict)
		}
	} else if len(have) >= maxCredentials {
		return reject(command.NotReady)
	}
	if r, err := s.answered(next.GetTenant(), c.GetChallenge(), c.GetChallengeEndsAt()); err != nil || r != command.Accepted {
		return command.Result{Reject: r}, err
	}
	if replaced != nil {
		s.DeleteCredential(replaced)
	}
	next.CreatedAt, next.UsedAt, next.Generation, next.Confirmed = s.now, 0, s.index, true
	s.PutCredential(next)
	return command.Result{Generation: s.index}, nil
}

func (s step) deleteCredential(c *command.DeleteCredential) (command.Result, error) {
	old, err := s.credential(c.GetTenant(), c.GetUser(), c.GetId())
	if err != nil {
		return command.Result{}, err
	}
	if old == nil {
		return reject(command.NotFound)
	}
	s.DeleteCredential(old)
	return command.Result{Generation: s.index}, nil
}

func (s step) credential(tenant, user, id string) (*state.Credential, error) {
	if !keyable(tenant, user, id) {
		return nil, nil
	}
	return s.Credential(tenant, user, id)
}

// challengeKind is what a passkey's challenge is used up as.
const challengeKind = "passkey challenge"

// answered uses up the challenge that a proof answers (WebAuthn L2 §13.4.3).
func (s step) answered(tenant, challenge string, endsAt int64) (command.Reject, error) {
	if challenge == "" {
		return command.Accepted, nil
	}
	r, err := s.consume(&command.Consume{Tenant: tenant, ValueKind: challengeKind, Id: challenge, ExpiresAt: endsAt})
	return r.Reject, err
}

// useCredential accepts a proof once. What was checked elsewhere is compared here with
// what other nodes have accepted since; so are the guesses that they counted (WEB-07).
func (s step) useCredential(c *command.UseCredential) (command.Result, error) {
	if len(c.GetPublic()) > maxPasskey || !keyable(c.GetAttempts()) {
		return reject(command.Invalid)
	}
	old, err := s.credential(c.GetTenant(), c.GetUser(), c.GetId())
	if err != nil {
		return command.Result{}, err
	}
	if old == nil {
		return reject(command.NotFound)
	}
	user, err := s.User(c.GetTenant(), c.GetUser())
	if err != nil {
		return command.Result{}, err
	}
	if user == nil || user.GetDisabled() {
		return reject(command.Disabled)
	}
	var tried *state.Attempts
	if c.GetAttempts() != "" {
		if tried, err = s.Attempts(c.GetTenant(), c.GetUser(), c.GetAttempts()); err != nil {
			return command.Result{}, err
		}
		if tried.GetLockedUntil() > s.now {
			return reject(command.NotReady)
		}
	}
	next, refused := used(old, c)
	if refused != command.Accepted {
		return reject(refused)
	}
	if r, err := s.answered(c.GetTenant(), c.GetChallenge(), c.GetChallengeEndsAt()); err != nil || r != command.Accepted {
		return command.Result{Reject: r}, err
	}
	if tried != nil {
		s.DeleteAttempts(c.GetTenant(), c.GetUser(), c.GetAttempts())
	}
	next.UsedAt, next.Generation = s.now, s.index
	s.PutCredential(next)
	return command.Result{Generation: s.index}, nil
}

// used is a credential after one more proof by it, if it accepts that one.
func used(old *state.Credential, c *command.UseCredential) (*state.Credential, command.Reject) {
	next := cloneOf(old)
	switch old.GetKind() {
	case state.KindTOTP:
		if c.GetCounter() <= old.GetCounter() {
			return nil, command.AlreadyUsed
		}
		next.Counter = c.GetCounter()
	case state.KindRecovery:
		if c.GetCounter() >= maxRecoveryCodes {
			return nil, command.Invalid
		}
		bit := uint64(1) << c.GetCounter()
		if old.GetCounter()&bit != 0 {
			return nil, command.AlreadyUsed
		}
		next.Counter = old.GetCounter() | bit
	case state.KindPasskey:
		if len(c.GetPublic()) == 0 {
			return nil, command.Invalid
		}
		if (c.GetCounter() != 0 || old.GetCounter() != 0) && c.GetCounter() <= old.GetCounter() {
			return nil, command.AlreadyUsed
		}
		next.Counter, next.Public = c.GetCounter(), c.GetPublic()
	}
	return next, command.Accepted
}
