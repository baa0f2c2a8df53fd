package forwardauth_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp/fasthttputil"
	"go.uber.org/goleak"

	"github.com/keyraft/keyraft/gateway"
	"github.com/keyraft/keyraft/gateway/forwardauth"
)

func TestMain(m *testing.M) {
	// Two goroutines of the HTTP library that sleep out their time after Shutdown.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// front is a server whose decisions the test makes.
type front struct {
	ln     *fasthttputil.InmemoryListener
	mu     sync.Mutex
	asked  []gateway.Request
	status gateway.Status
	header string // of the client's certificate
}

func start(t *testing.T) *front {
	t.Helper()
	f := &front{}
	f.status = gateway.Status{Cluster: "c1", State: gateway.Synced, FailMode: gateway.FailClosed, Epoch: 2, Head: 77, HeadAgeMS: 12,
		Counts: gateway.Counts{Revocations: 5, Refused: map[gateway.Reason]uint64{gateway.Revoked: 3}}}
	return startWith(t, f, f.validate, func() gateway.Status {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.status
	})
}

func startWith(t *testing.T, f *front, validate func(context.Context, gateway.Request) (*gateway.Identity, error), status func() gateway.Status) *front {
	t.Helper()
	if validate == nil {
		validate = f.validate
	}
	if status == nil {
		status = func() gateway.Status { return gateway.Status{} }
	}
	f.ln = fasthttputil.NewInmemoryListener()
	further := prometheus.NewGauge(prometheus.GaugeOpts{Name: "further_series", Help: "One that the program adds."})
	further.Set(1)
	s, err := forwardauth.New(forwardauth.Config{Validate: validate, Status: status, ClientCertHeader: f.header, Collectors: []prometheus.Collector{further}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(f.ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *front) validate(ctx context.Context, r gateway.Request) (*gateway.Identity, error) {
	f.mu.Lock()
	f.asked = append(f.asked, r)
	f.mu.Unlock()
	if _, bounded := ctx.Deadline(); !bounded {
		return nil, errors.New("the wait has no bound")
	}
	switch r.Token {
	case "good":
		return &gateway.Identity{Subject: "alice", ClientID: "orders", Scope: "read write"}, nil
	case "machine":
		return &gateway.Identity{ClientID: "orders"}, nil
	case "split":
		return &gateway.Identity{Subject: "alice\r\nX-Keyraft-Scope: admin"}, nil
	case "proof":
		return nil, &gateway.Refusal{Reason: gateway.BadProof, Status: 401, Code: "invalid_dpop_proof", Scheme: "DPoP", Message: "another"}
	case "":
		return nil, &gateway.Refusal{Reason: gateway.NoToken, Status: 401, Message: "send one"}
	case "scope":
		return nil, &gateway.Refusal{Reason: gateway.InsufficientScope, Status: 403, Code: "insufficient_scope", Scope: `a "b"`, Message: "lacks"}
	case "odd":
		return nil, errors.New("something else")
	case "nothing":
		return nil, nil
	case "panic":
		panic("secret")
	}
	return nil, &gateway.Refusal{Reason: gateway.Revoked, Status: 401, Code: "invalid_token", Message: "it was revoked\r\nX: y"}
}

// ask sends raw bytes and reads one answer.
func (f *front) ask(t *testing.T, raw string) (*http.Response, string) {
	t.Helper()
	conn, err := f.ln.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	go func() { _, _ = io.WriteString(conn, raw) }()
	method, _, _ := strings.Cut(raw, " ")
	req, err := http.NewRequest(method, "http://x/", nil)
	if err != nil {
		req = nil
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func get(path string, headers ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: gw\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

// TestValidate is the contract of GET /validate, and GW-08.
func TestValidate(t *testing.T) {
	t.Parallel()
	bearer := func(token string) string { return "Authorization: Bearer " + token }
	forged := []string{"X-Keyraft-Subject: admin", "x-keyraft-CLIENT: admin", "X-KEYRAFT-scope : all", "Connection: X-Keyraft-Subject"}
	tests := []struct {
		name    string
		headers []string
		status  int
		reason  string
		subject string
		auth    string
	}{
		{"a good token passes with its identity", []string{bearer("good")}, 204, "", "alice", ""},
		{"an identity without a subject overwrites with nothing", []string{bearer("machine"), forged[0]}, 204, "", "", ""},
		{"what a client says about itself is not echoed", []string{bearer("bad"), forged[0], forged[1]}, 401, "revoked", "", `error="invalid_token"`},
		{"a hop-by-hop trick changes nothing", []string{bearer("good"), forged[0], forged[3]}, 204, "", "alice", ""},
		{"no token is a bare challenge", nil, 401, "no_token", "", `Bearer realm="keyraft"`},
		{"a scope that lacks is 403 and named", []string{bearer("scope")}, 403, "insufficient_scope", "", `scope="a \"b\""`},
		{"an error that is no refusal refuses", []string{bearer("odd")}, 403, "internal", "", ""},
		{"no identity and no error refuses", []string{bearer("nothing")}, 403, "internal", "", ""},
		{"a panic refuses", []string{bearer("panic")}, 403, "internal", "", ""},
		{"a subject that would split the header is refused", []string{bearer("split")}, 401, "malformed", "", ""},
		{"two Authorization headers", []string{bearer("good"), bearer("good")}, 401, "bad_request", "", `error="invalid_request"`},
		{"two tokens in one", []string{bearer("good, Bearer bad")}, 401, "bad_request", "", ""},
		{"two API names", []string{bearer("good"), "X-Keyraft-Api: a", "x-keyraft-api: b"}, 401, "bad_request", "", ""},
		{"a bad proof is answered with the challenge of its scheme", []string{bearer("proof")}, 401, "bad_proof", "", `DPoP realm="keyraft", algs="ES256 ES384 EdDSA Ed25519 PS256 PS384 PS512 RS256 RS384 RS512", error="invalid_dpop_proof"`},
		{"two hosts", []string{bearer("good"), "X-Forwarded-Host: a", "X-Forwarded-Host: b"}, 401, "bad_request", "", ""},
		{"two proofs", []string{bearer("good"), "DPoP: a", "DPoP: b"}, 401, "bad_request", "", ""},
		{"an underscore twin of the API name", []string{bearer("good"), "X_Keyraft_Api: a"}, 401, "bad_request", "", ""},
		{"an underscore twin of the subject", []string{bearer("good"), "x_keyraft_subject: a"}, 401, "bad_request", "", ""},
		{"a header with an underscore that is nobody's twin", []string{bearer("good"), "X_Other: a"}, 204, "", "alice", ""},
	}
	f := start(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := f.ask(t, get("/validate", tt.headers...))
			if resp.StatusCode != tt.status || body != "" {
				t.Errorf("%d %q, want %d and no body", resp.StatusCode, body, tt.status)
			}
			h := resp.Header
			if got := h.Get("X-Keyraft-Reason"); got != tt.reason {
				t.Errorf("reason %q, want %q", got, tt.reason)
			}
			for _, name := range []string{"X-Keyraft-Subject", "X-Keyraft-Client", "X-Keyraft-Scope"} {
				if len(h.Values(name)) != 1 {
					t.Errorf("%s comes %d times, want once", name, len(h.Values(name)))
				}
			}
			if got := h.Get("X-Keyraft-Subject"); got != tt.subject {
				t.Errorf("subject %q, want %q", got, tt.subject)
			}
			challenge := h.Get("WWW-Authenticate")
			if (tt.status == 204) != (challenge == "") || !strings.Contains(challenge, tt.auth) {
				t.Errorf("challenge %q, want %q in it", challenge, tt.auth)
			}
			if tt.reason == "no_token" && strings.Contains(challenge, "error") {
				t.Errorf("challenge %q names an error though no token came (RFC 6750 §3.1)", challenge)
			}
			if h.Get("Cache-Control") != "no-store" || h.Get("X") != "" {
				t.Errorf("headers %v", h)
			}
		})
	}
}

// TestWhatIsAsked: the request reaches the gateway as it was sent, undecoded.
func TestWhatIsAsked(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.ask(t, get("/validate", "Authorization: dpop  good", "DPoP: proof", "X-Keyraft-Api: orders", "X-Forwarded-Method: PUT", "X-Forwarded-Uri: /a/..%2fb?x=1#y"))
	want := gateway.Request{Scheme: "dpop", Token: "good", API: "orders", Method: "PUT", URL: "/a/..%2fb?x=1#y", DPoP: "proof"}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.asked) != 1 || fmt.Sprint(f.asked[0]) != fmt.Sprint(want) {
		t.Errorf("asked %+v, want %+v", f.asked, want)
	}
}

// TestEveryMethodIsAnsweredAlike: nginx and Traefik ask with GET, Envoy with the
// method of the request that it holds back. The body, if one comes, is not read as
// anything, and the answer has none.
func TestEveryMethodIsAnsweredAlike(t *testing.T) {
	t.Parallel()
	f := start(t)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
		for _, tt := range []struct {
			token, reason string
			status        int
		}{{"good", "", 204}, {"bad", "revoked", 401}, {"scope", "insufficient_scope", 403}} {
			raw := method + " /validate HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer " + tt.token + "\r\n"
			if method != "GET" && method != "HEAD" {
				raw += "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 17\r\n\r\naccess_token=good"
			} else {
				raw += "\r\n"
			}
			resp, body := f.ask(t, raw)
			subject := resp.Header.Get("X-Keyraft-Subject")
			if resp.StatusCode != tt.status || body != "" || resp.Header.Get("X-Keyraft-Reason") != tt.reason || (subject == "alice") != (tt.status == 204) {
				t.Errorf("%s with %s: %d %q %v, want %d", method, tt.token, resp.StatusCode, body, resp.Header, tt.status)
			}
			if (resp.Header.Get("WWW-Authenticate") == "") != (tt.status == 204) {
				t.Errorf("%s with %s: challenge %q", method, tt.token, resp.Header.Get("WWW-Authenticate"))
			}
		}
	}
}

// TestRealGateway puts the SDK itself behind the server: what it says before the
// first contact, about an unknown API, and in its status.
func TestRealGateway(t *testing.T) {
	t.Parallel()
	g, err := gateway.New(gateway.Config{
		Nodes:      []string{"http://127.0.0.1:1"},
		Credential: func(context.Context) (string, error) { return "x", nil },
		FailMode:   gateway.FailOpen, // so that a decision is reached without a node
	})
	if err != nil {
		t.Fatal(err)
	}
	f := startWith(t, &front{}, g.Validate, g.Status)
	resp, _ := f.ask(t, get("/validate", "Authorization: Bearer x", "X-Keyraft-Api: nowhere"))
	if resp.StatusCode != 403 || resp.Header.Get("X-Keyraft-Reason") != "unknown_api" || !strings.Contains(resp.Header.Get("WWW-Authenticate"), "unknown_api") {
		t.Errorf("an unknown API: %d %v, want 403 unknown_api", resp.StatusCode, resp.Header)
	}
	_, body := f.ask(t, get("/status"))
	var st map[string]any
	if err := json.Unmarshal([]byte(body), &st); err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{"head", "head_age_ms", "nodes", "epoch", "state", "fail_mode"} {
		if _, there := st[member]; !there {
			t.Errorf("status lacks %s: %s", member, body)
		}
	}
	if st["head_age_ms"] != -1.0 || st["bound_tokens"] != "checked" {
		t.Errorf("status %s", body)
	}
}

func TestOtherPaths(t *testing.T) {
	t.Parallel()
	f := start(t)
	set := func(change func(*gateway.Status)) {
		f.mu.Lock()
		defer f.mu.Unlock()
		change(&f.status)
	}
	expect := func(raw string, status int, holds string) {
		t.Helper()
		if resp, body := f.ask(t, raw); resp.StatusCode != status || !strings.Contains(body, holds) {
			t.Errorf("%q: %d %q, want %d with %q", raw[:min(len(raw), 40)], resp.StatusCode, body, status, holds)
		}
	}
	expect(get("/livez"), 200, "ok")
	expect(get("/readyz"), 200, "ready")
	set(func(s *gateway.Status) { s.State, s.Refusing, s.HeadAgeMS = gateway.StaleNow, true, 60000 })
	expect(get("/readyz"), 503, "60000 ms")
	set(func(s *gateway.Status) { s.Refusing = false }) // failing open
	expect(get("/readyz"), 200, "ready")
	set(func(s *gateway.Status) { s.State = gateway.Starting })
	expect(get("/readyz"), 503, "no contact")
	expect(get("/metrics"), 200, "keyraft_gateway_head 77\n")
	expect(get("/metrics"), 200, `keyraft_gateway_refused_total{reason="revoked"} 3`)
	set(func(s *gateway.Status) {
		s.MaxStalenessMS, s.Nodes = 30000, []gateway.NodeStatus{{URL: "a"}, {URL: "b", Failures: 3}, {URL: "c", Failures: 1}}
	})
	expect(get("/metrics"), 200, "keyraft_gateway_max_staleness_seconds 30\n")
	expect(get("/metrics"), 200, "keyraft_gateway_nodes 3\n")
	expect(get("/metrics"), 200, "keyraft_gateway_nodes_failing 2\n")
	expect(get("/metrics"), 200, "further_series 1\n")
	expect(get("/nowhere"), 404, "/validate")
	expect(get("/%76alidate", "Authorization: Bearer good"), 404, "")
	expect(get("/x/../validate", "Authorization: Bearer good"), 404, "")
	expect("POST /status HTTP/1.1\r\nHost: gw\r\nContent-Length: 0\r\n\r\n", 405, "")
	expect("POST /livez HTTP/1.1\r\nHost: gw\r\nContent-Length: 0\r\n\r\n", 405, "")
	expect("GET /validate HTTP/1.1\r\nHost: gw\r\nno colon\r\n\r\n", 401, "")
	expect(get("/validate", "X-Long: "+strings.Repeat("a", 64<<10)), 401, "")
	_, body := f.ask(t, get("/status"))
	var st gateway.Status
	if err := json.Unmarshal([]byte(body), &st); err != nil || st.Head != 77 || st.Cluster != "c1" || st.Counts.Revocations != 5 {
		t.Errorf("status %s, %v", body, err)
	}
}

func TestNewNeedsAGateway(t *testing.T) {
	t.Parallel()
	if _, err := forwardauth.New(forwardauth.Config{}); err == nil {
		t.Error("made without one")
	}
}
