package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/keyraft/keyraft/storage"
)

func TestStoreReopenRead(t *testing.T) {
	t.Parallel()
	path := logPath(t)
	var mu sync.Mutex
	seen := map[string]int{}
	s := openStore(t, path, Options{Observe: func(op string, _ time.Duration) { mu.Lock(); seen[op]++; mu.Unlock() }})
	l, st := s.Log(), s.Stable()
	if _, err := st.Get([]byte("vote")); err == nil || err.Error() != "not found" {
		t.Errorf("an absent key: %v; raft knows it by the text \"not found\"", err)
	}
	if n, err := st.GetUint64([]byte("term")); n != 0 || err == nil || err.Error() != "not found" {
		t.Errorf("an absent number: %d, %v", n, err)
	}
	if err := errors.Join(l.StoreLogs(entries(1, 20, 1)), l.StoreLog(entries(21, 21, 2)[0]), l.StoreLogs(nil),
		st.SetUint64([]byte("term"), 7), st.Set([]byte("vote"), []byte("n1"))); err != nil {
		t.Fatal(err)
	}
	if err := s.log.GetLog(99, &raft.Log{}); err != raft.ErrLogNotFound { // raft compares with ==
		t.Errorf("an absent entry: %v", err)
	}
	stats, err := s.Stats()
	if err != nil || stats.FileBytes == 0 || stats.FirstIndex != 1 || stats.LastIndex != 21 {
		t.Errorf("stats %+v, %v", stats, err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"store": l.StoreLogs(entries(22, 22, 2)), "get": l.GetLog(21, &raft.Log{}), "delete": l.DeleteRange(1, 2),
		"set": st.Set([]byte("k"), nil), "get uint64": func() error { _, err := st.GetUint64([]byte("term")); return err }(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after close: %v", what, err)
		}
	}
	if s.Err() != nil {
		t.Errorf("calls after close broke the store: %v", s.Err())
	}
	mu.Lock()
	for _, op := range []string{"store_logs", "get_log", "set", "get"} {
		if seen[op] == 0 {
			t.Errorf("%s was not observed", op)
		}
	}
	mu.Unlock()

	again := openStore(t, path, Options{})
	assertLog(t, again.Log(), 1, 21)
	if n, err := again.Stable().GetUint64([]byte("term")); n != 7 || err != nil {
		t.Errorf("term %d, %v", n, err)
	}
	if v, err := again.Stable().Get([]byte("vote")); string(v) != "n1" || err != nil {
		t.Errorf("vote %q, %v", v, err)
	}
	var e raft.Log
	if err := again.Log().GetLog(21, &e); err != nil || e.Term != 2 || string(e.Data) != "command 21 of term 2" || len(e.Extensions) != sealBytes {
		t.Errorf("entry %+v, %v", e, err)
	}
}

// TestK17AHungWriteClosesTheLatchWhileItHangs: Fatal fires while the call is still
// blocked, other calls are refused at once, and the late write is not reported as
// done.
func TestK17AHungWriteClosesTheLatchWhileItHangs(t *testing.T) {
	t.Parallel()
	fatal := newFatals()
	s, f := openFaulty(t, logPath(t), Options{Fatal: fatal.call, Stall: 100 * time.Millisecond})
	l := s.Log()
	if err := l.StoreLogs(entries(1, 3, 1)); err != nil {
		t.Fatal(err)
	}
	release, result := make(chan struct{}), make(chan error, 1)
	f.set(func(string) error { <-release; return nil }, nil)
	go func() { result <- l.StoreLogs(entries(4, 4, 1)) }()
	fatal.wait(t)
	select {
	case err := <-result:
		t.Errorf("the hung write returned early with %v; it may still land", err)
	default:
	}
	writes := f.writes.Load()
	assertRefused(t, s, l)
	if n := f.writes.Load(); n != writes {
		t.Errorf("%d calls reached the hung disk", n-writes)
	}
	if err := s.Close(); !errors.Is(err, storage.ErrBroken) {
		t.Errorf("close: %v", err)
	}
	close(release)
	if err := <-result; !errors.Is(err, storage.ErrBroken) {
		t.Errorf("the late write: %v", err)
	}
	if n := fatal.calls.Load(); n != 1 {
		t.Errorf("Fatal was called %d times", n)
	}
}

// assertRefused: nothing is answered, not even what the cache has.
func assertRefused(t *testing.T, s *Store, l raft.LogStore) {
	t.Helper()
	_, firstErr := l.FirstIndex()
	_, lastErr := l.LastIndex()
	_, getErr := s.Stable().Get([]byte("vote"))
	for what, err := range map[string]error{
		"first": firstErr, "last": lastErr, "get log": l.GetLog(1, &raft.Log{}), "store": l.StoreLogs(entries(9, 9, 1)),
		"delete": l.DeleteRange(1, 2), "get": getErr, "set": s.Stable().SetUint64([]byte("term"), 9), "err": s.Err(),
	} {
		if !errors.Is(err, storage.ErrBroken) {
			t.Errorf("%s of a broken store: %v", what, err)
		}
	}
}

func TestK18TheFirstWriteErrorClosesTheLatch(t *testing.T) {
	t.Parallel()
	eio := func(string) error { return syscall.EIO }
	tests := []struct {
		name          string
		before, after func(string) error
		torn          int
		write         func(s *Store) error
	}{
		{"append fails", eio, nil, -1, func(s *Store) error { return s.Log().StoreLogs(entries(4, 6, 1)) }},
		{"append lands but reports an error", nil, eio, -1, func(s *Store) error { return s.Log().StoreLogs(entries(4, 6, 1)) }},
		{"append is torn", nil, nil, 1, func(s *Store) error { return s.Log().StoreLogs(entries(4, 6, 1)) }},
		{"truncation fails", eio, nil, -1, func(s *Store) error { return s.Log().DeleteRange(1, 2) }},
		{"term fails", eio, nil, -1, func(s *Store) error { return s.Stable().SetUint64([]byte("term"), 2) }},
		{"vote fails", eio, nil, -1, func(s *Store) error { return s.Stable().Set([]byte("vote"), nil) }},
		{"a damaged page makes bbolt panic", func(string) error { panic("assertion failed: Page expected to be: 9") }, nil, -1,
			func(s *Store) error { return s.Log().StoreLogs(entries(4, 6, 1)) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fatal := newFatals()
			path := logPath(t)
			s, f := openFaulty(t, path, Options{Fatal: fatal.call})
			if err := s.Log().StoreLogs(entries(1, 3, 1)); err != nil {
				t.Fatal(err)
			}
			f.torn = tt.torn
			f.set(tt.before, tt.after)
			if err := tt.write(s); !errors.Is(err, storage.ErrBroken) {
				t.Errorf("the failed write: %v", err)
			}
			fatal.wait(t)
			f.set(nil, nil)
			f.torn = -1
			writes := f.writes.Load()
			assertRefused(t, s, s.Log())
			if n := f.writes.Load(); n != writes {
				t.Errorf("%d calls reached the disk after the first error", n-writes)
			}
			if err := s.Close(); !errors.Is(err, storage.ErrBroken) {
				t.Errorf("close: %v", err)
			}
			if n := fatal.calls.Load(); n != 1 {
				t.Errorf("Fatal was called %d times", n)
			}
			again := openStore(t, path, Options{})
			last, err := again.Log().LastIndex()
			if err != nil {
				t.Fatal(err)
			}
			assertLog(t, again.Log(), 1, last)
		})
	}
}

// TestK20AFailedVoteIsHeldBack: raft panics when term or vote can't be stored;
// Fatal gets time to end the process first.
func TestK20AFailedVoteIsHeldBack(t *testing.T) {
	t.Parallel()
	fatal := newFatals()
	s, f := openFaulty(t, logPath(t), Options{Fatal: fatal.call})
	s.halt = time.Hour
	f.set(func(string) error { return syscall.EIO }, nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := s.Stable().SetUint64([]byte("CurrentTerm"), 2)
		t.Errorf("the failed write returned %v; raft would panic", err)
	}()
	fatal.wait(t)
	select {
	case <-ended:
		t.Error("the goroutine of raft ended before the store was closed")
	default:
	}
	if err := s.Close(); !errors.Is(err, storage.ErrBroken) {
		t.Errorf("close: %v", err)
	}
	<-ended
}

func TestK20TheHoldIsBounded(t *testing.T) {
	t.Parallel()
	s, f := openFaulty(t, logPath(t), Options{})
	f.set(func(string) error { return syscall.EIO }, nil)
	if err := s.Stable().Set([]byte("LastVoteCand"), nil); !errors.Is(err, syscall.EIO) {
		t.Errorf("the failed write: %v", err)
	}
}

// TestK19TruncationWithoutTheReplacement: the conflict is cut off, the append of
// the leader's entries fails, the node stops; after the restart the log is whole
// and takes the entries again.
func TestK19TruncationWithoutTheReplacement(t *testing.T) {
	t.Parallel()
	fatal := newFatals()
	path := logPath(t)
	s, f := openFaulty(t, path, Options{Fatal: fatal.call})
	l := s.Log()
	if err := l.StoreLogs(entries(1, 10, 1)); err != nil {
		t.Fatal(err)
	}
	f.set(func(op string) error {
		if op == "store" {
			return syscall.EIO
		}
		return nil
	}, nil)
	if err := l.DeleteRange(6, 10); err != nil {
		t.Fatalf("truncate: %v", err)
	}
	if err := l.StoreLogs(entries(6, 8, 2)); !errors.Is(err, storage.ErrBroken) {
		t.Errorf("append: %v", err)
	}
	fatal.wait(t)
	_ = s.Close()
	again := openStore(t, path, Options{})
	assertLog(t, again.Log(), 1, 5)
	if err := again.Log().StoreLogs(entries(6, 8, 2)); err != nil {
		t.Fatal(err)
	}
	assertLog(t, again.Log(), 1, 8)
}

func TestK23DeletesAreChunkedAndACrashBetweenThemLeavesNoHole(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		low, high   uint64
		crashAt     int // the delete transaction that does not happen; 0: none
		first, last uint64
		chunks      [][2]uint64
	}{
		{"a prefix goes lowest first", 1, 2500, 0, 2501, 3200, [][2]uint64{{1, 1000}, {1001, 2000}, {2001, 2500}}},
		{"a prefix cut short by a crash", 1, 2500, 3, 2001, 3200, [][2]uint64{{1, 1000}, {1001, 2000}}},
		{"a suffix goes highest first", 701, 3200, 0, 1, 700, [][2]uint64{{2201, 3200}, {1201, 2200}, {701, 1200}}},
		{"a suffix cut short by a crash", 701, 3200, 3, 1, 1200, [][2]uint64{{2201, 3200}, {1201, 2200}}},
		{"exactly one chunk is one transaction", 1, 1000, 0, 1001, 3200, [][2]uint64{{1, 1000}}},
		{"one entry more makes two", 1, 1001, 0, 1002, 3200, [][2]uint64{{1, 1000}, {1001, 1001}}},
		{"all of it", 1, 3200, 0, 0, 0, [][2]uint64{{1, 1000}, {1001, 2000}, {2001, 3000}, {3001, 3200}}},
		{"more than there is", 0, 9999, 0, 0, 0, [][2]uint64{{1, 1000}, {1001, 2000}, {2001, 3000}, {3001, 3200}}},
		{"above the end is nothing", 3201, 9000, 0, 1, 3200, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := logPath(t)
			s, f := openFaulty(t, path, Options{})
			if err := s.Log().StoreLogs(entries(1, 3200, 1)); err != nil {
				t.Fatal(err)
			}
			done := 0
			f.set(func(op string) error {
				if done++; op == "delete" && done == tt.crashAt {
					return errors.New("power loss")
				}
				return nil
			}, nil)
			if err := s.Log().DeleteRange(tt.low, tt.high); (err != nil) != (tt.crashAt > 0) {
				t.Fatalf("delete: %v", err)
			}
			if !slices.Equal(f.deletes, tt.chunks) {
				t.Errorf("transactions %v, want %v", f.deletes, tt.chunks)
			}
			_ = s.Close()
			assertLog(t, openStore(t, path, Options{}).Log(), tt.first, tt.last)
		})
	}
}

func TestAHoleIsNeverMade(t *testing.T) {
	t.Parallel()
	s := openStore(t, logPath(t), Options{})
	if err := s.Log().StoreLogs(entries(1, 10, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Log().DeleteRange(4, 6); err == nil || s.Err() != nil {
		t.Errorf("delete from the middle: %v (store: %v)", err, s.Err())
	}
	assertLog(t, s.Log(), 1, 10)
	// A snapshot that covers everything up to 99 was installed, and the process
	// died before raft removed the older entries.
	if err := s.Log().StoreLogs(entries(100, 102, 3)); err != nil {
		t.Fatalf("append after a snapshot: %v", err)
	}
	assertLog(t, s.Log(), 100, 102)
	m, ok := s.Log().(raft.MonotonicLogStore)
	if !ok || !m.IsMonotonic() {
		t.Error("raft must be told that the log is monotonic")
	}
}

func TestAppendsThatCanNotBeRightCloseTheLatch(t *testing.T) {
	t.Parallel()
	wrongForm, wrongSum := entries(11, 11, 1), entries(11, 11, 1)
	wrongForm[0].Extensions = []byte("chunk")
	if err := seal(wrongSum[0]); err != nil {
		t.Fatal(err)
	}
	wrongSum[0].Data[0] ^= 1
	for name, logs := range map[string][]*raft.Log{
		"entries that do not follow each other":    {entries(11, 11, 1)[0], entries(13, 13, 1)[0]},
		"an entry over a stored one":               entries(10, 11, 2),
		"an entry with extensions of another kind": wrongForm,
		"an entry that changed on its way":         wrongSum,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fatal := newFatals()
			path := logPath(t)
			s, f := openFaulty(t, path, Options{Fatal: fatal.call})
			if err := s.Log().StoreLogs(entries(1, 10, 1)); err != nil {
				t.Fatal(err)
			}
			writes := f.writes.Load()
			if err := s.Log().StoreLogs(logs); !errors.Is(err, storage.ErrBroken) {
				t.Errorf("append: %v", err)
			}
			if f.writes.Load() != writes {
				t.Error("it reached the disk")
			}
			fatal.wait(t)
			_ = s.Close()
			assertLog(t, openStore(t, path, Options{}).Log(), 1, 10)
		})
	}
}

func TestK26ASecondHandleIsToldSoonByWhom(t *testing.T) {
	t.Parallel()
	path := logPath(t)
	openStore(t, path, Options{})
	start := time.Now()
	_, err := Open(path, Options{})
	assertHeld(t, err, os.Getpid(), start)
}

func TestK26ASecondProcessIsToldSoonByWhom(t *testing.T) {
	t.Parallel()
	path := logPath(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	holder := exec.CommandContext(ctx, os.Args[0])
	holder.Env = append(os.Environ(), holdEnv+"="+path)
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 5)
	if _, err := out.Read(said); err != nil || !bytes.HasPrefix(said, []byte("held")) {
		t.Fatalf("the other process: %q, %v", said, err)
	}
	start := time.Now()
	_, err = Open(path, Options{})
	assertHeld(t, err, holder.Process.Pid, start)
	_ = in.Close()
	if err := holder.Wait(); err != nil {
		t.Errorf("the other process: %v", err)
	}
	openStore(t, path, Options{})
}

func assertHeld(t *testing.T, err error, pid int, start time.Time) {
	t.Helper()
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	if err == nil || !strings.Contains(err.Error(), "another data directory") {
		t.Fatalf("open of a held log: %v", err)
	}
	if _, statErr := os.Stat("/proc/locks"); statErr == nil && !strings.Contains(err.Error(), fmt.Sprintf("process %d ", pid)) {
		t.Errorf("the holder %d is not named: %v", pid, err)
	}
}

func TestK27ABitFlipInAStoredEntryIsFoundOnRead(t *testing.T) {
	t.Parallel()
	path := logPath(t)
	s := openStore(t, path, Options{})
	if err := s.Log().StoreLogs(entries(1, 50, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	target := []byte("command 25 of")
	if !bytes.Contains(file, target) {
		t.Fatal("the entry is not in the file as it was written")
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(file, target, []byte("commanD 25 of")), 0o600); err != nil {
		t.Fatal(err)
	}
	fatal := newFatals()
	again := openStore(t, path, Options{Fatal: fatal.call})
	l := again.Log()
	got := raft.Log{Index: 7}
	if err := l.GetLog(24, &raft.Log{}); err != nil {
		t.Errorf("a whole entry: %v", err)
	}
	if err := l.GetLog(25, &got); !errors.Is(err, storage.ErrBroken) || !errors.Is(err, errSealSum) {
		t.Errorf("the damaged entry: %v", err)
	}
	if got.Index != 7 || got.Data != nil {
		t.Errorf("the damaged entry was handed out: %+v", got)
	}
	fatal.wait(t)
	if err := l.GetLog(24, &raft.Log{}); !errors.Is(err, storage.ErrBroken) {
		t.Errorf("a whole entry of a damaged log: %v", err)
	}
}

func TestK27ADamagedFileIsAnErrorNotACrash(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		damage func(file []byte) []byte
	}{
		{"cut to half", func(b []byte) []byte { return b[:len(b)/2] }},
		{"cut to its meta pages", func(b []byte) []byte { return b[:8192] }},
		{"both meta pages zeroed", func(b []byte) []byte { clear(b[:8192]); return b }},
		{"all behind the meta pages zeroed", func(b []byte) []byte { clear(b[8192:]); return b }},
		{"all behind the meta pages set", func(b []byte) []byte {
			for i := 8192; i < len(b); i++ {
				b[i] = 0xFF
			}
			return b
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := logPath(t)
			s := openStore(t, path, Options{})
			for i := range uint64(20) { // many transactions, so that pages lie all over the file
				if err := s.Log().StoreLogs(entries(i*100+1, i*100+100, 1)); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			file, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, tt.damage(file), 0o600); err != nil {
				t.Fatal(err)
			}
			again, err := Open(path, Options{})
			if err != nil {
				return // told at open
			}
			defer func() { _ = again.Close() }()
			for i := uint64(1); i <= 2000; i++ {
				if again.Log().GetLog(i, &raft.Log{}) != nil {
					return // told at the read
				}
			}
			t.Error("the damage was not seen")
		})
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{"stall": {Stall: -1}, "cache": {CacheEntries: -1}} {
		if _, err := Open(filepath.Join(t.TempDir(), "log.db"), o); err == nil {
			t.Errorf("%s: a negative value was taken", name)
		}
		if _, err := NewSnapshots(t.TempDir(), 1, o); err == nil {
			t.Errorf("%s: a negative value was taken for snapshots", name)
		}
	}
}
