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
		expect := old.GetGeneration()
		if old, err = v.Consented(allowed.GetTenant(), allowed.GetUser(), allowed.GetClientId()); err != nil && !c.Absent(err) {
			return err
		}
		next := &state.Consent{
			Tenant: allowed.GetTenant(), User: allowed.GetUser(), ClientId: allowed.GetClientId(), Scopes: union(old.GetScopes(), allowed.GetScopes()),
			Resources: union(old.GetResources(), allowed.GetResources()), Claims: union(old.GetClaims(), allowed.GetClaims()),
		}
		if old != nil && len(next.GetScopes()) == len(old.GetScopes()) && len(next.GetResources()) == len(old.GetResources()) && len(next.GetClaims()) == len(old.GetClaims()) {
			return nil // it was allowed before
		}
		if !next.Fits() { // what was allowed long ago is asked again when it is wanted again
			next.Scopes, next.Resources, next.Claims = allowed.GetScopes(), allowed.GetResources(), allowed.GetClaims()
		}
		result, err := c.Propose(ctx, &command.PutConsent{Consent: next, Expect: expect})
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

// Bounds of Forget.
const (
	familyPage  = 256 // families that are read, and that one command ends
	forgetRound = 64  // commands
)

// Forget takes back what a user allowed a client, and ends what the client has of them:
// its refresh tokens, and the access tokens that came with them. Once the consent is gone
// no new one starts; those that began beside it are ended by another round. One that is
// not there is command.NotFound.
func (c *Consents) Forget(ctx context.Context, tenant, user, client string) error {
	v, err := c.View(ctx, state.Linearizable)
	if err != nil {
		return err
	}
	_, err = v.Consent(tenant, user, client)
	if err != nil && !c.Absent(err) {
		return err
	}
	missing := err != nil
	for round := range forgetRound {
		families, err := c.families(v, tenant, user, client)
		if err != nil {
			return err
		}
		if len(families) == 0 && (round > 0 || missing) {
			if round == 0 {
				return fmt.Errorf("take a consent back: %w", command.NotFound)
			}
			return nil
		}
		result, err := c.Propose(ctx, &command.DeleteConsent{Tenant: tenant, User: user, ClientId: client, Families: families})
		if err == nil {
			err = result.Err()
		}
		if err != nil {
			return fmt.Errorf("take a consent back: %w", err)
		}
		// The proposal was applied on this node, so a local view has it.
		if v, err = c.View(ctx, state.Local); err != nil {
			return err
		}
	}
	return fmt.Errorf("take a consent back: %w", command.ErrUnavailable)
}

// families are the first of a user's at a client.
func (c *Consents) families(v *state.View, tenant, user, client string) ([]string, error) {
	var out []string
	for after := ""; ; {
		ids, err := v.FamiliesOf(tenant, user, after, familyPage)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			f, err := v.RefreshFamily(tenant, id)
			if err != nil {
				if c.Absent(err) {
					continue
				}
				return nil, err
			}
			if f.GetAuthorization().GetClientId() == client {
				if out = append(out, id); len(out) == familyPage {
					return out, nil
				}
			}
		}
		if len(ids) < familyPage {
			return out, nil
		}
		after = ids[len(ids)-1]
	}
}
