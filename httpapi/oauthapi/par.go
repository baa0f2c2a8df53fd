package oauthapi

import (
	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
	"github.com/keyraft/keyraft/tokens/verify"
)

// PARPath is where clients push authorization requests, below a tenant's issuer.
const PARPath = "/oauth2/par"

// par answers POST /oauth2/par (RFC 9126): the request is held against its client's
// registration and becomes its own name, sealed. Nothing is written.
type par struct {
	clients *clients.Authenticator
	engine  *authorize.Engine
	proofs  *tokens.Proofs
	keys    *tokens.SigningKeys
}

func (h *par) serve(c *fasthttp.RequestCtx, v *state.View) error {
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
	request, err := h.engine.Push(httpapi.Context(c), proof.View, proof.Client, &form)
	if err != nil {
		return err
	}
	if err := h.bind(c, proof.View, request); err != nil {
		return err
	}
	if err := h.clients.Consume(httpapi.Context(c), &proof); err != nil {
		return err
	}
	uri, err := h.engine.SealPushed(proof.View, request)
	if err != nil {
		return err
	}
	return httpapi.JSON(c, fasthttp.StatusCreated, struct {
		URI       string `json:"request_uri"`
		ExpiresIn int    `json:"expires_in"`
	}{uri, authorize.PushedLifetime})
}

// bind binds the code to come to the key of a DPoP proof of this request, as dpop_jkt
// would (RFC 9449 §10.1).
func (h *par) bind(c *fasthttp.RequestCtx, v *state.View, r *state.AuthorizationRequest) error {
	text := httpapi.DPoP(c)
	if text == "" {
		return nil
	}
	tenant := httpapi.Tenant(c)
	nonce, err := h.proofs.Nonce(v, tenant)
	if err != nil {
		return err
	}
	httpapi.GiveNonce(c, nonce)
	issuer, err := h.keys.Issuer(v, tenant)
	if err != nil {
		return err
	}
	shown, err := h.proofs.Read(v, tenant, text, verify.ProofExpect{Method: "POST", URL: issuer + PARPath})
	if err != nil {
		return err
	}
	if r.GetJkt() != "" && r.GetJkt() != shown.JKT {
		return oauth.InvalidDPoPProof.With("dpop_jkt names another key than that of the proof; send one of them, or the same key")
	}
	r.Jkt = shown.JKT
	return h.proofs.Use(httpapi.Context(c), &shown)
}
