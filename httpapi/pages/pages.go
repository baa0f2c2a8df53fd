// Package pages serves the browser: the authorization endpoint, login, consent, logout
// and the pages that say what went wrong. They are rendered here, work without script,
// and hold nothing of another origin.
//
// A request in flight travels through the browser in a hidden field, sealed and bound to
// a cookie of this browser: a form of another site's making has no such value, so it is
// refused (WEB-01, AUT-15, AUT-16). Whatever is posted is also held against Origin and
// Sec-Fetch-Site.
//
// Every POST is answered by a page or by 303, never by a redirect that keeps the method
// (AUT-18). Handlers are safe for concurrent use.
//
// Sources: RFC 6749 §4.1, RFC 9700 §4; OpenID Connect Core §3.1.2, RP-Initiated Logout;
// WCAG 2.2.
package pages

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
)

// Paths below a tenant's issuer.
const (
	AuthorizePath = "/oauth2/authorize"
	LogoutPath    = "/oauth2/logout"
	loginPath     = "/login"
	consentPath   = "/consent"
	assetsPath    = "/assets/{name}"
)

// Browser is what is kept of the browser that a session was made at.
type Browser struct{ UserAgent, Address string }

// Deps are the rooms that decide. All are needed.
type Deps struct {
	Engine *authorize.Engine
	View   func(ctx context.Context, f state.Freshness) (*state.View, error)
	Now    func() time.Time
	// Issuer tells, by its scheme, whether cookies are kept to TLS.
	Issuer func(v *state.View, tenant string) (string, error)
	// Check tells which user has this name and password; known: the browser has shown that
	// the user signs in here. A refusal is oauth.InvalidGrant with one text.
	Check func(ctx context.Context, v *state.View, tenant, username, password string, known bool) (*state.User, error)
	// Start makes a session and gives its cookie's value.
	Start func(ctx context.Context, v *state.View, tenant string, user *state.User, amr []string, acr string, b Browser) (cookie string, s *state.Session, err error)
	// Current finds the session of a cookie; nil for none. renewed is another value to
	// send, "" for none.
	Current func(v *state.View, tenant, cookie string) (s *state.Session, user *state.User, renewed string, err error)
	// End ends a session and what lives by it.
	End func(ctx context.Context, tenant, sid string) error
	// Remember keeps what a user allowed a client.
	Remember func(ctx context.Context, tenant, user, client string, scopes, resources []string) error
	// Hinted is the client, subject and session of a genuine ID token of ours, expired or
	// not; false for any other text.
	Hinted func(v *state.View, tenant, token string) (client, subject, sid string, ok bool)
}

type pages struct {
	Deps
	render *renderer
}

// Routes are the pages' lines of the routing table.
func Routes(d Deps) ([]httpapi.Route, error) {
	if d.Engine == nil || d.View == nil || d.Now == nil || d.Issuer == nil || d.Check == nil || d.Start == nil || d.Current == nil ||
		d.End == nil || d.Remember == nil || d.Hinted == nil {
		return nil, errors.New("pages: every member of Deps is needed")
	}
	render, err := newRenderer()
	if err != nil {
		return nil, err
	}
	p := &pages{d, render}
	route := func(method, path string, read state.Freshness, serve func(*visit) error) httpapi.Route {
		return httpapi.Route{Method: method, Path: path, Tenanted: true, Class: httpapi.OAuth, Read: read, Serve: p.visit(serve)}
	}
	return []httpapi.Route{
		// Session and consent are rows that another node may just have written.
		route("GET", AuthorizePath, state.Linearizable, p.authorize),
		route("POST", AuthorizePath, state.Linearizable, p.authorize),
		route("POST", loginPath, state.Linearizable, p.login),
		route("POST", consentPath, state.Linearizable, p.consent),
		route("GET", LogoutPath, state.Linearizable, p.logout),
		route("POST", LogoutPath, state.Linearizable, p.logout),
		{Method: "GET", Path: assetsPath, Class: httpapi.OAuth, NoView: true, Serve: p.asset},
	}, nil
}

// visit is one request of a browser.
type visit struct {
	*fasthttp.RequestCtx
	p      *pages
	ctx    context.Context
	view   *state.View
	tenant string
	form   httpapi.Values
	secure bool
	lang   string
}

// visit reads what every page needs, and turns what went wrong into a page or an answer
// to the client.
func (p *pages) visit(serve func(*visit) error) func(*fasthttp.RequestCtx, *state.View) error {
	return func(c *fasthttp.RequestCtx, v *state.View) error {
		x := &visit{RequestCtx: c, p: p, ctx: httpapi.Context(c), view: v, tenant: httpapi.Tenant(c)}
		x.lang = language("", string(c.Request.Header.Peek(fasthttp.HeaderAcceptLanguage)))
		err := x.read()
		if err == nil {
			err = serve(x)
		}
		return x.fail(err)
	}
}

func (x *visit) read() error {
	issuer, err := x.p.Issuer(x.view, x.tenant)
	if err != nil {
		return err
	}
	x.secure = strings.HasPrefix(issuer, "https://")
	if x.IsPost() {
		if err := sameOrigin(x, issuer); err != nil {
			return err
		}
		x.form, err = httpapi.Form(x.RequestCtx)
	} else {
		x.form, err = httpapi.Query(x.RequestCtx)
	}
	if err == nil {
		x.lang = language(x.form.Get("ui_locales"), string(x.Request.Header.Peek(fasthttp.HeaderAcceptLanguage)))
	}
	return err
}

// fail answers an error: to the client where its redirect URI is proved, else to the
// person. What is no refusal is the server's to answer.
func (x *visit) fail(err error) error {
	var failure *authorize.Failure
	var refusal *oauth.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failure) && failure.Request != nil:
		answer, err := x.p.Engine.Refuse(x.view, failure.Request, failure.Err)
		if err != nil {
			return err
		}
		return x.answer(answer)
	case errors.As(err, &refusal):
		return x.page(refusal.Status(), "error", "", &errorPage{Detail: refusal.Description(), Code: string(refusal.Code())})
	}
	return err
}

// answer sends the client its answer through the browser.
func (x *visit) answer(a *authorize.Answer) error {
	if a.IsFormPost() {
		return x.page(fasthttp.StatusOK, "form_post", origin(a.URI), &formPost{Action: a.URI, Params: a.Params})
	}
	x.noStore()
	x.Response.Header.Set(fasthttp.HeaderLocation, a.Location())
	x.SetStatusCode(fasthttp.StatusSeeOther)
	return nil
}

func (x *visit) noStore() {
	x.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	// With no-referrer a browser sends its own forms with "Origin: null", which is what a
	// form of a sandboxed page sends; this tells other origins as little.
	x.Response.Header.Set(fasthttp.HeaderReferrerPolicy, "same-origin")
}

// below is a path of the visit's tenant.
func (x *visit) below(path string) string {
	if x.tenant == "default" {
		return path
	}
	return "/t/" + x.tenant + path
}
