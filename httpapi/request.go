package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/internal/oauth"
)

// request is what the server knows of one request beside fasthttp's own. Pooled,
// unless someone took a channel from its context and so may still hold it.
type request struct {
	certs    *ClientCerts
	proxies  Proxies
	facts    facts
	match    match
	query    []byte
	deadline requestContext
	body     []byte
	chunks   *chunks // of a chunked body; nil before it is read
	id       [64]byte
	idLen    int
}

// requestKey is the key of the *request among the user values of a RequestCtx.
type requestKey struct{}

// of gives the request of c; nil when c does not come from a Server.
func of(c *fasthttp.RequestCtx) *request {
	r, _ := c.UserValue(requestKey{}).(*request)
	return r
}

// Param is the value of a {name} segment, decoded once; "" when the route has none of
// that name. It never holds a slash, a backslash or a control character. A copy.
func Param(c *fasthttp.RequestCtx, name string) string {
	r := of(c)
	if r == nil || r.match.endpoint == nil {
		return ""
	}
	for i, have := range r.match.endpoint.params {
		if have == name {
			s, _ := decodeSegment(r.match.values[i]) // checked before Serve
			return s
		}
	}
	return ""
}

// Tenant is the tenant whose path was asked: "default" at the root. That it exists is
// for the handler's view to say. A copy.
func Tenant(c *fasthttp.RequestCtx) string {
	r := of(c)
	if r == nil || r.match.tenant == nil {
		return defaultTenant
	}
	return string(r.match.tenant)
}

// RequestID is the id of the request, the client's own X-Request-Id where it is 1 to
// 64 letters, digits and dashes. It is echoed in the answer. A copy.
func RequestID(c *fasthttp.RequestCtx) string {
	r := of(c)
	if r == nil {
		return ""
	}
	return string(r.id[:r.idLen])
}

// Context is the context of the request: it ends at the deadline of its route, when
// the handler has returned, and when the server is shut down (at once for a Poll
// route, else when the time for the shutdown is over). It must not be kept after the
// handler has returned, except by a callee that waits on its Done.
func Context(c *fasthttp.RequestCtx) context.Context {
	r := of(c)
	if r == nil {
		return c
	}
	return &r.deadline
}

// Bearer is the token of "Authorization: Bearer …" (RFC 6750 §2.1). The error is
// invalid_token with the challenge that the RFC asks for: without an error code when
// no credentials came at all (§3.1). A copy.
func Bearer(c *fasthttp.RequestCtx) (string, error) {
	scheme, token, err := AccessToken(c)
	if err == nil && strings.EqualFold(scheme, "DPoP") {
		return "", oauth.InvalidToken.With("the Authorization scheme must be Bearer")
	}
	return token, err
}

// AccessToken is the token of the Authorization header, with its scheme, Bearer or DPoP
// in any case (RFC 6750 §2.1, RFC 9449 §7.1): whether the scheme is that of the token is
// for whoever knows the token. One in the query is not looked at (BEA-02). Errors as
// Bearer's. Copies.
func AccessToken(c *fasthttp.RequestCtx) (scheme, token string, err error) {
	header := c.Request.Header.Peek(fasthttp.HeaderAuthorization)
	if len(header) == 0 {
		return "", "", oauth.InvalidToken.With("send the token as: Authorization: Bearer <token>").
			WithChallenge(BearerChallenge)
	}
	scheme, token, found := strings.Cut(string(header), " ")
	if !found || !strings.EqualFold(scheme, "Bearer") && !strings.EqualFold(scheme, "DPoP") {
		return "", "", oauth.InvalidToken.With("the Authorization scheme must be Bearer, or DPoP for a token that is bound to a key")
	}
	if !b64token(token) {
		return "", "", oauth.InvalidToken.With("the access token is malformed")
	}
	return scheme, token, nil
}

// DPoP is the proof of the DPoP header (RFC 9449 §4.1), "" for none. That there is no
// second one was seen to at the gate. A copy.
func DPoP(c *fasthttp.RequestCtx) string { return string(c.Request.Header.Peek("DPoP")) }

// GiveNonce puts a nonce for the next DPoP proof into the answer, whatever that becomes
// (RFC 9449 §8.2); "" none.
func GiveNonce(c *fasthttp.RequestCtx, nonce string) {
	if nonce != "" {
		c.Response.Header.Set("DPoP-Nonce", nonce)
	}
}

// b64token is RFC 6750 §2.1: 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"=".
func b64token(s string) bool {
	body := strings.TrimRight(s, "=")
	for i := range len(body) {
		if b := body[i]; !unreserved(b) && b != '+' && b != '/' {
			return false
		}
	}
	return body != ""
}

// ids makes request ids: a random prefix of this start and a counter.
type ids struct {
	prefix [13]byte // 12 hex digits and a dash
	next   atomic.Uint64
}

func newIDs() *ids {
	var random [6]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	out := new(ids)
	hex.Encode(out.prefix[:], random[:])
	out.prefix[12] = '-'
	return out
}

// setID takes the client's id where it is acceptable (HTT-12), else a new one.
func (r *request) setID(from *ids) {
	if n := len(r.facts.requestID); n >= 1 && n <= len(r.id) && plainID(r.facts.requestID) {
		r.idLen = copy(r.id[:], r.facts.requestID)
		return
	}
	const digits = "0123456789abcdef"
	r.idLen = copy(r.id[:], from.prefix[:])
	n := from.next.Add(1)
	for shift := 28; shift >= 0; shift -= 4 { // the low 32 bits; wraps after 4 billion
		r.id[r.idLen] = digits[n>>shift&0xf]
		r.idLen++
	}
}

func plainID(b []byte) bool {
	for _, c := range b {
		if c != '-' && !(c >= '0' && c <= '9') && !(c|0x20 >= 'a' && c|0x20 <= 'z') {
			return false
		}
	}
	return true
}

// requestContext is a context that costs nothing until somebody waits on it: the hot
// path asks for no channel, so none is made.
type requestContext struct {
	base     context.Context // of the server
	deadline time.Time

	mu     sync.Mutex
	inner  context.Context // made at the first Done
	cancel context.CancelFunc
}

// Deadline is when the request must be answered.
func (x *requestContext) Deadline() (time.Time, bool) { return x.deadline, true }

// Done is closed at the deadline, at the shutdown and when the handler has returned.
func (x *requestContext) Done() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.inner == nil {
		x.inner, x.cancel = context.WithDeadline(x.base, x.deadline)
	}
	return x.inner.Done()
}

// Err says why it ended.
func (x *requestContext) Err() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.inner != nil {
		return x.inner.Err()
	}
	if err := x.base.Err(); err != nil {
		return err
	}
	if !time.Now().Before(x.deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// Value is that of the server's context.
func (x *requestContext) Value(key any) any {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.inner != nil {
		return x.inner.Value(key)
	}
	return x.base.Value(key)
}

// finish ends it and says whether the request may be reused: only when nobody ever
// took a channel, for whoever has one may look at it later.
func (x *requestContext) finish() (reusable bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.cancel != nil {
		x.cancel()
		return false
	}
	x.base = nil
	return true
}
