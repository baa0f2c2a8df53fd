package testnode

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/keyraft/keyraft/fsm"
	"github.com/keyraft/keyraft/storage"
)

// Backup is what an operator saves of the node.
func (n *Node) Backup(t testing.TB) []byte {
	t.Helper()
	s, err := n.FSM.Snapshot(n.Now().UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	var out bytes.Buffer
	if _, err := s.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Restore puts a backup of the node in place of its state, rewritten as a cluster does
// (R15).
func (n *Node) Restore(t testing.TB, backup []byte) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	v := n.FSM.View()
	var stream bytes.Buffer
	_, err := fsm.Rewrite(bytes.NewReader(backup), &stream, filepath.Join(t.TempDir(), "scratch"), storage.Options{}, fsm.Plan{
		Now: v, Head: v.Head(), Index: v.Index() + 1, Clock: n.Now().UnixMilli(), SealCheck: n.Ring.Check,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.FSM.Restore(&stream); err != nil {
		t.Fatal(err)
	}
}
