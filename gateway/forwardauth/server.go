// Package forwardauth is the reference gateway: an HTTP server that a proxy asks
// about each request (nginx auth_request, Traefik forwardAuth, Caddy
// forward_auth) before it lets it through.
//
//	GET /validate   204 with X-Keyraft-Subject, -Client and -Scope, or 401/403
//	                with X-Keyraft-Reason and WWW-Authenticate; any other method
//	                is answered alike, since some proxies repeat the original one
//	GET /status     where the gateway stands, as JSON
//	GET /livez      200 while the process runs
//	GET /readyz     200 while tokens can be decided, else 503 with the reason
//	GET /metrics    Prometheus
//
// Bound tokens (cnf, RFC 8705 and RFC 9449) pass with their proof alone: the DPoP header
// of the client, for the method and URL that the proxy tells, or the client's certificate
// in the header that Config.ClientCertHeader names.
//
// The three identity headers are set in every answer, also empty, so that a
// proxy which copies them overwrites what a client sent under these names. What
// a client sends under them is never read. X-Keyraft-Api, X-Forwarded-Method, -Uri,
// -Proto and -Host and the certificate are taken as the proxy's word: the proxy must set them itself,
// and the address of this server must be reachable for the proxy alone.
//
// For nginx:
//
//	location / {
//	    auth_request     /_keyraft;
//	    auth_request_set $keyraft_subject $upstream_http_x_keyraft_subject;
//	    auth_request_set $keyraft_client  $upstream_http_x_keyraft_client;
//	    auth_request_set $keyraft_scope   $upstream_http_x_keyraft_scope;
//	    proxy_set_header X-Keyraft-Subject $keyraft_subject;
//	    proxy_set_header X-Keyraft-Client  $keyraft_client;
//	    proxy_set_header X-Keyraft-Scope   $keyraft_scope;
//	    proxy_pass       http://api;
//	}
//	location = /_keyraft {
//	    internal;
//	    proxy_pass              http://127.0.0.1:9080/validate;
//	    proxy_pass_request_body off;
//	    proxy_set_header        Content-Length "";
//	    proxy_set_header        X-Keyraft-Api orders;
//	    proxy_set_header        X-Forwarded-Method $request_method;
//	    proxy_set_header        X-Forwarded-Uri $request_uri;
//	}
//
// A Server is safe for concurrent use.
//
// Sources: RFC 6750 §3, RFC 9110.
package forwardauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/gateway"
)

// Limits of one request and one connection.
const (
	validateLimit = 5 * time.Second // an opaque token may need a node
	readTimeout   = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 32 << 10
	maxBody       = 64 << 10 // a proxy that forgets to drop the body
	maxConns      = 16384
)

// Config is what a Server is made of; Logger and Collectors may be nil.
type Config struct {
	Validate   func(context.Context, gateway.Request) (*gateway.Identity, error)
	Status     func() gateway.Status
	Logger     *slog.Logger
	Collectors []prometheus.Collector // further series of /metrics
	// ClientCertHeader is the header in which the proxy names the client's certificate
	// (RFC 9440, or percent-encoded PEM). It must overwrite what clients send under this
	// name. Empty: none is read, and tokens that are bound to a certificate are refused.
	ClientCertHeader string
}

// Server answers a proxy.
type Server struct {
	cfg     Config
	http    *fasthttp.Server
	metrics *metrics
}

// New makes a server of a gateway's Validate and Status. It starts nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Validate == nil || cfg.Status == nil {
		return nil, errors.New("forwardauth: give it the Validate and Status of a gateway")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(cfg.Status, cfg.Collectors)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, metrics: m}
	s.http = &fasthttp.Server{
		Handler:               s.serve,
		Name:                  "keyraft",
		ReadTimeout:           readTimeout,
		WriteTimeout:          readTimeout,
		IdleTimeout:           idleTimeout,
		ReadBufferSize:        maxHeader,
		MaxRequestBodySize:    maxBody,
		Concurrency:           maxConns,
		NoDefaultServerHeader: true,
		CloseOnShutdown:       true,
		Logger:                quiet{cfg.Logger},
		ErrorHandler:          s.broken,
	}
	return s, nil
}

// Serve answers on ln until Shutdown.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.http.Serve(ln); err != nil {
		return fmt.Errorf("forward-auth server on %s: %w", ln.Addr(), err)
	}
	return nil
}

// Shutdown ends Serve after the requests under way, or when ctx ends.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.ShutdownWithContext(ctx) }

// quiet takes the HTTP library's own messages, which may quote a request: only
// that there was one is worth a line.
type quiet struct{ log *slog.Logger }

func (q quiet) Printf(string, ...any) { q.log.Debug("a connection failed") }

func (s *Server) serve(c *fasthttp.RequestCtx) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Logger.Error("a request failed inside; it was refused", "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			c.Response.Reset()
			s.refuse(c, refusal(gateway.Internal, fasthttp.StatusForbidden, "temporarily_unavailable", "the gateway failed inside; its log says why"))
		}
	}()
	path := string(c.URI().PathOriginal()) // as it was sent: nothing here is decoded
	if path != "/validate" && !c.IsGet() && !c.IsHead() {
		identity(c, "", "", "")
		c.Response.Header.Set("Allow", "GET, HEAD")
		c.SetStatusCode(fasthttp.StatusMethodNotAllowed)
		return
	}
	switch path {
	case "/validate":
		s.validate(c)
	case "/status":
		s.status(c)
	case "/livez":
		text(c, fasthttp.StatusOK, "ok\n")
	case "/readyz":
		s.ready(c)
	case "/metrics":
		s.metrics.serve(c)
	default:
		identity(c, "", "", "")
		text(c, fasthttp.StatusNotFound, "there is /validate, /status, /livez, /readyz and /metrics\n")
	}
}

// broken answers what is not HTTP or beyond a limit: a refusal in the same form.
func (s *Server) broken(c *fasthttp.RequestCtx, err error) {
	c.SetConnectionClose()
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		// Perhaps nobody asked anything: this must never look like a decision.
		text(c, fasthttp.StatusRequestTimeout, "no request arrived in time\n")
		return
	}
	s.refuse(c, refusal(BadRequest, fasthttp.StatusUnauthorized, "invalid_request", "the request is not well-formed HTTP, or too large"))
}

func (s *Server) status(c *fasthttp.RequestCtx) {
	body, err := json.Marshal(s.cfg.Status())
	if err != nil {
		text(c, fasthttp.StatusInternalServerError, "the status can't be written\n")
		return
	}
	c.Response.Header.Set("Cache-Control", "no-store")
	c.SetContentType("application/json")
	c.SetBody(append(body, '\n'))
}

// ready is for load balancers: a gateway that fails open is ready once it has
// keys, one that fails closed only while its head is fresh.
func (s *Server) ready(c *fasthttp.RequestCtx) {
	st := s.cfg.Status()
	switch {
	case st.State == gateway.Starting:
		text(c, fasthttp.StatusServiceUnavailable, "not ready: no contact with the cluster yet\n")
	case st.Refusing:
		text(c, fasthttp.StatusServiceUnavailable, fmt.Sprintf("not ready: the head is %d ms old, the bound is %d ms\n", st.HeadAgeMS, st.MaxStalenessMS))
	default:
		text(c, fasthttp.StatusOK, "ready\n")
	}
}

func text(c *fasthttp.RequestCtx, status int, body string) {
	c.Response.Header.Set("Cache-Control", "no-store")
	c.SetContentType("text/plain; charset=utf-8")
	c.SetStatusCode(status)
	c.SetBodyString(body)
}

// quoted is a quoted-string of RFC 9110 §5.6.4, of visible ASCII only.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch ch := s[i]; {
		case ch < ' ' || ch > '~':
			b.WriteByte('?')
		case ch == '"' || ch == '\\':
			b.WriteByte('\\')
			b.WriteByte(ch)
		default:
			b.WriteByte(ch)
		}
	}
	b.WriteByte('"')
	return b.String()
}
