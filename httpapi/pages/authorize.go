package pages

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
)

// authorize answers GET and POST /oauth2/authorize (RFC 6749 §3.1).
func (p *pages) authorize(x *visit) error {
	r, err := p.Engine.Parse(x.ctx, x.view, x.tenant, &x.form)
	if len(x.twice) > 0 {
		return repeated(r, err, x.twice)
	}
	if err != nil {
		return err
	}
	// Where the client was unknown here, Parse has looked on a fresher view.
	if x.view, err = p.View(x.ctx, state.Linearizable); err != nil {
		return err
	}
	x.lang = language(r.GetUiLocales(), string(x.Request.Header.Peek(fasthttp.HeaderAcceptLanguage)))
	s, user, err := x.present()
	if err != nil {
		return err
	}
	return x.next(r, authorize.Present{Session: s, User: user}, "")
}

// repeated refuses a request of which parameters came twice. Its client is told if none of
// those that say who it is, and where it may be told, is among them (AUT-06).
func repeated(r *state.AuthorizationRequest, err error, names []string) error {
	refusal := oauth.InvalidRequest.Withf("the parameter %s is repeated", cut(names[0], 40))
	for _, name := range [...]string{"client_id", "redirect_uri", "request", "request_uri"} {
		if slices.Contains(names, name) {
			return &authorize.Failure{Err: refusal}
		}
	}
	var failure *authorize.Failure
	switch {
	case err == nil:
		return &authorize.Failure{Err: refusal, Request: r}
	case errors.As(err, &failure) && failure.Request != nil:
		return &authorize.Failure{Err: refusal, Request: failure.Request}
	}
	return err
}

// next shows the page of what its user must do, or answers the client. wrong is what
// went wrong with the last try, a key of the catalogue.
func (x *visit) next(r *state.AuthorizationRequest, who authorize.Present, wrong string) error {
	step, err := x.p.Engine.Next(x.view, r, who)
	if err != nil {
		return err
	}
	switch step {
	case authorize.Done:
		return x.finish(r, who)
	case authorize.Login:
		first, err := x.p.Engine.First(x.view, r)
		if err != nil {
			return err
		}
		if first != nil {
			return x.prove(r, first, wrong)
		}
		return x.askLogin(r, wrong)
	case authorize.Factor:
		return x.factor(r, who.User, wrong)
	}
	authorize.Show(x.view, r, who)
	flow, err := x.p.Engine.SealFlow(x.view, r, x.browser())
	if err != nil {
		return err
	}
	client, _ := x.view.Client(r.GetTenant(), r.GetClientId())
	if step == authorize.Page {
		return x.waiting(r, who, flow)
	}
	return x.page(fasthttp.StatusOK, "consent", origin(r.GetRedirectUri()), &consentPage{
		Action: x.below(consentPath), Flow: flow, Client: clientName(client), Unapproved: client.GetSelfRegistered(), About: x.about(r),
		User: who.User.GetUsername(), Scopes: x.scopes(r.GetScope()), Claims: x.claims(authorize.Claims(x.view, r, who.User)), Resources: r.GetResources(),
		Details: details(r.GetDetails()), Where: origin(r.GetRedirectUri()),
	})
}

// finish answers the client, or goes on to the page of ours that it was for.
func (x *visit) finish(r *state.AuthorizationRequest, who authorize.Present) error {
	if r.GetPage() != "" {
		return x.see(r.GetPage())
	}
	answer, err := x.p.Engine.Finish(x.ctx, x.view, r, who)
	if err != nil {
		return err
	}
	return x.answer(answer)
}

// askLogin shows the login page.
func (x *visit) askLogin(r *state.AuthorizationRequest, wrong string) error {
	browser := x.browser()
	flow, err := x.p.Engine.SealFlow(x.view, r, browser)
	if err != nil {
		return err
	}
	ceremony, err := x.p.Factors.BeginLogin(x.view, x.tenant, browser)
	if err != nil {
		return err
	}
	return x.page(fasthttp.StatusOK, "login", origin(r.GetRedirectUri()), &loginPage{
		Action: x.below(loginPath), Flow: flow, Client: x.asker(r), Hint: r.GetLoginHint(), Wrong: wrong, About: x.about(r), Own: r.GetPage() != "" || r.GetClientId() == "",
		Passkey: x.passkey(passkeyPath, flow, ceremony),
	})
}

// asker is what people read of who wants them to sign in.
func (x *visit) asker(r *state.AuthorizationRequest) string {
	switch {
	case r.GetPage() != "":
		return x.word("account.title")
	case r.GetWaiting() != "" && r.GetClientId() == "":
		return x.word(r.GetWaiting() + ".title")
	}
	client, _ := x.view.Client(r.GetTenant(), r.GetClientId())
	return clientName(client)
}

// see sends the browser to a page of ours. The path is our own making (WEB-10).
func (x *visit) see(page string) error {
	x.redirect(x.below(page))
	return nil
}

// refuse is a refusal that the client hears, where one asked.
func refuse(r *state.AuthorizationRequest, err *oauth.Error) error {
	if r.GetPage() != "" {
		return &authorize.Failure{Err: err}
	}
	return &authorize.Failure{Err: err, Request: r}
}

// details are the objects of authorization_details, each spread over lines: what their
// members mean is the resource's, so the user is shown all of it (RFC 9396 §11.2).
func details(list []byte) []string {
	var objects []json.RawMessage
	if json.Unmarshal(list, &objects) != nil { // there are none
		return nil
	}
	var out []string
	for _, o := range objects {
		var spread bytes.Buffer
		if json.Indent(&spread, o, "", "  ") == nil {
			out = append(out, spread.String())
		}
	}
	return out
}

func clientName(c *state.Client) string {
	if c.GetName() != "" {
		return c.GetName()
	}
	return c.GetId()
}

// flow opens the request that a form is about, for this browser alone.
func (x *visit) flow() (*state.AuthorizationRequest, error) {
	cookie := x.cookie(flowCookie)
	if cookie == "" {
		return nil, &authorize.Failure{Err: oauth.InvalidRequest.With("this browser keeps no cookies for this server, or the login was begun in another one; allow cookies and start again at the application")}
	}
	r, err := x.p.Engine.OpenFlow(x.view, x.tenant, x.form.Get("flow"), browserOf(cookie))
	if err == nil {
		x.lang = language(r.GetUiLocales(), string(x.Request.Header.Peek(fasthttp.HeaderAcceptLanguage)))
	}
	return r, err
}

// login answers POST /login: user name and password.
func (p *pages) login(x *visit) error {
	r, err := x.flow()
	if err != nil {
		return err
	}
	if x.form.Get("cancel") != "" {
		return refuse(r, oauth.AccessDenied.With("the user did not sign in"))
	}
	username := x.form.Get("username")
	browser, err := p.Browsers.Knows(x.view, x.tenant, x.cookie(knownCookie), username)
	if err != nil {
		return err
	}
	user, err := p.Users.Check(x.ctx, x.view, x.tenant, username, x.form.Get("password"), browser)
	if errors.Is(err, oauth.InvalidGrant) {
		r.LoginHint = cut(username, 256)
		return x.next(r, authorize.Present{}, "login.wrong")
	}
	if err != nil {
		return err
	}
	return x.proved(r, user, []string{identity.AMRPassword})
}

// proved goes on with a user who has proved who they are, in one way or two. What needs two
// waits for the second, and a password that must be changed for the new one; there is no
// session before it (WEB-09).
func (x *visit) proved(r *state.AuthorizationRequest, user *state.User, amr []string) error {
	needed, err := x.secondNeeded(r, user, amr)
	if err != nil {
		return err
	}
	if needed || identity.MustChange(user, amr) {
		x.p.Engine.ProvedFirst(x.view, r, user, amr)
		return x.later(r)
	}
	acr := authorize.ACRPassword
	if slices.Contains(amr, identity.AMRFactors) {
		acr = authorize.ACRFactors
	}
	s, err := x.signIn(user, identity.Authentication{AMR: amr, ACR: acr})
	if err != nil {
		return err
	}
	authorize.Authenticated(r, s)
	return x.onward(r, authorize.Present{Session: s, User: user})
}

func (x *visit) secondNeeded(r *state.AuthorizationRequest, user *state.User, amr []string) (bool, error) {
	needed, err := identity.FactorNeeded(x.view, user, amr)
	return needed || authorize.FactorAsked(r, amr), err
}

// prove shows the page of what a user who has begun to sign in has yet to do.
func (x *visit) prove(r *state.AuthorizationRequest, user *state.User, wrong string) error {
	needed, err := x.secondNeeded(r, user, r.GetAmr())
	switch {
	case err != nil:
		return err
	case needed:
		return x.factor(r, user, wrong)
	case identity.MustChange(user, r.GetAmr()):
		return x.askNewPassword(r, user, wrong)
	}
	return x.askLogin(r, wrong)
}

// signIn makes a session of a user who has just proved who they are, or goes on with the
// one that this browser has of them; another user's ends. Either way the cookie that the
// browser had is worth nothing afterwards (WEB-04). The visit's view then has the session.
func (x *visit) signIn(user *state.User, a identity.Authentication) (*state.Session, error) {
	a.UserAgent, a.Address = cut(string(x.UserAgent()), 200), httpapi.Remote(x.RequestCtx)
	old, owner, err := x.present()
	if err != nil {
		return nil, err
	}
	var cookie string
	var s *state.Session
	if old != nil && owner.GetId() == user.GetId() {
		cookie, s, err = x.p.Sessions.StepUp(x.ctx, x.view, old, user, a)
	} else {
		cookie, s, err = x.p.Sessions.Start(x.ctx, x.view, x.tenant, user, a)
		if err == nil && old != nil {
			err = x.p.Sessions.End(x.ctx, x.tenant, old.GetId())
		}
	}
	if err != nil {
		return nil, err
	}
	x.setCookie(sessionCookie, cookie)
	known, err := x.p.Browsers.Remember(x.view, x.tenant, x.cookie(knownCookie), user)
	if err != nil {
		return nil, err
	}
	if known != "" {
		x.setCookie(knownCookie, known)
	}
	x.view, err = x.p.View(x.ctx, state.Linearizable)
	return s, err
}

func cut(s string, most int) string { return strings.ToValidUTF8(s[:min(len(s), most)], "") }

// consent answers POST /consent: allow or deny. The sealed request says what was shown,
// so nothing can be added between page and answer (AUT-15).
func (p *pages) consent(x *visit) error {
	r, err := x.flow()
	if err != nil {
		return err
	}
	s, user, err := x.present()
	if err != nil {
		return err
	}
	if r.GetPage() != "" {
		return errOtherPage
	}
	if x.form.Get("decision") != "allow" {
		return refuse(r, oauth.AccessDenied.With("the user denied it"))
	}
	who := authorize.Present{Session: s, User: user}
	step, err := p.Engine.Next(x.view, r, who)
	if err != nil {
		return err
	}
	// The session has ended meanwhile, or there is nothing to ask, or something else.
	if step != authorize.Consent || !authorize.WasShown(x.view, r, who) {
		return x.next(r, who, "")
	}
	if err := p.Consents.Remember(x.ctx, &state.Consent{
		Tenant: x.tenant, User: user.GetId(), ClientId: r.GetClientId(),
		Scopes: strings.Fields(r.GetScope()), Resources: r.GetResources(), Claims: authorize.Claims(x.view, r, user),
	}); err != nil {
		return err
	}
	if x.view, err = p.View(x.ctx, state.Linearizable); err != nil {
		return err
	}
	if err := p.Engine.Consented(x.view, r, user); err != nil {
		return err
	}
	return x.onward(r, who)
}
