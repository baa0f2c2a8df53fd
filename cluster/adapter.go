package cluster

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/keyraft/keyraft/fsm"
)

// adapter makes the FSM one of raft's. raft calls Apply, StoreConfiguration,
// Snapshot and Restore on one goroutine.
type adapter struct {
	fsm   *fsm.FSM
	log   *watchedLog
	halt  func(error)
	now   func() time.Time
	seen  uint64       // the last raft index that passed here, or the snapshot's
	bytes atomic.Int64 // of log applied since the last snapshot

	before func(index uint64) // tests hold entries here; nil: nothing
}

// Apply implements raft.FSM. Entries of other kinds never come, so indexes jump;
// whatever lies in a gap must be of those kinds, or the state has a hole (R7).
func (a *adapter) Apply(l *raft.Log) any {
	if err := a.gap(l.Index); err != nil {
		a.halt(err)
		return nil
	}
	a.seen = l.Index
	a.bytes.Add(int64(len(l.Data)))
	if a.before != nil {
		a.before(l.Index)
	}
	return a.fsm.Apply(l.Index, l.Term, l.Data)
}

func (a *adapter) gap(next uint64) error {
	for i := a.seen + 1; a.seen != 0 && i < next; i++ {
		var l raft.Log
		if err := a.log.GetLog(i, &l); err != nil {
			return fmt.Errorf("log entry %d, before %d, can't be read: %w; this node's state would have a hole: move its data folder away and join again", i, next, err)
		}
		if l.Type == raft.LogCommand {
			return fmt.Errorf("log entry %d was never applied before %d: this node's state would have a hole; move its data folder away and join again", i, next)
		}
	}
	return nil
}

// StoreConfiguration implements raft.ConfigurationStore, so that a snapshot can
// be taken when a configuration is the last entry (K22).
func (a *adapter) StoreConfiguration(index uint64, _ raft.Configuration) {
	if a.gap(index) == nil {
		a.seen = index
	}
}

// Snapshot implements raft.FSM.
func (a *adapter) Snapshot() (raft.FSMSnapshot, error) {
	a.log.installed.Store(0) // what is cut from the log now lies below this one
	s, err := a.fsm.Snapshot(a.now().UnixMilli())
	if err != nil {
		return nil, err
	}
	return &snapshot{Snapshot: s, node: a, bytes: a.bytes.Load()}, nil
}

// Restore implements raft.FSM. An error leaves the old state whole (R6).
func (a *adapter) Restore(r io.ReadCloser) error {
	err := a.fsm.Restore(r)
	if err == nil {
		a.seen = indexOf(r) // the next entry follows the snapshot's raft index
		a.log.installed.Store(a.seen)
		a.bytes.Store(0)
	}
	return errors.Join(err, r.Close())
}

// snapshot implements raft.FSMSnapshot.
type snapshot struct {
	*fsm.Snapshot
	node  *adapter
	bytes int64 // of log that it makes superfluous
}

// Persist streams while Apply goes on, and closes the sink only when the state
// of that index is durable (R5).
func (s *snapshot) Persist(to raft.SnapshotSink) error {
	if _, err := s.WriteTo(to); err != nil {
		return errors.Join(err, to.Cancel())
	}
	if err := to.Close(); err != nil {
		return err
	}
	s.node.bytes.Add(-s.bytes)
	return nil
}
