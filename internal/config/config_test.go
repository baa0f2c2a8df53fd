package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/config"
)

// write puts text into a file called keyraft.yaml and returns its path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyraft.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func env(pairs map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := pairs[name]; return v, ok }
}

func setting(t *testing.T, s config.Settings, key string) config.Setting {
	t.Helper()
	i := slices.IndexFunc(s, func(st config.Setting) bool { return st.Key == key })
	if i < 0 {
		t.Fatalf("no setting %q", key)
	}
	return s[i]
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	file := write(t, "log_level: warn\nraft:\n  heartbeat_timeout: 3s\n  election_timeout: 4\nlimits: {body: 1MiB}\noutbound_allow:\n  - 10.0.0.0/8\n  - fd00::/8\n")
	c, settings, err := config.Load(config.Sources{
		File:  file,
		Env:   env(map[string]string{"KEYRAFT_LOG_LEVEL": "error", "KEYRAFT_RAFT_HEARTBEAT_TIMEOUT": "2s", "KEYRAFT_NODE_ID": "", "KEYRAFT_DEV": "true"}),
		Flags: map[string]string{"log-level": "debug"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		key, value string
		origin     config.Origin
		where      string
	}{
		{"log_level", "debug", config.FromFlag, "flag --log-level"},
		{"raft.heartbeat_timeout", "2s", config.FromEnv, "environment KEYRAFT_RAFT_HEARTBEAT_TIMEOUT"},
		{"raft.election_timeout", "4s", config.FromFile, file + ":4"},
		{"limits.body", "1MiB", config.FromFile, file + ":5"},
		{"outbound_allow", "10.0.0.0/8,fd00::/8", config.FromFile, file + ":7"},
		{"node_id", "", config.FromDefault, "default"},
		{"staleness_bound", "5s", config.FromDefault, "default"},
		{"api_addr", "127.0.0.1:9763", config.FromDefault, "default"},
		{"cluster_addr", "127.0.0.1:0", config.FromDefault, "default"},
	} {
		got := setting(t, settings, tt.key)
		if got.Value != tt.value || got.Origin != tt.origin || got.Where != tt.where {
			t.Errorf("%s = %q from %s (%s), want %q from %s (%s)", tt.key, got.Value, got.Origin, got.Where, tt.value, tt.origin, tt.where)
		}
	}
	if c.LogLevel != "debug" || c.Raft.HeartbeatTimeout != 2*time.Second || c.Raft.ElectionTimeout != 4*time.Second || c.Limits.Body != 1<<20 || !c.Dev {
		t.Errorf("the struct differs from the settings: %+v", c)
	}
	if !slices.Equal(c.OutboundAllow, []string{"10.0.0.0/8", "fd00::/8"}) {
		t.Errorf("outbound_allow = %q", c.OutboundAllow)
	}
	if settings.Given("node_id") || !settings.Given("log_level") {
		t.Error("Given does not tell a default from a setting")
	}
}

func TestDependentDefaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		flags map[string]string
		key   string
		want  string
	}{
		{"TLS moves the API to 9443", map[string]string{"dev": "true", "dev-tls": "true"}, "api_addr", "127.0.0.1:9443"},
		{"a certificate does too", map[string]string{"tls-cert-file": "c.pem", "tls-key-file": "k.pem"}, "api_addr", "127.0.0.1:9443"},
		{"an address that was given stays", map[string]string{"dev": "true", "dev-tls": "true", "api-addr": "127.0.0.1:1"}, "api_addr", "127.0.0.1:1"},
		{"the address for others follows", map[string]string{"dev": "true", "api-addr": "127.0.0.1:1"}, "api_advertise_addr", "127.0.0.1:1"},
		{"without dev the node port is fixed", nil, "cluster_addr", "127.0.0.1:9764"},
		{"gateways gossip on the host of the nodes' gossip", map[string]string{"gossip-addr": "127.0.0.2:7"}, "gateway_gossip_addr", "127.0.0.2:0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, settings, err := config.Load(config.Sources{Flags: tt.flags})
			if err != nil {
				t.Fatal(err)
			}
			if got := setting(t, settings, tt.key).Value; got != tt.want {
				t.Errorf("%s = %q, want %q", tt.key, got, tt.want)
			}
		})
	}
}

// TestFileErrors: each mistake names file, line, key and what to write.
func TestFileErrors(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"a slip of the finger is guessed", "log_level: info\nlog_fromat: json\n", `:2: log_fromat: is not a setting; did you mean log_format?`},
		{"a dash in place of an underscore", "api-addr: x\n", `:1: api-addr: is not a setting; did you mean api_addr?`},
		{"a key in the wrong section", "heartbeat_timeout: 1s\n", `:1: heartbeat_timeout: is not a setting; did you mean raft.heartbeat_timeout?`},
		{"a slip inside a section", "raft:\n  heartbeat_timout: 1s\n", `:2: raft.heartbeat_timout: is not a setting; did you mean raft.heartbeat_timeout?`},
		{"nothing like it", "colour: green\n", `:1: colour: is not a setting; 'keyraft config example' lists the settings`},
		{"a key given twice", "dev: true\n\ndev: false\n", `:3: dev: is set twice, first in line 1; keep one of the two`},
		{"a section given twice", "raft: {trailing_logs: 1}\nraft: {trailing_logs: 2}\n", `:2: raft: is set twice, first in line 1; keep one of the two`},
		{"a bad duration", "staleness_bound: soon\n", `:1: staleness_bound: "soon" is not a duration; write 10m, 1h30m or a number of seconds`},
		{"a duration out of range", "staleness_bound: 0\n", `:1: staleness_bound: "0" is out of range; use 1s to 24h`},
		{"a bad size", "limits:\n  body: 64 kilos\n", `:2: limits.body: "64 kilos" is not a size; write 64KiB, 16MiB or a number of bytes`},
		{"a bad choice", "log_format: xml\n", `:1: log_format: "xml" is not known; use text or json`},
		{"a bad truth value", "dev: perhaps\n", `:1: dev: "perhaps" is not a truth value; write true or false`},
		{"a bad number", "limits:\n  concurrency: 1.5\n", `:2: limits.concurrency: "1.5" is not a whole number; write digits only`},
		{"no value", "dev:\n", `:1: dev: has no value; give one, write "" for the empty text, or delete the line`},
		{"several values for one", "node_id: [a, b]\n", `:1: node_id: takes one string, not several; write 'key: value' on one line`},
		{"a value for a section", "raft: 5s\n", `:1: raft: is a section, not a value; write its settings on indented lines below it`},
		{"a value inside a value", "outbound_allow: [[a]]\n", `:1: outbound_allow: has a value inside a value; write plain text`},
		{"an alias", "node_id: &a n1\nissuer: *a\n", `:1: node_id: uses an anchor or alias; write the value out`},
		{"a tag", "node_id: !!binary aGk=\n", `:1: node_id: has a YAML tag; write plain text, without '!'`},
		{"a list in place of settings", "- a\n- b\n", `:1: is not a list of settings; write 'key: value' lines; 'keyraft config example' shows them`},
		{"a rule between two settings names the line of the wrong one", "raft:\n  heartbeat_timeout: 3s\n  election_timeout: 2s\n", `:3: raft.election_timeout: 2s is shorter than raft.heartbeat_timeout 3s; make it at least as long`},
		{"a rule whose own setting is a default names the line of the other one", "node_id: a\nraft:\n  heartbeat_timeout: 10s\n", `:3: raft.election_timeout: 1s is shorter than raft.heartbeat_timeout 10s; make it at least as long`},
		{"a certificate without its key", "tls:\n  cert_file: api.crt\n", `:2: tls.key_file: is missing although tls.cert_file is set; name the PEM file with its private key`},
		{"two sources of the sealing key", "seal:\n  key_file: a\n  key_env: B\n", `:3: seal: names more than one source of the sealing key; keep one of seal.key_file, seal.key_env and seal.key_exec`},
		{"every interface given to be dialled", "api_addr: 10.0.0.1:9763\napi_advertise_addr: 0.0.0.0:9763\n", `:2: api_advertise_addr: "0.0.0.0:9763" is every interface, which nobody can dial; set the host:port under which other machines reach this one`},
		{"broken YAML", "a: b\n c: [d\n", `is not valid YAML`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := write(t, tt.text)
			_, _, err := config.Load(config.Sources{File: file})
			if err == nil {
				t.Fatal("accepted")
			}
			var all config.Errors
			if !errors.As(err, &all) {
				t.Fatalf("%T is not a config.Errors", err)
			}
			got := all[0].Error()
			if !strings.HasPrefix(got, file) || !strings.Contains(got, tt.want) {
				t.Errorf("error %q, want %q", got, file+tt.want)
			}
			if strings.ContainsRune(err.Error(), '\n') {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

func TestFilesThatSetNothing(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "\n \n", "# dev: true\n#\n", "---\n", "raft:\n  # trailing_logs: 1\n", "~\n"} {
		if _, settings, err := config.Load(config.Sources{File: write(t, text)}); err != nil || settings.Given("dev") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestOtherSources(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		src  config.Sources
		want string
	}{
		{"a variable is named", config.Sources{Env: env(map[string]string{"KEYRAFT_LOG_FORMAT": "xml"})}, `environment KEYRAFT_LOG_FORMAT: log_format: "xml" is not known; use text or json`},
		{"a flag is named", config.Sources{Flags: map[string]string{"log-format": "xml"}}, `flag --log-format: log_format: "xml" is not known; use text or json`},
		{"a rule names the flag", config.Sources{Flags: map[string]string{"issuer": "https://x/"}}, `flag --issuer: issuer: "https://x/" ends with a slash; take the slash away: clients compare issuers byte by byte`},
		{"an empty item in a list", config.Sources{Flags: map[string]string{"outbound-allow": "10.0.0.0/8,,"}}, `has an empty item at place 2`},
		{"a file that is not there", config.Sources{File: "no-such-file.yaml"}, `no-such-file.yaml: can't be read: no such file or directory; name a file that is there`},
		{"further mistakes are named", config.Sources{Flags: map[string]string{"log-format": "xml", "log-level": "loud"}}, `(also wrong: log_level; 'keyraft config check' tells all)`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := config.Load(tt.src)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestServerRules(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		flags map[string]string
		key   string // of the mistake; "" for none
	}{
		{"no setting at all is fine", nil, ""},
		{"bootstrap without an issuer takes the address of the API", map[string]string{"bootstrap": "true"}, ""},
		{"plain HTTP beyond this machine is no issuer", map[string]string{"issuer": "http://login.example.com"}, "issuer"},
		{"on this machine it is one", map[string]string{"issuer": "http://127.0.0.1:9763"}, ""},
		{"in development anywhere", map[string]string{"issuer": "http://login.example.com", "dev": "true"}, ""},
		{"an issuer without scheme", map[string]string{"issuer": "login.example.com"}, "issuer"},
		{"an issuer with a query", map[string]string{"issuer": "https://a?b"}, "issuer"},
		{"an issuer with an empty fragment", map[string]string{"issuer": "https://a#"}, "issuer"},
		{"bootstrap and join", map[string]string{"bootstrap": "true", "issuer": "https://a", "join": "10.0.0.1:9763"}, "join"},
		{"join by URL", map[string]string{"join": "https://node1:9443", "join-token": "x"}, ""},
		{"join by host and port", map[string]string{"join": "node1:9443"}, ""},
		{"join to nowhere", map[string]string{"join": "node1"}, "join"},
		{"join to a path", map[string]string{"join": "http://node1:1/admin"}, "join"},
		{"a token without join", map[string]string{"join-token": "x"}, "join_token"},
		{"a token file without join", map[string]string{"join-token-file": "x"}, "join_token_file"},
		{"two tokens", map[string]string{"join": "a:1", "join-token": "x", "join-token-file": "y"}, "join_token_file"},
		{"a first node that does not vote", map[string]string{"dev": "true", "bootstrap": "true", "non-voter": "true"}, "non_voter"},
		{"a node id with a slash", map[string]string{"node-id": "a/b"}, "node_id"},
		{"a node id of dots", map[string]string{"node-id": ".."}, "node_id"},
		{"an address without port", map[string]string{"api-addr": "127.0.0.1"}, "api_addr"},
		{"a port that is none", map[string]string{"api-addr": "127.0.0.1:70000"}, "api_addr"},
		{"two listeners on one port", map[string]string{"gossip-addr": "127.0.0.1:9764"}, "gossip_addr"},
		{"every interface needs an address for others", map[string]string{"cluster-addr": "0.0.0.0:9764"}, "cluster_advertise_addr"},
		{"which may be given", map[string]string{"cluster-addr": ":9764", "cluster-advertise-addr": "node1:0"}, ""},
		{"the API in a container, in development", map[string]string{"api-addr": "0.0.0.0:9763", "dev": "true"}, ""},
		{"dev_tls without dev", map[string]string{"dev-tls": "true"}, "dev_tls"},
		{"a certificate without key", map[string]string{"tls-cert-file": "a"}, "tls.key_file"},
		{"a key without certificate", map[string]string{"tls-key-file": "a"}, "tls.cert_file"},
		{"two sealing keys", map[string]string{"seal-key-file": "a", "seal-key-env": "B"}, "seal"},
		{"the sealing key in place of a name", map[string]string{"seal-key-env": "c2VjcmV0+/=="}, "seal.key_env"},
		{"a key that signs before all have seen it", map[string]string{"keys-publication-lead": "10m"}, "keys.publication_lead"},
		{"rotation faster than publication", map[string]string{"keys-rotation-period": "30m"}, "keys.rotation_period"},
		{"a network that is none", map[string]string{"outbound-allow": "10.0.0.1"}, "outbound_allow"},
		{"a proxy that is no network", map[string]string{"proxy-trusted": "proxy.example"}, "proxy.trusted"},
		{"certificates named by nobody", map[string]string{"proxy-client-cert-header": "Client-Cert"}, "proxy.trusted"},
		{"a header with an underscore", map[string]string{"proxy-trusted": "10.0.0.1/32", "proxy-client-cert-header": "client_cert"}, "proxy.client_cert_header"},
		{"certificates from a proxy", map[string]string{"proxy-trusted": "10.0.0.1/32", "proxy-client-cert-header": "Client-Cert"}, ""},
		{"client certificates without TLS", map[string]string{"tls-client-ca-file": "a"}, "tls.cert_file"},
		{"client certificates", map[string]string{"tls-cert-file": "a", "tls-key-file": "b", "tls-request-client-cert": "true"}, ""},
		{"an empty data folder", map[string]string{"data-dir": ""}, "data_dir"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := config.Load(config.Sources{Flags: tt.flags})
			checkKey(t, err, tt.key)
		})
	}
}

func TestGatewayRules(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, drop, flag, value, key string
	}{
		{name: "nodes and a credential are enough"},
		{name: "no node", drop: "nodes", key: "nodes"},
		{name: "a node that is no URL", flag: "nodes", value: "ftp://x", key: "nodes"},
		{name: "a node with user and password", flag: "nodes", value: "https://a:b@c", key: "nodes"},
		{name: "no credential", drop: "credential-file", key: "credential_file"},
		{name: "a gossip key without gossip", flag: "gossip-key-file", value: "k", key: "gossip_addr"},
		{name: "gossip without a key", flag: "gossip-addr", value: "127.0.0.1:0", key: "gossip_key_file"},
		{name: "a fail mode that is none", flag: "fail-mode", value: "ajar", key: "fail_mode"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			flags := map[string]string{"nodes": "http://127.0.0.1:1,https://b", "credential-file": "c"}
			delete(flags, tt.drop)
			if tt.flag != "" {
				flags[tt.flag] = tt.value
			}
			_, _, err := config.LoadGateway(config.Sources{Flags: flags})
			checkKey(t, err, tt.key)
		})
	}
}

func checkKey(t *testing.T, err error, key string) {
	t.Helper()
	var all config.Errors
	errors.As(err, &all)
	switch {
	case key == "" && err != nil:
		t.Errorf("refused: %v", err)
	case key != "" && (len(all) != 1 || all[0].Key != key):
		t.Errorf("error %v, want one about %s", err, key)
	case key != "" && all[0].Fix == "":
		t.Errorf("%v does not say what to do", err)
	}
}

// TestSecretsAreHidden checks I6 for settings: no way of printing shows one.
func TestSecretsAreHidden(t *testing.T) {
	t.Parallel()
	const secret = "krj1_open_sesame"
	c, settings, err := config.Load(config.Sources{Flags: map[string]string{"join": "a:1", "join-token": secret}})
	if err != nil {
		t.Fatal(err)
	}
	if c.JoinToken.Reveal() != secret {
		t.Fatal("the secret is lost")
	}
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("config", "token", c.JoinToken, "all", c)
	for _, shown := range []string{fmt.Sprintf("%v %+v %#v %s %q", c, c, c, c.JoinToken, c.JoinToken), string(encoded), logged.String(), fmt.Sprint(settings)} {
		if strings.Contains(shown, secret) {
			t.Errorf("the secret is in %.300q", shown)
		}
	}
	_, _, err = config.Load(config.Sources{File: write(t, "join_token: ["+secret+"]\n")})
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("error %v", err)
	}
}

// TestExamplesLoad: the example file is valid, and each default that it shows in
// a comment is the default.
func TestExamplesLoad(t *testing.T) {
	t.Parallel()
	if _, _, err := config.Load(config.Sources{File: write(t, config.Example())}); err != nil {
		t.Errorf("node: %v", err)
	}
	if _, _, err := config.LoadGateway(config.Sources{File: write(t, config.GatewayExample())}); err != nil {
		t.Errorf("gateway: %v", err)
	}
	_, want, err := config.Load(config.Sources{})
	if err != nil {
		t.Fatal(err)
	}
	_, got, err := config.Load(config.Sources{File: write(t, uncomment(config.Example()))})
	if err != nil {
		t.Fatal(err)
	}
	set := []string{"data_dir", "node_id", "issuer", "bootstrap"}
	dependent := []string{"gateway_gossip_addr", "api_advertise_addr", "cluster_advertise_addr", "gossip_advertise_addr", "gateway_gossip_advertise_addr"}
	for i, st := range got {
		if st.Origin != config.FromFile {
			t.Errorf("%s is not in the example", st.Key)
		}
		if !slices.Contains(set, st.Key) && !slices.Contains(dependent, st.Key) && st.Value != want[i].Value {
			t.Errorf("%s is %q in the example, %q by default", st.Key, st.Value, want[i].Value)
		}
	}
}

// uncomment takes the # from lines of the form "# key: value".
func uncomment(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		key, _, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "# "), ": ")
		if ok && strings.Contains(line, "# ") && !strings.ContainsAny(key, " .:") && key == strings.ToLower(key) && key != "precedence" {
			lines[i] = strings.Replace(line, "# ", "", 1)
		}
	}
	return strings.Join(lines, "\n")
}

// TestEveryFieldIsComplete guards the tags: a key in lower case, a help sentence,
// a default that its own parser takes, unique flags.
func TestEveryFieldIsComplete(t *testing.T) {
	t.Parallel()
	for name, fields := range map[string][]config.Field{"server": config.ServerFields(), "gateway": config.GatewayFields()} {
		seen := map[string]bool{}
		for _, f := range fields {
			if f.Key == "" || f.Key != strings.ToLower(f.Key) || !strings.HasSuffix(f.Help, ".") || seen[f.Flag] {
				t.Errorf("%s: incomplete or repeated field %+v", name, f)
			}
			seen[f.Flag] = true
			if (f.Min == "") != (f.Max == "") {
				t.Errorf("%s: %s has half a range", name, f.Key)
			}
		}
	}
	page := config.Reference()
	for _, f := range append(config.ServerFields(), config.GatewayFields()...) {
		if !strings.Contains(page, "| `"+f.Key+"` | `--"+f.Flag+"`<br>`"+f.Env+"` |") {
			t.Errorf("the reference page lacks %s", f.Key)
		}
	}
}

// TestReferencePage: docs/configuration.md is what the code says.
func TestReferencePage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "configuration.md"))
	if err != nil {
		t.Fatalf("%v; write it with 'keyraft config reference > docs/configuration.md'", err)
	}
	if string(page) != config.Reference() {
		t.Error("docs/configuration.md is out of date; write it with 'keyraft config reference > docs/configuration.md'")
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	c, _, err := config.Load(config.Sources{Flags: map[string]string{
		"bootstrap": "true", "issuer": "https://a", "api-addr": "10.0.0.1:80",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Warnings(); len(got) != 2 || !strings.Contains(got[0], "plain HTTP") || !strings.Contains(got[1], "sealing key") {
		t.Errorf("warnings %q", got)
	}
	quiet, _, err := config.Load(config.Sources{Flags: map[string]string{"dev": "true"}})
	if err != nil || len(quiet.Warnings()) != 0 {
		t.Errorf("development warns: %q, %v", quiet.Warnings(), err)
	}
}

func TestUnknownEnv(t *testing.T) {
	t.Parallel()
	got := config.UnknownEnv([]string{"KEYRAFT_LOG_FROMAT=json", "KEYRAFT_TOKEN=secret", "PATH=/bin", "KEYRAFT_GATEWAY_NODES=x", "KEYRAFT_API_ADDR=y"})
	if len(got) != 1 || got[0] != "environment KEYRAFT_LOG_FROMAT is not a setting; did you mean KEYRAFT_LOG_FORMAT?" {
		t.Errorf("got %q", got)
	}
}

func TestLocate(t *testing.T) {
	t.Parallel()
	_, settings, err := config.Load(config.Sources{Flags: map[string]string{"seal-key-file": "k"}})
	if err != nil {
		t.Fatal(err)
	}
	located := settings.Locate(config.NewError("seal.key_file", "can't be read", "make it readable"))
	if want := "flag --seal-key-file: seal.key_file: can't be read; make it readable"; located.Error() != want {
		t.Errorf("got %q, want %q", located, want)
	}
	if other := errors.New("other"); settings.Locate(other) != other {
		t.Error("another error was changed")
	}
}

func TestUnits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want config.Bytes
		bad  bool
	}{
		{text: "0"}, {text: "12", want: 12}, {text: "64KiB", want: 64 << 10}, {text: "64 kib", want: 64 << 10}, {text: "1GB", want: 1e9}, {text: "8TiB", want: 8 << 40},
		{text: "-1", bad: true}, {text: "", bad: true}, {text: "KiB", bad: true}, {text: "9223372036854775807KiB", bad: true}, {text: "1 Ki", bad: true}, {text: "0x10", bad: true},
	} {
		got, err := config.ParseBytes(tt.text)
		if (err != nil) != tt.bad || got != tt.want {
			t.Errorf("ParseBytes(%q) = %d, %v", tt.text, got, err)
		}
	}
	for _, tt := range []struct {
		text string
		want time.Duration
		bad  bool
	}{
		{text: "5", want: 5 * time.Second}, {text: "10m", want: 10 * time.Minute}, {text: "1h30m", want: 90 * time.Minute},
		{text: "-5", bad: true}, {text: "-5s", bad: true}, {text: "", bad: true}, {text: "9223372036854775807", bad: true}, {text: "1d", bad: true},
	} {
		got, err := config.ParseDuration(tt.text)
		if (err != nil) != tt.bad || got != tt.want {
			t.Errorf("ParseDuration(%q) = %v, %v", tt.text, got, err)
		}
	}
	if got := config.Bytes(1536).String(); got != "1536" {
		t.Errorf("1536 bytes are written %q", got)
	}
}
