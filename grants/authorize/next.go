package authorize

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// Step is what comes next for a request's user.
type Step uint8

// The steps.
const (
	Login   Step = iota + 1 // prove who you are
	Factor                  // prove it a second time
	Consent                 // say whether the client may
	Done                    // answer the client
	Page                    // go on at a page of ours
)

// Classes of authentication (acr): AAL of NIST SP 800-63B as the RFC 6711 registry has no
// better name for a password alone.
const (
	ACRPassword = grants.ACRPassword
	ACRFactors  = "urn:keyraft:acr:2fa"
)

// Login is who is signed in at the browser; Session is nil for nobody.
type Present struct {
	Session *state.Session
	User    *state.User
}

// FlowLifetime is how long a user may take to sign in, in seconds.
const FlowLifetime = 3600

// Next says what the user must do before the client is answered. v is at least as fresh
// as the session and the consent that count. The error is *Failure: with prompt=none what
// would need a page (AUT-12), or a flow that has taken too long.
func (e *Engine) Next(v *state.View, r *state.AuthorizationRequest, who Present) (Step, error) {
	if r.GetPage() != "" {
		return e.own(v, r, who)
	}
	if r.GetWaiting() != "" && r.GetClientId() == "" {
		return e.entry(v, r, who)
	}
	client, ok := v.Client(r.GetTenant(), r.GetClientId())
	if !ok || client.GetDisabled() || client.GetCreatedAt() != r.GetClientCreatedAt() || r.GetEpoch() != v.Epoch() ||
		e.now(v) > r.GetStartedAt()+FlowLifetime {
		return 0, &Failure{Err: oauth.InvalidRequest.With("this login has taken too long, or its client is gone; start again at the application")}
	}
	quiet := slices.Contains(r.GetPrompt(), "none")
	step, refusal, err := e.login(v, client, r, who)
	if err != nil {
		return 0, err
	}
	if step != 0 {
		if quiet {
			return 0, &Failure{Err: refusal, Request: r}
		}
		return step, nil
	}
	tenant, _ := v.Tenant(r.GetTenant())
	asked := ""
	if r.GetScopeGiven() {
		asked = r.GetScope()
	}
	if err := narrow(v, tenant, client, who.User, r, asked); err != nil {
		return 0, err
	}
	needed, err := e.consent(v, client, r, who)
	switch {
	case err != nil:
		return 0, err
	case needed && quiet:
		return 0, &Failure{Err: oauth.ConsentRequired.With("the user has to consent to this client first"), Request: r}
	case needed && r.GetWaiting() != "":
		return Page, nil
	case needed:
		return Consent, nil
	}
	return Done, nil
}

// Authenticated notes in a request that its user has just proved who they are, in its own
// course. It travels on sealed, so no form field of a browser can say it (AUT-13).
func Authenticated(r *state.AuthorizationRequest, s *state.Session) {
	r.User, r.AuthenticatedAt, r.Amr = s.GetUser(), s.GetAuthTime(), nil
}

// login tells whether the login that is there is good enough. One that was not made in
// the course of this request is not, where the client asked for a fresh one.
func (e *Engine) login(v *state.View, client *state.Client, r *state.AuthorizationRequest, who Present) (Step, *oauth.Error, error) {
	s := who.Session
	if s == nil {
		return Login, oauth.LoginRequired.With("nobody is signed in"), nil
	}
	fresh := r.GetAuthenticatedAt() != 0 && r.GetAuthenticatedAt() == s.GetAuthTime() && r.GetUser() == s.GetUser()
	if (slices.Contains(r.GetPrompt(), "login") || slices.Contains(r.GetPrompt(), "select_account")) && !fresh {
		return Login, oauth.LoginRequired.With("the client asked for a fresh login"), nil
	}
	if r.GetMaxAge() >= 0 && !fresh && e.now(v)-s.GetAuthTime() > r.GetMaxAge() {
		return Login, oauth.LoginRequired.With("the login is older than max_age"), nil
	}
	if r.GetHintSubject() != "" {
		if sub, _, err := e.cfg.Subjects.Subject(v, client, who.User.GetId()); err != nil || sub != r.GetHintSubject() {
			return Login, oauth.LoginRequired.With("another user than that of id_token_hint is signed in"), nil
		}
	}
	if identity.MustChange(who.User, s.GetAmr()) { // the login page asks for another password
		return Login, oauth.LoginRequired.With("the user must set a new password"), nil
	}
	needed, err := identity.FactorNeeded(v, who.User, s.GetAmr())
	if err != nil {
		return 0, nil, err
	}
	if needed || FactorAsked(r, s.GetAmr()) {
		return Factor, oauth.InteractionRequired.With("a second factor is needed"), nil
	}
	return 0, nil, nil
}

// FactorAsked tells whether the client wants a login in two ways, and this is none
// (acr_values, RFC 9470). They are in the order of its liking, and each of them will do
// (OpenID Connect Core §3.1.2.1).
func FactorAsked(r *state.AuthorizationRequest, amr []string) bool {
	return slices.Contains(r.GetAcrValues(), ACRFactors) && !slices.Contains(r.GetAcrValues(), ACRPassword) && !slices.Contains(amr, identity.AMRFactors)
}

// consent tells whether the user must be asked. What is remembered counts unless the
// client wants them asked anew.
func (e *Engine) consent(v *state.View, client *state.Client, r *state.AuthorizationRequest, who Present) (bool, error) {
	if r.GetConsentedAt() != 0 {
		return e.remembered(v, r, who)
	}
	if slices.Contains(r.GetPrompt(), "consent") {
		return true, nil
	}
	if client.GetSkipConsent() {
		return false, nil
	}
	if len(r.GetDetails()) > 0 { // each is another (RFC 9396 §11.2)
		return true, nil
	}
	// Without openid no claim is told. Who the user is, a token tells all the same: to a
	// stranger, and to the API that it is for, only after they were asked.
	if r.GetScope() == "" && len(r.GetResources()) == 0 && !client.GetSelfRegistered() {
		return false, nil
	}
	return e.remembered(v, r, who)
}

// Consented notes in a request that its user has just been asked, and has allowed it. It
// counts while that consent stands: one that was taken back is asked for anew.
func (e *Engine) Consented(v *state.View, r *state.AuthorizationRequest, user *state.User) error {
	c, err := v.Consented(r.GetTenant(), user.GetId(), r.GetClientId())
	if err != nil && !e.cfg.Absent(err) {
		return err
	}
	r.ConsentedAt = c.GetGrantedAt()
	return nil
}

// remembered tells whether the user must be asked, by what they have allowed before.
func (e *Engine) remembered(v *state.View, r *state.AuthorizationRequest, who Present) (bool, error) {
	c, err := v.Consented(r.GetTenant(), who.User.GetId(), r.GetClientId())
	if e.cfg.Absent(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if at := r.GetConsentedAt(); at != 0 && at != c.GetGrantedAt() {
		return true, nil
	}
	return !covers(c.GetScopes(), strings.Fields(r.GetScope())) || !covers(c.GetResources(), r.GetResources()) ||
		!covers(c.GetClaims(), Claims(v, r, who.User)), nil
}

// Claims are the claims that a request asks for by name, beside those that its scopes
// bring, and that are known of the user, in order: the user is asked about them too
// (OpenID Connect Core §5.5).
func Claims(v *state.View, r *state.AuthorizationRequest, user *state.User) []string {
	request, err := identity.ParseClaimsRequest(r.GetClaims())
	if err != nil || !slices.Contains(strings.Fields(r.GetScope()), "openid") {
		return nil
	}
	brought := identity.ScopeClaims(v, r.GetTenant(), r.GetScope())
	var names []string
	for _, asked := range slices.Concat(request.Userinfo, request.IDToken) {
		if !slices.Contains(brought, asked.Name) && !slices.Contains(names, asked.Name) {
			names = append(names, asked.Name)
		}
	}
	slices.Sort(names)
	return identity.ClaimsOf(v, user, names)
}

// Show notes in a request what the page that asks about it shows, and to whom. It travels
// on sealed, so the answer is one to that (AUT-15).
func Show(v *state.View, r *state.AuthorizationRequest, who Present) { r.Shown = shown(v, r, who) }

// WasShown tells whether the page that is answered has shown what is asked now, to whom is
// signed in now: another user may have come in another tab, and the client may ask for
// more where it named no scope.
func WasShown(v *state.View, r *state.AuthorizationRequest, who Present) bool {
	return subtle.ConstantTimeCompare(r.GetShown(), shown(v, r, who)) == 1
}

func shown(v *state.View, r *state.AuthorizationRequest, who Present) []byte {
	h := sha256.New()
	for _, part := range append([]string{who.Session.GetId(), who.User.GetId(), r.GetScope()}, Claims(v, r, who.User)...) {
		_, _ = fmt.Fprintf(h, "%d:%s", len(part), part) // a hash takes all
	}
	return h.Sum(nil)
}

func covers(have, want []string) bool {
	return !slices.ContainsFunc(want, func(s string) bool { return !slices.Contains(have, s) })
}

// Finish answers the client for a user who has done all that Next asks for. A pushed
// request is used up by it (RFC 9126 §4).
func (e *Engine) Finish(ctx context.Context, v *state.View, r *state.AuthorizationRequest, who Present) (*Answer, error) {
	client, ok := v.Client(r.GetTenant(), r.GetClientId())
	if !ok || r.GetWaiting() != "" {
		return nil, &Failure{Err: oauth.InvalidRequest.With("the client is gone; start again at the application")}
	}
	if r.GetPushed() != "" {
		if err := e.consume(ctx, r); err != nil {
			return nil, err
		}
	}
	a, err := e.allowed(v, client, r, who)
	if err != nil {
		return nil, err
	}
	params, err := e.give(ctx, v, r, client, a)
	var refusal *oauth.Error
	if errors.As(err, &refusal) {
		return nil, &Failure{Err: refusal, Request: r}
	}
	if err != nil {
		return nil, err
	}
	return e.answer(ctx, v, r, params...)
}

// give makes what the response type asks for. The code and the tokens beside it are two
// grants: who holds one can't end the other.
func (e *Engine) give(ctx context.Context, v *state.View, r *state.AuthorizationRequest, client *state.Client, a *state.Authorization) ([][2]string, error) {
	var params [][2]string
	code := ""
	if gives(r, "code") {
		own := proto.CloneOf(a)
		own.Grant = tokens.NewGrantID()
		c := &state.AuthorizationCode{
			Id: own.Grant, ExpiresAt: e.now(v) + grants.CodeLifetime, ClientCreatedAt: client.GetCreatedAt(), Epoch: v.Epoch(), Challenge: r.GetChallenge(),
			Offline: slices.Contains(strings.Fields(r.GetScope()), "offline_access"), Authorization: own,
		}
		if r.GetRedirectUriGiven() {
			c.RedirectUri = r.GetRedirectUri()
		}
		var err error
		if code, err = grants.SealCode(e.cfg.Boxes, v, c); err != nil {
			return nil, err
		}
		params = append(params, [2]string{"code", code})
	}
	only := map[[2]bool]grants.Front{{true, false}: grants.FrontToken, {false, true}: grants.FrontID, {true, true}: grants.FrontBoth}[[2]bool{gives(r, "token"), gives(r, "id_token")}]
	if only == 0 {
		return params, nil
	}
	a.Grant, a.Jkt = tokens.NewGrantID(), ""
	out := &grants.Answer{}
	if err := e.cfg.Pipeline.Implicit(ctx, v, a, only, code, r.GetState(), out); err != nil {
		return nil, err
	}
	if only != grants.FrontID {
		params = append(params, [2]string{"access_token", string(out.Token)}, [2]string{"token_type", "Bearer"},
			[2]string{"expires_in", strconv.FormatInt(out.ExpiresIn, 10)}, [2]string{"scope", out.Scope})
	}
	if only != grants.FrontToken {
		params = append(params, [2]string{"id_token", string(out.ID)})
	}
	return params, nil
}

// consume uses a pushed request up.
func (e *Engine) consume(ctx context.Context, r *state.AuthorizationRequest) error {
	result, err := e.cfg.Propose(ctx, &command.Consume{
		Tenant: r.GetTenant(), ValueKind: pushedKind, Id: r.GetPushed(), ExpiresAt: r.GetStartedAt() + FlowLifetime + 60,
	})
	if err != nil {
		return fmt.Errorf("use a pushed request: %w", err)
	}
	switch result.Reject {
	case command.Accepted:
		return nil
	case command.AlreadyUsed, command.AlreadyExpired:
		return &Failure{Err: errPushedUsed, Request: r}
	}
	return fmt.Errorf("use a pushed request: %w", result.Reject)
}

// flowLabel keeps a request in flight to its tenant.
func flowLabel(tenant string) string { return "authorization request\x00" + tenant }

// SealFlow makes the value that travels through the browser while its user signs in.
// browser is the hash of the cookie that it is bound to (AUT-16).
func (e *Engine) SealFlow(v *state.View, r *state.AuthorizationRequest, browser string) (string, error) {
	r.Browser = browser
	return e.seal(v, flowLabel(r.GetTenant()), r)
}

func (e *Engine) seal(v *state.View, label string, r *state.AuthorizationRequest) (string, error) {
	plain, err := proto.Marshal(r)
	if err != nil {
		return "", err
	}
	return e.cfg.Boxes.Seal(v, label, plain)
}

// OpenFlow gives back what SealFlow made for this browser. The error is *Failure.
func (e *Engine) OpenFlow(v *state.View, tenant, value, browser string) (*state.AuthorizationRequest, error) {
	r, err := e.open(v, flowLabel(tenant), value)
	if err != nil {
		return nil, err
	}
	if r == nil || r.GetBrowser() != browser || r.GetTenant() != tenant {
		return nil, &Failure{Err: oauth.InvalidRequest.With("this page belongs to another login, or its time is over; start again at the application")}
	}
	return r, nil
}

func (e *Engine) open(v *state.View, label, value string) (*state.AuthorizationRequest, error) {
	plain, ok, err := e.cfg.Boxes.Open(v, label, value)
	if err != nil || !ok {
		return nil, err
	}
	r := &state.AuthorizationRequest{}
	if proto.Unmarshal(plain, r) != nil {
		return nil, nil
	}
	return r, nil
}

// requestURI is what a pushed request's name begins with (RFC 9126 §2.2).
const requestURI = "urn:ietf:params:oauth:request_uri:"

// pushedKind is the kind of one-time value that a pushed request is.
const pushedKind = "pushed request"

var errPushedUsed = oauth.InvalidRequestURI.With("the request_uri was used before; push the request again")

// PushedLifetime is how long a pushed request waits for its user, in seconds.
const PushedLifetime = 90

func pushedLabel(tenant string) string { return "pushed authorization request\x00" + tenant }

// SealPushed makes the request_uri of a pushed request.
func (e *Engine) SealPushed(v *state.View, r *state.AuthorizationRequest) (string, error) {
	r.Pushed = r.GetId()
	sealed, err := e.seal(v, pushedLabel(r.GetTenant()), r)
	return requestURI + sealed, err
}

// pushed finds the request of a request_uri: what else the browser brought is ignored
// (AUT-19).
func (e *Engine) pushed(v *state.View, client *state.Client, uri string) (*state.AuthorizationRequest, error) {
	refused := &Failure{Err: oauth.InvalidRequestURI.With("request_uri is none that this client has pushed here, or its time is over; push the request again")}
	sealed, ok := strings.CutPrefix(uri, requestURI)
	if !ok {
		return nil, refused
	}
	r, err := e.open(v, pushedLabel(client.GetTenant()), sealed)
	if err != nil {
		return nil, err
	}
	if r == nil || r.GetClientId() != client.GetId() || r.GetClientCreatedAt() != client.GetCreatedAt() || r.GetEpoch() != v.Epoch() ||
		e.now(v) > r.GetStartedAt()+PushedLifetime || !clients.RedirectMatches(client.GetRedirectUris(), r.GetRedirectUri()) {
		return nil, refused
	}
	// What was used is told before its user is asked to sign in for it; consume says it
	// for good.
	if _, err := v.Consumed(r.GetTenant(), pushedKind, r.GetPushed()); err == nil {
		return nil, &Failure{Err: errPushedUsed, Request: r}
	} else if !e.cfg.Absent(err) {
		return nil, err
	}
	return r, nil
}
