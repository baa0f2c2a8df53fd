package oauthapi

import (
	"encoding/json"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/tokens"
)

// signedType is the typ of a signed answer of introspection, and its media type behind
// "application/" (RFC 9701 §5).
const signedType = "token-introspection+jwt"

// signedIntrospection writes answers of introspection that a client can show to others
// (RFC 9701).
type signedIntrospection struct {
	keys   *tokens.SigningKeys
	minter *tokens.Minter
	now    func() time.Time
}

// wantsSigned tells whether the request asks for the signed form by its name, and for no
// other one more: whoever takes anything gets JSON (INT-06).
func wantsSigned(c *fasthttp.RequestCtx) bool {
	signed := httpapi.Accepts(c, "application/"+signedType)
	return signed > 0 && signed >= httpapi.Accepts(c, "application/json")
}

// answer signs a JWT for the client that asked. What is said of the token stands under
// token_introspection, and nothing of it beside, so that the answer is good for nothing
// else (RFC 9701 §8.1); an inactive one has the same form.
func (s *signedIntrospection) answer(c *fasthttp.RequestCtx, v *state.View, client *state.Client, a *tokens.Answer) error {
	issuer, err := s.keys.Issuer(v, client.GetTenant())
	if err != nil {
		return err
	}
	payload, err := json.Marshal(struct {
		Issuer   string          `json:"iss"`
		Audience string          `json:"aud"`
		IssuedAt int64           `json:"iat"`
		Token    json.RawMessage `json:"token_introspection"`
	}{issuer, client.GetId(), max(s.now().Unix(), v.Clock()/1000), a.AppendJSON(nil)})
	if err != nil {
		return err
	}
	alg := client.GetIntrospectionAlg()
	if alg == "" {
		alg = tokens.DefaultIDTokenAlg // RFC 9701 §6
	}
	out, err := s.minter.AppendSigned(httpapi.Context(c), nil, v, client.GetTenant(), alg, signedType, payload)
	if err != nil {
		return err
	}
	c.SetStatusCode(fasthttp.StatusOK)
	c.SetContentType("application/" + signedType)
	c.SetBody(out)
	return nil
}
