package oauthapi

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// userinfo answers GET and POST /oauth2/userinfo (OpenID Connect Core §5.3). Its view is
// linearizable: who was disabled before the request began is not told of.
type userinfo struct {
	clients  *clients.Authenticator
	keys     *tokens.SigningKeys
	tokens   *tokens.Introspector
	subjects *tokens.Subjects
	minter   *tokens.Minter
	absent   func(error) bool
	proofs   *tokens.Proofs
}

func (h *userinfo) serve(c *fasthttp.RequestCtx, v *state.View) error {
	scheme, token, err := accessToken(c)
	if err != nil {
		return err
	}
	s, ok, err := h.tokens.Holder(v, token)
	if err != nil {
		return err
	}
	if !ok || s.Tenant != httpapi.Tenant(c) {
		return errToken
	}
	if err := h.held(c, v, &s, scheme, token); err != nil {
		return err
	}
	if !slices.Contains(strings.Fields(s.Scope), scopeOpenID) {
		return oauth.InsufficientScope.With("userinfo needs a token of the scope openid").
			WithChallenge(httpapi.BearerChallenge + `, error="insufficient_scope", scope="openid"`)
	}
	user, client, err := h.user(v, &s)
	if err != nil {
		return err
	}
	names := identity.ScopeClaims(v, s.Tenant, s.Scope)
	for _, name := range s.Userinfo {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return h.answer(c, v, client, &s, identity.Claims(v, user, names))
}

const scopeOpenID = "openid"

// errToken tells nobody what is wrong with a token (INT-03), nor whether its user is
// gone or disabled (BEA-06).
var errToken = oauth.InvalidToken.With("the access token is unknown, expired or revoked, or not good here; get a new one")

// accessToken is the token of the request, and its scheme: in the header or, of a POST, in
// the form, and never in both (RFC 6750 §2, BEA-01). One in the form is a bearer token. One
// in the query is not looked at (BEA-02).
func accessToken(c *fasthttp.RequestCtx) (scheme, token string, err error) {
	inForm := ""
	if c.IsPost() && len(c.PostBody()) > 0 {
		form, err := httpapi.Form(c)
		if err != nil {
			return "", "", err
		}
		inForm = form.Get("access_token")
	}
	switch header := c.Request.Header.Peek(fasthttp.HeaderAuthorization); {
	case inForm != "" && len(header) != 0:
		return "", "", oauth.InvalidRequest.With("the access token stands in the header and in the body; send it once").
			WithChallenge(httpapi.BearerChallenge + `, error="invalid_request"`)
	case inForm != "":
		return "Bearer", inForm, nil
	}
	return httpapi.AccessToken(c)
}

// held asks for the proof of what a token is bound to: without one it is nobody's.
func (h *userinfo) held(c *fasthttp.RequestCtx, v *state.View, s *tokens.Subject, scheme, token string) error {
	issuer, err := h.keys.Issuer(v, s.Tenant)
	if err != nil {
		return err
	}
	cert, _ := httpapi.ClientCertificate(c)
	nonce, err := h.proofs.Held(httpapi.Context(c), v, s, &tokens.Presented{
		Scheme: scheme, Token: token, Proof: httpapi.DPoP(c), X5T: clients.Thumbprint(cert),
		Method: string(c.Method()), URL: issuer + UserinfoPath,
	})
	httpapi.GiveNonce(c, nonce)
	return err
}

// user finds whom the token speaks for. The subject must be the one under which the
// token's client knows them now: another sector's opens nothing (BEA-06).
func (h *userinfo) user(v *state.View, s *tokens.Subject) (*state.User, *state.Client, error) {
	client, ok := v.Client(s.Tenant, s.ClientID)
	if !ok {
		return nil, nil, errToken
	}
	user, err := v.UserBySubject(s.Tenant, s.Subject)
	if err != nil && h.absent(err) {
		return nil, nil, errToken
	}
	if err != nil {
		return nil, nil, err
	}
	subject, _, err := h.subjects.Subject(v, client, user.GetId())
	if err != nil {
		return nil, nil, err
	}
	if user.GetDisabled() || subject != s.Subject {
		return nil, nil, errToken
	}
	return user, client, nil
}

// answer writes JSON, or what the client registered: a signed JWT, an encrypted one, or
// one within the other (§5.3.2).
func (h *userinfo) answer(c *fasthttp.RequestCtx, v *state.View, client *state.Client, s *tokens.Subject, claims []identity.Claim) error {
	said := make(map[string]json.RawMessage, len(claims)+3)
	for _, claim := range claims {
		said[claim.Name] = claim.JSON
	}
	texts := map[string]string{"sub": s.Subject}
	alg, encryption := client.GetUserinfoAlg(), client.GetUserinfoEncryptedAlg()
	var keys []byte
	if encryption != "" {
		var err error
		if keys, err = h.clients.EncryptionKeys(httpapi.Context(c), client, encryption); err != nil {
			return err
		}
	}
	if alg != "" {
		issuer, err := h.keys.Issuer(v, s.Tenant)
		if err != nil {
			return err
		}
		texts["iss"], texts["aud"] = issuer, client.GetId()
	}
	for name, text := range texts {
		encoded, err := json.Marshal(text)
		if err != nil {
			return err
		}
		said[name] = encoded
	}
	body, err := json.Marshal(said)
	if err != nil {
		return err
	}
	contentType, cty := "application/json", ""
	if alg != "" {
		if body, err = h.minter.AppendSigned(httpapi.Context(c), nil, v, s.Tenant, alg, "JWT", body); err != nil {
			return err
		}
		contentType, cty = "application/jwt", "JWT"
	}
	if encryption != "" {
		if body, err = tokens.Encrypt(nil, keys, encryption, client.GetUserinfoEncryptedEnc(), cty, body); err != nil {
			return err
		}
		contentType = "application/jwt"
	}
	c.SetStatusCode(fasthttp.StatusOK)
	c.SetContentType(contentType)
	c.SetBody(body)
	return nil
}
