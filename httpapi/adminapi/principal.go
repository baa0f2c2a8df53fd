package adminapi

import (
	"slices"
	"strings"
	"time"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/tokens"
)

// AdminScope is the scope of access tokens that may use the admin API of their tenant.
const AdminScope = oauth.ScopeAdmin

// principal is who calls.
type principal struct {
	id       string // of the admin token, or client and subject of an access token
	tenant   string // "": the whole cluster
	operator bool   // shows an admin token
}

// operator is the admin token that this is in v; false for none or one whose time is
// over.
func operator(v *state.View, shared *tokens.ClusterKeys, now time.Time, token string) (*state.AdminToken, bool, error) {
	var found *state.AdminToken
	err := shared.Each(v, tokens.KeyHash, func(_ uint32, key *seal.Key) bool {
		t, ok := v.AdminToken(seal.Hash(key, []byte(token)))
		if ok && (t.GetExpiresAt() == 0 || max(now.UnixMilli(), v.Clock()) < t.GetExpiresAt()) {
			found = t
		}
		return !ok
	})
	return found, found != nil, err
}

var errToken = oauth.InvalidToken.With("the token is not known, or its time is over; use an admin token, or an access token of the scope " + AdminScope)

// authenticate finds out who shows the token. One that a stale view doesn't know is
// looked for in a fresh one.
func (a *api) authenticate(r *request, shown *tokens.Presented, fresh bool) (*principal, error) {
	who, err := a.find(r, r.view, shown)
	if who != nil || err != nil {
		return who, err
	}
	if !fresh {
		v, err := a.viewOf(r.ctx, state.Linearizable)
		if err != nil {
			return nil, err
		}
		if who, err = a.find(r, v, shown); who != nil || err != nil {
			r.view = v
			return who, err
		}
	}
	return nil, errToken
}

func (a *api) find(r *request, v *state.View, shown *tokens.Presented) (*principal, error) {
	t, ok, err := operator(v, a.Shared, a.Now(), shown.Token)
	if err != nil {
		return nil, err
	}
	if ok && !strings.EqualFold(shown.Scheme, "DPoP") { // an admin token is bound to nothing
		return &principal{id: "token " + t.GetId(), tenant: t.GetTenant(), operator: true}, nil
	}
	s, ok, err := a.Introspector.Holder(v, shown.Token)
	if err != nil || !ok {
		return nil, err
	}
	cluster, _ := v.Cluster()
	if err := a.held(r, v, &s, shown, tokens.IssuerOf(cluster, tokens.DefaultTenant)); err != nil {
		return nil, err
	}
	// A token that is meant for some API must not open this one to it (RFC 9068 §4).
	if !slices.Contains(s.Audience, tokens.IssuerOf(cluster, s.Tenant)) {
		return nil, oauth.InvalidToken.With("the token is not meant for this server; ask for one without resource and audience")
	}
	if !slices.Contains(strings.Fields(s.Scope), AdminScope) {
		return nil, oauth.InsufficientScope.With("the token needs the scope " + AdminScope)
	}
	// What was taken from the client since ends at once here, and not with its tokens.
	if c, _ := v.Client(s.Tenant, s.ClientID); !slices.Contains(c.GetScopes(), AdminScope) {
		return nil, oauth.InsufficientScope.With("the client may have the scope " + AdminScope + " no longer")
	}
	return &principal{id: "client " + s.ClientID + " " + s.Subject, tenant: s.Tenant}, nil
}

// held asks for the proof of what an access token is bound to.
func (a *api) held(r *request, v *state.View, s *tokens.Subject, shown *tokens.Presented, base string) error {
	cert, _ := httpapi.ClientCertificate(r.RequestCtx)
	shown.X5T = clients.Thumbprint(cert)
	shown.Method, shown.URL = string(r.Request.Header.Method()), base+string(r.URI().PathOriginal())
	nonce, err := a.Proofs.Held(r.ctx, v, s, shown)
	httpapi.GiveNonce(r.RequestCtx, nonce)
	return err
}
