package storage

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func open(t *testing.T, dir string, o Options) *DB {
	t.Helper()
	db, err := Open(dir, o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = db.CloseDirty() })
	return db
}

func put(t *testing.T, db *DB, rows ...string) {
	t.Helper()
	b := db.NewBatch()
	defer b.Close()
	for i := 0; i < len(rows); i += 2 {
		b.Set([]byte(rows[i]), []byte(rows[i+1]))
	}
	if err := b.Commit(); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

type scanner interface {
	Scan(lower, upper []byte, fn func(key, value []byte) error) error
}

func dump(t *testing.T, s scanner) string {
	t.Helper()
	var out []string
	if err := s.Scan(nil, nil, func(k, v []byte) error {
		out = append(out, fmt.Sprintf("%s=%s", k, v))
		return nil
	}); err != nil {
		t.Fatalf("scan: %v", err)
	}
	return strings.Join(out, " ")
}

func TestBatchIsSeenByItselfAndThenByAll(t *testing.T) {
	t.Parallel()
	db := open(t, "db", Options{FS: vfs.NewMem()})
	put(t, db, "a", "1", "b", "2", "c", "3")
	before, err := db.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	b := db.NewBatch()
	defer b.Close()
	if !b.Empty() {
		t.Error("a new batch is not empty")
	}
	b.Set([]byte("a"), []byte("one"))
	b.Delete([]byte("b"))
	b.Set([]byte("x1"), nil)
	b.DeleteRange([]byte("x"), []byte("y"))
	b.Set([]byte("d"), nil)
	if b.Empty() {
		t.Error("a written batch is empty")
	}
	if got, want := dump(t, b), "a=one c=3 d="; got != want {
		t.Errorf("the batch reads %q, want %q", got, want)
	}
	if _, err := b.Get([]byte("b")); !errors.Is(err, ErrNotFound) {
		t.Errorf("a row that the batch deleted: %v", err)
	}
	if got, want := dump(t, db), "a=1 b=2 c=3"; got != want {
		t.Errorf("before the commit all read %q, want %q", got, want)
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(); err == nil {
		t.Error("a batch was committed twice")
	}
	if got, want := dump(t, db), "a=one c=3 d="; got != want {
		t.Errorf("after the commit all read %q, want %q", got, want)
	}
	if got, want := dump(t, before), "a=1 b=2 c=3"; got != want {
		t.Errorf("the older snapshot reads %q, want %q", got, want)
	}
	if v, err := before.Get([]byte("a")); err != nil || string(v) != "1" {
		t.Errorf("the older snapshot gives %q, %v", v, err)
	}
	if err := errors.Join(before.Close(), before.Close()); err != nil {
		t.Errorf("close the snapshot: %v", err)
	}
	if _, err := before.Get([]byte("a")); !errors.Is(err, ErrClosed) {
		t.Errorf("read a closed snapshot: %v", err)
	}
}

func TestScanBoundsAndEnds(t *testing.T) {
	t.Parallel()
	db := open(t, "db", Options{FS: vfs.NewMem()})
	put(t, db, "a", "", "b", "", "c", "", "d", "")
	boom := errors.New("boom")
	tests := []struct {
		name         string
		lower, upper string
		stopAt       string
		stop         error
		want         string
		err          error
	}{
		{name: "the lower bound is in, the upper is not", lower: "b", upper: "d", want: "bc"},
		{name: "ErrStop ends early without an error", stopAt: "b", stop: ErrStop, want: "ab"},
		{name: "another error ends early and is given back", stopAt: "a", stop: boom, want: "a", err: boom},
		{name: "a range whose end lies before its beginning calls nothing", lower: "c", upper: "b", want: ""},
		{name: "an empty range calls nothing", lower: "x", want: ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got bytes.Buffer
			var upper []byte
			if tt.upper != "" {
				upper = []byte(tt.upper)
			}
			err := db.Scan([]byte(tt.lower), upper, func(k, _ []byte) error {
				got.Write(k)
				if string(k) == tt.stopAt {
					return tt.stop
				}
				return nil
			})
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) || got.String() != tt.want {
				t.Errorf("%q, %v; want %q, %v", got.String(), err, tt.want, tt.err)
			}
		})
	}
}

func TestCloseMakesAllDurableAndEverythingAfterItIsRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "db")
	db := open(t, dir, Options{})
	put(t, db, "a", "1")
	b := db.NewBatch()
	b.Set([]byte("z"), nil)
	snap, err := db.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if s := db.Stats(); s.DiskBytes == 0 || s.MemTableBytes == 0 || s.OpenSnapshots != 1 {
		t.Errorf("stats of an open store: %+v", s)
	}
	if err := db.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
	none := func([]byte, []byte) error { return nil }
	late := db.NewBatch()
	late.Set([]byte("a"), nil)
	_, getErr := db.Get([]byte("a"))
	_, snapErr := db.Snapshot()
	_, snapGetErr := snap.Get([]byte("a"))
	_, batchGetErr := b.Get([]byte("a"))
	_, flushErr := db.AsyncFlush()
	for what, err := range map[string]error{
		"get": getErr, "scan": db.Scan(nil, nil, none), "flush": db.Flush(), "async flush": flushErr,
		"snapshot": snapErr, "get of an open snapshot": snapGetErr, "scan of an open snapshot": snap.Scan(nil, nil, none),
		"get of an open batch": batchGetErr, "scan of an open batch": b.Scan(nil, nil, none),
		"commit of an open batch": b.Commit(), "commit of a late batch": late.Commit(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after close: %v", what, err)
		}
	}
	b.Close()
	late.Close()
	if err := snap.Close(); err != nil {
		t.Errorf("close a snapshot after its store: %v", err)
	}
	if s := db.Stats(); s != (Stats{}) {
		t.Errorf("stats of a closed store: %+v", s)
	}
	again := open(t, dir, Options{})
	if got := dump(t, again); got != "a=1" {
		t.Errorf("after close and open: %q", got)
	}
}

// TestCloseUnderLoad would show a panic of Pebble, a deadlock of a scan whose
// function reads, or a reader that outlives Close.
func TestCloseUnderLoad(t *testing.T) {
	t.Parallel()
	db := open(t, "db", Options{FS: vfs.NewMem()})
	for i := range 100 {
		put(t, db, strconv.Itoa(i), "v")
	}
	var group sync.WaitGroup
	started := make(chan struct{}, 8)
	for range 8 {
		group.Go(func() {
			for first := true; ; first = false {
				err := db.Scan(nil, nil, func(k, _ []byte) error {
					if _, err := db.Get(k); err != nil {
						return err
					}
					b := db.NewBatch()
					defer b.Close()
					b.Set(k, []byte("w"))
					return b.Commit()
				})
				if first {
					started <- struct{}{}
				}
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Errorf("scan: %v", err)
					return
				}
			}
		})
	}
	for range 8 {
		<-started
	}
	if err := db.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	group.Wait()
}

func TestSecondOpenNamesTheHolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open(t, dir, Options{})
	_, err := Open(dir, Options{})
	if err == nil {
		t.Fatal("two stores in one directory")
	}
	if _, statErr := os.Stat("/proc/locks"); statErr == nil && !strings.Contains(err.Error(), fmt.Sprintf("process %d has it open", os.Getpid())) {
		t.Errorf("the holder is not named: %v", err)
	}
}

func TestLockHolder(t *testing.T) {
	t.Parallel()
	const locks = "1: POSIX  ADVISORY  WRITE 11 08:01:77 0 EOF\n" +
		"2: FLOCK  ADVISORY  WRITE 22 08:01:78 0 EOF\n2: -> FLOCK  ADVISORY  WRITE 33 08:01:79 0 EOF\n" +
		"3: FLOCK  ADVISORY  WRITE -1 08:01:80 0 EOF\ngarbage\n"
	for file, want := range map[string]int{"08:01:77": 11, "08:01:78": 22, "08:01:79": 0, "08:01:80": 0, "08:01:8": 0} {
		if got := lockHolder(strings.NewReader(locks), file); got != want {
			t.Errorf("holder of %s: %d, want %d", file, got, want)
		}
	}
	if got := LockHolder(filepath.Join(t.TempDir(), "none")); got != 0 {
		t.Errorf("holder of a file that is not there: %d", got)
	}
}

func TestMisusedBatchesAreRefusedAtCommit(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		write func(b *Batch)
		want  error
	}{
		{"a row without a key", func(b *Batch) { b.Set(nil, []byte("v")) }, errEmptyKey},
		{"a range without an end", func(b *Batch) { b.DeleteRange([]byte("a"), PrefixEnd([]byte{0xFF})) }, errNoUpper},
		{"a closed batch", func(b *Batch) { b.Close(); b.Close() }, errBatchDone},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := open(t, "db", Options{FS: vfs.NewMem()})
			put(t, db, "z", "1")
			b := db.NewBatch()
			defer b.Close()
			b.Set([]byte("a"), nil)
			tt.write(b)
			b.Set([]byte("b"), nil)
			if err := b.Commit(); !errors.Is(err, tt.want) {
				t.Errorf("commit: %v, want %v", err, tt.want)
			}
			if got := dump(t, db); got != "z=1" {
				t.Errorf("half of a refused batch is there: %q", got)
			}
		})
	}
}

func TestEmptyKeysAndRangesMatchNothing(t *testing.T) {
	t.Parallel()
	db := open(t, "db", Options{FS: vfs.NewMem()})
	put(t, db, "a", "1", "b", "2")
	if _, err := db.Get(nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("get of an empty key: %v", err)
	}
	b := db.NewBatch()
	defer b.Close()
	b.Delete(nil)
	b.DeleteRange([]byte("b"), []byte("b"))
	b.DeleteRange([]byte("c"), []byte("a"))
	b.DeleteRange(nil, []byte("b"))
	if err := errors.Join(b.Commit(), db.Flush()); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, db); got != "b=2" {
		t.Errorf("left: %q", got)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{"stall": {Stall: -1}, "cache": {CacheBytes: -1}, "memtable": {MemTableBytes: -1}} {
		o.FS = vfs.NewMem()
		if _, err := Open("db", o); err == nil {
			t.Errorf("%s: a negative value was taken", name)
		}
	}
}

func within(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s did not happen", what)
	}
}
