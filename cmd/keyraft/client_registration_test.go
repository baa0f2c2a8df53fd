package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestRegistrationCommands: what each call sends and shows.
func TestRegistrationCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, secret := filepath.Join(dir, "policy.json"), filepath.Join(dir, "initial.token")
	if err := os.WriteFile(file, []byte(`{"scopes":["orders"],"open":true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	const tokensAt, policyAt = "/admin/v1/initial-access-tokens", "/admin/v1/registration-policy"
	for _, tt := range []struct {
		name  string
		args  string
		in    string
		code  int
		asked []string // method and path
		sends string   // by the last of them
		says  string   // on either stream
	}{
		{name: "create", args: "registration-token create --ttl 1h --uses 0", asked: []string{"POST " + tokensAt}, sends: `{"ttl":"1h","uses":0}`, says: "kri_t1.secret"},
		{name: "create by default", args: "registration-token create", asked: []string{"POST " + tokensAt}, sends: `{}`, says: "kri_t1.secret"},
		{name: "create into a file", args: "registration-token create --token-out " + secret, asked: []string{"POST " + tokensAt}, sends: `{}`, says: "t1"},
		{name: "list", args: "registration-token list", asked: []string{"GET " + tokensAt}, says: "any"},
		{name: "revoke", args: "registration-token revoke t1 --yes", asked: []string{"DELETE " + tokensAt + "/t1"}, says: "revoked t1"},
		{name: "revoke asks", args: "registration-token revoke t1", in: "no\n", code: 1, says: "Nobody registers a client by t1"},
		{name: "get", args: "registration-policy get", asked: []string{"GET " + policyAt}, says: "max_clients"},
		{name: "set keeps the rest", args: "registration-policy set open=true unused_lifetime=240h", asked: []string{"GET " + policyAt, "PUT " + policyAt},
			sends: `{"open":true,"scopes":["read"],"max_clients":7,"unused_lifetime":"240h"}`},
		{name: "set back to the default", args: "registration-policy set max_clients=null", asked: []string{"GET " + policyAt, "PUT " + policyAt}, sends: `{"open":false,"scopes":["read"]}`},
		{name: "set from a file", args: "registration-policy set --file " + file + " open=false", asked: []string{"GET " + policyAt, "PUT " + policyAt}, sends: `{"open":false,"scopes":["orders"],"max_clients":7}`},
		{name: "set nothing", args: "registration-policy set", code: 2, says: "nothing to change"},
		{name: "set half", args: "registration-policy set open", code: 2, says: `"open" is not member=JSON; write open=true`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, map[string][]answer{
				"POST " + tokensAt: {{201, `{"id":"t1","token":"kri_t1.secret","uses_left":1,"created_at":1,"expires_at":2}`, nil}}, "GET " + tokensAt: {{200, `{"items":[{"id":"t1","created_at":1,"expires_at":2}]}`, nil}},
				"DELETE " + tokensAt + "/t1": {{204, "", nil}}, "GET " + policyAt: {{200, `{"open":false,"scopes":["read"],"max_clients":7}`, nil}}, "PUT " + policyAt: {{200, `{"open":true}`, nil}},
			})
			got := n.at(t, call{args: append([]string{"client"}, strings.Fields(tt.args)...), stdin: tt.in, terminal: tt.in != ""})
			if got.code != tt.code || !strings.Contains(got.out+got.err, tt.says) {
				t.Fatalf("exit code %d, want %d with %q:\n%s%s", got.code, tt.code, tt.says, got.out, got.err)
			}
			requests := n.requests()
			var asked []string
			for _, r := range requests {
				asked = append(asked, r.Method+" "+r.Target)
			}
			if !reflect.DeepEqual(asked, tt.asked) {
				t.Fatalf("it asked %v, want %v", asked, tt.asked)
			}
			var sent, want any
			if tt.sends != "" && (json.Unmarshal([]byte(requests[len(requests)-1].Body), &sent) != nil || json.Unmarshal([]byte(tt.sends), &want) != nil || !reflect.DeepEqual(sent, want)) {
				t.Errorf("it sent %s, want %s", requests[len(requests)-1].Body, tt.sends)
			}
			if strings.Contains(tt.args, secret) {
				if text, err := os.ReadFile(secret); err != nil || strings.TrimSpace(string(text)) != "kri_t1.secret" || strings.Contains(got.out, "kri_t1.secret") {
					t.Errorf("the file holds %q (%v), the screen %q", text, err, got.out)
				}
			}
		})
	}
}
