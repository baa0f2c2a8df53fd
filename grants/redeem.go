package grants

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// Lives of refresh tokens where neither client nor tenant says one, in seconds.
const (
	defaultRefreshLifetime = 30 * 86_400 // of a family, from its start
	defaultRefreshGrace    = 10          // in which the same successor is given again
)

// commit makes what a grant with a user leaves in the state: the one-time value that it
// used up and the family that can be refreshed, in one write; the next token of a
// family in another. A client's own grant leaves nothing. It may be asked again after
// command.Stale, for nothing was used up then.
func (p *Pipeline) commit(ctx context.Context, v *state.View, tenant *state.Tenant, client *state.Client, x *exchange, out *Answer) error {
	d := &x.out
	out.Refresh, out.ID = out.Refresh[:0], out.ID[:0]
	if d.Authorization == nil {
		return nil
	}
	if d.Rotated != nil {
		return p.rotate(ctx, v, tenant, client, x, out)
	}
	a := proto.CloneOf(d.Authorization)
	if d.Grant == "" {
		d.Grant = tokens.NewGrantID()
	}
	a.Grant, a.Scope = d.Grant, d.Scope
	c := &command.Redeem{
		ValueKind: d.Use.Kind, ValueId: d.Use.ID, ValueExpiresAt: d.Use.ExpiresAt, RevokeOnReuse: d.Use.RevokeOnReuse,
		Authorization: a, Decided: &x.seen,
	}
	if d.Refresh && slices.Contains(client.GetGrantTypes(), string(oauth.GrantRefreshToken)) {
		if client.GetAuthMethod() == string(oauth.AuthNone) { // a public client's token is good with its key alone (RFC 9449 §5)
			a.Jkt, a.X5T = x.in.Binding.JKT, x.in.Binding.X5T
		}
		var err error
		if c.Family, err = p.family(v, tenant, client, x, out); err != nil {
			return err
		}
	}
	if c.ValueKind == "" && c.Family == nil && a.GetSession() == "" && a.GetSector() == "" {
		return nil
	}
	result, err := p.cfg.Propose(ctx, c)
	if err != nil {
		return fmt.Errorf("redeem a grant: %w", err)
	}
	return redeemed(result.Reject)
}

func redeemed(r command.Reject) error {
	switch r {
	case command.Accepted:
		return nil
	case command.AlreadyUsed:
		return oauth.InvalidGrant.With("it was used before; what came of it is taken back if it was a code. Start again")
	case command.AlreadyExpired:
		return oauth.InvalidGrant.With("its time is over; start again")
	case command.Disabled, command.NotFound:
		return oauth.InvalidClient.With("the client or its tenant was disabled or deleted; ask its owner")
	}
	return fmt.Errorf("redeem a grant: %w", r)
}

// family is the row of a new family, and its first token in out.
func (p *Pipeline) family(v *state.View, tenant *state.Tenant, client *state.Client, x *exchange, out *Answer) (*state.RefreshFamily, error) {
	d := &x.out
	token, hash, err := p.cfg.Refresh.Append(out.Refresh[:0], v, d.Grant, 1)
	if err != nil {
		return nil, err
	}
	out.Refresh = token
	now := p.now(v)
	f := &state.RefreshFamily{
		Id: d.Grant, Hash: hash[:], Head: v.Head(), Offline: d.Offline, Idle: refreshIdle(tenant, client),
		EndsAt: now + refreshLife(tenant, client), Fixed: !rotates(tenant, client, x.in.Binding),
	}
	f.ExpiresAt = f.EndsAt
	if f.Idle != 0 {
		f.ExpiresAt = min(f.ExpiresAt, now+f.Idle)
	}
	return f, nil
}

func (p *Pipeline) now(v *state.View) int64 { return p.cfg.now(v) }

func firstPositive(values ...int64) int64 {
	for _, n := range values {
		if n > 0 {
			return n
		}
	}
	return 0
}

// refreshLife: one without an end lasts as long as the default where the tenant's operator
// has taken the permission back.
func refreshLife(t *state.Tenant, c *state.Client) int64 {
	life := firstPositive(c.GetRefreshTokenLifetime(), t.GetSettings().GetRefreshTokenLifetime(), defaultRefreshLifetime)
	if life >= state.Never && !t.GetSettings().GetAllowNeverExpires() {
		return defaultRefreshLifetime
	}
	return life
}

// rotates tells whether a refresh token is replaced when it is used: as the client says,
// else the tenant. A public client's without a key always is (RFC 9700 §4.14.2).
func rotates(t *state.Tenant, c *state.Client, b Binding) bool {
	switch s := t.GetSettings(); {
	case c.RefreshRotation != nil:
		return c.GetRefreshRotation()
	case s == nil || s.RefreshRotation == nil || s.GetRefreshRotation():
		return true
	}
	return c.GetAuthMethod() == string(oauth.AuthNone) && b == Binding{}
}

func refreshIdle(t *state.Tenant, c *state.Client) int64 {
	return firstPositive(c.GetRefreshIdleLifetime(), t.GetSettings().GetRefreshIdleLifetime())
}

// refreshGrace is in milliseconds.
func refreshGrace(t *state.Tenant, c *state.Client) int64 {
	switch {
	case c.RefreshGrace != nil:
		return c.GetRefreshGrace() * 1000
	case t.GetSettings() != nil && t.GetSettings().RefreshGrace != nil:
		return t.GetSettings().GetRefreshGrace() * 1000
	}
	return defaultRefreshGrace * 1000
}
