package grants

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
	"github.com/keyraft/keyraft/tokens/verify"
)

// refreshToken serves grant_type=refresh_token (RFC 6749 §6). Each use gives the next
// token of the family; one that was replaced gives the same successor again within the
// grace window, and ends the family at any other time (RFC 9700 §4.14.2).
type refreshToken struct {
	tokens *tokens.RefreshTokens
	absent func(error) bool
}

// rotation is a family that goes on.
type rotation struct {
	family *state.RefreshFamily
	token  string // as shown
	hash   [32]byte
}

func (refreshToken) Type() oauth.GrantType { return oauth.GrantRefreshToken }

// Freshness is linearizable: what was revoked, ended or taken from the user before the
// request is not given again (TOK-30).
func (refreshToken) Freshness() state.Freshness { return state.Linearizable }

// errRefresh is the answer for a token that is unknown, forged, expired, another
// client's or bound to another key: none of them tells which (TOK-22, TOK-23).
var errRefresh = oauth.InvalidGrant.With("the refresh token is unknown, expired, revoked, or not this client's; take the user through the login again")

// Authorize finds the family. A stranger's try ends nothing (TOK-23). Errors:
// invalid_grant, invalid_scope for more than was granted, invalid_target.
func (g refreshToken) Authorize(_ context.Context, in *Input, out *Decision) error {
	token := in.Form.Get("refresh_token")
	if token == "" {
		return oauth.InvalidRequest.With("refresh_token is missing")
	}
	id, genuine, err := g.tokens.Family(in.View, token)
	if err != nil {
		return err
	}
	if !genuine {
		return errRefresh
	}
	f, err := in.View.RefreshFamily(in.Tenant.GetId(), id)
	if g.absent(err) {
		return errRefresh
	}
	if err != nil {
		return err
	}
	// The backup of a restore has forgotten which of its tokens were used since: one that
	// was replaced would be good again (R15; TOK-26).
	if in.View.BroughtBack(f.GetCreatedAt()) {
		return errRefresh
	}
	a := f.GetAuthorization()
	// Another client of the same id is another client (TOK-20).
	if a.GetClientId() != in.Client.GetId() || in.Client.GetCreatedAt() > f.GetCreatedAt() || a.GetJkt() != "" && a.GetJkt() != in.Binding.JKT || a.GetX5T() != "" && a.GetX5T() != in.Binding.X5T {
		return errRefresh
	}
	if takenBack(in, f) {
		return errRefresh
	}
	hash, err := g.tokens.Hash(in.View, f, token)
	if err != nil {
		return err
	}
	out.Scope, err = narrow(in.Scope, scopeItems(a.GetScope()), false, nobody)
	if err != nil {
		return err
	}
	if out.Audience, err = ofGrant(in, a.GetResources()); err != nil {
		return err
	}
	if out.Details, err = ofDetails(in, a.GetDetails()); err != nil {
		return err
	}
	out.Authorization = proto.CloneOf(a)
	out.Subject, out.Grant, out.Root, out.Offline = a.GetSubject(), f.GetId(), a.GetRoot(), f.GetOffline()
	out.Rotated = &rotation{f, token, hash}
	return nil
}

// takenBack tells whether a family is over though its row is there: by a revocation of its
// client, subject, application or root, which covers a family as it does the access tokens
// that were decided on the same view.
func takenBack(in *Input, f *state.RefreshFamily) bool {
	a := f.GetAuthorization()
	return tokens.TakenBack(in.View, in.Tenant.GetId(), &verify.Claims{
		Grant: f.GetId(), Root: a.GetRoot(), ClientID: a.GetClientId(), Subject: a.GetSubject(), Application: in.Client.GetApplication(),
		Head: f.GetHead(), IssuedAt: f.GetCreatedAt() / 1000,
	})
}

// rotate makes the next token of the family, or finds the successor that was made a
// moment ago.
func (p *Pipeline) rotate(ctx context.Context, v *state.View, tenant *state.Tenant, client *state.Client, x *exchange, out *Answer) error {
	r := x.out.Rotated
	f := r.family
	if f.GetFixed() {
		return p.fixed(v, r, out)
	}
	next, hash, err := p.cfg.Refresh.Append(out.Refresh[:0], v, f.GetId(), f.GetNumber()+1)
	if err != nil {
		return err
	}
	sealed, err := tokens.SealSuccessor(r.token, next)
	if err != nil {
		return err
	}
	expires := f.GetEndsAt()
	if f.GetIdle() != 0 {
		expires = min(expires, p.now(v)+f.GetIdle())
	}
	result, err := p.cfg.Propose(ctx, &command.RotateRefresh{
		Tenant: tenant.GetId(), Family: f.GetId(), Presented: r.hash[:], Next: hash[:], Successor: sealed,
		Grace: refreshGrace(tenant, client), ExpiresAt: expires, Decided: &x.seen,
	})
	if err != nil {
		return fmt.Errorf("refresh a grant: %w", err)
	}
	switch result.Reject {
	case command.Accepted:
		out.Refresh = next
		return nil
	case command.InGrace:
		return p.successor(ctx, tenant, r, out)
	case command.AlreadyUsed, command.AlreadyExpired, command.NotFound:
		out.Refresh = out.Refresh[:0]
		return errRefresh
	}
	return fmt.Errorf("refresh a grant: %w", result.Reject)
}

// successor gives the token that the first use gave, to whoever shows the one before
// (TOK-28): never a second branch.
func (p *Pipeline) successor(ctx context.Context, tenant *state.Tenant, r *rotation, out *Answer) error {
	out.Refresh = out.Refresh[:0]
	v, err := p.cfg.View(ctx, state.Linearizable)
	if err != nil {
		return err
	}
	f, err := v.RefreshFamily(tenant.GetId(), r.family.GetId())
	if p.cfg.absent(err) {
		return errRefresh
	}
	if err != nil {
		return err
	}
	next, err := tokens.OpenSuccessor(r.token, f.GetSuccessor())
	if err != nil {
		return errRefresh // a rotation more has taken place meanwhile
	}
	out.Refresh = append(out.Refresh, next...)
	return nil
}

// fixed answers for a family whose token stays the same.
func (p *Pipeline) fixed(v *state.View, r *rotation, out *Answer) error {
	out.Refresh = out.Refresh[:0]
	if string(r.hash[:]) != string(r.family.GetHash()) || p.now(v) >= r.family.GetExpiresAt() {
		return errRefresh
	}
	return nil // the client keeps the one that it has (RFC 6749 §6)
}
