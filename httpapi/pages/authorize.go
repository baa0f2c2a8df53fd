package pages

import (
	"errors"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/internal/oauth"
)

// authorize answers GET and POST /oauth2/authorize (RFC 6749 §3.1).
func (p *pages) authorize(x *visit) error {
	r, err := p.Engine.Parse(x.ctx, x.view, x.tenant, &x.form)
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

// next shows the page of what its user must do, or answers the client. wrong is what
// went wrong with the last try, a key of the catalogue.
func (x *visit) next(r *state.AuthorizationRequest, who authorize.Present, wrong string) error {
	step, err := x.p.Engine.Next(x.view, r, who)
	if err != nil {
		return err
	}
	if step == authorize.Done {
		answer, err := x.p.Engine.Finish(x.ctx, x.view, r, who)
		if err != nil {
			return err
		}
		return x.answer(answer)
	}
	flow, err := x.p.Engine.SealFlow(x.view, r, x.browser())
	if err != nil {
		return err
	}
	client, _ := x.view.Client(r.GetTenant(), r.GetClientId())
	switch step {
	case authorize.Login:
		return x.page(fasthttp.StatusOK, "login", origin(r.GetRedirectUri()), &loginPage{
			Action: x.below(loginPath), Flow: flow, Client: clientName(client), Hint: r.GetLoginHint(), Wrong: wrong,
		})
	case authorize.Consent:
		return x.page(fasthttp.StatusOK, "consent", origin(r.GetRedirectUri()), &consentPage{
			Action: x.below(consentPath), Flow: flow, Client: clientName(client), Unapproved: client.GetSelfRegistered(),
			User: who.User.GetUsername(), Scopes: x.scopes(r.GetScope()), Resources: r.GetResources(), Where: origin(r.GetRedirectUri()),
		})
	}
	return &authorize.Failure{Err: oauth.AccessDenied.With("a second factor is needed, and this user has none yet; ask an administrator"), Request: r}
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

// Methods of authentication (RFC 8176).
const amrPassword = "pwd"

// login answers POST /login: user name and password.
func (p *pages) login(x *visit) error {
	r, err := x.flow()
	if err != nil {
		return err
	}
	if x.form.Get("cancel") != "" {
		return &authorize.Failure{Err: oauth.AccessDenied.With("the user did not sign in"), Request: r}
	}
	username := x.form.Get("username")
	user, err := p.Check(x.ctx, x.view, x.tenant, username, x.form.Get("password"), false)
	if errors.Is(err, oauth.InvalidGrant) {
		r.LoginHint = cut(username, 256)
		return x.next(r, authorize.Present{}, "login.wrong")
	}
	if err != nil {
		return err
	}
	// A new login is a new session: whatever the browser had before it is worth nothing
	// (WEB-04).
	old, _, err := x.present()
	if err != nil {
		return err
	}
	cookie, s, err := p.Start(x.ctx, x.view, x.tenant, user, []string{amrPassword}, authorize.ACRPassword, Browser{
		UserAgent: cut(string(x.UserAgent()), 200), Address: x.RemoteIP().String(),
	})
	if err != nil {
		return err
	}
	if old != nil {
		if err := p.End(x.ctx, x.tenant, old.GetId()); err != nil {
			return err
		}
	}
	x.setCookie(sessionCookie, cookie)
	if x.view, err = p.View(x.ctx, state.Linearizable); err != nil { // that has the session
		return err
	}
	return x.next(r, authorize.Present{Session: s, User: user}, "")
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
	if x.form.Get("decision") != "allow" {
		return &authorize.Failure{Err: oauth.AccessDenied.With("the user denied it"), Request: r}
	}
	who := authorize.Present{Session: s, User: user}
	step, err := p.Engine.Next(x.view, r, who)
	if err != nil {
		return err
	}
	if step != authorize.Consent { // the session has ended meanwhile, or there is nothing to ask
		return x.next(r, who, "")
	}
	if err := p.Remember(x.ctx, x.tenant, user.GetId(), r.GetClientId(), strings.Fields(r.GetScope()), r.GetResources()); err != nil {
		return err
	}
	if x.view, err = p.View(x.ctx, state.Linearizable); err != nil {
		return err
	}
	answer, err := p.Engine.Finish(x.ctx, x.view, r, who)
	if err != nil {
		return err
	}
	return x.answer(answer)
}
