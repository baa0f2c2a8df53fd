package httpapi_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/httpapi"
)

// TestHTT05UnreadableIsAnsweredForEveryClass: the path is lost with a malformed header,
// so the answer is a problem document with RFC 6749's members in it.
func TestHTT05UnreadableIsAnsweredForEveryClass(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	for name, raw := range map[string]string{
		"no colon on an admin path": req("GET /admin/v1/clients/a HTTP/1.1", "Host: a", "junk", "", ""),
		"two lengths on OAuth's":    token("abc", "Content-Length: 3", "Content-Length: 3"),
		"a header beyond bounds":    req("GET /admin/v1/clients/a HTTP/1.1", "X: "+strings.Repeat("a", 20<<10), "", ""),
		"HTTP/0.9":                  "GET /admin/v1/clients/a\r\n\r\n",
	} {
		got := one(t, s.addr, raw)
		var doc struct {
			Type, Title, Detail, Code, Error string
			Status                           int
			Description                      string `json:"error_description"`
			RequestID                        string `json:"request_id"`
		}
		if err := json.Unmarshal([]byte(got.body), &doc); err != nil {
			t.Errorf("%s: %q: %v", name, got.body, err)
			continue
		}
		if ct := got.header.Get("Content-Type"); ct != "application/problem+json" {
			t.Errorf("%s: Content-Type %q", name, ct)
		}
		if doc.Status != got.status || doc.Code != "invalid_request" || doc.Type == "" || doc.Title == "" || doc.Detail == "" {
			t.Errorf("%s: not a problem document: %s", name, got.body)
		}
		if doc.Error != "invalid_request" || doc.Description != doc.Detail || doc.RequestID != got.header.Get("X-Request-Id") {
			t.Errorf("%s: without the members of RFC 6749 §5.2: %s", name, got.body)
		}
		if !got.close || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: close %v, Cache-Control %q", name, got.close, got.header.Get("Cache-Control"))
		}
	}
}

// TestHTT07ARefusedExpectationIsAnsweredWhole: with the headers that its status needs,
// in the form of its class.
func TestHTT07ARefusedExpectationIsAnsweredWhole(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	got := one(t, s.addr, req("PUT /admin/v1/clients/a HTTP/1.1", "Host: a", "Content-Length: 5", "Expect: 100-continue", "", ""))
	if got.status != 405 || got.header.Get("Allow") != "DELETE, GET, HEAD" || got.header.Get("Content-Type") != "application/problem+json" || !got.close {
		t.Errorf("%d, close %v, %v", got.status, got.close, got.header)
	}
	got = one(t, s.addr, token("", "Content-Length: 99999999", "Expect: 100-continue"))
	if got.status != 413 || !strings.Contains(got.body, `"error":"invalid_request"`) || got.header.Get("Cache-Control") != "no-store" || got.header.Get("X-Request-Id") == "" {
		t.Errorf("%d %s %v", got.status, got.body, got.header)
	}
}

// TestDurationIsTheRequests: what is refused before a handler runs has not taken the
// time that the connection was idle before it.
func TestDurationIsTheRequests(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	for _, bad := range []string{
		req("GET /plain HTTP/1.1", "Host: a", "junk", "", ""),
		token("", "Content-Length: 99999999", "Expect: 100-continue"),
	} {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(8 * time.Second))
		in := bufio.NewReader(conn)
		good := req("GET /plain HTTP/1.1", "Host: a", "", "")
		before := len(s.seen.all())
		began := time.Now()
		if _, err := io.WriteString(conn, good); err != nil {
			t.Fatal(err)
		}
		if _, err := readAnswer(in, good); err != nil {
			t.Fatal(err)
		}
		const idle = 300 * time.Millisecond
		<-time.After(idle) // the time that the connection is idle is what is tested
		if _, err := io.WriteString(conn, bad); err != nil {
			t.Fatal(err)
		}
		if _, err := readAnswer(in, bad); err != nil {
			t.Fatal(err)
		}
		// The hook runs before its answer is written.
		for _, a := range s.seen.all()[before:] {
			if a.Status != 200 && a.Duration > time.Since(began)-idle {
				t.Errorf("status %d took %v, and the connection was idle for %v of %v", a.Status, a.Duration, idle, time.Since(began))
			}
		}
	}
}
