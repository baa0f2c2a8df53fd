package gatewayapi

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/tokens"
)

// gate tells who shows a bearer token to the gateway API.
type gate struct {
	view      func(ctx context.Context, f state.Freshness) (*state.View, error)
	shared    *tokens.ClusterKeys
	now       func() time.Time
	operators bool // admin tokens serve too
}

// errCredential is the one answer for an unknown, deleted or expired credential.
var errCredential = oauth.InvalidToken.With("the gateway's credential is not known; make one with POST /admin/v1/gateways")

// caller is a gateway, or an operator in --dev. Immutable.
type caller struct {
	gateway    string // id; "" for an operator
	credential []byte // keyed hash of what was shown
	tenants    []string
}

// sees tells whether the caller may know of a tenant.
func (w *caller) sees(tenant string) bool {
	return len(w.tenants) == 0 || slices.Contains(w.tenants, tenant)
}

// on is the caller as another view has it: a credential that was deleted or replaced
// meanwhile is refused, and tenants are those of now.
func (w *caller) on(v *state.View) (*caller, error) {
	if w.gateway == "" {
		if _, ok := v.AdminToken([32]byte(w.credential)); !ok {
			return nil, errCredential
		}
		return w, nil
	}
	row, ok := v.Gateway(w.gateway)
	if !ok || !bytes.Equal(row.GetCredential(), w.credential) {
		return nil, errCredential
	}
	return &caller{w.gateway, w.credential, row.GetTenants()}, nil
}

// gateway is the registered gateway whose credential this is in v; false for none.
func (g *gate) gateway(v *state.View, token string) (*state.Gateway, bool, error) {
	var found *state.Gateway
	err := g.shared.Each(v, tokens.KeyHash, func(_ uint32, key *seal.Key) bool {
		found, _ = v.GatewayByCredential(seal.Hash(key, []byte(token)))
		return found == nil
	})
	return found, found != nil, err
}

// enter finds the caller in v, and an unknown one in a fresh view, so that a
// credential that was made at another node a moment ago is good here.
func (g *gate) enter(ctx context.Context, v *state.View, token string) (*caller, error) {
	who, err := g.find(v, token)
	if who != nil || err != nil {
		return who, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	fresh, err := g.view(ctx, state.Linearizable)
	if err != nil {
		return nil, oauth.TemporarilyUnavailable.With("the credential is not known here, and no leader is in reach to ask; try again, or another node").WithRetryAfter(1)
	}
	if who, err = g.find(fresh, token); who == nil && err == nil {
		err = errCredential
	}
	return who, err
}

func (g *gate) find(v *state.View, token string) (*caller, error) {
	row, ok, err := g.gateway(v, token)
	if err != nil {
		return nil, err
	}
	if ok {
		return &caller{row.GetId(), row.GetCredential(), row.GetTenants()}, nil
	}
	if !g.operators {
		return nil, nil
	}
	var who *caller
	err = g.shared.Each(v, tokens.KeyHash, func(_ uint32, key *seal.Key) bool {
		hash := seal.Hash(key, []byte(token))
		t, ok := v.AdminToken(hash)
		if ok && t.GetTenant() == "" && (t.GetExpiresAt() == 0 || max(g.now().UnixMilli(), v.Clock()) < t.GetExpiresAt()) {
			who = &caller{credential: hash[:]}
		}
		return who == nil
	})
	return who, err
}
