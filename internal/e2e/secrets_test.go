package e2e

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// TestADM12NoSecretIsWritten is I6: after a busy life, no file and no log holds a
// secret, a token or a key in clear text, but for the files that are for it.
// Planted are real ones and such as only a careless log line would show.
func TestADM12NoSecretIsWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dev = false // with --dev the user asked to see them
	_, nodes := w.cluster(nil)
	planted := map[string]string{"admin token": w.admin, "client secret": w.client.Secret, "gateway credential": w.gateway, "gossip key": w.gossip}
	for _, name := range []string{"a\x1b[2J\nlevel=ERROR msg=forged", "a\u202e level=ERROR msg=forged"} {
		if _, err := nodes[0].CreateClient(w.bound(), map[string]any{"client_name": name}); proc.StatusOf(err) != http.StatusBadRequest {
			t.Errorf("a name %q: %v, want 400", name, err)
		}
	}
	opaque := must(nodes[0].CreateClient(w.bound(), map[string]any{"access_token_format": "opaque", "client_name": "a level=ERROR msg=forged"}))(t)
	planted["secret of another client"] = opaque.Secret
	var rotated proc.Client
	if err := nodes[1].Write(w.bound(), http.MethodPost, "/admin/v1/clients/"+opaque.ID+"/secret", nil, &rotated); err != nil {
		t.Fatal(err)
	}
	planted["rotated secret"] = rotated.Secret
	for i, n := range nodes {
		planted["join token that "+n.name+" made"] = must(n.JoinToken(w.bound(), "voter", "10m"))(t)
		planted["JWT of "+n.name] = must(n.Issue(w.bound(), w.client, ""))(t)
		planted["opaque token of "+n.name] = must(n.Issue(w.bound(), opaque, ""))(t)
		for j, flag := range n.first {
			if flag == "--join-token" {
				planted["join token of "+n.name] = n.first[j+1]
			}
		}
		must(nodes[(i+1)%3].Revoke(w.bound(), map[string]any{"token": planted["JWT of "+n.name]}, 0))(t)
		if err := n.RevokeOwn(w.bound(), opaque, planted["opaque token of "+n.name]); err != nil {
			t.Fatal(err)
		}
	}
	g := w.edge("gw1", nodes, "--cache-file", filepath.Join(w.dir, "gateway.cache"))
	g.says(t, planted["JWT of n1"], http.StatusUnauthorized, "revoked")
	g.says(t, planted["opaque token of n2"], http.StatusUnauthorized, "inactive")
	w.carelessRequests(nodes[0], g, planted)
	if got := w.cli(nodes[0], "", "operator", "snapshot", "save", filepath.Join(w.dir, "cluster.snap")); got.code != 0 {
		t.Errorf("snapshot: %s", got.err)
	}
	for _, n := range nodes[:2] {
		if code := n.proc.Terminate(15 * time.Second); code != 0 {
			t.Errorf("%s: exit code %d", n.name, code) // flushed; the third is killed as it stands
		}
	}
	nodes[2].kill()
	g.proc.Terminate(15 * time.Second)
	for name, text := range sealKeys(t, nodes) {
		planted[name] = text
	}
	w.search(opaque.ID, planted, map[string]bool{"seal.key": true, "admin.token": true, "gw1.credential": true})
	for _, n := range nodes {
		if log := n.proc.Log(); strings.Contains(log, "\x1b") || strings.Contains(log, "\u202e") || strings.Contains(log, "\nlevel=ERROR msg=forged") {
			t.Errorf("%s: a client's name forges its log", n.name)
		}
	}
}

// carelessRequests sends secrets where they do not belong.
func (w *world) carelessRequests(n *node, g *edge, planted map[string]string) {
	w.t.Helper()
	secret := func(name string) string {
		planted[name] = "planted-" + strings.ReplaceAll(name, " ", "-") + "-5f8ZxQ"
		return planted[name]
	}
	for _, r := range []struct {
		method, url, body string
		header            map[string]string
	}{
		{"POST", n.Base + "/oauth2/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {w.client.ID}, "client_secret": {secret("wrong secret")}}.Encode(), nil},
		{"POST", n.Base + "/oauth2/token", url.Values{"grant_type": {"password"}, "username": {"u"}, "password": {secret("password")}}.Encode(), nil},
		{"POST", n.Base + "/oauth2/token", url.Values{"grant_type": {"authorization_code"}, "code": {secret("code")}}.Encode(), nil},
		{"POST", n.Base + "/oauth2/token", url.Values{"client_assertion": {secret("assertion")}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "grant_type": {"client_credentials"}}.Encode(), nil},
		{"POST", n.Base + "/oauth2/introspect", url.Values{"token": {secret("unknown token")}}.Encode(), map[string]string{"Authorization": "Bearer " + w.admin}},
		{"GET", n.Base + "/admin/v1/clients", "", map[string]string{"Authorization": "Bearer " + secret("wrong admin token")}},
		{"GET", n.Base + "/admin/v1/clients", "", map[string]string{"Authorization": "Basic " + secret("wrong scheme"), "Cookie": "session=" + secret("cookie")}},
		{"GET", n.Base + "/oauth2/token?client_secret=" + secret("secret in the query"), "", nil},
		{"GET", n.Base + "/nowhere/" + secret("secret in the path"), "", nil},
		{"GET", n.Base + "/gateway/v1/revocations?since=0", "", map[string]string{"Authorization": "Bearer " + secret("wrong credential")}},
		{"GET", g.Base + "/validate", "", map[string]string{"Authorization": "Bearer " + secret("nonsense at the gateway"), "DPoP": secret("proof")}},
		{"GET", n.Base + "/livez", "", map[string]string{"User-Agent": strings.Repeat("A", 8000) + "\u202e"}},
	} {
		req, err := http.NewRequestWithContext(w.bound(), r.method, r.url, strings.NewReader(r.body))
		if err != nil {
			w.t.Fatal(err)
		}
		if r.method == http.MethodPost {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		for name, value := range r.header {
			req.Header.Set(name, value)
		}
		resp, err := w.http.Do(req)
		if err != nil {
			w.t.Fatalf("%s %s: %v", r.method, r.url, err)
		}
		body := readAll(w.t, resp.Body)
		_ = resp.Body.Close() // only read
		if resp.StatusCode >= 500 {
			w.t.Errorf("%s %.60s: status %d", r.method, r.url, resp.StatusCode)
		}
		for name, text := range planted {
			if strings.Contains(body, text) && !strings.Contains(r.url, text) {
				w.t.Errorf("the answer to %s %.60s holds the %s", r.method, r.url, name)
			}
		}
	}
}

// sealKeys reads the sealing keys that the nodes keep: as text and as bytes.
func sealKeys(t *testing.T, nodes []*node) map[string]string {
	t.Helper()
	keys := map[string]string{}
	for _, n := range nodes {
		raw, err := os.ReadFile(filepath.Join(n.dir, "seal.key"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				keys["sealing key of "+n.name] = line
			}
		}
		if keys["sealing key of "+n.name] == "" {
			t.Errorf("%s has no sealing key in its file", n.name)
		}
	}
	return keys
}

// search looks for each secret, as text and as the bytes that it stands for, in
// every file of the test but those that are meant for it. Files that hold secrets
// must be for their owner alone. open is no secret: it must be found, or the
// search sees nothing.
func (w *world) search(open string, planted map[string]string, meant map[string]bool) {
	w.t.Helper()
	forms := map[string][]byte{}
	for name, text := range planted {
		if len(text) < 16 {
			w.t.Fatalf("the %s is too short to be searched for", name)
		}
		forms[name] = []byte(text)
		for _, e := range []*base64.Encoding{base64.RawURLEncoding, base64.StdEncoding} {
			if raw, err := e.DecodeString(text); err == nil {
				forms[name+" (its bytes)"] = raw
			}
		}
	}
	files, visible := 0, 0
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if meant[d.Name()] {
			if info.Mode().Perm()&0o077 != 0 {
				w.t.Errorf("%s has mode %v", d.Name(), info.Mode())
			}
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		visible += bytes.Count(data, []byte(open))
		for name, text := range forms {
			if at := bytes.Index(data, text); at >= 0 {
				w.t.Errorf("I6: %s holds the %s at byte %d: %q", strings.TrimPrefix(path, w.dir), name, at, around(data, at))
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Logf("%d secrets in %d forms looked for in %d files", len(planted), len(forms), files)
	if files < 15 || visible < 3 {
		w.t.Errorf("%d files were searched, and a client's id was found %d times in them: the search sees too little", files, visible)
	}
}

func around(data []byte, at int) []byte { return data[max(0, at-40):at] }
