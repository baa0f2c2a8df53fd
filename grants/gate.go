package grants

import (
	"slices"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// Gate is gate for the endpoints at which a grant begins.
func Gate(tenant *state.Tenant, client *state.Client, grant oauth.GrantType) error {
	return gate(tenant, client, grant)
}

// gate is what every grant passes before it is asked (TOK-31, TOK-35): tenant and
// client are there and enabled, the tenant allows the grant, and it is registered for
// the client. It is asked again when a decision is repeated, so a change in between counts.
func gate(tenant *state.Tenant, client *state.Client, grant oauth.GrantType) error {
	switch {
	case tenant == nil || tenant.GetDisabled():
		return oauth.InvalidClient.With("the tenant is suspended or gone; ask its operator")
	case client == nil || client.GetDisabled():
		return oauth.InvalidClient.With("the client is disabled or gone; ask its owner")
	case !tenantAllows(tenant, grant):
		return oauth.UnauthorizedClient.Withf("the tenant does not allow the grant type %s; ask its administrator", grant)
	case !slices.Contains(client.GetGrantTypes(), string(grant)):
		return oauth.UnauthorizedClient.Withf("the client is not registered for the grant type %s", grant)
	}
	return nil
}

// Allows reports whether a tenant allows a grant.
func Allows(t *state.Tenant, grant oauth.GrantType) bool { return tenantAllows(t, grant) }

// tenantAllows reports whether a tenant allows a grant: one that it names, or where it
// names none, any but those that OAuth 2.1 leaves out.
func tenantAllows(t *state.Tenant, grant oauth.GrantType) bool {
	if allowed := t.GetSettings().GetGrantTypes(); len(allowed) > 0 {
		return slices.Contains(allowed, string(grant))
	}
	return grant != oauth.GrantPassword && grant != oauth.GrantImplicit
}
