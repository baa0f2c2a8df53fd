package httpapi

import (
	"cmp"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// drainLimit and drainTime bound what is read and thrown away of a body that was
// refused, so that the client sees the answer and not a reset connection.
const (
	drainLimit = 8 << 20
	drainTime  = 300 * time.Millisecond
)

// handle serves one request. Zero allocations of its own on the way to Serve.
func (s *Server) handle(c *fasthttp.RequestCtx) {
	r := s.pool.Get().(*request)
	r.certs, r.proxies = s.cfg.ClientCerts, s.cfg.Proxies
	c.SetUserValue(requestKey{}, r)
	defer s.finish(c, r)
	s.serve(c, r)
}

func (s *Server) serve(c *fasthttp.RequestCtx, r *request) {
	v := s.admit(c, r)
	r.setID(s.ids)
	c.Response.Header.SetBytesV("X-Request-Id", r.id[:r.idLen])
	if v.status != 0 {
		s.refuse(c, r, v)
		return
	}
	if r.facts.chunked {
		c.SetConnectionClose() // see takeOver
	}
	route := r.match.route
	r.deadline.base = s.base
	if route.Poll {
		r.deadline.base = s.polls
	}
	timeout := route.Timeout
	if timeout == 0 {
		timeout = s.limits.RequestTimeout
	}
	r.deadline.deadline = c.Time().Add(timeout)
	if route.Stream {
		_ = c.SetReadDeadline(r.deadline.deadline)
		_ = c.SetWriteDeadline(r.deadline.deadline)
	} else if v := s.readBody(c, r); v.status != 0 {
		s.refuse(c, r, v)
		return
	}
	if err := s.answer(c, r, route); err != nil {
		s.fail(c, r, err)
		return
	}
	forbidCaching(c, route.Class)
}

// admit is the gate and the routing table: it fills r and says whether the request
// may go on. Called with nothing of the body read.
func (s *Server) admit(c *fasthttp.RequestCtx, r *request) verdict {
	h := &c.Request.Header
	framing := checkHeaders(h, &r.facts)
	path, query, v := splitTarget(h.RequestURI(), s.limits.Target)
	if v.status == 0 {
		s.router.find(h.Method(), path, &r.match)
		r.query = query
	} else {
		r.match.class = s.router.classOf(h.RequestURI())
	}
	switch {
	case framing.status != 0:
		return framing
	case v.status != 0:
		return v
	case r.match.endpoint == nil:
		return verdict{status: 404, detail: "there is nothing at this path; paths are matched exactly, without a slash at the end", sound: true}
	case r.match.route == nil:
		return verdict{status: 405, detail: "this path does not know the method; see Allow", sound: true}
	case r.facts.expects:
		return verdict{status: 417, detail: "the only expectation is 100-continue"}
	case r.facts.encoded:
		return verdict{status: 415, detail: "encoded request bodies are not accepted; send the body as it is"}
	}
	for i := range r.match.endpoint.params {
		if !segmentIsUTF8(r.match.values[i]) {
			return verdict{status: 400, detail: "a segment of the path is not UTF-8"}
		}
	}
	if !r.match.route.Stream && !r.facts.chunked && h.ContentLength() > s.limits.Body {
		return verdict{status: 413, detail: "the request body is too large"}
	}
	return verdict{}
}

// answer asks for the view and calls Serve. Where the view was Local, the proof is
// looked at again before the answer leaves: the process may have been stopped since.
func (s *Server) answer(c *fasthttp.RequestCtx, r *request, route *Route) error {
	var view *state.View
	local := false
	if !route.NoView {
		freshness := route.Read
		if route.ReadFrom != nil {
			var err error
			if freshness, err = route.ReadFrom(c); err != nil {
				return err
			}
		}
		var err error
		if view, err = s.cfg.View(&r.deadline, freshness); err != nil {
			return &viewError{err}
		}
		local = freshness == state.Local
	}
	if err := route.Serve(c, view); err != nil {
		return err
	}
	if local && s.cfg.Fresh != nil {
		if err := s.cfg.Fresh(); err != nil {
			c.Response.ResetBody()
			return &viewError{err}
		}
	}
	return nil
}

// viewError marks an error of Config.View: it is 503 unless it says otherwise.
type viewError struct{ err error }

func (e *viewError) Error() string { return e.err.Error() }
func (e *viewError) Unwrap() error { return e.err }

// readBody reads the whole body into the request's own buffer, so that PostBody gives
// it. The connection's read deadline bounds the time.
func (s *Server) readBody(c *fasthttp.RequestCtx, r *request) verdict {
	stream := r.bodyOf(c)
	if stream == nil {
		return verdict{}
	}
	body := r.body[:0]
	defer func() { r.body = body }()
	for {
		if len(body) > s.limits.Body {
			return verdict{status: 413, detail: "the request body is too large"}
		}
		if len(body) == cap(body) {
			body = append(body, make([]byte, max(1024, cap(body)))...)[:len(body)]
		}
		n, err := stream.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return verdict{status: 408, detail: "the request body did not arrive in time"}
			}
			if errors.Is(err, errChunks) || errors.Is(err, errTiny) {
				drain(c, c.RequestBodyStream())
				return verdict{status: 400, detail: err.Error()}
			}
			return verdict{status: 400, detail: "the request body is cut short"}
		}
	}
	if len(body) > s.limits.Body {
		return verdict{status: 413, detail: "the request body is too large"}
	}
	c.Request.SetBodyRaw(body)
	return verdict{}
}

// refuse answers a request that did not reach a handler. The connection is closed
// where its framing is in doubt or a body is left unread (HTT-08).
func (s *Server) refuse(c *fasthttp.RequestCtx, r *request, v verdict) {
	unread := c.Request.IsBodyStream()
	if unread || !v.sound {
		c.SetConnectionClose()
	}
	if unread && v.status != fasthttp.StatusBadRequest && v.status != fasthttp.StatusRequestTimeout {
		drain(c, r.bodyOf(c))
	}
	if v.status == fasthttp.StatusMethodNotAllowed {
		allow := ""
		if r.match.endpoint != nil {
			allow = r.match.endpoint.allow
		}
		c.Response.Header.Set(fasthttp.HeaderAllow, allow)
	}
	if r.match.class == OAuth {
		s.writeOAuth(c, r, cmp.Or(v.code, oauth.InvalidRequest).With(v.detail).WithStatus(v.status), false)
		return
	}
	if r.match.class == Page {
		writePage(c, r, v.status, v.detail)
		return
	}
	writeProblem(c, r, &problem{status: v.status, code: cmp.Or(string(v.code), refusalCode(v.status)), detail: v.detail})
}

func refusalCode(status int) string {
	switch status {
	case fasthttp.StatusNotFound:
		return "not_found"
	case fasthttp.StatusMethodNotAllowed:
		return "method_not_allowed"
	default:
		return string(oauth.InvalidRequest)
	}
}

// drain reads on for a moment. What it reads is thrown away, and the connection is
// closed after the answer in any case.
func drain(c *fasthttp.RequestCtx, body io.Reader) {
	if body != nil {
		_ = c.SetReadDeadline(time.Now().Add(drainTime))
		_, _ = io.CopyN(io.Discard, body, drainLimit)
	}
}

// expect decides on Expect: 100-continue before the body is sent. A refusal is the
// final answer, and the connection is closed.
func (s *Server) expect(c *fasthttp.RequestCtx) int {
	began := time.Now()
	var r request
	v := s.admit(c, &r)
	if v.status == 0 {
		return fasthttp.StatusContinue
	}
	r.setID(s.ids)
	c.Response.Header.SetBytesV("X-Request-Id", r.id[:r.idLen])
	s.refuse(c, &r, v)
	s.observe(c, &r, v.status, false, began)
	return v.status
}

// unreadable answers what fasthttp could not parse. err may quote the request, so
// nothing of it is used but its kind. The library forgets the path with the rest when
// a header is malformed; the answer is in the form of every class at once then.
func (s *Server) unreadable(c *fasthttp.RequestCtx, err error) {
	began := time.Now()
	v := verdict{status: 400, detail: "the request is not well-formed HTTP/1.1"}
	var small *fasthttp.ErrSmallBuffer
	var network net.Error
	switch {
	case errors.As(err, &small):
		v = verdict{status: 431, detail: "the request line and headers are too long"}
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		v = verdict{status: 413, detail: "the request body is too large"}
	case errors.As(err, &network) && network.Timeout():
		v = verdict{status: 408, detail: "the request did not arrive in time"}
	}
	var r request
	r.match.class = s.router.classOf(c.Request.Header.RequestURI()) // where it was read
	r.setID(s.ids)
	c.Response.Reset()
	c.Response.Header.SetBytesV("X-Request-Id", r.id[:r.idLen])
	if path := c.Request.Header.RequestURI(); len(path) > 1 {
		s.refuse(c, &r, v)
	} else {
		writeProblem(c, &r, &problem{status: v.status, code: refusalCode(v.status), detail: v.detail, members: map[string]any{
			"error": oauth.InvalidRequest, "error_description": v.detail,
		}})
	}
	s.observe(c, &r, v.status, false, began)
}

// finish is deferred by handle: the one recover of the server, the hooks, and the end
// of the request's context.
func (s *Server) finish(c *fasthttp.RequestCtx, r *request) {
	cause := recover()
	if cause != nil {
		// The value may hold anything, so only its type is logged, with the stack,
		// which holds no values of strings.
		s.log.Error("panic in a handler", "request_id", string(r.id[:r.idLen]), "route", r.pattern(), "panic_type", typeName(cause), "stack", string(debug.Stack()))
		c.Response.Reset()
		c.SetConnectionClose()
		c.Response.Header.SetBytesV("X-Request-Id", r.id[:r.idLen])
		s.writeInternal(c, r)
	}
	s.observe(c, r, c.Response.StatusCode(), cause != nil, c.Time())
	c.RemoveUserValue(requestKey{})
	c.Request.ResetBody()
	if cause != nil || !r.deadline.finish() {
		return
	}
	r.release(s.limits.Body)
	s.pool.Put(r)
}

// release forgets the request but keeps its buffer, unless that grew beyond reason.
func (r *request) release(limit int) {
	r.facts, r.match, r.query, r.chunks = facts{}, match{}, nil, nil
	if cap(r.body) > 2*limit {
		r.body = nil
	}
}

func (r *request) pattern() string {
	if r.match.endpoint == nil {
		return ""
	}
	return r.match.endpoint.pattern
}

// observe tells the hooks of an answer. began is given, for the time that c tells is
// that of the connection's request before, until a handler is called.
func (s *Server) observe(c *fasthttp.RequestCtx, r *request, status int, panicked bool, began time.Time) {
	if s.cfg.Observe == nil && s.cfg.Access == nil {
		return
	}
	o := Observation{
		Route:    r.pattern(),
		Class:    r.match.class.String(),
		Method:   methodName(c.Request.Header.Method()),
		Status:   status,
		Panicked: panicked,
	}
	o.Duration = time.Since(began)
	if s.cfg.Observe != nil {
		s.cfg.Observe(o)
	}
	if s.cfg.Access != nil && (s.cfg.Logs == nil || s.cfg.Logs(status)) {
		tenant := defaultTenant
		if r.match.tenant != nil {
			tenant = string(r.match.tenant)
		}
		s.cfg.Access(Access{Observation: o, RequestID: string(r.id[:r.idLen]), Tenant: tenant, Remote: Remote(c)})
	}
}

// methodName maps to a fixed set, so that a metric's label cannot grow.
func methodName(m []byte) string {
	switch string(m) {
	case "GET":
		return "GET"
	case "POST":
		return "POST"
	case "HEAD":
		return "HEAD"
	case "PUT":
		return "PUT"
	case "PATCH":
		return "PATCH"
	case "DELETE":
		return "DELETE"
	case "OPTIONS":
		return "OPTIONS"
	default:
		return "other"
	}
}
