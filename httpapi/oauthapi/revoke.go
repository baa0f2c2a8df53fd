package oauthapi

import (
	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// revoke answers POST /oauth2/revoke (RFC 7009): 200 once the revocation is
// committed and applied here, and for a token that needs none.
type revoke struct {
	clients *clients.Authenticator
	tokens  *tokens.Revoker
}

func (h *revoke) serve(c *fasthttp.RequestCtx, v *state.View) error {
	form, err := httpapi.Form(c)
	if err != nil {
		return err
	}
	r := credentials(c, &form)
	r.Linearizable = true
	proof, err := h.clients.Authenticate(httpapi.Context(c), v, &r)
	if err != nil {
		return err
	}
	token := form.Get("token")
	if token == "" {
		return oauth.InvalidRequest.With("token is missing")
	}
	if tokens.IsEncrypted(token) { // RFC 7009 §2.2.1
		return oauth.UnsupportedTokenType.With("the token is encrypted to its resource server's key, so it can't be told here which it is; revoke the refresh token of its grant, or the signed token inside")
	}
	if err := h.clients.Consume(httpapi.Context(c), &proof); err != nil {
		return err
	}
	if err := h.tokens.Revoke(httpapi.Context(c), proof.View, proof.Client, token); err != nil {
		return err
	}
	c.SetStatusCode(fasthttp.StatusOK)
	return nil
}
