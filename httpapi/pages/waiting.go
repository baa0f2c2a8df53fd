package pages

import (
	"encoding/base64"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/grants/pending"
	"github.com/keyraft/keyraft/internal/oauth"
)

// askPage asks a user about a request of another device: who asks for what, and by which
// code or message they know it as theirs (RFC 8628 §5.4).
type askPage struct {
	Action, Flow, Client, User string
	Code, Address              string // of a device
	Message                    string // of a CIBA request
	Unapproved                 bool
	Scopes                     []scope
	Details, Resources         []string
}

// toldPage says that it is done.
type toldPage struct{ Allowed bool }

var errOver = oauth.AccessDenied.With("this request was decided before, or its time is over; start again at the device")

// waiting goes on with a flow to a page of ours, whose user is signed in.
func (x *visit) waiting(r *state.AuthorizationRequest, who authorize.Present, flow string) error {
	device := r.GetWaiting() == authorize.PageDevice
	switch {
	case device && r.GetClientId() == "":
		return x.lookUp(r, who)
	case device:
		return x.askDevice(r, who, flow)
	case r.GetClientId() == "":
		return x.list(who)
	}
	return x.askBackchannel(r, who, flow)
}

var errOtherPage = oauth.InvalidRequest.With("this form is of another page; start again")

func (x *visit) askDevice(r *state.AuthorizationRequest, who authorize.Present, flow string) error {
	hash, err := base64.RawURLEncoding.DecodeString(r.GetId())
	if err != nil {
		return err
	}
	d, err := x.p.Pending.DeviceOf(x.view, x.tenant, hash)
	if err != nil {
		return err
	}
	if d == nil {
		return errOver
	}
	m := x.ask(r, who, flow)
	m.Action, m.Code, m.Address = x.below(pending.DevicePath), pending.Display(d.GetUserCode()), d.GetAddress()
	return x.page(fasthttp.StatusOK, "ask", "", m)
}

func (x *visit) ask(r *state.AuthorizationRequest, who authorize.Present, flow string) *askPage {
	client, _ := x.view.Client(r.GetTenant(), r.GetClientId())
	return &askPage{
		Flow: flow, Client: clientName(client), Unapproved: client.GetSelfRegistered(), User: who.User.GetUsername(),
		Scopes: x.scopes(r.GetScope()), Details: details(r.GetDetails()), Resources: r.GetResources(),
	}
}

// decide answers a form that was shown about one request. The sealed flow says which, and
// for whom, so nothing can be put in its place (WEB-01, AUT-15).
func (p *pages) decide(x *visit) error {
	r, err := x.flow()
	if err != nil {
		return err
	}
	if r.GetWaiting() == "" || r.GetClientId() == "" {
		return errOtherPage
	}
	s, user, err := x.present()
	if err != nil {
		return err
	}
	who := authorize.Present{Session: s, User: user}
	step, err := p.Engine.Next(x.view, r, who)
	if err != nil {
		return err
	}
	// The session has ended meanwhile, or is not good enough, or there is more to ask.
	if step != authorize.Page || !authorize.WasShown(x.view, r, who) {
		return x.next(r, who, "")
	}
	allow := x.form.Get("decision") == "allow"
	if err := x.settle(r, who, allow); err != nil {
		return err
	}
	return x.page(fasthttp.StatusOK, "told", "", &toldPage{Allowed: allow})
}

// settle keeps the answer: a yes after the consent that the grant needs.
func (x *visit) settle(r *state.AuthorizationRequest, who authorize.Present, allow bool) error {
	hash, err := x.waits(r, who)
	if err != nil {
		return err
	}
	var a *state.Authorization
	if allow {
		if err := x.p.Consents.Remember(x.ctx, &state.Consent{
			Tenant: x.tenant, User: who.User.GetId(), ClientId: r.GetClientId(), Scopes: strings.Fields(r.GetScope()), Resources: r.GetResources(),
		}); err != nil {
			return err
		}
		if a, err = x.p.Engine.Allow(x.view, r, who); err != nil {
			return err
		}
	}
	if r.GetWaiting() == authorize.PageDevice {
		return x.p.Pending.DecideDevice(x.ctx, x.tenant, hash, a)
	}
	return x.p.Pending.DecideBackchannel(x.ctx, x.tenant, who.User.GetId(), hash, a)
}

// waits is what the request of a flow is kept under, while it waits.
func (x *visit) waits(r *state.AuthorizationRequest, who authorize.Present) ([]byte, error) {
	if r.GetWaiting() == authorize.PageDevice {
		return base64.RawURLEncoding.DecodeString(r.GetId())
	}
	b, hash, err := x.p.Pending.BackchannelOf(x.view, x.tenant, who.User.GetId(), r.GetId())
	if err == nil && b == nil {
		err = errOver
	}
	return hash, err
}
