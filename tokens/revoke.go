package tokens

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

// Revoker takes tokens back.
type Revoker struct {
	tokens  *Introspector
	view    func(ctx context.Context, f state.Freshness) (*state.View, error)
	propose command.Propose
	now     func() time.Time
	lives   longestLives
}

// NewRevoker makes a Revoker that recognises tokens as the introspector does.
func NewRevoker(tokens *Introspector, view func(context.Context, state.Freshness) (*state.View, error), propose command.Propose) (*Revoker, error) {
	if tokens == nil || view == nil || propose == nil {
		return nil, errors.New("tokens: the revoker needs an introspector, views and a way to propose")
	}
	return &Revoker{tokens: tokens, view: view, propose: propose, now: tokens.cfg.Now}, nil
}

var errAnother = oauth.UnauthorizedClient.With("the token was issued to another client; only that one, or an operator, can revoke it")

// Revoke takes one token back for the client that it was issued to (RFC 7009); a refresh
// token takes its whole grant with it. It returns once the revocation is committed. A
// token that is unknown, malformed or over needs no revocation: nil (§2.2). Another
// client's is refused (REV-02). v must be linearizable, or a token that another node
// just issued looks unknown.
func (r *Revoker) Revoke(ctx context.Context, v *state.View, client *state.Client, token string) error {
	if IsRefresh(token) {
		return r.endGrant(ctx, v, client, token)
	}
	h, err := r.tokens.find(v, token)
	if err != nil || h == nil || h.tenant != client.GetTenant() {
		return err
	}
	if h.claims.ClientID != client.GetId() {
		return errAnother
	}
	_, err = r.revoke(ctx, h.tenant, verify.KindToken, h.claims.JTI, 0, h.claims.Expires+keptLonger)
	return err
}

// endGrant ends the family of a refresh token and revokes every token of its grant
// (§2.1). One that was replaced ends it, too: its holder had the grant, and wants it gone.
func (r *Revoker) endGrant(ctx context.Context, v *state.View, client *state.Client, token string) error {
	id, genuine, err := NewRefreshTokens(r.tokens.cfg.Shared).Family(v, token)
	if err != nil || !genuine {
		return err
	}
	f, err := v.RefreshFamily(client.GetTenant(), id)
	if r.tokens.cfg.Absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if f.GetAuthorization().GetClientId() != client.GetId() {
		return errAnother
	}
	c := &command.EndGrant{Tenant: client.GetTenant(), ClientId: client.GetId(), Grant: id}
	result, err := r.propose(ctx, c)
	if err == nil && result.Reject == command.EpochChanged {
		result, err = r.propose(ctx, c) // a grant that the restore brought back ends as well
	}
	if err == nil {
		err = refused(result.Reject)
	}
	if err != nil {
		return fmt.Errorf("end a grant: %w", err)
	}
	return nil
}

// Target is what an operator revokes: exactly one of the strings.
type Target struct {
	Token        string `json:"token,omitempty"`         // one access token, as it is sent
	ClientID     string `json:"client_id,omitempty"`     // every token of a client
	Subject      string `json:"subject,omitempty"`       // every token of a subject
	Application  string `json:"application,omitempty"`   // every token of an application's clients
	KeyID        string `json:"key_id,omitempty"`        // every token that a signing key signed
	Root         string `json:"root,omitempty"`          // every token of a delegation tree
	IssuedBefore int64  `json:"issued_before,omitempty"` // only those with iat up to this second; 0: all until now
}

// Revoked is the event that a revocation became.
type Revoked struct {
	Epoch uint64 `json:"-"`
	Seq   uint64 `json:"seq"`  // covers what was decided on a head below it
	Head  uint64 `json:"head"` // of the state after it
}

// RevokeTarget revokes for an operator. It returns once the revocation is
// committed. The error is invalid_request, naming the member that is wrong.
func (r *Revoker) RevokeTarget(ctx context.Context, v *state.View, tenant string, t *Target) (Revoked, error) {
	kind, target, err := t.one()
	if err != nil {
		return Revoked{}, err
	}
	if kind == verify.KindRoot {
		// The root itself has no root: it is a token, and that revocation covers its tree too.
		if _, err := r.revokeAll(ctx, v, tenant, verify.KindToken, target, t.IssuedBefore); err != nil {
			return Revoked{}, err
		}
		ctx = again(ctx, widenings)
	}
	if kind != verify.KindToken {
		return r.revokeAll(ctx, v, tenant, kind, target, t.IssuedBefore)
	}
	h, err := r.tokens.find(v, target)
	if err != nil {
		return Revoked{}, err
	}
	if h == nil || h.tenant != tenant {
		return Revoked{}, oauth.InvalidRequest.With("it is not a live access token of this tenant, so there is nothing to revoke").WithField("token")
	}
	return r.revoke(ctx, tenant, kind, h.claims.JTI, t.IssuedBefore, h.claims.Expires+keptLonger)
}

// widenings bounds how often a revocation is made longer because lifetimes grew while
// it was made.
const widenings = 4

// revokeAll revokes what may be many tokens, for as long as the longest of them can
// live. A longer life may have been allowed, and a token of it issued, between the
// view that v is and the moment at which the revocation was applied: then it is made
// longer before anybody is told that it stands (G11).
func (r *Revoker) revokeAll(ctx context.Context, v *state.View, tenant, kind, target string, before int64) (done Revoked, err error) {
	longest := r.longestOf(v, tenant, kind, target)
	for n := range widenings {
		end := moment(r.now, v) + longest + keptLonger
		if done, err = r.revoke(again(ctx, n), tenant, kind, target, before, end); err != nil {
			return Revoked{}, err
		}
		now, err := r.view(ctx, state.Stale) // it holds what was just committed
		if err != nil {
			return Revoked{}, err
		}
		t, _ := now.Tenant(tenant)
		longest = max(longest, clientLongest(t, nil))
		now.ClientsSince(v, tenant, func(c *state.Client) {
			if kind != verify.KindClient || c.GetId() == target {
				longest = max(longest, clientLongest(t, c))
			}
		})
		v = now
		row, ok := v.Revocation(tenant, "", kind, target, before)
		if !ok || row.ExpiresAt >= v.Clock()/1000+longest+keptLonger/2 {
			return done, nil
		}
	}
	return done, nil
}

// again gives the n-th repetition under one Idempotency-Key a key of its own.
func again(ctx context.Context, n int) context.Context {
	key, body, ok := command.KeyFrom(ctx)
	if !ok || n == 0 {
		return ctx
	}
	key[len(key)-1] ^= byte(n)
	return command.WithKey(ctx, key, body)
}

// TokensEnd is when the last token that a tenant has given until now has expired, clocks
// that differ allowed for, in seconds.
func (r *Revoker) TokensEnd(v *state.View, tenant string) int64 {
	return moment(r.now, v) + r.lives.of(v, tenant) + keptLonger
}

// longestOf is the longest life of what a revocation of that kind covers: of one
// client's tokens, or of the whole tenant's, also where the client is gone or new here.
func (r *Revoker) longestOf(v *state.View, tenant, kind, target string) int64 {
	if client, ok := v.Client(tenant, target); ok && kind == verify.KindClient {
		t, _ := v.Tenant(tenant)
		return clientLongest(t, client)
	}
	return r.lives.of(v, tenant)
}

// maxTarget bounds a target, in bytes; a token is longer and has its own bound.
const maxTarget = 1024

// Check tells whether exactly one target is named, and well; the error is
// invalid_request.
func (t *Target) Check() error {
	_, _, err := t.one()
	return err
}

// one returns the kind and value of the only member that is set.
func (t *Target) one() (kind, target string, err error) {
	count, member := 0, ""
	for _, m := range [...]struct{ kind, member, value string }{
		{verify.KindToken, "token", t.Token}, {verify.KindClient, "client_id", t.ClientID}, {verify.KindSubject, "subject", t.Subject},
		{verify.KindApplication, "application", t.Application}, {verify.KindKey, "key_id", t.KeyID}, {verify.KindRoot, "root", t.Root},
	} {
		if m.value != "" {
			kind, member, target = m.kind, m.member, m.value
			count++
		}
	}
	switch {
	case count != 1:
		return "", "", oauth.InvalidRequest.With("give exactly one of token, client_id, subject, application, key_id and root, not empty")
	case !utf8.ValidString(target) || kind != verify.KindToken && len(target) > maxTarget:
		return "", "", oauth.InvalidRequest.Withf("the value must be UTF-8 of at most %d bytes", maxTarget).WithField(member)
	case t.IssuedBefore < 0:
		return "", "", oauth.InvalidRequest.With("seconds since 1970 are needed, or nothing").WithField("issued_before")
	}
	return kind, target, nil
}

func (r *Revoker) revoke(ctx context.Context, tenant, kind, target string, issuedBefore, expiresAt int64) (Revoked, error) {
	c := &command.Revoke{Tenant: tenant, TargetKind: kind, Target: target, IssuedBefore: issuedBefore, ExpiresAt: expiresAt}
	result, err := r.propose(ctx, c)
	if err == nil && result.Reject == command.EpochChanged {
		result, err = r.propose(ctx, c) // it names no row of the old history
	}
	if err != nil {
		return Revoked{}, fmt.Errorf("revoke by %s: %w", kind, err)
	}
	if err := refused(result.Reject); err != nil {
		return Revoked{}, fmt.Errorf("revoke by %s: %w", kind, err)
	}
	return Revoked{Epoch: result.Epoch, Seq: result.Seq, Head: result.Head}, nil
}
