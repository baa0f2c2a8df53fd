package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// snapshotText is a stream that readSnapshot takes for whole.
const snapshotText = "KRSNAP 42 rows rows rows END"

// readSnapshot stands in for the reader of snapshots: a header, rows, an end.
func readSnapshot(r io.Reader) (any, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(text, []byte("KRSNAP ")) || !bytes.HasSuffix(text, []byte(" END")) {
		return nil, errors.New("the trailer is missing")
	}
	return map[string]any{"applied_index": 42, "cluster": "c1"}, nil
}

func withReader(args ...string) call {
	return call{args: append([]string{"operator", "snapshot"}, args...), deps: deps{InspectSnapshot: readSnapshot}}
}

func TestSnapshotSave(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a.snap")
	n := newNode(t, map[string][]answer{"GET /admin/v1/cluster/snapshot": {{200, snapshotText, nil}, {200, snapshotText[:10], nil}}})
	got := n.at(t, withReader("save", path))
	if got.code != 0 || !strings.Contains(got.out, "saved "+path+" (28 B)") {
		t.Fatalf("exit code %d: %s%s", got.code, got.out, got.err)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != snapshotText {
		t.Fatalf("the file holds %q, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: a snapshot is for its owner", info.Mode(), err)
	}
	// A damaged stream leaves the file that was there, and nothing beside it.
	got = n.at(t, withReader("save", path))
	if got.code != 1 || !strings.Contains(got.err, "is no whole snapshot (the trailer is missing); nothing was kept, try again") {
		t.Errorf("exit code %d: %s", got.code, got.err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != snapshotText {
		t.Errorf("the old file became %q, %v", text, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("files left: %v, %v", left, err)
	}
}

// TestSnapshotSaveBreaksOff: a node that dies in the middle leaves no file.
func TestSnapshotSaveBreaksOff(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "KRSNAP ")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(s.Close)
	path := filepath.Join(t.TempDir(), "a.snap")
	c := withReader("save", path, "--addr", s.URL)
	got := c.run(t)
	if got.code != 1 || !strings.Contains(got.err, "the stream broke off after 7 B") {
		t.Errorf("exit code %d: %s", got.code, got.err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was left: %v", err)
	}
}

func TestSnapshotRestore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.snap"), filepath.Join(dir, "bad.snap")
	for path, text := range map[string]string{good: snapshotText, bad: snapshotText[:12]} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	done := answer{200, `{"epoch":2}`, nil}
	for _, tt := range []struct {
		name   string
		call   call
		answer answer
		sent   bool
		code   int
		want   string
	}{
		{"--yes restores", withReader("restore", good, "--yes"), done, true, 0, "epoch  2"},
		{"without a terminal nobody is asked", withReader("restore", good), done, true, 0, "epoch  2"},
		{"a damaged file is not sent", withReader("restore", bad, "--yes"), done, false, 1, "bad.snap can't be restored: the trailer is missing; nothing was sent"},
		{"a file that is not there", withReader("restore", filepath.Join(dir, "none"), "--yes"), done, false, 2, "name a snapshot file"},
		{"a refusal is shown", withReader("restore", good, "--yes"), answer{409, `{"detail":"another cluster's snapshot","field":"cluster"}`, nil}, true, 1, "cluster: another cluster's snapshot"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t, map[string][]answer{"POST /admin/v1/cluster/snapshot": {tt.answer}})
			got := n.at(t, tt.call)
			if got.code != tt.code || !strings.Contains(got.out+got.err, tt.want) {
				t.Errorf("exit code %d: %s%s", got.code, got.out, got.err)
			}
			all := n.requests()
			if (len(all) == 1) != tt.sent {
				t.Fatalf("%d requests", len(all))
			}
			if tt.sent && (all[0].Body != snapshotText || all[0].Header.Get("Content-Type") != "application/octet-stream" || all[0].Header.Get("Content-Length") != "28") {
				t.Errorf("sent %+v", all[0])
			}
		})
	}
	n := newNode(t, map[string][]answer{"POST /admin/v1/cluster/snapshot": {done}})
	c := withReader("restore", good)
	c.terminal, c.stdin = true, "y\n"
	if got := n.at(t, c); got.code != 0 || !strings.Contains(got.err, "Go on? [y/N]") || len(n.requests()) != 1 {
		t.Errorf("a yes does not restore: exit code %d, %s", got.code, got.err)
	}
}

func TestSnapshotInspect(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.snap")
	if err := os.WriteFile(path, []byte(snapshotText), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := withReader("inspect", path).run(t); got.code != 0 || got.out != "applied_index  42\ncluster        c1\n" {
		t.Errorf("exit code %d: %q %q", got.code, got.out, got.err)
	}
	if got := withReader("inspect", path, "-o", "json").run(t); got.code != 0 || !sameJSON(got.out, `{"applied_index":42,"cluster":"c1"}`) {
		t.Errorf("exit code %d: %q %q", got.code, got.out, got.err)
	}
	if err := os.WriteFile(path, []byte("KRSNAP"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := withReader("inspect", path).run(t); got.code != 1 || !strings.Contains(got.err, "a.snap: the trailer is missing") {
		t.Errorf("exit code %d: %q", got.code, got.err)
	}
}
