package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestTrustedIssuer: what each call sends. Keys by one way take the place of those by
// another.
func TestTrustedIssuer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	jwks, pem, junk := filepath.Join(dir, "jwks"), filepath.Join(dir, "pem"), filepath.Join(dir, "junk")
	for file, text := range map[string]string{jwks: `{"keys":[]}`, pem: "-----BEGIN", junk: "x"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const at = "/admin/v1/trusted-issuers/~aHR0cHM6Ly9pZHAuZXhhbXBsZQ"
	for _, tt := range []struct {
		name  string
		args  []string
		code  int
		asked string // method and path; "": nothing
		sends string
		says  string
	}{
		{"create", []string{"create", "https://idp.example", "--jwks-file", jwks, "--map-to-user", "--scope", "read,write", "--claim", "dept=department", "--max-lifetime", "10m"}, 0, "POST /admin/v1/trusted-issuers",
			`{"issuer":"https://idp.example","jwks":{"keys":[]},"map_to_user":true,"scopes":["read","write"],"claim_mapping":[{"remote":"dept","local":"department"}],"max_lifetime":"10m"}`, ""},
		{"disable", []string{"update", "https://idp.example", "--enabled=false"}, 0, "PATCH " + at, `{"enabled":false}`, ""},
		{"other keys", []string{"update", "https://idp.example", "--pem-file", pem}, 0, "PATCH " + at, `{"pem":"-----BEGIN","jwks":null,"jwks_uri":null}`, ""},
		{"keys at a URL", []string{"update", "https://idp.example", "--jwks-uri", "https://idp.example/jwks"}, 0, "PATCH " + at, `{"jwks_uri":"https://idp.example/jwks","jwks":null,"pem":null}`, ""},
		{"two ways", []string{"create", "https://idp.example", "--jwks-file", jwks, "--pem-file", pem}, 2, "", "", "one of --jwks-uri"},
		{"no JSON", []string{"create", "https://idp.example", "--jwks-file", junk}, 2, "", "", "holds no JSON"},
		{"no file", []string{"create", "https://idp.example", "--pem-file", filepath.Join(dir, "none")}, 2, "", "", "--pem-file"},
		{"half a claim", []string{"create", "https://idp.example", "--claim", "dept"}, 2, "", "", "REMOTE=LOCAL"},
		{"nothing to change", []string{"update", "https://idp.example"}, 2, "", "", "nothing to change"},
		{"delete", []string{"delete", "https://idp.example", "--yes"}, 0, "DELETE " + at, "", ""},
		{"get", []string{"get", "https://idp.example"}, 0, "GET " + at, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			one := []answer{{200, `{"issuer":"https://idp.example","enabled":true}`, nil}}
			n := newNode(t, map[string][]answer{"POST /admin/v1/trusted-issuers": one, "PATCH " + at: one, "GET " + at: one, "DELETE " + at: {{204, "", nil}}})
			got := n.at(t, call{args: append([]string{"trusted-issuer"}, tt.args...)})
			if got.code != tt.code || !strings.Contains(got.err, tt.says) {
				t.Fatalf("exit code %d, want %d with %q:\n%s", got.code, tt.code, tt.says, got.err)
			}
			asked := n.requests()
			if tt.asked == "" {
				if len(asked) != 0 {
					t.Errorf("it asked %v", asked)
				}
				return
			}
			if len(asked) != 1 || asked[0].Method+" "+asked[0].Target != tt.asked {
				t.Fatalf("it asked %v, want %s", asked, tt.asked)
			}
			if tt.sends == "" {
				return
			}
			var sent, want any
			if json.Unmarshal([]byte(asked[0].Body), &sent) != nil || json.Unmarshal([]byte(tt.sends), &want) != nil || !reflect.DeepEqual(sent, want) {
				t.Errorf("it sent %s, want %s", asked[0].Body, tt.sends)
			}
		})
	}
}
