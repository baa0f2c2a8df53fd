package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// SessionsConfig has no optional fields but Ended and the lives.
type SessionsConfig struct {
	Propose command.Propose
	View    func(ctx context.Context, f state.Freshness) (*state.View, error)
	Now     func() time.Time
	Absent  func(error) bool
	// Seal and Open are those of values that leave the cluster and come back.
	Seal func(v *state.View, label string, plain []byte) (string, error)
	Open func(v *state.View, label, value string) (plain []byte, ok bool, err error)
	// Hashes are the keyed hashes of a generated secret, the newest key's first.
	Hashes func(v *state.View, secret []byte) ([][32]byte, error)

	// Ended, when set, is told of a session that was ended and of the clients that got
	// something in it.
	Ended func(v *state.View, s *state.Session, clients []string)

	Lifetime time.Duration // of a session, however busy; 0: 12 hours
	Idle     time.Duration // that it may rest; 0: 2 hours
}

// Sessions are the logins of users at this server. A session is one write; what it is
// used for writes nothing: when it was used last is sealed into its cookie.
type Sessions struct{ cfg SessionsConfig }

// NewSessions checks its configuration.
func NewSessions(cfg SessionsConfig) (*Sessions, error) {
	if cfg.Propose == nil || cfg.View == nil || cfg.Now == nil || cfg.Absent == nil || cfg.Seal == nil || cfg.Open == nil || cfg.Hashes == nil {
		return nil, errors.New("identity: SessionsConfig needs Propose, View, Now, Absent, Seal, Open and Hashes")
	}
	if cfg.Lifetime == 0 {
		cfg.Lifetime = 12 * time.Hour
	}
	if cfg.Idle == 0 {
		cfg.Idle = 2 * time.Hour
	}
	return &Sessions{cfg}, nil
}

// Authentication is how a user has proved who they are.
type Authentication struct {
	AMR                []string // RFC 8176
	ACR                string
	UserAgent, Address string // of the browser, for the user's own list
}

// cookieLabel keeps the cookie of a session from passing for another sealed value.
const cookieLabel = "session cookie"

// cookie is what a session's cookie says; nothing but its secret is believed.
type cookie struct {
	Tenant string `json:"t"`
	ID     string `json:"i"`
	Secret []byte `json:"s"`
	Used   int64  `json:"u"` // seconds
}

// Start makes a session for a user who has just proved who they are, and gives the value
// of its cookie. Errors: invalid_grant when the user was changed meanwhile.
func (s *Sessions) Start(ctx context.Context, v *state.View, tenant string, user *state.User, a Authentication) (string, *state.Session, error) {
	secret := make([]byte, 32)
	rand.Read(secret) // never fails: crypto/rand ends the process instead
	hashes, err := s.cfg.Hashes(v, secret)
	if err != nil {
		return "", nil, err
	}
	now := s.now(v)
	row := &state.Session{
		Tenant: tenant, Id: randomID(), User: user.GetId(), Secret: hashes[0][:], AuthTime: now, Acr: a.ACR, Amr: a.AMR,
		ExpiresAt: now + int64(s.cfg.Lifetime/time.Second), UserAgent: a.UserAgent, Address: a.Address,
	}
	result, err := s.cfg.Propose(ctx, &command.PutSession{Session: row, UserGeneration: user.GetGeneration()})
	if err != nil {
		return "", nil, fmt.Errorf("start a session: %w", err)
	}
	switch result.Reject {
	case command.Accepted:
	case command.Stale, command.NotFound, command.Disabled:
		return "", nil, oauth.InvalidGrant.With("the user was changed at this moment; sign in again")
	default:
		return "", nil, fmt.Errorf("start a session: %w", result.Reject)
	}
	return s.made(ctx, row, secret, now)
}

func (s *Sessions) now(v *state.View) int64 { return max(s.cfg.Now().Unix(), v.Clock()/1000) }

func (s *Sessions) seal(v *state.View, c *cookie) (string, error) {
	plain, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	return s.cfg.Seal(v, cookieLabel, plain)
}

// Current is the session of a cookie and its user; nil for a cookie that is none of ours
// or whose session has ended, rested too long, or is of before what ended all of the
// user's (WEB-05). renewed is another value to send, "" where the one that there is will
// do. v should be linearizable.
func (s *Sessions) Current(v *state.View, tenant, value string) (session *state.Session, user *state.User, renewed string, err error) {
	plain, ok, err := s.cfg.Open(v, cookieLabel, value)
	if err != nil || !ok {
		return nil, nil, "", err
	}
	c, now := &cookie{}, s.now(v)
	rested := func() int64 { return now - c.Used }
	if json.Unmarshal(plain, c) != nil || c.Tenant != tenant || rested() > int64(s.cfg.Idle/time.Second) {
		return nil, nil, "", nil
	}
	row, err := v.Session(tenant, c.ID)
	if err != nil {
		return nil, nil, "", s.present(err)
	}
	genuine, err := s.holds(v, row, c.Secret)
	if err != nil || !genuine || row.GetExpiresAt() <= now {
		return nil, nil, "", err
	}
	owner, err := v.User(tenant, row.GetUser())
	if err != nil {
		return nil, nil, "", s.present(err)
	}
	// A restore brings back a session that was ended since its backup (R15).
	if owner.GetDisabled() || row.GetCreatedAt() <= owner.GetSessionsAfter() || v.BroughtBack(row.GetCreatedAt()) {
		return nil, nil, "", nil
	}
	if rested() > int64(s.cfg.Idle/time.Second)/8 {
		c.Used = now
		if renewed, err = s.seal(v, c); err != nil {
			return nil, nil, "", err
		}
	}
	return row, owner, renewed, nil
}

// present is nil for the error of a row that is not there.
func (s *Sessions) present(err error) error {
	if s.cfg.Absent(err) {
		return nil
	}
	return err
}

func (s *Sessions) holds(v *state.View, row *state.Session, secret []byte) (bool, error) {
	hashes, err := s.cfg.Hashes(v, secret)
	found := 0
	for i := range hashes {
		found |= subtle.ConstantTimeCompare(hashes[i][:], row.GetSecret())
	}
	return found == 1, err
}

// maxEnds bounds how often one command's share of a session's end is asked for.
const maxEnds = 256

// maxClients bounds the clients of one session that are told of its end.
const maxClients = 256

// End ends a session and the refresh families that live by it. One that has ended
// already is no error.
func (s *Sessions) End(ctx context.Context, tenant, sid string) error {
	v, err := s.cfg.View(ctx, state.Linearizable)
	if err != nil {
		return err
	}
	session, err := v.Session(tenant, sid)
	if err != nil && !s.cfg.Absent(err) {
		return err
	}
	clients, err := v.ClientsOfSession(tenant, sid, "", maxClients)
	if err != nil {
		return err
	}
	if err := s.end(ctx, tenant, sid); err != nil {
		return err
	}
	if s.cfg.Ended != nil && session != nil {
		s.cfg.Ended(v, session, clients)
	}
	return nil
}

func (s *Sessions) end(ctx context.Context, tenant, sid string) error {
	for range maxEnds {
		result, err := s.cfg.Propose(ctx, &command.EndSession{Tenant: tenant, Id: sid})
		switch {
		case err != nil:
			return fmt.Errorf("end a session: %w", err)
		case result.Reject == command.NotFound:
			return nil
		case result.Reject != command.Accepted:
			return fmt.Errorf("end a session: %w", result.Reject)
		case result.Generation != 1: // nothing is left
			return nil
		}
	}
	return fmt.Errorf("end a session: %w", command.ErrUnavailable)
}
