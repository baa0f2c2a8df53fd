package grants

import (
	"context"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// clientCredentials serves grant_type=client_credentials (RFC 6749 §4.4): a
// confidential client asks for a token for itself. No user, no refresh token.
type clientCredentials struct{}

func (clientCredentials) Type() oauth.GrantType { return oauth.GrantClientCredentials }

// Freshness is Local: what a lagging node still grants is covered by the revocation
// that came with the change, for its head is older.
func (clientCredentials) Freshness() state.Freshness { return state.Local }

// Authorize decides from the request and the authenticated client alone: no lookup,
// no write. Errors: unauthorized_client for a public client (§4.4), invalid_scope.
func (clientCredentials) Authorize(_ context.Context, in *Input, out *Decision) error {
	if in.Client.GetAuthMethod() == string(oauth.AuthNone) {
		return oauth.UnauthorizedClient.With("a public client cannot use client_credentials; register it as confidential")
	}
	scope, err := narrow(in.Scope, in.Client.GetScopes(), in.Tenant.GetSettings().GetNarrowScopes(), userOnly)
	if err != nil {
		return err
	}
	if out.Details, err = Details(in.Tenant, in.Client, in.Form.Get("authorization_details")); err != nil {
		return err
	}
	out.Subject = in.Client.GetId() // RFC 9068 §2.2: sub is the client when no user is involved
	out.Scope = scope
	return nil
}

// userOnly are the scopes that ask for what only a user's grant can give: an ID token
// and a refresh token (§4.4.3).
func userOnly(scope string) bool { return scope == "openid" || scope == "offline_access" }
