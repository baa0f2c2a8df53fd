package grants

import (
	"context"
	"slices"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/tokens"
)

// signs tells, before anything is used up, that the keys of a login's tokens are there:
// ours, and the client's own where its ID tokens are encrypted.
func (p *Pipeline) signs(ctx context.Context, v *state.View, tenant *state.Tenant, client *state.Client, x *exchange) error {
	d := &x.out
	if d.Authorization == nil || !within(d.Scope, "openid") {
		return nil
	}
	if alg := client.GetIdTokenEncryptedAlg(); alg != "" {
		var err error
		if x.encryptTo, err = p.cfg.Clients.EncryptionKeys(ctx, client, alg); err != nil {
			return err
		}
	}
	return p.cfg.Minter.Signs(v, tenant.GetId(), client.GetIdTokenAlg())
}

// idToken adds the ID token of a grant of the scope openid (OpenID Connect Core
// §3.1.3.3, §12.2): the same facts of the login at each refresh. The claims that scopes
// bring are userinfo's, since there is an access token for it (§5.4); the ID token has
// those that the client asked for by name.
func (p *Pipeline) idToken(ctx context.Context, v *state.View, tenant *state.Tenant, client *state.Client, x *exchange, out *Answer) error {
	d := &x.out
	a := d.Authorization
	if a.GetUser() == "" || !within(d.Scope, "openid") {
		return nil
	}
	extra, err := p.asked(v, tenant, client, d, func(r *identity.ClaimsRequest) []identity.Asked { return r.IDToken })
	if err != nil {
		return err
	}
	// There is no access token to ask userinfo with, nor a code that gives one (OpenID
	// Connect Core §5.4).
	if d.Only == FrontID && d.Code == "" {
		user, err := v.User(tenant.GetId(), a.GetUser())
		if err != nil {
			return err
		}
		extra = append(extra, identity.Claims(v, user, identity.ScopeClaims(v, tenant.GetId(), d.Scope))...)
	}
	now := x.claims.IssuedAt
	life := firstPositive(client.GetIdTokenLifetime(), tenant.GetSettings().GetIdTokenLifetime(), tokens.DefaultIDTokenLifetime)
	c := &tokens.IDClaims{
		Tenant: tenant.GetId(), Subject: d.Subject, ClientID: client.GetId(), IssuedAt: now, Expires: now + min(life, tokens.MaxLifetime),
		AuthTime: a.GetAuthTime(), Nonce: d.Nonce, ACR: a.GetAcr(), AMR: a.GetAmr(), SessionID: a.GetSession(),
		AccessToken: string(out.Token), Code: d.Code, State: d.State, Grant: d.Grant, Scope: d.Scope, Alg: client.GetIdTokenAlg(),
	}
	for _, claim := range extra {
		c.Extra = append(c.Extra, tokens.Member(claim))
	}
	if client.GetIdTokenEncryptedAlg() == "" {
		out.ID, err = p.cfg.Minter.AppendIDToken(ctx, out.ID[:0], v, c)
		return err
	}
	signed, err := p.cfg.Minter.AppendIDToken(ctx, nil, v, c)
	if err == nil {
		out.ID, err = tokens.Encrypt(out.ID[:0], x.encryptTo, client.GetIdTokenEncryptedAlg(), client.GetIdTokenEncryptedEnc(), "JWT", signed)
	}
	return err
}

// userinfo are the names of the claims that userinfo tells beside those of the scope:
// they go into the access token, since nothing else is kept of a grant.
func (p *Pipeline) userinfo(v *state.View, tenant *state.Tenant, client *state.Client, d *Decision) ([]string, error) {
	if !within(d.Scope, "openid") {
		return nil, nil
	}
	claims, err := p.asked(v, tenant, client, d, func(r *identity.ClaimsRequest) []identity.Asked { return r.Userinfo })
	if err != nil {
		return nil, err
	}
	byScope := identity.ScopeClaims(v, tenant.GetId(), d.Scope)
	var names []string
	for _, c := range claims {
		if !slices.Contains(byScope, c.Name) {
			names = append(names, c.Name)
		}
	}
	return names, nil
}

// asked are the claims that the client asked for by the parameter claims and may have: a
// scope that was granted brings them, the user consented to them by name, or the client
// needs no consent (OpenID Connect Core §5.5: what the user allows). Who asks for none
// pays for no look-up.
func (p *Pipeline) asked(v *state.View, tenant *state.Tenant, client *state.Client, d *Decision, of func(*identity.ClaimsRequest) []identity.Asked) ([]identity.Claim, error) {
	a := d.Authorization
	if a.GetUser() == "" || len(a.GetClaims()) == 0 {
		return nil, nil
	}
	request, err := identity.ParseClaimsRequest(a.GetClaims())
	if err != nil || len(of(request)) == 0 {
		return nil, err
	}
	user, err := v.User(tenant.GetId(), a.GetUser())
	if p.cfg.absent(err) {
		return nil, errPerson
	}
	if err != nil {
		return nil, err
	}
	var consented []string
	if !client.GetSkipConsent() {
		consent, err := v.Consented(tenant.GetId(), a.GetUser(), client.GetId())
		if err != nil && !p.cfg.absent(err) {
			return nil, err
		}
		consented = consent.GetClaims()
	}
	byScope := identity.ScopeClaims(v, tenant.GetId(), d.Scope)
	return identity.Pick(v, user, of(request), func(name string) bool {
		return client.GetSkipConsent() || slices.Contains(byScope, name) || slices.Contains(consented, name)
	}), nil
}
