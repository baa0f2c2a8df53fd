package pages

import (
	"errors"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/grants/pending"
	"github.com/keyraft/keyraft/httpapi"
)

// devicePage asks for the code that a device shows. Wrong is what went wrong with the
// last one: "code", "unknown" or "many".
type devicePage struct{ Action, Code, Wrong string }

// deviceForm answers GET /device: the form, with the code of verification_uri_complete
// filled in. Nothing is looked up before somebody is signed in (TOK-41).
func (p *pages) deviceForm(x *visit) error { return x.deviceForm(x.form.Get("user_code"), "") }

func (x *visit) deviceForm(typed, wrong string) error {
	if code, ok := pending.Canonical(typed); ok {
		typed = pending.Display(code)
	}
	return x.page(fasthttp.StatusOK, "device", "", &devicePage{Action: x.below(pending.DevicePath), Code: cut(typed, 64), Wrong: wrong})
}

// device answers POST /device: a code, or the answer to what was shown of one.
func (p *pages) device(x *visit) error {
	if x.form.Get("flow") != "" {
		return p.decide(x)
	}
	typed := x.form.Get("user_code")
	code, ok := pending.Canonical(typed)
	if !ok {
		return x.deviceForm(typed, "code")
	}
	s, user, err := x.present()
	if err != nil {
		return err
	}
	r := p.Engine.Begin(x.view, x.tenant, authorize.PageDevice)
	r.UserCode = code
	return x.next(r, authorize.Present{Session: s, User: user}, "")
}

// lookUp finds the device of a code for the user who is signed in, and goes on to ask them.
func (x *visit) lookUp(r *state.AuthorizationRequest, who authorize.Present) error {
	d, hash, err := x.p.Pending.DeviceByUserCode(x.ctx, x.tenant, r.GetUserCode(), who.User.GetId(), httpapi.Remote(x.RequestCtx))
	switch {
	case errors.Is(err, pending.ErrUnknown):
		return x.deviceForm(r.GetUserCode(), "unknown")
	case errors.Is(err, pending.ErrTooMany):
		return x.deviceForm("", "many")
	case err != nil:
		return err
	}
	if x.view, err = x.p.View(x.ctx, state.Linearizable); err != nil { // that knows the device's client
		return err
	}
	if err := x.p.Engine.AboutDevice(x.view, r, who, d, hash); err != nil {
		return err
	}
	return x.next(r, who, "")
}
