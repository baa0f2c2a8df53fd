package httpapi_test

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/httpapi"
)

// TestGateRefuses sends raw bytes. Each row's smuggled request, where there is one,
// must get no answer: the connection is dropped after the refusal.
func TestGateRefuses(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{Limits: httpapi.Limits{ReadTimeout: 2 * time.Second}})
	const next = "GET /plain HTTP/1.1\r\nHost: a\r\n\r\n" // what a smuggler would add
	get := func(lines ...string) string {
		return req(append(append([]string{"GET /plain HTTP/1.1"}, lines...), "", next)...)
	}
	tests := []struct {
		name, raw string
		status    []int
	}{
		{"HTT-01 Content-Length and chunked", token("0\r\n\r\n"+next, "Content-Length: 5", "Transfer-Encoding: chunked"), []int{400}},
		{"HTT-01 chunked and Content-Length", token("0\r\n\r\n"+next, "Transfer-Encoding: chunked", "Content-Length: 5"), []int{400}},
		{"HTT-02 identity", token(next, "Transfer-Encoding: identity"), []int{400}},
		{"HTT-02 gzip, chunked", token("0\r\n\r\n", "Transfer-Encoding: gzip, chunked"), []int{400}},
		{"HTT-02 chunked, chunked", token("0\r\n\r\n", "Transfer-Encoding: chunked, chunked"), []int{400}},
		{"HTT-02 two spaces before chunked", token("0\r\n\r\n", "Transfer-Encoding:  chunked"), []int{400}},
		{"HTT-02 a tab before chunked", token("0\r\n\r\n", "Transfer-Encoding:\tchunked"), []int{400}},
		{"HTT-02 a space after chunked", token("0\r\n\r\n", "Transfer-Encoding: chunked "), []int{400}},
		{"HTT-02 xchunked", token("0\r\n\r\n", "Transfer-Encoding: xchunked"), []int{400}},
		{"HTT-02 Chunked in capitals", token("0\r\n\r\n", "Transfer-Encoding: CHUNKED"), []int{400}},
		{"HTT-02 two Transfer-Encoding", token("0\r\n\r\n", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), []int{400}},
		{"HTT-02 empty Transfer-Encoding", token("", "Transfer-Encoding:"), []int{400}},
		{"HTT-02 Transfer-Encoding on HTTP/1.0", req("POST /oauth2/token HTTP/1.0", "Host: a", "Transfer-Encoding: chunked", "", "0", "", next), []int{400}},
		{"HTT-03 two equal lengths", token("abcde", "Content-Length: 5", "Content-Length: 5"), []int{400}},
		{"HTT-03 two lengths", token("abcde", "Content-Length: 5", "Content-Length: 6"), []int{400}},
		{"HTT-03 plus sign", token("abcde", "Content-Length: +5"), []int{400}},
		{"HTT-03 list", token("abcde", "Content-Length: 5,5"), []int{400}},
		{"HTT-03 hexadecimal", token("abcde", "Content-Length: 0x5"), []int{400}},
		{"HTT-03 spaces round it", token("abcde", "Content-Length:  5 "), []int{400}},
		{"HTT-03 negative", token("abcde", "Content-Length: -1"), []int{400}},
		{"HTT-03 two to the 63", token("abcde", "Content-Length: 9223372036854775808"), []int{400}},
		{"HTT-03 two to the 64 and 5", token("abcde", "Content-Length: 18446744073709551621"), []int{400}},
		{"HTT-03 empty", token("abcde", "Content-Length: "), []int{400}},
		{"HTT-04 an extension", token("3;ext\r\na=b\r\n0\r\n\r\n"+next, "Transfer-Encoding: chunked"), []int{400}},
		{"HTT-04 a huge extension", token("3;"+strings.Repeat("e", 1<<20)+"\r\na=b\r\n0\r\n\r\n"+next, "Transfer-Encoding: chunked"), []int{400}},
		{"HTT-04 a space after the size", token("3 \r\na=b\r\n0\r\n\r\n"+next, "Transfer-Encoding: chunked"), []int{400}},
		{"HTT-04 extension with a bare LF", token("5;ext=\"\nabcde\r\n0\r\n\r\n"+next, "Transfer-Encoding: chunked"), []int{400}},
		{"HTT-04 bare LF after the size", token("5\nabcde\r\n0\r\n\r\n"+next, "Transfer-Encoding: chunked"), []int{400}},
		{"HTT-04 0x size", token("0x5\r\nabcde\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), []int{400}},
		{"HTT-04 negative size", token("-1\r\nabcde\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), []int{400}},
		{"HTT-04 20 hex digits", token("FFFFFFFFFFFFFFFFFFFF\r\nabcde\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), []int{400}},
		{"HTT-04 data longer than the size", token("3\r\nabcde\r\n0\r\n\r\n"+next, "Transfer-Encoding: chunked"), []int{400}},
		{"HTT-04 the last CRLF is missing", token("5\r\na=b&c\r\n0\r\nX", "Transfer-Encoding: chunked"), []int{400, 408}},
		{"HTT-04 trailer Content-Length", token("3\r\na=b\r\n0\r\nContent-Length: 5\r\n\r\n"+next, "Transfer-Encoding: chunked"), []int{400}},
		{"HTT-04 trailer Authorization", token("3\r\na=b\r\n0\r\nAuthorization: Basic eA==\r\n\r\n"+next, "Transfer-Encoding: chunked"), []int{400}},
		{"HTT-04 trailer Host", token("3\r\na=b\r\n0\r\nHost: b\r\n\r\n"+next, "Transfer-Encoding: chunked"), []int{400}},
		{"HTT-04 a million one-byte chunks", token(strings.Repeat("1\r\na\r\n", 1_000_000)+"0\r\n\r\n", "Transfer-Encoding: chunked"), []int{400}},
		{"HTT-04 what follows a chunked body is not served", token("3\r\na=b\r\n0\r\n\r\n"+next, "Transfer-Encoding: chunked"), []int{200}},
		{"HTT-04 chunks of a GET, and what follows", req("GET /plain HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "", "3", "abc", "0", "", next), []int{200}},
		{"HTT-05 space before the colon", get("Host: a", "Content-Length : 5"), []int{400}},
		{"HTT-05 tab before the name", get("\tHost: a"), []int{400}},
		{"HTT-05 folded line", get("Host: a", "X-A: b", " c"), []int{400}},
		{"HTT-05 folded line with a tab", get("Host: a", "X-A: b", "\tc"), []int{400}},
		{"HTT-05 NUL in a name", get("Host: a", "Foo\x00: a"), []int{400}},
		{"HTT-05 NUL in a value", get("Host: a", "Foo: a\x00b"), []int{400}},
		{"HTT-05 bare CR in a value", get("Host: a", "Foo: a\rb"), []int{400}},
		{"HTT-05 bare LF as line end", "GET /plain HTTP/1.1\r\nHost: a\nX: y\r\n\r\n" + next, []int{400}},
		{"HTT-05 no colon", get("Host: a", "Foo"), []int{400}},
		{"HTT-05 no name", get("Host: a", ": b"), []int{400}},
		{"HTT-05 underscore twin of Content-Length", get("Host: a", "content_length: 5"), []int{400}},
		{"HTT-05 underscore twin of X-Forwarded-For", get("Host: a", "X_Forwarded_For: 10.0.0.1"), []int{400}},
		{"HTT-05 8-bit name", get("Host: a", "F\xf6\xf6: a"), []int{400}},
		{"HTT-06 no Host", get("Accept: */*"), []int{400}},
		{"HTT-06 no Host on HTTP/1.0", req("GET /plain HTTP/1.0", "Accept: */*", "", ""), []int{400}},
		{"HTT-06 two Hosts", get("Host: a", "Host: a"), []int{400}},
		{"HTT-06 empty Host", get("Host: "), []int{400}},
		{"HTT-06 Host list", get("Host: a,b"), []int{400}},
		{"HTT-06 Host with user", get("Host: a@b"), []int{400}},
		{"HTT-06 Host with a path", get("Host: a/b"), []int{400}},
		{"HTT-06 Host with a junk port", get("Host: a:b"), []int{400}},
		{"HTT-06 absolute form", req("GET http://evil/plain HTTP/1.1", "Host: a", "", next), []int{400}},
		{"HTT-06 OPTIONS *", req("OPTIONS * HTTP/1.1", "Host: a", "", next), []int{400}},
		{"HTT-06 CONNECT", req("CONNECT a:1 HTTP/1.1", "Host: a", "", next), []int{400, 405}},
		{"HTT-06 TRACE", req("TRACE /plain HTTP/1.1", "Host: a", "", next), []int{405}},
		{"HTT-06 lower-case method", req("get /plain HTTP/1.1", "Host: a", "", next), []int{400}},
		{"HTT-06 mixed-case method", req("gEt /plain HTTP/1.1", "Host: a", "", next), []int{400}},
		{"HTT-06 method of 1 KiB", req(strings.Repeat("A", 1024)+" /plain HTTP/1.1", "Host: a", "", next), []int{400}},
		{"HTT-06 HTTP/1.2", req("GET /plain HTTP/1.2", "Host: a", "", next), []int{400}},
		{"HTT-06 HTTP/0.9", "GET /plain\r\n\r\n", []int{400}},
		{"HTT-06 HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{400}},
		{"HTT-07 unknown expectation", token("a=b", "Content-Length: 3", "Expect: x"), []int{417}},
		{"HTT-07 two expectations", token("a=b", "Content-Length: 3", "Expect: 100-continue", "Expect: 100-continue"), []int{400}},
		{"HTT-10 request line of 10 KiB", req("GET /plain?"+strings.Repeat("a", 10<<10)+" HTTP/1.1", "Host: a", "", ""), []int{414}},
		{"HTT-10 request line of 64 KiB", req("GET /"+strings.Repeat("a", 64<<10)+" HTTP/1.1", "Host: a", "", ""), []int{414, 431}},
		{"HTT-10 header of 1 MiB", get("Host: a", "X: "+strings.Repeat("a", 1<<20)), []int{431}},
		{"HTT-10 200 headers", get("Host: a" + strings.Repeat("\r\nX-A: b", 200)), []int{431}},
		{"HTT-10 10 000 headers", get("Host: a" + strings.Repeat("\r\nX-A: b", 10_000)), []int{431}},
		{"HTT-10 body one byte too long", token(strings.Repeat("a", 64<<10+1), "Content-Length: 65537"), []int{413}},
		{"HTT-10 body of 4 MiB and 1", token(strings.Repeat("a", 4<<20+1), fmt.Sprintf("Content-Length: %d", 4<<20+1)), []int{413}},
		{"HTT-10 chunked body of 70 kB", token("11170\r\n"+strings.Repeat("a", 70_000)+"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), []int{413}},
		{"HTT-10 Content-Encoding gzip", token("abc", "Content-Length: 3", "Content-Encoding: gzip"), []int{415}},
		{"measured: two Authorization headers", token("a=b", "Content-Length: 3", "Authorization: Basic eA==", "Authorization: Basic eQ=="), []int{400}},
		{"measured: two DPoP headers", token("a=b", "Content-Length: 3", "DPoP: a", "dpop: b"), []int{400}},
		{"two Content-Type headers", token("a=b", "Content-Length: 3", "Content-Type: application/json"), []int{400}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := exchange(t, s.addr, tt.raw, 0)
			if len(got) != 1 {
				t.Fatalf("%d answers, want one refusal and a closed connection: %+v", len(got), got)
			}
			if !slices.Contains(tt.status, got[0].status) {
				t.Errorf("status %d, want %v; body %s", got[0].status, tt.status, got[0].body)
			}
			if !got[0].close {
				t.Error("the answer does not say Connection: close")
			}
			if cc := got[0].header.Get("Cache-Control"); got[0].body != "" && cc != "no-store" {
				t.Errorf("Cache-Control %q", cc)
			}
			if got[0].header.Get("Server") != "" {
				t.Error("the answer names the server")
			}
		})
	}
}

// TestGateAccepts holds what must go on working: strictness that breaks honest
// clients would be switched off.
func TestGateAccepts(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	tests := []struct {
		name, raw string
		status    int
	}{
		{"a plain POST", token("grant_type=a", "Content-Length: 12"), 200},
		{"a body of exactly the limit", token("canary="+strings.Repeat("a", 64<<10-7), "Content-Length: 65536"), 200},
		{"a chunked POST", token("4\r\na=b&\r\n3\r\nc=d\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), 200},
		{"HTT-04 a harmless trailer is read and dropped", token("3\r\na=b\r\n0\r\nX-Sum: 1\r\n\r\n", "Transfer-Encoding: chunked"), 200},
		{"HTTP/1.0 with a Host, as nginx sends it", req("GET /plain HTTP/1.0", "Host: a", "", ""), 200},
		{"an IPv6 Host", req("GET /plain HTTP/1.1", "Host: [::1]:9763", "", ""), 200},
		{"a Host with a port", req("GET /plain HTTP/1.1", "Host: localhost:9763", "", ""), 200},
		{"HEAD is served by GET's route", req("HEAD /plain HTTP/1.1", "Host: a", "", ""), 200},
		{"HTT-07 Upgrade: h2c, which Java sends, is ignored", req("GET /plain HTTP/1.1", "Host: a", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA", "", ""), 200},
		{"HTT-07 a body on GET is read, not left as the next request", req("GET /plain HTTP/1.1", "Host: a", "Content-Length: 3", "", "abc"), 200},
		{"a query on a GET", req("GET /plain?a=b&c=%20 HTTP/1.1", "Host: a", "", ""), 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := one(t, s.addr, tt.raw)
			if got.status != tt.status {
				t.Errorf("status %d, want %d; body %s", got.status, tt.status, got.body)
			}
		})
	}
}

// TestHTT04TheRefusalIsHeard: by a client that sends the whole of a long malformed body
// before it looks for an answer, too.
func TestHTT04TheRefusalIsHeard(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	for name, body := range map[string]string{
		"tiny chunks":      strings.Repeat("1\r\na\r\n", 1_000_000) + "0\r\n\r\n",
		"a huge extension": "3;" + strings.Repeat("e", 6_000_000) + "\r\na=b\r\n0\r\n\r\n",
	} {
		conn := dial(t, s.addr)
		raw := token(body, "Transfer-Encoding: chunked")
		_, _ = io.WriteString(conn, raw)
		if got, err := readAnswer(bufio.NewReader(conn), raw); err != nil || got.status != 400 || !got.close {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// TestHTT07ContinueIsAsked: the final answer to Expect: 100-continue follows the
// interim one, and a refusal comes before the body is asked for.
func TestHTT07ContinueIsAsked(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	got := exchange(t, s.addr, token("grant_type=a", "Content-Length: 12", "Expect: 100-continue"), 2)
	if len(got) != 2 || got[0].status != 100 || got[1].status != 200 || !strings.Contains(got[1].body, `"grant_type":"a"`) {
		t.Errorf("answers %+v, want 100 and 200", got)
	}
	got = exchange(t, s.addr, token("3\r\na=b\r\n0\r\n\r\n", "Transfer-Encoding: chunked", "Expect: 100-continue"), 0)
	if len(got) != 2 || got[0].status != 100 || got[1].status != 200 || !got[1].close {
		t.Errorf("answers %+v, want 100 and 200 for chunks", got)
	}
	got = exchange(t, s.addr, token("", "Content-Length: 99999999", "Expect: 100-continue"), 0)
	if len(got) != 1 || got[0].status != 413 || !got[0].close {
		t.Errorf("answers %+v, want 413 at once", got)
	}
}

// TestHTT07ContinueNeverSends: a client that asks and then is silent is dropped.
func TestHTT07ContinueNeverSends(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{Limits: httpapi.Limits{ReadTimeout: time.Second}})
	began := time.Now()
	got := exchange(t, s.addr, token("", "Content-Length: 5", "Expect: 100-continue"), 0)
	if len(got) == 0 || got[0].status != 100 {
		t.Fatalf("answers %+v, want 100 first", got)
	}
	if last := got[len(got)-1]; len(got) != 2 || last.status != 408 && last.status != 400 {
		t.Errorf("answers %+v, want a refusal after the 100", got)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("dropped only after %v", took)
	}
}

// TestHTT09SlowHeadersAndBodyAreDropped: ReadTimeout bounds a whole request.
func TestHTT09SlowHeadersAndBodyAreDropped(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{Limits: httpapi.Limits{ReadTimeout: time.Second}})
	for _, raw := range []string{"GET /plain HT", "GET /plain HTTP/1.1\r\nHost: a\r\nX-", token("a=", "Content-Length: 100"), token("5\r\na", "Transfer-Encoding: chunked")} {
		began := time.Now()
		got := exchange(t, s.addr, raw, 0)
		if len(got) > 1 || len(got) == 1 && got[0].status != 408 && got[0].status != 400 {
			t.Errorf("%q: answers %+v", raw, got)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%q: dropped only after %v", raw, took)
		}
	}
}
