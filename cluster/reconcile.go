package cluster

import (
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/keyraft/keyraft/fsm"
)

// reconcile compares, before raft runs, what the state holds (F), what the
// newest sound snapshot holds (S) and where the log begins and ends (R4). raft
// itself would take the newest snapshot's index as applied without asking the
// state, which without a WAL of its own may be behind that after a crash.
func (n *Node) reconcile(config *raft.Config) error {
	first, err := n.store.Log().FirstIndex()
	if err != nil {
		return fmt.Errorf("read where the log begins: %w", err)
	}
	last, err := n.store.Log().LastIndex()
	if err != nil {
		return fmt.Errorf("read where the log ends: %w", err)
	}
	snaps, err := n.snapshots.List()
	if err != nil {
		return fmt.Errorf("list the snapshots: %w", err)
	}
	snapIndex, err := n.catchUp(snaps)
	if err != nil {
		return err
	}
	applied := n.fsm.View().Index()
	if applied > max(last, snapIndex) {
		return n.quarantine("the state is at index %d, but the log ends at %d: the log was lost, and with it this node's votes", applied, last)
	}
	if first > snapIndex+1 { // raft goes on from the snapshot, whatever the state holds
		return n.quarantine("the newest sound snapshot is of index %d and the state of %d, but the log begins at %d: the entries between are gone", snapIndex, applied, first)
	}
	n.adapter.seen = snapIndex
	config.NoSnapshotRestoreOnStart = true // catchUp has done it where it was needed
	return nil
}

// catchUp restores the newest sound snapshot when the state is behind it, and
// returns the raft index of the newest one.
func (n *Node) catchUp(snaps []*raft.SnapshotMeta) (uint64, error) {
	for _, meta := range snaps { // newest first
		v := n.fsm.View()
		if v.Index() >= meta.Index {
			return meta.Index, nil // whatever is in it, the state is past it
		}
		h, err := n.peek(meta.ID)
		if err != nil {
			n.skip(meta.ID, err)
			continue
		}
		if h.Index > meta.Index {
			return 0, n.quarantine("snapshot %s says index %d for a state at %d", meta.ID, meta.Index, h.Index)
		}
		if v.Epoch() > h.Epoch || v.Epoch() == h.Epoch && v.Index() >= h.Index && v.Index() > 0 {
			return meta.Index, nil
		}
		if err := n.verify(meta.ID); err != nil {
			n.skip(meta.ID, err)
			continue
		}
		_, r, err := n.snapshots.Open(meta.ID)
		if err != nil {
			return 0, fmt.Errorf("open snapshot %s: %w", meta.ID, err)
		}
		err = n.fsm.Restore(r)
		_ = r.Close()
		if err != nil {
			return 0, fmt.Errorf("restore snapshot %s at start: %w", meta.ID, err)
		}
		n.log.Info("the state was behind the newest snapshot and was restored from it", "snapshot", meta.ID, "index", h.Index)
		return meta.Index, nil
	}
	return 0, nil
}

// skip hides a damaged snapshot from raft, which would take its index as applied.
func (n *Node) skip(id string, err error) {
	n.log.Warn("a snapshot is damaged; trying an older one", "snapshot", id, "error", err)
	n.snapshots.damaged = append(n.snapshots.damaged, id)
}

func (n *Node) peek(id string) (fsm.Header, error) {
	_, r, err := n.snapshots.Open(id)
	if err != nil {
		return fsm.Header{}, err
	}
	defer func() { _ = r.Close() }()
	return fsm.Peek(r)
}

func (n *Node) verify(id string) error {
	_, r, err := n.snapshots.Open(id)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	if _, _, err = fsm.Inspect(r); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return err
}

// quarantine refuses to start on a state with a hole. Nothing is moved or
// deleted: the operator may want to look at it.
func (n *Node) quarantine(format string, args ...any) error {
	return fmt.Errorf("this node can't go on from its data folder: %s. Move %s away, remove node %q from the cluster and join again with a new token; the other members have everything",
		fmt.Sprintf(format, args...), n.cfg.DataDir, n.cfg.NodeID)
}
