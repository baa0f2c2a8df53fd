package tokens

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/tokens/verify"
)

// ResidentKeyManager is the name of the key manager that this cluster is.
const ResidentKeyManager = "resident"

// Caller is who asks about a token.
type Caller struct {
	// Client is the authenticated client; nil for a gateway or an operator.
	Client *state.Client
	// Tenants are those of which a gateway or an operator may see tokens; empty:
	// all. Not used with a Client, which sees its own tenant's.
	Tenants []string
}

func (c *Caller) trusted() bool { return c.Client == nil }

// sees tells whether the caller may know anything of a token: a gateway or operator
// of its tenant; a client that got it, that its aud names, or that is registered to
// see more (INT-04).
func (c *Caller) sees(h *held) bool {
	if c.trusted() {
		return len(c.Tenants) == 0 || slices.Contains(c.Tenants, h.tenant)
	}
	if c.Client.GetTenant() != h.tenant {
		return false
	}
	if c.Client.GetIntrospectAny() || c.Client.GetId() == h.claims.ClientID {
		return true
	}
	return slices.ContainsFunc(h.claims.Audience, func(a string) bool {
		return a == c.Client.GetId() || c.Client.GetIntrospectAudience() && slices.Contains(c.Client.GetResources(), a)
	})
}

// Answer is what introspection says of a token (RFC 7662 §2.2). Only an active
// token's other members are set.
type Answer struct {
	Active                               bool
	Scope, ClientID, Subject, Issuer, ID string
	Audience                             []string
	Expires, IssuedAt                    int64 // seconds

	Username string // of a user whom the asker knows by the public subject
	JKT, X5T string // to what it is bound: cnf (RFC 9449 §6.2, RFC 8705 §3.2)
	Login           // of the user, where one allowed it

	// For gateways and operators alone: what a revocation of it may name, and the
	// view on which it was decided.
	Detailed                             bool
	Grant, Root, RootClient, Application string
	Epoch, Head                          uint64
}

// AppendJSON appends the answer. Every inactive one has the same bytes (INT-03).
func (a *Answer) AppendJSON(dst []byte) []byte {
	if !a.Active {
		return append(dst, `{"active":false}`...)
	}
	dst = append(dst, `{"active":true`...)
	if a.Scope != "" {
		dst = appendString(append(dst, `,"scope":`...), a.Scope)
	}
	dst = appendString(append(dst, `,"client_id":`...), a.ClientID)
	dst = appendString(append(dst, `,"sub":`...), a.Subject)
	dst = appendAudience(append(dst, `,"aud":`...), a.Audience)
	dst = appendString(append(dst, `,"iss":`...), a.Issuer)
	dst = strconv.AppendInt(append(dst, `,"exp":`...), a.Expires, 10)
	dst = strconv.AppendInt(append(dst, `,"iat":`...), a.IssuedAt, 10)
	dst = appendString(append(dst, `,"jti":`...), a.ID)
	if a.JKT != "" {
		dst = append(dst, `,"token_type":"DPoP"`...)
	} else {
		dst = append(dst, `,"token_type":"Bearer"`...)
	}
	if a.Username != "" {
		dst = appendString(append(dst, `,"username":`...), a.Username)
	}
	dst = appendConfirmation(dst, a.JKT, a.X5T)
	dst = a.Login.append(dst)
	if !a.Detailed {
		return append(dst, '}')
	}
	dst = append(appendEvent(append(dst, `,"ev":"`...), a.Epoch, a.Head), '"')
	for _, m := range [...][2]string{{"gid", a.Grant}, {"root", a.Root}, {"root_client", a.RootClient}, {"app", a.Application}} {
		if m[1] != "" {
			dst = append(append(append(dst, `,"`...), m[0]...), `":`...)
			dst = appendString(dst, m[1])
		}
	}
	return append(dst, '}')
}

// IntrospectorConfig has no optional fields.
type IntrospectorConfig struct {
	Signing *SigningKeys
	Shared  *ClusterKeys
	Now     func() time.Time
	// Absent tells the error of a row that is not there from that of a store that
	// is damaged or closed.
	Absent func(error) bool
}

// Introspector tells what tokens of ours are good for.
type Introspector struct {
	cfg  IntrospectorConfig
	seen *verified
}

// NewIntrospector checks its configuration.
func NewIntrospector(cfg IntrospectorConfig) (*Introspector, error) {
	if cfg.Signing == nil || cfg.Shared == nil || cfg.Now == nil || cfg.Absent == nil {
		return nil, errors.New("tokens: IntrospectorConfig needs Signing, Shared, Now and Absent")
	}
	return &Introspector{cfg: cfg, seen: newVerified()}, nil
}

// Introspect says what the token is worth at this moment, as far as the caller may know.
// v should be linearizable, so that what was revoked before is never active (I2). A
// token that is malformed, forged, expired, revoked, unknown or not for the caller
// is inactive; an error means that this node can't tell.
func (i *Introspector) Introspect(v *state.View, caller *Caller, token string) (Answer, error) {
	h, err := i.find(v, token)
	if err != nil || h == nil || !caller.sees(h) || !i.alive(v, h) {
		return Answer{}, err
	}
	c := &h.claims
	a := Answer{
		Active: true, Scope: c.Scope, ClientID: c.ClientID, Subject: c.Subject, Issuer: c.Issuer, ID: c.JTI,
		Audience: c.Audience, Expires: c.Expires, IssuedAt: c.IssuedAt, JKT: c.JKT, X5T: c.X5T, Login: h.login,
	}
	if a.Username, err = i.username(v, h); err != nil {
		return Answer{}, err
	}
	if caller.trusted() {
		a.Detailed, a.Grant, a.Root, a.RootClient, a.Application, a.Epoch, a.Head = true, c.Grant, c.Root, c.RootClient, c.Application, c.Epoch, c.Head
	}
	return a, nil
}

// username is the name of the user whom a token's sub names openly. A pairwise subject
// tells nothing of whose it is (OpenID Connect Core §8).
func (i *Introspector) username(v *state.View, h *held) (string, error) {
	if h.claims.Subject == h.claims.ClientID { // a client's own token
		return "", nil
	}
	u, err := v.User(h.tenant, h.claims.Subject)
	if err != nil && i.cfg.Absent(err) {
		return "", nil
	}
	return u.GetUsername(), err
}

// Subject is who an access token of ours speaks for: the principal of a request
// that shows it.
type Subject struct {
	Tenant, ClientID, Subject, Scope string
	Audience                         []string
	JKT, X5T                         string // keys whose proof must come with it
	Bound                            bool   // it is good with a proof alone
	Userinfo                         []string
}

// Authenticate tells whom a bearer token of ours speaks for; false when it is not
// active. A token that is bound to a key is no bearer token.
func (i *Introspector) Authenticate(v *state.View, token string) (Subject, bool, error) {
	s, ok, err := i.Holder(v, token)
	if !ok || s.Bound {
		return Subject{}, false, err
	}
	return s, true, nil
}

// Holder tells whom a token of ours speaks for, bound or not; false when it is not
// active. The caller must ask for the proof of what it is bound to.
func (i *Introspector) Holder(v *state.View, token string) (Subject, bool, error) {
	h, err := i.find(v, token)
	if err != nil || h == nil || !i.alive(v, h) {
		return Subject{}, false, err
	}
	c := &h.claims
	return Subject{
		Tenant: h.tenant, ClientID: c.ClientID, Subject: c.Subject, Scope: c.Scope, Audience: c.Audience,
		JKT: c.JKT, X5T: c.X5T, Bound: c.Bound, Userinfo: h.login.userinfo,
	}, true, nil
}

// held is a genuine token of ours that has not expired. It is never changed.
type held struct {
	tenant string
	claims verify.Claims
	login  Login
}

// find recognises a genuine, unexpired token of ours, revoked or not; nil for any
// other.
func (i *Introspector) find(v *state.View, token string) (*held, error) {
	cluster, ok := v.Cluster()
	if !ok {
		return nil, nil
	}
	now := moment(i.cfg.Now, v)
	digest := i.seen.digest(token)
	if g := i.seen.find(&digest); g != nil {
		holds, err := i.holds(v, g)
		switch {
		case err != nil:
			return nil, err
		case now >= g.held.claims.Expires:
			return nil, nil
		case holds:
			return &g.held, nil
		}
	}
	g := &genuine{digest: digest, epoch: v.Epoch()}
	var err error
	if IsOpaque(token) {
		ok, err = i.findOpaque(v, token, now, g)
	} else {
		ok, err = i.findJWT(v, cluster, token, now, g)
	}
	if err != nil || !ok {
		return nil, err
	}
	i.seen.keep(g)
	return &g.held, nil
}

// holds tells whether what made the token genuine still does.
func (i *Introspector) holds(v *state.View, g *genuine) (bool, error) {
	if g.set == nil {
		return g.epoch == v.Epoch(), nil // a row goes with its time alone, or in a restore
	}
	set, err := i.cfg.Signing.of(v, g.held.tenant)
	return set == g.set, err
}

func (i *Introspector) findJWT(v *state.View, cluster *state.Cluster, token string, now int64, g *genuine) (bool, error) {
	t, err := verify.Parse(token)
	if err != nil {
		return false, nil // a bad token is inactive, never an error
	}
	tenant, ok := tenantOf(cluster, t.Claims.Issuer)
	if !ok || t.Header.KeyID == "" {
		return false, nil
	}
	if g.set, err = i.cfg.Signing.of(v, tenant); err != nil {
		return false, err
	}
	key, ok := g.set.public.Lookup(t.Header.KeyID)
	if !ok || t.Verify(key) != nil {
		return false, nil
	}
	// Check allows for clocks that differ; the end of our own token is exact.
	if t.Check(verify.Expect{Type: accessTokenType, Own: true, Now: now}) != nil || now >= t.Claims.Expires {
		return false, nil
	}
	g.held = held{tenant: tenant, claims: t.Claims}
	if t.Claims.More {
		g.held.login = loginOf(t.Claims.Raw)
	}
	return true, nil
}

// findOpaque reads the row under the newest hash key and, after a rotation, under
// the older ones.
func (i *Introspector) findOpaque(v *state.View, token string, now int64, g *genuine) (bool, error) {
	minute, ok, err := opaqueMinute(i.cfg.Shared, v, token)
	if err != nil || !ok || uint64(max(now, 0)) >= minute*60 {
		return false, err
	}
	var row *state.OpaqueToken
	var failed error
	err = i.cfg.Shared.Each(v, KeyHash, func(_ uint32, key *seal.Key) bool {
		row, failed = v.Opaque(minute, seal.Hash(key, []byte(token)))
		return failed != nil && i.cfg.Absent(failed)
	})
	switch {
	case err != nil:
		return false, err
	case failed != nil && !i.cfg.Absent(failed):
		return false, fmt.Errorf("read an opaque token: %w", failed)
	case failed != nil || row == nil || now >= row.GetExpiresAt():
		return false, nil
	}
	g.held = held{row.GetTenant(), verify.Claims{
		Issuer: row.GetIssuer(), Subject: row.GetSubject(), ClientID: row.GetClientId(), JTI: row.GetId(),
		Audience: row.GetAudience(), Scope: row.GetScope(), IssuedAt: row.GetIssuedAt(), Expires: row.GetExpiresAt(),
		Own: true, Epoch: row.GetEpoch(), Head: row.GetHead(),
		Grant: row.GetGrant(), Root: row.GetRoot(), RootClient: row.GetRootClient(), Application: row.GetApplication(), JKT: row.GetJkt(), X5T: row.GetX5T(),
		Bound: row.GetJkt() != "" || row.GetX5T() != "",
	}, Login{
		AuthTime: row.GetAuthTime(), ACR: row.GetAcr(), AMR: row.GetAmr(), Act: row.GetAct(), Details: row.GetDetails(),
		userinfo: row.GetUserinfoClaims(), custom: row.GetClaims(),
	}}
	return true, nil
}

// alive tells whether nothing has taken the token back: its tenant and client are
// there and enabled, and no revocation covers it.
func (i *Introspector) alive(v *state.View, h *held) bool {
	t, ok := v.Tenant(h.tenant)
	if !ok || t.GetDisabled() {
		return false
	}
	client, ok := v.Client(h.tenant, h.claims.ClientID)
	if !ok || client.GetDisabled() {
		return false
	}
	return !TakenBack(v, h.tenant, &h.claims)
}

// TakenBack looks each target of a token of ours up. A key's revocation covers all
// that it signed, whatever the head: whoever has the key writes any head.
func TakenBack(v *state.View, tenant string, c *verify.Claims) bool {
	hit := false
	verify.Targets(c, func(kind, target string) bool {
		head := c.Head
		switch kind {
		case verify.KindKey:
			head = 0
		case verify.KindKeyManager:
			target = ResidentKeyManager
		}
		_, hit = v.Revoked(tenant, "", kind, target, head, c.IssuedAt)
		return !hit
	})
	return hit
}
