package grants

import (
	"slices"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// gate is what every grant passes before it is asked (TOK-31, TOK-35): tenant and
// client are there and enabled, and the grant is registered for the client. It is
// asked again when a decision is repeated, so a change in between counts.
func gate(tenant *state.Tenant, client *state.Client, grant oauth.GrantType) error {
	switch {
	case tenant == nil || tenant.GetDisabled():
		return oauth.InvalidClient.With("the tenant is suspended or gone; ask its operator")
	case client == nil || client.GetDisabled():
		return oauth.InvalidClient.With("the client is disabled or gone; ask its owner")
	case !slices.Contains(client.GetGrantTypes(), string(grant)):
		return oauth.UnauthorizedClient.Withf("the client is not registered for the grant type %s", grant)
	}
	return nil
}
