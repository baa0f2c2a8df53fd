// Package test proves Keyraft from outside: by a browser and by the client libraries that
// applications are made of, in their own languages. Each suite works against a server that
// runs; the tests here start one and the suite, and say where it is by KEYRAFT_ADDR and
// KEYRAFT_TOKEN. A suite can as well be started by hand: see the folders below.
package test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

const (
	readyBound = 30 * time.Second
	suiteBound = 15 * time.Minute // for a machine that has other things to do
)

// TestBrowser walks through the pages with Chromium, over plain HTTP at an address as a
// developer has it, and over TLS at a name as users do. What hangs on neither is walked
// once.
func TestBrowser(t *testing.T) {
	programs(t, "node", chromium())
	installed(t, "browser")
	plain, secure := start(t), start(t, "--dev-tls", "--api-addr", "localhost:0")
	t.Run("http", func(t *testing.T) { runNode(t, "browser", secure.front(plain.env())) })
	t.Run("https", func(t *testing.T) {
		runNode(t, "browser", secure.front(secure.env()),
			"login.test.mjs", "answers.test.mjs", "logout.test.mjs", "frames.test.mjs", "passkey.test.mjs", "looks.test.mjs")
	})
}

// TestNodeClients: openid-client and oauth4webapi. Over TLS they have certificates too.
func TestNodeClients(t *testing.T) {
	programs(t, "node")
	installed(t, "clients")
	t.Run("http", func(t *testing.T) { runNode(t, "clients", start(t).env()) })
	t.Run("https", func(t *testing.T) {
		_, env := mutual(t)
		runNode(t, "clients", env)
	})
}

// TestGoClients: x/oauth2 with go-oidc, and zitadel/oidc.
func TestGoClients(t *testing.T) {
	asked(t)
	s, env := mutual(t)
	env = append(env, "GOFLAGS=-buildvcs=false", "GOWORK=off") // this module's flags are not that one's
	trust := "env SSL_CERT_FILE=" + s.cert()                   // for the tests, not for go's own downloads
	out := run(t, filepath.Join("clients", "gorp"), env, "go", "test", "-count=1", "-v", "-parallel=16", "-exec", trust, "./...")
	if !regexp.MustCompile(`(?m)^--- PASS`).MatchString(out) {
		t.Errorf("no test has run:\n%s", out)
	}
}

// mutual starts a server that asks clients for certificates, and says where both are.
func mutual(t *testing.T) (s server, env []string) {
	t.Helper()
	certs := clientCertificates(t)
	s = start(t, "--dev-tls", "--tls-client-ca-file", filepath.Join(certs, "authority.pem"))
	return s, append(s.front(s.env()), "KEYRAFT_TEST_CLIENTS="+certs)
}

// asked skips where nobody asked for what downloads modules and takes minutes, whatever
// KEYRAFT_REQUIRE says; .ci/run asks for it by make interop.
func asked(t *testing.T) {
	t.Helper()
	if os.Getenv("KEYRAFT_INTEROP") == "" {
		t.Skip("make interop installs what this needs and runs it")
	}
}

// programs skips where one of them is missing.
func programs(t *testing.T, names ...string) {
	t.Helper()
	asked(t)
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing(t, fmt.Sprintf("no %s in PATH; install Debian's package of that name", name))
		}
	}
}

func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("KEYRAFT_REQUIRE") == "all" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// installed skips where npm has not installed what the suite's lock file names.
func installed(t *testing.T, suite string) {
	t.Helper()
	wanted, err := packages(filepath.Join(suite, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	delete(wanted, "") // the suite itself
	there, err := packages(filepath.Join(suite, "node_modules", ".package-lock.json"))
	if !maps.Equal(wanted, there) {
		missing(t, fmt.Sprintf("run npm ci in test/%s, or make interop: %v is installed of %v (%v)", suite, there, wanted, err))
	}
}

// packages are the versions that a lock file of npm names, by folder.
func packages(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var lock struct {
		Packages map[string]struct{ Version string }
	}
	err = json.Unmarshal(text, &lock)
	versions := map[string]string{}
	for folder, p := range lock.Packages {
		versions[folder] = p.Version
	}
	return versions, err
}

// TestLockFilesNameNoRegistry: where packages come from is the machine's to say.
func TestLockFilesNameNoRegistry(t *testing.T) {
	for _, suite := range []string{"browser", "clients"} {
		text, err := os.ReadFile(filepath.Join(suite, "package-lock.json"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), `"resolved"`) {
			t.Errorf("%s names a registry; make it with npm's omit-lockfile-registry-resolved", suite)
		}
	}
}

func chromium() string {
	if name := os.Getenv("CHROMIUM"); name != "" {
		return name
	}
	return "chromium"
}

// server is one node of --dev.
type server struct {
	proc.Ready
	dir string
}

func (s server) env() []string {
	return []string{"KEYRAFT_ADDR=" + s.URL, "KEYRAFT_TOKEN=" + s.AdminToken}
}

// front adds this server's certificate, which is one for localhost, for a front end of
// the suite's own, and to trust.
func (s server) front(env []string) []string {
	cert := s.cert()
	return append(env, "NODE_EXTRA_CA_CERTS="+cert, "KEYRAFT_TEST_CERT="+cert, "KEYRAFT_TEST_KEY="+filepath.Join(s.dir, "dev-tls-key.pem"))
}

// cert is the server's certificate, in a file.
func (s server) cert() string { return filepath.Join(s.dir, "dev-tls.pem") }

// program is the binary under test, built once; main removes it.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "keyraft-test-bin-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "keyraft")
	return bin, proc.Build(bin)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if os.Getenv("KEYRAFT_INTEROP") != "" {
		if bin, err := program(); err == nil {
			_ = os.RemoveAll(filepath.Dir(bin)) // in the system's temporary folder anyway
		}
	}
	os.Exit(code)
}

func start(t *testing.T, flags ...string) server {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	p, err := proc.Start(proc.Spec{
		Bin: bin, Args: append([]string{"server", "--dev", "--data-dir", data, "--api-addr", "127.0.0.1:0"}, flags...),
		Log: filepath.Join(dir, "server.log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Log(p.Titled("the server"))
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), readyBound)
	defer cancel()
	ready, err := p.Ready(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return server{ready, data}
}

// runNode runs test files of a suite, or all of them, by node's own runner, and tells its
// counts.
func runNode(t *testing.T, suite string, env []string, files ...string) {
	t.Helper()
	out := run(t, suite, env, "node", append([]string{"--test", "--test-concurrency=2", "--test-timeout=300000", "--test-reporter=tap"}, files...)...)
	counts := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^# (pass|fail|skipped|duration_ms) (\d+)`).FindAllStringSubmatch(out, -1) {
		counts[m[1]], _ = strconv.Atoi(m[2]) // digits
	}
	if counts["pass"] == 0 || counts["fail"] != 0 {
		t.Errorf("no test has run, or one failed: %v\n%s", counts, out)
	}
	t.Logf("%s: %d passed, %d skipped, in %s", suite, counts["pass"], counts["skipped"], time.Duration(counts["duration_ms"])*time.Millisecond)
}

// run runs a suite in its folder and gives what it printed; a failure ends the test.
func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), suiteBound)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", dir, err, out)
	}
	return string(out)
}
