package pages

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
)

// Paths of a user's own pages.
const (
	AccountPath       = "/account"
	sessionsPath      = "/account/sessions"
	consentsPath      = "/account/consents"
	authenticatorPath = "/account/authenticator"
	addPasskeyPath    = "/account/passkey"
	recoveryPath      = "/account/recovery"
	removePath        = "/account/remove"
	passwordPath      = "/account/password"
)

// How old the last proof of a user may be, in seconds.
const (
	anyAge   = -1
	stepUp   = 300 // to see a page that changes how they sign in
	stepUpIn = 900 // to send its form
)

// lines bounds each list of the account page; what is left is on pages of its own.
const lines = 100

// View models of the account.
type (
	sessionLine struct {
		ID, Agent, Address, Since string
		Here                      bool
	}
	consentLine struct {
		ID, Name, Since string
		Scopes, Claims  []scope
		Resources       []string
	}
	factorLine  struct{ ID, Name, Added, Used string }
	accountPage struct {
		Base, Token, User string
		Done, HasPassword bool
		Sessions          []sessionLine
		Consents          []consentLine
		Authenticator     *factorLine
		Passkeys          []factorLine
		CanPasskey        bool
		Factors           bool
		Codes             int
		// Where the lists go on; "" at their ends. Later: this page is no first one.
		SessionsNext, ConsentsNext string
		Later                      bool
	}
)

// accountRoutes are the lines of a user's own pages. What they show is read here and now;
// what they change is decided on what is newest.
func (p *pages) accountRoutes(route func(method, path string, read state.Freshness, serve func(*visit) error) httpapi.Route) []httpapi.Route {
	return []httpapi.Route{
		route("GET", AccountPath, state.Linearizable, p.account),
		route("POST", sessionsPath, state.Linearizable, p.endSessions),
		route("POST", consentsPath, state.Linearizable, p.forgetConsent),
		route("GET", authenticatorPath, state.Linearizable, p.showAuthenticator),
		route("POST", authenticatorPath, state.Linearizable, p.addAuthenticator),
		route("GET", addPasskeyPath, state.Linearizable, p.showPasskey),
		route("POST", addPasskeyPath, state.Linearizable, p.addPasskey),
		route("GET", recoveryPath, state.Linearizable, p.askRecovery),
		route("POST", recoveryPath, state.Linearizable, p.makeRecovery),
		route("GET", removePath, state.Linearizable, p.askRemove),
		route("POST", removePath, state.Linearizable, p.remove),
		route("GET", passwordPath, state.Linearizable, p.showPassword),
		route("POST", passwordPath, state.Linearizable, p.changePassword),
	}
}

// owner is whose account it is: who is signed in, by both factors where there are two, and
// recently enough. Where there is nobody, ok is false and the page of what they must do
// first has been shown; page is where they go on afterwards.
func (x *visit) owner(page string, maxAge int64) (who authorize.Present, ok bool, err error) {
	s, user, err := x.present()
	if err != nil {
		return authorize.Present{}, false, err
	}
	who = authorize.Present{Session: s, User: user}
	r := x.p.Engine.Own(x.view, x.tenant, page, maxAge)
	r.LoginHint = user.GetUsername()
	step, err := x.p.Engine.Next(x.view, r, who)
	if err != nil || step == authorize.Done {
		return who, err == nil, err
	}
	if x.IsPost() { // what was sent may hold a password
		return authorize.Present{}, false, x.later(r)
	}
	return authorize.Present{}, false, x.next(r, who, "")
}

// sender is the owner who sends a form of page. The form must be one that this session
// was shown at this browser (WEB-01).
func (x *visit) sender(page string, maxAge int64) (authorize.Present, bool, error) {
	who, ok, err := x.owner(page, maxAge)
	if err != nil || !ok {
		return who, false, err
	}
	if subtle.ConstantTimeCompare([]byte(x.form.Get("token")), []byte(x.token(who.Session))) != 1 {
		return who, false, oauth.AccessDenied.With("this form is of another login; open the page again").WithStatus(fasthttp.StatusForbidden)
	}
	return who, true, nil
}

// token binds a form to a session at a browser. Nobody else can tell it, for the browser's
// cookie is in it.
func (x *visit) token(s *state.Session) string {
	sum := sha256.Sum256([]byte("account form\x00" + s.GetId() + "\x00" + x.browser()))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// moment is an instant as people read it.
func moment(millis int64) string {
	if millis == 0 {
		return ""
	}
	return time.UnixMilli(millis).UTC().Format("2006-01-02 15:04 UTC")
}

// account answers GET /account.
func (p *pages) account(x *visit) error {
	who, ok, err := x.owner(AccountPath, anyAge)
	if err != nil || !ok {
		return err
	}
	m := &accountPage{
		Base: x.below(AccountPath), Token: x.token(who.Session), User: who.User.GetUsername(), Done: x.form.Get("done") == "yes",
		HasPassword: who.User.GetPassword() != "",
	}
	if err := errors.Join(x.listSessions(m, who), x.listConsents(m, who.User), x.listFactors(m, who.User)); err != nil {
		return err
	}
	return x.page(fasthttp.StatusOK, "account", "", m)
}

func (x *visit) listSessions(m *accountPage, who authorize.Present) error {
	after := x.form.Get("sessions_after")
	rows, next, err := x.p.Sessions.Page(x.view, who.User, after, lines)
	if err != nil {
		return err
	}
	here := func(s *state.Session) bool { return s.GetId() == who.Session.GetId() }
	if after == "" && !slices.ContainsFunc(rows, here) {
		rows = append(rows, who.Session)
	}
	slices.SortStableFunc(rows, func(a, b *state.Session) int { return cmp.Compare(b.GetAuthTime(), a.GetAuthTime()) })
	for _, s := range rows {
		m.Sessions = append(m.Sessions, sessionLine{
			ID: s.GetId(), Agent: agentName(s.GetUserAgent()), Address: s.GetAddress(), Since: moment(s.GetAuthTime() * 1000), Here: here(s),
		})
	}
	m.SessionsNext, m.Later = next, m.Later || after != ""
	return nil
}

func (x *visit) listConsents(m *accountPage, user *state.User) error {
	after := x.form.Get("consents_after")
	ids, err := x.view.ConsentsOf(x.tenant, user.GetId(), after, lines+1)
	if err != nil {
		return err
	}
	if len(ids) > lines {
		ids = ids[:lines]
		m.ConsentsNext = ids[lines-1]
	}
	m.Later = m.Later || after != ""
	for _, id := range ids {
		c, err := x.view.Consent(x.tenant, user.GetId(), id)
		if err != nil {
			return err
		}
		name := id
		if client, ok := x.view.Client(x.tenant, id); ok {
			name = clientName(client)
		}
		m.Consents = append(m.Consents, consentLine{
			ID: id, Name: name, Since: moment(c.GetGrantedAt()), Scopes: x.scopes(strings.Join(c.GetScopes(), " ")), Claims: x.claims(c.GetClaims()), Resources: c.GetResources(),
		})
	}
	return nil
}

func (x *visit) listFactors(m *accountPage, user *state.User) error {
	held, err := x.p.Factors.Of(x.view, user)
	if err != nil {
		return err
	}
	line := func(c *state.Credential) factorLine {
		return factorLine{ID: c.GetId(), Name: c.GetName(), Added: moment(c.GetCreatedAt()), Used: moment(c.GetUsedAt())}
	}
	if held.TOTP != nil {
		one := line(held.TOTP)
		m.Authenticator = &one
	}
	for _, c := range held.Passkeys {
		m.Passkeys = append(m.Passkeys, line(c))
	}
	m.Factors, m.Codes = held.Any(), held.Codes
	m.CanPasskey, err = x.p.Factors.HavePasskeys(x.view, x.tenant)
	return err
}

// done shows the account again after a change.
func (x *visit) done() error { return x.see(AccountPath + "?done=yes") }

// endSessions answers POST /account/sessions: end names one, others=yes means all but this.
func (p *pages) endSessions(x *visit) error {
	who, ok, err := x.sender(AccountPath, anyAge)
	if err != nil || !ok {
		return err
	}
	if x.form.Get("others") != "" {
		if err := p.Sessions.EndOthers(x.ctx, x.view, who.User, who.Session.GetId()); err != nil {
			return err
		}
		return x.done()
	}
	sid := x.form.Get("end")
	if sid == who.Session.GetId() {
		return x.signOut(who.Session, "")
	}
	own, err := p.Sessions.Has(x.view, who.User, sid)
	if err != nil {
		return err
	}
	if own { // nobody ends another's
		if err := p.Sessions.End(x.ctx, x.tenant, sid); err != nil {
			return err
		}
	}
	return x.done()
}

// forgetConsent answers POST /account/consents.
func (p *pages) forgetConsent(x *visit) error {
	who, ok, err := x.sender(AccountPath, anyAge)
	if err != nil || !ok {
		return err
	}
	err = p.Consents.Forget(x.ctx, x.tenant, who.User.GetId(), x.form.Get("client"))
	if err != nil && !errors.Is(err, command.NotFound) && !errors.Is(err, command.Invalid) {
		return err
	}
	return x.done()
}
