package grants

import (
	"context"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
)

// ACRPassword is the class of a login by one factor.
const ACRPassword = "urn:keyraft:acr:1fa"

// password serves grant_type=password (RFC 6749 §4.3), which OAuth 2.1 leaves out: it
// shows the user's password to the client. It is on where a tenant names it among its
// grant types and a client is registered for it (gate). Users with a second factor are
// refused, for nobody could ask for it here (WEB-09).
type password struct {
	check   func(ctx context.Context, v *state.View, tenant, username, password, browser string) (*state.User, error)
	subject func(v *state.View, client *state.Client, user string) (subject, sector string, err error)
	now     func(v *state.View) int64
}

func (password) Type() oauth.GrantType { return oauth.GrantPassword }

// Freshness is linearizable: so is what the lockout has counted.
func (password) Freshness() state.Freshness { return state.Linearizable }

// Authorize checks name and password as the login page does, and counts as it does.
// Errors: invalid_request where one is missing, invalid_grant with one text for every
// other cause (TOK-33), invalid_scope.
func (g password) Authorize(ctx context.Context, in *Input, out *Decision) error {
	name, secret := in.Form.Get("username"), in.Form.Get("password")
	if name == "" || secret == "" {
		return oauth.InvalidRequest.With("username and password are needed")
	}
	if _, err := ofDetails(in, nil); err != nil { // nobody has seen them
		return err
	}
	user, err := g.check(ctx, in.View, in.Tenant.GetId(), name, secret, "")
	if err != nil {
		return err
	}
	if out.Scope, err = Narrow(in.View, in.Tenant, in.Client, user, in.Scope); err != nil {
		return err
	}
	a := &state.Authorization{User: user.GetId(), AuthTime: g.now(in.View), Acr: ACRPassword, Amr: []string{identity.AMRPassword}}
	if a.Subject, a.Sector, err = g.subject(in.View, in.Client, user.GetId()); err != nil {
		return err
	}
	out.Authorization, out.Subject = a, a.GetSubject()
	out.Refresh, out.Offline = true, within(out.Scope, "offline_access")
	return nil
}
