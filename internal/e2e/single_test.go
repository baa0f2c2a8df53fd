package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// single starts one --dev node without a cluster flag, as a newcomer would.
func single(t *testing.T, flags ...string) (*world, *node) {
	t.Helper()
	w := newWorld(t)
	n := w.newNode("n1", nil, flags...).run()
	w.take(n)
	return w, n
}

// TestReadyLine: what contract.md promises of the one line for machines.
func TestReadyLine(t *testing.T) {
	t.Parallel()
	w, n := single(t)
	r := n.ready
	for name, value := range map[string]string{
		"issuer": r.Issuer, "url": r.URL, "api_addr": r.APIAddr, "cluster_addr": r.ClusterAddr, "node_id": r.NodeID,
		"cluster_id": r.ClusterID, "data_dir": r.DataDir, "admin_token": r.AdminToken, "client_id": r.ClientID,
		"client_secret": r.ClientSecret, "gateway_credential": r.GatewayCredential, "gossip_key": r.GossipKey,
	} {
		if value == "" {
			t.Errorf("the ready line has no %s", name)
		}
	}
	if r.Issuer != r.URL || r.URL != "http://"+r.APIAddr || r.NodeID != "n1" {
		t.Errorf("issuer %q, url %q, api_addr %q, node_id %q do not fit each other", r.Issuer, r.URL, r.APIAddr, r.NodeID)
	}
	for name, addr := range map[string]string{"api_addr": r.APIAddr, "cluster_addr": r.ClusterAddr, "gossip_addr": r.GossipAddr} {
		if _, port, err := net.SplitHostPort(addr); err != nil || port == "0" {
			t.Errorf("%s %q is no address in use", name, addr)
		}
	}
	w.await("lines to copy on standard error", func(context.Context) error {
		if log := n.proc.Log(); !strings.Contains(log, "/oauth2/introspect") || !strings.Contains(log, "curl") {
			return errors.New(log)
		}
		return nil
	})
}

// TestSecondStart: a second start finds the data of the first, credentials and
// tokens that it issued among them; --bootstrap on a folder with state (E2) just
// starts it.
func TestSecondStart(t *testing.T) {
	t.Parallel()
	w, n := single(t)
	client := must(n.CreateClient(w.bound(), map[string]any{"client_id": "kept", "access_token_format": "opaque"}))(t)
	opaque := must(n.Issue(w.bound(), client, "read"))(t)
	jwt := must(n.Issue(w.bound(), w.client, ""))(t)
	gone := must(n.Issue(w.bound(), w.client, ""))(t)
	must(n.Revoke(w.bound(), map[string]any{"token": gone}, 0))(t)
	before := n.ready
	if code := n.proc.Terminate(15 * time.Second); code != 0 {
		t.Fatalf("exit code %d: %s", code, n.proc.Tail(5))
	}
	for _, flags := range [][]string{nil, {"--bootstrap"}} {
		n.flags = flags
		n.run()
		r := n.ready
		if r.ClusterID != before.ClusterID || r.AdminToken != before.AdminToken || r.ClientSecret != before.ClientSecret || r.GatewayCredential != before.GatewayCredential {
			t.Errorf("with %v another cluster or other credentials than before", flags)
		}
		for what, c := range map[string]struct {
			client proc.Client
			token  string
			active bool
		}{"a JWT": {w.client, jwt, true}, "an opaque token": {client, opaque, true}, "a revoked JWT": {w.client, gone, false}} {
			if active, err := n.Active(w.bound(), c.client, c.token); err != nil || active != c.active {
				t.Errorf("with %v %s of before is active: %v, %v", flags, what, active, err)
			}
		}
		n.kill() // the next start finds what a crash left
	}
}

// TestP7Signals: SIGTERM drains and exits with 0; a second one exits at once.
func TestP7Signals(t *testing.T) {
	t.Parallel()
	w, n := single(t)
	t.Run("the first drains", func(t *testing.T) {
		begun := time.Now()
		n.signal(syscall.SIGTERM)
		code, err := n.proc.Wait(15 * time.Second)
		if err != nil || code != 0 {
			t.Errorf("exit code %d, %v", code, err)
		}
		t.Logf("an idle node stops in %s", time.Since(begun).Round(time.Millisecond))
	})
	t.Run("SIGINT too", func(t *testing.T) {
		defer w.during(t)()
		n.run()
		n.signal(syscall.SIGINT)
		if code, err := n.proc.Wait(15 * time.Second); err != nil || code != 0 {
			t.Errorf("exit code %d, %v", code, err)
		}
	})
	t.Run("the second ends it at once", func(t *testing.T) {
		defer w.during(t)()
		n.run()
		// A poll for news that stays open holds the drain up, so there is time for a
		// second signal.
		conn := must(net.Dial("tcp", n.addr))(t)
		defer func() { _ = conn.Close() }()
		poll := "GET /gateway/v1/revocations?since=0&wait=30s HTTP/1.1\r\nHost: n1\r\nAuthorization: Bearer " + w.gateway + "\r\n\r\n"
		if _, err := conn.Write([]byte(poll)); err != nil {
			t.Fatal(err)
		}
		n.signal(syscall.SIGTERM)
		n.signal(syscall.SIGTERM)
		for range 20 { // a signal that arrives before the first was seen is one with it
			if _, err := n.proc.Wait(50 * time.Millisecond); err == nil {
				return
			}
			if err := n.proc.Signal(syscall.SIGTERM); errors.Is(err, os.ErrProcessDone) {
				return
			}
		}
		t.Errorf("it still runs a second after the second signal: %s", n.proc.Tail(5))
	})
}

// TestBadStart: what can't work ends with exit code 2 and one line that names the
// key and the fix.
func TestBadStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	taken := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer func() { _ = taken.Close() }()
	file := filepath.Join(w.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := func(args ...string) []string {
		return append([]string{"server", "--data-dir", filepath.Join(w.dir, "bad")}, args...)
	}
	for _, tt := range []struct {
		name string
		args []string
		want []string
	}{
		{"the port is in use", fresh("--dev", "--api-addr", taken.Addr().String()), []string{"api_addr", "in use", taken.Addr().String()}},
		{"an unknown flag", fresh("--dev", "--bogus"), []string{"--bogus", "--help"}},
		{"a flag's value makes no sense", fresh("--dev", "--api-addr", "nowhere"), []string{"api-addr", "nowhere", "host:port"}},
		{"bootstrap and join at once", fresh("--bootstrap", "--issuer", "https://a.test", "--join", "127.0.0.1:1"), []string{"join", "keep one"}},
		{"an empty folder and no plan", fresh("--api-addr", "127.0.0.1:0"), []string{"bootstrap", "--join", "--dev"}},
		{"a join without a token", fresh("--join", "127.0.0.1:1", "--api-addr", "127.0.0.1:0"), []string{"join_token", "operator join-token"}},
		{"the data folder is a file", []string{"server", "--dev", "--api-addr", "127.0.0.1:0", "--data-dir", file}, []string{"data_dir"}},
		{"an unknown key in the file", fresh("--config", writeFile(t, w.dir, "k.yaml", "dev: true\napi_adr: 127.0.0.1:0\n")), []string{"k.yaml:2", "api_adr", "api_addr"}},
		{"an unknown command", []string{"sever"}, []string{"server"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer w.during(t)()
			got := w.cli(nil, "", tt.args...)
			if got.code != 2 {
				t.Errorf("exit code %d, want 2", got.code)
			}
			if lines := strings.Split(strings.TrimSpace(got.err), "\n"); len(lines) != 1 || got.out != "" {
				t.Errorf("not one line on standard error alone: %q %q", got.err, got.out)
			}
			for _, word := range tt.want {
				if !strings.Contains(got.err, word) {
					t.Errorf("%q does not mention %q", strings.TrimSpace(got.err), word)
				}
			}
		})
	}
	if _, err := os.Stat(filepath.Join(w.dir, "bad", "node.json")); err == nil {
		t.Errorf("a start that was refused left a node behind")
	}
}

func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestK26SecondProcess: a second process on one data folder ends soon with a
// sentence, and the first one goes on.
func TestK26SecondProcess(t *testing.T) {
	t.Parallel()
	w, n := single(t)
	got := w.cli(nil, "", "server", "--dev", "--data-dir", n.dir, "--api-addr", "127.0.0.1:0")
	if got.code != 2 || got.took > 4*time.Second {
		t.Errorf("exit code %d after %s, want 2 within 2 s (4 s on a busy machine)", got.code, got.took)
	}
	if lines := strings.Split(strings.TrimSpace(got.err), "\n"); !strings.Contains(got.err, n.dir) || !strings.Contains(lines[len(lines)-1], "keyraft:") {
		t.Errorf("the message does not name the folder: %q", got.err)
	}
	if _, err := n.Issue(w.bound(), w.client, ""); err != nil {
		t.Errorf("the first process was disturbed: %v", err)
	}
}

// TestDevTLS: --dev-tls serves the API over TLS, and not over plain HTTP.
func TestDevTLS(t *testing.T) {
	t.Parallel()
	w, n := single(t, "--dev-tls=true")
	if !strings.HasPrefix(n.Base, "https://") || n.ready.Issuer != n.Base {
		t.Fatalf("url %q, issuer %q", n.Base, n.ready.Issuer)
	}
	conn := must(tls.Dial("tcp", n.addr, &tls.Config{InsecureSkipVerify: true}))(t) // the certificate is made at the start
	certificate := conn.ConnectionState().PeerCertificates[0]
	_ = conn.Close() // only looked at
	if err := certificate.VerifyHostname("127.0.0.1"); err != nil {
		t.Error(err)
	}
	n.HTTP = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer n.HTTP.CloseIdleConnections()
	if _, err := n.Issue(w.bound(), w.client, ""); err != nil {
		t.Error(err)
	}
	plain := proc.API{Base: "http://" + n.addr, HTTP: w.http}
	if _, err := plain.Issue(w.bound(), w.client, ""); err == nil {
		t.Error("the port answers plain HTTP too")
	}
}

// TestSealKeyMissing: a data folder without its sealing key is refused with what
// to do, and works again with it.
func TestSealKeyMissing(t *testing.T) {
	t.Parallel()
	w, n := single(t)
	if code := n.proc.Terminate(15 * time.Second); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	key := filepath.Join(n.dir, "seal.key")
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	got := w.cli(nil, "", n.args()...)
	if got.code == 0 || !strings.Contains(got.err, key) || !strings.Contains(got.err, "put it back") {
		t.Errorf("exit code %d: %q", got.code, got.err)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("another key was made in its place")
	}
	writeFile(t, n.dir, "seal.key", strings.Repeat("A", 43)+"=\n")
	if got := w.cli(nil, "", n.args()...); got.code == 0 || !strings.Contains(got.err, "seal") {
		t.Errorf("with a wrong key: exit code %d: %q", got.code, got.err)
	}
	writeFile(t, n.dir, "seal.key", string(text))
	n.run()
	if _, err := n.Issue(w.bound(), w.client, ""); err != nil {
		t.Error(err)
	}
}

// TestHTT16Ops: without --ops-addr's port an outsider sees neither metrics nor
// pprof, whatever the path looks like; with it, the operator does.
func TestHTT16Ops(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dev = false
	ops := freePort(t)
	n := w.newNode("n1", []string{"--bootstrap", "--issuer", "https://keyraft.test", "--admin-token-file", filepath.Join(w.dir, "admin.token")},
		"--ops-addr", ops).run()
	for _, path := range []string{
		"/metrics", "/metrics/", "//metrics", "/debug/pprof/", "/debug/pprof/heap", "/x/../debug/pprof/heap", "/debug/pprof/cmdline?x=/readyz",
		"/%6detrics", "/metrics;x", "/oauth2/jwks/../../metrics", "/metrics%2f", "/debug%2fpprof/heap",
	} {
		conn := must(net.Dial("tcp", n.addr))(t)
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Write([]byte("GET " + path + " HTTP/1.1\r\nHost: n1\r\nConnection: close\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		answer := readAll(t, conn)
		_ = conn.Close() // only read
		if strings.HasPrefix(answer, "HTTP/1.1 2") || strings.HasPrefix(answer, "HTTP/1.1 5") || strings.Contains(answer, "go_goroutines") {
			t.Errorf("%s on the API port answers %.60q", path, answer)
		}
	}
	operators := proc.API{Base: "http://" + ops, HTTP: w.http}
	for _, path := range []string{"/livez", "/readyz", "/debug/pprof/cmdline"} {
		resp := must(w.http.Get(operators.Base + path))(t)
		body := readAll(t, resp.Body)
		_ = resp.Body.Close() // only read
		if resp.StatusCode != http.StatusOK || body == "" {
			t.Errorf("%s on the operators' port: %d", path, resp.StatusCode)
		}
	}
	resp := must(w.http.Get(operators.Base + "/metrics"))(t)
	metrics := readAll(t, resp.Body)
	_ = resp.Body.Close() // only read
	for _, series := range []string{"keyraft_", "raft_boltdb_", "go_goroutines"} {
		if !strings.Contains(metrics, series) {
			t.Errorf("/metrics has no series %s…", series)
		}
	}
	// A label for each path or client would let anybody fill the memory.
	form := url.Values{"grant_type": {"client_credentials"}}
	for _, id := range []string{"nobody-1", "nobody-2"} {
		_ = n.form(w.bound(), id, form)
	}
	resp = must(w.http.Get(operators.Base + "/metrics"))(t)
	if after := readAll(t, resp.Body); strings.Contains(after, "nobody-") {
		t.Error("a client's id became a label")
	}
	_ = resp.Body.Close() // only read
}

func (n *node) form(ctx context.Context, id string, form url.Values) error {
	form.Set("client_id", id)
	form.Set("client_secret", "wrong")
	return n.Call(ctx, http.MethodPost, "/oauth2/token", form, nil)
}
