// Package gatewayapi serves gateways: deltas of the event log by long-poll, the
// snapshot below its floor, and what a gateway must know besides (keys, members,
// key managers, APIs). Pollers remembers which gateways poll here and how far each
// has got, asks the other nodes the same, and makes a revocation's receipt of it.
//
// A gateway shows its credential as bearer token; in --dev an admin token serves
// too. A credential that is limited to tenants gets their events and keys alone; the
// head is the whole cluster's.
//
// No refusal is an empty list: a position that this node can't answer from is 409
// "ahead", "behind" or "epoch", or 410 "compacted", with the node's own epoch and
// head. An answer is given only on a view that was proved fresh within the node's
// staleness bound, looked at again when a long-poll ends.
//
// In JSON an event of the tenant's own tokens names the tenant's issuer. The compact
// form leaves it out, which means whatever issuer the tenant has had.
//
// Units: instants are seconds since 1970 UTC, ages milliseconds. Everything here is
// safe for concurrent use.
package gatewayapi

import (
	"context"
	"errors"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// Deps are the rooms that decide. All are needed but those with a default.
type Deps struct {
	View      func(ctx context.Context, f state.Freshness) (*state.View, error)
	HeadMoved func() <-chan struct{} // closed when head or epoch moves next
	Shared    *tokens.ClusterKeys
	Signing   *tokens.SigningKeys
	Pollers   *Pollers
	Now       func() time.Time

	// Operators lets an admin token of the whole cluster poll (--dev).
	Operators bool
	// MaxPolls bounds the long-polls of one credential at once; 0: 1024.
	MaxPolls int
	// PageItems and PageBytes bound one delta; 0: 8192 items, 4 MiB.
	PageItems, PageBytes int
}

// Bounds of a long-poll.
const (
	maxWait = 60 * time.Second
	// proofTime bounds the one look at the leader before a poll is refused.
	proofTime = 750 * time.Millisecond
)

// api is what the handlers share.
type api struct {
	Deps
	gate   *gate
	deltas *deltas
}

// Routes are the endpoints' lines of the routing table. They take no view from the
// server: a poll tells the lack of one in its own words.
func Routes(d Deps) ([]httpapi.Route, error) {
	if d.View == nil || d.HeadMoved == nil || d.Shared == nil || d.Signing == nil || d.Pollers == nil || d.Now == nil {
		return nil, errors.New("gatewayapi: Deps needs View, HeadMoved, Shared, Signing, Pollers and Now")
	}
	if d.MaxPolls < 0 || d.PageItems < 0 || d.PageBytes < 0 {
		return nil, errors.New("gatewayapi: a bound is negative; leave it 0 for its default")
	}
	setDefault(&d.MaxPolls, 1024)
	setDefault(&d.PageItems, 8192)
	setDefault(&d.PageBytes, 4<<20)
	a := &api{Deps: d, gate: &gate{d.View, d.Shared, d.Now, d.Operators}, deltas: newDeltas()}
	return []httpapi.Route{
		{Method: "GET", Path: "/gateway/v1/revocations", Class: httpapi.Gateway, NoView: true, Poll: true, Timeout: maxWait + 5*time.Second, Serve: a.revocations},
		{Method: "GET", Path: "/gateway/v1/events", Class: httpapi.Gateway, NoView: true, Poll: true, Timeout: maxWait + 5*time.Second, Serve: a.events},
		{Method: "GET", Path: "/gateway/v1/revocations/snapshot", Class: httpapi.Gateway, NoView: true, Stream: true, Timeout: snapshotTime, Serve: a.snapshot},
		{Method: "GET", Path: "/gateway/v1/jwks", Class: httpapi.Gateway, NoView: true, Serve: a.jwks},
		{Method: "GET", Path: "/gateway/v1/members", Class: httpapi.Gateway, NoView: true, Serve: a.members},
		{Method: "GET", Path: "/gateway/v1/key-managers", Class: httpapi.Gateway, NoView: true, Serve: a.keyManagers},
		{Method: "GET", Path: "/gateway/v1/apis", Class: httpapi.Gateway, NoView: true, Serve: a.apis},
	}, nil
}

func setDefault(at *int, value int) {
	if *at == 0 {
		*at = value
	}
}

// proven is a view whose freshness was proved within the node's bound, by one look at
// the leader if it was not. The error says that this node can't prove it.
func (a *api) proven(ctx context.Context) (*state.View, error) {
	v, err := a.View(ctx, state.Local)
	if err == nil {
		return v, nil
	}
	return a.fresh(ctx)
}

// fresh is a linearizable view, or an error after a short while.
func (a *api) fresh(ctx context.Context) (*state.View, error) {
	ctx, cancel := context.WithTimeout(ctx, proofTime)
	defer cancel()
	return a.View(ctx, state.Linearizable)
}

// enter finds out who asks. The view that comes with it may be stale: what is
// answered must come from another one.
func (a *api) enter(c *fasthttp.RequestCtx) (*caller, error) {
	token, err := httpapi.Bearer(c)
	if err != nil {
		return nil, err
	}
	ctx := httpapi.Context(c)
	v, err := a.View(ctx, state.Local)
	if err != nil {
		if v, err = a.View(ctx, state.Stale); err != nil {
			return nil, err
		}
	}
	return a.gate.enter(ctx, v, token)
}

// published gives who asks and a proven view for what is no poll.
func (a *api) published(c *fasthttp.RequestCtx) (*caller, *state.View, error) {
	who, err := a.enter(c)
	if err != nil {
		return nil, nil, err
	}
	v, err := a.proven(httpapi.Context(c))
	if err != nil {
		return nil, nil, oauth.TemporarilyUnavailable.With("this node can't prove that its state is fresh; ask another node").WithRetryAfter(1)
	}
	if who, err = who.on(v); err != nil {
		return nil, nil, err
	}
	return who, v, nil
}
