package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/keyraft/keyraft/internal/bench"
)

// benchEnv is that of a client of the node.
func benchEnv(addr, id, secret string) map[string]string {
	return map[string]string{"KEYRAFT_ADDR": addr, "KEYRAFT_CLIENT_ID": id, "KEYRAFT_CLIENT_SECRET": secret}
}

// register makes a client at a node that runs, by the program itself.
func register(t *testing.T, l *live, args ...string) (id, secret string) {
	t.Helper()
	got := call{args: append([]string{"client", "create", "--grant", "client_credentials", "-o", "json"}, args...),
		env: map[string]string{"KEYRAFT_ADDR": l.url, "KEYRAFT_TOKEN": l.admin()}}.run(t)
	var c struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	if err := json.Unmarshal([]byte(got.out), &c); err != nil || got.code != 0 || c.Secret == "" {
		t.Fatalf("exit code %d, %v: %s", got.code, err, got.err)
	}
	return c.ID, c.Secret
}

// TestBenchAgainstANode runs every workload against a node of this process.
func TestBenchAgainstANode(t *testing.T) {
	t.Parallel()
	l := startLive(t, map[string]string{"dev": "true"})
	opaqueID, opaqueSecret := register(t, l, "--name", "opaque", "--token-format", "opaque")
	jwtID, jwtSecret := register(t, l, "--name", "jwt", "--auth-method", "client_secret_post")
	for _, tt := range []struct {
		name       string
		args       []string
		opaque     bool
		operations string
	}{
		{"jwt at a rate", []string{"jwt", "--rate", "100"}, false, "jwt"},
		{"jwt as fast as it goes", []string{"jwt"}, false, "jwt"},
		{"opaque", []string{"opaque", "--rate", "50"}, true, "opaque"},
		{"introspect", []string{"introspect", "--rate", "100", "--tokens", "20"}, true, "introspect"},
		{"revoke", []string{"revoke", "--rate", "50"}, false, "revoke"},
		{"revoke, with none issued before", []string{"revoke", "--rate", "50", "--tokens", "0"}, false, "jwt revoke"},
		{"mixed", []string{"mixed", "--rate", "100", "--mix", "issue=1,introspect=2,revoke=1", "--tokens", "30"}, true, "opaque introspect revoke"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := benchEnv(l.url+","+l.url, jwtID, jwtSecret)
			args := append([]string{"bench", "--duration", "300ms", "--warmup", "0", "--connections", "4", "-o", "json"}, tt.args...)
			if tt.opaque {
				env = benchEnv(l.url, opaqueID, opaqueSecret)
			} else {
				args = append(args, "--auth-method", "post")
			}
			got := call{args: args, env: env}.run(t)
			if got.code != 0 {
				t.Fatalf("exit code %d: %s", got.code, got.err)
			}
			var doc benchDocument
			var shown struct{ Operations []struct{ Name string } }
			if json.Unmarshal([]byte(got.out), &shown) != nil || json.Unmarshal([]byte(got.out), &doc) != nil {
				t.Fatalf("not JSON: %s", got.out)
			}
			var names []string
			for _, o := range doc.Operations {
				names = append(names, o.Name)
				for kind, n := range o.Errors {
					if kind != bench.KindUnsent { // a busy machine may leave some
						t.Errorf("%s: %d of %q", o.Name, n, kind)
					}
				}
			}
			if strings.Join(names, " ") != tt.operations || doc.OK == 0 || doc.Partial || doc.Elapsed != 0.3 {
				t.Errorf("operations %v, %d done, partial %v after %v s", names, doc.OK, doc.Partial, doc.Elapsed)
			}
			if strings.Contains(got.out+got.err, jwtSecret) || strings.Contains(got.out+got.err, opaqueSecret) {
				t.Error("a secret is shown")
			}
		})
	}
	// What is wrong is said before anything is measured.
	for _, tt := range []struct {
		name, want string
		args       []string
		env        map[string]string
	}{
		{"a wrong secret", "check --client-id and --client-secret", []string{"jwt"}, benchEnv(l.url, opaqueID, "hunter2")},
		{"an unknown client", "invalid_client", []string{"jwt"}, benchEnv(l.url, "nobody", "hunter2")},
		{"another way to authenticate", "invalid_client", []string{"jwt"}, benchEnv(l.url, jwtID, jwtSecret)},
		{"tokens of the other kind", "gets tokens that are opaque; use the workload opaque", []string{"jwt"}, benchEnv(l.url, opaqueID, opaqueSecret)},
		{"a scope that it has not", "invalid_scope", []string{"opaque", "--scope", "root"}, benchEnv(l.url, opaqueID, opaqueSecret)},
		{"one of two nodes is not there", "nothing listens at http://127.0.0.1:1;", []string{"opaque"}, benchEnv(l.url+",127.0.0.1:1", opaqueID, opaqueSecret)},
		{"a path that is none", "", []string{"opaque", "--addr", l.url + "/nowhere"}, benchEnv("", opaqueID, opaqueSecret)},
	} {
		got := call{args: append([]string{"bench"}, tt.args...), env: tt.env}.run(t)
		if got.code != 2 || strings.Count(got.err, "\n") != 1 || !strings.Contains(got.err, tt.want) || got.out != "" {
			t.Errorf("%s: exit code %d: %s%s", tt.name, got.code, got.out, got.err)
		}
		if strings.Contains(got.err, "hunter2") || strings.Contains(got.err, opaqueSecret) {
			t.Errorf("%s: the secret is shown", tt.name)
		}
	}
}

func TestBenchUsage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, tt := range []struct{ args, want string }{
		{"", "WORKLOAD is missing: keyraft bench WORKLOAD"},
		{"jtw", "there is no workload \"jtw\"; use jwt, opaque, introspect, revoke, mixed"},
		{"jwt opaque", "takes WORKLOAD, but got \"opaque\" too"},
		{"jwt --rate -1", "--rate -1 is out of range"},
		{"jwt --rate NaN", "--rate NaN is out of range"},
		{"jwt --rate 1e9", "use 0 (as fast as it goes) to 1000000"},
		{"jwt --connections 0", "--connections 0 is out of range"},
		{"jwt --duration soon", "--duration \"soon\" is not a duration"},
		{"jwt --duration 1ms", "--duration 1ms is out of range"},
		{"jwt --warmup 2h", "--warmup 2h0m0s is out of range"},
		{"jwt --timeout 0", "--timeout 0s is out of range"},
		{"jwt --give-up 0", "--give-up 0s is out of range"},
		{"jwt --mix issue=1", "--mix goes with the workload mixed"},
		{"mixed --mix issue=1,issue=2", "names issue twice"},
		{"mixed --mix issue", "\"issue\" is no share"},
		{"mixed --mix issue=0", "the shares are 0 together"},
		{"mixed --mix mint=1", "\"mint=1\" is no share"},
		{"introspect --tokens -2", "--tokens -2 is out of range"},
		{"jwt --output yaml", "--output \"yaml\" is not known"},
		{"jwt --addr http://a,b", "\"b\" is neither a URL nor host:port"},
		{"jwt --client-id a --client-secret b --client-secret-file c", "keep one"},
		{"jwt --client-id a --client-secret b --auth-method digest", "--auth-method \"digest\" is not known"},
		{"jwt --client-id a", "the secret of client a is missing"},
		{"jwt", "--client-id is missing"},
		{"jwt --client-id a --client-secret b --addr 127.0.0.1:1", "nothing listens at http://127.0.0.1:1"},
		{"jwt --client-id a --client-secret b --report " + dir, "is a folder; name a file, such as"},
		{"jwt --client-id a --client-secret b --report " + dir + "/no/where.html", "name a file in a folder that is there"},
	} {
		got := call{args: append([]string{"bench"}, strings.Fields(tt.args)...)}.run(t)
		if got.code != 2 || !strings.Contains(got.err, tt.want) || strings.Count(got.err, "\n") != 1 || got.out != "" {
			t.Errorf("keyraft bench %s: exit code %d, want 2 with %q: %s%s", tt.args, got.code, tt.want, got.out, got.err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// otherServer is an OAuth server with paths of its own that calls stop after so many
// tokens.
func otherServer(t *testing.T, tokens int64, stop func(*http.Server)) (url string) {
	t.Helper()
	server := new(http.Server)
	var issued atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /realms/x/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"token_endpoint":"https://login.example/realms/x/connect/token","revocation_endpoint":"https://login.example/elsewhere"}`))
	})
	mux.HandleFunc("POST /realms/x/connect/token", func(w http.ResponseWriter, _ *http.Request) {
		if issued.Add(1) == tokens {
			stop(server)
		}
		_, _ = w.Write([]byte(`{"access_token":"a.b.c","expires_in":60}`))
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server.Handler = mux
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	t.Cleanup(func() {
		_ = server.Close() // closed before, in some tests
		<-done
	})
	return "http://" + ln.Addr().String()
}

// interrupted runs the program under a context of its own.
func interrupted(ctx context.Context, t *testing.T, args []string, env map[string]string) result {
	t.Helper()
	var out, errs syncBuffer
	code := run(ctx, args, console{In: strings.NewReader(""), Out: &out, Err: &errs, Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}, deps{})
	return result{code, out.String(), errs.String()}
}

// TestBenchInterrupted: Ctrl-C ends the run; what was measured is shown, and stands in
// the report, which is a whole page.
func TestBenchInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	page := filepath.Join(t.TempDir(), "bench.html")
	url := otherServer(t, 100, func(*http.Server) { cancel() })
	got := interrupted(ctx, t, []string{"bench", "jwt", "--addr", url + "/realms/x/", "--duration", "1h", "--warmup", "0", "--connections", "2", "--report", page},
		benchEnv("", "orders", "hunter2"))
	if got.code != 1 || got.err != "keyraft: interrupted\n" {
		t.Errorf("exit code %d: %s", got.code, got.err)
	}
	for _, want := range []string{"jwt at " + url + "/realms/x: as fast as it goes, 2 connections, 1h0m0s after 0s of warm-up", "OPERATION  SUCCEEDED", "P99.9", "PARTIAL: interrupted; this was measured in"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("%q is missing in\n%s", want, got.out)
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(page); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	root, err := html.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	plots := 0
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && n.Data == "svg" {
			plots++
		}
		if n.Type == html.ElementNode && n.Data == "script" {
			t.Error("the page has a script")
		}
	}
	if plots != 3 || !strings.Contains(string(text), "<strong>Partial run:</strong> interrupted") || !strings.Contains(string(text), url) || strings.Contains(string(text), "hunter2") {
		t.Errorf("%d plots in %s", plots, text)
	}
	if left, err := os.ReadDir(filepath.Dir(page)); err != nil || len(left) != 1 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// TestBenchLosesItsServer: it gives up, says so, and shows what it has.
func TestBenchLosesItsServer(t *testing.T) {
	t.Parallel()
	url := otherServer(t, 50, func(s *http.Server) { _ = s.Close() })
	got := call{args: []string{"bench", "jwt", "--addr", url + "/realms/x", "--duration", "1h", "--warmup", "0", "--connections", "2", "--give-up", "100ms", "-o", "json"},
		env: benchEnv("", "orders", "hunter2")}.run(t)
	var doc benchDocument
	if err := json.Unmarshal([]byte(got.out), &doc); err != nil {
		t.Fatalf("%v: %s%s", err, got.out, got.err)
	}
	if got.code != 1 || !strings.Contains(got.err, "the run is partial: the server answered nothing for") || !doc.Partial || doc.Reason == "" || doc.OK < 40 || doc.Failed == 0 {
		t.Errorf("exit code %d: %s\n%s", got.code, got.err, got.out)
	}
	if n := doc.Operations[0].Errors[bench.KindConnect]; n == 0 {
		t.Errorf("errors %v", doc.Operations[0].Errors)
	}
}

// TestBenchRefused: what a server says of a credential that has expired, and of
// anything else before the run, is one line and exit code 2.
func TestBenchRefused(t *testing.T) {
	t.Parallel()
	const denied = `{"error":"invalid_client","error_description":"the client's secret has expired"}`
	for _, tt := range []struct {
		name, workload, want string
		answers              map[string][]answer
	}{
		{"an expired secret", "jwt", "the client's secret has expired (invalid_client); check", map[string][]answer{"POST /oauth2/token": {{401, denied, nil}}}},
		{"a page in place of a server", "jwt", "answers without an access token", map[string][]answer{"POST /oauth2/token": {{200, `{}`, nil}}}},
		{"a client that may not introspect", "introspect", "does not call a token active", map[string][]answer{
			"POST /oauth2/token": {{200, tokenAnswer, nil}}, "POST /oauth2/introspect": {{200, `{"active":false}`, nil}}}},
		{"a client that may not revoke", "revoke", "not for you", map[string][]answer{
			"POST /oauth2/token": {{200, tokenAnswer, nil}}, "POST /oauth2/revoke": {{403, `{"error":"access_denied","error_description":"not for you"}`, nil}}}},
		{"refused after a while, before the run", "revoke", "issue a token before the run: 401 invalid_client", map[string][]answer{
			"POST /oauth2/token": {{200, tokenAnswer, nil}, {401, denied, nil}}, "POST /oauth2/revoke": {{200, ``, nil}}}},
	} {
		got := newNode(t, tt.answers).at(t, call{args: []string{"bench", tt.workload, "--client-id", "a", "--client-secret", "hunter2"}})
		if got.code != 2 || !strings.Contains(got.err, tt.want) || strings.Count(got.err, "\n") != 1 || strings.Contains(got.err, "hunter2") {
			t.Errorf("%s: exit code %d: %s", tt.name, got.code, got.err)
		}
	}
	// An error that comes in the run is a figure; when there is nothing else, it failed.
	n := newNode(t, map[string][]answer{"POST /oauth2/token": {{200, `{"access_token":"a.b.c"}`, nil}, {500, `{"error":"server_error"}`, nil}}})
	got := n.at(t, call{args: []string{"bench", "jwt", "--client-id", "a", "--client-secret", "b", "--duration", "100ms", "--warmup", "0", "--connections", "1"}})
	if got.code != 1 || !strings.Contains(got.err, "nothing succeeded") || !strings.Contains(got.out, "500 server_error") {
		t.Errorf("exit code %d: %s%s", got.code, got.out, got.err)
	}
	// The admin token is nobody's business here.
	for _, r := range n.requests() {
		if strings.Contains(r.Header.Get("Authorization"), adminSecret) {
			t.Errorf("%s got the admin token", r.Target)
		}
	}
}

// FuzzMix: no text makes shares that can't be mixed.
func FuzzMix(f *testing.F) {
	for _, seed := range []string{"issue=20,introspect=75,revoke=5", "issue=1", "", ",", "issue==1", "revoke=1000", "issue=1,issue=1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseMix(text)
		sum := m.Issue + m.Introspect + m.Revoke
		if err == nil && (sum < 1 || sum > 1000 || min(m.Issue, m.Introspect, m.Revoke) < 0) || err != nil && sum != 0 {
			t.Errorf("%q: %+v, %v", text, m, err)
		}
	})
}
