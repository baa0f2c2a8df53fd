package identity

import (
	"context"

	"github.com/keyraft/keyraft/fsm/state"
)

// MaxSessions bounds how many sessions of a user are read in one call.
const MaxSessions = 1000

// Page lists sessions that a user has now, in the order of their ids: those of at most limit
// rows after the one of the id after. next is where the list goes on, "" at its end.
func (s *Sessions) Page(v *state.View, user *state.User, after string, limit int) (rows []*state.Session, next string, err error) {
	limit = min(limit, MaxSessions)
	ids, err := v.SessionsOf(user.GetTenant(), user.GetId(), after, limit+1)
	if err != nil {
		return nil, "", err
	}
	if len(ids) > limit {
		ids, next = ids[:limit], ids[limit-1]
	}
	for _, id := range ids {
		row, err := v.Session(user.GetTenant(), id)
		if err != nil {
			if s.cfg.Absent(err) {
				continue // it has ended since the list was read
			}
			return nil, "", err
		}
		if s.Stands(v, row, user) {
			rows = append(rows, row)
		}
	}
	return rows, next, nil
}

// Has tells whether a session is one of the user's that has not ended.
func (s *Sessions) Has(v *state.View, user *state.User, id string) (bool, error) {
	if id == "" {
		return false, nil
	}
	row, err := v.Session(user.GetTenant(), id)
	if err != nil {
		return false, s.present(err)
	}
	return s.Stands(v, row, user), nil
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
