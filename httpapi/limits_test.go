package httpapi_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/httpapi"
)

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(8 * time.Second))
	return conn
}

// TestHTT09ConnectionsAreBounded: from one address, in number of requests, in time
// between two requests, and against a client that reads nothing.
func TestHTT09ConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	plain := req("GET /plain HTTP/1.1", "Host: a", "", "")

	t.Run("from one address", func(t *testing.T) {
		t.Parallel()
		s := start(t, httpapi.Config{Limits: httpapi.Limits{PerIP: 2}})
		for range 2 {
			conn := dial(t, s.addr)
			if _, err := io.WriteString(conn, plain); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		got := exchange(t, s.addr, plain, 0)
		if len(got) > 1 || len(got) == 1 && got[0].status != 429 {
			t.Errorf("the third connection got %+v", got)
		}
	})
	t.Run("in requests", func(t *testing.T) {
		t.Parallel()
		s := start(t, httpapi.Config{Limits: httpapi.Limits{PerConnection: 3}})
		got := exchange(t, s.addr, strings.Repeat(plain, 5), 0)
		if len(got) != 3 || got[1].close || !got[2].close {
			t.Errorf("answers %+v, want 3 and then the end", got)
		}
	})
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		s := start(t, httpapi.Config{Limits: httpapi.Limits{IdleTimeout: 100 * time.Millisecond}})
		began := time.Now()
		if got := exchange(t, s.addr, plain, 0); len(got) != 1 {
			t.Errorf("answers %+v", got)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("closed only after %v", took)
		}
	})
	t.Run("half-closed", func(t *testing.T) {
		t.Parallel()
		s := start(t, httpapi.Config{})
		conn := dial(t, s.addr)
		if _, err := io.WriteString(conn, plain); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 200") {
			t.Errorf("%q, %v", all, err)
		}
	})
}
