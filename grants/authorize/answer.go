package authorize

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// Answer is what the client is sent through the browser.
type Answer struct {
	URI    string // the redirect URI, as registered
	Mode   string // query, fragment or form_post
	Params [][2]string
}

// answerLifetime is how long a signed answer is good, in seconds (JARM §2.1: ten minutes
// at most).
const answerLifetime = 300

// answer adds state and iss to what a client is told: in every answer, errors too (RFC
// 9207; AUT-11). A signed one has them inside.
func (e *Engine) answer(ctx context.Context, v *state.View, r *state.AuthorizationRequest, params ...[2]string) (*Answer, error) {
	issuer, err := e.cfg.Keys.Issuer(v, r.GetTenant())
	if err != nil {
		return nil, err
	}
	if r.GetState() != "" {
		params = append(params, [2]string{"state", r.GetState()})
	}
	mode, signed := strings.CutSuffix(r.GetResponseMode(), signedSuffix)
	params = append(params, [2]string{"iss", issuer})
	if signed {
		if params, err = e.sign(ctx, v, r, params); err != nil {
			return nil, err
		}
	}
	return &Answer{URI: r.GetRedirectUri(), Mode: mode, Params: params}, nil
}

// sign makes one parameter of them all (JARM §2.1).
func (e *Engine) sign(ctx context.Context, v *state.View, r *state.AuthorizationRequest, params [][2]string) ([][2]string, error) {
	said := map[string]any{"aud": r.GetClientId(), "exp": e.now(v) + answerLifetime, "iat": e.now(v)}
	for _, p := range params {
		said[p[0]] = p[1]
	}
	payload, err := json.Marshal(said)
	if err != nil {
		return nil, err
	}
	client, _ := v.Client(r.GetTenant(), r.GetClientId())
	alg := client.GetAuthorizationAlg()
	if alg == "" {
		alg = tokens.DefaultIDTokenAlg // JARM §4: RS256
	}
	signed, err := e.cfg.Minter.AppendSigned(ctx, nil, v, r.GetTenant(), alg, answerType, payload)
	return [][2]string{{"response", string(signed)}}, err
}

// answerType keeps a signed answer from passing for another kind of token.
const answerType = "oauth-authz-resp+jwt"

// Refuse is the answer of a refused request whose redirect URI is proved.
func (e *Engine) Refuse(ctx context.Context, v *state.View, r *state.AuthorizationRequest, refusal *oauth.Error) (*Answer, error) {
	params := [][2]string{{"error", string(refusal.Code())}}
	if refusal.Description() != "" {
		params = append(params, [2]string{"error_description", refusal.Description()})
	}
	return e.answer(ctx, v, r, params...)
}

// Location is the URL of an answer in the query or the fragment. What the redirect URI
// has of a query stays (RFC 6749 §3.1.2).
func (a *Answer) Location() string {
	var b strings.Builder
	b.WriteString(a.URI)
	switch {
	case a.Mode == modeFragment:
		b.WriteByte('#')
	case strings.Contains(a.URI, "?"):
		b.WriteByte('&')
	default:
		b.WriteByte('?')
	}
	for i, p := range a.Params {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p[0] + "=" + url.QueryEscape(p[1]))
	}
	return b.String()
}

// IsFormPost tells that the answer is posted by a page instead.
func (a *Answer) IsFormPost() bool { return a.Mode == modeFormPost }
