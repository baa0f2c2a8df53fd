package logstore

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/keyraft/keyraft/storage"
)

// faultySnapshots makes the sinks of a real file snapshot store fail.
type faultySnapshots struct {
	raft.SnapshotStore
	create error
	fault  func(op string) error
}

type faultySink struct {
	raft.SnapshotSink
	fault func(op string) error
}

func (f *faultySnapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, tr raft.Transport) (raft.SnapshotSink, error) {
	if f.create != nil {
		return nil, f.create
	}
	s, err := f.SnapshotStore.Create(v, index, term, c, ci, tr)
	return &faultySink{s, f.fault}, err
}

func (f *faultySink) Write(p []byte) (int, error) {
	if err := f.fault("write"); err != nil {
		return 0, err
	}
	return f.SnapshotSink.Write(p)
}

func (f *faultySink) Close() error {
	return errors.Join(f.SnapshotSink.Close(), f.fault("close"))
}

func (f *faultySink) Cancel() error {
	return errors.Join(f.SnapshotSink.Cancel(), f.fault("cancel"))
}

func create(t *testing.T, s raft.SnapshotStore, index uint64) (raft.SnapshotSink, error) {
	t.Helper()
	_, trans := raft.NewInmemTransport("")
	return s.Create(1, index, 3, raft.Configuration{}, 1, trans)
}

func TestSnapshotRoundTrip(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	s, err := NewSnapshots(t.TempDir(), 2, Options{Observe: func(op string, _ time.Duration) { seen[op]++ }})
	if err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	for index := range uint64(3) {
		sink, err := create(t, s, 10+index)
		if err != nil {
			t.Fatal(err)
		}
		for range 33 { // one sync on the way
			if _, err := io.WriteString(sink, large); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(sink.Close(), sink.Close()); err != nil {
			t.Fatal(err)
		}
		if index == 0 {
			continue
		}
		cancelled, err := create(t, s, 100)
		if err != nil {
			t.Fatal(err)
		}
		if err := cancelled.Cancel(); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.List()
	if err != nil || len(list) != 2 || list[0].Index != 12 {
		t.Fatalf("snapshots %v, %v", list, err)
	}
	meta, r, err := s.Open(list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil || len(got) != 33<<20 || meta.Term != 3 {
		t.Errorf("%d bytes of term %d, %v", len(got), meta.Term, err)
	}
	if seen["snapshot_write"] == 0 || seen["snapshot_close"] == 0 {
		t.Errorf("observed %v", seen)
	}
}

// TestSnapshotFaultsCloseTheLatch is R8 for the sink: errors, and a hang while it
// hangs; then the raft log under the same latch is refused too.
func TestSnapshotFaultsCloseTheLatch(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"create", "write", "close", "cancel", "hang"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			fatal := newFatals()
			latch := storage.NewLatch(fatal.call)
			o := Options{Latch: latch, Stall: 10 * time.Second}
			if op == "hang" {
				o.Stall = 100 * time.Millisecond
			}
			logs := openStore(t, logPath(t), Options{Latch: latch})
			made, err := NewSnapshots(t.TempDir(), 1, o)
			if err != nil {
				t.Fatal(err)
			}
			store := made.(*snapshotStore)
			release := make(chan struct{})
			f := &faultySnapshots{SnapshotStore: store.files, fault: func(at string) error {
				if op == "hang" && at == "write" {
					<-release
				}
				if at == op {
					return syscall.EIO
				}
				return nil
			}}
			if op == "create" {
				f.create = syscall.EIO
			}
			store.files = f
			result := make(chan error, 1)
			go func() { result <- snapshotOnce(t, store, op) }()
			fatal.wait(t)
			if err := logs.Log().StoreLogs(entries(1, 1, 1)); !errors.Is(err, storage.ErrBroken) {
				t.Errorf("the log under the same latch: %v", err)
			}
			close(release)
			if err := <-result; !errors.Is(err, storage.ErrBroken) {
				t.Errorf("the snapshot: %v", err)
			}
			if _, err := store.List(); !errors.Is(err, storage.ErrBroken) {
				t.Errorf("list: %v", err)
			}
			if _, err := create(t, store, 9); !errors.Is(err, storage.ErrBroken) {
				t.Errorf("create: %v", err)
			}
		})
	}
}

func snapshotOnce(t *testing.T, s raft.SnapshotStore, op string) error {
	sink, err := create(t, s, 5)
	if err != nil {
		return err
	}
	if _, err := sink.Write([]byte("state")); err != nil {
		return err
	}
	if op == "cancel" {
		return sink.Cancel()
	}
	return sink.Close()
}

func TestAnUnknownSnapshotVersionIsNoFault(t *testing.T) {
	t.Parallel()
	fatal := newFatals()
	s, err := NewSnapshots(t.TempDir(), 1, Options{Fatal: fatal.call})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(99, 1, 1, raft.Configuration{}, 1, nil); err == nil {
		t.Error("version 99 was taken")
	}
	if fatal.calls.Load() != 0 {
		t.Error("it closed the latch")
	}
}
