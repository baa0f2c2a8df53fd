package oauthapi

import (
	"net/url"

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
	path    string // of the authorization endpoint
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
	shown, err := h.bind(c, proof.View, request)
	if err != nil {
		return err
	}
	// What can't be answered uses nothing up.
	uri, err := h.seal(proof.View, request)
	if err != nil {
		return err
	}
	if shown != nil {
		if err := h.proofs.Use(httpapi.Context(c), shown); err != nil {
			return err
		}
	}
	if err := h.clients.Consume(httpapi.Context(c), &proof); err != nil {
		return err
	}
	return httpapi.JSON(c, fasthttp.StatusCreated, struct {
		URI       string `json:"request_uri"`
		ExpiresIn int    `json:"expires_in"`
	}{uri, authorize.PushedLifetime})
}

// seal gives the request its name, unless the browser's request with it would be refused
// as too long: RFC 9126 §2.3. The whole URL is counted, so that what stands before the
// target leaves room for what a client sends beside client_id and request_uri.
func (h *par) seal(v *state.View, r *state.AuthorizationRequest) (string, error) {
	uri, err := h.engine.SealPushed(v, r)
	if err != nil {
		return "", err
	}
	issuer, err := h.keys.Issuer(v, r.GetTenant())
	if err != nil {
		return "", err
	}
	to := issuer + h.path + "?" + url.Values{"client_id": {r.GetClientId()}, "request_uri": {uri}}.Encode()
	if len(to) > httpapi.DefaultTarget {
		return "", oauth.InvalidRequest.Withf("the request is too long: the browser would carry a URL of %d bytes, and at most %d are taken; ask for fewer scopes, claims or authorization_details, or send a shorter state",
			len(to), httpapi.DefaultTarget).WithStatus(fasthttp.StatusRequestEntityTooLarge)
	}
	return uri, nil
}

// bind binds the code to come to the key of a DPoP proof of this request, as dpop_jkt
// would (RFC 9449 §10.1). The proof, nil for none, is not used up yet.
func (h *par) bind(c *fasthttp.RequestCtx, v *state.View, r *state.AuthorizationRequest) (*tokens.Shown, error) {
	text := httpapi.DPoP(c)
	if text == "" {
		return nil, nil
	}
	tenant := httpapi.Tenant(c)
	nonce, err := h.proofs.Nonce(v, tenant)
	if err != nil {
		return nil, err
	}
	httpapi.GiveNonce(c, nonce)
	issuer, err := h.keys.Issuer(v, tenant)
	if err != nil {
		return nil, err
	}
	shown, err := h.proofs.Read(v, tenant, text, verify.ProofExpect{Method: "POST", URL: issuer + PARPath})
	if err != nil {
		return nil, err
	}
	if r.GetJkt() != "" && r.GetJkt() != shown.JKT {
		return nil, oauth.InvalidDPoPProof.With("dpop_jkt names another key than that of the proof; send one of them, or the same key")
	}
	r.Jkt = shown.JKT
	return &shown, nil
}
