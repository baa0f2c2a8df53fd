package pages

import (
	"errors"
	"html/template"
	"net/url"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
)

// View models of what changes how a user signs in.
type (
	authenticatorPage struct {
		Action, Back, Token, Wrong string
		Value, Secret              string
		QR                         template.HTML
		Replaces                   bool
	}
	addPasskeyPage struct {
		Back, Wrong string
		Passkey     *passkeyForm
	}
	recoveryPage struct {
		Action, Back, Token string
		Codes               []string
		Replaces            bool
	}
	removePage struct {
		Action, Back, Token, ID, Name string
		Last                          bool
	}
	passwordPage struct {
		Action, Back, Token, Wrong, User, Rules string
		HasPassword                             bool
	}
)

// showAuthenticator answers GET /account/authenticator.
func (p *pages) showAuthenticator(x *visit) error {
	who, ok, err := x.owner(authenticatorPath, stepUp)
	if err != nil || !ok {
		return err
	}
	e, err := p.Factors.BeginTOTP(x.view, who.User, x.browser())
	if err != nil {
		return err
	}
	return x.authenticator(who, e, "")
}

func (x *visit) authenticator(who authorize.Present, e *identity.Enrolment, wrong string) error {
	held, err := x.p.Factors.Of(x.view, who.User)
	if err != nil {
		return err
	}
	image, err := qrCode(e.URI(), x.word("totp.qr"))
	if err != nil {
		return err
	}
	return x.page(fasthttp.StatusOK, "authenticator", "", &authenticatorPage{
		Action: x.below(authenticatorPath), Back: x.below(AccountPath), Token: x.token(who.Session), Wrong: wrong,
		Value: e.Value, Secret: e.Secret(), QR: image, Replaces: held.TOTP != nil,
	})
}

// addAuthenticator answers POST /account/authenticator: its first code.
func (p *pages) addAuthenticator(x *visit) error {
	who, ok, err := x.sender(authenticatorPath, stepUpIn)
	if err != nil || !ok {
		return err
	}
	value := x.form.Get("enrolment")
	err = p.Factors.ConfirmTOTP(x.ctx, x.view, who.User, x.browser(), value, x.form.Get("code"), false)
	switch {
	case errors.Is(err, oauth.InvalidGrant):
		e, err := p.Factors.ResumeTOTP(x.view, who.User, x.browser(), value)
		if err != nil {
			return err
		}
		return x.authenticator(who, e, "totp.wrong")
	case errors.Is(err, oauth.InvalidRequest), errors.Is(err, command.Stale): // too late, or overtaken
		return x.see(authenticatorPath)
	case err != nil:
		return err
	}
	return x.raised(who, amrCode)
}

// raised goes on after a first second factor was set up: it was proved by that, beside the
// login from shortly before.
func (x *visit) raised(who authorize.Present, method string) error {
	if _, err := x.signIn(who.User, identity.Authentication{AMR: both(who.Session.GetAmr(), method), ACR: authorize.ACRFactors}); err != nil {
		return err
	}
	return x.done()
}

// showPasskey answers GET /account/passkey.
func (p *pages) showPasskey(x *visit) error {
	who, ok, err := x.owner(addPasskeyPath, stepUp)
	if err != nil || !ok {
		return err
	}
	return x.offerPasskey(who, "")
}

func (x *visit) offerPasskey(who authorize.Present, wrong string) error {
	ceremony, err := x.p.Factors.BeginRegistration(x.view, who.User, x.browser())
	if err != nil {
		return err
	}
	if ceremony == nil {
		return oauth.InvalidRequest.With("this server is reached by an address, and passkeys need a name; use an authenticator")
	}
	form := x.passkey(addPasskeyPath, "", ceremony)
	form.Token = x.token(who.Session)
	return x.page(fasthttp.StatusOK, "add_passkey", "", &addPasskeyPage{Back: x.below(AccountPath), Wrong: wrong, Passkey: form})
}

// addPasskey answers POST /account/passkey: what the browser made.
func (p *pages) addPasskey(x *visit) error {
	who, ok, err := x.sender(addPasskeyPath, stepUpIn)
	if err != nil || !ok {
		return err
	}
	err = p.Factors.Register(x.ctx, x.view, who.User, x.browser(), x.form.Get("ceremony"), x.form.Get("answer"), x.form.Get("name"), false)
	var field *identity.FieldError
	switch {
	case errors.As(err, &field):
		return x.offerPasskey(who, "add_passkey.name_wrong")
	case refused(err):
		return x.offerPasskey(who, "passkey.wrong")
	case errors.Is(err, command.NotReady):
		return x.offerPasskey(who, "add_passkey.many")
	case err != nil:
		return err
	}
	return x.raised(who, amrPasskey)
}

// askRecovery answers GET /account/recovery.
func (p *pages) askRecovery(x *visit) error {
	who, held, ok, err := x.holder(recoveryPath, false)
	if err != nil || !ok {
		return err
	}
	return x.page(fasthttp.StatusOK, "recovery", "", &recoveryPage{
		Action: x.below(recoveryPath), Back: x.below(AccountPath), Token: x.token(who.Session), Replaces: held.Codes > 0,
	})
}

// makeRecovery answers POST /account/recovery, with codes that are shown this once.
func (p *pages) makeRecovery(x *visit) error {
	who, _, ok, err := x.holder(recoveryPath, true)
	if err != nil || !ok {
		return err
	}
	codes, err := p.Factors.NewRecoveryCodes(x.ctx, x.view, who.User)
	if err != nil {
		return err
	}
	return x.page(fasthttp.StatusOK, "recovery", "", &recoveryPage{Back: x.below(AccountPath), Codes: codes})
}

// holder is an owner who has a second factor; one who has none is sent to the account.
func (x *visit) holder(page string, sends bool) (authorize.Present, *identity.Held, bool, error) {
	ask, age := x.owner, int64(stepUp)
	if sends {
		ask, age = x.sender, stepUpIn
	}
	who, ok, err := ask(page, age)
	if err != nil || !ok {
		return who, nil, false, err
	}
	held, err := x.p.Factors.Of(x.view, who.User)
	if err != nil {
		return who, nil, false, err
	}
	if !held.Any() {
		return who, nil, false, x.see(AccountPath)
	}
	return who, held, true, nil
}

// removal is the page that removes one second factor: its path names which.
func removal(id string) string { return removePath + "?" + url.Values{"id": {id}}.Encode() }

// askRemove answers GET /account/remove.
func (p *pages) askRemove(x *visit) error {
	id := x.form.Get("id")
	who, held, ok, err := x.holder(removal(id), false)
	if err != nil || !ok {
		return err
	}
	m := &removePage{Action: x.below(removePath), Back: x.below(AccountPath), Token: x.token(who.Session), ID: id}
	count := len(held.Passkeys)
	if held.TOTP != nil {
		count++
	}
	m.Last = count == 1
	found := held.TOTP.GetId() == id
	if found {
		m.Name = x.word("account.authenticator")
	}
	for _, c := range held.Passkeys {
		if c.GetId() == id {
			found, m.Name = true, nameOf(x, c)
		}
	}
	if !found {
		return x.see(AccountPath)
	}
	return x.page(fasthttp.StatusOK, "remove", "", m)
}

func nameOf(x *visit, c *state.Credential) string {
	if c.GetName() != "" {
		return c.GetName()
	}
	return x.word("account.passkey")
}

// remove answers POST /account/remove.
func (p *pages) remove(x *visit) error {
	id := x.form.Get("id")
	who, _, ok, err := x.holder(removal(id), true)
	if err != nil || !ok {
		return err
	}
	if err := p.Factors.Remove(x.ctx, x.view, who.User, id); err != nil && !errors.Is(err, command.NotFound) {
		return err
	}
	return x.done()
}

// showPassword answers GET /account/password.
func (p *pages) showPassword(x *visit) error {
	who, ok, err := x.owner(passwordPath, stepUp)
	if err != nil || !ok {
		return err
	}
	return x.password(who, "")
}

func (x *visit) password(who authorize.Present, wrong string) error {
	return x.page(fasthttp.StatusOK, "password", "", &passwordPage{
		Action: x.below(passwordPath), Back: x.below(AccountPath), Token: x.token(who.Session), Wrong: wrong, User: who.User.GetUsername(),
		HasPassword: who.User.GetPassword() != "", Rules: x.rules(),
	})
}

// changePassword answers POST /account/password. It ends every login of before; this
// browser gets a new one (WEB-05).
func (p *pages) changePassword(x *visit) error {
	who, ok, err := x.sender(passwordPath, stepUpIn)
	if err != nil || !ok {
		return err
	}
	user := who.User
	if user.GetPassword() != "" {
		browser, err := p.Browsers.Knows(x.view, x.tenant, x.cookie(knownCookie), user.GetUsername())
		if err != nil {
			return err
		}
		if browser == "" { // it has forgotten its cookie, and has the user's login all the same
			browser = who.Session.GetId()
		}
		if user, err = p.Users.Check(x.ctx, x.view, x.tenant, user.GetUsername(), x.form.Get("current"), browser); err != nil {
			if errors.Is(err, oauth.InvalidGrant) {
				return x.password(who, "password.wrong")
			}
			return err
		}
	}
	next := x.form.Get("new")
	if next != x.form.Get("again") {
		return x.password(who, "password.differ")
	}
	changed, err := p.Users.ChangePassword(x.ctx, x.view, user, next)
	switch {
	case broken(err) != "":
		return x.password(who, broken(err))
	case errors.Is(err, command.Stale):
		return x.see(passwordPath)
	case err != nil:
		return err
	}
	if x.view, err = p.View(x.ctx, state.Linearizable); err != nil {
		return err
	}
	amr, acr := who.Session.GetAmr(), who.Session.GetAcr()
	if _, err := x.signIn(changed, identity.Authentication{AMR: amr, ACR: acr}); err != nil {
		return err
	}
	return x.done()
}
