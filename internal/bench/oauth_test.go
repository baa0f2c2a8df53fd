package bench

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// canned is a server that says the same to everybody, byte by byte.
func canned(t *testing.T, serve func(c net.Conn, r *http.Request)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			all.Go(func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					if _, err := io.Copy(io.Discard, r.Body); err != nil {
						return
					}
					serve(c, r)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return "http://" + ln.Addr().String()
}

func says(text string) func(net.Conn, *http.Request) {
	return func(c net.Conn, _ *http.Request) { _, _ = io.WriteString(c, text) }
}

// nobody is an address at which nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return "http://" + ln.Addr().String()
}

// one makes one worker that is not connected yet.
func one(t *testing.T, target Target, m Mix) *oauthWorker {
	t.Helper()
	o, err := target.compile(m)
	if err != nil {
		t.Fatal(err)
	}
	w := &oauthWorker{oauthLoad: o, conn: newConn(o.servers, 0, o.timeout)}
	t.Cleanup(w.Close)
	return w
}

const goodToken = `{"access_token":"t0","token_type":"Bearer","expires_in":3600}`

func answered(status, body string) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
}

// TestKindsOfAnswers: what a server can do to a request has a name each, twice in a
// row, for a connection survives what it can.
func TestKindsOfAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, url, want string
	}{
		{name: "a token", url: canned(t, says(answered("200 OK", goodToken)))},
		{name: "in chunks", url: canned(t, says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"+goodToken[:5]+"\r\n"+fmt.Sprintf("%x", len(goodToken)-5)+"\r\n"+goodToken[5:]+"\r\n0\r\n\r\n"))},
		{name: "a server that closes after each", url: canned(t, func(c net.Conn, _ *http.Request) {
			_, _ = io.WriteString(c, strings.Replace(answered("200 OK", goodToken), "\r\n", "\r\nConnection: close\r\n", 1))
			_ = c.Close()
		})},
		{name: "an OAuth error", url: canned(t, says(answered("401 Unauthorized", `{"error":"invalid_client"}`))), want: "401 invalid_client"},
		{name: "a problem document", url: canned(t, says(answered("503 Service Unavailable", `{"title":"x","code":"outcome_unknown"}`))), want: "503 outcome_unknown"},
		{name: "an error that is no text", url: canned(t, says(answered("500 Oh", `{"error":{"a":1}}`))), want: "500"},
		{name: "an error that would draw on the terminal", url: canned(t, says(answered("400 Bad", `{"error":"\u001b[31mred<script>"}`))), want: "400 31mredscript"},
		{name: "no token in it", url: canned(t, says(answered("200 OK", `{}`))), want: KindNoToken},
		{name: "a page", url: canned(t, says(answered("200 OK", `<html>"access_token"`))), want: KindNoToken},
		{name: "a redirect", url: canned(t, says(answered("302 Found", ``))), want: "302"},
		{name: "no HTTP", url: canned(t, says("220 mail.example ESMTP\r\n\r\n")), want: KindBad},
		{name: "cut off", url: canned(t, func(c net.Conn, _ *http.Request) { _ = c.Close() }), want: KindBroken},
		{name: "cut off in the middle", url: canned(t, func(c net.Conn, _ *http.Request) {
			_, _ = io.WriteString(c, answered("200 OK", goodToken)[:60])
			_ = c.Close()
		}), want: KindBroken},
		{name: "nobody", url: nobody(t), want: KindConnect},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := one(t, Target{Servers: []string{tt.url}}, Mix{Issue: 1, Revoke: 1})
			for range 2 {
				if got := w.Do(0); got.Kind != tt.want || got.Op != opIssue {
					t.Errorf("kind %q of %d, want %q", got.Kind, got.Op, tt.want)
				}
			}
		})
	}
}

// TestSilenceIsATimeout: the connection stands, and no answer comes.
func TestSilenceIsATimeout(t *testing.T) {
	t.Parallel()
	w := one(t, Target{Servers: []string{canned(t, func(net.Conn, *http.Request) {})}}, Mix{Issue: 1})
	if err := w.conn.dial(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.conn.timeout = 20 * time.Millisecond // of the request: connecting may take longer on a busy machine
	if got := w.Do(0); got.Kind != KindTimeout {
		t.Errorf("kind %q", got.Kind)
	}
}

// TestADeadServerIsLeft: the request that met it fails, the next one asks the next.
func TestADeadServerIsLeft(t *testing.T) {
	t.Parallel()
	w := one(t, Target{Servers: []string{nobody(t), canned(t, says(answered("200 OK", goodToken)))}}, Mix{Issue: 1})
	if got := w.Do(0); got.Kind != KindConnect {
		t.Errorf("the first: %q", got.Kind)
	}
	for range 2 {
		if got := w.Do(0); got.Kind != "" {
			t.Errorf("then: %q", got.Kind)
		}
	}
}

// TestAnIdleConnectionMayEnd: a server that closes it while nobody asks makes no error,
// one that closes it under a request does.
func TestAnIdleConnectionMayEnd(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	w := one(t, Target{Servers: []string{canned(t, func(c net.Conn, _ *http.Request) {
		n := asked.Add(1)
		if n != 2 && n != 4 {
			_, _ = io.WriteString(c, answered("200 OK", goodToken))
		}
		if n%2 == 0 {
			_ = c.Close()
		}
	})}}, Mix{Issue: 1})
	if got := w.Do(0); got.Kind != "" {
		t.Fatalf("kind %q", got.Kind)
	}
	w.conn.last = time.Now().Add(-idleBefore) // long ago
	if got := w.Do(0); got.Kind != "" {
		t.Errorf("after a pause: %q", got.Kind)
	}
	if got := w.Do(0); got.Kind != KindBroken {
		t.Errorf("without one: %q", got.Kind)
	}
}

// recorded is what a request was.
type recorded struct {
	path, form, authorization string
}

// book is a server over TLS that keeps what it was asked and answers as an OAuth
// server does: tokens t1, t2 …, each active until it is revoked.
type book struct {
	mu      sync.Mutex
	asked   []recorded
	issued  int
	life    int
	revoked map[string]int
}

func (b *book) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = r.ParseForm()
	b.asked = append(b.asked, recorded{r.URL.Path, r.PostForm.Encode(), r.Header.Get("Authorization")})
	token := r.PostForm.Get("token")
	switch {
	case strings.HasSuffix(r.URL.Path, "/token"):
		b.issued++
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprintf("t+%d", b.issued), "expires_in": b.life})
	case strings.HasSuffix(r.URL.Path, "/revoke"):
		b.revoked[token]++
	default:
		_, _ = fmt.Fprintf(w, `{"active" : %v}`, b.revoked[token] == 0 && strings.HasPrefix(token, "t+"))
	}
}

func (b *book) tokens() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.issued
}

// TestWorkloads runs a mix over TLS: each token is revoked once, introspections ask
// about those that are active, and the credentials go the way that was asked for.
func TestWorkloads(t *testing.T) {
	t.Parallel()
	b := &book{life: 3600, revoked: map[string]int{}}
	web := httptest.NewTLSServer(b)
	t.Cleanup(web.Close)
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	target := Target{
		Servers: []string{web.URL + "/t/acme"}, TLS: &tls.Config{RootCAs: roots},
		Client: Credentials{ID: "a b", Secret: "p:ss"}, Form: map[string][]string{"scope": {"read"}},
	}
	workers, err := target.Workers(t.Context(), 2, Mix{Issue: 1, Introspect: 2, Revoke: 2}, 5)
	if err != nil {
		t.Fatal(err)
	}
	if n := b.tokens(); n != 5 {
		t.Errorf("%d tokens were issued before", n)
	}
	var counts [3]int
	for n := range uint64(100) {
		o := workers[n%2].Do(n)
		if o.Kind != "" {
			t.Fatalf("operation %d of kind %d: %q", n, o.Op, o.Kind)
		}
		counts[o.Op]++
	}
	closeAll(workers)
	b.mu.Lock()
	if counts[opIntrospect] == 0 || counts[opIntrospect] > 40 || counts[opRevoke] > counts[opIssue]+5 || b.issued != counts[opIssue]+5 {
		t.Errorf("issued, introspected, revoked %v; the server issued %d", counts, b.issued)
	}
	for token, times := range b.revoked {
		if times != 1 || !strings.HasPrefix(token, "t+") {
			t.Errorf("%q was revoked %d times", token, times)
		}
	}
	for _, r := range b.asked {
		if r.authorization != "Basic YStiOnAlM0Fzcw==" || !strings.HasPrefix(r.path, "/t/acme/oauth2/") {
			t.Errorf("asked %+v", r)
		}
		if r.path == "/t/acme/oauth2/token" && r.form != "grant_type=client_credentials&scope=read" {
			t.Errorf("asked %+v", r)
		}
	}
	b.mu.Unlock()

	target.Client.Form, target.Token, target.Introspect = true, "/x/token", "/x/ask"
	if workers, err = target.Workers(t.Context(), 1, Mix{Introspect: 1}, 1); err != nil {
		t.Fatal(err)
	}
	if o := workers[0].Do(0); o != (Outcome{Op: opIntrospect}) {
		t.Errorf("outcome %+v", o)
	}
	closeAll(workers)
	b.mu.Lock()
	defer b.mu.Unlock()
	last := b.asked[len(b.asked)-1]
	if last.authorization != "" || last.path != "/t/acme/x/ask" || !strings.HasPrefix(last.form, "client_id=a+b&client_secret=p%3Ass&token=t%2B") {
		t.Errorf("asked %+v", last)
	}
}

// TestATokenThatIsAboutToExpireIsReplaced: an introspection of an expired token is no
// measure of one.
func TestATokenThatIsAboutToExpireIsReplaced(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var s stock
	s.add(stocked{"old", now})
	s.add(stocked{"new", now.Add(time.Minute)})
	if _, ok := s.pick(0, false, now); ok {
		t.Error("the old one was given")
	}
	for n := range uint64(3) {
		if token, ok := s.pick(n, false, now); !ok || token != "new" {
			t.Errorf("%q, %v", token, ok)
		}
	}
	if token, ok := s.pick(7, true, now); !ok || token != "new" {
		t.Errorf("%q, %v", token, ok)
	}
	if _, ok := s.pick(0, true, now); ok {
		t.Error("a token was given twice to be revoked")
	}
}

// TestInactiveIsAnError: a server that is quick to know no token is not quick.
func TestInactiveIsAnError(t *testing.T) {
	t.Parallel()
	w := one(t, Target{Servers: []string{canned(t, says(answered("200 OK", `{"active":false,"x":"\"active\":true"}`)))}}, Mix{Introspect: 1})
	w.stock.add(stocked{"t", time.Now().Add(time.Hour)})
	if got := w.Do(0); got != (Outcome{opIntrospect, KindInactive}) {
		t.Errorf("outcome %+v", got)
	}
}

func TestWorkersRefuse(t *testing.T) {
	t.Parallel()
	good := canned(t, says(answered("200 OK", goodToken)))
	for name, tt := range map[string]struct {
		target Target
		n      int
		mix    Mix
		tokens int
	}{
		"no server":            {Target{}, 1, Mix{Issue: 1}, 0},
		"no URL":               {Target{Servers: []string{"localhost:1"}}, 1, Mix{Issue: 1}, 0},
		"no operation":         {Target{Servers: []string{good}}, 1, Mix{}, 0},
		"less than none":       {Target{Servers: []string{good}}, 1, Mix{Issue: 2, Revoke: -1}, 0},
		"no connection":        {Target{Servers: []string{good}}, 0, Mix{Issue: 1}, 0},
		"nobody there":         {Target{Servers: []string{nobody(t)}}, 3, Mix{Issue: 1}, 0},
		"one of two not there": {Target{Servers: []string{good, nobody(t)}}, 4, Mix{Issue: 1}, 0},
		"no TLS there":         {Target{Servers: []string{"https" + strings.TrimPrefix(good, "http")}}, 1, Mix{Issue: 1}, 0},
		"refused":              {Target{Servers: []string{canned(t, says(answered("401 No", `{"error":"invalid_client"}`)))}}, 2, Mix{Revoke: 1}, 4},
	} {
		if workers, err := tt.target.Workers(t.Context(), tt.n, tt.mix, tt.tokens); err == nil {
			t.Errorf("%s: %d workers", name, len(workers))
		}
	}
}

func TestCredentialsHide(t *testing.T) {
	t.Parallel()
	c := Credentials{ID: "orders", Secret: "hunter2"}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	target := Target{Client: c}
	if all := fmt.Sprintf("%v %+v %#v %s %v %s", c, target, target, c, c.LogValue(), text); strings.Contains(all, "hunter2") {
		t.Error(all)
	}
}

// FuzzRefusal: no answer makes a kind that a terminal or a page would not like.
func FuzzRefusal(f *testing.F) {
	for _, seed := range []string{`{"error":"invalid_client"}`, `{"code":"x","error":7}`, "", "\x1b[31m", `{"error":"` + strings.Repeat("a", 99) + `"}`} {
		f.Add(400, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, status int, answer []byte) {
		kind := refusal(status, answer, "")
		if len(kind) > 70 || strings.ContainsAny(kind, "<>&\"'\x1b\n\r\t") {
			t.Errorf("kind %q", kind)
		}
		if status/100 != 2 && kind == "" {
			t.Error("a refusal has no kind")
		}
	})
}

// FuzzActive: what counts as active says so in JSON, if it is JSON.
func FuzzActive(f *testing.F) {
	for _, seed := range []string{`{"active":true}`, `{"active" : true }`, `{"active":false}`, `"active":tru`, `{"a":"\"active\":true"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		var doc map[string]any
		if json.Unmarshal(answer, &doc) != nil || len(doc) != 1 {
			return // a whole answer is not decoded, on purpose
		}
		if v, ok := doc["active"].(bool); ok && strings.Count(string(answer), `"active"`) == 1 && active(answer) != v {
			t.Errorf("%s: %v", answer, active(answer))
		}
	})
}
