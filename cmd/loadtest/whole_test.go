package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// bound is for a busy machine, not an expectation.
const bound = 2 * time.Minute

// world is one node and the real k6.
type world struct {
	nodes *proc.Cluster
	args  []string // of the runner
	json  string
	html  string
}

func (w *world) node() *proc.Node { return w.nodes.Nodes[0] }

// TestWholeRuns runs the real scripts by the real k6 against a real node. They set the
// environment, so they run one after the other; the last one leaves no node.
func TestWholeRuns(t *testing.T) {
	w := newWorld(t)
	t.Run("a run measures and removes what it made", w.measures)
	t.Run("without a server or a credential it is one line and exit code 2", w.refuses)
	t.Run("a run that breaks off writes what it measured", w.breaksOff)
}

// newWorld skips without k6, which is a program of its own.
func newWorld(t *testing.T) *world {
	t.Helper()
	root := filepath.Join("..", "..")
	k6 := filepath.Join(root, "bin", "k6")
	if _, err := os.Stat(k6); err != nil {
		if os.Getenv("KEYRAFT_REQUIRE") == "all" {
			t.Fatalf("%v; build it with 'make bin/k6'", err)
		}
		t.Skip("bin/k6 is not built: make bin/k6")
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "keyraft")
	if err := proc.Build(bin); err != nil {
		t.Fatal(err)
	}
	nodes, err := proc.NewCluster(bin, filepath.Join(dir, "cluster"), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nodes.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(nodes.Tails())
		}
	})
	if err := nodes.Run(within(t)); err != nil {
		t.Fatal(err)
	}
	w := &world{nodes: nodes, json: filepath.Join(dir, "out", "figures.json"), html: filepath.Join(dir, "out", "page.html")}
	w.args = []string{
		"-k6", k6, "-scripts", filepath.Join(root, "loadtest"), "-data", filepath.Join(dir, "runs"),
		"-json", w.json, "-html", w.html, "-addr", w.node().Base,
	}
	for name, value := range map[string]string{
		"KEYRAFT_TOKEN": "", "KEYRAFT_CLIENT_ID": "", "KEYRAFT_CLIENT_SECRET": "", "KEYRAFT_GATEWAY_CREDENTIAL": "",
		"RATE": "20", "VUS": "2", "DURATION": "2s",
	} {
		t.Setenv(name, value)
	}
	return w
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	t.Cleanup(cancel)
	return ctx
}

// run runs the runner and reads what it wrote.
func (w *world) run(ctx context.Context, t *testing.T, only string, more ...string) (code int, said string, got report) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(ctx, append(append(w.args, "-only", only), more...), &out, &errs)
	raw, err := os.ReadFile(w.json)
	if err != nil {
		t.Fatalf("%v; it said %s%s", err, out.String(), errs.String())
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Scripts) != 1 {
		t.Fatalf("%d scripts were reported, want 1; it said %s%s", len(got.Scripts), out.String(), errs.String())
	}
	t.Logf("exit code %d: %s", code, errs.String())
	return code, errs.String(), got
}

// count is how many requests of a kind were reported.
func count(r report, name string) uint64 {
	for _, row := range r.Scripts[0].Rows {
		if row.Name == name {
			return row.Count
		}
	}
	return 0
}

// keepsQuiet looks for credentials in everything that a run wrote.
func (w *world) keepsQuiet(t *testing.T, secrets ...string) {
	t.Helper()
	files := []string{w.json, w.html}
	more, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(w.json)), "runs", "k6", "*"))
	if err != nil || len(more) == 0 {
		t.Fatalf("k6 has left nothing: %v", err)
	}
	for _, path := range append(files, more...) {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			if strings.Contains(string(raw), secret) {
				t.Errorf("%s holds a credential", filepath.Base(path))
			}
		}
		if strings.Contains(string(raw), "client_secret") || strings.Contains(string(raw), "setup_data") {
			t.Errorf("%s holds what setup made", filepath.Base(path))
		}
	}
}

func (w *world) measures(t *testing.T) {
	t.Setenv("KEYRAFT_TOKEN", w.nodes.Admin)
	t.Setenv("GATEWAYS", "3")
	t.Setenv("RATE", "2")
	t.Setenv("WAIT", "1s")
	code, said, got := w.run(within(t), t, "gateways")
	if code != exitHeld || got.Partial || got.Scripts[0].Outcome != held {
		t.Errorf("exit code %d, partial %t, outcome %q: %s", code, got.Partial, got.Scripts[0].Outcome, said)
	}
	for _, kind := range []string{"poll", "snapshot", "keys", "fill", "revoke", "events", "receipt"} {
		if count(got, kind) == 0 {
			t.Errorf("no %s was measured", kind)
		}
	}
	if len(got.Scripts[0].Series.Seconds) == 0 {
		t.Error("nothing was recorded over time")
	}
	if page, err := os.ReadFile(w.html); err != nil || !strings.Contains(string(page), "</html>") || !strings.Contains(string(page), "<svg") {
		t.Errorf("the page is not whole: %v", err)
	}
	w.keepsQuiet(t, w.nodes.Admin)
	clients, err := w.node().ClientIDs(within(t))
	if err != nil || len(clients) != 1 {
		t.Errorf("clients that stay: %v, %v; want the one of --dev", clients, err)
	}
	gateways, err := w.node().Gateways(within(t))
	if err != nil || len(gateways) != 1 {
		t.Errorf("gateways that stay: %v, %v; want the one of --dev", gateways, err)
	}
}

func (w *world) refuses(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close() // nobody listens there now
	other := http.Server{Handler: http.NotFoundHandler()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = other.Serve(l) }() // until Close
	defer func() { _ = other.Close() }()
	tests := []struct {
		name, addr, token, id, secret, says string
	}{
		{name: "nobody listens", addr: "http://" + gone.Addr().String(), token: "x", says: "can't be reached"},
		{name: "another program listens", addr: "http://" + l.Addr().String(), token: "x", says: "is it a Keyraft node?"},
		{name: "an address that is none", addr: "localhost", token: "x", says: "KEYRAFT_ADDR=localhost must be URLs"},
		{name: "no credential", says: "set KEYRAFT_TOKEN"},
		{name: "an admin token that is none", token: "not-this-one", says: "does not accept the admin token"},
		{name: "a client that is none", id: "nobody", secret: "not-this-one", says: "does not accept the client nobody"},
		{name: "a wrong secret", id: w.nodes.Client.ID, secret: "not-this-one", says: "does not accept the client " + w.nodes.Client.ID},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("KEYRAFT_TOKEN", tt.token)
			t.Setenv("KEYRAFT_CLIENT_ID", tt.id)
			t.Setenv("KEYRAFT_CLIENT_SECRET", tt.secret)
			var more []string
			if tt.addr != "" {
				more = []string{"-addr", tt.addr}
			}
			code, said, got := w.run(within(t), t, "client-credentials-jwt", more...)
			if code != exitUsage || !strings.Contains(said, tt.says) || strings.Count(said, "\n") != 1 {
				t.Errorf("exit code %d, said %q; want 2 and one line with %q", code, said, tt.says)
			}
			if !got.Partial {
				t.Error("the report does not say that it is partial")
			}
			if strings.Contains(said, "not-this-one") {
				t.Error("the line holds the credential")
			}
		})
	}
}

// tokens is how many tokens the node has issued.
func (w *world) tokens(ctx context.Context) (n float64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.node().Base+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := w.nodes.HTTP.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(text.String(), `keyraft_token_requests_total{grant="client_credentials",result="ok"} `)
	if ok {
		_, err = fmt.Sscan(rest, &n)
	}
	return n, err
}

// load does something once a run that is about to begin has got some tokens.
func (w *world) load(ctx context.Context, t *testing.T, then func()) {
	before, err := w.tokens(ctx)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		err := proc.Until(ctx, "load", func(ctx context.Context) error {
			n, err := w.tokens(ctx)
			if err == nil && n < before+20 {
				err = fmt.Errorf("%.0f tokens yet", n-before)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		then()
	}()
}

func (w *world) breaksOff(t *testing.T) {
	t.Setenv("DURATION", "10m")
	t.Setenv("GIVE_UP", "1s")
	t.Setenv("TIMEOUT", "1s")
	partial := func(t *testing.T, got report) {
		t.Helper()
		if s := got.Scripts[0]; !got.Partial || !s.Partial || count(got, "jwt") == 0 || s.RanS >= s.PlannedS {
			t.Errorf("partial %t and %t, %d tokens in %.1f s of %.1f s", got.Partial, s.Partial, count(got, "jwt"), s.RanS, s.PlannedS)
		}
		if page, err := os.ReadFile(w.html); err != nil || !strings.Contains(string(page), "Partial") {
			t.Errorf("the page does not say that it is partial: %v", err)
		}
	}
	t.Run("a client whose credential ends", func(t *testing.T) {
		client, err := w.node().CreateClient(within(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("KEYRAFT_CLIENT_ID", client.ID)
		t.Setenv("KEYRAFT_CLIENT_SECRET", client.Secret)
		ctx := within(t)
		w.load(ctx, t, func() {
			if err := w.node().Write(ctx, http.MethodDelete, "/admin/v1/clients/"+client.ID, nil, nil); err != nil {
				t.Error(err)
			}
		})
		code, said, got := w.run(ctx, t, "client-credentials-jwt")
		if code != exitUsage || !strings.Contains(said, "does not accept the client "+client.ID) || strings.Count(said, "\n") != 1 {
			t.Errorf("exit code %d, said %q; want 2 and one line", code, said)
		}
		partial(t, got)
		w.keepsQuiet(t, client.Secret)
	})
	t.Setenv("KEYRAFT_TOKEN", w.nodes.Admin)
	t.Run("Ctrl-C", func(t *testing.T) {
		ctx, interrupt := context.WithCancel(within(t))
		defer interrupt()
		w.load(ctx, t, interrupt)
		code, said, got := w.run(ctx, t, "client-credentials-jwt")
		if code != exitBroken || !strings.Contains(said, "interrupted") {
			t.Errorf("exit code %d, said %q; want 1 and that it was interrupted", code, said)
		}
		partial(t, got)
	})
	t.Run("a server that dies", func(t *testing.T) {
		ctx := within(t)
		w.load(ctx, t, w.node().Proc.Kill)
		code, said, got := w.run(ctx, t, "client-credentials-jwt")
		if code != exitUsage || !strings.Contains(said, "no node answers any more") || strings.Count(said, "\n") != 1 {
			t.Errorf("exit code %d, said %q; want 2 and one line", code, said)
		}
		partial(t, got)
	})
}
