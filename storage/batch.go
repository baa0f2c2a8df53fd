package storage

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Batch is a set of changes that become visible, and survive a crash, together or
// not at all. Its reads see its own changes over the state of the DB at the time
// of the read. Use it from one goroutine, and Close it always.
type Batch struct {
	db     *DB
	pebble *pebble.Batch
	err    error // first misuse, or why it is done

	indexed bool // for reads; a batch in which nothing is read needs no index
}

var (
	errBatchDone = errors.New("storage: the batch is committed or closed")
	errNoUpper   = errors.New("storage: a range deletion must have an upper bound")
	errEmptyKey  = errors.New("storage: a row must have a key") // Pebble's tables can't hold an empty one
)

// NewBatch returns an empty batch.
func (d *DB) NewBatch() *Batch {
	if err := d.enter(); err != nil {
		return &Batch{db: d, err: err}
	}
	defer d.guard.leave()
	return &Batch{db: d, pebble: d.pebble.NewBatch()}
}

func (b *Batch) enter() error {
	if b.err != nil {
		return b.err
	}
	return b.db.enter()
}

// index makes the batch readable, once.
func (b *Batch) index() error {
	if b.indexed {
		return nil
	}
	indexed := b.db.pebble.NewIndexedBatch()
	if err := indexed.Apply(b.pebble, nil); err != nil {
		return errors.Join(fmt.Errorf("index the batch: %w", err), indexed.Close())
	}
	old := b.pebble
	b.pebble, b.indexed = indexed, true
	return old.Close()
}

// Get is DB.Get over the batch.
func (b *Batch) Get(key []byte) ([]byte, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.db.guard.leave()
	if err := b.index(); err != nil {
		return nil, err
	}
	return b.db.get(b.pebble, key)
}

// Scan is DB.Scan over the batch. What fn writes to the batch is not seen by it.
func (b *Batch) Scan(lower, upper []byte, fn func(key, value []byte) error) error {
	if err := b.enter(); err != nil {
		return err
	}
	defer b.db.guard.leave()
	if err := b.index(); err != nil {
		return err
	}
	return b.db.scan(b.pebble, lower, upper, fn)
}

// Set puts a row. Errors are kept and come out at Commit.
func (b *Batch) Set(key, value []byte) {
	if len(key) == 0 && b.err == nil {
		b.err = errEmptyKey
	}
	if b.err == nil {
		b.err = b.pebble.Set(key, value, nil)
	}
}

// Delete removes a row, there or not.
func (b *Batch) Delete(key []byte) {
	if b.err == nil && len(key) > 0 {
		b.err = b.pebble.Delete(key, nil)
	}
}

// DeleteRange removes the rows with lower <= key < upper, this batch's among them.
// The upper bound must be given: without one, a whole store would go by mistake.
func (b *Batch) DeleteRange(lower, upper []byte) {
	switch {
	case b.err != nil:
	case len(upper) == 0:
		b.err = errNoUpper
	case bytes.Compare(lower, upper) < 0:
		b.err = b.pebble.DeleteRange(lower, upper, nil)
	}
}

// Empty reports whether nothing was written to the batch.
func (b *Batch) Empty() bool { return b.pebble == nil || b.pebble.Empty() }

// Commit makes the changes visible to all. They are durable after the next Flush.
// A batch is committed once; after an error none of it is to be relied on.
func (b *Batch) Commit() error {
	if err := b.enter(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	defer b.db.guard.leave()
	b.err = errBatchDone
	return b.db.outcome("commit", commit(b.pebble))
}

func commit(p *pebble.Batch) (err error) {
	defer recovered(&err)
	return p.Commit(pebble.NoSync)
}

// Close releases the batch; what was not committed is gone. It may be called twice.
func (b *Batch) Close() {
	if b.pebble != nil {
		_ = b.pebble.Close()
		b.pebble = nil
	}
	if b.err == nil {
		b.err = errBatchDone
	}
}

// Snapshot is the state of the DB at one moment. A long one holds disk space, so
// Close it. Safe for concurrent use.
type Snapshot struct {
	db     *DB
	pebble *pebble.Snapshot
	guard  *guard
}

// Snapshot returns the state as it is now.
func (d *DB) Snapshot() (*Snapshot, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.guard.leave()
	s := &Snapshot{db: d, pebble: d.pebble.NewSnapshot(), guard: newGuard()}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.snapshots[s] = struct{}{}
	return s, nil
}

func (s *Snapshot) enter() error {
	if !s.guard.enter() {
		return ErrClosed
	}
	if err := s.db.enter(); err != nil {
		s.guard.leave()
		return err
	}
	return nil
}

func (s *Snapshot) leave() {
	s.db.guard.leave()
	s.guard.leave()
}

// Get is DB.Get at the moment of the snapshot.
func (s *Snapshot) Get(key []byte) ([]byte, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	return s.db.get(s.pebble, key)
}

// Scan is DB.Scan at the moment of the snapshot.
func (s *Snapshot) Scan(lower, upper []byte, fn func(key, value []byte) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return s.db.scan(s.pebble, lower, upper, fn)
}

// Close waits for the reads that are inside and releases the snapshot. It may be
// called twice, and after the DB was closed.
func (s *Snapshot) Close() error {
	if !s.guard.shut() {
		return nil
	}
	<-s.guard.idle
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	if _, open := s.db.snapshots[s]; !open {
		return nil // the DB was closed and took it along
	}
	delete(s.db.snapshots, s)
	return s.pebble.Close()
}
