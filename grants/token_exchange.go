package grants

import (
	"context"
	"slices"
	"strings"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
	"github.com/keyraft/keyraft/tokens/verify"
)

// tokenExchange serves grant_type=urn:ietf:params:oauth:grant-type:token-exchange (RFC
// 8693): a token of ours, or a JWT of an issuer that the tenant trusts for it, for an
// access token of the client's own that can do no more, lives no longer, and goes with
// the one that it comes of: it has its grant and its root, so that revoking either
// takes the whole tree.
//
// What a client may do so stands in its registration (clients.Registration). A client
// that shows no actor token is itself named as the actor, unless impersonation is
// allowed or the token was its own.
type tokenExchange struct {
	assertions *assertions
	tokens     *tokens.Introspector
	subject    func(v *state.View, client *state.Client, user string) (subject, sector string, err error)
	absent     func(error) bool
}

func (tokenExchange) Type() oauth.GrantType { return oauth.GrantTokenExchange }

// Freshness is linearizable: a token that was revoked a moment ago at another node gives
// none (TOK-43).
func (tokenExchange) Freshness() state.Freshness { return state.Linearizable }

// shown is a subject or actor token that is good here and now.
type shown struct {
	subject string // its sub
	issuer  string // of another server; "": ours
	client  string // that it was issued to; "": another server's
	raw     string // payload, of a JWT
	act     []byte // who acts already
	expires int64  // seconds

	ours  *tokens.Shows // nil: of another issuer
	of    *assertion    // nil: ours
	login bool          // an ID token: its scope is that of its login
}

// Authorize decides. Errors: invalid_request for any subject or actor token that is not
// good (RFC 8693 §2.2.2), invalid_scope, invalid_target, unauthorized_client.
func (g tokenExchange) Authorize(ctx context.Context, in *Input, out *Decision) error {
	if in.Client.GetAuthMethod() == string(oauth.AuthNone) {
		return oauth.UnauthorizedClient.With("a public client cannot exchange tokens; register it as confidential")
	}
	issued, err := requestedType(in)
	if err != nil {
		return err
	}
	s, err := g.shown(ctx, in, "subject")
	if err != nil {
		return err
	}
	var actor *shown
	if in.Form.Get("actor_token") != "" || in.Form.Get("actor_token_type") != "" {
		if actor, err = g.shown(ctx, in, "actor"); err != nil {
			return err
		}
		if err := g.mayAct(in, actor); err != nil {
			return err
		}
	}
	user, err := g.whose(in, s, out)
	if err != nil {
		return err
	}
	if out.Authorization.Act, err = chain(in, s, actor); err != nil {
		return err
	}
	if out.Scope, err = exchangedScope(in, s, user); err != nil {
		return err
	}
	if out.Audience, err = exchangedAudience(in, s); err != nil {
		return err
	}
	out.Subject, out.Begun, out.IssuedTokenType, out.Until = out.Authorization.GetSubject(), true, issued, s.expires
	if actor != nil {
		out.Until = min(out.Until, actor.expires)
	}
	if s.ours != nil {
		out.Grant, out.Root = s.ours.Grant, s.ours.Root
		if out.Root == "" { // of an ID token, which has no id: none
			out.Root = s.ours.JTI
		}
		if out.RootClient = s.ours.RootClient; out.RootClient == "" && s.ours.ClientID != in.Client.GetId() {
			out.RootClient = s.ours.ClientID
		}
	}
	return nil
}

// requestedType is what is asked for: an access token, which is the default, or that as
// a JWT. No other type is made by exchange.
func requestedType(in *Input) (oauth.TokenType, error) {
	switch asked := oauth.TokenType(in.Form.Get("requested_token_type")); {
	case asked == "" || asked == oauth.TypeAccessToken:
		return oauth.TypeAccessToken, nil
	case asked == oauth.TypeJWT && in.Client.GetAccessTokenFormat() != formatOpaque:
		return oauth.TypeJWT, nil
	}
	return "", oauth.InvalidRequest.With("requested_token_type: access_token is what an exchange gives here, or jwt where the client's access tokens are JWTs")
}

// shown reads the subject or actor token of the request.
func (g tokenExchange) shown(ctx context.Context, in *Input, role string) (*shown, error) {
	text, kind := in.Form.Get(role+"_token"), oauth.TokenType(in.Form.Get(role+"_token_type"))
	if text == "" || kind == "" {
		return nil, oauth.InvalidRequest.Withf("%s_token and %s_token_type are needed, each with the other", role, role)
	}
	s, err := g.read(ctx, in, role, text, kind)
	if err != nil {
		return nil, err
	}
	if s.ours != nil {
		if s.ours.Tenant != in.Tenant.GetId() || !mayShow(in.Client, s) {
			return nil, notGood(role)
		}
		if err := proved(s.ours.Bound, s.ours.JKT, s.ours.X5T, in, oauth.InvalidRequest); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// notGood is the one answer for a token that is forged, expired, revoked, of another
// tenant, of the wrong type or not the client's to show.
func notGood(role string) error {
	return oauth.InvalidRequest.Withf("%s_token is not active, not of that %s_token_type, or not one that this client may exchange", role, role)
}

func (g tokenExchange) read(ctx context.Context, in *Input, role, text string, kind oauth.TokenType) (*shown, error) {
	ours, login := true, kind == oauth.TypeIDToken
	switch kind {
	case oauth.TypeAccessToken:
	case oauth.TypeIDToken, oauth.TypeJWT:
		t, err := verify.Parse(text)
		if err != nil {
			return nil, notGood(role)
		}
		ours = g.tokens.Ours(in.View, t.Claims.Issuer)
	default:
		return nil, oauth.InvalidRequest.Withf("%s_token_type must be that of an access_token, an id_token or a jwt (RFC 8693 §3)", role)
	}
	if !ours {
		return g.foreign(ctx, in, role, text)
	}
	var found *tokens.Shows
	var ok bool
	var err error
	if login {
		found, ok, err = g.tokens.IDToken(in.View, in.Tenant.GetId(), text)
	} else {
		found, ok, err = g.tokens.AccessToken(in.View, text)
	}
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notGood(role)
	}
	return &shown{
		subject: found.Subject, client: found.ClientID, raw: found.Raw, act: found.Act, expires: found.Expires, ours: found, login: login,
	}, nil
}

// foreign reads a JWT of an issuer that the tenant trusts for exchange.
func (g tokenExchange) foreign(ctx context.Context, in *Input, role, text string) (*shown, error) {
	x, err := g.assertions.read(ctx, in, text, subjectType, oauth.InvalidRequest)
	if err != nil {
		return nil, err
	}
	if !x.issuer.GetTokenExchange() {
		return nil, oauth.InvalidRequest.Withf("the issuer of %s_token is not trusted for token exchange; ask the tenant's administrator", role)
	}
	act, err := member(x.claims.Raw, "act")
	if err != nil {
		return nil, notGood(role)
	}
	return &shown{subject: x.subject, issuer: x.issuer.GetIssuer(), raw: x.claims.Raw, act: act, expires: x.claims.Expires, of: x}, nil
}

// mayShow tells whose tokens a client may exchange: its own, those that name it in aud,
// and those for the audiences that its registration names. An ID token is for its client
// alone.
func mayShow(client *state.Client, s *shown) bool {
	if s.client == client.GetId() {
		return true
	}
	return !s.login && slices.ContainsFunc(s.ours.Audience, func(a string) bool {
		return a == client.GetId() || slices.Contains(client.GetExchangeSubjects(), a)
	})
}

// mayAct holds the one who is to act against what has become of them since.
func (g tokenExchange) mayAct(in *Input, actor *shown) error {
	if actor.of != nil {
		if user := actor.of.user; user != nil && user.GetDisabled() {
			return notGood("actor")
		}
		return nil
	}
	_, _, err := g.speaksOf(in, actor, "actor")
	return err
}

// speaksOf tells of whom a token of ours speaks: a user of the tenant who may sign in
// now, or a client of it, whose own token it is or comes of.
func (g tokenExchange) speaksOf(in *Input, s *shown, role string) (user *state.User, client string, err error) {
	if s.subject == s.client && !s.login {
		return nil, s.client, nil // it was found enabled
	}
	user, err = in.View.UserBySubject(in.Tenant.GetId(), s.subject)
	switch {
	case err != nil && g.absent(err):
		of, ok := in.View.Client(in.Tenant.GetId(), s.subject)
		if !ok || of.GetDisabled() || s.login {
			return nil, "", notGood(role)
		}
		return nil, of.GetId(), nil
	case err != nil:
		return nil, "", err
	case user.GetDisabled() || s.login && user.GetSessionsAfter() >= s.ours.IssuedAt*1000:
		return nil, "", notGood(role)
	}
	return user, "", nil
}

// whose fills in who allowed it: the subject stays the one that the token names (TOK-44).
func (g tokenExchange) whose(in *Input, s *shown, out *Decision) (*state.User, error) {
	if s.of != nil {
		out.Vouched = s.of.issuer
		var err error
		if out.Details, err = ofDetails(in, nil); err != nil {
			return nil, err
		}
		out.Authorization, err = s.of.authorization(in, g.subject)
		return s.of.user, err
	}
	a := &state.Authorization{Subject: s.subject, AuthTime: s.ours.AuthTime, Acr: s.ours.ACR, Amr: s.ours.AMR, Session: s.ours.SessionID}
	out.Authorization = a
	var details []byte // rights of the client that has them; no other gets them by exchange
	if s.client == in.Client.GetId() {
		details = s.ours.Details
	}
	var user *state.User
	var err error
	if out.Details, err = ofDetails(in, details); err != nil {
		return nil, err
	}
	if user, out.OfClient, err = g.speaksOf(in, s, "subject"); err != nil {
		return nil, err
	}
	a.User = user.GetId()
	return user, nil
}

// exchangedScope is what of the client's and the user's scopes the token gives, too
// (TOK-44). It opens no userinfo and gives no refresh token. Another issuer's token that
// speaks of no scope leaves that to the rest.
func exchangedScope(in *Input, s *shown, user *state.User) (scope string, err error) {
	drop := in.Scope == "" || in.Tenant.GetSettings().GetNarrowScopes()
	if s.of != nil {
		if scope, err = s.of.scope(in); err != nil {
			return "", err
		}
		return capped(scope, drop, func(item string) bool {
			return !userOnly(item) && (s.of.claims.Scope == "" || carries(s.of.claims.Scope, item, in))
		})
	}
	if user == nil {
		scope, err = narrow(in.Scope, in.Client.GetScopes(), in.Tenant.GetSettings().GetNarrowScopes(), userOnly)
	} else {
		scope, err = Narrow(in.View, in.Tenant, in.Client, user, in.Scope)
	}
	if err != nil {
		return "", err
	}
	return capped(scope, drop, func(item string) bool { return !userOnly(item) && carries(s.ours.Scope, item, in) })
}

// carries tells whether a token's scope has an item, or one that includes it here.
func carries(scope, item string, in *Input) bool {
	for have := range strings.FieldsSeq(scope) {
		if in.View.Implies(in.Tenant.GetId(), have, item) {
			return true
		}
	}
	return false
}

// exchangedAudience is the token's own where none is asked for; what is asked for must be
// the token's, or one that the client may exchange for (TOK-44).
func exchangedAudience(in *Input, s *shown) ([]string, error) {
	var own []string
	if s.ours != nil && !s.login {
		own = s.ours.Audience
	}
	if len(in.Form.All("resource")) == 0 && len(in.Form.All("audience")) == 0 {
		if own != nil {
			return own, nil
		}
		return in.Audience, nil
	}
	for _, a := range in.Audience {
		if !slices.Contains(own, a) && !slices.Contains(in.Client.GetExchangeAudiences(), a) {
			return nil, oauth.InvalidTarget.Withf("%.200s is neither an audience of the subject token nor one that the client may exchange tokens for", a)
		}
	}
	return in.Audience, nil
}
