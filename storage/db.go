// Package storage keeps ordered bytes on disk: keys to values, in one Pebble
// database a node. It knows no domain word; tables and records are fsm/state's.
//
// Durability. Pebble's WAL is off: the Raft log is the WAL. A Batch is atomic: after
// a crash all of it is there or nothing, and a batch is never there without all
// that were committed before it. It is durable once a Flush that began after its
// Commit has ended; Close flushes.
//
// Faults (R8). The first failed write or sync, a write slower than Options.Stall,
// a corrupt table or manifest, or Pebble's Logger.Fatalf closes the store's Latch:
// Options.Fatal is called once and every later call gives an error that wraps
// ErrBroken. Nothing is tried twice, and the process is expected to end.
//
// Tables are ingested in one place only, Build, into a fresh directory (K32):
// ingested into a live store without a WAL, they would be durable ahead of batches
// that were committed before them.
//
// Sizes are bytes. DB and Snapshot are safe for concurrent use, a Batch is not. Key
// and value slices that are passed in are copied, those handed to the function of
// a Scan are valid only until it returns.
package storage

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

var (
	// ErrNotFound says that there is no row with this key.
	ErrNotFound = errors.New("no such row")
	// ErrClosed is given by every call after or during Close.
	ErrClosed = errors.New("the store is closed")
	// ErrStop, returned by the function of a Scan, ends the scan without an error.
	ErrStop = errors.New("stop the scan")
)

// Options of a store. The zero value is usable.
type Options struct {
	FS            vfs.FS        // nil: the real disk
	Fatal         func(error)   // called once, on its own goroutine, when the store is broken; unused when Latch is given
	Latch         *Latch        // shared with the other durable stores of the node; nil: one of its own
	Stall         time.Duration // a write that takes longer breaks the store; 0: 10 s
	CacheBytes    int64         // block cache; 0: 16 MiB
	MemTableBytes int64         // one memtable; at most four are live; 0: 16 MiB
	Logger        *slog.Logger  // nil: discard
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Latch == nil {
		o.Latch = NewLatch(o.Fatal)
	}
	if o.Stall == 0 {
		o.Stall = defaultStall
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCacheBytes
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = defaultMemTableBytes
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o Options) check() error {
	if o.Stall < 0 || o.CacheBytes < 0 || o.MemTableBytes < 0 {
		return errors.New("storage: stall limit, cache and memtable size must not be negative")
	}
	return nil
}

// DB is an open store. See the package comment.
type DB struct {
	pebble   *pebble.DB
	dir      string
	opts     Options
	trips    *trips
	counters *counters
	guard    *guard
	release  func()

	mu        sync.Mutex
	snapshots map[*Snapshot]struct{} // open ones, closed by Close
	end       chan struct{}          // closed when Close or CloseDirty has ended
	endErr    error
}

// Open opens the store in dir and creates it when there is none. Errors: another
// process has it open (its pid is named where the system tells it), or the store
// is damaged or of another format; then quarantine the directory and let the node
// rejoin by snapshot. Fatal is not called for an error that Open returns.
func Open(dir string, o Options) (*DB, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	if err := o.Latch.Err(); err != nil {
		return nil, err
	}
	db := &DB{
		dir: dir, opts: o, trips: &trips{latch: o.Latch}, counters: new(counters),
		guard: newGuard(), snapshots: map[*Snapshot]struct{}{}, end: make(chan struct{}),
	}
	if err := makeDir(o.FS, dir); err != nil {
		return nil, fmt.Errorf("create the directory of the store: %w", err)
	}
	opts, release := pebbleOptions(o, db.trips, db.counters)
	db.release = release
	var err error
	if db.pebble, err = openPebble(dir, opts); err != nil {
		release()
		return nil, openError(o.FS, dir, err)
	}
	db.trips.armed.Store(true)
	return db, nil
}

// openPebble turns a panic of Pebble on damaged files into an error.
func openPebble(dir string, opts *pebble.Options) (p *pebble.DB, err error) {
	defer recovered(&err)
	return pebble.Open(dir, opts)
}

func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("pebble panicked: %v", r)
	}
}

func openError(fs vfs.FS, dir string, err error) error {
	if fs == vfs.Default {
		if pid := LockHolder(fs.PathJoin(dir, "LOCK")); pid != 0 {
			return fmt.Errorf("open the store in %s: process %d has it open; stop that process or choose another data directory: %w", dir, pid, err)
		}
	}
	return fmt.Errorf("open the store in %s: %w", dir, err)
}

// enter is called by everything that goes into Pebble; on nil, leave follows.
func (d *DB) enter() error {
	if !d.guard.enter() {
		return ErrClosed
	}
	if err := d.trips.latch.Err(); err != nil {
		d.guard.leave()
		return err
	}
	return nil
}

// outcome is the error to give for what Pebble answered: a late answer of a store
// that broke meanwhile is not to be trusted, and an error is a broken store.
func (d *DB) outcome(what string, err error) error {
	if err != nil {
		return d.trips.trip(fmt.Errorf("%s: %w", what, err))
	}
	return d.trips.latch.Err()
}

// Get returns a copy of the value of key. Errors: ErrNotFound, ErrClosed, ErrBroken.
func (d *DB) Get(key []byte) ([]byte, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.guard.leave()
	return d.get(d.pebble, key)
}

func (d *DB) get(r pebble.Reader, key []byte) (value []byte, err error) {
	if len(key) == 0 {
		return nil, ErrNotFound // there is no row without a key
	}
	found, err := readRow(r, key, &value)
	if err := d.outcome("read", err); err != nil {
		return nil, err
	}
	if !found {
		return nil, ErrNotFound
	}
	return value, nil
}

func readRow(r pebble.Reader, key []byte, into *[]byte) (found bool, err error) {
	defer recovered(&err)
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	*into = append(make([]byte, 0, len(v)), v...)
	return true, closer.Close()
}

// Scan calls fn for each row with lower <= key < upper, in key order; an empty
// bound is none. It sees the state at its start. It ends at the first error of fn and
// returns it, but for ErrStop. fn may read from the store; it must not close it. A
// scan during which the store is closed ends with ErrClosed.
func (d *DB) Scan(lower, upper []byte, fn func(key, value []byte) error) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.guard.leave()
	return d.scan(d.pebble, lower, upper, fn)
}

func (d *DB) scan(r pebble.Reader, lower, upper []byte, fn func(key, value []byte) error) error {
	if len(lower) == 0 {
		lower = nil
	}
	if len(upper) == 0 {
		upper = nil
	}
	if upper != nil && bytes.Compare(lower, upper) >= 0 {
		return nil
	}
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return d.outcome("scan", err)
	}
	fnErr, err := d.rows(it, fn)
	if closeErr := it.Close(); err == nil {
		err = closeErr
	}
	if err := d.outcome("scan", err); err != nil {
		return err
	}
	if errors.Is(fnErr, ErrStop) {
		return nil
	}
	return fnErr
}

// rows tells the error of fn from one of the store.
func (d *DB) rows(it *pebble.Iterator, fn func(key, value []byte) error) (fnErr, err error) {
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		if d.guard.closed() {
			return ErrClosed, nil
		}
		if fnErr := fn(it.Key(), value); fnErr != nil {
			return fnErr, nil
		}
	}
	return nil, it.Error()
}

// AsyncFlush starts to make durable all that is committed now and returns at once
// (R5). The channel is closed when it is done. It is never closed when the store
// breaks, or is closed without a flush, before that: wait for Done as well.
func (d *DB) AsyncFlush() (<-chan struct{}, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.guard.leave()
	flushed, err := d.pebble.AsyncFlush()
	return flushed, d.outcome("flush", err)
}

// Flush makes durable all that is committed now, and waits for it.
func (d *DB) Flush() error {
	flushed, err := d.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-flushed:
		return d.trips.latch.Err()
	case <-d.trips.latch.Done():
		return d.trips.latch.Err()
	case <-d.end:
		select {
		case <-flushed: // the flush of Close did it
			return nil
		default:
			return ErrClosed
		}
	}
}

// Done is closed when the store is broken: then no flush will ever end.
func (d *DB) Done() <-chan struct{} { return d.trips.latch.Done() }

// Err returns nil while the store is sound, else the error that broke it.
func (d *DB) Err() error { return d.trips.latch.Err() }

// Close waits for the calls that are inside, flushes and closes. Later calls give
// ErrClosed, as do open batches and snapshots. A broken store is closed without a
// flush, and Close returns what broke it, after Options.Stall at the latest even
// when the disk hangs. A second Close waits for the first and returns its result.
func (d *DB) Close() error { return d.close(true) }

// CloseDirty is Close without the flush: what was not flushed is lost, as in a
// crash. For halting after a fault and for tests.
func (d *DB) CloseDirty() error { return d.close(false) }

func (d *DB) close(flush bool) error {
	if !d.guard.shut() {
		<-d.end
		return d.endErr
	}
	closed := make(chan error, 1)
	go func() { closed <- d.finish(flush) }()
	select {
	case d.endErr = <-closed:
	case <-d.hopeless():
		d.endErr = d.trips.latch.Err()
	}
	close(d.end)
	return d.endErr
}

// hopeless is closed when the store has been broken for the stall limit.
func (d *DB) hopeless() <-chan struct{} {
	given := make(chan struct{})
	go func() {
		select {
		case <-d.end:
			return
		case <-d.trips.latch.Done():
		}
		wait := time.NewTimer(d.opts.Stall)
		defer wait.Stop()
		select {
		case <-d.end:
		case <-wait.C:
			close(given)
		}
	}()
	return given
}

func (d *DB) finish(flush bool) (err error) {
	<-d.guard.idle
	if flush && d.trips.latch.Err() == nil {
		if err = d.flushInside(); err != nil {
			err = fmt.Errorf("flush before closing: %w", err)
		}
	}
	d.mu.Lock()
	for s := range d.snapshots {
		_ = s.pebble.Close()
	}
	d.snapshots = nil
	d.mu.Unlock()
	closeErr := d.closePebble()
	if err == nil && closeErr != nil {
		err = fmt.Errorf("close the store in %s: %w", d.dir, closeErr)
	}
	if broken := d.trips.latch.Err(); broken != nil {
		return broken
	}
	return err
}

func (d *DB) flushInside() error {
	flushed, err := d.pebble.AsyncFlush()
	if err != nil {
		return d.outcome("flush", err)
	}
	select {
	case <-flushed:
		return d.trips.latch.Err()
	case <-d.trips.latch.Done():
		return d.trips.latch.Err()
	}
}

func (d *DB) closePebble() (err error) {
	defer d.release()
	defer recovered(&err)
	return d.pebble.Close()
}
