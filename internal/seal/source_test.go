package seal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func keyFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "seal.key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // past the umask
		t.Fatal(err)
	}
	return path
}

func TestLoadFile(t *testing.T) {
	t.Parallel()
	key := Generate()
	tests := []struct {
		name, text string
		mode       os.FileMode
		says       string // of the error; "" when it loads
		warns      bool
	}{
		{name: "private file", text: key.Encode(), mode: 0o600},
		{name: "read-only file", text: key.Encode(), mode: 0o400},
		{name: "world-readable file loads with a warning", text: key.Encode(), mode: 0o644, warns: true},
		{name: "group-readable file loads with a warning", text: key.Encode(), mode: 0o640, warns: true},
		{name: "group-writable file is refused", text: key.Encode(), mode: 0o620, says: "chmod 600"},
		{name: "world-writable file is refused", text: key.Encode(), mode: 0o602, says: "chmod 600"},
		{name: "rubbish is named by line", text: "hunter2", mode: 0o600, says: "line 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			warned := ""
			r, err := Source{File: keyFile(t, tt.text, tt.mode), Warn: func(s string) { warned += s }}.Load(t.Context())
			if tt.says != "" {
				if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("error %v, want one that says %q and shows nothing", err, tt.says)
				}
				return
			}
			if err != nil || r.KeyID() != key.id().String() {
				t.Fatalf("keyring %v, error %v", r, err)
			}
			if (warned != "") != tt.warns || strings.Contains(warned, key.Encode()) {
				t.Errorf("warning %q, want one: %v", warned, tt.warns)
			}
		})
	}
}

func TestLoadRefusesOtherSources(t *testing.T) {
	t.Parallel()
	path := keyFile(t, Generate().Encode(), 0o600)
	for name, s := range map[string]Source{
		"no source":             {},
		"two sources":           {File: path, Env: "HOME"},
		"a missing file":        {File: path + ".missing"},
		"a folder":              {File: filepath.Dir(path)},
		"an unset variable":     {Env: "KEYRAFT_TEST_SURELY_UNSET"},
		"a missing command":     {Exec: []string{path + ".missing"}},
		"a failing command":     {Exec: []string{"/bin/sh", "-c", "exit 3"}},
		"a command that floods": {Exec: []string{"/bin/sh", "-c", "while :; do echo 0123456789012345678901234567890123456789; done"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if r, err := s.Load(t.Context()); err == nil {
				t.Errorf("loaded %v", r)
			}
		})
	}
}

func TestLoadEnv(t *testing.T) {
	key := Generate()
	t.Setenv("KEYRAFT_TEST_SEAL", key.Encode())
	r, err := Source{Env: "KEYRAFT_TEST_SEAL"}.Load(t.Context())
	if err != nil || r.KeyID() != key.id().String() {
		t.Errorf("keyring %v, error %v", r, err)
	}
}

func TestLoadExec(t *testing.T) {
	t.Parallel()
	key := Generate()
	path := keyFile(t, key.Encode(), 0o600)
	r, err := Source{Exec: []string{"/bin/sh", "-c", `cat "$0"; echo NOISE >&2`, path}}.Load(t.Context())
	if err != nil || r.KeyID() != key.id().String() {
		t.Fatalf("keyring %v, error %v", r, err)
	}
	_, err = Source{Exec: []string{"/bin/sh", "-c", `cat "$0" >&2; exit 1`, path}}.Load(t.Context())
	if err == nil || strings.Contains(err.Error(), key.Encode()) {
		t.Errorf("error %v, want one without the hook's standard error", err)
	}
}

// TestLoadExecIsBounded: a hook that hangs, child and all, is left with ctx.
func TestLoadExecIsBounded(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := Source{Exec: []string{"/bin/sh", "-c", "sleep 30"}}.Load(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the deadline", err)
	}
	if took := time.Since(start); took > hookTime {
		t.Errorf("took %s", took)
	}
}
