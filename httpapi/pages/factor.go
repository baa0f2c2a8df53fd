package pages

import (
	"errors"
	"html/template"
	"slices"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
)

// Methods of second proofs (RFC 8176 and its registry).
const (
	amrCode    = "otp"
	amrPasskey = "pop"
)

// View models of second factors.
type (
	// passkeyForm asks the browser for a passkey by script; without one it is not shown.
	passkeyForm struct{ Action, Flow, Options, Value, Token string }
	factorPage  struct {
		Action, Flow, Client, User, Wrong string
		Code, Recovery                    bool
		Passkey                           *passkeyForm
	}
	setupPage struct {
		Action, Flow, Client, Wrong string
		Value, Secret               string
		QR                          template.HTML
		Passkey                     *passkeyForm
	}
)

// passkey is the form of a ceremony; nil for none.
func (x *visit) passkey(path, flow string, c *identity.Ceremony) *passkeyForm {
	if c == nil {
		return nil
	}
	return &passkeyForm{Action: x.below(path), Flow: flow, Options: c.Options, Value: c.Value}
}

// factor shows the page of the second proof, or the one that sets a second factor up for a
// user who has none.
func (x *visit) factor(r *state.AuthorizationRequest, user *state.User, wrong string) error {
	held, err := x.p.Factors.Of(x.view, user)
	if err != nil {
		return err
	}
	if !held.Any() {
		return x.offerSetUp(r, user, wrong)
	}
	browser := x.browser()
	flow, err := x.p.Engine.SealFlow(x.view, r, browser)
	if err != nil {
		return err
	}
	ceremony, err := x.p.Factors.BeginFactor(x.view, user, browser)
	if err != nil {
		return err
	}
	return x.page(fasthttp.StatusOK, "factor", origin(r.GetRedirectUri()), &factorPage{
		Action: x.below(factorPath), Flow: flow, Client: x.asker(r), User: user.GetUsername(), Wrong: wrong,
		Code: held.TOTP != nil || held.Codes > 0, Recovery: held.Codes > 0, Passkey: x.passkey(factorPath, flow, ceremony),
	})
}

// offerSetUp shows a new authenticator, and a passkey where there can be one. The login must be a recent one: whoever finds a
// browser signed in can't make its user's second factor their own.
func (x *visit) offerSetUp(r *state.AuthorizationRequest, user *state.User, wrong string) error {
	recent, err := x.recent(r)
	if err != nil {
		return err
	}
	if !recent {
		return x.askLogin(r, wrong)
	}
	e, err := x.p.Factors.BeginTOTP(x.view, user, x.browser())
	if err != nil {
		return err
	}
	return x.showSetUp(r, user, e, wrong)
}

func (x *visit) showSetUp(r *state.AuthorizationRequest, user *state.User, e *identity.Enrolment, wrong string) error {
	ceremony, err := x.p.Factors.BeginRegistration(x.view, user, x.browser())
	if err != nil {
		return err
	}
	flow, err := x.p.Engine.SealFlow(x.view, r, x.browser())
	if err != nil {
		return err
	}
	image, err := qrCode(e.URI(), x.word("totp.qr"))
	if err != nil {
		return err
	}
	return x.page(fasthttp.StatusOK, "setup", origin(r.GetRedirectUri()), &setupPage{
		Action: x.below(setupPath), Flow: flow, Client: x.asker(r), Wrong: wrong, Value: e.Value, Secret: e.Secret(), QR: image,
		Passkey: x.passkey(setupPath, flow, ceremony),
	})
}

// recent tells whether the first proof of a request's user is a recent one.
func (x *visit) recent(r *state.AuthorizationRequest) (bool, error) {
	first, err := x.p.Engine.First(x.view, r)
	if err != nil || first != nil {
		return first != nil, err
	}
	s, _, err := x.present()
	return x.p.Engine.Recent(x.view, s), err
}

// prover is the user whose second proof a request waits for, and what they have proved;
// nil where it waits for something else, so that no step is skipped by a form of another
// one (WEB-09).
func (x *visit) prover(r *state.AuthorizationRequest) (*state.User, []string, authorize.Present, error) {
	first, err := x.p.Engine.First(x.view, r)
	if err != nil || first != nil {
		return first, r.GetAmr(), authorize.Present{}, err
	}
	s, user, err := x.present()
	if err != nil {
		return nil, nil, authorize.Present{}, err
	}
	who := authorize.Present{Session: s, User: user}
	step, err := x.p.Engine.Next(x.view, r, who)
	if err != nil || step != authorize.Factor {
		return nil, nil, who, err
	}
	return user, s.GetAmr(), who, nil
}

// both is how a user is signed in after the second proof.
func both(amr []string, method string) []string {
	out := slices.Clone(amr)
	for _, m := range []string{method, identity.AMRFactors} {
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out
}

// secondFactor answers POST /factor: a code, a recovery code, or a passkey.
func (p *pages) secondFactor(x *visit) error {
	r, err := x.flow()
	if err != nil {
		return err
	}
	if x.form.Get("cancel") != "" {
		return refuse(r, oauth.AccessDenied.With("the user did not sign in"))
	}
	user, amr, who, err := x.prover(r)
	if err != nil {
		return err
	}
	if user == nil {
		return x.next(r, who, "")
	}
	method, wrong := amrCode, "factor.wrong"
	if answer := x.form.Get("answer"); answer != "" {
		method, wrong = amrPasskey, "passkey.wrong"
		err = p.Factors.CheckPasskey(x.ctx, x.view, user, x.browser(), x.form.Get("ceremony"), answer)
	} else {
		err = p.Factors.CheckCode(x.ctx, x.view, user, x.form.Get("code"))
	}
	if refused(err) {
		return x.factor(r, user, wrong)
	}
	if err != nil {
		return err
	}
	return x.proved(r, user, both(amr, method))
}

// refused tells a proof that was none from what went wrong here.
func refused(err error) bool {
	return errors.Is(err, oauth.InvalidGrant) || errors.Is(err, oauth.InvalidRequest)
}

// setUp answers POST /factor/setup: the first code of an authenticator, or a new passkey, for
// a user who has no second factor. One who has is asked for it.
func (p *pages) setUp(x *visit) error {
	r, err := x.flow()
	if err != nil {
		return err
	}
	if x.form.Get("cancel") != "" {
		return refuse(r, oauth.AccessDenied.With("the user did not set a second factor up"))
	}
	user, amr, who, err := x.prover(r)
	if err != nil {
		return err
	}
	if user == nil {
		return x.next(r, who, "")
	}
	held, err := p.Factors.Of(x.view, user)
	if err != nil {
		return err
	}
	recent, err := x.recent(r)
	if err != nil {
		return err
	}
	if held.Any() || !recent {
		return x.factor(r, user, "")
	}
	method, value := amrCode, x.form.Get("enrolment")
	if answer := x.form.Get("answer"); answer != "" {
		method = amrPasskey
		if err = p.Factors.Register(x.ctx, x.view, user, x.browser(), x.form.Get("ceremony"), answer, "", true); refused(err) {
			return x.factor(r, user, "passkey.wrong")
		}
	} else {
		err = p.Factors.ConfirmTOTP(x.ctx, x.view, user, x.browser(), value, x.form.Get("code"), true)
	}
	switch {
	case errors.Is(err, oauth.InvalidGrant):
		e, err := p.Factors.ResumeTOTP(x.view, user, x.browser(), value)
		if err != nil {
			return err
		}
		return x.showSetUp(r, user, e, "totp.wrong")
	case errors.Is(err, oauth.InvalidRequest), errors.Is(err, command.Stale):
		if x.view, err = p.View(x.ctx, state.Linearizable); err != nil {
			return err
		}
		return x.factor(r, user, "") // another secret; or what was set up elsewhere meanwhile
	case err != nil:
		return err
	}
	return x.proved(r, user, both(amr, method))
}

// passkeyLogin answers POST /passkey: a passkey alone, which knows its user.
func (p *pages) passkeyLogin(x *visit) error {
	r, err := x.flow()
	if err != nil {
		return err
	}
	user, err := p.Factors.Login(x.ctx, x.view, x.tenant, x.browser(), x.form.Get("ceremony"), x.form.Get("answer"))
	if refused(err) {
		return x.next(r, authorize.Present{}, "passkey.wrong")
	}
	if err != nil {
		return err
	}
	return x.proved(r, user, both(nil, amrPasskey))
}
