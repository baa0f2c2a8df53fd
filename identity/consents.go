package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// Consents are what users have allowed clients, remembered.
type Consents struct {
	Propose command.Propose
	View    func(ctx context.Context, f state.Freshness) (*state.View, error)
	Absent  func(error) bool
}

// maxRaces bounds how often a change that was overtaken is decided anew.
const maxRaces = 3

// Remember adds to what a user allowed a client. What they allowed before writes nothing.
func (c *Consents) Remember(ctx context.Context, allowed *state.Consent) error {
	for range maxRaces {
		v, err := c.View(ctx, state.Linearizable)
		if err != nil {
			return err
		}
		old, err := v.Consent(allowed.GetTenant(), allowed.GetUser(), allowed.GetClientId())
		if err != nil && !c.Absent(err) {
			return err
		}
		next := &state.Consent{
			Tenant: allowed.GetTenant(), User: allowed.GetUser(), ClientId: allowed.GetClientId(), Scopes: union(old.GetScopes(), allowed.GetScopes()),
			Resources: union(old.GetResources(), allowed.GetResources()), Claims: union(old.GetClaims(), allowed.GetClaims()),
		}
		if old != nil && len(next.GetScopes()) == len(old.GetScopes()) && len(next.GetResources()) == len(old.GetResources()) && len(next.GetClaims()) == len(old.GetClaims()) {
			return nil // it was allowed before
		}
		result, err := c.Propose(ctx, &command.PutConsent{Consent: next, Expect: old.GetGeneration()})
		if err == nil {
			err = result.Err()
		}
		if !errors.Is(err, command.Stale) && !errors.Is(err, command.Exists) {
			if err != nil {
				return fmt.Errorf("remember a consent: %w", err)
			}
			return nil
		}
	}
	return fmt.Errorf("remember a consent: %w", command.Stale)
}

func union(have, more []string) []string {
	out := slices.Clone(have)
	for _, s := range more {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
