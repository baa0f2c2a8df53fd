package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
)

func quickServer(tb testing.TB) *Server {
	tb.Helper()
	body := []byte(`{"access_token":"x","token_type":"Bearer","expires_in":600}`)
	s, err := New(Config{
		View: func(context.Context, state.Freshness) (*state.View, error) { return nil, nil },
		Routes: []Route{
			{Method: "POST", Path: "/oauth2/token", Tenanted: true, Serve: func(c *fasthttp.RequestCtx, _ *state.View) error {
				c.SetContentType("application/json")
				c.SetBody(body)
				return nil
			}},
			{Method: "GET", Path: "/admin/v1/clients/{id}", Class: Admin, Tenanted: true, Serve: func(c *fasthttp.RequestCtx, _ *state.View) error {
				return JSON(c, 200, Param(c, "id"))
			}},
			{Method: "POST", Path: "/form", Serve: func(c *fasthttp.RequestCtx, _ *state.View) error {
				form, err := Form(c)
				if err != nil {
					return err
				}
				return JSON(c, 200, form.Get("a"))
			}},
			{Method: "POST", Path: "/json", Class: Admin, Serve: func(c *fasthttp.RequestCtx, _ *state.View) error {
				var in document
				if err := DecodeJSON(c, &in); err != nil {
					return err
				}
				return JSON(c, 200, in)
			}},
		},
		Observe: func(Observation) {},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

const tokenRequest = "POST /oauth2/token HTTP/1.1\r\nHost: sts.example:9763\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nAuthorization: Basic MDEyMzQ1Njc4OWFiY2RlZjpzZWNyZXQtc2VjcmV0LXNlY3JldA==\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 49\r\n\r\ngrant_type=client_credentials&scope=orders%3Aread"

// loop is a connection that gives the same request n times and drops the answers: the
// server's own cost without a socket.
type loop struct {
	text string
	n    int
	at   int
	out  io.Writer
}

func (l *loop) Read(p []byte) (int, error) {
	if l.at == len(l.text) {
		if l.at, l.n = 0, l.n-1; l.n <= 0 {
			return 0, io.EOF
		}
	}
	n := copy(p, l.text[l.at:])
	l.at += n
	return n, nil
}

func (l *loop) Close() error                     { return nil }
func (l *loop) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (l *loop) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (l *loop) SetDeadline(time.Time) error      { return nil }
func (l *loop) SetReadDeadline(time.Time) error  { return nil }
func (l *loop) SetWriteDeadline(time.Time) error { return nil }

func (l *loop) Write(p []byte) (int, error) {
	if l.out != nil {
		return l.out.Write(p)
	}
	return len(p), nil
}

// BenchmarkTokenPath is the whole front: fasthttp, gate, router, body, a constant
// answer. BenchmarkBareFasthttp is the same without us but with the same limits.
func BenchmarkTokenPath(b *testing.B) { benchmark(b, quickServer(b).http) }

func BenchmarkBareFasthttp(b *testing.B) {
	body := []byte(`{"access_token":"x","token_type":"Bearer","expires_in":600}`)
	bare := quickServer(b).http
	bare.Handler = func(c *fasthttp.RequestCtx) {
		c.SetContentType("application/json")
		c.SetBody(body)
	}
	benchmark(b, bare)
}

func benchmark(b *testing.B, s *fasthttp.Server) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	if err := s.ServeConn(&loop{text: tokenRequest, n: b.N}); err != nil {
		b.Fatal(err)
	}
}

// TestTokenPathAllocates keeps the promise of BenchmarkTokenPath: nothing of ours, one
// io.LimitedReader of fasthttp's, which makes sure that the body was read.
func TestTokenPathAllocates(t *testing.T) {
	s := quickServer(t)
	const n = 2000
	allocs := testing.AllocsPerRun(2, func() {
		if err := s.http.ServeConn(&loop{text: tokenRequest, n: n}); err != nil {
			t.Fatal(err)
		}
	})
	if allocs/n > 1.1 && !raceEnabled { // the connection itself takes some 20
		t.Errorf("%.2f allocations a request, want 1", allocs/n)
	}
}

// FuzzGate sends raw bytes to a real server: never a panic, never a 5xx, each answer
// well-formed.
func FuzzGate(f *testing.F) {
	for _, seed := range []string{
		tokenRequest,
		"GET /admin/v1/clients/a%20b HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /form HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n3\r\na=b\r\n0\r\n\r\n",
		"POST /json HTTP/1.1\r\nHost: a\r\nContent-Length: 19\r\nContent-Type: application/json\r\n\r\n{\"client_name\":\"a\"}",
		"POST /oauth2/token HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST /oauth2/token HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\na=b",
		"GET /t/acme/..%2f HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://evil/ HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	s := quickServer(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var out bytes.Buffer
		_ = s.http.ServeConn(&loop{text: string(raw), n: 1, out: &out}) // an error is a refused request
		if err := readStatuses(&out); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
	})
}

// readStatuses reads all answers of a connection.
func readStatuses(conn io.Reader) error {
	in := bufio.NewReader(conn)
	for {
		if _, err := in.Peek(1); err != nil {
			return nil
		}
		var resp fasthttp.Response
		if err := resp.ReadLimitBody(in, 1<<20); err != nil {
			return nil // a HEAD's answer has no body to read; the status of all before it was checked
		}
		if code := resp.StatusCode(); code >= 500 || code < 100 {
			return fmt.Errorf("status %d: %s", code, resp.Body())
		}
	}
}
