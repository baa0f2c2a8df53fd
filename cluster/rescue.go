package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/keyraft/keyraft/storage"
)

// Rescued says what the data folder of a stopped node gave. Of several folders of
// one cluster the one with the highest last term, then last index, holds the most.
type Rescued struct {
	NodeID    string `json:"node_id"`
	ClusterID string `json:"cluster_id"`
	LastTerm  uint64 `json:"last_term"`
	LastIndex uint64 `json:"last_index"`
	Epoch     uint64 `json:"epoch"`
	Head      uint64 `json:"revocation_head"`
	Clock     int64  `json:"clock_ms"` // of the last entry
}

// Rescue writes a backup of what the data folder of a stopped node holds, the
// whole of its log included (E3): whether the last entries were ever committed
// can't be told, so they count. It works on a copy in scratch, an empty folder
// that the caller removes; dir is only read. No sealing key is needed: what is
// sealed stays so.
//
// The way back is an ordinary restore into a new cluster. That has a name and an
// authority of its own, so whoever is left of the old one can't talk to it (R17),
// and it is rewritten like every restore (R15). The backup's time is that of the
// last entry: tokens that were issued after it are refused.
func Rescue(dir, scratch string, w io.Writer, log *slog.Logger) (Rescued, error) {
	id := &identity{}
	raw, err := os.ReadFile(filepath.Join(dir, identityFile))
	if err == nil {
		err = parseIdentity(raw, id)
	}
	if err != nil {
		return Rescued{}, fmt.Errorf("%s holds no node's state: %w", dir, err)
	}
	for _, name := range []string{"raft.db", "snapshots", "state"} {
		if err := copyTree(filepath.Join(scratch, name), filepath.Join(dir, name)); err != nil {
			return Rescued{}, fmt.Errorf("copy %s: %w", filepath.Join(dir, name), err)
		}
	}
	var halted error
	n := &Node{
		cfg: Config{DataDir: scratch, NodeID: id.NodeID, Logger: log, Now: time.Now, Fatal: func(err error) { halted = errors.Join(halted, err) }},
		id:  &identity{}, log: log, progress: newProgress(), metrics: newMetrics(nil),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	defer n.cancel()
	n.latch = storage.NewLatch(n.cfg.Fatal)
	err = n.openStores()
	if err == nil {
		err = n.reconcile(raft.DefaultConfig())
	}
	out := Rescued{NodeID: id.NodeID, ClusterID: id.ClusterID}
	if err == nil {
		err = n.replay(&out)
	}
	if err == nil && halted == nil {
		err = n.rescueTo(w, &out)
	}
	if n.fsm != nil {
		err = errors.Join(err, n.fsm.Kill()) // the copy is thrown away
	}
	if n.store != nil {
		err = errors.Join(err, n.store.Close())
	}
	return out, errors.Join(halted, err)
}

// replay applies the log behind what the state holds, as raft would.
func (n *Node) replay(out *Rescued) error {
	last, err := n.logs.LastIndex()
	if err != nil {
		return fmt.Errorf("read where the log ends: %w", err)
	}
	for i := n.adapter.seen + 1; i <= last; i++ {
		var l raft.Log
		if err := n.logs.GetLog(i, &l); err != nil {
			return fmt.Errorf("log entry %d of %d can't be read: %w; rescue from another node's folder, or restore a backup", i, last, err)
		}
		out.LastTerm, out.LastIndex = l.Term, i
		if l.Type == raft.LogCommand {
			n.adapter.Apply(&l)
		}
	}
	if at := n.fsm.View().Applied(); out.LastIndex < at.Index {
		out.LastTerm, out.LastIndex = at.Term, at.Index
	}
	return nil
}

func (n *Node) rescueTo(w io.Writer, out *Rescued) error {
	v := n.fsm.View()
	if _, ok := v.Cluster(); !ok {
		return errors.New("the folder holds a node that had not got the cluster's state yet; rescue from another node's folder")
	}
	if row, ok := v.Node(out.NodeID); ok && row.GetRemoved() {
		return fmt.Errorf("node %s was removed from its cluster, so what it holds is old; rescue from another node's folder", out.NodeID)
	}
	out.Epoch, out.Head, out.Clock = v.Epoch(), v.Head(), v.Clock()
	s, err := n.fsm.Snapshot(v.Clock())
	if err != nil {
		return err
	}
	defer s.Release()
	_, err = s.WriteTo(w)
	return err
}

// copyTree copies a file or a folder; what is not there is left out.
func copyTree(to, from string) error {
	info, err := os.Stat(from)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return os.CopyFS(to, os.DirFS(from))
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
