// Package httpapi is the front of a node: a fasthttp server behind a strict gate,
// a routing table, and the only place where an error becomes an answer.
//
// A request passes, in this order: the gate on the raw header bytes and the raw
// request target (gate.go, target.go), the routing table (router.go), the limits of
// its route, the view that the route asks for, the route's Serve (serve.go). What
// Serve returns as an error is answered in the form of the route's Class
// (answer.go): RFC 6749 §5.2 JSON, an RFC 9457 problem document or a page.
//
// Paths are matched byte by byte on what the client sent; nothing is decoded,
// cleaned or folded first. Percent-encoding is accepted only inside a segment that a
// route declares as {name}, for bytes that cannot stand there literally, and never
// for a slash, a backslash, a dot, a percent sign or a control character. A tenant's
// paths are those of the root below /t/{tenant}; the tenant "default" lives at the
// root only, /t/default is not found, so that each thing has one address.
//
// Units: durations are time.Duration, sizes bytes. Server is safe for concurrent
// use; what a *fasthttp.RequestCtx gives, and the context of Context, end with the
// request. Strings that the helpers hand out are copies and may be kept.
//
// Sources: RFC 9110, 9112 (what the gate refuses), RFC 6749 §3.2 and App. B, RFC
// 6750 §3, RFC 8259, RFC 7493, RFC 8414 §3.1, RFC 9457.
package httpapi

import (
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
)

// Challenges of WWW-Authenticate, for oauth.Error.WithChallenge. Where an error sets
// none, each 401 gets the one of its class.
const (
	BasicChallenge  = `Basic realm="` + realm + `", charset="UTF-8"`
	BearerChallenge = `Bearer realm="` + realm + `"`
)

// Class says whom a route serves, and so the form of its error answers.
type Class uint8

// The classes.
const (
	OAuth   Class = iota // RFC 6749 §5.2 JSON, no-store
	Admin                // RFC 9457 problem documents, no-store
	Gateway              // RFC 9457 problem documents, no-store
	Ops                  // RFC 9457 problem documents, no caching rule of its own
	Page                 // HTML for a person at a browser, no-store
)

// String names the class, for metrics.
func (c Class) String() string {
	switch c {
	case OAuth:
		return "oauth"
	case Admin:
		return "admin"
	case Gateway:
		return "gateway"
	case Page:
		return "page"
	default:
		return "ops"
	}
}

// Route is one line of the routing table.
type Route struct {
	// Method is GET, POST, PUT, PATCH or DELETE. HEAD is served by GET's route.
	Method string
	// Path starts with "/". A segment "{name}" matches any one segment and is read
	// with Param; a literal segment wins over it.
	Path string
	// Also are further paths of the same route. A segment "{tenant}" sets Tenant,
	// for RFC 8414's /.well-known/oauth-authorization-server/t/{tenant}.
	Also []string
	// Tenanted routes are served below /t/{tenant} too.
	Tenanted bool
	// Class chooses the form of errors.
	Class Class

	// Read is the freshness of the view that Serve gets. The zero value is Local.
	Read state.Freshness
	// ReadFrom, when set, decides it from the request instead (a grant, since=,
	// consistency=stale). An error is answered without a view.
	ReadFrom func(c *fasthttp.RequestCtx) (state.Freshness, error)
	// NoView routes get a nil view: they must answer when there is no state.
	NoView bool

	// Timeout is the deadline of Context; 0 is the server's RequestTimeout.
	Timeout time.Duration
	// Poll marks a long-poll: its Context is cancelled as soon as the server begins
	// to shut down, others only when the time for the shutdown is over.
	Poll bool
	// Stream routes read their body, of any size, from Body(c), and may
	// take Timeout, not the server's read and write timeouts, for body and answer.
	// All others get a whole body within Limits.Body, by c.PostBody. An answer that is
	// a body stream is written after Serve has returned, when Context has ended.
	Stream bool

	// Serve answers. It returns an error instead of writing one.
	Serve func(c *fasthttp.RequestCtx, v *state.View) error
}
