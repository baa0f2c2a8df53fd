package testcluster_test

import (
	"bytes"
	"crypto/sha256"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/cluster"
	"github.com/keyraft/keyraft/fsm"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/internal/testcluster"
)

func rescue(t *testing.T, dir string) (cluster.Rescued, []byte, error) {
	t.Helper()
	var out bytes.Buffer
	got, err := cluster.Rescue(dir, t.TempDir(), &out, slog.New(slog.DiscardHandler))
	return got, out.Bytes(), err
}

// files are the checksums of all files of a folder.
func files(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	out := map[string][32]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		out[path] = sha256.Sum256(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestE3OneSurvivorIsRescued: two of three data folders are gone for good. What was
// acknowledged and reached the third lives on in a new cluster, under a higher
// epoch and above every seq of the old one (R15, I5); the folder stays as it was.
func TestE3OneSurvivorIsRescued(t *testing.T) {
	t.Parallel()
	keys, err := seal.NewKeyring(seal.Generate())
	if err != nil {
		t.Fatal(err)
	}
	opts := short
	opts.Keys = keys
	old := testcluster.StartWith(t, 3, opts)
	survivor := old.Followers()[0]
	var acked []string
	write := func(name string) {
		revoke(t, survivor, name) // it has applied what it acknowledges
		acked = append(acked, name)
	}
	write("before the snapshot")
	fill(t, survivor, "filling", 20)
	snapshot(t, survivor)
	write("behind it")
	before, name := survivor.Status(), old.Any().ClusterID()
	for _, n := range old.Nodes() {
		n.Kill() // nothing is flushed
	}
	was := files(t, survivor.Dir)
	got, stream, err := rescue(t, survivor.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(was, files(t, survivor.Dir)) {
		t.Error("the rescue has changed the folder")
	}
	if got.LastIndex < before.AppliedIndex || got.LastTerm == 0 || got.Head != before.Head || got.ClusterID != name || got.NodeID != survivor.Name {
		t.Errorf("rescued %+v of a node that was at %+v", got, before)
	}
	if h, _, err := fsm.Inspect(bytes.NewReader(stream)); err != nil || h.Head != before.Head || h.TakenAt != got.Clock {
		t.Errorf("the snapshot says %+v, %v", h, err)
	}

	opts = testcluster.Options{Keys: keys}
	fresh := testcluster.StartWith(t, 3, opts)
	restored, err := fresh.Followers()[0].Restore(within(t, 20e9), bytes.NewReader(stream), true)
	if err != nil {
		t.Fatal(err)
	}
	if restored.Epoch <= before.Epoch || restored.Head <= before.Head || fresh.Any().ClusterID() == name {
		t.Errorf("restored %+v into %s, the old cluster %s was at epoch %d, head %d", restored, fresh.Any().ClusterID(), name, before.Epoch, before.Head)
	}
	kept(t, fresh, acked)
	revoke(t, fresh.Any(), "the new cluster writes")
}

// TestRescueRefuses what would be taken for the state of a cluster and is not.
func TestRescueRefuses(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 3)
	removed, hole := c.Followers()[0], c.Followers()[1]
	if err := c.Leader().Remove(within(t, 20e9), removed.Name, false); err != nil {
		t.Fatal(err)
	}
	<-removed.Gone
	removed.Stop()
	fill(t, hole, "fill", 3)
	for _, n := range c.Live() {
		n.Kill()
	}
	if err := os.Remove(filepath.Join(hole.Dir, "raft.db")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(hole.Dir, "state")); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		t.TempDir(): "holds no node's state",
		removed.Dir: "was removed from its cluster",
		hole.Dir:    "had not got the cluster's state",
	} {
		if _, out, err := rescue(t, dir); err == nil || !strings.Contains(err.Error(), want) || len(out) > 0 {
			t.Errorf("want %q, got %v and %d bytes", want, err, len(out))
		}
	}
}
