package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCommandLine runs every client command against a live cluster, with its
// exit code, as a table and as JSON.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	w, nodes := cluster(t)
	n := nodes[1]
	g := w.edge("gw1", nodes)
	run := func(code int, args ...string) result {
		t.Helper()
		got := w.cli(n, "", args...)
		if got.code != code {
			t.Fatalf("keyraft %s: exit code %d, want %d: %s%s", strings.Join(args, " "), got.code, code, got.out, got.err)
		}
		if code != 0 && strings.Count(strings.TrimSpace(got.err), "\n") > 0 {
			t.Errorf("keyraft %s: more than one line: %s", strings.Join(args, " "), got.err)
		}
		return got
	}
	object := func(args ...string) map[string]any {
		t.Helper()
		got := run(0, append(args, "--output", "json")...)
		var m map[string]any
		if err := json.Unmarshal([]byte(got.out), &m); err != nil {
			t.Fatalf("keyraft %s: %v in %s", strings.Join(args, " "), err, got.out)
		}
		return m
	}
	says := func(got result, words ...string) {
		t.Helper()
		for _, word := range words {
			if !strings.Contains(got.out, word) {
				t.Errorf("%q is missing in %s", word, got.out)
			}
		}
	}

	secret := filepath.Join(w.dir, "orders.secret")
	says(run(0, "client", "create", "--id", "orders", "--name", "Orders", "--grant", "client_credentials", "--scope", "read write", "--secret-out", secret), "orders", "client_credentials")
	if info, err := os.Stat(secret); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the secret's file: %v, %v", info, err)
	}
	run(1, "client", "create", "--id", "orders")
	says(run(0, "client", "list"), "ID", "orders", "demo")
	if items, ok := object("client", "list")["items"].([]any); !ok || len(items) < 2 {
		t.Errorf("client list --output json has items %v", items)
	}
	if m := object("client", "get", "orders"); m["client_name"] != "Orders" || m["client_secret"] != nil {
		t.Errorf("client get: %v", m)
	}
	run(1, "client", "get", "nobody")
	run(0, "client", "update", "orders", "--scope", "read", "--token-lifetime", "10m")
	if m := object("client", "get", "orders"); m["scope"] != "read" || m["access_token_lifetime"] != 600.0 || m["client_name"] != "Orders" {
		t.Errorf("after the update: %v", m)
	}
	run(2, "client", "update", "orders")
	run(1, "client", "update", "orders", "--token-format", "nonsense")

	auth := []string{"--client-id", "orders", "--client-secret-file", secret}
	issue := func() string { return strings.TrimSpace(run(0, append([]string{"token", "issue"}, auth...)...).out) }
	token := issue()
	if strings.Count(token, ".") != 2 {
		t.Fatalf("token issue prints %q", token)
	}
	if m := object(append([]string{"token", "issue"}, auth...)...); m["token_type"] != "Bearer" || m["expires_in"] != 600.0 {
		t.Errorf("token issue --output json: %v", m)
	}
	run(1, append([]string{"token", "issue", "--scope", "write"}, auth...)...)
	run(1, "token", "issue", "--client-id", "orders", "--client-secret", "wrong")
	run(2, "token", "issue")
	if m := object("token", "introspect", token); m["active"] != true || m["client_id"] != "orders" {
		t.Errorf("introspect by the admin token: %v", m)
	}
	run(0, append([]string{"token", "introspect", token}, auth...)...)
	run(1, "token", "introspect", "nonsense")
	says(run(0, "token", "inspect", token), "NOT verified", "orders", "valid for")
	says(run(0, "token", "inspect", token, "--addr", nodes[2].Base), "signature verified")
	run(1, "token", "inspect", "nonsense")

	renewed := filepath.Join(w.dir, "orders2.secret")
	run(0, "client", "rotate-secret", "orders", "--secret-out", renewed)
	for _, file := range []string{secret, renewed} { // both live
		run(0, "token", "issue", "--client-id", "orders", "--client-secret-file", file)
	}
	run(0, "client", "rotate-secret", "orders")
	run(1, append([]string{"token", "issue"}, auth...)...) // the oldest of three is gone
	auth[3] = renewed

	says(run(0, "token", "revoke", token, "--wait", "gateways"), "revoked: seq", "dev-gateway", "true")
	run(1, "token", "introspect", token)
	g.says(t, token, 401, "revoked")
	byClient := issue()
	if m := object("token", "revoke", "--client-id", "orders", "--wait", "gateways", "--timeout", "5s"); m["complete"] != true {
		t.Errorf("revoke --output json: %v", m)
	}
	g.says(t, byClient, 401, "revoked")
	run(2, "token", "revoke")
	run(2, "token", "revoke", token, "--client-id", "orders")
	says(run(0, "gateway", "list"), "HEAD", "dev-gateway")
	credential := filepath.Join(w.dir, "edge2.credential")
	id, _ := object("gateway", "register", "edge2", "--credential-out", credential)["id"].(string)
	if text, err := os.ReadFile(credential); err != nil || len(strings.TrimSpace(string(text))) < 22 {
		t.Errorf("the credential's file: %v", err)
	}
	run(0, "gateway", "delete", id)

	operator(t, w, nodes, run, object, says)

	run(0, "client", "delete", "orders")
	run(1, "client", "get", "orders")
	run(1, append([]string{"token", "issue"}, auth...)...)
}

// operator runs the commands for those who run the cluster.
func operator(t *testing.T, w *world, nodes []*node, run func(int, ...string) result, object func(...string) map[string]any, says func(result, ...string)) {
	t.Helper()
	says(run(0, "operator", "members"), "ID", "n1", "n2", "n3", "voter", "ready")
	if items, ok := object("operator", "members")["items"].([]any); !ok || len(items) != 3 {
		t.Errorf("operator members --output json: %v", items)
	}
	if m := object("operator", "status"); m["node_id"] != "n2" || m["healthy"] != true {
		t.Errorf("operator status: %v", m)
	}
	if m := object("operator", "checksum"); m["checksum"] == "" {
		t.Errorf("operator checksum: %v", m)
	}
	if m := object("operator", "join-token", "--ttl", "1h"); !strings.HasPrefix(m["token"].(string), "krj1_") || !strings.Contains(m["command"].(string), "--join") || m["expires_at"] == nil {
		t.Errorf("operator join-token: it lacks a token, a command or an end")
	}
	leader := w.leader(nodes...)
	to := without(nodes, leader)[0]
	run(0, "operator", "transfer-leader", "--to", to.name)
	if now := w.leader(nodes...); now != to {
		t.Errorf("%s leads after the transfer to %s", now.name, to.name)
	}
	run(1, "operator", "transfer-leader", "--to", "nobody")

	before := kids(t, object("operator", "key", "list"))
	run(0, "operator", "key", "rotate")
	if after := kids(t, object("operator", "key", "list")); len(after) <= len(before) {
		t.Errorf("keys before the rotation %v, after it %v", before, after)
	}
	for _, n := range nodes {
		if _, err := n.Issue(w.bound(), w.client, ""); err != nil {
			t.Errorf("%s after the rotation: %v", n.name, err)
		}
	}
	run(0, "operator", "gossip-key", "rotate")

	snap := filepath.Join(w.dir, "cluster.snap")
	says(run(0, "operator", "snapshot", "save", snap), "saved")
	if m := object("operator", "snapshot", "inspect", snap); m["rows"].(float64) < 5 {
		t.Errorf("snapshot inspect: %v", m)
	}
	run(1, "operator", "snapshot", "inspect", flipBit(t, snap))
	says(run(0, "operator", "snapshot", "restore", snap), "epoch") // no terminal: nobody is asked

	x := w.prepareJoin(nodes[0], "x1", "nonvoter").run()
	says(run(0, "operator", "members"), "x1", "nonvoter")
	w.await("x1 to be promoted", func(context.Context) error {
		if got := w.cli(nodes[0], "", "operator", "promote", "x1"); got.code != 0 {
			return errors.New(got.err)
		}
		return nil
	})
	w.awaitVoters(nodes[0], 4)
	run(1, "operator", "remove", "nobody", "--yes")
	run(0, "operator", "remove", "x1") // no terminal: nobody is asked
	if code, err := x.proc.Wait(10 * time.Second); err != nil || code != 1 {
		t.Errorf("the removed node: exit code %d, %v", code, err)
	}
}

func kids(t *testing.T, list map[string]any) (ids []string) {
	t.Helper()
	for _, item := range list["items"].([]any) {
		m := item.(map[string]any)
		if m["d"] != nil || m["private"] != nil {
			t.Error("a key's private part is shown")
		}
		ids = append(ids, m["kid"].(string))
	}
	return ids
}

// TestCommandLineAlone: what needs no cluster, and what a cluster that is not
// there looks like.
func TestCommandLineAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nowhere := &node{}
	nowhere.Base = "http://" + freePort(t)
	for _, tt := range []struct {
		name string
		args []string
		code int
		out  string
		err  string
	}{
		{name: "no argument shows the commands", out: "operator"},
		{name: "the version", args: []string{"version"}, out: "keyraft"},
		{name: "the version as JSON", args: []string{"version", "--output", "json"}, out: `"version"`},
		{name: "help of a group", args: []string{"operator", "--help"}, out: "transfer-leader"},
		{name: "a configuration to begin with", args: []string{"config", "example"}, out: "api_addr"},
		{name: "nothing listens", args: []string{"client", "list"}, code: 1, err: "keyraft server --dev"},
		{name: "an unknown form of the output", args: []string{"client", "list", "--output", "xml"}, code: 2, err: "json"},
		{name: "a missing argument", args: []string{"client", "get"}, code: 2, err: "ID is missing"},
		{name: "a snapshot that is not there", args: []string{"operator", "snapshot", "inspect", w.dir + "/none"}, code: 2, err: "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer w.during(t)()
			got := w.cli(nowhere, "", tt.args...)
			if got.code != tt.code || !strings.Contains(got.out, tt.out) || !strings.Contains(got.err, tt.err) {
				t.Errorf("exit code %d, want %d; %s%s", got.code, tt.code, got.out, got.err)
			}
		})
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run("completion for "+shell, func(t *testing.T) {
			defer w.during(t)()
			got := w.cli(nil, "", "completion", shell)
			if got.code != 0 || !strings.Contains(got.out, "keyraft") {
				t.Fatalf("exit code %d: %s", got.code, got.err)
			}
			at, err := exec.LookPath(shell)
			if err != nil {
				return // its text is all that can be looked at here
			}
			script := writeFile(t, w.dir, "completion."+shell, got.out)
			if out, err := exec.CommandContext(t.Context(), at, "-n", script).CombinedOutput(); err != nil {
				t.Errorf("%s does not read it: %v: %s", shell, err, out)
			}
		})
	}
}
