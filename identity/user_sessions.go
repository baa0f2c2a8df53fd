package identity

import (
	"context"
	"errors"

	"github.com/keyraft/keyraft/fsm/state"
)

// MaxSessions bounds how many sessions of a user are listed or ended in one call.
const MaxSessions = 1000

// Of lists the sessions that a user has now, at most MaxSessions.
func (s *Sessions) Of(v *state.View, user *state.User) ([]*state.Session, error) {
	ids, err := v.SessionsOf(user.GetTenant(), user.GetId(), "", MaxSessions)
	if err != nil {
		return nil, err
	}
	now := s.now(v)
	var out []*state.Session
	for _, id := range ids {
		row, err := v.Session(user.GetTenant(), id)
		if err != nil {
			if s.cfg.Absent(err) {
				continue // it has ended since the list was read
			}
			return nil, err
		}
		if row.GetExpiresAt() > now && row.GetCreatedAt() > user.GetSessionsAfter() {
			out = append(out, row)
		}
	}
	return out, nil
}

// EndOthers ends the sessions of a user but one; "" keeps none.
func (s *Sessions) EndOthers(ctx context.Context, v *state.View, user *state.User, keep string) error {
	ids, err := v.SessionsOf(user.GetTenant(), user.GetId(), "", MaxSessions)
	for _, id := range ids {
		if id != keep {
			err = errors.Join(err, s.End(ctx, user.GetTenant(), id))
		}
	}
	return err
}
