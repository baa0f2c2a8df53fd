package grants

import (
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// What a client must do is what its registration or its tenant asks for: a tenant's
// demand holds for every client, that registered itself too.

// RequiresPAR tells whether the client's authorization requests must be pushed (RFC 9126).
func RequiresPAR(t *state.Tenant, c *state.Client) bool {
	return c.GetRequirePar() || t.GetSettings().GetRequirePar()
}

// RequiresRequestObject tells whether they must be signed (RFC 9101).
func RequiresRequestObject(t *state.Tenant, c *state.Client) bool {
	return c.GetRequireRequestObject() || t.GetSettings().GetRequireRequestObject()
}

// RequiresPKCE tells whether its codes need a proof key (RFC 7636): those of a public
// client always do.
func RequiresPKCE(t *state.Tenant, c *state.Client) bool {
	return c.GetRequirePkce() || t.GetSettings().GetRequirePkce() || c.GetAuthMethod() == string(oauth.AuthNone)
}

// bindsToDPoP tells whether its access tokens must be bound to a DPoP key (RFC 9449). A
// client that binds them to its certificate does enough.
func bindsToDPoP(t *state.Tenant, c *state.Client) bool {
	return c.GetDpopBound() || t.GetSettings().GetDpopBound() && !c.GetTlsBound()
}
