package grants

import (
	"context"
	"encoding/base64"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/pending"
	"github.com/keyraft/keyraft/internal/oauth"
)

// deviceKind is the kind of one-time value that an approved device code is.
const deviceKind = "device code"

// Asking is a request of a client that its user is to decide at another device.
type Asking struct {
	Credentials clients.Request
	Form        Form
	Address     string // where it came from
}

// StartedDevice is the answer to a device authorization request (RFC 8628 §3.2).
type StartedDevice struct {
	DeviceCode, UserCode string
	Issuer               string // of the tenant; its pages are below it
	ExpiresIn, Interval  int64  // seconds
}

// StartDevice answers POST /oauth2/device_authorization (RFC 8628 §3.1). v is
// linearizable. dpop_jkt binds what comes of it to a key, as in RFC 9449 §10.
func (p *Pipeline) StartDevice(ctx context.Context, v *state.View, req *Asking) (*StartedDevice, error) {
	proof, issuer, scope, details, err := p.asking(ctx, v, req, oauth.GrantDeviceCode)
	if err != nil {
		return nil, err
	}
	client, v := proof.Client, proof.View
	jkt := req.Form.Get("dpop_jkt")
	if jkt != "" && !IsDigest(jkt) {
		return nil, oauth.InvalidRequest.With("dpop_jkt must be the base64url of a SHA-256: 43 characters")
	}
	resources, err := targets(req.Form, client.GetResources())
	if err != nil {
		return nil, err
	}
	if err := p.cfg.Clients.Consume(ctx, proof); err != nil {
		return nil, err
	}
	d := &state.DeviceRequest{
		Tenant: client.GetTenant(), ClientId: client.GetId(), ClientGeneration: client.GetGeneration(), Scope: scope, Resources: resources,
		ScopeGiven: req.Form.Get("scope") != "", Details: details, Jkt: jkt, Address: req.Address,
	}
	code, err := p.cfg.Pending.StartDevice(ctx, v, d)
	if err != nil {
		return nil, err
	}
	return &StartedDevice{
		DeviceCode: code, UserCode: pending.Display(d.GetUserCode()), Issuer: issuer, ExpiresIn: pending.DeviceLifetime, Interval: d.GetInterval(),
	}, nil
}

// asking authenticates who asks, and holds the request against the gate and what the
// client may ask users for. The proof is not used up yet.
func (p *Pipeline) asking(ctx context.Context, v *state.View, req *Asking, grant oauth.GrantType) (proof *clients.Proof, issuer, scope string, details []byte, err error) {
	req.Credentials.Linearizable = true
	proved, err := p.cfg.Clients.Authenticate(ctx, v, &req.Credentials)
	if err != nil {
		return nil, "", "", nil, err
	}
	tenant, _ := proved.View.Tenant(proved.Client.GetTenant())
	if err = gate(tenant, proved.Client, grant); err != nil {
		return nil, "", "", nil, err
	}
	if issuer, err = p.cfg.Keys.Issuer(proved.View, tenant.GetId()); err != nil {
		return nil, "", "", nil, err
	}
	if scope, err = Narrow(proved.View, tenant, proved.Client, nil, req.Form.Get("scope")); err != nil {
		return nil, "", "", nil, err
	}
	details, err = Details(tenant, proved.Client, req.Form.Get("authorization_details"))
	return &proved, issuer, scope, details, err
}

// IsDigest tells the one spelling of 32 bytes in base64url.
func IsDigest(s string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(raw) == 32 && len(s) == 43
}

// deviceCode serves grant_type=urn:ietf:params:oauth:grant-type:device_code (RFC 8628
// §3.4, §3.5).
type deviceCode struct{ cfg *Config }

func (deviceCode) Type() oauth.GrantType { return oauth.GrantDeviceCode }

// Freshness is linearizable: what the user has just said at another node counts.
func (deviceCode) Freshness() state.Freshness { return state.Linearizable }

var errDevice = oauth.InvalidGrant.With("the device_code is unknown, used, or not this client's; begin again at the device authorization endpoint")

// Authorize answers a poll. Errors: authorization_pending, slow_down, access_denied,
// expired_token, invalid_grant.
func (g deviceCode) Authorize(ctx context.Context, in *Input, out *Decision) error {
	value := in.Form.Get("device_code")
	if value == "" {
		return oauth.InvalidRequest.With("device_code is missing")
	}
	d, hash, err := g.cfg.Pending.Device(in.View, in.Tenant.GetId(), value)
	if err != nil {
		return err
	}
	// Another client of the same id is another client (TOK-42).
	if d == nil || d.GetClientId() != in.Client.GetId() || in.Client.GetCreatedAt() > d.GetCreatedAt() {
		return errDevice
	}
	if d.GetJkt() != "" && d.GetJkt() != in.Binding.JKT {
		return oauth.InvalidDPoPProof.With("the device_code is bound to another DPoP key (dpop_jkt); prove that one")
	}
	w := waited{deviceKind, hash, d.GetStatus(), d.GetExpiresAt(), d.GetEpoch(), d.GetDecidedAt(), d.GetAuthorization(), d.GetResources()}
	return w.authorize(in, out, g.cfg, errDevice, func() error { return g.cfg.Pending.PollDevice(ctx, d, hash) })
}

// waited is what a request has come to, of either kind.
type waited struct {
	kind      string
	hash      []byte
	status    string
	expiresAt int64 // seconds
	epoch     uint64
	decidedAt int64 // milliseconds
	allowed   *state.Authorization
	resources []string
}

// authorize is what the client is answered. A request that was redeemed is told from the
// first one's row of used values, so polling on writes nothing. The grant is a login of its
// own: it outlives the session at the browser where it was allowed, but not the end of all
// of the user's sessions. Nothing is given while the account is locked, not even for
// strangers (TOK-33); what was given goes on, or strangers could end it.
func (w *waited) authorize(in *Input, out *Decision, cfg *Config, used *oauth.Error, poll func() error) error {
	if cfg.Pending.Overdue(in.View, w.expiresAt, w.epoch) {
		return pending.Expired()
	}
	switch w.status {
	case state.StatusPending:
		return poll()
	case state.StatusDenied:
		return oauth.AccessDenied.With("the user denied it")
	}
	id := base64.RawURLEncoding.EncodeToString(w.hash)
	redeemed, err := in.View.Used(in.Tenant.GetId(), w.kind, id)
	if err != nil {
		return err
	}
	if redeemed {
		return used
	}
	if err := w.stands(in, cfg); err != nil {
		return err
	}
	if out.Audience, err = ofGrant(in, w.resources); err != nil {
		return err
	}
	if out.Details, err = ofDetails(in, w.allowed.GetDetails()); err != nil {
		return err
	}
	a := proto.CloneOf(w.allowed)
	a.Session, a.Jkt, a.AtBrowser = "", "", true
	out.Authorization = a
	out.Subject, out.Scope, out.Grant, out.Refresh = a.GetSubject(), a.GetScope(), a.GetGrant(), true
	out.Use = OneTime{Kind: w.kind, ID: id, ExpiresAt: w.expiresAt}
	return nil
}

// stands asks whether its user's logins and account are as they were when it was allowed.
func (w *waited) stands(in *Input, cfg *Config) error {
	user, err := in.View.User(in.Tenant.GetId(), w.allowed.GetUser())
	if cfg.absent(err) || err == nil && w.decidedAt <= user.GetSessionsAfter() {
		return errPerson
	}
	if err != nil || cfg.Locked == nil {
		return err
	}
	locked, err := cfg.Locked(in.View, in.Tenant.GetId(), user.GetId())
	if err == nil && locked {
		return errPerson
	}
	return err
}
