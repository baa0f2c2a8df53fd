package oauthapi

import (
	"strconv"
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/tokens"
)

// token answers POST /oauth2/token (RFC 6749 §3.2).
type token struct {
	pipeline *grants.Pipeline
	proofs   *tokens.Proofs
	pool     sync.Pool // *tokenWork
}

// tokenWork is what one request needs, pooled: the hot path allocates only what it
// reads from the request.
type tokenWork struct {
	form   httpapi.Values
	req    grants.Request
	answer grants.Answer
	body   []byte
}

func newToken(p *grants.Pipeline, proofs *tokens.Proofs) *token {
	t := &token{pipeline: p, proofs: proofs}
	t.pool.New = func() any { return new(tokenWork) }
	return t
}

func (t *token) serve(c *fasthttp.RequestCtx, v *state.View) error {
	w := t.pool.Get().(*tokenWork)
	defer t.release(w)
	var err error
	if w.form, err = httpapi.Form(c); err != nil {
		return err
	}
	w.req = grants.Request{
		Credentials: credentials(c, &w.form),
		GrantType:   grantTypeOf(w.form.Get("grant_type")),
		Scope:       w.form.Get("scope"),
		Form:        &w.form,
		Proof:       httpapi.DPoP(c),
	}
	if w.req.Proof != "" {
		nonce, err := t.proofs.Nonce(v, httpapi.Tenant(c))
		if err != nil {
			return err
		}
		httpapi.GiveNonce(c, nonce)
	}
	if err := t.pipeline.Token(httpapi.Context(c), v, &w.req, &w.answer); err != nil {
		return err
	}
	w.body = appendAnswer(w.body[:0], &w.answer)
	c.SetStatusCode(fasthttp.StatusOK)
	c.SetContentType("application/json")
	c.SetBody(w.body)
	return nil
}

// release forgets the request; its buffers stay, unless they grew beyond reason. The
// token is wiped, for nobody knows how long the pool keeps it.
func (t *token) release(w *tokenWork) {
	clear(w.answer.Token)
	clear(w.answer.Refresh)
	clear(w.answer.ID)
	clear(w.body)
	answer, body := w.answer.Token[:0], w.body[:0]
	*w = tokenWork{}
	if cap(answer) <= maxKept && cap(body) <= maxKept {
		w.answer.Token, w.body = answer, body
	}
	t.pool.Put(w)
}

// maxKept bounds a buffer that is kept between requests, in bytes.
const maxKept = 64 << 10

// appendAnswer writes RFC 6749 §5.1. Token and scope need no escaping: base64url and
// dots the one, RFC 6749 §3.3's characters, without quote and backslash, the other.
// The scope is named always, not only where it differs from what was asked; an empty
// one is no scope by the RFC's grammar, so it is left out.
func appendAnswer(dst []byte, a *grants.Answer) []byte {
	dst = append(append(dst, `{"access_token":"`...), a.Token...)
	if a.DPoP {
		dst = append(dst, `","token_type":"DPoP","expires_in":`...)
	} else {
		dst = append(dst, `","token_type":"Bearer","expires_in":`...)
	}
	dst = strconv.AppendInt(dst, a.ExpiresIn, 10)
	if len(a.Refresh) > 0 {
		dst = append(append(append(dst, `,"refresh_token":"`...), a.Refresh...), '"')
	}
	if len(a.ID) > 0 {
		dst = append(append(append(dst, `,"id_token":"`...), a.ID...), '"')
	}
	if a.IssuedTokenType != "" {
		dst = append(append(append(dst, `,"issued_token_type":"`...), a.IssuedTokenType...), '"')
	}
	if len(a.Details) > 0 {
		dst = append(append(dst, `,"authorization_details":`...), a.Details...)
	}
	if a.Scope != "" {
		dst = append(append(append(dst, `,"scope":"`...), a.Scope...), '"')
	}
	return append(dst, '}')
}
