package forwardauth

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/gateway"
	"github.com/keyraft/keyraft/internal/clientcert"
	"github.com/keyraft/keyraft/tokens/verify"
)

// Names of the headers.
const (
	headerSubject = "X-Keyraft-Subject"
	headerClient  = "X-Keyraft-Client"
	headerScope   = "X-Keyraft-Scope"
	headerReason  = "X-Keyraft-Reason"
	headerAPI     = "X-Keyraft-Api"
)

// BadRequest is the reason for a request that can't be read in one way only.
const BadRequest gateway.Reason = "bad_request"

// asked are the headers that decide; each may come once, under its own name.
var asked = [...]string{"Authorization", "DPoP", headerAPI, "X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-Proto", "X-Forwarded-Host"}

func refusal(reason gateway.Reason, status int, code, message string) *gateway.Refusal {
	return &gateway.Refusal{Reason: reason, Status: status, Code: code, Message: message}
}

func (s *Server) validate(c *fasthttp.RequestCtx) {
	start := time.Now()
	who, refused := s.decide(c)
	if refused == nil && !(visible(who.Subject) && visible(who.ClientID) && visible(who.Scope)) {
		refused = refusal(gateway.Malformed, fasthttp.StatusUnauthorized, "invalid_token", "a name in the token can't stand in a header")
	}
	if refused != nil {
		s.refuse(c, refused)
		s.metrics.observe(string(refused.Reason), time.Since(start))
		return
	}
	identity(c, who.Subject, who.ClientID, who.Scope)
	c.Response.Header.Set("Cache-Control", "no-store")
	c.SetStatusCode(fasthttp.StatusNoContent)
	s.metrics.observe("accepted", time.Since(start))
}

func (s *Server) decide(c *fasthttp.RequestCtx) (*gateway.Identity, *gateway.Refusal) {
	r, bad := s.request(c)
	if bad != "" {
		return nil, refusal(BadRequest, fasthttp.StatusUnauthorized, "invalid_request", bad)
	}
	ctx, cancel := context.WithTimeout(context.Background(), validateLimit)
	defer cancel()
	who, err := s.cfg.Validate(ctx, r)
	if err == nil && who != nil {
		return who, nil
	}
	var known *gateway.Refusal
	if errors.As(err, &known) {
		return nil, known
	}
	return nil, refusal(gateway.Internal, fasthttp.StatusForbidden, "temporarily_unavailable", "the gateway failed inside; its log says why")
}

// request reads what is asked, copying it out of the connection's buffer. bad
// says why it can be read in more than one way.
func (s *Server) request(c *fasthttp.RequestCtx) (r gateway.Request, bad string) {
	for name := range c.Request.Header.All() {
		for i := range name {
			if name[i] == '_' && s.twin(name) {
				return r, "a header comes under a name with an underscore; let the proxy drop it"
			}
		}
	}
	var values [len(asked)]string
	for i, name := range asked {
		all := c.Request.Header.PeekAll(name)
		if len(all) > 1 {
			return r, "the " + name + " header comes more than once"
		}
		if len(all) == 1 {
			values[i] = string(all[0])
		}
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimLeft(token, " ")
	if strings.ContainsAny(token, " ,\t") {
		return r, "the Authorization header holds more than one token"
	}
	cert, bad := s.certificate(c)
	return gateway.Request{
		Scheme: scheme, Token: token, DPoP: values[1], API: values[2], Method: values[3], URL: absolute(values[4], values[5], values[6]),
		ClientCert: cert,
	}, bad
}

// absolute is the URL that the client asked for: some proxies tell it in parts.
func absolute(uri, proto, host string) string {
	if strings.HasPrefix(uri, "/") && proto != "" && host != "" {
		return proto + "://" + host + uri
	}
	return uri
}

// certificate is the client's, by the word of the proxy.
func (s *Server) certificate(c *fasthttp.RequestCtx) (der []byte, bad string) {
	if s.cfg.ClientCertHeader == "" {
		return nil, ""
	}
	all := c.Request.Header.PeekAll(s.cfg.ClientCertHeader)
	switch {
	case len(all) > 1:
		return nil, "the header of the client certificate comes more than once"
	case len(all) == 0 || len(all[0]) == 0: // nginx sends it empty where there is none
		return nil, ""
	}
	cert := clientcert.Parse(string(all[0]))
	if cert == nil {
		return nil, "the header of the client certificate holds none; let the proxy write it as RFC 9440 has it, or as percent-encoded PEM"
	}
	return cert.Raw, ""
}

// twin says whether a name with underscores is read as one of ours by programs
// that know headers as variables (CGI and its heirs).
func (s *Server) twin(name []byte) bool {
	n := strings.ReplaceAll(string(name), "_", "-")
	if len(n) > 10 && strings.EqualFold(n[:10], "X-Keyraft-") {
		return true
	}
	for _, a := range asked {
		if strings.EqualFold(n, a) {
			return true
		}
	}
	return s.cfg.ClientCertHeader != "" && strings.EqualFold(n, s.cfg.ClientCertHeader)
}

// identity sets all three headers, also empty, whatever the answer is.
func identity(c *fasthttp.RequestCtx, subject, client, scope string) {
	h := &c.Response.Header
	h.Set(headerSubject, subject)
	h.Set(headerClient, client)
	h.Set(headerScope, scope)
}

// refuse writes a refusal: status, reason, challenge.
func (s *Server) refuse(c *fasthttp.RequestCtx, r *gateway.Refusal) {
	identity(c, "", "", "")
	h := &c.Response.Header
	h.Set("Cache-Control", "no-store")
	h.Set(headerReason, string(r.Reason))
	h.Set("WWW-Authenticate", challenge(r))
	status := r.Status
	if status != fasthttp.StatusUnauthorized {
		status = fasthttp.StatusForbidden // all that a proxy's sub-request understands
	}
	c.SetStatusCode(status)
}

// challenge is RFC 6750 §3: no error code when no token came; and RFC 9449 §7.1 for a
// token that is bound to a key.
func challenge(r *gateway.Refusal) string {
	v := `Bearer realm="keyraft"`
	if r.Scheme != "" {
		v = r.Scheme + ` realm="keyraft", algs=` + quoted(strings.Join(verify.ProofAlgs(), " "))
	}
	if r.Code == "" {
		return v
	}
	v += `, error=` + quoted(r.Code) + `, error_description=` + quoted(r.Error())
	if r.Scope != "" {
		v += `, scope=` + quoted(r.Scope)
	}
	return v
}

// visible says whether a value can stand in a header: no control character.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}
