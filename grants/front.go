package grants

import (
	"context"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// Front is what an authorization endpoint gives of tokens, by response_type (OAuth 2.0
// Multiple Response Types §3, §5). The zero value is the token endpoint's: everything.
type Front uint8

// What is given.
const (
	FrontToken Front = iota + 1 // an access token
	FrontID                     // an ID token
	FrontBoth
)

// Implicit gives tokens at the authorization endpoint to who a has allowed it, through the
// same gate as every grant. code and state are what the ID token tells the hash of.
func (p *Pipeline) Implicit(ctx context.Context, v *state.View, a *state.Authorization, only Front, code, clientState string, out *Answer) error {
	tenant, _ := v.Tenant(a.GetTenant())
	client, _ := v.Client(a.GetTenant(), a.GetClientId())
	err := p.implicit(ctx, v, tenant, client, a, only, code, clientState, out)
	if p.cfg.Observe != nil {
		p.cfg.Observe(oauth.GrantImplicit, resultOf(err))
	}
	return err
}

func (p *Pipeline) implicit(ctx context.Context, v *state.View, tenant *state.Tenant, client *state.Client, a *state.Authorization, only Front, code, clientState string, out *Answer) error {
	if err := gate(tenant, client, oauth.GrantImplicit); err != nil {
		return err
	}
	if only != FrontID && (bindsToDPoP(tenant, client) || client.GetTlsBound()) {
		return oauth.UnauthorizedClient.With("the client's tokens are bound to a key, which nobody proves at the authorization endpoint; use response_type=code")
	}
	issuer, err := p.cfg.Keys.Issuer(v, tenant.GetId())
	if err != nil {
		return err
	}
	audience := a.GetResources()
	if len(audience) == 0 {
		audience = []string{defaultAudience(tenant, client, issuer)}
	}
	x := &exchange{in: Input{View: v, Tenant: tenant, Client: client, Issuer: issuer, Audience: audience}}
	x.out = Decision{
		Subject: a.GetSubject(), Scope: a.GetScope(), Audience: audience, Grant: a.GetGrant(),
		Authorization: a, Details: a.GetDetails(), Nonce: a.GetNonce(), Code: code, State: clientState, Only: only,
	}
	if err := p.person(v, tenant, client, &x.out, &x.seen); err != nil {
		return err
	}
	if err := p.ready(ctx, v, tenant, client, x); err != nil {
		return err
	}
	if err := p.commit(ctx, v, tenant, client, x, out); err != nil {
		return err
	}
	return p.mint(ctx, v, tenant, client, x, out)
}
