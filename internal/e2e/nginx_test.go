package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// upstream is the API behind nginx: it remembers what reaches it.
type upstream struct {
	*httptest.Server
	mu   sync.Mutex
	last *http.Request
	body string
	hits atomic.Int64
}

func newUpstream(t *testing.T) *upstream {
	u := &upstream{}
	u.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		u.hits.Add(1)
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20)) // compared by the test
		u.mu.Lock()
		u.last, u.body = r.Clone(context.Background()), string(body)
		u.mu.Unlock()
		if r.URL.Path == "/broken" {
			rw.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = fmt.Fprintf(rw, "hello %s", r.Header.Get("X-Keyraft-Client"))
	}))
	t.Cleanup(u.Close)
	return u
}

func (u *upstream) seen() (*http.Request, string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.last, u.body
}

// nginxBinary finds nginx, or skips the test.
func nginxBinary(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} { // Debian keeps it from plain users' PATH
		if bin, err := exec.LookPath(name); err == nil {
			return bin
		}
	}
	if os.Getenv("KEYRAFT_REQUIRE") == "all" {
		t.Fatal("nginx is not installed, and KEYRAFT_REQUIRE=all: apt-get install nginx-light")
	}
	t.Skip("nginx is not installed: apt-get install nginx-light")
	return ""
}

// nginx starts the real program on the configuration that the documentation
// shows, with nothing but its three addresses changed.
func (w *world) nginx(bin, gateway, api string) (addr string) {
	w.t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "nginx.conf"))
	if err != nil {
		w.t.Fatal(err)
	}
	text := string(raw)
	addr = freePort(w.t)
	for from, to := range map[string]string{"listen  127.0.0.1:8080;": "listen  " + addr + ";", "server     127.0.0.1:9768;": "server     " + gateway + ";", "server     127.0.0.1:8081;": "server     " + api + ";"} {
		if strings.Count(text, from) != 1 {
			w.t.Fatalf("nginx.conf does not hold %q once", from)
		}
		text = strings.Replace(text, from, to, 1)
	}
	dir := filepath.Join(w.dir, "nginx")
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o700); err != nil {
		w.t.Fatal(err)
	}
	conf := writeFile(w.t, dir, "nginx.conf", text)
	global := "daemon off;"
	if os.Geteuid() == 0 {
		global += " user root;" // its workers read the test's private folder
	}
	p, err := proc.Start(proc.Spec{Bin: bin, Args: []string{"-p", dir, "-e", "stderr", "-c", conf, "-g", global}, Log: filepath.Join(w.dir, "log", "nginx.log")})
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.all = append(w.all, p)
	w.mu.Unlock()
	w.await("nginx", func(context.Context) error {
		select {
		case <-p.Ended():
			w.t.Fatalf("nginx ended: %s", p.Tail(5))
		default:
		}
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	return addr
}

// TestG13Nginx: nginx, the gateway and three nodes as real processes: what a good
// token opens, what is refused and how, headers that nobody can forge (GW-08), a
// node killed under load.
func TestG13Nginx(t *testing.T) {
	t.Parallel()
	bin := nginxBinary(t)
	w, nodes := cluster(t)
	g := w.edge("gw1", nodes)
	api := newUpstream(t)
	addr := w.nginx(bin, strings.TrimPrefix(g.Base, "http://"), api.Listener.Addr().String())
	front := "http://" + addr
	token := must(nodes[0].Issue(w.bound(), w.client, "read"))(t)

	t.Run("a good token opens, and says who calls", func(t *testing.T) {
		defer w.during(t)()
		status, _, body := w.get(front+"/orders?x=1", token, nil)
		seen, _ := api.seen()
		if status != http.StatusOK || body != "hello "+w.client.ID {
			t.Fatalf("status %d: %s", status, body)
		}
		if seen.Header.Get("X-Keyraft-Subject") != w.client.ID || seen.Header.Get("X-Keyraft-Scope") != "read" || seen.URL.RawQuery != "x=1" || seen.Header.Get("Authorization") != "" {
			t.Errorf("the API sees %v %v", seen.URL, seen.Header)
		}
	})
	t.Run("a body of a POST arrives whole", func(t *testing.T) {
		defer w.during(t)()
		want := strings.Repeat("0123456789", 20_000) // beyond what nginx keeps in memory, and the gateway's limit
		req := must(http.NewRequestWithContext(w.bound(), http.MethodPost, front+"/orders", strings.NewReader(want)))(t)
		req.Header.Set("Authorization", "Bearer "+token)
		resp := must(w.http.Do(req))(t)
		_ = readAll(t, resp.Body)
		_ = resp.Body.Close() // only read
		if _, got := api.seen(); resp.StatusCode != http.StatusOK || got != want {
			t.Errorf("status %d, %d of %d bytes arrived", resp.StatusCode, len(got), len(want))
		}
	})
	t.Run("refusals say why and reach no API", func(t *testing.T) {
		defer w.during(t)()
		before := api.hits.Load()
		for name, c := range map[string]struct{ token, reason, challenge string }{
			"no token": {"", "no_token", `Bearer realm="keyraft"`}, "nonsense": {"nonsense", "malformed", `error="invalid_token"`},
			"a changed token": {flip(token), "", `error="invalid_token"`},
		} {
			status, header, _ := w.get(front+"/orders", c.token, nil)
			if status != http.StatusUnauthorized || !strings.Contains(header.Get("WWW-Authenticate"), c.challenge) || c.reason != "" && header.Get("X-Keyraft-Reason") != c.reason {
				t.Errorf("%s: status %d, %v", name, status, header)
			}
		}
		if api.hits.Load() != before {
			t.Error("a refused request reached the API")
		}
	})
	t.Run("GW-08: a client can't speak for the gateway", func(t *testing.T) { defer w.during(t)(); w.forgeries(addr, token, api) })
	t.Run("the API's own errors pass", func(t *testing.T) {
		defer w.during(t)()
		if status, _, body := w.get(front+"/broken", token, nil); status != http.StatusInternalServerError || !strings.HasPrefix(body, "hello") {
			t.Errorf("status %d: %s", status, body)
		}
	})
	t.Run("a node dies under load, and a revocation still arrives", func(t *testing.T) {
		defer w.during(t)()
		w.nginxUnderLoad(front, nodes, g)
	})
	t.Run("no gateway, no passage", func(t *testing.T) {
		defer w.during(t)()
		g.proc.Kill()
		if status, header, _ := w.get(front+"/orders", token, nil); status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
			t.Errorf("status %d, %v; want 503 with Retry-After", status, header)
		}
	})
}

// forgeries sends raw requests, since a client library would put them right.
func (w *world) forgeries(addr, token string, api *upstream) {
	w.t.Helper()
	for name, lines := range map[string]string{
		"the plain name":             "X-Keyraft-Subject: root\r\nX-Keyraft-Client: root\r\nX-Keyraft-Scope: admin\r\n",
		"another case":               "x-KEYRAFT-subject: root\r\nx-keyraft-SCOPE: admin\r\n",
		"an underscore":              "X_Keyraft_Subject: root\r\nx_keyraft_scope: admin\r\n",
		"a space before the colon":   "X-Keyraft-Subject : root\r\n",
		"a hop-by-hop header":        "Connection: X-Keyraft-Subject, close\r\nX-Keyraft-Subject: root\r\n",
		"twice":                      "X-Keyraft-Subject: root\r\nX-Keyraft-Subject: root\r\n",
		"the proxy's own headers":    "X-Forwarded-Method: DELETE\r\nX-Forwarded-Uri: /root\r\nX-Keyraft-Api: root\r\nX-Keyraft-Reason: root\r\n",
		"a header folded over lines": "X-Other: a\r\n X-Keyraft-Subject: root\r\n",
	} {
		before := api.hits.Load()
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			w.t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		head := "GET /orders HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer " + token + "\r\n" + lines
		if !strings.Contains(lines, "close") {
			head += "Connection: close\r\n"
		}
		_, err = io.WriteString(conn, head+"\r\n")
		if err != nil {
			w.t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			w.t.Fatalf("%s: %v", name, err)
		}
		_ = readAll(w.t, resp.Body)
		_ = conn.Close() // only read
		if resp.StatusCode >= 500 {
			w.t.Errorf("%s: status %d", name, resp.StatusCode)
		}
		if resp.StatusCode != http.StatusOK {
			if api.hits.Load() != before {
				w.t.Errorf("%s: refused with %d, and it reached the API", name, resp.StatusCode)
			}
			continue
		}
		seen, _ := api.seen()
		for header, values := range seen.Header {
			if strings.Contains(strings.ToLower(strings.ReplaceAll(header, "_", "-")), "keyraft") && strings.Contains(strings.Join(values, " "), "root") {
				w.t.Errorf("%s: the API sees %s: %v", name, header, values)
			}
		}
		if got := seen.Header.Values("X-Keyraft-Subject"); len(got) != 1 || got[0] != w.client.ID || seen.Header.Get("X-Keyraft-Scope") != "read" {
			w.t.Errorf("%s: the API sees the subject %v and the scope %q", name, got, seen.Header.Get("X-Keyraft-Scope"))
		}
	}
}

// nginxUnderLoad kills the leader while requests go on, and revokes a token: no
// request with a good one fails, and none with the revoked one passes after the
// receipt.
func (w *world) nginxUnderLoad(front string, nodes []*node, g *edge) {
	w.t.Helper()
	leader := w.leader(nodes...)
	rest := without(nodes, leader)
	good, bad := must(rest[0].Issue(w.bound(), w.client, "read"))(w.t), must(rest[0].Issue(w.bound(), w.client, "read"))(w.t)
	var revoked atomic.Bool
	var served, refused, late, failed atomic.Int64
	ctx, stop := context.WithCancel(w.t.Context())
	var workers sync.WaitGroup
	ask := func(token string, count func(status int, wasRevoked bool)) {
		for ctx.Err() == nil {
			was := revoked.Load()
			if status, err := w.status(ctx, front+"/orders", token); err == nil {
				count(status, was)
			} else if ctx.Err() == nil {
				count(0, was)
			}
		}
	}
	for range 2 {
		workers.Go(func() {
			ask(good, func(status int, _ bool) {
				if served.Add(1); status != http.StatusOK {
					failed.Add(1)
				}
			})
		})
		workers.Go(func() {
			ask(bad, func(status int, was bool) {
				switch {
				case status == http.StatusUnauthorized:
					refused.Add(1)
				case was:
					late.Add(1)
				}
			})
		})
	}
	leader.kill()
	r, err := rest[0].Revoke(w.bound(), map[string]any{"token": bad}, 10*time.Second)
	if err == nil && r.Complete {
		revoked.Store(true)
	} else {
		w.t.Errorf("the receipt is not whole: %+v, %v", r, err)
	}
	w.await("requests after the revocation", func(context.Context) error {
		if refused.Load() < 200 {
			return errors.New("too few")
		}
		return nil
	})
	stop()
	workers.Wait()
	w.t.Logf("%d requests with the good token, %d refused with the revoked one", served.Load(), refused.Load())
	if failed.Load() > 0 || late.Load() > 0 {
		w.t.Errorf("%d of %d good requests failed; %d passed with the revoked token after its receipt", failed.Load(), served.Load(), late.Load())
	}
	if s := g.status(w.t); s.Node == leader.Base {
		w.t.Errorf("the gateway still follows the dead node %s", s.Node)
	}
}

func (w *world) status(ctx context.Context, at, token string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := w.http.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

// get asks nginx for a page.
func (w *world) get(at, token string, header http.Header) (int, http.Header, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.bound(), http.MethodGet, at, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := w.http.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	body := readAll(w.t, resp.Body)
	_ = resp.Body.Close() // only read
	return resp.StatusCode, resp.Header, body
}
