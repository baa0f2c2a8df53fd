// Package logstore keeps the Raft log, the vote and the snapshots of a node on
// disk, so that a bad disk stops the node rather than harm the cluster. It wraps
// raft-boltdb and raft's file snapshot store.
//
// Faults (R8). All stores here share a storage.Latch: the first write or sync that
// fails, a write that has not returned within Options.Stall, and an entry that does
// not match its checksum close it. Options.Fatal is then called once, on a
// goroutine of its own, and should end the process; every later call gives an
// error that wraps storage.ErrBroken and touches no disk. Without it raft would log
// the error and win the next election with the same disk (hashicorp/raft #614), or
// lead for ever with a hung one (#503).
//
// Checksums (R9). bbolt checksums its meta pages only, so each entry carries a
// CRC32C over index, term, type and data in Log.Extensions, which raft replicates.
// It is checked when an entry is stored and when it is read; a bad one is never
// handed out. The cache lies outside the checks: it holds entries that passed them.
//
// One contiguous log (R10). Entries are deleted in transactions of at most 1,000,
// a prefix from its lowest, a suffix from its highest, so that writers get in
// between and a crash leaves no hole. The log calls itself monotonic to raft: after
// a restore or an installed snapshot raft then removes all older entries instead of
// leaving a hole, and FirstIndex can be trusted at start-up (R4). Where a crash
// came before that removal, the next append does it. Commit tracking
// (RestoreCommittedLogs) is left out: raft-boltdb can't write the commit index in
// the transaction of the entries, and a node serves nothing before it has asked
// the leader anyway (R13).
//
// All types are safe for concurrent use.
package logstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"github.com/keyraft/keyraft/storage"
)

// ErrClosed is given by every call after Close of a sound store.
var ErrClosed = errors.New("the log store is closed")

const (
	defaultStall = 10 * time.Second // storage.stall_limit of R8
	defaultCache = 1024             // entries: what a follower lags in normal running
	chunk        = 1000             // entries a delete transaction (R10)
	lockWait     = time.Second      // K26: a second process is told within 2 s
	haltWait     = 10 * time.Second // see Store.hold
)

// Options of the stores. The zero value is usable.
type Options struct {
	Fatal        func(error)                      // called once when the disk failed or hung; unused when Latch is given
	Latch        *storage.Latch                   // shared by all durable stores of the node; nil: one of its own
	Stall        time.Duration                    // a write that takes longer closes the latch; 0: 10 s
	Observe      func(op string, d time.Duration) // after each operation, for a histogram: store_logs, get_log, delete_range, set, get, snapshot_write, snapshot_close; nil: none
	Fault        func(op string) error            // tests put faults here: called before each write, under the latch; nil: none
	CacheEntries int                              // recent entries kept in memory; 0: 1,024
	Logger       hclog.Logger                     // of the file snapshot store; nil: discard
}

func (o Options) withDefaults() (Options, error) {
	if o.Stall < 0 || o.CacheEntries < 0 {
		return o, errors.New("log store: stall limit and cache size must not be negative")
	}
	if o.Latch == nil {
		o.Latch = storage.NewLatch(o.Fatal)
	}
	if o.Stall == 0 {
		o.Stall = defaultStall
	}
	if o.CacheEntries == 0 {
		o.CacheEntries = defaultCache
	}
	if o.Observe == nil {
		o.Observe = func(string, time.Duration) {}
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	return o, o.Latch.Err()
}

// engine is what Store needs of raft-boltdb; tests put faults here.
type engine interface {
	raft.LogStore
	raft.StableStore
	Stats() bbolt.Stats
	Close() error
}

// Store is the log and the stable store of a node, in one bbolt file.
type Store struct {
	engine engine
	path   string
	opts   Options
	log    *log
	closed atomic.Bool
	halt   time.Duration
	end    chan struct{} // closed by Close
}

// Open opens the file at path and creates it, and its directory, when there is
// none. With an unsynced freelist, opening reads the whole file: seconds for
// several GB. Errors: another process has the file open (told within two seconds,
// with its pid where the system knows it), or the file is damaged; then quarantine
// the data directory and let the node rejoin by snapshot. Fatal is not called for
// an error that Open returns.
func Open(path string, o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("create the directory of the raft log: %w", err)
	}
	bolt, err := openBolt(path)
	if err != nil {
		return nil, err
	}
	return newStore(bolt, path, o), nil
}

func newStore(e engine, path string, o Options) *Store {
	s := &Store{engine: e, path: path, opts: o, halt: haltWait, end: make(chan struct{})}
	s.log = &log{s: s}
	return s
}

// enter refuses calls to a closed or broken store.
func (s *Store) enter() error {
	if err := s.opts.Latch.Err(); err != nil {
		return err
	}
	if s.closed.Load() {
		return ErrClosed
	}
	return nil
}

// write runs one write of the engine under the latch.
func (s *Store) write(op string, do func() error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.observe(op, time.Now())
	lost := false // the store was closed before the write got in
	err := s.opts.Latch.Write("raft log: "+op, s.opts.Stall, func() error {
		err := s.fault(op)
		if err == nil {
			err = guarded(do)
		}
		if err != nil && s.closed.Load() {
			lost = true
			return nil
		}
		return err
	})
	if err == nil && lost {
		return ErrClosed
	}
	return err
}

func (s *Store) fault(op string) error {
	if s.opts.Fault == nil {
		return nil
	}
	return s.opts.Fault(op)
}

// read runs one read of the engine. An error that means damage closes the latch;
// those named in fine are answers.
func (s *Store) read(op string, do func() error, fine ...error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.observe(op, time.Now())
	err := guarded(do)
	for _, f := range fine {
		if errors.Is(err, f) {
			return f // raft compares with ==
		}
	}
	if err != nil {
		if s.closed.Load() {
			return ErrClosed
		}
		return s.opts.Latch.Trip(fmt.Errorf("raft log: %s: %w", op, err))
	}
	return s.opts.Latch.Err()
}

func (s *Store) observe(op string, start time.Time) { s.opts.Observe(op, time.Since(start)) }

// Stats are numbers for metrics. The file never shrinks: free pages are used again.
type Stats struct {
	FileBytes    int64
	FreePages    int
	PendingPages int // free once the readers that may see them are gone
	FreeBytes    int64
	OpenReads    int
	FirstIndex   uint64
	LastIndex    uint64
}

// Size returns the bytes of the file.
func (s *Store) Size() (int64, error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return 0, fmt.Errorf("size of the raft log: %w", err)
	}
	return info.Size(), nil
}

// Stats returns the numbers of now.
func (s *Store) Stats() (Stats, error) {
	size, err := s.Size()
	if err != nil {
		return Stats{}, err
	}
	first, err := s.log.FirstIndex()
	if err != nil {
		return Stats{}, err
	}
	last, err := s.log.LastIndex()
	if err != nil {
		return Stats{}, err
	}
	b := s.engine.Stats()
	return Stats{
		FileBytes: size, FreePages: b.FreePageN, PendingPages: b.PendingPageN, FreeBytes: int64(b.FreeAlloc),
		OpenReads: b.OpenTxN, FirstIndex: first, LastIndex: last,
	}, nil
}

// Err returns nil while the store is sound, else the error that broke it.
func (s *Store) Err() error { return s.opts.Latch.Err() }

// Close waits for the transactions that run and closes the file. Later calls give
// ErrClosed. When the store is broken, Close waits no longer than Options.Stall
// and returns what broke it: a hung disk must not keep the process from ending. To
// halt one node of several in a process, call raft's Shutdown, then Close, and only
// then wait for the Shutdown: raft may be held in a write until the Close.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	close(s.end)
	closed := make(chan error, 1)
	go func() { closed <- guarded(s.engine.Close) }()
	select {
	case err := <-closed:
		if broken := s.opts.Latch.Err(); broken != nil {
			return broken
		}
		return err
	case <-s.opts.Latch.Done():
	}
	wait := time.NewTimer(s.opts.Stall)
	defer wait.Stop()
	select {
	case err := <-closed:
		return errors.Join(s.opts.Latch.Err(), err)
	case <-wait.C:
		return s.opts.Latch.Err()
	}
}
