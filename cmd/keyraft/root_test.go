package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyraft/keyraft/internal/config"
)

// walk visits every command that can be run.
func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, child := range cmd.Commands() {
		walk(child, visit)
	}
}

// TestEveryCommandHelps: each has an example that begins with its own path, a
// short sentence and, but for the help itself, --output where it prints a result.
func TestEveryCommandHelps(t *testing.T) {
	t.Parallel()
	n := 0
	walk(newRoot(console{}, deps{}), func(cmd *cobra.Command) {
		n++
		path := cmd.CommandPath()
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: no short sentence, or one with a full stop: %q", path, cmd.Short)
		}
		if !strings.Contains(cmd.Example, path) {
			t.Errorf("%s: no example of its own: %q", path, cmd.Example)
		}
		for _, line := range strings.Split(cmd.Example, "\n") {
			if !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: the example line %q is not indented by two", path, line)
			}
		}
		switch top, _, _ := strings.Cut(strings.TrimPrefix(path, "keyraft "), " "); {
		case path == "keyraft", top == "completion", top == "help", top == "server", path == "keyraft gateway":
		case cmd.Flag("output") == nil:
			t.Errorf("%s has no --output", path)
		}
		got := call{args: append(strings.Fields(path)[1:], "--help")}.run(t)
		if got.code != 0 || !strings.Contains(got.out, "Examples:") {
			t.Errorf("%s --help: exit code %d, %q", path, got.code, got.err)
		}
	})
	if n < 40 {
		t.Errorf("only %d commands were found", n)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		want string
		code int
	}{
		{"version", "keyraft ", 0},
		{"version -o json", `"go": "go1.`, 0},
		{"completion bash", "# bash completion", 0},
		{"completion bash x", "takes no argument", 2},
		{"sevrer", "there is no command keyraft sevrer; did you mean server? (see 'keyraft --help')", 2},
		{"operator membres", "did you mean members?", 2},
		{"operator snapshot", "Available Commands", 0},
		{"gateway lits", "did you mean list?", 2},
		{"operator members extra", "takes no argument, but got \"extra\"", 2},
		{"operator remove", "ID is missing: keyraft operator remove ID", 2},
		{"operator remove a b", "takes ID, but got \"b\" too", 2},
		{"version --colour", "unknown flag: --colour (see 'keyraft version --help')", 2},
		{"version -o yaml", "--output \"yaml\" is not known; use table or json", 2},
		{"client list --limit -1", "is below 0", 2},
		{"client list --limit x", "invalid argument", 2},
		{"client update x", "nothing to change", 2},
		{"client create --set x", "is not member=JSON", 2},
		{"client create --token-lifetime soon", "is not a duration", 2},
		{"client create --token-lifetime 1500ms", "is not a whole number of seconds", 2},
		{"client create --file nowhere.json", "name a readable file", 2},
		{"token revoke", "name one of TOKEN", 2},
		{"token revoke --client-id a --subject b", "not 2", 2},
		{"token revoke --client-id a --wait nodes", "--wait \"nodes\" is not known; use gateways", 2},
		{"token revoke --client-id a --wait gateways --timeout 2m", "use 1ms to 1m", 2},
		{"token revoke --client-id a --issued-before yesterday", "is no time", 2},
		{"token introspect x", "nobody is named who may ask", 2},
		{"token introspect -", "the token is empty", 2},
		{"token issue", "--client-id is missing", 2},
		{"operator gossip-key rotate --pool all", "use nodes or gateways", 2},
		{"server --dev", "this build has no server", 1},
		{"gateway --nodes http://a --credential-file f", "this build has no gateway", 1},
		{"operator snapshot inspect x", "this build can't read snapshots", 1},
		{"config show --gateway --dev", "--dev is a flag of the node", 2},
	} {
		got := call{args: strings.Fields(tt.args)}.run(t)
		if got.code != tt.code || !strings.Contains(got.out+got.err, tt.want) {
			t.Errorf("keyraft %s: exit code %d, want %d with %q:\n%.400s", tt.args, got.code, tt.code, tt.want, got.out+got.err)
		}
		if tt.code == 2 && strings.Count(got.err, "\n") != 1 {
			t.Errorf("keyraft %s: the error is not one line: %q", tt.args, got.err)
		}
	}
}

// TestServer: flags, variables and file reach the server in that order, and what
// it returns decides the exit code.
func TestServer(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keyraft.yaml")
	if err := os.WriteFile(file, []byte("log_level: warn\nnode_id: n1\nraft:\n  trailing_logs: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got config.Config
	serve := func(result error) deps {
		return deps{RunServer: func(_ context.Context, cfg config.Config, _ config.Settings, _ console) error {
			got = cfg
			return result
		}}
	}
	c := call{args: []string{"server", "--dev", "--dev-tls=true", "--api-addr", "127.0.0.1:0", "--raft-trailing-logs", "9", "--outbound-allow", "10.0.0.0/8", "--outbound-allow", "10.1.0.0/16,fd00::/8"},
		env: map[string]string{"KEYRAFT_CONFIG": file, "KEYRAFT_LOG_LEVEL": "error", "KEYRAFT_RAFT_TRAILING_LOGS": "8"}, deps: serve(nil)}
	if r := c.run(t); r.code != 0 {
		t.Fatalf("exit code %d: %s", r.code, r.err)
	}
	if !got.Dev || !got.DevTLS || got.APIAddr != "127.0.0.1:0" || got.LogLevel != "error" || got.NodeID != "n1" || got.Raft.TrailingLogs != 9 ||
		!slices.Equal(got.OutboundAllow, []string{"10.0.0.0/8", "10.1.0.0/16", "fd00::/8"}) {
		t.Errorf("config %+v", got)
	}

	c.deps = serve(errors.New("the disk is full"))
	if r := c.run(t); r.code != 1 || r.err != "keyraft: the disk is full\n" {
		t.Errorf("exit code %d, %q", r.code, r.err)
	}
	c.deps = serve(config.NewError("node_id", "is another node's", "take the data folder of n1"))
	if r, want := c.run(t), "keyraft: "+file+":2: node_id: is another node's; take the data folder of n1\n"; r.code != 2 || r.err != want {
		t.Errorf("exit code %d, %q, want %q", r.code, r.err, want)
	}
}

func TestServerConfigErrors(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keyraft.yaml")
	if err := os.WriteFile(file, []byte("api_addr: 127.0.0.1:1\n\nlog_fromat: json\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	never := deps{
		RunServer: func(context.Context, config.Config, config.Settings, console) error {
			return errors.New("started all the same")
		},
		RunGateway: func(context.Context, config.Gateway, config.Settings, console) error {
			return errors.New("started all the same")
		},
	}
	for _, tt := range []struct {
		name string
		call call
		want string
	}{
		{"file, line, key and fix", call{args: []string{"server", "--config", file}}, "keyraft: " + file + ":3: log_fromat: is not a setting; did you mean log_format?\n"},
		{"a flag", call{args: []string{"server", "--staleness-bound", "soon"}}, "keyraft: flag --staleness-bound: staleness_bound: \"soon\" is not a duration; write 10m, 1h30m or a number of seconds\n"},
		{"a variable", call{args: []string{"server"}, env: map[string]string{"KEYRAFT_API_ADDR": "9763"}}, "keyraft: environment KEYRAFT_API_ADDR: api_addr: \"9763\" is not host:port; write it as 127.0.0.1:9763 or [::1]:9763; port 0 picks a free one\n"},
		{"a gateway's variable", call{args: []string{"gateway", "--nodes", "http://a", "--credential-file", "c"}, env: map[string]string{"KEYRAFT_GATEWAY_FAIL_MODE": "ajar"}}, "keyraft: environment KEYRAFT_GATEWAY_FAIL_MODE: fail_mode: \"ajar\" is not known; use closed or open\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.call.deps = never
			if got := tt.call.run(t); got.code != 2 || got.err != tt.want || got.out != "" {
				t.Errorf("exit code %d, %q, want %q", got.code, got.err, tt.want)
			}
		})
	}
}

func TestGatewayRuns(t *testing.T) {
	t.Parallel()
	var got config.Gateway
	d := deps{RunGateway: func(_ context.Context, cfg config.Gateway, _ config.Settings, _ console) error {
		got = cfg
		return nil
	}}
	r := call{args: strings.Fields("gateway --nodes http://a:1,http://b:2 --credential-file f --listen 127.0.0.1:0 --cacert ca.pem"), deps: d,
		env: map[string]string{"KEYRAFT_GATEWAY_MAX_STALENESS": "7"}}.run(t)
	if r.code != 0 {
		t.Fatalf("exit code %d: %s", r.code, r.err)
	}
	if !slices.Equal(got.Nodes, []string{"http://a:1", "http://b:2"}) || got.Listen != "127.0.0.1:0" || got.CACert != "ca.pem" || got.MaxStaleness != 7*time.Second || got.FailMode != "closed" {
		t.Errorf("config %+v", got)
	}
}

func TestConfigCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad, good, gateway := filepath.Join(dir, "bad.yaml"), filepath.Join(dir, "good.yaml"), filepath.Join(dir, "gateway.yaml")
	for path, text := range map[string]string{bad: "log_format: xml\nnode_id: [a]\n", good: config.Example(), gateway: config.GatewayExample()} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	secretEnv := map[string]string{"KEYRAFT_JOIN": "a:1", "KEYRAFT_JOIN_TOKEN": "krj1_hidden_secret"}
	for _, tt := range []struct {
		args  string
		env   map[string]string
		code  int
		shows []string
	}{
		{args: "config check " + bad, code: 2, shows: []string{bad + ":1: log_format: \"xml\" is not known; use text or json\n", bad + ":2: node_id: takes one string"}},
		{args: "config check -o json " + bad, code: 2, shows: []string{`"key": "log_format"`, `"ok": false`}},
		{args: "config check " + good, shows: []string{"ok: " + good}},
		{args: "config check " + good, shows: []string{"warning: no sealing key is configured"}},
		{args: "config check --gateway " + gateway, shows: []string{"ok: " + gateway}},
		{args: "config check --gateway " + good, code: 2, shows: []string{"is not a setting"}},
		{args: "config check", shows: []string{"ok: environment and flags"}},
		{args: "config check -o json", shows: []string{`"ok": true`}},
		{args: "config example", shows: []string{"# Configuration of a Keyraft node", "issuer: https://login.example.com"}},
		{args: "config example --gateway", shows: []string{"nodes: ["}},
		{args: "config example -o json", shows: []string{`"key": "api_addr"`}},
		{args: "config reference", shows: []string{"# Configuration", "KEYRAFT_GATEWAY_NODES"}},
		{args: "config reference -o json", shows: []string{`"gateway": [`}},
		{args: "config show --origin --config " + good + " --log-level debug", shows: []string{"flag --log-level", good + ":", "environment KEYRAFT_NODE_ID"}, env: map[string]string{"KEYRAFT_NODE_ID": "n9"}},
		{args: "config show --origin", env: secretEnv, shows: []string{"(hidden)", "environment KEYRAFT_JOIN_TOKEN"}},
		{args: "config show --origin -o json", env: secretEnv, shows: []string{`"value": "(hidden)"`, `"origin": "env"`}},
		{args: "config show --gateway", env: map[string]string{"KEYRAFT_GATEWAY_CONFIG": gateway}, shows: []string{"https://node1.example.com:9443,https://node2.example.com:9443"}},
	} {
		got := call{args: strings.Fields(tt.args), env: tt.env}.run(t)
		all := got.out + got.err
		if got.code != tt.code {
			t.Errorf("keyraft %s: exit code %d, want %d: %s", tt.args, got.code, tt.code, got.err)
		}
		for _, text := range tt.shows {
			if !strings.Contains(all, text) {
				t.Errorf("keyraft %s does not show %q:\n%.600s", tt.args, text, all)
			}
		}
		if strings.Contains(all, "hidden_secret") {
			t.Errorf("keyraft %s shows a secret", tt.args)
		}
		if strings.Contains(tt.args, "json") && !json.Valid([]byte(got.out)) {
			t.Errorf("keyraft %s is not JSON: %.300q", tt.args, got.out)
		}
	}
}

// TestInterrupt: a command that is interrupted says so and fails.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var errs syncBuffer
	code := run(ctx, []string{"server", "--dev"}, console{In: strings.NewReader(""), Out: io.Discard, Err: &errs}, deps{
		RunServer: func(ctx context.Context, _ config.Config, _ config.Settings, _ console) error {
			cancel()
			return ctx.Err()
		},
	})
	if code != 1 || errs.String() != "keyraft: interrupted\n" {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
}
