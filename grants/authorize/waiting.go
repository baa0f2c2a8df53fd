package authorize

import (
	"encoding/base64"
	"strings"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// Pages of ours that a flow may lead to, instead of to a client's answer: there its user
// decides on a request that waits (package pending).
const (
	PageDevice   = "device"
	PageRequests = "requests"
)

// Begin is a flow to a page of ours. Whom it is about is known when somebody is signed in
// (AboutDevice, AboutBackchannel); until then Next asks for that alone. The user is always
// asked, whatever they allowed before: nobody else tells that this device is theirs (RFC
// 8628 §5.4; TOK-42).
func (e *Engine) Begin(v *state.View, tenant, page string) *state.AuthorizationRequest {
	return &state.AuthorizationRequest{Tenant: tenant, Waiting: page, Epoch: v.Epoch(), StartedAt: e.now(v), MaxAge: -1, Prompt: []string{"consent"}}
}

// entry is Next of a flow that does not know its client yet.
func (e *Engine) entry(v *state.View, r *state.AuthorizationRequest, who Present) (Step, error) {
	step, err := e.own(v, r, who)
	if step == Done {
		step = Page
	}
	return step, err
}

// AboutDevice makes a flow one about a device request that is kept under hash.
func (e *Engine) AboutDevice(v *state.View, r *state.AuthorizationRequest, who Present, d *state.DeviceRequest, hash []byte) error {
	r.Id, r.UserCode = base64.RawURLEncoding.EncodeToString(hash), d.GetUserCode()
	r.Scope, r.ScopeGiven, r.Resources, r.Details = d.GetScope(), d.GetScopeGiven(), d.GetResources(), d.GetDetails()
	return e.about(v, r, who, d.GetClientId(), d.GetCreatedAt())
}

// AboutBackchannel makes a flow one about a CIBA request of the user who is signed in.
func (e *Engine) AboutBackchannel(v *state.View, r *state.AuthorizationRequest, who Present, b *state.BackchannelRequest) error {
	r.Id, r.Scope, r.ScopeGiven, r.Resources, r.Details = b.GetId(), b.GetScope(), true, b.GetResources(), b.GetDetails()
	r.AcrValues = strings.Fields(b.GetAcrValues())
	return e.about(v, r, who, b.GetClientId(), b.GetCreatedAt())
}

// about binds a flow to the client that asks and to the user who is shown it: another one
// who signs in at this browser before the answer is asked to sign in as that one.
func (e *Engine) about(v *state.View, r *state.AuthorizationRequest, who Present, id string, since int64) error {
	client, ok := v.Client(r.GetTenant(), id)
	if !ok || client.GetCreatedAt() > since {
		return &Failure{Err: oauth.InvalidRequest.With("the client that asked is gone; start again at the device")}
	}
	sub, _, err := e.cfg.Subjects.Subject(v, client, who.User.GetId())
	if err != nil {
		return err
	}
	r.ClientId, r.ClientCreatedAt, r.HintSubject = id, client.GetCreatedAt(), sub
	if client.GetDefaultMaxAge() > 0 {
		r.MaxAge = client.GetDefaultMaxAge()
	}
	if len(r.AcrValues) == 0 {
		r.AcrValues = client.GetDefaultAcrValues()
	}
	return nil
}

// Allow is what a user who has done all that Next asks for allows the client.
func (e *Engine) Allow(v *state.View, r *state.AuthorizationRequest, who Present) (*state.Authorization, error) {
	client, ok := v.Client(r.GetTenant(), r.GetClientId())
	if !ok {
		return nil, &Failure{Err: oauth.InvalidRequest.With("the client is gone; start again at the application")}
	}
	a, err := e.allowed(v, client, r, who)
	if err == nil {
		a.Grant = tokens.NewGrantID()
	}
	return a, err
}

func (e *Engine) allowed(v *state.View, client *state.Client, r *state.AuthorizationRequest, who Present) (*state.Authorization, error) {
	sub, sector, err := e.cfg.Subjects.Subject(v, client, who.User.GetId())
	if err != nil {
		return nil, err
	}
	return &state.Authorization{
		Tenant: r.GetTenant(), ClientId: r.GetClientId(), User: who.User.GetId(), Subject: sub, Sector: sector,
		Session: who.Session.GetId(), AuthTime: who.Session.GetAuthTime(), Acr: who.Session.GetAcr(), Amr: who.Session.GetAmr(),
		Scope: r.GetScope(), Resources: r.GetResources(), Nonce: r.GetNonce(), Claims: r.GetClaims(), Details: r.GetDetails(), Jkt: r.GetJkt(),
	}, nil
}
