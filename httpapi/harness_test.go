package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp's clock and its pool of idle workers live as long as the process.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

// testServer is a real server on a loopback port.
type testServer struct {
	*httpapi.Server
	addr string
	log  *lockedBuffer
	seen *observations
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

type observations struct {
	mu   sync.Mutex
	list []httpapi.Access
}

func (o *observations) add(a httpapi.Access) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, a)
}

func (o *observations) all() []httpapi.Access {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]httpapi.Access(nil), o.list...)
}

func view(context.Context, state.Freshness) (*state.View, error) { return nil, nil }

// start serves cfg; routes and view default to the test's table.
func start(t testing.TB, cfg httpapi.Config) *testServer {
	t.Helper()
	s := &testServer{log: new(lockedBuffer), seen: new(observations)}
	if cfg.Routes == nil {
		cfg.Routes = routes()
	}
	if cfg.View == nil {
		cfg.View = view
	}
	cfg.Logger = slog.New(slog.NewTextHandler(s.log, nil))
	cfg.Access = s.seen.add
	srv, err := httpapi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Server, s.addr = srv, ln.Addr().String()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

// routes is a table with each kind of route.
func routes() []httpapi.Route {
	plain := func(c *fasthttp.RequestCtx, _ *state.View) error {
		c.SetContentType("text/plain")
		c.SetBodyString(httpapi.Tenant(c) + " " + httpapi.Param(c, "id"))
		return nil
	}
	return []httpapi.Route{
		{Method: "POST", Path: "/oauth2/token", Class: httpapi.OAuth, Tenanted: true, Serve: echoForm},
		{Method: "GET", Path: "/plain", Class: httpapi.OAuth, Serve: plain},
		{Method: "GET", Path: "/admin/v1/clients/{id}", Class: httpapi.Admin, Tenanted: true, Serve: plain},
		{Method: "DELETE", Path: "/admin/v1/clients/{id}", Class: httpapi.Admin, Serve: plain},
		{Method: "POST", Path: "/admin/v1/clients/{id}/secret", Class: httpapi.Admin, Serve: plain},
		{Method: "GET", Path: "/admin/v1/clients/all", Class: httpapi.Admin, Serve: func(c *fasthttp.RequestCtx, _ *state.View) error {
			c.SetBodyString("the literal one")
			return nil
		}},
		{Method: "POST", Path: "/admin/v1/clients", Class: httpapi.Admin, Serve: echoJSON},
		{Method: "GET", Path: "/.well-known/oauth-authorization-server", Also: []string{"/.well-known/oauth-authorization-server/t/{tenant}"}, Serve: plain},
		{Method: "GET", Path: "/fails/{id}", Class: httpapi.OAuth, Serve: fails},
		{Method: "GET", Path: "/admin/v1/fails/{id}", Class: httpapi.Admin, Serve: fails},
		{Method: "POST", Path: "/upload", Class: httpapi.Admin, Stream: true, Timeout: 5 * time.Second, Serve: func(c *fasthttp.RequestCtx, _ *state.View) error {
			n, err := io.Copy(io.Discard, httpapi.Body(c))
			if err != nil {
				return httpapi.Problem(400, "invalid_request", "", "the upload is cut short")
			}
			return httpapi.JSON(c, 200, map[string]int64{"bytes": n})
		}},
	}
}

func echoForm(c *fasthttp.RequestCtx, _ *state.View) error {
	form, err := httpapi.Form(c)
	if err != nil {
		return err
	}
	return httpapi.JSON(c, 200, map[string]any{
		"grant_type": form.Get("grant_type"), "scope": form.Get("scope"),
		"resource": form.All("resource"), "tenant": httpapi.Tenant(c), "canary": form.Get("canary"),
		"authorization": string(c.Request.Header.Peek("Authorization")),
	})
}

func echoJSON(c *fasthttp.RequestCtx, _ *state.View) error {
	var in struct {
		Name   string   `json:"name"`
		Scopes []string `json:"scopes"`
	}
	if err := httpapi.DecodeJSON(c, &in); err != nil {
		return err
	}
	return httpapi.JSON(c, 201, in)
}

// fails returns the error that its path names.
func fails(c *fasthttp.RequestCtx, _ *state.View) error {
	switch httpapi.Param(c, "id") {
	case "client":
		return oauth.InvalidClient.With("unknown client or wrong secret")
	case "token":
		return oauth.InvalidToken.With("the token has expired")
	case "scope":
		return oauth.InsufficientScope.With("keyraft:admin is needed")
	case "busy":
		return oauth.TemporarilyUnavailable.With("too many requests wait").WithRetryAfter(7)
	case "nonce":
		return oauth.UseDPoPNonce.With("use the nonce").WithChallenge(`DPoP error="use_dpop_nonce"`)
	case "deadline":
		return context.DeadlineExceeded
	case "wait":
		<-httpapi.Context(c).Done()
		return httpapi.Context(c).Err()
	case "unknown":
		return errors.New("the secret canary 4711 is in this error")
	case "panic":
		panic("the secret canary 4711 is in this panic")
	case "field":
		return httpapi.ProblemWith(409, "epoch", "since", "start again from the snapshot", map[string]any{"epoch": 3, "status": "ignored"})
	}
	return nil
}

// exchange sends raw bytes on one connection and reads answers until the server
// closes it or want answers are there (0: until closed).
func exchange(t testing.TB, addr, raw string, want int) []answer {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(8 * time.Second))
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = io.WriteString(conn, raw)
	}()
	var out []answer
	in := bufio.NewReader(conn)
	for want == 0 || len(out) < want {
		a, err := readAnswer(in, raw)
		if err != nil {
			break
		}
		out = append(out, a)
	}
	_ = conn.Close()
	<-wrote
	return out
}

type answer struct {
	status int
	header http.Header
	body   string
	close  bool
}

func readAnswer(in *bufio.Reader, raw string) (answer, error) {
	var req *http.Request
	if strings.HasPrefix(raw, "HEAD ") {
		req = &http.Request{Method: "HEAD"}
	}
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return answer{resp.StatusCode, resp.Header, string(body), resp.Close}, err
}

// one sends a request and gives its only answer.
func one(t testing.TB, addr, raw string) answer {
	t.Helper()
	got := exchange(t, addr, raw, 1)
	if len(got) != 1 {
		t.Fatalf("no answer to %.200q", raw)
	}
	return got[0]
}

// req builds a request from lines; the body follows an empty line.
func req(lines ...string) string { return strings.Join(lines, "\r\n") }

// token is a POST of a form to the token endpoint with further header lines.
func token(body string, headers ...string) string {
	all := []string{"POST /oauth2/token HTTP/1.1", "Host: sts.example", "Content-Type: application/x-www-form-urlencoded"}
	all = append(all, headers...)
	return req(append(all, "", body)...)
}
