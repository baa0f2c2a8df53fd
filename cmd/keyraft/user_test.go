package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const userAnswer = `{"id":"u1","username":"alice","enabled":true}`

// TestUserByName: @NAME is looked up, and a name that nobody has is an error that
// changes nothing.
func TestUserByName(t *testing.T) {
	t.Parallel()
	n := newNode(t, map[string][]answer{
		"GET /admin/v1/users?username=a+b":     {{200, `{"items":[` + userAnswer + `]}`, nil}},
		"GET /admin/v1/users?username=nobody":  {{200, `{"items":[]}`, nil}},
		"DELETE /admin/v1/users/u1/lockout":    {{204, "", nil}},
		"DELETE /admin/v1/users/nobody/logins": {{204, "", nil}},
	})
	if got := n.at(t, call{args: []string{"user", "unlock", "@a b"}}); got.code != 0 {
		t.Errorf("exit code %d: %s", got.code, got.err)
	}
	if got := n.at(t, call{args: []string{"user", "end-logins", "@nobody"}}); got.code != 1 || !strings.Contains(got.err, "keyraft user list") {
		t.Errorf("exit code %d: %s", got.code, got.err)
	}
	if asked := n.requests(); len(asked) != 3 {
		t.Errorf("%d requests, want the two look-ups and one change: %v", len(asked), asked)
	}
}

// TestUserPassword: it comes from a file or standard input, never from an argument, and
// none of the errors holds it.
func TestUserPassword(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := filepath.Join(dir, "password")
	if err := os.WriteFile(good, []byte("a long phrase\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, stdin string
		args        []string
		code        int
		says        string
	}{
		{"from a file", "", []string{"set-password", "u1", "--password-file", good}, 0, ""},
		{"none, without a terminal", "", []string{"set-password", "u1"}, 2, "--password-file"},
		{"an empty one", "\n", []string{"set-password", "u1", "--password-file", "-"}, 2, "empty"},
		{"one that is no password", strings.Repeat("x", 5000), []string{"set-password", "u1", "--password-file", "-"}, 2, "no password"},
		{"as an argument", "", []string{"create", "alice", "--set", "password=secret-of-alice"}, 2, "others of this machine"},
		{"standard input for two things", "", []string{"create", "alice", "--file", "-", "--password-file", "-"}, 2, "both"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, map[string][]answer{"POST /admin/v1/users/u1/password": {{200, userAnswer, nil}}})
			got := n.at(t, call{args: append([]string{"user"}, tt.args...), stdin: tt.stdin})
			if got.code != tt.code || !strings.Contains(got.err, tt.says) || strings.Contains(got.err, "secret-of-alice") {
				t.Errorf("exit code %d, want %d with %q:\n%s", got.code, tt.code, tt.says, got.err)
			}
			if sent := len(n.requests()) > 0; sent != (tt.code == 0) {
				t.Errorf("something was sent: %v", sent)
			}
		})
	}
}
