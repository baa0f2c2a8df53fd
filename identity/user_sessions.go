package identity

import (
	"context"

	"github.com/keyraft/keyraft/fsm/state"
)

// MaxSessions bounds how many sessions of a user are listed in one call.
const MaxSessions = 1000

// Of lists the sessions that a user has now, at most MaxSessions.
func (s *Sessions) Of(v *state.View, user *state.User) ([]*state.Session, error) {
	ids, err := v.SessionsOf(user.GetTenant(), user.GetId(), "", MaxSessions)
	if err != nil {
		return nil, err
	}
	var out []*state.Session
	for _, id := range ids {
		row, err := v.Session(user.GetTenant(), id)
		if err != nil {
			if s.cfg.Absent(err) {
				continue // it has ended since the list was read
			}
			return nil, err
		}
		if s.Stands(v, row, user) {
			out = append(out, row)
		}
	}
	return out, nil
}

// Stands tells whether a session of a user has not ended, by its time or by what ended all
// of theirs.
func (s *Sessions) Stands(v *state.View, row *state.Session, user *state.User) bool {
	return row.GetExpiresAt() > s.now(v) && row.GetCreatedAt() > user.GetSessionsAfter() && row.GetUser() == user.GetId()
}

// EndOthers ends the sessions of a user but one; "" keeps none.
func (s *Sessions) EndOthers(ctx context.Context, v *state.View, user *state.User, keep string) error {
	for after := ""; ; {
		ids, err := v.SessionsOf(user.GetTenant(), user.GetId(), after, MaxSessions)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if id == keep {
				continue
			}
			if err := s.End(ctx, user.GetTenant(), id); err != nil {
				return err
			}
		}
		if len(ids) < MaxSessions {
			return nil
		}
		after = ids[len(ids)-1]
	}
}
