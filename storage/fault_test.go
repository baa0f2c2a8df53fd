package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// fatalCount records calls of Options.Fatal.
type fatalCount struct {
	calls atomic.Int32
	first chan struct{}
	err   atomic.Value
}

func newFatalCount() *fatalCount { return &fatalCount{first: make(chan struct{})} }

func (f *fatalCount) call(err error) {
	if f.calls.Add(1) == 1 {
		f.err.Store(err)
		close(f.first)
	}
}

// TestBatchIsAtomicAcrossACrash: index and change of an entry are in one batch;
// after a power loss at any moment the change is there exactly up to the index.
func TestBatchIsAtomicAcrossACrash(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 0))
			disk := vfs.NewCrashableMem()
			db := open(t, "db", Options{FS: disk, MemTableBytes: 64 << 10})
			flushed, written := uint64(0), uint64(600)
			value := make([]byte, 256)
			for i := uint64(1); i <= written; i++ {
				b := db.NewBatch()
				b.Set([]byte("index"), AppendUint64(nil, i))
				b.Set(AppendUint64([]byte("row"), i), value)
				if err := b.Commit(); err != nil {
					t.Fatal(err)
				}
				b.Close()
				if rng.IntN(200) == 0 {
					if err := db.Flush(); err != nil {
						t.Fatal(err)
					}
					flushed = i
				}
			}
			crashed := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			after := open(t, "db", Options{FS: crashed})
			index := uint64(0)
			if v, err := after.Get([]byte("index")); err == nil {
				index = binary.BigEndian.Uint64(v)
			} else if !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
			if index < flushed {
				t.Errorf("index %d after the crash, though %d was flushed", index, flushed)
			}
			next := uint64(1)
			if err := after.Scan([]byte("row"), []byte("rox"), func(k, _ []byte) error {
				if got := binary.BigEndian.Uint64(k[3:]); got != next {
					return fmt.Errorf("row %d where %d must follow", got, next)
				}
				next++
				return nil
			}); err != nil {
				t.Error(err)
			}
			if next-1 != index {
				t.Errorf("rows up to %d, but the index says %d", next-1, index)
			}
		})
	}
}

func TestACleanCloseSurvivesThePowerLossAfterIt(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	db := open(t, "db", Options{FS: disk})
	put(t, db, "a", "1")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	after := open(t, "db", Options{FS: disk.CrashClone(vfs.CrashCloneCfg{})})
	if got := dump(t, after); got != "a=1" {
		t.Errorf("after close and power loss: %q", got)
	}
}

func TestCloseDirtyLosesWhatWasNotFlushed(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	db := open(t, "db", Options{FS: disk})
	put(t, db, "a", "1")
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	put(t, db, "b", "2")
	if err := db.CloseDirty(); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, open(t, "db", Options{FS: disk})); got != "a=1" {
		t.Errorf("after a dirty close: %q; the WAL must be off", got)
	}
}

// TestFirstWriteErrorBreaksTheStore is R8 and K31: each kind of failed write, the
// manifest's (which Pebble answers with Fatalf) among them, calls Fatal exactly
// once, ends the flush that waits, and then everything is refused.
func TestFirstWriteErrorBreaksTheStore(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file string
		kind       errorfs.OpKind
	}{
		{"create of a table", ".sst", errorfs.OpCreate},
		{"write of a table", ".sst", errorfs.OpFileWrite},
		{"sync of a table", ".sst", errorfs.OpFileSync},
		{"write of the manifest", "MANIFEST", errorfs.OpFileWrite},
		{"sync of the manifest", "MANIFEST", errorfs.OpFileSync},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var hits atomic.Int32
			inject := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
				kind := op.Kind
				if kind == errorfs.OpFileSyncData {
					kind = errorfs.OpFileSync
				}
				if kind == tt.kind && strings.Contains(op.Path, tt.file) {
					hits.Add(1)
					return syscall.EIO
				}
				return nil
			})}
			fatal := newFatalCount()
			db := open(t, "db", Options{FS: errorfs.Wrap(vfs.NewMem(), inject), Fatal: fatal.call, Stall: 5 * time.Second})
			put(t, db, "a", "1")
			inject.On()
			if err := db.Flush(); !errors.Is(err, ErrBroken) || !errors.Is(err, syscall.EIO) {
				t.Errorf("flush: %v", err)
			}
			within(t, "Fatal", fatal.first)
			inject.Off()
			assertBroken(t, db)
			if n := hits.Load(); n != 1 {
				t.Errorf("%d writes reached the disk after the first failed one; a failed write must not be tried again", n-1)
			}
			if err := db.Close(); !errors.Is(err, ErrBroken) {
				t.Errorf("close: %v", err)
			}
			if n := fatal.calls.Load(); n != 1 {
				t.Errorf("Fatal was called %d times", n)
			}
		})
	}
}

func assertBroken(t *testing.T, db *DB) {
	t.Helper()
	_, getErr := db.Get([]byte("a"))
	_, snapErr := db.Snapshot()
	_, flushErr := db.AsyncFlush()
	b := db.NewBatch()
	defer b.Close()
	b.Set([]byte("b"), nil)
	for what, err := range map[string]error{
		"get": getErr, "snapshot": snapErr, "async flush": flushErr, "flush": db.Flush(), "commit": b.Commit(),
		"scan": db.Scan(nil, nil, func([]byte, []byte) error { return nil }), "Err": db.Err(),
	} {
		if !errors.Is(err, ErrBroken) {
			t.Errorf("%s of a broken store: %v", what, err)
		}
	}
	within(t, "Done", db.Done())
}

// TestAWriteThatHangsBreaksTheStore: the latch closes while the write is blocked,
// and Close does not wait for it for ever.
func TestAWriteThatHangsBreaksTheStore(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var once sync.Once
	inject := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".sst") {
			<-release
		}
		return nil
	})}
	fatal := newFatalCount()
	db := open(t, "db", Options{FS: errorfs.Wrap(vfs.NewMem(), inject), Fatal: fatal.call, Stall: 100 * time.Millisecond})
	free := func() { once.Do(func() { close(release) }) }
	defer free()
	put(t, db, "a", "1")
	inject.On()
	if err := db.Flush(); !errors.Is(err, ErrBroken) {
		t.Errorf("flush: %v", err)
	}
	within(t, "Fatal", fatal.first)
	assertBroken(t, db)
	if err := db.Close(); !errors.Is(err, ErrBroken) {
		t.Errorf("close: %v", err)
	}
	free() // lets Pebble's goroutines end, which goleak checks
}

func TestAReadErrorBreaksTheStore(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	first := open(t, "db", Options{FS: disk})
	put(t, first, "a", "1", "b", "2")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	inject := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, ".sst") {
			return syscall.EIO
		}
		return nil
	})}
	fatal := newFatalCount()
	db := open(t, "db", Options{FS: errorfs.Wrap(disk, inject), Fatal: fatal.call})
	inject.On()
	if _, err := db.Get([]byte("a")); !errors.Is(err, ErrBroken) {
		t.Errorf("get: %v", err)
	}
	within(t, "Fatal", fatal.first)
	assertBroken(t, db)
}

// TestABitFlipInATableIsNeverServed: a damaged block is an error and a broken
// store, not another value.
func TestABitFlipInATableIsNeverServed(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	first := open(t, "db", Options{FS: disk})
	for i := range 200 {
		put(t, first, fmt.Sprintf("key %03d", i), strings.Repeat("v", 100))
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	flipTable(t, disk)
	fatal := newFatalCount()
	db := open(t, "db", Options{FS: disk, Fatal: fatal.call})
	err := db.Scan(nil, nil, func(_, v []byte) error {
		if string(v) != strings.Repeat("v", 100) {
			t.Errorf("a changed value was served")
		}
		return nil
	})
	if !errors.Is(err, ErrBroken) {
		t.Errorf("scan over a damaged block: %v", err)
	}
	within(t, "Fatal", fatal.first)
}

func flipTable(t *testing.T, disk *vfs.MemFS) {
	t.Helper()
	names, err := disk.List("db")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		f, err := disk.OpenReadWrite("db/"+name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		if _, err := f.ReadAt(b[:], 40); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 0x10
		if _, err := f.WriteAt(b[:], 40); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("no table on the disk")
}

// TestOpenReturnsItsErrorsWithoutFatal: whoever opens decides what to do.
func TestOpenReturnsItsErrorsWithoutFatal(t *testing.T) {
	t.Parallel()
	fatal := newFatalCount()
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSync && strings.Contains(op.Path, "MANIFEST") {
			return syscall.EIO
		}
		return nil
	})
	if _, err := Open("db", Options{FS: errorfs.Wrap(vfs.NewMem(), inject), Fatal: fatal.call}); !errors.Is(err, syscall.EIO) {
		t.Errorf("open on a failing disk: %v", err)
	}
	if n := fatal.calls.Load(); n != 0 {
		t.Errorf("Fatal was called %d times", n)
	}
}

func TestLatchIsSharedBetweenStores(t *testing.T) {
	t.Parallel()
	fatal := newFatalCount()
	latch := NewLatch(fatal.call)
	db := open(t, "db", Options{FS: vfs.NewMem(), Latch: latch})
	_ = latch.Trip(errors.New("the raft log failed"))
	within(t, "Fatal", fatal.first)
	assertBroken(t, db)
	if _, err := Open("other", Options{FS: vfs.NewMem(), Latch: latch}); !errors.Is(err, ErrBroken) {
		t.Errorf("open under a closed latch: %v", err)
	}
}
