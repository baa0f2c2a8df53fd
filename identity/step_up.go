package identity

import (
	"context"
	"crypto/rand"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// StepUp goes on with a session after a further proof of its user: sid and what lives by
// it stay, the secret, auth_time and how it was proved are new. The cookie from before is
// worth nothing afterwards (WEB-04). Errors: invalid_grant when session or user were
// changed meanwhile.
func (s *Sessions) StepUp(ctx context.Context, v *state.View, session *state.Session, user *state.User, a Authentication) (string, *state.Session, error) {
	secret := make([]byte, 32)
	rand.Read(secret) // never fails: crypto/rand ends the process instead
	hashes, err := s.cfg.Hashes(v, secret)
	if err != nil {
		return "", nil, err
	}
	now := s.now(v)
	row := proto.CloneOf(session)
	row.Secret, row.AuthTime, row.Acr, row.Amr, row.UserAgent, row.Address = hashes[0][:], now, a.ACR, a.AMR, a.UserAgent, a.Address
	result, err := s.cfg.Propose(ctx, &command.PutSession{Session: row, Expect: session.GetGeneration(), UserGeneration: user.GetGeneration()})
	if err != nil {
		return "", nil, fmt.Errorf("go on with a session: %w", err)
	}
	switch result.Reject {
	case command.Accepted:
	case command.Stale, command.NotFound, command.Disabled:
		return "", nil, oauth.InvalidGrant.With("the user was changed at this moment; sign in again")
	default:
		return "", nil, fmt.Errorf("go on with a session: %w", result.Reject)
	}
	return s.made(ctx, row, secret, now)
}

// made reads a session back that was just put, and gives its cookie.
func (s *Sessions) made(ctx context.Context, row *state.Session, secret []byte, now int64) (string, *state.Session, error) {
	// The proposal was applied on this node, so a local view has it.
	v, err := s.cfg.View(ctx, state.Local)
	if err != nil {
		return "", nil, err
	}
	made, err := v.Session(row.GetTenant(), row.GetId())
	if err != nil {
		return "", nil, fmt.Errorf("read the session back: %w", err)
	}
	value, err := s.seal(v, &cookie{row.GetTenant(), row.GetId(), secret, now})
	return value, made, err
}
