package fsm

import (
	"bytes"
	"io"
	"log/slog"
	"runtime"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keyraft/keyraft/fsm/command"
)

// FuzzSnapshotReader: whatever comes, reading ends, takes no more memory than a
// row may have, and a stream that is taken is one that we would write.
func FuzzSnapshotReader(f *testing.F) {
	n := full(f)
	good := n.snapshot()
	f.Add(good)
	f.Add(good[:70])
	f.Add([]byte(snapMagic + "\xff\xff\xff\xff"))
	f.Add(append(append([]byte{}, good[:90]...), 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		h, rows, err := Inspect(bytes.NewReader(data))
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
			t.Errorf("%d bytes of input took %d bytes of memory", len(data), used)
		}
		if err != nil {
			return
		}
		s, err := newReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		var again bytes.Buffer
		out := newSummer(&again)
		_, _ = out.Write(h.append(nil))
		if err := s.each(func(k, v []byte) error { _, err := out.Write(appendRow(nil, k, v)); return err }); err != nil {
			t.Fatal(err)
		}
		if err := out.finish(uint64(rows)); err != nil || !bytes.Equal(again.Bytes(), data) {
			t.Errorf("a stream of %d rows was taken that is not in our form", rows)
		}
	})
}

// FuzzApply: no bytes of an entry make Apply panic; it answers each command or
// halts with nothing applied, and memory stays what the store says.
func FuzzApply(f *testing.F) {
	h := command.Header{Stamp: t0, Elapsed: plenty, Epoch: 1}
	for _, g := range goldens() {
		f.Add(entry(h, encoded(f, g.make, key(g.name), [8]byte{}, g.rem)))
	}
	for _, c := range longNames("x") {
		f.Add(entry(h, encoded(f, c, key("k"), [8]byte{}, false), encoded(f, c, key("k"), [8]byte{}, true)))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		halted := false
		o := small()
		o.FS = vfs.NewMem()
		n, err := Open(Config{Dir: dir, Storage: o, Halt: func(error) { halted = true }, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = n.Kill() }()
		n.Apply(1, 1, first(t))
		view := n.View()
		r := n.Apply(2, 1, data)
		if halted != (r == nil) {
			t.Errorf("halted %v, results %v", halted, r)
		}
		if halted && n.View() != view {
			t.Error("a halted node changed its state")
		}
		if err := n.View().CheckMemory(); err != nil {
			t.Error(err)
		}
		s, err := n.Snapshot(0)
		if halted != (err != nil) {
			t.Fatal(err)
		}
		if err == nil {
			defer s.Release()
			pr, pw := io.Pipe()
			go func() { _, err := s.WriteTo(pw); _ = pw.CloseWithError(err) }()
			if _, _, err := Inspect(pr); err != nil {
				t.Errorf("the state after the entry can't be restored: %v", err)
			}
		}
	})
}
