package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestI8DataFolderOfTheFirstVersion: the data folder of a node that was killed,
// as the first version left it, opens and holds what it held. The archive is
// never made anew: if a later binary can't open it, old data can't be read.
func TestI8DataFolderOfTheFirstVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.newNode("v1", nil)
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	archive, err := filepath.Abs("testdata/v1-node.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-C", n.dir, "-xzf", archive).CombinedOutput(); err != nil {
		t.Fatalf("unpack: %v: %s", err, out)
	}
	n.run()
	w.take(n)
	ids := must(n.ClientIDs(w.bound()))(t)
	for _, id := range []string{"demo", "opaque", "kept-0", "kept-1", "kept-2", "kept-3", "kept-4"} {
		if !ids[id] {
			t.Errorf("client %s is gone", id)
		}
	}
	s := must(n.Status(w.bound()))(t)
	if s.AppliedIndex < 19 || s.Head < 5 {
		t.Errorf("applied index %d, head %d: less than the folder holds", s.AppliedIndex, s.Head)
	}
	if _, err := n.Issue(w.bound(), w.client, ""); err != nil {
		t.Errorf("the demo client's secret of then: %v", err)
	}
	// Keys that a cluster has only since a later version are made by its leader: this
	// client's secret is sealed under one.
	w.await("the keys of a later version", func(ctx context.Context) error {
		_, err := n.CreateClient(ctx, map[string]any{"client_id": "later", "token_endpoint_auth_method": "client_secret_jwt"})
		return err
	})
}
