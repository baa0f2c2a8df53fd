package logstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
)

// syncBytes is after how many bytes a snapshot is synced while it is written, so
// that no single sync has gigabytes before it and looks like a hung disk.
const syncBytes = 32 << 20

// snapshotStore is a raft.FileSnapshotStore under the latch.
type snapshotStore struct {
	files raft.SnapshotStore
	dir   string
	opts  Options
}

// NewSnapshots returns the snapshot store in dir/snapshots, which keeps the newest
// retain snapshots (at least 1). A write or sync that fails or hangs while a
// snapshot is made closes the latch. An error of List or Open does not: an older
// snapshot may serve.
func NewSnapshots(dir string, retain int, o Options) (raft.SnapshotStore, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	base := filepath.Join(dir, "snapshots") // the library's name for it
	if err := os.MkdirAll(base, 0o700); err != nil {
		return nil, fmt.Errorf("create the directory of snapshots: %w", err)
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(dir, retain, o.Logger)
	if err != nil {
		return nil, fmt.Errorf("open the snapshots in %s: %w", base, err)
	}
	return &snapshotStore{files: files, dir: base, opts: o}, nil
}

func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration,
	configurationIndex uint64, trans raft.Transport,
) (raft.SnapshotSink, error) {
	if version != raft.SnapshotVersionMax {
		return nil, fmt.Errorf("create a snapshot of version %d: only version %d is known", version, raft.SnapshotVersionMax)
	}
	out := &sink{opts: s.opts}
	err := s.opts.Latch.Write("create a snapshot", s.opts.Stall, func() (err error) {
		if out.SnapshotSink, err = s.files.Create(version, index, term, c, configurationIndex, trans); err != nil {
			return err
		}
		out.syncer = s.syncer(out.ID())
		return nil
	})
	if err != nil {
		if out.SnapshotSink != nil {
			_ = out.close()
		}
		return nil, err
	}
	return out, nil
}

// syncer opens the file of a snapshot once more, since raft's sink can't be synced
// before it ends. Without it (another store in a test) the end syncs all at once.
func (s *snapshotStore) syncer(id string) *os.File {
	f, err := os.OpenFile(filepath.Join(s.dir, id+".tmp", "state.bin"), os.O_WRONLY, 0)
	if err != nil {
		return nil
	}
	return f
}

func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	if err := s.opts.Latch.Err(); err != nil {
		return nil, err
	}
	return s.files.List()
}

func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if err := s.opts.Latch.Err(); err != nil {
		return nil, nil, err
	}
	return s.files.Open(id)
}

// sink is one snapshot being written.
type sink struct {
	raft.SnapshotSink
	opts     Options
	syncer   *os.File
	unsynced int
}

func (k *sink) write(op, what string, do func() error) error {
	start := time.Now()
	defer func() { k.opts.Observe(op, time.Since(start)) }()
	return k.opts.Latch.Write(what, k.opts.Stall, do)
}

func (k *sink) Write(p []byte) (n int, err error) {
	err = k.write("snapshot_write", "write a snapshot", func() (err error) {
		if n, err = k.SnapshotSink.Write(p); err != nil {
			return err
		}
		if k.unsynced += n; k.unsynced >= syncBytes && k.syncer != nil {
			k.unsynced = 0
			return k.syncer.Sync()
		}
		return nil
	})
	return n, err
}

// Close finalises the snapshot: it is durable when Close returns nil.
func (k *sink) Close() error {
	err := k.write("snapshot_close", "finish a snapshot", k.SnapshotSink.Close)
	return errors.Join(err, k.close())
}

func (k *sink) Cancel() error {
	err := k.write("snapshot_cancel", "cancel a snapshot", k.SnapshotSink.Cancel)
	return errors.Join(err, k.close())
}

// close gives the second descriptor back; nothing was written through it.
func (k *sink) close() error {
	if k.syncer == nil {
		return nil
	}
	f := k.syncer
	k.syncer = nil
	return f.Close()
}
