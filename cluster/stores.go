package cluster

import (
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// snapshots is raft's snapshot store, without those that were found damaged at
// the start: raft takes the newest that is listed for what the state holds. What
// is opened tells its raft index, which raft keeps from its FSM.
type snapshots struct {
	raft.SnapshotStore
	damaged []string // ids; written before raft runs
}

// List implements raft.SnapshotStore.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	all, err := s.SnapshotStore.List()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(m *raft.SnapshotMeta) bool { return slices.Contains(s.damaged, m.ID) }), nil
}

// Open implements raft.SnapshotStore.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, r, err := s.SnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	return meta, indexed{r, meta.Index}, nil
}

type indexed struct {
	io.ReadCloser
	index uint64
}

// indexOf is the raft index of a snapshot that raft opened, below whatever raft
// put around it; 0 when it can't be told.
func indexOf(r io.ReadCloser) uint64 {
	for {
		switch w := r.(type) {
		case indexed:
			return w.index
		case raft.ReadCloserWrapper:
			r = w.WrappedReadCloser()
		default:
			return 0
		}
	}
}

// watchedLog notices that raft has forgotten what its log holds. Installing a
// snapshot removes the whole log, but raft v1.8.0 keeps the index of the last
// entry in memory. Where that is above the snapshot's (entries of a deposed
// leader that nobody committed), the entry before the next one can't be found,
// and the leader sends the same snapshot for ever. Only a start reads the log anew.
type watchedLog struct {
	raft.LogStore
	installed atomic.Uint64 // raft index of a snapshot whose log is still to be removed; 0: none
	halt      func(error)
}

// IsMonotonic implements raft.MonotonicLogStore.
func (w *watchedLog) IsMonotonic() bool {
	m, ok := w.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// DeleteRange implements raft.LogStore.
func (w *watchedLog) DeleteRange(low, high uint64) error {
	if err := w.LogStore.DeleteRange(low, high); err != nil {
		return err
	}
	// Conflicting entries that are cut lie above the snapshot.
	if at := w.installed.Load(); low <= at && w.installed.CompareAndSwap(at, 0) && at < high {
		w.halt(fmt.Errorf("the leader's snapshot at index %d replaced a log that ended at %d with entries that were never committed; the node must be started again to go on from the snapshot", at, high))
	}
	return nil
}
