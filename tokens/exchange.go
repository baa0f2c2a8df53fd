package tokens

import (
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/tokens/verify"
)

// Shows is what a token of ours says that is shown to be exchanged (RFC 8693).
type Shows struct {
	Tenant string
	verify.Claims
	Login
	SessionID string // sid of an ID token
}

// Ours tells whether an issuer is this cluster, under its name or a former one.
func (i *Introspector) Ours(v *state.View, issuer string) bool {
	cluster, ok := v.Cluster()
	if !ok {
		return false
	}
	_, ok = tenantOf(cluster, issuer)
	return ok
}

// AccessToken tells what an access token of ours says, JWT or opaque, bound or not;
// false when it is not active. v should be linearizable.
func (i *Introspector) AccessToken(v *state.View, token string) (*Shows, bool, error) {
	h, err := i.find(v, token)
	if err != nil || h == nil || !i.alive(v, h) {
		return nil, false, err
	}
	return &Shows{Tenant: h.tenant, Claims: h.claims, Login: h.login}, true, nil
}

// IDToken tells what an ID token says that a tenant of ours gave; false for one that is
// forged or over, and for any other JWT. Its client must be there and enabled.
func (i *Introspector) IDToken(v *state.View, tenant, token string) (*Shows, bool, error) {
	c, sid, err := i.cfg.Signing.ownIDToken(v, tenant, token)
	if c == nil || err != nil || moment(i.cfg.Now, v) >= c.Expires || c.IssuedAt == 0 {
		return nil, false, err
	}
	client, ok := v.Client(tenant, c.Audience[0])
	if !ok || client.GetDisabled() {
		return nil, false, nil
	}
	// What has become of its user and session is the gate's.
	if c.ClientID, c.Application = client.GetId(), client.GetApplication(); TakenBack(v, tenant, c) {
		return nil, false, nil
	}
	return &Shows{Tenant: tenant, Claims: *c, Login: loginOf(c.Raw), SessionID: sid}, true, nil
}
