package authorize

import (
	"net/url"
	"strings"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// Answer is what the client is sent through the browser.
type Answer struct {
	URI    string // the redirect URI, as registered
	Mode   string // query, fragment or form_post
	Params [][2]string
}

// answer adds state and iss to what a client is told: in every answer, errors too (RFC
// 9207; AUT-11).
func (e *Engine) answer(v *state.View, r *state.AuthorizationRequest, params ...[2]string) (*Answer, error) {
	issuer, err := e.cfg.Keys.Issuer(v, r.GetTenant())
	if err != nil {
		return nil, err
	}
	if r.GetState() != "" {
		params = append(params, [2]string{"state", r.GetState()})
	}
	return &Answer{URI: r.GetRedirectUri(), Mode: r.GetResponseMode(), Params: append(params, [2]string{"iss", issuer})}, nil
}

// Refuse is the answer of a refused request whose redirect URI is proved.
func (e *Engine) Refuse(v *state.View, r *state.AuthorizationRequest, refusal *oauth.Error) (*Answer, error) {
	params := [][2]string{{"error", string(refusal.Code())}}
	if refusal.Description() != "" {
		params = append(params, [2]string{"error_description", refusal.Description()})
	}
	return e.answer(v, r, params...)
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
