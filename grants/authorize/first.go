package authorize

import (
	"github.com/keyraft/keyraft/fsm/state"
)

// FirstLifetime is how long a first proof waits for the second one, in seconds.
const FirstLifetime = 600

// ProvedFirst notes in a request that its user has given one of two proofs. There is no
// session before the second: what asks for a session alone asks for both. It travels on
// sealed, so no form field of a browser can say it.
func (e *Engine) ProvedFirst(v *state.View, r *state.AuthorizationRequest, user *state.User, amr []string) {
	r.User, r.Amr, r.AuthenticatedAt, r.SessionsAfter = user.GetId(), amr, e.now(v), user.GetSessionsAfter()
}

// First is who has given the first of two proofs in the course of a request; nil for
// nobody, one who may not sign in any more, or one who has taken too long.
func (e *Engine) First(v *state.View, r *state.AuthorizationRequest) (*state.User, error) {
	if len(r.GetAmr()) == 0 || r.GetEpoch() != v.Epoch() || e.now(v)-r.GetAuthenticatedAt() > FirstLifetime {
		return nil, nil
	}
	user, err := v.User(r.GetTenant(), r.GetUser())
	if err != nil {
		if e.cfg.Absent(err) {
			return nil, nil
		}
		return nil, err
	}
	if user.GetDisabled() || user.GetSessionsAfter() != r.GetSessionsAfter() { // their logins were ended since
		return nil, nil
	}
	return user, nil
}

// Recent tells whether a session's last proof is as recent as that of First: recent enough
// to set up a second factor that was not there.
func (e *Engine) Recent(v *state.View, s *state.Session) bool {
	return s != nil && e.now(v)-s.GetAuthTime() <= FirstLifetime
}
