package fsm

import (
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// skew is how much longer than a token's life everything is kept that may
// refuse it, in seconds: clocks of nodes and gateways differ.
const skew = 120

// DefaultLifetime is the life of an access token where neither client nor
// tenant says one, in seconds.
const DefaultLifetime = 3600

// maxLifetime bounds every lifetime in seconds: a hundred years, so that no sum
// with the clock overflows and makes a revocation end before it began.
const maxLifetime = state.Never

func lifetimes(seconds ...int64) bool {
	for _, n := range seconds {
		if n < 0 || n > maxLifetime {
			return false
		}
	}
	return true
}

// maxPart bounds a string that becomes part of a key, in bytes. No table has more
// than three that callers choose, so every key fits maxKey. Without the bound one
// command could stop every node at once, or make a snapshot that nobody can read.
const maxPart = 1024

func keyable(parts ...string) bool {
	for _, p := range parts {
		if len(p) > maxPart {
			return false
		}
	}
	return true
}

// over reports whether an end in seconds has come.
func (s step) over(end int64) bool { return end <= s.now/1000 }

// millis is an end in seconds as milliseconds, for ever where that overflows.
func millis(seconds int64) int64 { return min(seconds, math.MaxInt64/1000) * 1000 }

func cloneOf[T proto.Message](m T) T { return proto.Clone(m).(T) }

// putClient makes or replaces a client. Disabling one revokes its tokens in the
// same change, so that gateways refuse them too.
func (s step) putClient(c *command.PutClient) (command.Result, error) {
	next := c.GetClient()
	if next.GetId() == "" || next.GetTenant() == "" || !keyable(next.GetTenant(), next.GetId()) ||
		len(next.GetSecrets()) > 2 || next.GetUnusedUntil() < 0 || next.GetUnusedUntil() > maxClock/1000 ||
		!lifetimes(next.GetAccessTokenLifetime(), next.GetUserAccessTokenLifetime(), next.GetRefreshTokenLifetime()) {
		return reject(command.Invalid)
	}
	tenant, ok := s.Tenant(next.GetTenant())
	if !ok {
		return reject(command.NotFound)
	}
	old, ok := s.Client(next.GetTenant(), next.GetId())
	switch {
	case c.GetExpect() == 0 && ok:
		return reject(command.Exists)
	case c.GetExpect() != 0 && !ok:
		return reject(command.NotFound)
	case ok && old.GetGeneration() != c.GetExpect():
		return reject(command.Stale)
	}
	next.Generation, next.UpdatedAt, next.CreatedAt = s.index, s.now, s.now
	if ok {
		next.CreatedAt = old.GetCreatedAt()
		next.UnusedUntil = min(next.GetUnusedUntil(), old.GetUnusedUntil()) // it may have been used since next was decided
	}
	next.LongestLifetime = max(old.GetLongestLifetime(), longestLifetime(tenant, next))
	s.PutClient(next)
	r := command.Result{Generation: s.index}
	if next.GetDisabled() && ok && !old.GetDisabled() {
		r.Seq = s.revokeClient(tenant, next)
	}
	return r, nil
}

// longestLifetime is the longest life that a token of c can have now, in seconds.
func longestLifetime(t *state.Tenant, c *state.Client) int64 {
	return max(DefaultLifetime, t.GetLongestLifetime(), t.GetSettings().GetAccessTokenLifetime(), t.GetSettings().GetUserAccessTokenLifetime(),
		c.GetAccessTokenLifetime(), c.GetUserAccessTokenLifetime(), c.GetRefreshTokenLifetime())
}

// deleteClient removes a client and revokes its tokens.
func (s step) deleteClient(c *command.DeleteClient) (command.Result, error) {
	if !keyable(c.GetTenant(), c.GetId()) {
		return reject(command.Invalid)
	}
	old, ok := s.Client(c.GetTenant(), c.GetId())
	if !ok {
		return reject(command.NotFound)
	}
	if c.GetExpect() != 0 && c.GetExpect() != old.GetGeneration() {
		return reject(command.Stale)
	}
	s.DeleteClient(c.GetTenant(), c.GetId())
	if old.GetSelfRegistered() {
		s.countRegistered(c.GetTenant(), -1)
	}
	tenant, _ := s.Tenant(c.GetTenant())
	return command.Result{Seq: s.revokeClient(tenant, old)}, nil
}

// revokeClient refuses all tokens of c until the last of them has expired. The
// tenant may have allowed longer lives since c's row was written.
func (s step) revokeClient(t *state.Tenant, c *state.Client) uint64 {
	lifetime := max(c.GetLongestLifetime(), longestLifetime(t, c))
	return s.record(&state.Event{
		Tenant: c.GetTenant(), Kind: "client", Target: c.GetId(), ExpiresAt: s.now/1000 + lifetime + skew,
	})
}

// issueOpaque stores one opaque token's row, if its client and tenant are as
// they were when the grant was decided. It doesn't look whether the row is there:
// a proposal that is tried again writes the same bytes, and no other has a hash of
// the same 256 random bits (docs/adr/0016).
func (s step) issueOpaque(c *command.IssueOpaque) (command.Result, error) {
	t := c.GetToken()
	if len(c.GetHash()) != 32 || t.GetId() == "" || !keyable(t.GetTenant(), t.GetClientId()) {
		return reject(command.Invalid)
	}
	if s.over(t.GetExpiresAt()) {
		return reject(command.AlreadyExpired)
	}
	client, ok := s.Client(t.GetTenant(), t.GetClientId())
	if !ok {
		return reject(command.NotFound)
	}
	tenant, ok := s.Tenant(t.GetTenant())
	if !ok {
		return reject(command.NotFound)
	}
	if client.GetDisabled() || tenant.GetDisabled() {
		return reject(command.Disabled)
	}
	if client.GetGeneration() != c.GetClientGeneration() || tenant.GetGeneration() != c.GetTenantGeneration() {
		return reject(command.Stale)
	}
	t.Proposal = append([]byte(nil), s.key[:]...) // a slice of s.key would put all of s on the heap
	s.PutOpaque([32]byte(c.GetHash()), t)
	return command.Result{}, nil
}

// consume uses a one-time value up (I3). A value whose time is over is refused
// here, by the same comparison by which its row goes, so no slow clock accepts
// one whose record is gone.
func (s step) consume(c *command.Consume) (command.Result, error) {
	if !keyable(c.GetTenant(), c.GetValueKind(), c.GetId()) {
		return reject(command.Invalid)
	}
	if s.over(c.GetExpiresAt()) {
		return reject(command.AlreadyExpired)
	}
	old, err := s.Consumed(c.GetTenant(), c.GetValueKind(), c.GetId())
	if err != nil {
		return command.Result{}, err
	}
	if old != nil {
		if string(old.GetProposal()) == string(s.key[:]) {
			return command.Result{}, nil
		}
		return reject(command.AlreadyUsed)
	}
	s.PutConsumed(c.GetTenant(), c.GetValueKind(), c.GetId(), &state.Consumed{
		ExpiresAt: c.GetExpiresAt(), Proposal: s.key[:],
	})
	return command.Result{}, nil
}
