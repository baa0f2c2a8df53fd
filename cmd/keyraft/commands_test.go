package main

import (
	"encoding/json"
	"strings"
	"testing"
)

const (
	membersAnswer = `[{"id":"n1","role":"leader","suffrage":"voter","state":"alive","api_addr":"10.0.0.1:9763","cluster_addr":"10.0.0.1:9764","applied_index":42,"last_contact_ms":0},
{"id":"n2","role":"follower","suffrage":"voter","state":"alive","api_addr":"10.0.0.2:9763","cluster_addr":"10.0.0.2:9764","applied_index":41,"last_contact_ms":1250},
{"id":"n3","role":"follower","suffrage":"voter","state":"left\u001b[31m","api_addr":"10.0.0.3:9763","cluster_addr":"10.0.0.3:9764","applied_index":40,"last_contact_ms":null},
{"id":"i1","role":"follower","suffrage":"nonvoter","state":"alive","api_addr":"","cluster_addr":"","applied_index":42,"last_contact_ms":3}]`
	clientAnswer = `{"client_id":"orders","client_name":"Orders","client_secret":"s3cr3t","grant_types":["client_credentials"],"scope":"read write","enabled":true}`
)

// TestCommands runs every command that asks a node against the answers of the
// contract: what is sent, what is shown.
func TestCommands(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, args, stdin, method, target, sends string
		status                                   int
		answer                                   string
		shows                                    []string // in the table
		code                                     int
	}{
		{name: "members", args: "operator members", method: "GET", target: "/admin/v1/cluster/members", answer: membersAnswer,
			shows: []string{"ID  ROLE", "n1  leader", "1.3s", "left [31m", "i1  follower  nonvoter"}},
		{name: "status", args: "operator status", method: "GET", target: "/admin/v1/cluster/status",
			answer: `{"node_id":"n1","state":"leader","leader_id":"n1","term":3,"applied_index":42,"commit_index":42,"revocation_head":7,"feature_level":1,"healthy":true}`,
			shows:  []string{"node_id          n1", "revocation_head  7", "healthy          true"}},
		{name: "an unhealthy cluster fails", args: "operator status", method: "GET", target: "/admin/v1/cluster/status",
			answer: `{"node_id":"n1","healthy":false}`, shows: []string{"healthy  false", "the cluster is not healthy"}, code: 1},
		{name: "checksum", args: "operator checksum", method: "GET", target: "/admin/v1/cluster/checksum",
			answer: `{"applied_index":42,"checksum":"abcd"}`, shows: []string{"checksum       abcd"}},
		{name: "join token", args: "operator join-token --ttl 1h", method: "POST", target: "/admin/v1/cluster/join-tokens", sends: `{"ttl":"1h","suffrage":"voter"}`,
			status: 201, answer: `{"token":"krj1_x","expires_at":1700000000,"command":"keyraft server --join a:1 --join-token krj1_x"}`, shows: []string{"krj1_x", "keyraft server --join a:1"}},
		{name: "join token of an issuer node", args: "operator join-token --non-voter", method: "POST", target: "/admin/v1/cluster/join-tokens", sends: `{"ttl":"10m","suffrage":"nonvoter"}`,
			answer: `{"token":"krj1_x"}`, shows: []string{"krj1_x"}},
		{name: "remove", args: "operator remove n3 --yes", method: "DELETE", target: "/admin/v1/cluster/members/n3", status: 204, shows: []string{"removed n3; its data folder cannot rejoin"}},
		{name: "remove by force, with an odd id", args: "operator remove a/b --yes --force", method: "DELETE", target: "/admin/v1/cluster/members/a%2Fb?force=true", status: 204, shows: []string{"removed a/b"}},
		{name: "promote", args: "operator promote i1", method: "POST", target: "/admin/v1/cluster/members/i1/promote", status: 204, shows: []string{"i1 votes now"}},
		{name: "transfer leadership", args: "operator transfer-leader --to n2", method: "POST", target: "/admin/v1/cluster/transfer-leader", sends: `{"id":"n2"}`, answer: `{"leader_id":"n2"}`, shows: []string{"leader_id  n2"}},
		{name: "transfer leadership to anyone", args: "operator transfer-leader", method: "POST", target: "/admin/v1/cluster/transfer-leader", sends: `{}`, answer: `{}`, shows: []string{"leadership was handed over"}},
		{name: "key list", args: "operator key list", method: "GET", target: "/admin/v1/keys", answer: `{"items":[{"kid":"k1","alg":"ES256","state":"active","created_at":1700000000}]}`,
			shows: []string{"k1", "active", "2023-11-14T22:13:20Z"}},
		{name: "key rotate", args: "operator key rotate --alg RS256 --emergency", method: "POST", target: "/admin/v1/keys/rotate", sends: `{"alg":"RS256","emergency":true}`, answer: `{"kid":"k2"}`, shows: []string{"kid  k2"}},
		{name: "gossip key rotate", args: "operator gossip-key rotate --pool gateways", method: "POST", target: "/admin/v1/cluster/gossip-keys/rotate", sends: `{"pool":"gateways"}`, status: 204, shows: []string{"the gossip key was rotated"}},
		{name: "client create", args: `client create --id orders --name Orders --grant client_credentials --scope read|write --token-lifetime 10m --token-format opaque --token-alg EdDSA --auth-method client_secret_post --introspection audience --resource https://a --redirect-uri https://b --set software_version=10 --set note=x`,
			method: "POST", target: "/admin/v1/clients",
			sends:  `{"client_id":"orders","client_name":"Orders","grant_types":["client_credentials"],"scope":"read write","access_token_lifetime":600,"access_token_format":"opaque","access_token_signed_response_alg":"EdDSA","token_endpoint_auth_method":"client_secret_post","introspection":"audience","resources":["https://a"],"redirect_uris":["https://b"],"software_version":10,"note":"x"}`,
			status: 201, answer: clientAnswer, shows: []string{"client_secret  s3cr3t", "scope          read write"}},
		{name: "client create from standard input", args: "client create --file - --scope read", stdin: `{"client_name":"a","scope":"write"}`, method: "POST", target: "/admin/v1/clients",
			sends: `{"client_name":"a","scope":"read"}`, status: 201, answer: clientAnswer, shows: []string{"orders"}},
		{name: "client get", args: "client get orders", method: "GET", target: "/admin/v1/clients/orders", answer: clientAnswer, shows: []string{"grant_types    client_credentials"}},
		{name: "client update", args: "client update orders --enabled=false --scope=", method: "PATCH", target: "/admin/v1/clients/orders", sends: `{"enabled":false,"scope":""}`, answer: clientAnswer, shows: []string{"orders"}},
		{name: "client claims", args: "client update orders --token-claim roles=roles --token-claim office=attribute:office --set access_token_encrypted_response_alg=ECDH-ES", method: "PATCH", target: "/admin/v1/clients/orders",
			sends: `{"access_token_claims":[{"claim":"roles","source":"roles"},{"claim":"office","source":"attribute:office"}],"access_token_encrypted_response_alg":"ECDH-ES"}`, answer: clientAnswer, shows: []string{"orders"}},
		{name: "client replace", args: "client update orders --replace --file -", stdin: `{"client_name":"x"}`, method: "PUT", target: "/admin/v1/clients/orders", sends: `{"client_name":"x"}`, answer: clientAnswer, shows: []string{"orders"}},
		{name: "client delete", args: "client delete orders", method: "DELETE", target: "/admin/v1/clients/orders", status: 204, shows: []string{"deleted orders"}},
		{name: "user create with a password from standard input", args: "user create alice --password-file - --email a@b --role staff,admin --second-factor --set locale=de", stdin: "a long phrase\r\n", method: "POST", target: "/admin/v1/users",
			sends: `{"username":"alice","password":"a long phrase","email":"a@b","roles":["staff","admin"],"second_factor":true,"locale":"de"}`, status: 201, answer: userAnswer, shows: []string{"username  alice"}},
		{name: "user create without a password", args: "user create alice --no-password --file -", stdin: `{"name":"Alice"}`, method: "POST", target: "/admin/v1/users",
			sends: `{"username":"alice","name":"Alice"}`, status: 201, answer: userAnswer, shows: []string{"username  alice"}},
		{name: "user get", args: "user get u1", method: "GET", target: "/admin/v1/users/u1", answer: userAnswer, shows: []string{"username  alice"}},
		{name: "user update", args: "user update u1 --enabled=false --username bob", method: "PATCH", target: "/admin/v1/users/u1", sends: `{"enabled":false,"username":"bob"}`, answer: userAnswer, shows: []string{"alice"}},
		{name: "user set-password", args: "user set-password u1 --password-file -", stdin: "another phrase", method: "POST", target: "/admin/v1/users/u1/password", sends: `{"password":"another phrase"}`, answer: userAnswer, shows: []string{"username  alice"}},
		{name: "user set-password for the time being", args: "user set-password u1 --password-file - --must-change", stdin: "another phrase", method: "POST", target: "/admin/v1/users/u1/password", sends: `{"password":"another phrase","must_change_password":true}`, answer: userAnswer, shows: []string{"username  alice"}},
		{name: "user update that asks for a new password", args: "user update u1 --must-change-password", method: "PATCH", target: "/admin/v1/users/u1", sends: `{"must_change_password":true}`, answer: userAnswer, shows: []string{"alice"}},
		{name: "user reset-password by a link", args: "user reset-password u1 --link", method: "POST", target: "/admin/v1/users/u1/reset-link", status: 201, answer: `{"url":"https://id.example/reset?token=u1.x","expires_at":1700000000}`, shows: []string{"https://id.example/reset?token=u1.x", "2023-11-14"}},
		{name: "user reset-password that ends the link", args: "user reset-password u1 --withdraw", method: "DELETE", target: "/admin/v1/users/u1/reset-link", status: 204, shows: []string{"no link opens the account of u1 any more"}},
		{name: "tenant set of the password policy", args: "tenant set acme password_min_length=14 lockout_window=10m", method: "PATCH", target: "/admin/v1/tenants/acme", sends: `{"password_min_length":14,"lockout_window":"10m"}`, answer: `{"id":"acme"}`, shows: []string{"acme"}},
		{name: "user unlock", args: "user unlock u1", method: "DELETE", target: "/admin/v1/users/u1/lockout", status: 204, shows: []string{"u1 may try again"}},
		{name: "user end-logins", args: "user end-logins u1", method: "DELETE", target: "/admin/v1/users/u1/logins", status: 204, shows: []string{"logins of u1 have ended"}},
		{name: "user delete", args: "user delete u1", method: "DELETE", target: "/admin/v1/users/u1", status: 204, shows: []string{"deleted u1"}},
		{name: "user sessions list", args: "user sessions list u1", method: "GET", target: "/admin/v1/users/u1/sessions", answer: `{"items":[{"id":"s1","auth_time":1700000000,"amr":["pwd","otp"],"address":"192.0.2.7"}]}`, shows: []string{"s1", "2023-11-14", "pwd", "192.0.2.7"}},
		{name: "user sessions end", args: "user sessions end u1 s/1", method: "DELETE", target: "/admin/v1/users/u1/sessions/s%2F1", status: 204, shows: []string{"s/1 has ended"}},
		{name: "user consents list", args: "user consents list u1", method: "GET", target: "/admin/v1/users/u1/consents", answer: `{"items":[{"client_id":"web","scopes":["openid"],"granted_at":1700000000}]}`, shows: []string{"web", "openid"}},
		{name: "user consents forget", args: "user consents forget u1 web", method: "DELETE", target: "/admin/v1/users/u1/consents/web", status: 204, shows: []string{"web has nothing of the user any more"}},
		{name: "user factors list", args: "user factors list u1", method: "GET", target: "/admin/v1/users/u1/credentials", answer: `{"items":[{"id":"k1","kind":"passkey","name":"phone","created_at":1700000000}]}`, shows: []string{"k1", "passkey", "phone"}},
		{name: "user factors list without any", args: "user factors list u1", method: "GET", target: "/admin/v1/users/u1/credentials", answer: `{"items":[]}`, shows: []string{"no second factor"}},
		{name: "user factors remove", args: "user factors remove u1 k1", method: "DELETE", target: "/admin/v1/users/u1/credentials/k1", status: 204, shows: []string{"k1 is removed"}},
		{name: "user list", args: "user list", method: "GET", target: "/admin/v1/users", answer: `{"items":[` + userAnswer + `]}`, shows: []string{"u1  alice"}},
		{name: "scope create", args: "scope create orders:read --role clerk --role head --include a --display-name Orders --claim office", method: "POST", target: "/admin/v1/scopes",
			sends: `{"name":"orders:read","roles":["clerk","head"],"includes":["a"],"display_name":"Orders","claims":["office"]}`, status: 201, answer: `{"name":"orders:read"}`, shows: []string{"orders:read"}},
		{name: "scope get, with a slash", args: "scope get https://a/b", method: "GET", target: "/admin/v1/scopes/~aHR0cHM6Ly9hL2I", answer: `{"name":"https://a/b"}`, shows: []string{"https://a/b"}},
		{name: "scope update", args: "scope update x --role=", method: "PATCH", target: "/admin/v1/scopes/~eA", sends: `{"roles":[]}`, answer: `{"name":"x"}`, shows: []string{"x"}},
		{name: "scope list", args: "scope list", method: "GET", target: "/admin/v1/scopes", answer: `{"items":[{"name":"x","roles":["clerk"]}]}`, shows: []string{"x     clerk"}},
		{name: "role delete by force", args: "role delete clerk --force --yes", method: "DELETE", target: "/admin/v1/roles/~Y2xlcms?force=true", status: 204, shows: []string{"deleted clerk"}},
		{name: "group create", args: "group create staff --role clerk", method: "POST", target: "/admin/v1/groups", sends: `{"name":"staff","roles":["clerk"]}`, status: 201, answer: `{"name":"staff"}`, shows: []string{"staff"}},
		{name: "tenant list", args: "tenant list", method: "GET", target: "/admin/v1/tenants", answer: `{"items":[{"id":"acme","enabled":true}]}`, shows: []string{"acme"}},
		{name: "tenant set", args: `tenant set acme refresh_idle_lifetime=8h narrow_scopes=true refresh_grace=null`, method: "PATCH", target: "/admin/v1/tenants/acme",
			sends: `{"refresh_idle_lifetime":"8h","narrow_scopes":true,"refresh_grace":null}`, answer: `{"id":"acme"}`, shows: []string{"acme"}},
		{name: "client of a tenant", args: "client get orders --tenant acme", method: "GET", target: "/t/acme/admin/v1/clients/orders", answer: clientAnswer, shows: []string{"orders"}},
		{name: "the default tenant lives at the root", args: "client get orders --tenant default", method: "GET", target: "/admin/v1/clients/orders", answer: clientAnswer, shows: []string{"orders"}},
		{name: "rotate a leaked secret", args: "client rotate-secret orders --keep 0", method: "POST", target: "/admin/v1/clients/orders/secret", sends: `{"keep":"0"}`, answer: `{"client_id":"orders","client_secret":"n3w"}`, shows: []string{"n3w"}},
		{name: "rotate secret", args: "client rotate-secret orders", method: "POST", target: "/admin/v1/clients/orders/secret", answer: `{"client_id":"orders","client_secret":"n3w"}`, shows: []string{"n3w"}},
		{name: "introspect with the admin token", args: "token introspect abc.def", method: "POST", target: "/oauth2/introspect", sends: "token=abc.def", answer: `{"active":true,"sub":"orders"}`, shows: []string{"active  true", "sub     orders"}},
		{name: "an inactive token fails", args: "token introspect -", stdin: "abc\n", method: "POST", target: "/oauth2/introspect", sends: "token=abc", answer: `{"active":false}`, shows: []string{"active  false"}, code: 1},
		{name: "revoke a client's tokens", args: "token revoke --client-id orders", method: "POST", target: "/admin/v1/revocations", sends: `{"client_id":"orders"}`, answer: `{"seq":7,"head":7}`, shows: []string{"revoked: seq 7, head 7"}},
		{name: "revoke by time", args: "token revoke --subject alice --issued-before 2026-11-24T12:00:00Z", method: "POST", target: "/admin/v1/revocations", sends: `{"subject":"alice","issued_before":1795521600}`, answer: `{"seq":7,"head":8}`, shows: []string{"seq 7, head 8"}},
		{name: "revoke one token from standard input", args: "token revoke -", stdin: " t0k \n", method: "POST", target: "/admin/v1/revocations", sends: `{"token":"t0k"}`, answer: `{"seq":7,"head":8}`, shows: []string{"seq 7"}},
		{name: "revoke and wait", args: "token revoke --key-id k1 --wait gateways --timeout 2", method: "POST", target: "/admin/v1/revocations?timeout=2s&wait=gateways", sends: `{"key_id":"k1"}`,
			answer: `{"seq":7,"head":7,"receipt":[{"gateway":"edge1","instance":"i1","head":7,"ms":12,"ok":true}],"complete":true}`, shows: []string{"seq 7", "edge1    i1        true       7     12ms"}},
		{name: "a gateway that has not confirmed", args: "token revoke --root r --wait gateways", method: "POST", target: "/admin/v1/revocations?timeout=5s&wait=gateways", sends: `{"root":"r"}`,
			answer: `{"seq":7,"head":7,"receipt":[{"gateway":"edge1","head":5,"ms":5000,"ok":false}],"complete":false}`, shows: []string{"edge1", "revoked, but not every gateway has confirmed"}, code: 1},
		{name: "gateway register", args: "gateway register edge1 --tenants default,acme", method: "POST", target: "/admin/v1/gateways", sends: `{"name":"edge1","tenants":["default","acme"]}`,
			status: 201, answer: `{"id":"edge1","credential":"krg_x","gossip_key":"Z2s="}`, shows: []string{"credential  krg_x", "gossip_key  Z2s="}},
		{name: "gateway list", args: "gateway list", method: "GET", target: "/admin/v1/gateways", answer: `[{"id":"edge1","addr":"10.0.0.9:1","head":7,"head_age_ms":15,"epoch":1,"last_seen_ms":200}]`, shows: []string{"edge1", "15ms", "200ms"}},
		{name: "gateway delete", args: "gateway delete edge1", method: "DELETE", target: "/admin/v1/gateways/edge1", status: 204, shows: []string{"deleted edge1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.status == 0 {
				tt.status = 200
			}
			n := newNode(t, map[string][]answer{tt.method + " " + tt.target: {{status: tt.status, body: tt.answer}}})
			args := strings.Fields(tt.args)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "|", " ")
			}
			got := n.at(t, call{args: args, stdin: tt.stdin})
			if got.code != tt.code {
				t.Errorf("exit code %d, want %d", got.code, tt.code)
			}
			for _, text := range tt.shows {
				if !strings.Contains(got.out+got.err, text) {
					t.Errorf("%q is not shown in\n%s%s", text, got.out, got.err)
				}
			}
			if strings.ContainsRune(got.out, '\x1b') {
				t.Error("an escape sequence of the server reached the terminal")
			}
			checkRequest(t, n, tt.method, tt.target, tt.sends)

			// The same with --output json: the server's own answer, and nothing else.
			got = n.at(t, call{args: append(args, "--output", "json"), stdin: tt.stdin})
			if got.code != tt.code || !json.Valid([]byte(got.out)) {
				t.Errorf("--output json: exit code %d, %q, %q", got.code, got.out, got.err)
			}
			if want := tt.answer; strings.HasPrefix(want, "[") {
				want = `{"items":` + want + `}`
				if !sameJSON(got.out, want) {
					t.Errorf("--output json gives %s, want %s", got.out, want)
				}
			} else if want != "" && want != "{}" && !sameJSON(got.out, want) {
				t.Errorf("--output json gives %s, want %s", got.out, want)
			}
		})
	}
}

// checkRequest compares the only request with what was to be sent.
func checkRequest(t *testing.T, n *node, method, target, sends string) {
	t.Helper()
	all := n.requests()
	if len(all) != 1 {
		t.Fatalf("%d requests, want 1: %+v", len(all), all)
	}
	r := all[0]
	if r.Method != method || r.Target != target {
		t.Errorf("asked %s %s, want %s %s", r.Method, r.Target, method, target)
	}
	if !sameJSON(r.Body, sends) && r.Body != sends {
		t.Errorf("sent %s, want %s", r.Body, sends)
	}
	if got := r.Header.Get("Authorization"); got != "Bearer "+adminSecret {
		t.Errorf("Authorization %q", got)
	}
	if method == "POST" && !strings.HasPrefix(target, "/oauth2/") && len(r.Header.Get("Idempotency-Key")) < 16 {
		t.Errorf("Idempotency-Key %q is shorter than 16 characters", r.Header.Get("Idempotency-Key"))
	}
	if kind := r.Header.Get("Content-Type"); sends != "" && kind != map[bool]string{true: "application/x-www-form-urlencoded", false: "application/json"}[strings.HasPrefix(target, "/oauth2/")] && method != "PATCH" {
		t.Errorf("Content-Type %q", kind)
	}
}

func TestListPages(t *testing.T) {
	t.Parallel()
	n := newNode(t, map[string][]answer{
		"GET /admin/v1/clients":                 {{200, `{"items":[{"client_id":"a"}],"next_cursor":"c 1"}`, nil}},
		"GET /admin/v1/clients?cursor=c+1":      {{200, `{"items":[{"client_id":"b"}],"next_cursor":""}`, nil}},
		"GET /admin/v1/clients?limit=1":         {{200, `{"items":[{"client_id":"a"}],"next_cursor":"c 1"}`, nil}},
		"GET /t/loop/admin/v1/clients":          {{200, `{"items":[],"next_cursor":"x"}`, nil}},
		"GET /t/loop/admin/v1/clients?cursor=x": {{200, `{"items":[],"next_cursor":"x"}`, nil}},
		"GET /t/none/admin/v1/clients":          {{200, `{"items":[]}`, nil}},
	})
	for _, tt := range []struct {
		name, args, want string
		code             int
	}{
		{"all pages are shown", "client list", "a   -     -     -       -      -\nb ", 0},
		{"JSON holds all pages", "client list -o json", `"client_id": "b"`, 0},
		{"a limit ends it", "client list --limit 1", "a   -", 0},
		{"a cursor that repeats is an error", "client list --tenant loop", "the same page twice", 1},
		{"an empty list says so", "client list --tenant none", "no clients; make one with 'keyraft client create'", 0},
		{"an empty list is an array", "client list --tenant none -o json", `"items": []`, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := n.at(t, call{args: strings.Fields(tt.args)})
			if got.code != tt.code || !strings.Contains(got.out+got.err, tt.want) {
				t.Errorf("exit code %d\n%s%s", got.code, got.out, got.err)
			}
		})
	}
}

// TestDestructiveCommandsAsk: at a terminal each shows what follows, and only a yes
// or --yes lets it go on. A script has no terminal: it is never asked.
func TestDestructiveCommandsAsk(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ args, target, shows string }{
		{"client delete c1", "DELETE /admin/v1/clients/c1", "ends its secrets and every token that it got"},
		{"user delete u1", "DELETE /admin/v1/users/u1", "ends every login and token"},
		{"user end-logins u1", "DELETE /admin/v1/users/u1/logins", "out everywhere"},
		{"user sessions end u1 s1", "DELETE /admin/v1/users/u1/sessions/s1", "tokens that live by it"},
		{"user consents forget u1 web", "DELETE /admin/v1/users/u1/consents/web", "revoke what the client has"},
		{"user factors remove u1 k1", "DELETE /admin/v1/users/u1/credentials/k1", "recovery codes go"},
		{"gateway delete g1", "DELETE /admin/v1/gateways/g1", "ends its credential"},
		{"operator remove n3", "DELETE /admin/v1/cluster/members/n3", "Removing n3 leaves 2 of 3 voters"},
		{"operator key rotate --emergency", "POST /admin/v1/keys/rotate", "Every token that the present key signed is refused"},
	} {
		for _, how := range []struct {
			name, more, says string
			terminal, asked  bool
			done             bool
		}{
			{"no at a terminal", "", "n\n", true, true, false},
			{"yes at a terminal", "", "y\n", true, true, true},
			{"--yes at a terminal", " --yes", "", true, false, true},
			{"no terminal", "", "n\n", false, false, true},
		} {
			t.Run(tt.args+": "+how.name, func(t *testing.T) {
				t.Parallel()
				n := newNode(t, map[string][]answer{
					"GET /admin/v1/cluster/members": {{200, membersAnswer, nil}},
					tt.target:                       {{200, "{}", nil}},
				})
				got := n.at(t, call{args: strings.Fields(tt.args + how.more), stdin: how.says, terminal: how.terminal})
				done := false
				for _, r := range n.requests() {
					done = done || r.Method+" "+r.Target == tt.target
				}
				if done != how.done || (got.code == 0) != how.done || strings.Contains(got.err, tt.shows) != how.asked {
					t.Errorf("exit code %d, done %v:\n%s", got.code, done, got.err)
				}
			})
		}
	}
}

// TestRemoveAsks checks E7: the consequence is shown, and a typing error is
// refused before the question.
func TestRemoveAsks(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, id, says string
		terminal       bool
		code           int
		removed        bool
		shows          string
	}{
		{name: "yes removes", id: "n3", says: "yes\n", terminal: true, removed: true, shows: "Removing n3 leaves 2 of 3 voters: writes need 2 of them, so 0 more may fail."},
		{name: "the leader is named as such", id: "n1", says: "y\n", terminal: true, removed: true, shows: "It is the leader, so leadership moves first."},
		{name: "a node that does not vote changes no quorum", id: "i1", says: "y\n", terminal: true, removed: true, shows: "Removing i1, which does not vote, changes no quorum."},
		{name: "an empty line removes nothing", id: "n3", says: "\n", terminal: true, code: 1, shows: "not confirmed; nothing was changed"},
		{name: "the end of the input removes nothing", id: "n3", terminal: true, code: 1, shows: "not confirmed"},
		{name: "a typing error is refused with the ids", id: "n33", says: "y\n", terminal: true, code: 1, shows: "there is no node n33; the members are i1, n1, n2, n3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, map[string][]answer{
				"GET /admin/v1/cluster/members":             {{200, membersAnswer, nil}},
				"DELETE /admin/v1/cluster/members/" + tt.id: {{204, "", nil}},
			})
			got := n.at(t, call{args: []string{"operator", "remove", tt.id}, stdin: tt.says, terminal: tt.terminal})
			removed := false
			for _, r := range n.requests() {
				removed = removed || r.Method == "DELETE"
			}
			if got.code != tt.code || removed != tt.removed || !strings.Contains(got.err, tt.shows) {
				t.Errorf("exit code %d, removed %v:\n%s", got.code, removed, got.err)
			}
		})
	}
}
