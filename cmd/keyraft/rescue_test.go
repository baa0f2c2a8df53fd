package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSnapshotRescue: the file is whole when it has its name, and neither a copy
// nor a half file stays behind.
func TestSnapshotRescue(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	for _, tt := range []struct {
		name, dir, writes string
		err               error
		code              int
		want              string
	}{
		{"a good folder", data, snapshotText, nil, 0, "last_index  7"},
		{"no folder", filepath.Join(data, "none"), snapshotText, nil, 2, "name the data folder of a stopped node"},
		{"a folder that can't be rescued", data, "", errors.New("holds no node's state"), 1, "holds no node's state"},
		{"a snapshot that is not whole", data, snapshotText[:12], nil, 1, "the trailer is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out := t.TempDir()
			d := deps{InspectSnapshot: readSnapshot, RescueSnapshot: func(dir, scratch string, to io.Writer) (any, error) {
				if err := os.WriteFile(filepath.Join(scratch, "copy"), nil, 0o600); err != nil {
					return nil, err
				}
				if _, err := io.WriteString(to, tt.writes); err != nil {
					return nil, err
				}
				return map[string]int{"last_index": 7}, tt.err
			}}
			path := filepath.Join(out, "r.snap")
			got := call{args: []string{"operator", "snapshot", "rescue", tt.dir, path}, deps: d}.run(t)
			if got.code != tt.code || !strings.Contains(got.out+got.err, tt.want) {
				t.Errorf("exit code %d: %s%s", got.code, got.out, got.err)
			}
			left, err := os.ReadDir(out)
			if err != nil || (len(left) == 1) != (tt.code == 0) || len(left) > 1 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}
