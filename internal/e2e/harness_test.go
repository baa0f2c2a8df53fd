package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// Bounds of what the tests wait for. They are limits for a busy machine, not
// expectations: what a row promises is checked by the row.
const (
	readyBound = 30 * time.Second
	waitBound  = 30 * time.Second
)

// program is the binary under test, built once.
var program = sync.OnceValues(build)

func build() (string, error) {
	if bin := os.Getenv("KEYRAFT_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	dir, err := os.MkdirTemp("", "keyraft-e2e-bin-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "keyraft")
	var flags []string
	if os.Getenv("KEYRAFT_E2E_RACE") != "" {
		flags = append(flags, "-race")
	}
	return bin, proc.Build(bin, flags...)
}

func TestMain(m *testing.M) {
	code := m.Run()
	if bin, err := program(); err == nil && os.Getenv("KEYRAFT_BIN") == "" {
		_ = os.RemoveAll(filepath.Dir(bin)) // in the system's temporary folder anyway
	}
	os.Exit(code)
}

// world is everything that one test starts. All of it is gone when the test ends.
type world struct {
	t    *testing.T
	bin  string
	dir  string
	http *http.Client
	dev  bool // nodes run with --dev

	mu    sync.Mutex
	all   []*proc.Process
	nodes []*node

	admin   string      // admin token
	client  proc.Client // a confidential client that may do client_credentials
	gateway string      // credential
	gossip  string      // key of the gateways' pool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, bin: bin, dir: t.TempDir(), http: proc.NewHTTP(), dev: true}
	if keep := os.Getenv("KEYRAFT_E2E_KEEP"); keep != "" {
		w.dir = filepath.Join(keep, strings.ReplaceAll(t.Name(), "/", "_"))
		if err := errors.Join(os.RemoveAll(w.dir), os.MkdirAll(w.dir, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(w.stop)
	return w
}

// stop kills what still runs, paused processes too, and shows the logs of a test
// that failed.
func (w *world) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.all {
		p.Kill()
	}
	w.http.CloseIdleConnections()
	w.sound()
	if !w.t.Failed() {
		return
	}
	for _, n := range w.nodes {
		if n.proc != nil {
			w.t.Logf("--- end of the log of %s (pid %d)\n%s", n.name, n.proc.PID(), n.proc.Tail(30))
		}
	}
}

// sound looks for what no log may hold, whatever the test is about.
func (w *world) sound() {
	logs, _ := filepath.Glob(filepath.Join(w.dir, "log", "*.log")) // the pattern is fine
	for _, path := range logs {
		raw, err := os.ReadFile(path)
		if err != nil {
			w.t.Error(err)
		}
		for _, bad := range []string{"DATA RACE", "panic:", "fatal error:", "goroutine 1 ["} {
			if at := strings.Index(string(raw), bad); at >= 0 {
				w.t.Errorf("%s: %s", filepath.Base(path), raw[at:min(len(raw), at+4000)])
			}
		}
	}
}

func (w *world) start(name string, args ...string) *proc.Process {
	w.t.Helper()
	p, err := proc.Start(proc.Spec{
		Bin: w.bin, Args: args, Log: filepath.Join(w.dir, "log", name+".log"),
		// What a developer's shell may set must not reach the program under test.
		Env: []string{"KEYRAFT_ADDR=", "KEYRAFT_TOKEN="},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, p)
	return p
}

// node is one member, over all its starts.
type node struct {
	proc.API
	w     *world
	name  string
	dir   string
	first []string // flags of the first start
	flags []string // flags of every start
	addr  string   // API address, once it is known
	proc  *proc.Process
	ready proc.Ready
}

func (w *world) newNode(name string, first []string, flags ...string) *node {
	n := &node{w: w, name: name, dir: filepath.Join(w.dir, name), first: first, flags: flags}
	n.HTTP = w.http
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes = append(w.nodes, n)
	return n
}

// args are the flags of the next start. Ports are free ones at first and the
// same ever after.
func (n *node) args() []string {
	addr := n.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	args := []string{"server", "--data-dir", n.dir, "--node-id", n.name, "--api-addr", addr}
	if n.w.dev {
		args = append(args, "--dev")
	} else {
		args = append(args, "--gossip-addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0")
		if !strings.Contains(strings.Join(n.flags, " "), "--cluster-addr") {
			args = append(args, "--cluster-addr", "127.0.0.1:0")
		}
	}
	args = append(args, n.flags...)
	if n.addr == "" {
		args = append(args, n.first...)
	}
	return args
}

// launch starts the process and does not wait.
func (n *node) launch() { n.w.t.Helper(); n.proc = n.w.start(n.name, n.args()...) }

// run starts the process and waits until it serves.
func (n *node) run() *node {
	n.w.t.Helper()
	n.launch()
	n.awaitReady()
	return n
}

func (n *node) awaitReady() {
	n.w.t.Helper()
	ctx, cancel := context.WithTimeout(n.w.t.Context(), readyBound)
	defer cancel()
	r, err := n.proc.Ready(ctx)
	if err != nil {
		n.w.t.Fatalf("%s: %v", n.name, err)
	}
	n.ready, n.addr, n.Base = r, r.APIAddr, r.URL
	n.Token = n.w.admin
}

func (n *node) kill()  { n.proc.Kill() }
func (n *node) pause() { n.signal(syscall.SIGSTOP) }
func (n *node) cont()  { n.signal(syscall.SIGCONT) }

func (n *node) signal(s syscall.Signal) {
	n.w.t.Helper()
	if err := n.proc.Signal(s); err != nil {
		n.w.t.Fatalf("send %v to %s: %v", s, n.name, err)
	}
}

// found makes the first node of a cluster with --dev.
func (w *world) found(name string, flags ...string) *node {
	w.t.Helper()
	first := []string{"--bootstrap"}
	if !w.dev {
		first = append(first, "--issuer", "https://keyraft.test", "--admin-token-file", filepath.Join(w.dir, "admin.token"))
	}
	n := w.newNode(name, first, flags...).run()
	w.take(n)
	return n
}

// take learns the credentials of the first node.
func (w *world) take(n *node) {
	w.t.Helper()
	if w.dev {
		w.admin, w.client = n.ready.AdminToken, proc.Client{ID: n.ready.ClientID, Secret: n.ready.ClientSecret}
		w.gateway, w.gossip = n.ready.GatewayCredential, n.ready.GossipKey
		n.Token = w.admin
		return
	}
	raw, err := os.ReadFile(filepath.Join(w.dir, "admin.token"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.admin = strings.TrimSpace(string(raw))
	n.Token = w.admin
	w.client = must(n.CreateClient(w.bound(), map[string]any{"client_name": "demo"}))(w.t)
	g := must(n.RegisterGateway(w.bound(), "edge"))(w.t)
	w.gateway, w.gossip = g.Credential, g.GossipKey
}

// prepareJoin makes a node that will join by a token of its own.
func (w *world) prepareJoin(member *node, name, suffrage string, flags ...string) *node {
	w.t.Helper()
	token := must(member.JoinToken(w.bound(), suffrage, "10m"))(w.t)
	first := []string{"--join", member.Base, "--join-token", token}
	if suffrage == "nonvoter" {
		first = append(first, "--non-voter")
	}
	return w.newNode(name, first, flags...)
}

// cluster is three voters; both further nodes join at the same time.
func cluster(t *testing.T) (*world, []*node) {
	t.Helper()
	return newWorld(t).cluster(nil)
}

// cluster starts three voters; flags gives further flags by name.
func (w *world) cluster(flags func(name string) []string) (*world, []*node) {
	w.t.Helper()
	if flags == nil {
		flags = func(string) []string { return nil }
	}
	n1 := w.found("n1", flags("n1")...)
	n2 := w.prepareJoin(n1, "n2", "voter", flags("n2")...)
	n3 := w.prepareJoin(n1, "n3", "voter", flags("n3")...)
	n2.launch()
	n3.launch()
	n2.awaitReady()
	n3.awaitReady()
	nodes := []*node{n1, n2, n3}
	w.awaitVoters(n1, 3)
	return w, nodes
}

// awaitVoters waits until so many members vote and all are ready.
func (w *world) awaitVoters(at *node, want int) {
	w.t.Helper()
	w.await(fmt.Sprintf("%d voters that are ready", want), func(ctx context.Context) error {
		members, err := at.Members(ctx)
		if err != nil {
			return err
		}
		voters := 0
		for _, m := range members {
			if m.State != "ready" {
				return fmt.Errorf("%s is %s", m.ID, m.State)
			}
			if m.Suffrage == "voter" {
				voters++
			}
		}
		if voters != want {
			return fmt.Errorf("%d vote", voters)
		}
		return nil
	})
}

// await asks until ok says nothing against it, at most waitBound.
func (w *world) await(what string, ok func(ctx context.Context) error) time.Duration {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), waitBound)
	defer cancel()
	begun := time.Now()
	for {
		try, done := context.WithTimeout(ctx, 5*time.Second)
		err := ok(try)
		done()
		if err == nil {
			return time.Since(begun)
		}
		select {
		case <-ctx.Done():
			w.t.Fatalf("waited %s in vain for %s: %v", waitBound, what, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// bound is a context for one step of a test.
func (w *world) bound() context.Context { return w.within(waitBound) }

func (w *world) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	w.t.Cleanup(cancel)
	return ctx
}

// during makes the helpers fail a subtest in place of the whole test:
// defer w.during(t)(). Subtests of one world run one after the other.
func (w *world) during(t *testing.T) (back func()) {
	outer := w.t
	w.t = t
	return func() { w.t = outer }
}

// leader waits until one of the nodes leads and says so itself.
func (w *world) leader(nodes ...*node) *node {
	w.t.Helper()
	var found *node
	w.await("a leader", func(ctx context.Context) error {
		for _, n := range nodes {
			s, err := n.Status(ctx)
			if err == nil && s.State == "leader" && s.LeaderID == n.name {
				found = n
				return nil
			}
		}
		return fmt.Errorf("none of %d nodes leads", len(nodes))
	})
	return found
}

// without are the nodes but one.
func without(nodes []*node, one *node) []*node {
	var rest []*node
	for _, n := range nodes {
		if n != one {
			rest = append(rest, n)
		}
	}
	return rest
}

// equalChecksums checks I4: at one applied index all nodes have one checksum.
func (w *world) equalChecksums(nodes ...*node) proc.Checksum {
	w.t.Helper()
	var apis []proc.API
	for _, n := range nodes {
		apis = append(apis, n.API)
	}
	sum, err := proc.EqualChecksums(w.bound(), apis...)
	if err != nil {
		w.t.Fatalf("I4: %v", err)
	}
	return sum
}

// edge is a gateway process.
type edge struct {
	proc.API
	proc *proc.Process
}

// edge starts the reference gateway on these nodes and waits until it decides.
func (w *world) edge(name string, nodes []*node, flags ...string) *edge {
	w.t.Helper()
	file := filepath.Join(w.dir, name+".credential")
	if err := os.WriteFile(file, []byte(w.gateway+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	urls := make([]string, len(nodes))
	for i, n := range nodes {
		urls[i] = n.Base
	}
	args := append([]string{"gateway", "--nodes", strings.Join(urls, ","), "--credential-file", file, "--name", name, "--listen", "127.0.0.1:0"}, flags...)
	e := &edge{proc: w.start(name, args...)}
	ctx, cancel := context.WithTimeout(w.t.Context(), readyBound)
	defer cancel()
	r, err := e.proc.Ready(ctx)
	if err != nil {
		w.t.Fatalf("gateway %s: %v", name, err)
	}
	e.API = proc.API{Base: "http://" + r.Listen, HTTP: w.http}
	w.await("gateway "+name+" in sync", func(ctx context.Context) error { return e.Call(ctx, http.MethodGet, "/readyz", nil, nil) })
	return e
}

// status is what the gateway says of itself.
type edgeStatus struct {
	State  string `json:"state"`
	Epoch  uint64 `json:"epoch"`
	Head   uint64 `json:"head"`
	Node   string `json:"node"`
	Counts struct {
		NodeSwitches uint64 `json:"node_switches"`
		Snapshots    uint64 `json:"snapshots"`
	} `json:"counts"`
}

func (e *edge) status(t *testing.T) (s edgeStatus) {
	t.Helper()
	if err := e.Call(t.Context(), http.MethodGet, "/status", nil, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// says checks one verdict.
func (e *edge) says(t *testing.T, token string, status int, reason string) {
	t.Helper()
	v, err := e.Validate(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if v.Status != status || v.Reason != reason {
		t.Errorf("the gateway says %d %q, want %d %q", v.Status, v.Reason, status, reason)
	}
	if status != http.StatusNoContent && v.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("a refusal without WWW-Authenticate")
	}
}

// must ends the test on an error: must(f())(t).
func must[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// result is how one call of the command line ended.
type result struct {
	code     int
	out, err string
	took     time.Duration
}

// cli runs the program to its end, with the admin token of the cluster.
func (w *world) cli(at *node, stdin string, args ...string) result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), waitBound)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.bin, args...)
	cmd.Env = append(os.Environ(), "KEYRAFT_TOKEN="+w.admin)
	if at != nil {
		cmd.Env = append(cmd.Env, "KEYRAFT_ADDR="+at.Base)
	}
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	begun := time.Now()
	err := cmd.Run()
	if ctx.Err() != nil {
		w.t.Fatalf("keyraft %s did not end in %s: %s", strings.Join(args, " "), waitBound, errs.String())
	}
	if err != nil && cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	return result{code: cmd.ProcessState.ExitCode(), out: out.String(), err: errs.String(), took: time.Since(begun)}
}
