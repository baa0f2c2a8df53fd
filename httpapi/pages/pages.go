// Package pages serves the browser: the authorization endpoint, login, consent, logout,
// the pages at which a user decides for another device,
// and the pages that say what went wrong. They are rendered here, work without script,
// and hold nothing of another origin.
//
// A request in flight travels through the browser in a hidden field, sealed and bound to
// a cookie of this browser: a form of another site's making has no such value, so it is
// refused (WEB-01, AUT-15, AUT-16). Whatever is posted is also held against Origin and
// Sec-Fetch-Site.
//
// Every POST is answered by a page or by 303, never by a redirect that keeps the method
// (AUT-18). What proved or decided something is answered by 303, to the client or to the
// page of what comes next, so that neither Reload nor Back sends a password once more. Handlers are safe for concurrent use.
//
// Sources: RFC 6749 §4.1, RFC 9700 §4; OpenID Connect Core §3.1.2, RP-Initiated Logout;
// WCAG 2.2; RFC 8628 §3.3, §5.4.
package pages

import (
	"context"
	"errors"
	"html/template"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/grants/pending"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// Paths below a tenant's issuer.
const (
	AuthorizePath = "/oauth2/authorize"
	LogoutPath    = "/oauth2/logout"
	// wso2LogoutPath is where clients that are set up for WSO2's server send users.
	wso2LogoutPath = "/oidc/logout"
	loginPath      = "/login"
	continuePath   = "/continue"

	newPasswordPath = "/login/password"
	consentPath     = "/consent"
	passkeyPath     = "/passkey"
	factorPath      = "/factor"
	setupPath       = "/factor/setup"
	assetsPath      = "/assets/{name}"
)

// Deps are the rooms that decide. All are needed.
type Deps struct {
	Engine   *authorize.Engine
	View     func(ctx context.Context, f state.Freshness) (*state.View, error)
	Keys     *tokens.SigningKeys
	Users    *identity.Users
	Sessions *identity.Sessions
	Consents *identity.Consents
	Browsers *identity.Browsers
	Factors  *identity.Factors
	Resets   *identity.Resets
	Pending  *pending.Requests
}

type pages struct {
	Deps
	render *renderer
}

// Routes are the pages' lines of the routing table.
func Routes(d Deps) ([]httpapi.Route, error) {
	if d.Engine == nil || d.View == nil || d.Keys == nil || d.Users == nil || d.Sessions == nil || d.Consents == nil || d.Browsers == nil || d.Factors == nil || d.Resets == nil || d.Pending == nil {
		return nil, errors.New("pages: every member of Deps is needed")
	}
	render, err := newRenderer()
	if err != nil {
		return nil, err
	}
	p := &pages{d, render}
	route := func(method, path string, read state.Freshness, serve func(*visit) error) httpapi.Route {
		return httpapi.Route{Method: method, Path: path, Tenanted: true, Class: httpapi.Page, Read: read, Serve: p.visit(serve)}
	}
	return append([]httpapi.Route{
		// Session and consent are rows that another node may just have written.
		route("GET", AuthorizePath, state.Linearizable, p.authorize),
		route("POST", AuthorizePath, state.Linearizable, p.authorize),
		route("POST", loginPath, state.Linearizable, p.login),
		route("GET", continuePath, state.Linearizable, p.goOn),
		route("POST", newPasswordPath, state.Linearizable, p.newPassword),
		route("GET", ResetPath, state.Linearizable, p.reset),
		route("POST", ResetPath, state.Linearizable, p.setByLink),
		route("POST", consentPath, state.Linearizable, p.consent),
		route("GET", LogoutPath, state.Linearizable, p.logout),
		route("POST", LogoutPath, state.Linearizable, p.logout),
		route("GET", wso2LogoutPath, state.Linearizable, p.logout),
		route("POST", wso2LogoutPath, state.Linearizable, p.logout),
		route("GET", pending.DevicePath, state.Local, p.deviceForm),
		route("GET", "/oauth2"+pending.DevicePath, state.Local, p.deviceForm),
		route("POST", pending.DevicePath, state.Linearizable, p.device),
		route("GET", pending.RequestsPath, state.Linearizable, p.requests),
		route("POST", pending.RequestsPath, state.Linearizable, p.decide),
		{Method: "GET", Path: assetsPath, Class: httpapi.Page, NoView: true, Serve: p.asset},
		route("POST", passkeyPath, state.Linearizable, p.passkeyLogin),
		route("POST", factorPath, state.Linearizable, p.secondFactor),
		route("POST", setupPath, state.Linearizable, p.setUp),
	}, p.accountRoutes(route)...), nil
}

// visit is one request of a browser.
type visit struct {
	*fasthttp.RequestCtx
	p      *pages
	ctx    context.Context
	view   *state.View
	tenant string
	form   httpapi.Values
	twice  []string // parameters of an authorization request that came more than once
	secure bool
	lang   string
}

// visit reads what every page needs, and turns what went wrong into a page or an answer
// to the client.
func (p *pages) visit(serve func(*visit) error) func(*fasthttp.RequestCtx, *state.View) error {
	return func(c *fasthttp.RequestCtx, v *state.View) error {
		x := &visit{RequestCtx: c, p: p, ctx: httpapi.Context(c), view: v, tenant: httpapi.Tenant(c)}
		x.lang = language("", string(c.Request.Header.Peek(fasthttp.HeaderAcceptLanguage)))
		moved, err := x.read()
		if err == nil && !moved {
			err = serve(x)
		}
		return x.fail(err)
	}
}

// read decodes the request. moved tells that the browser was sent here once more: a form
// of another site's, which the endpoints that clients may send users to accept, comes
// without the cookies of this one; the same by GET comes with them (RFC 6265bis §5.6.7).
func (x *visit) read() (moved bool, err error) {
	issuer, err := x.p.Keys.Issuer(x.view, x.tenant)
	if err != nil {
		return false, err
	}
	x.secure = strings.HasPrefix(issuer, "https://")
	switch {
	case x.route() == AuthorizePath:
		x.form, x.twice, err = httpapi.Entry(x.RequestCtx)
	case x.IsPost():
		x.form, err = httpapi.Form(x.RequestCtx)
	default:
		x.form, err = httpapi.Query(x.RequestCtx)
	}
	if x.IsPost() && err == nil && !sameOrigin(x, issuer) {
		if moved = x.entrance() && len(x.PostBody()) <= maxMoved; moved {
			x.redirect(x.below(x.route()) + "?" + string(x.PostBody()))
			return true, nil
		}
		err = errOrigin
	}
	if err == nil {
		x.lang = language(x.form.Get("ui_locales"), string(x.Request.Header.Peek(fasthttp.HeaderAcceptLanguage)))
	}
	return false, err
}

// maxMoved bounds a form that becomes a query, in bytes: what servers and proxies take.
const maxMoved = 6 << 10

var errOrigin = oauth.AccessDenied.With("this form was not sent by a page of this server, or is too long to come from another one; open the application again").WithStatus(fasthttp.StatusForbidden)

// route is the path below the tenant's issuer.
func (x *visit) route() string {
	path := string(x.Path())
	if rest, ok := strings.CutPrefix(path, "/t/"+x.tenant); ok {
		return rest
	}
	return path
}

// entrance tells the endpoints to which clients send users by their own forms (OpenID
// Connect Core §3.1.2.1, RP-Initiated Logout §2).
func (x *visit) entrance() bool {
	return x.route() == AuthorizePath || x.route() == LogoutPath || x.route() == wso2LogoutPath
}

// redirect sends the browser on by GET (AUT-18).
func (x *visit) redirect(to string) {
	x.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	x.Response.Header.Set(fasthttp.HeaderReferrerPolicy, "same-origin")
	x.Response.Header.Set(fasthttp.HeaderLocation, to)
	x.SetStatusCode(fasthttp.StatusSeeOther)
}

// fail answers an error: to the client where its redirect URI is proved, else to the
// person. What is no refusal is the server's to answer.
func (x *visit) fail(err error) error {
	var failure *authorize.Failure
	var refusal *oauth.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failure) && failure.Request != nil && failure.Request.GetWaiting() == "":
		answer, err := x.p.Engine.Refuse(x.ctx, x.view, failure.Request, failure.Err)
		if err != nil {
			return err
		}
		if x.stranger(failure) {
			return x.offer(failure.Err, answer)
		}
		return x.answer(answer)
	case errors.As(err, &refusal):
		return x.page(refusal.Status(), "error", "", &errorPage{Detail: refusal.Description(), Code: string(refusal.Code())})
	}
	return err
}

// stranger tells a request that somebody who has registered themselves made so that it is
// refused at once: sent on by itself, the browser would have been brought from our address
// to any other by a link alone (RFC 9700 §4.11.2; AUT-17). What prompt=none is answered is
// meant for no person.
func (x *visit) stranger(f *authorize.Failure) bool {
	client, _ := x.view.Client(f.Request.GetTenant(), f.Request.GetClientId())
	if !client.GetSelfRegistered() || x.route() != AuthorizePath {
		return false
	}
	switch f.Err.Code() {
	case oauth.LoginRequired, oauth.ConsentRequired, oauth.InteractionRequired:
		return false
	}
	return true
}

// offer lets the person decide whether to go to where a refusal would have sent them.
func (x *visit) offer(refusal *oauth.Error, a *authorize.Answer) error {
	p := &errorPage{Detail: refusal.Description(), Code: string(refusal.Code()), Where: origin(a.URI)}
	if a.IsFormPost() {
		p.Action, p.Params = a.URI, a.Params
	} else {
		p.Link = template.URL(a.Location()) //nolint:gosec // of a redirect URI that is registered, which is of no script
	}
	return x.page(refusal.Status(), "error", origin(a.URI), p)
}

// answer sends the client its answer through the browser.
func (x *visit) answer(a *authorize.Answer) error {
	if a.IsFormPost() {
		return x.page(fasthttp.StatusOK, "form_post", origin(a.URI), &formPost{Action: a.URI, Params: a.Params})
	}
	x.redirect(a.Location())
	return nil
}

// below is a path of the visit's tenant.
func (x *visit) below(path string) string {
	if x.tenant == "default" {
		return path
	}
	return "/t/" + x.tenant + path
}
