package grants

import (
	"slices"
	"strings"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// maxExtra bounds the custom claims of one token, in bytes of JSON: a token travels in a
// header, of which many servers take 8 KiB, and what an opaque one says is replicated.
const maxExtra = 4 << 10

// extra are the claims that a grant's token gets from its user, and those that a trusted
// issuer brought: what is known here wins where both name a claim. It is asked before
// anything is used up.
func (p *Pipeline) extra(v *state.View, tenant *state.Tenant, client *state.Client, d *Decision) ([]tokens.Member, error) {
	out, err := p.ofUser(v, tenant, client, d)
	if err != nil {
		return nil, err
	}
	for _, a := range d.Authorization.GetAttributes() {
		known := slices.ContainsFunc(out, func(m tokens.Member) bool { return m.Name == a.GetName() })
		if !known && !oauth.ReservedClaim(strings.ToLower(a.GetName())) {
			out = append(out, tokens.Member{Name: a.GetName(), JSON: a.GetJson()})
		}
	}
	size := 0
	for _, m := range out {
		size += len(`,"":`) + len(m.Name) + len(m.JSON)
	}
	if size > maxExtra {
		return nil, oauth.InvalidRequest.Withf("the user's access_token_claims have %d bytes, of at most %d; ask the tenant's administrator to put fewer of them into access tokens", size, maxExtra)
	}
	return out, nil
}

// ofUser are the claims from what is known of the user. Who asks for none pays for no
// look-up.
func (p *Pipeline) ofUser(v *state.View, tenant *state.Tenant, client *state.Client, d *Decision) ([]tokens.Member, error) {
	if d.Authorization.GetUser() == "" || len(tenant.GetSettings().GetAccessTokenClaims()) == 0 && len(client.GetAccessTokenClaims()) == 0 {
		return nil, nil
	}
	user, err := v.User(tenant.GetId(), d.Authorization.GetUser())
	if p.cfg.absent(err) {
		return nil, errPerson
	}
	if err != nil {
		return nil, err
	}
	return accessClaims(v, tenant, client, user), nil
}

// accessClaims are the claims of an access token that tenant and client take from the
// user: the tenant's rules, then the client's, which win where both name a claim. Those
// of a client that registered itself don't count: it would help itself to what is
// known of users. What the user has not is left out, and so is a protected claim,
// whatever a record says (REG-05).
func accessClaims(v *state.View, tenant *state.Tenant, client *state.Client, user *state.User) []tokens.Member {
	var own []*state.ClaimRule
	if !client.GetSelfRegistered() {
		own = client.GetAccessTokenClaims()
	}
	var out []tokens.Member
	add := func(rule *state.ClaimRule) {
		if oauth.ReservedClaim(strings.ToLower(rule.GetClaim())) {
			return
		}
		if value := claimValue(v, user, rule.GetSource()); value != nil {
			out = append(out, tokens.Member{Name: rule.GetClaim(), JSON: value})
		}
	}
	for _, rule := range tenant.GetSettings().GetAccessTokenClaims() {
		if !slices.ContainsFunc(own, func(o *state.ClaimRule) bool { return o.GetClaim() == rule.GetClaim() }) {
			add(rule)
		}
	}
	for _, rule := range own {
		add(rule)
	}
	return out
}

// claimValue is what a source gives, as JSON; nil for nothing.
func claimValue(v *state.View, u *state.User, source string) []byte {
	if name, ok := strings.CutPrefix(source, clients.AttributeSource); ok {
		return identity.Attribute(u, name)
	}
	return identity.Member(v, u, source)
}
