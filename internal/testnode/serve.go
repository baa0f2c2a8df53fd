package testnode

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyraft/keyraft/httpapi"
)

// Main is the TestMain of a package that serves: it runs the tests and fails when a
// goroutine is left.
func Main(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp's clock and its pool of idle workers live as long as the process.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

// Serve runs the real server on ln, a listener in memory, until the end of t, and
// returns a client for it: every address is dial's. The caller brings the listener
// because it is of fasthttp, which only the rooms that serve may link.
func Serve(t testing.TB, ln net.Listener, dial func() (net.Conn, error), cfg httpapi.Config) *http.Client {
	t.Helper()
	srv, err := httpapi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return dial() },
		DisableCompression: true, MaxIdleConnsPerHost: 16,
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx) // what a test left open is cut off
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// Answer is what came back, read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Send sends one request. headers are name, value pairs, a later one wins; an empty
// value takes the header away.
func Send(ctx context.Context, client *http.Client, method, url, body string, headers ...string) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	for i := 0; i < len(headers); i += 2 { // a name without a value is the test's mistake: it panics
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(resp.Body)
	return Answer{resp.StatusCode, resp.Header, out}, err
}
