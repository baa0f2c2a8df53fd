package grants

import (
	"context"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/pending"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
)

// backchannelKind is the kind of one-time value that an approved auth_req_id is.
const backchannelKind = "auth_req_id"

// Bounds of a CIBA request.
const (
	maxBindingMessage = 64  // characters, for a page and a small screen
	minExpiry         = 30  // seconds that a user needs at least
	maxACRValues      = 512 // bytes
)

// StartedBackchannel is the answer to a CIBA request (CIBA Core §7.3).
type StartedBackchannel struct {
	AuthReqID           string
	ExpiresIn, Interval int64 // seconds
}

// StartBackchannel answers POST /oauth2/bc-authorize (CIBA Core §7.1), for clients that
// prove who they are and poll. v is linearizable. Errors: those of CIBA Core §13.
func (p *Pipeline) StartBackchannel(ctx context.Context, v *state.View, req *Asking) (*StartedBackchannel, error) {
	proof, _, scope, details, err := p.asking(ctx, v, req, oauth.GrantCIBA)
	if err != nil {
		return nil, err
	}
	client, v := proof.Client, proof.View
	switch {
	case client.GetAuthMethod() == string(oauth.AuthNone):
		return nil, oauth.UnauthorizedClient.With("only clients that prove who they are may ask users by the back channel")
	case req.Form.Get("request") != "":
		return nil, oauth.InvalidRequest.With("signed requests are not served here; send the parameters themselves")
	case !within(scope, "openid"):
		return nil, oauth.InvalidScope.With("scope must hold openid, and the client must have it")
	}
	b := &state.BackchannelRequest{
		Tenant: client.GetTenant(), ClientId: client.GetId(), ClientGeneration: client.GetGeneration(), Scope: scope, Details: details,
		BindingMessage: req.Form.Get("binding_message"), AcrValues: req.Form.Get("acr_values"),
	}
	if !plainLine(b.BindingMessage) {
		return nil, oauth.InvalidBindingMessage.Withf("binding_message may have %d printable characters on one line", maxBindingMessage)
	}
	if len(b.AcrValues) > maxACRValues {
		return nil, oauth.InvalidRequest.Withf("acr_values is longer than %d bytes", maxACRValues)
	}
	life, err := backchannelLife(req.Form.Get("requested_expiry"))
	if err != nil {
		return nil, err
	}
	if b.Resources, err = targets(req.Form, client.GetResources()); err != nil {
		return nil, err
	}
	if b.User, err = p.hinted(v, client, req.Form); err != nil {
		return nil, err
	}
	if err := p.cfg.Clients.Consume(ctx, proof); err != nil {
		return nil, err
	}
	id, err := p.cfg.Pending.StartBackchannel(ctx, v, b, life)
	if err != nil {
		return nil, err
	}
	return &StartedBackchannel{id, life, b.GetInterval()}, nil
}

// plainLine tells a text that a page may show as it is: one short line without marks that
// turn it round or hide a part.
func plainLine(s string) bool {
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxBindingMessage {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}

// backchannelLife is how long a request waits, in seconds: what is asked for, within
// bounds.
func backchannelLife(asked string) (int64, error) {
	if asked == "" {
		return pending.BackchannelLifetime, nil
	}
	n, err := strconv.ParseInt(asked, 10, 32)
	if err != nil || n <= 0 {
		return 0, oauth.InvalidRequest.With("requested_expiry must be a positive number of seconds")
	}
	return min(max(n, minExpiry), pending.MaxBackchannelLifetime), nil
}

var errHint = oauth.UnknownUserID.With("the hint names no user who may sign in here")

// hinted finds the user whom a request is about, by exactly one hint (CIBA Core §7.1).
func (p *Pipeline) hinted(v *state.View, client *state.Client, form Form) (string, error) {
	name, token := form.Get("login_hint"), form.Get("id_token_hint")
	switch {
	case form.Get("login_hint_token") != "":
		return "", oauth.InvalidRequest.With("login_hint_token is not served here; send login_hint or id_token_hint")
	case (name == "") == (token == ""):
		return "", oauth.InvalidRequest.With("send login_hint or id_token_hint, one of the two")
	}
	user, err := p.userOfHint(v, client, name, token)
	if p.cfg.absent(err) {
		return "", errHint
	}
	if err != nil {
		return "", err
	}
	if user.GetDisabled() {
		return "", errHint
	}
	return user.GetId(), nil
}

func (p *Pipeline) userOfHint(v *state.View, client *state.Client, name, token string) (*state.User, error) {
	if name != "" {
		key, err := identity.FoldName(name)
		if err != nil {
			return nil, errHint
		}
		return v.UserByName(client.GetTenant(), key)
	}
	said, ok, err := p.cfg.Keys.Hint(v, client.GetTenant(), token)
	if err != nil {
		return nil, err
	}
	if !ok || said.ClientID != client.GetId() {
		return nil, oauth.InvalidRequest.With("id_token_hint is no ID token that this client got here")
	}
	return v.UserBySubject(client.GetTenant(), said.Subject)
}

// backchannel serves grant_type=urn:openid:params:grant-type:ciba by polling (CIBA Core
// §10.1, §11).
type backchannel struct{ cfg *Config }

func (backchannel) Type() oauth.GrantType { return oauth.GrantCIBA }

// Freshness is linearizable: see deviceCode.
func (backchannel) Freshness() state.Freshness { return state.Linearizable }

var errBackchannel = oauth.InvalidGrant.With("the auth_req_id is unknown, used, or not this client's; begin again at the backchannel authentication endpoint")

// Authorize answers a poll: see deviceCode.
func (g backchannel) Authorize(ctx context.Context, in *Input, out *Decision) error {
	if in.Client.GetAuthMethod() == string(oauth.AuthNone) {
		return oauth.UnauthorizedClient.With("only clients that prove who they are may ask users by the back channel")
	}
	value := in.Form.Get("auth_req_id")
	if value == "" {
		return oauth.InvalidRequest.With("auth_req_id is missing")
	}
	b, hash, err := g.cfg.Pending.Backchannel(in.View, in.Tenant.GetId(), value)
	if err != nil {
		return err
	}
	if b == nil || b.GetClientId() != in.Client.GetId() || in.Client.GetCreatedAt() > b.GetCreatedAt() {
		return errBackchannel
	}
	w := waited{backchannelKind, hash, b.GetStatus(), b.GetExpiresAt(), b.GetEpoch(), b.GetDecidedAt(), b.GetAuthorization(), b.GetResources()}
	return w.authorize(in, out, g.cfg, errBackchannel, func() error { return g.cfg.Pending.PollBackchannel(ctx, b, hash) })
}
