package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
)

// TestErrorForms: one error, the form of the route's class.
func TestErrorForms(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{Limits: httpapi.Limits{RequestTimeout: 100 * time.Millisecond}})
	tests := []struct {
		name, path, auth string
		status           int
		challenge, retry string
		body             string // "ID" stands for the request id
	}{
		{"a client that used Basic is challenged (RFC 6749 §5.2)", "/fails/client", "Basic eA==", 401, `Basic realm="keyraft", charset="UTF-8"`, "", `{"error":"invalid_client","error_description":"unknown client or wrong secret"}`},
		{"a client that did not is too (RFC 9110 §15.5.2)", "/fails/client", "", 401, `Basic realm="keyraft", charset="UTF-8"`, "", `{"error":"invalid_client","error_description":"unknown client or wrong secret"}`},
		{"a refused token is a Bearer challenge (RFC 6750 §3)", "/fails/token", "", 401, `Bearer realm="keyraft", error="invalid_token", error_description="the token has expired"`, "", `{"error":"invalid_token","error_description":"the token has expired"}`},
		{"a missing scope at the admin API", "/admin/v1/fails/scope", "", 403, `Bearer realm="keyraft", error="insufficient_scope", error_description="keyraft:admin is needed"`, "", `{"code":"insufficient_scope","detail":"keyraft:admin is needed","request_id":"ID","status":403,"title":"Forbidden","type":"urn:keyraft:error:insufficient_scope"}`},
		{"Retry-After is kept", "/fails/busy", "", 503, "", "7", `{"error":"temporarily_unavailable","error_description":"too many requests wait"}`},
		{"a challenge that a rule made is kept", "/fails/nonce", "", 400, `DPoP error="use_dpop_nonce"`, "", `{"error":"use_dpop_nonce","error_description":"use the nonce"}`},
		{"a deadline is 503", "/fails/deadline", "", 503, "", "1", `{"error":"temporarily_unavailable","error_description":"the request could not be decided in time; try again"}`},
		{"the context of the request ends", "/fails/wait", "", 503, "", "1", `{"error":"temporarily_unavailable","error_description":"the request could not be decided in time; try again"}`},
		{"an unknown error says nothing but an id", "/fails/unknown", "", 500, "", "", `{"error":"server_error","error_description":"internal error; look for the request id in this node's log","request_id":"ID"}`},
		{"an unknown error at the admin API", "/admin/v1/fails/unknown", "", 500, "", "", `{"code":"server_error","detail":"internal error; look for the request id in this node's log","request_id":"ID","status":500,"title":"Internal Server Error","type":"urn:keyraft:error:server_error"}`},
		{"a panic too", "/fails/panic", "", 500, "", "", `{"error":"server_error","error_description":"internal error; look for the request id in this node's log","request_id":"ID"}`},
		{"a problem names its field and members", "/admin/v1/fails/field", "", 409, "", "", `{"code":"epoch","detail":"start again from the snapshot","epoch":3,"field":"since","request_id":"ID","status":409,"title":"Conflict","type":"urn:keyraft:error:epoch"}`},
		{"a problem at an OAuth route is RFC 6749 JSON", "/fails/field", "", 409, "", "", `{"error":"epoch","error_description":"since: start again from the snapshot"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lines := []string{"GET " + tt.path + " HTTP/1.1", "Host: a"}
			if tt.auth != "" {
				lines = append(lines, "Authorization: "+tt.auth)
			}
			got := one(t, s.addr, req(append(lines, "", "")...))
			id := got.header.Get("X-Request-Id")
			if body := strings.ReplaceAll(got.body, id, "ID"); got.status != tt.status || body != tt.body {
				t.Errorf("%d %s\nwant %d %s", got.status, body, tt.status, tt.body)
			}
			if c := got.header.Get("WWW-Authenticate"); c != tt.challenge {
				t.Errorf("WWW-Authenticate %q, want %q", c, tt.challenge)
			}
			if r := got.header.Get("Retry-After"); r != tt.retry {
				t.Errorf("Retry-After %q, want %q", r, tt.retry)
			}
			if got.header.Get("Cache-Control") != "no-store" {
				t.Error("TOK-45: an error without no-store")
			}
			wantType := "application/json"
			if strings.HasPrefix(tt.path, "/admin") {
				wantType = "application/problem+json"
			}
			if ct := got.header.Get("Content-Type"); ct != wantType {
				t.Errorf("Content-Type %q, want %q", ct, wantType)
			}
		})
	}
}

// TestPanicIsCountedAndNotLeaked: its value stays out of the log, the server lives.
func TestPanicIsCountedAndNotLeaked(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	got := one(t, s.addr, req("GET /fails/panic HTTP/1.1", "Host: a", "", ""))
	if got.status != 500 || !got.close {
		t.Errorf("%d, close %v", got.status, got.close)
	}
	if one(t, s.addr, req("GET /plain HTTP/1.1", "Host: a", "", "")).status != 200 {
		t.Error("the server does not answer after a panic")
	}
	panics := 0
	for _, a := range s.seen.all() {
		if a.Panicked {
			panics++
		}
	}
	if panics != 1 {
		t.Errorf("%d panics counted, want 1", panics)
	}
	if log := s.log.String(); strings.Contains(log, "canary 4711") || !strings.Contains(log, got.header.Get("X-Request-Id")) {
		t.Errorf("log %s", log)
	}
}

// TestViewErrors: what Config.View and Config.Translate say decides the answer.
func TestViewErrors(t *testing.T) {
	t.Parallel()
	behind := errors.New("behind the leader")
	lost := errors.New("no leader")
	tests := []struct {
		name   string
		err    error
		status int
		retry  string
		has    string
	}{
		{"an error is 503 with Retry-After", behind, 503, "1", "temporarily_unavailable"},
		{"a deadline is 503", fmt.Errorf("read index: %w", context.DeadlineExceeded), 503, "1", "temporarily_unavailable"},
		{"an answer of its own is kept", httpapi.Problem(409, "behind", "since", "ask again"), 409, "", "behind"},
		{"an answer of the protocol is kept", oauth.TemporarilyUnavailable.With("x").WithRetryAfter(9), 503, "9", "temporarily_unavailable"},
		{"Translate comes first", fmt.Errorf("propose: %w", lost), 503, "4", "outcome_unknown"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, httpapi.Config{
				View: func(context.Context, state.Freshness) (*state.View, error) { return nil, tt.err },
				Translate: func(err error) error {
					if errors.Is(err, lost) {
						return oauth.OutcomeUnknown.With("ask again with the same Idempotency-Key").WithRetryAfter(4)
					}
					return nil
				},
			})
			got := one(t, s.addr, req("GET /admin/v1/clients/c1 HTTP/1.1", "Host: a", "", ""))
			if got.status != tt.status || got.header.Get("Retry-After") != tt.retry || !strings.Contains(got.body, tt.has) {
				t.Errorf("%d %q %s", got.status, got.header.Get("Retry-After"), got.body)
			}
		})
	}
}

// TestReadIsTheRoutes: the table's freshness reaches View; ReadFrom overrides it.
func TestReadIsTheRoutes(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []state.Freshness
	ok := func(*fasthttp.RequestCtx, *state.View) error { return nil }
	s := start(t, httpapi.Config{
		View: func(_ context.Context, f state.Freshness) (*state.View, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, f)
			return nil, nil
		},
		Routes: []httpapi.Route{
			{Method: "GET", Path: "/local", Serve: ok},
			{Method: "GET", Path: "/lin", Read: state.Linearizable, Serve: ok},
			{Method: "GET", Path: "/none", NoView: true, Serve: ok},
			{Method: "GET", Path: "/from", Read: state.Linearizable, Serve: ok, ReadFrom: func(c *fasthttp.RequestCtx) (state.Freshness, error) {
				q, err := httpapi.Query(c)
				if err != nil {
					return state.Freshness{}, err
				}
				if q.Get("consistency") == "stale" {
					return state.Stale, nil
				}
				return state.Freshness{}, oauth.InvalidRequest.With("consistency may be stale only")
			}},
		},
	})
	status := func(path string) int {
		return one(t, s.addr, req("GET "+path+" HTTP/1.1", "Host: a", "", "")).status
	}
	for path, want := range map[string]int{"/none": 200, "/from": 400, "/from?consistency=%zz": 400} {
		if got := status(path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	for _, path := range []string{"/local", "/lin", "/from?consistency=stale"} {
		if got := status(path); got != 200 {
			t.Errorf("%s: %d", path, got)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []state.Freshness{state.Local, state.Linearizable, state.Stale}; fmt.Sprint(asked) != fmt.Sprint(want) {
		t.Errorf("asked %v, want %v", asked, want)
	}
}

// TestHTT12RequestID: the client's id only where it can do no harm, else a fresh one.
func TestHTT12RequestID(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	ours := regexp.MustCompile(`^[0-9a-f]{12}-[0-9a-f]{8}$`)
	seen := make(map[string]bool)
	for name, id := range map[string]string{
		"a plain one": "abc-DEF-123", "none": "", "with a dot": "a.b", "too long": strings.Repeat("a", 65),
		"64 letters": strings.Repeat("a", 64), "with a space": "a b", "8-bit": "\xc3\xa9", "with markup": "<b>",
	} {
		got := one(t, s.addr, req("GET /plain HTTP/1.1", "Host: a", "X-Request-Id: "+id, "", "")).header.Get("X-Request-Id")
		if id == "abc-DEF-123" || id == strings.Repeat("a", 64) {
			if got != id {
				t.Errorf("%s: %q, want the client's", name, got)
			}
			continue
		}
		if !ours.MatchString(got) || seen[got] {
			t.Errorf("%s: %q is not a fresh id of ours", name, got)
		}
		seen[got] = true
	}
}

// TestHTT12NoResponseSplitting: a handler that echoes a line end cannot add a header.
func TestHTT12NoResponseSplitting(t *testing.T) {
	t.Parallel()
	const evil = "a\r\nX-Evil: 1\r\n\r\n<b>"
	s := start(t, httpapi.Config{Routes: []httpapi.Route{
		{Method: "GET", Path: "/header", Serve: func(c *fasthttp.RequestCtx, _ *state.View) error {
			c.Response.Header.Set("Location", evil)
			c.Response.Header.Set("DPoP-Nonce", evil)
			c.Response.Header.Set("Content-Disposition", evil)
			return nil
		}},
		{Method: "GET", Path: "/challenge", Serve: func(*fasthttp.RequestCtx, *state.View) error {
			return oauth.InvalidToken.With(evil).WithChallenge(evil)
		}},
		{Method: "GET", Path: "/description", Serve: func(*fasthttp.RequestCtx, *state.View) error {
			return oauth.InvalidToken.With(evil)
		}},
	}})
	for _, path := range []string{"/header", "/challenge", "/description"} {
		got := one(t, s.addr, req("GET "+path+" HTTP/1.1", "Host: a", "", ""))
		if got.header.Get("X-Evil") != "" || strings.HasPrefix(got.body, "<b>") {
			t.Errorf("%s: headers %v, body %q", path, got.header, got.body)
		}
	}
}

// TestShutdownBeforeServe: Serve returns at once and closes the listener.
func TestShutdownBeforeServe(t *testing.T) {
	t.Parallel()
	s, err := httpapi.New(httpapi.Config{View: view, Routes: routes()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(ln); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is open: %v", err)
	}
}

// TestHTT08PipeliningKeepsOrderAndIdentity: 1 000 requests in one packet.
func TestHTT08PipeliningKeepsOrderAndIdentity(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	const n = 1000
	var raw strings.Builder
	for i := range n {
		body := fmt.Sprintf("canary=%d", i)
		raw.WriteString(token(body, fmt.Sprintf("Content-Length: %d", len(body)), fmt.Sprintf("Authorization: Basic id%d", i)))
	}
	got := exchange(t, s.addr, raw.String(), n)
	if len(got) != n {
		t.Fatalf("%d answers, want %d", len(got), n)
	}
	for i, a := range got {
		var out struct{ Canary, Authorization string }
		if err := json.Unmarshal([]byte(a.body), &out); err != nil || out.Canary != fmt.Sprint(i) || out.Authorization != fmt.Sprintf("Basic id%d", i) {
			t.Fatalf("answer %d is %s", i, a.body)
		}
	}
}

// TestHTT08AnErrorInTheMiddleEndsTheConnection: what precedes it is answered, what
// follows it is not; a 404 without a body in the middle does no harm.
func TestHTT08AnErrorInTheMiddleEndsTheConnection(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	fine := req("GET /plain HTTP/1.1", "Host: a", "", "")
	missing := req("GET /missing HTTP/1.1", "Host: a", "", "")
	bad := req("GET /plain HTTP/1.1", "Host: a", "X: b", " c", "", "")
	unread := req("POST /missing HTTP/1.1", "Host: a", fmt.Sprintf("Content-Length: %d", len(fine)), "", "")
	for _, tt := range []struct {
		name, raw string
		want      []int
	}{
		{"a framing error", fine + bad + fine, []int{200, 400}},
		{"a 404 without a body", fine + missing + fine + "GET", []int{200, 404, 200}},
		{"a 404 with a body left unread", fine + unread + fine + fine, []int{200, 404}},
		{"a 413", fine + token(strings.Repeat("a", 70_000), "Content-Length: 70000") + fine, []int{200, 413}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := exchange(t, s.addr, tt.raw, len(tt.want)+1-strings.Count(tt.name, "without"))
			var statuses []int
			for _, a := range got {
				statuses = append(statuses, a.status)
			}
			if fmt.Sprint(statuses) != fmt.Sprint(tt.want) {
				t.Errorf("answers %v, want %v", statuses, tt.want)
			}
		})
	}
}

// TestHTT11NoCanaryOfAnotherRequest: interleaved requests on reused contexts; what a
// handler keeps does not change afterwards.
func TestHTT11NoCanaryOfAnotherRequest(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	kept := make(map[string][3]string) // what handlers kept, by canary
	keep := func(c *fasthttp.RequestCtx, _ *state.View) error {
		form, err := httpapi.Form(c)
		if err != nil {
			return err
		}
		mu.Lock()
		kept[strings.Clone(form.Get("canary"))] = [3]string{form.Get("canary"), httpapi.Param(c, "id"), httpapi.RequestID(c)}
		mu.Unlock()
		return httpapi.JSON(c, 200, map[string]string{"canary": form.Get("canary"), "id": httpapi.Param(c, "id"), "tenant": httpapi.Tenant(c)})
	}
	s := start(t, httpapi.Config{Routes: []httpapi.Route{{Method: "POST", Path: "/keep/{id}", Tenanted: true, Serve: keep}}})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 100 {
				canary := fmt.Sprintf("w%d-%d-%s", worker, i, strings.Repeat("x", (worker*37+i*11)%900))
				body := strings.NewReader("canary=" + canary)
				hr, err := http.NewRequest("POST", fmt.Sprintf("http://%s/t/t%d/keep/%s", s.addr, worker, canary), body)
				if err != nil {
					t.Error(err)
					return
				}
				hr.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				hr.Header.Set("X-Request-Id", fmt.Sprintf("w%d-%d", worker, i))
				resp, err := client.Do(hr)
				if err != nil {
					t.Error(err)
					return
				}
				var out struct{ Canary, ID, Tenant string }
				err = json.NewDecoder(resp.Body).Decode(&out)
				_ = resp.Body.Close()
				if err != nil || out.Canary != canary || out.ID != canary || out.Tenant != fmt.Sprintf("t%d", worker) {
					t.Errorf("answer %+v for canary %s (%v)", out, canary, err)
				}
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	if len(kept) != 800 {
		t.Errorf("%d canaries kept, want 800", len(kept))
	}
	for canary, values := range kept {
		if values[0] != canary || values[1] != canary || !strings.HasPrefix(canary, values[2]+"-") {
			t.Errorf("kept %q for canary %q", values, canary)
		}
	}
}

// TestShutdown: the long-poll is told at once, the other request may finish, new
// connections are refused.
func TestShutdown(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	began := make(chan string, 2)
	s := start(t, httpapi.Config{Routes: []httpapi.Route{
		{Method: "GET", Path: "/poll", Poll: true, Timeout: time.Minute, Class: httpapi.Gateway, Serve: func(c *fasthttp.RequestCtx, _ *state.View) error {
			began <- "poll"
			<-httpapi.Context(c).Done()
			return httpapi.JSON(c, 200, []int{})
		}},
		{Method: "GET", Path: "/work", Serve: func(c *fasthttp.RequestCtx, _ *state.View) error {
			began <- "work"
			select {
			case <-release:
				return httpapi.JSON(c, 200, httpapi.Context(c).Err() == nil)
			case <-httpapi.Context(c).Done():
				return httpapi.Context(c).Err()
			}
		}},
	}})
	answers := make(chan answer, 2)
	var wg sync.WaitGroup
	for _, path := range []string{"/poll", "/work"} {
		wg.Go(func() { answers <- one(t, s.addr, req("GET "+path+" HTTP/1.1", "Host: a", "", "")) })
	}
	<-began
	<-began
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		done <- s.Shutdown(ctx)
	}()
	if got := <-answers; got.status != 200 || got.body != "[]" || !got.close {
		t.Errorf("the long-poll got %+v", got)
	}
	close(release)
	if got := <-answers; got.status != 200 || got.body != "true" {
		t.Errorf("the other request got %+v", got)
	}
	wg.Wait()
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// TestShutdownEndsRequestsWhenItsTimeIsOver: their context is cancelled then.
func TestShutdownEndsRequestsWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	began := make(chan struct{})
	s := start(t, httpapi.Config{Routes: []httpapi.Route{
		{Method: "GET", Path: "/work", Timeout: time.Minute, Serve: func(c *fasthttp.RequestCtx, _ *state.View) error {
			close(began)
			<-httpapi.Context(c).Done()
			return httpapi.Context(c).Err()
		}},
	}})
	answers := make(chan answer, 1)
	go func() { answers <- one(t, s.addr, req("GET /work HTTP/1.1", "Host: a", "", "")) }()
	<-began
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if got := <-answers; got.status != 503 {
		t.Errorf("the request got %+v", got)
	}
}

// TestStreamRoutesTakeLongBodies: beyond the limit of the others, never buffered.
func TestStreamRoutesTakeLongBodies(t *testing.T) {
	t.Parallel()
	s := start(t, httpapi.Config{})
	body := strings.Repeat("a", 1<<20)
	got := one(t, s.addr, req("POST /upload HTTP/1.1", "Host: a", fmt.Sprintf("Content-Length: %d", len(body)), "", body))
	if got.status != 200 || got.body != fmt.Sprintf(`{"bytes":%d}`, len(body)) {
		t.Errorf("%d %s", got.status, got.body)
	}
	chunk := fmt.Sprintf("%x\r\n%s\r\n", len(body), body)
	got = one(t, s.addr, req("POST /upload HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "", chunk+chunk+"0\r\n\r\n"))
	if got.status != 200 || got.body != fmt.Sprintf(`{"bytes":%d}`, 2*len(body)) || !got.close {
		t.Errorf("chunked: %d %s, close %v", got.status, got.body, got.close)
	}
	got = one(t, s.addr, req("POST /upload HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "", "zz\r\n"))
	if got.status != 400 || !got.close {
		t.Errorf("malformed chunks: %d, close %v", got.status, got.close)
	}
}
