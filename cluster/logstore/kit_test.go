package logstore

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// faulty puts faults before and after the real engine (faults.md, logfault).
type faulty struct {
	engine
	mu      sync.Mutex
	before  func(op string) error // may block; an error: the real write is not done
	after   func(op string) error // an error although the real write was done
	torn    int                   // >= 0: store only so many entries of a batch, then fail
	writes  atomic.Int64          // calls that reached the disk
	deletes [][2]uint64
}

func (f *faulty) set(before, after func(op string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

func (f *faulty) write(op string, do func() error) error {
	f.mu.Lock()
	before, after := f.before, f.after
	f.mu.Unlock()
	f.writes.Add(1)
	if before != nil {
		if err := before(op); err != nil {
			return err
		}
	}
	if err := do(); err != nil {
		return err
	}
	if after != nil {
		return after(op)
	}
	return nil
}

func (f *faulty) StoreLogs(logs []*raft.Log) error {
	return f.write("store", func() error {
		if f.torn >= 0 && f.torn < len(logs) {
			if err := f.engine.StoreLogs(logs[:f.torn]); err != nil {
				return err
			}
			return fmt.Errorf("torn after %d entries", f.torn)
		}
		return f.engine.StoreLogs(logs)
	})
}

func (f *faulty) DeleteRange(low, high uint64) error {
	return f.write("delete", func() error {
		f.mu.Lock()
		f.deletes = append(f.deletes, [2]uint64{low, high})
		f.mu.Unlock()
		return f.engine.DeleteRange(low, high)
	})
}

func (f *faulty) Set(k, v []byte) error {
	return f.write("set", func() error { return f.engine.Set(k, v) })
}

func (f *faulty) SetUint64(k []byte, v uint64) error {
	return f.write("set", func() error { return f.engine.SetUint64(k, v) })
}

// fatals records calls of Options.Fatal.
type fatals struct {
	calls atomic.Int32
	first chan struct{}
}

func newFatals() *fatals { return &fatals{first: make(chan struct{})} }

func (f *fatals) call(error) {
	if f.calls.Add(1) == 1 {
		close(f.first)
	}
}

func (f *fatals) wait(t *testing.T) {
	t.Helper()
	select {
	case <-f.first:
	case <-time.After(20 * time.Second):
		t.Fatal("Fatal was not called")
	}
}

func logPath(t *testing.T) string { return filepath.Join(t.TempDir(), "raft", "log.db") }

func openStore(t *testing.T, path string, o Options) *Store {
	t.Helper()
	s, err := Open(path, o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// openFaulty is a real store whose engine can be made to fail. A failed vote
// returns at once.
func openFaulty(t *testing.T, path string, o Options) (*Store, *faulty) {
	t.Helper()
	s := openStore(t, path, o)
	f := &faulty{engine: s.engine, torn: -1}
	s.engine, s.halt = f, time.Millisecond
	return s, f
}

func entries(from, to, term uint64) []*raft.Log {
	var logs []*raft.Log
	for i := from; i <= to; i++ {
		logs = append(logs, &raft.Log{Index: i, Term: term, Type: raft.LogCommand, Data: fmt.Appendf(nil, "command %d of term %d", i, term)})
	}
	return logs
}

// assertLog reads every entry: the log is first..last without a hole.
func assertLog(t *testing.T, l raft.LogStore, first, last uint64) {
	t.Helper()
	gotFirst, err1 := l.FirstIndex()
	gotLast, err2 := l.LastIndex()
	if err1 != nil || err2 != nil || gotFirst != first || gotLast != last {
		t.Fatalf("the log is %d to %d (%v, %v), want %d to %d", gotFirst, gotLast, err1, err2, first, last)
	}
	for i := first; i <= last && i > 0; i++ {
		var e raft.Log
		if err := l.GetLog(i, &e); err != nil {
			t.Fatalf("entry %d of %d to %d: %v", i, first, last, err)
		}
	}
}
