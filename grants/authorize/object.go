package authorize

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

const (
	objectType = "oauth-authz-req+jwt" // RFC 9101 §10.8
	// objectLife bounds exp - iat, and how long ago nbf may be, in seconds (FAPI 2.0 §5.3.2.1).
	objectLife = 3600
)

// object reads the request object of a request, if there is one (RFC 9101): signed by the
// client with a key that it has registered, or fetched from where it has registered. What
// stands beside it counts no more (§6.3; AUT-23). A refusal goes to the redirect URI only
// if that stands beside it, and is good (AUT-22).
func (e *Engine) object(ctx context.Context, v *state.View, tenant *state.Tenant, client *state.Client, form Form) (Form, error) {
	text, uri := form.Get("request"), form.Get("request_uri")
	if uri != "" {
		var refusal *oauth.Error
		if text, refusal = e.fetch(ctx, client, uri); refusal != nil {
			return nil, e.notObject(v, tenant, client, form, refusal)
		}
	}
	if text == "" {
		if grants.RequiresRequestObject(tenant, client) {
			return nil, e.notObject(v, tenant, client, form, oauth.InvalidRequest.With("this client must send its request as a signed request object (RFC 9101)"))
		}
		return form, nil
	}
	inside, refusal, err := e.openObject(ctx, v, tenant, client, text, uri != "")
	if err != nil {
		return nil, err
	}
	if refusal != nil {
		return nil, e.notObject(v, tenant, client, form, refusal)
	}
	return inside, nil
}

// notObject is the failure of a request object.
func (e *Engine) notObject(v *state.View, tenant *state.Tenant, client *state.Client, form Form, refusal *oauth.Error) *Failure {
	r := e.begin(v, tenant.GetId(), client)
	if form.Get("redirect_uri") == "" || redirect(r, tenant, client, form) != nil {
		return &Failure{Err: refusal}
	}
	if s := form.Get("state"); len(s) <= maxState {
		r.State = s
	}
	if mode := form.Get("response_mode"); known(mode) {
		r.ResponseMode = mode
	}
	return &Failure{Err: refusal, Request: r}
}

// openObject gives the parameters of a request object. One that was fetched just now, over
// TLS from where its client has registered, needs no signature unless the client is
// registered for one, and no end (OpenID Connect Core §6.1, §6.2).
func (e *Engine) openObject(ctx context.Context, v *state.View, tenant *state.Tenant, client *state.Client, text string, fetched bool) (Form, *oauth.Error, error) {
	bad := oauth.InvalidRequestObject
	if payload, ok := unsignedPayload(text); ok && fetched && client.GetRequestObjectAlg() == "" && !grants.RequiresRequestObject(tenant, client) {
		return inside(payload, client)
	}
	t, err := verify.Parse(text)
	if err != nil {
		if unsigned(text) && client.GetRequestObjectAlg() == "" {
			return nil, oauth.RequestNotSupported.With("request objects must be signed by a key of the client; alg none is served for those that are fetched from one of its request_uris"), nil
		}
		return nil, bad.With("the request object is no signed JWT of a form that is read here (RFC 9101 §4)"), nil
	}
	set, err := e.cfg.ClientKeys(ctx, client, t.Header.KeyID)
	if errors.Is(err, verify.ErrNoSet) {
		return nil, bad.With("the client has no keys to check its request object with, or they can't be fetched now"), nil
	}
	if err != nil {
		return nil, nil, err
	}
	key, ok := set.Lookup(t.Header.KeyID)
	key = key.For(client.GetRequestObjectAlg())
	if !ok || client.GetRequestObjectAlg() != "" && client.GetRequestObjectAlg() != key.Alg || t.Verify(key) != nil {
		return nil, bad.With("the request object is not signed by a key of the client, or not with its request_object_signing_alg"), nil
	}
	issuer, err := e.cfg.Keys.Issuer(v, client.GetTenant())
	if err != nil {
		return nil, nil, err
	}
	now, c := e.cfg.Now().Unix(), &t.Claims
	switch {
	case c.Type != "" && !strings.EqualFold(strings.TrimPrefix(c.Type, "application/"), objectType):
		return nil, bad.With("typ of the request object must be " + objectType + ", or missing"), nil
	case c.Issuer != client.GetId():
		return nil, bad.With("iss of the request object must be the client_id"), nil
	case c.Subject == client.GetId():
		return nil, bad.With("sub has no place in a request object: it would pass for a client assertion (RFC 9101 §10.8)"), nil
	}
	if fetched && c.Expires == 0 {
		c.Expires = now + 1
	}
	if err := t.Check(verify.Expect{Audience: []string{issuer}, Now: now, MaxLife: objectLife}); err != nil {
		return nil, bad.Withf("the request object is not good here and now: %v", err), nil
	}
	if c.NotBefore != 0 && c.NotBefore < now-objectLife {
		return nil, bad.With("nbf of the request object lies more than an hour back; sign a new one"), nil
	}
	return inside(c.Raw, client)
}

// inside are the parameters that a request object holds.
func inside(payload string, client *state.Client) (Form, *oauth.Error, error) {
	bad := oauth.InvalidRequestObject
	form, ok := membersOf(payload)
	switch {
	case !ok:
		return nil, bad.With("the request object holds a parameter of another kind than the endpoint takes"), nil
	case form.Get("request") != "" || form.Get("request_uri") != "":
		return nil, bad.With("request and request_uri have no place in a request object (RFC 9101 §4)"), nil
	case form.Get("client_id") != client.GetId():
		return nil, bad.With("client_id of the request object must be that of the request"), nil
	}
	return form, nil, nil
}

// maxFetching bounds the request objects that are being fetched, since each holds a
// request of ours up for as long as another server likes.
const maxFetching = 32

// fetch gets the request object of a request_uri, which the client must have registered
// just so (RFC 9101 §5.2, AUT-25).
func (e *Engine) fetch(ctx context.Context, client *state.Client, uri string) (string, *oauth.Error) {
	if !slices.Contains(client.GetRequestUris(), uri) {
		return "", oauth.InvalidRequestURI.With("request_uri is none that was given here by pushing a request, nor one of the client's registered request_uris")
	}
	select {
	case e.fetching <- struct{}{}:
		defer func() { <-e.fetching }()
	default:
		return "", oauth.TemporarilyUnavailable.With("too many request objects are being fetched; try again shortly")
	}
	at, _, _ := strings.Cut(uri, "#") // a digest at most, so that caches know versions apart
	body, err := e.cfg.FetchObject(ctx, at, verify.MaxSize)
	if err != nil {
		return "", oauth.InvalidRequestURI.Withf("the request object can't be had from the request_uri: %v", err)
	}
	return strings.TrimSpace(string(body)), nil
}

// unsignedPayload is that of a JWT of alg none.
func unsignedPayload(text string) (string, bool) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 || parts[2] != "" {
		return "", false
	}
	header, err1 := base64.RawURLEncoding.Strict().DecodeString(parts[0])
	payload, err2 := base64.RawURLEncoding.Strict().DecodeString(parts[1])
	var said struct {
		Alg string `json:"alg"`
	}
	return string(payload), err1 == nil && err2 == nil && json.Unmarshal(header, &said) == nil && said.Alg == "none"
}

// unsigned tells a JWT of alg none: header, payload, no signature.
func unsigned(text string) bool { return text != "" && text[len(text)-1] == '.' }

// members are the parameters of a request object.
type members map[string][]string

// Get is the one value of a parameter.
func (m members) Get(name string) string {
	if all := m[name]; len(all) == 1 {
		return all[0]
	}
	return ""
}

// All are the values of a parameter that may come more than once.
func (m members) All(name string) []string { return m[name] }

// membersOf reads parameters off a payload: texts and numbers as they are, JSON as its
// text (RFC 9101 §4), a list for the parameters that may come more than once.
func membersOf(payload string) (members, bool) {
	var all map[string]json.RawMessage
	if json.Unmarshal([]byte(payload), &all) != nil {
		return nil, false
	}
	out := members{}
	for name, raw := range all {
		switch name {
		case "iss", "aud", "exp", "iat", "nbf", "jti", "sub": // of the JWT, none of the request's
			continue
		case "claims", "authorization_details":
			out[name] = []string{string(raw)}
			continue
		}
		var text string
		var number int64
		var list []string
		switch {
		case json.Unmarshal(raw, &text) == nil:
			out[name] = []string{text}
		case json.Unmarshal(raw, &number) == nil:
			out[name] = []string{strconv.FormatInt(number, 10)}
		case (name == "resource" || name == "audience") && json.Unmarshal(raw, &list) == nil:
			out[name] = list
		case asked(name):
			return nil, false
		}
	}
	return out, true
}

// asked tells the parameters that this endpoint reads: what has another form is ignored
// only where it is none of them.
func asked(name string) bool {
	switch name {
	case "client_id", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce", "code_challenge", "code_challenge_method",
		"prompt", "max_age", "login_hint", "id_token_hint", "ui_locales", "acr_values", "resource", "audience", "dpop_jkt", "request", "request_uri":
		return true
	}
	return false
}
