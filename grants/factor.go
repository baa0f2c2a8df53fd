package grants

import (
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
)

// factor holds a grant against the second factor that its user needs, whichever way it came
// (WEB-09). What a user has set up counts from then on: a refresh token from before goes on,
// unless an administrator wants a second factor of this user.
func factor(v *state.View, user *state.User, d *Decision) error {
	needed, err := identity.FactorNeeded(v, user, d.Authorization.GetAmr())
	if err != nil || !needed {
		return err
	}
	if d.Rotated != nil && !user.GetSecondFactor() {
		since, err := identity.FactorSince(v, user)
		if err != nil || d.Rotated.family.GetCreatedAt() < since {
			return err
		}
	}
	return oauth.InvalidGrant.With("the user must sign in with a second factor; use a grant that takes them through the login page")
}

// settled holds a grant against a password that its user has to change: nothing new begins
// with it. A refresh token from before goes on; an administrator ends it with the logins.
func settled(user *state.User, d *Decision) error {
	if d.Rotated == nil && identity.MustChange(user, d.Authorization.GetAmr()) {
		return oauth.InvalidGrant.With("the user must set a new password first; use a grant that takes them through the login page")
	}
	return nil
}
