package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/internal/oauth"
)

// realm stands in every challenge that the server makes.
const realm = "keyraft"

// problem is a refusal outside of the protocol of RFC 6749.
type problem struct {
	status  int
	code    string
	field   string
	detail  string
	members map[string]any
}

// Error is for logs.
func (p *problem) Error() string {
	if p.field != "" {
		return p.code + ": " + p.field + ": " + p.detail
	}
	return p.code + ": " + p.detail
}

// Problem makes an error that is answered with this status as an RFC 9457 document:
// code is a word for programs, field names the member or parameter that is wrong ("":
// none), detail is a sentence that says what to do. None may hold a secret.
func Problem(status int, code, field, detail string) error {
	return &problem{status: status, code: code, field: field, detail: detail}
}

// ProblemWith is Problem with further members of the document (RFC 9457 §3.2), such as
// the current epoch. The standard members win.
func ProblemWith(status int, code, field, detail string, members map[string]any) error {
	return &problem{status: status, code: code, field: field, detail: detail, members: members}
}

// JSON answers with v as JSON.
func JSON(c *fasthttp.RequestCtx, status int, v any) error {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	c.SetStatusCode(status)
	c.SetContentType("application/json")
	c.SetBody(bytes.TrimSuffix(out.Bytes(), []byte("\n")))
	return nil
}

// forbidCaching sets no-store on answers that said nothing of caching themselves
// (RFC 6749 §5.1; TOK-45).
func forbidCaching(c *fasthttp.RequestCtx, class Class) {
	if class == Ops || len(c.Response.Header.Peek(fasthttp.HeaderCacheControl)) != 0 {
		return
	}
	c.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	if class == OAuth {
		c.Response.Header.Set(fasthttp.HeaderPragma, "no-cache")
	}
}

// fail turns an error of a view or a handler into an answer.
func (s *Server) fail(c *fasthttp.RequestCtx, r *request, err error) {
	if s.cfg.Translate != nil {
		if translated := s.cfg.Translate(err); translated != nil {
			err = translated
		}
	}
	c.Response.ResetBody()
	if c.Request.IsBodyStream() { // a Stream route that did not read to the end
		c.SetConnectionClose()
		drain(c, r.bodyOf(c))
	}
	var refusal *oauth.Error
	var p *problem
	var view *viewError
	switch {
	case errors.As(err, &p):
		s.writeRefusal(c, r, p)
	case errors.As(err, &refusal):
		s.writeProtocol(c, r, refusal)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		s.writeProtocol(c, r, oauth.TemporarilyUnavailable.With("the request could not be decided in time; try again").WithRetryAfter(1))
	case errors.As(err, &view):
		s.log.Warn("no view for a request", "request_id", string(r.id[:r.idLen]), "route", r.pattern(), "error", view.err)
		s.writeProtocol(c, r, oauth.TemporarilyUnavailable.With("this node cannot prove that its state is fresh; try again, or another node").WithRetryAfter(1))
	default:
		s.log.Error("internal error", "request_id", string(r.id[:r.idLen]), "route", r.pattern(), "error", err)
		s.writeInternal(c, r)
	}
}

// writeRefusal writes a problem in the form of the route's class.
func (s *Server) writeRefusal(c *fasthttp.RequestCtx, r *request, p *problem) {
	if r.match.class == Page {
		writePage(c, r, p.status, p.detail)
		return
	}
	if r.match.class != OAuth {
		if p.status == fasthttp.StatusUnauthorized && len(c.Response.Header.Peek(fasthttp.HeaderWWWAuthenticate)) == 0 {
			c.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, BearerChallenge)
		}
		writeProblem(c, r, p)
		return
	}
	detail := p.detail
	if p.field != "" {
		detail = p.field + ": " + detail
	}
	s.writeOAuth(c, r, oauth.Code(p.code).With(detail).WithStatus(p.status), false)
}

// writeProtocol writes a refusal of the protocol in the form of the route's class.
func (s *Server) writeProtocol(c *fasthttp.RequestCtx, r *request, e *oauth.Error) {
	if challenge := challengeOf(r, e); challenge != "" {
		c.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, challenge)
	}
	if e.RetryAfter() > 0 {
		c.Response.Header.Set(fasthttp.HeaderRetryAfter, strconv.Itoa(e.RetryAfter()))
	}
	switch r.match.class {
	case OAuth:
		s.writeOAuth(c, r, e, false)
	case Page:
		writePage(c, r, e.Status(), e.Description())
	default:
		writeProblem(c, r, &problem{status: e.Status(), code: string(e.Code()), field: e.Field(), detail: e.Description()})
	}
}

// challengeOf is the WWW-Authenticate value, which no 401 is without (RFC 9110
// §15.5.2): what the rule set, Basic for a client (RFC 6749 §5.2), Bearer for a refused
// token (RFC 6750 §3).
func challengeOf(r *request, e *oauth.Error) string {
	if c := e.Challenge(); c != "" {
		return c
	}
	switch {
	case e.Code() == oauth.InvalidToken, e.Code() == oauth.InsufficientScope:
		c := BearerChallenge + `, error="` + string(e.Code()) + `"`
		if d := e.Description(); d != "" {
			c += `, error_description="` + d + `"` // no quote, no backslash: oauth.Code.With
		}
		return c
	case e.Code() == oauth.InvalidClient && e.Status() == fasthttp.StatusUnauthorized:
		if r.match.class != OAuth {
			return BearerChallenge
		}
		return BasicChallenge
	}
	return ""
}

// writeInternal is the answer to what must not happen: an id to look for in the log,
// and nothing else.
func (s *Server) writeInternal(c *fasthttp.RequestCtx, r *request) {
	e := oauth.ServerError.With("internal error; look for the request id in this node's log")
	switch r.match.class {
	case OAuth:
		s.writeOAuth(c, r, e, true)
	case Page:
		writePage(c, r, e.Status(), e.Description())
	default:
		writeProblem(c, r, &problem{status: e.Status(), code: string(e.Code()), detail: e.Description()})
	}
}

func (s *Server) writeOAuth(c *fasthttp.RequestCtx, r *request, e *oauth.Error, withID bool) {
	body := struct {
		Error       oauth.Code `json:"error"`
		Description string     `json:"error_description,omitempty"`
		RequestID   string     `json:"request_id,omitempty"`
	}{Error: e.Code(), Description: e.Description()}
	if withID {
		body.RequestID = string(r.id[:r.idLen])
	}
	writeError(c, e.Status(), "application/json", body)
	c.Response.Header.Set(fasthttp.HeaderPragma, "no-cache")
}

func writeProblem(c *fasthttp.RequestCtx, r *request, p *problem) {
	doc := make(map[string]any, 8+len(p.members))
	for name, value := range p.members {
		doc[name] = value
	}
	doc["type"] = "about:blank"
	if p.code != "" {
		doc["type"] = "urn:keyraft:error:" + p.code
		doc["code"] = p.code
	}
	doc["title"] = fasthttp.StatusMessage(p.status)
	doc["status"] = p.status
	doc["request_id"] = string(r.id[:r.idLen])
	if p.detail != "" {
		doc["detail"] = p.detail
	}
	if p.field != "" {
		doc["field"] = p.field
	}
	writeError(c, p.status, "application/problem+json", doc)
}

func writeError(c *fasthttp.RequestCtx, status int, contentType string, body any) {
	out, err := json.Marshal(body)
	if err != nil { // a member that is no JSON: the caller's mistake, told without it
		status, out = fasthttp.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	c.SetStatusCode(status)
	c.SetContentType(contentType)
	c.SetBody(out)
	c.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
}

func typeName(v any) string { return fmt.Sprintf("%T", v) }
