package authorize

import (
	"slices"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
)

// Own is the request of one of our own pages, for which no client asked: page is its path
// below the tenant's issuer, and what follows when Next says Done. maxAge is how old the
// last proof of its user may be, in seconds; -1: as old as the session.
func (e *Engine) Own(v *state.View, tenant, page string, maxAge int64) *state.AuthorizationRequest {
	return &state.AuthorizationRequest{Tenant: tenant, Page: page, MaxAge: maxAge, StartedAt: e.now(v), Epoch: v.Epoch()}
}

// own is Next for a request of ours. Who has a second factor proves it again where the last
// proof is too old: with a password alone nobody changes what guards against a lost one
// (WEB-09).
func (e *Engine) own(v *state.View, r *state.AuthorizationRequest, who Present) (Step, error) {
	if r.GetEpoch() != v.Epoch() || e.now(v) > r.GetStartedAt()+FlowLifetime {
		return 0, &Failure{Err: oauth.InvalidRequest.With("this login has taken too long; open the page again")}
	}
	s := who.Session
	if s == nil || identity.MustChange(who.User, s.GetAmr()) {
		return Login, nil
	}
	needed, err := identity.FactorNeeded(v, who.User, s.GetAmr())
	if err != nil {
		return 0, err
	}
	if needed {
		return Factor, nil
	}
	if r.GetMaxAge() < 0 || e.now(v)-s.GetAuthTime() <= r.GetMaxAge() {
		return Done, nil
	}
	if slices.Contains(s.GetAmr(), identity.AMRFactors) {
		since, err := identity.FactorSince(v, who.User)
		if err != nil {
			return 0, err
		}
		if since != 0 {
			return Factor, nil
		}
	}
	return Login, nil
}
