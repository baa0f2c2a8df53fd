package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
)

// DefaultTarget is Limits.Target where nothing else is set: an address that we give away
// to be called must fit.
const DefaultTarget = 8 << 10

// Limits bound what a client can make the server hold. Zero values are the defaults.
type Limits struct {
	Body           int           // bytes of a request body; 64 KiB
	Headers        int           // bytes of request line and headers, a buffer of each connection; 16 KiB
	Target         int           // bytes of the request target, less than Headers; DefaultTarget
	ReadTimeout    time.Duration // for a whole request, headers and body; 10 s
	WriteTimeout   time.Duration // for a whole answer, from the handler's return; 20 s
	IdleTimeout    time.Duration // between two requests; 90 s
	RequestTimeout time.Duration // of Context, where the route sets none; 10 s
	Connections    int           // open at once; 65 536
	PerIP          int           // open at once from one address; 32 768
	PerConnection  int           // requests until a connection is closed; 1 000 000
}

func (l Limits) withDefaults() (Limits, error) {
	for _, n := range []int{l.Body, l.Headers, l.Target, l.Connections, l.PerIP, l.PerConnection} {
		if n < 0 {
			return l, errors.New("httpapi: a limit is negative; leave it 0 for its default")
		}
	}
	for _, d := range []time.Duration{l.ReadTimeout, l.WriteTimeout, l.IdleTimeout, l.RequestTimeout} {
		if d < 0 {
			return l, errors.New("httpapi: a timeout is negative; leave it 0 for its default")
		}
	}
	set(&l.Body, 64<<10)
	set(&l.Headers, 16<<10)
	set(&l.Target, DefaultTarget)
	set(&l.ReadTimeout, 10*time.Second)
	set(&l.WriteTimeout, 20*time.Second)
	set(&l.IdleTimeout, 90*time.Second)
	set(&l.RequestTimeout, 10*time.Second)
	set(&l.Connections, 65_536)
	set(&l.PerIP, 32_768)
	set(&l.PerConnection, 1_000_000)
	return l, nil
}

func set[T int | time.Duration](at *T, value T) {
	if *at == 0 {
		*at = value
	}
}

// Config makes a Server. Routes and View are required.
type Config struct {
	Routes []Route
	// View gives the view that a route asked for. Its errors become 503 with
	// Retry-After, unless they are answers of their own (*oauth.Error, Problem).
	View func(ctx context.Context, f state.Freshness) (*state.View, error)
	// Fresh, when set, tells whether a Local view is still within its bound; it is
	// asked after Serve, before the answer leaves.
	Fresh func() error
	// Translate, when set, turns an error of a lower room (no leader, outcome
	// unknown) into an *oauth.Error or a Problem; nil leaves it as it is.
	Translate func(err error) error
	Limits    Limits
	// TLS, when set, is served; TLS 1.2 is the least, without HTTP/2.
	TLS *tls.Config
	// Proxies are believed about who their clients are.
	Proxies Proxies
	// ClientCerts says where certificates of clients come from; nil: there are none.
	ClientCerts *ClientCerts
	// Logger gets internal errors and panics with their request id; nil discards.
	Logger *slog.Logger
	// Observe, when set, is told of each answered request. It must not block.
	Observe func(Observation)
	// Access, when set, is told of each request that reached the gate, for the
	// access log. It must not block.
	Access func(Access)
	// Logs tells whether Access wants an answer of that status; nil: all. What Access
	// is given is not made otherwise.
	Logs func(status int) bool
}

// Observation is one answer, for metrics: all values are from small fixed sets.
type Observation struct {
	Route    string // its pattern; "" when none matched
	Class    string
	Method   string // "other" when we serve no such method
	Status   int
	Duration time.Duration
	Panicked bool
}

// Access is one answer, for the access log. It holds no query and no header but the
// request id.
type Access struct {
	Observation
	RequestID string
	Tenant    string
	Remote    string // the address of who asked, see Remote
}

// Server is the front of a node. Safe for concurrent use.
type Server struct {
	cfg    Config
	limits Limits
	router *router
	http   *fasthttp.Server
	log    *slog.Logger
	ids    *ids
	pool   sync.Pool // *request

	base     context.Context // ends when the time for the shutdown is over
	endBase  context.CancelFunc
	polls    context.Context // ends when the shutdown begins
	endPolls context.CancelFunc
}

// New checks the configuration and compiles the routing table. It starts nothing.
func New(cfg Config) (*Server, error) {
	limits, err := cfg.Limits.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.View == nil {
		return nil, errors.New("httpapi: Config.View is missing")
	}
	if limits.Target >= limits.Headers {
		return nil, errors.New("httpapi: Limits.Target must be less than Limits.Headers, which holds it")
	}
	table, err := newRouter(append([]Route(nil), cfg.Routes...))
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, limits: limits, router: table, log: cfg.Logger, ids: newIDs()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.pool.New = func() any { return new(request) }
	s.base, s.endBase = context.WithCancel(context.Background())
	s.polls, s.endPolls = context.WithCancel(s.base)
	s.http = s.fasthttp()
	return s, nil
}

// fasthttp sets every limit that fasthttp knows. Bodies are streamed by the library
// and read by us (readBody), so that a request is refused before its body is read.
func (s *Server) fasthttp() *fasthttp.Server {
	return &fasthttp.Server{
		Handler:                      s.handle,
		ExpectHandler:                s.expect,
		HeaderReceived:               takeOver,
		ErrorHandler:                 s.unreadable,
		Logger:                       quiet{s.log},
		StreamRequestBody:            true,
		MaxRequestBodySize:           s.limits.Body,
		ReadBufferSize:               s.limits.Headers,
		ReadTimeout:                  s.limits.ReadTimeout,
		WriteTimeout:                 s.limits.WriteTimeout,
		IdleTimeout:                  s.limits.IdleTimeout,
		Concurrency:                  s.limits.Connections,
		MaxConnsPerIP:                s.limits.PerIP,
		MaxRequestsPerConn:           s.limits.PerConnection,
		DisablePreParseMultipartForm: true,
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		SecureErrorLogMessage:        true,
		CloseOnShutdown:              true,
	}
}

// Serve accepts connections until the listener fails or Shutdown is called; then it
// returns nil. It closes the listener. Call it once.
func (s *Server) Serve(ln net.Listener) error {
	if s.polls.Err() != nil { // Shutdown came first
		_ = ln.Close()
		return nil
	}
	ln = lazyListener{ln}
	if s.cfg.TLS != nil {
		conf := s.cfg.TLS.Clone()
		conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
		conf.NextProtos = []string{"http/1.1"}
		ln = tls.NewListener(ln, conf)
	}
	if err := s.http.Serve(ln); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// Connections tells how many are open, and how many were turned away since the
// start because Limits.Connections were.
func (s *Server) Connections() (open int, rejected uint64) {
	return int(s.http.GetOpenConnectionsCount()), uint64(s.http.GetRejectedConnectionsCount())
}

// lastGrace is what a handler gets to answer once its context was cancelled.
const lastGrace = 2 * time.Second

// Shutdown stops accepting, tells the long-polls, and waits until the requests under
// way are answered. When ctx ends first, their contexts are cancelled and they get
// lastGrace more; the error is ctx's then if some were left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.endPolls()
	defer s.endBase()
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var last *time.Timer
	var mu sync.Mutex
	stop := context.AfterFunc(ctx, func() {
		s.endBase()
		mu.Lock()
		defer mu.Unlock()
		last = time.AfterFunc(lastGrace, cancel)
	})
	err := s.http.ShutdownWithContext(hard)
	stop()
	mu.Lock()
	defer mu.Unlock()
	if last != nil {
		last.Stop()
	}
	if errors.Is(err, context.Canceled) {
		return context.Cause(ctx)
	}
	return err
}

// quiet is fasthttp's logger. Its errors may quote what a client sent, so only the
// library's own words are kept.
type quiet struct{ log *slog.Logger }

// Printf logs the constant part of a message.
func (q quiet) Printf(format string, _ ...any) {
	message, _, _ := strings.Cut(format, "%")
	level := slog.LevelDebug
	if strings.HasPrefix(message, "Permanent") || strings.HasPrefix(message, "The ") {
		level = slog.LevelWarn
	}
	q.log.Log(context.Background(), level, "http connection: "+strings.TrimRight(message, " :"))
}
