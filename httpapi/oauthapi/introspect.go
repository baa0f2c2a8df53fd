package oauthapi

import (
	"errors"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// introspect answers POST /oauth2/introspect (RFC 7662). Its view is linearizable,
// so a token that was revoked before the request began is never active (I2).
type introspect struct {
	clients *clients.Authenticator
	tokens  *tokens.Introspector
	bearer  func(v *state.View, token string) (tokens.Caller, error)
	signed  *signedIntrospection
}

func (h *introspect) serve(c *fasthttp.RequestCtx, v *state.View) error {
	form, err := httpapi.Form(c)
	if err != nil {
		return err
	}
	caller, proof, err := h.caller(c, v, &form)
	if err != nil {
		return challenged(err)
	}
	token := form.Get("token")
	if token == "" {
		return oauth.InvalidRequest.With("token is missing")
	}
	if tokens.IsEncrypted(token) {
		return tokens.ErrEncrypted
	}
	if caller.Client != nil {
		if err := h.clients.Consume(httpapi.Context(c), &proof); err != nil {
			return challenged(err)
		}
		v = proof.View
	}
	answer, err := h.tokens.Introspect(v, &caller, token) // token_type_hint is not needed (§2.1)
	if err != nil {
		return err
	}
	if caller.Client != nil && wantsSigned(c) {
		return h.signed.answer(c, v, caller.Client, &answer)
	}
	c.SetStatusCode(fasthttp.StatusOK)
	c.SetContentType("application/json")
	var buf [1024]byte // most answers fit
	c.SetBody(answer.AppendJSON(buf[:0]))
	return nil
}

// challenged names both ways to authenticate in the refusal of a client; that of a
// bearer token names its own.
func challenged(err error) error {
	var refusal *oauth.Error
	if !errors.As(err, &refusal) || refusal.Code() != oauth.InvalidClient {
		return err
	}
	return refusal.WithChallenge(httpapi.BasicChallenge + ", " + httpapi.BearerChallenge)
}

// caller tells who asks: a gateway or an operator by bearer token, or a client that
// proves who it is. A public client proves nothing, so it gets nothing (INT-01).
func (h *introspect) caller(c *fasthttp.RequestCtx, v *state.View, form *httpapi.Values) (tokens.Caller, clients.Proof, error) {
	r := credentials(c, form)
	r.Linearizable = true
	if isBearer(r.Authorization) && r.Secret == "" && r.Assertion == "" && r.AssertionType == "" {
		token, err := httpapi.Bearer(c)
		if err != nil {
			return tokens.Caller{}, clients.Proof{}, err
		}
		caller, err := h.bearer(v, token)
		return caller, clients.Proof{}, err
	}
	proof, err := h.clients.Authenticate(httpapi.Context(c), v, &r)
	if err != nil {
		return tokens.Caller{}, clients.Proof{}, err
	}
	if proof.Client.GetAuthMethod() == string(oauth.AuthNone) {
		return tokens.Caller{}, clients.Proof{}, oauth.InvalidClient.With("introspection needs a client that proves who it is; register it as confidential")
	}
	return tokens.Caller{Client: proof.Client}, proof, nil
}
