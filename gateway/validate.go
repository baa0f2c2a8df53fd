package gateway

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"
	"unsafe"

	"github.com/keyraft/keyraft/keymanagers/match"
	"github.com/keyraft/keyraft/tokens/verify"
)

const (
	accessTokenType = "at+jwt" // RFC 9068 §2.1
	opaquePrefix    = "kr1_"
	maxTargets      = 8 // kinds that a JWT can be revoked by
)

// Validate decides whether a token may pass, and for whom. It is local, but for
// an opaque token that was not seen within Config.OpaqueTTL (one call of a node)
// and a signing key that is not known (one shared refresh in five seconds). The
// error is a *Refusal. The result is shared: read it only.
func (g *Gateway) Validate(ctx context.Context, r Request) (who *Identity, err error) {
	defer func() {
		if p := recover(); p != nil { // any error inside is a refusal (G7)
			g.cfg.Logger.Error("validation failed inside; the token was refused",
				"panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			who, err = nil, refuse(Internal)
		}
		g.counts.decided(err)
	}()
	e, v, refusal := g.decide(ctx, &r)
	if refusal == nil {
		refusal = g.permit(e, v, &r)
	}
	if refusal != nil {
		return nil, refusal
	}
	return &e.who, nil
}

// decide finds whom the token stands for, and that it is live and not revoked.
func (g *Gateway) decide(ctx context.Context, r *Request) (*entry, *view, *Refusal) {
	if r.Token == "" {
		return nil, nil, refuse(NoToken)
	}
	if r.Scheme != "" && !strings.EqualFold(r.Scheme, "Bearer") && !strings.EqualFold(r.Scheme, schemeDPoP) {
		return nil, nil, refuse(BadScheme)
	}
	now := g.cfg.Clock.Now()
	if reason := g.gate(now); reason != "" {
		return nil, nil, refuse(reason)
	}
	v := g.view.Load()
	if r.API != "" && v.keys.table.API(r.API) == nil {
		return nil, nil, refuse(UnknownAPI)
	}
	if len(r.Token) > verify.MaxSize {
		return nil, nil, refuse(Malformed)
	}
	id := g.cache.hash.sum(unsafe.Slice(unsafe.StringData(r.Token), len(r.Token))) // read only, not kept
	if e := g.cache.find(id, r.Token); e != nil {
		if refusal, known := g.recheck(e, v, now); known {
			return e, v, refusal
		}
	}
	g.counts.misses.Add(1)
	if strings.HasPrefix(r.Token, opaquePrefix) {
		return g.opaque(ctx, id, r.Token, now)
	}
	return g.verify(ctx, id, r, v, now)
}

// gate says why nothing can be decided now, or nothing. It lets a stale head pass
// only where the operator chose so, and counts it.
func (g *Gateway) gate(now time.Time) Reason {
	proof := g.proof.Load()
	if proof != nil && g.cfg.Clock.within(*proof, now, g.cfg.MaxStaleness) {
		return ""
	}
	if g.cfg.FailMode == FailOpen {
		g.counts.open.Add(1)
		return ""
	}
	if proof == nil {
		return NotSynced
	}
	return Stale
}

// recheck holds a cached decision against the present. known is false when the
// token must be looked at from the start.
func (g *Gateway) recheck(e *entry, v *view, now time.Time) (refusal *Refusal, known bool) {
	if gone := e.gone.Load(); gone != nil {
		return gone, true
	}
	seconds, skew := now.Unix(), g.skew
	if e.until != 0 && seconds >= e.until {
		g.cache.drop(e)
		return nil, false
	}
	if seconds >= e.claims.Expires+skew {
		g.cache.drop(e)
		return refuse(Expired), true
	}
	if v.forgotten(e.claims.Expires) { // a node can still tell of an opaque one
		g.cache.drop(e)
		return refuse(Expired), !e.who.Opaque
	}
	if e.claims.NotBefore > seconds+skew || e.claims.IssuedAt > seconds+skew {
		return refuse(NotYetValid), true
	}
	if e.gen.Load() == v.gen {
		return nil, true
	}
	if old := e.claims.issuer; old != nil {
		if now := v.keys.issuers[e.who.Issuer]; now != old && !sameKey(now, e) { // a key that left the set vouches no more
			g.cache.drop(e)
			return nil, false
		}
	}
	if v.revoked(e) {
		gone := refuse(Revoked)
		e.gone.Store(gone)
		return gone, true
	}
	e.gen.Store(v.gen)
	return nil, true
}

// sameKey says whether the issuer still is the same key manager's and still has
// the key that the token was checked with.
func sameKey(now *issuer, e *entry) bool {
	if now == nil || now.manager != e.claims.issuer.manager {
		return false
	}
	key, ok := now.keys.Lookup(e.claims.KeyID)
	if !ok || key.Alg != e.claims.key.Alg {
		return false
	}
	return equalKey(key.Public, e.claims.key.Public)
}

// revoked says whether any revocation in the set covers the token.
func (s *revset) revoked(e *entry) bool {
	named, bare := s.named.Load(), s.bare.Load()
	for i := range e.claims.targets {
		t := &e.claims.targets[i]
		if named && s.covers(t.named, t, &e.claims.Claims) || bare && s.covers(t.bare, t, &e.claims.Claims) {
			return true
		}
	}
	return false
}

func (s *revset) covers(id digest, t *target, c *verify.Claims) bool {
	for of := s.search(id); ; {
		r, ok := of.next()
		if !ok {
			return false
		}
		if verify.Covers(verify.Revocation{Seq: r.seq, Kind: t.kind, Target: t.value, IssuedBefore: int64(r.issuedBefore)}, c) {
			return true
		}
	}
}

// verify looks at a JWT from the start and remembers what it found.
func (g *Gateway) verify(ctx context.Context, id digest, r *Request, v *view, now time.Time) (*entry, *view, *Refusal) {
	t, err := verify.Parse(r.Token)
	if err != nil {
		return nil, nil, refuse(Malformed)
	}
	c := &t.Claims
	_, _, verdict := v.keys.table.Decide(c.Issuer, r.API)
	if verdict != match.Allowed {
		return nil, nil, refuse(Reason(verdict))
	}
	from := v.keys.issuers[c.Issuer]
	key, ok := from.keys.Lookup(c.KeyID)
	ok = ok && (c.KeyID != "" || !from.manager.Own) // a node takes no token of its own without (JWT-28)
	if !ok && c.KeyID != "" && g.refreshKeys(ctx) {
		v = g.view.Load()
		if from = v.keys.issuers[c.Issuer]; from != nil {
			key, ok = from.keys.Lookup(c.KeyID)
		}
	}
	if !ok {
		return nil, nil, refuse(UnknownKey)
	}
	if err := t.Verify(key); err != nil {
		return nil, nil, refuse(BadSignature)
	}
	expect := verify.Expect{Issuer: from.manager.Issuer, Own: from.manager.Own, Now: now.Unix(), Skew: g.skew}
	if from.manager.Own {
		expect.Type = accessTokenType
	}
	if err := t.Check(expect); err != nil {
		return nil, nil, refuse(reasonOfCheck(err))
	}
	if v.forgotten(c.Expires) {
		return nil, nil, refuse(Expired)
	}
	e := g.newEntry(id, r.Token, *c, from.manager)
	e.claims.issuer, e.claims.key = from, key
	e.gen.Store(v.gen)
	if v.revoked(e) {
		e.gone.Store(refuse(Revoked)) // kept, so that it is cheap to refuse again
	}
	g.cache.put(e)
	return e, v, e.gone.Load()
}

func reasonOfCheck(err error) Reason {
	switch {
	case errors.Is(err, verify.ErrExpired):
		return Expired
	case errors.Is(err, verify.ErrNotYet):
		return NotYetValid
	case errors.Is(err, verify.ErrType):
		return WrongType
	case errors.Is(err, verify.ErrIssuer):
		return UnknownIssuer
	case errors.Is(err, verify.ErrAudience):
		return WrongAudience
	}
	return Malformed
}

// newEntry owns all that it holds: the token is copied, since the caller's may
// share memory with a request's buffer.
func (g *Gateway) newEntry(id digest, token string, c verify.Claims, m match.Manager) *entry {
	c.KeyManager = m.Name
	if m.Own {
		c.Issuer = ours
	}
	e := &entry{id: id, token: strings.Clone(token), claims: claims{Claims: c}}
	e.claims.targets = e.claims.space[:0]
	verify.Targets(&c, func(kind, value string) bool {
		e.claims.targets = append(e.claims.targets, target{
			kind: kind, value: value,
			named: g.cache.hash.target(m.Tenant, c.Issuer, kind, value),
			bare:  g.cache.hash.target(m.Tenant, "", kind, value),
		})
		return true
	})
	e.who = Identity{
		Tenant: m.Tenant, KeyManager: m.Name, Issuer: m.Issuer,
		Subject: c.Subject, ClientID: c.ClientID, Application: c.Application, TokenID: c.JTI, Grant: c.Grant,
		Scope: c.Scope, Audience: c.Audience, IssuedAt: c.IssuedAt, Expires: c.Expires, payload: c.Raw,
	}
	return e
}

// permit holds a live token against what is asked of it here.
func (g *Gateway) permit(e *entry, v *view, r *Request) *Refusal {
	audience := g.cfg.Audience
	var api *match.API
	if r.API != "" {
		if api = v.keys.table.API(r.API); api == nil {
			return refuse(UnknownAPI)
		}
		if !api.Allows(e.who.KeyManager) {
			return refuse(KeyManagerNotAtAPI)
		}
		if len(api.Audience) > 0 {
			audience = api.Audience
		}
	}
	if len(audience) > 0 && !intersects(audience, e.who.Audience) {
		return refuse(WrongAudience)
	}
	if api != nil {
		for _, scope := range api.Scopes {
			if !e.who.HasScope(scope) {
				refusal := refuse(InsufficientScope)
				refusal.Scope = strings.Join(api.Scopes, " ")
				return refusal
			}
		}
	}
	return g.held(&e.claims.Claims, r)
}
