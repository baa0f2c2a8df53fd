package fsm

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/bench/gobench"
	"github.com/keyraft/keyraft/storage"
)

var benchRows = flag.Int("rows", 200_000, "rows of the benchmarks of snapshots")

// tokenRow makes a row of 232 bytes, the key included, when it is applied.
func tokenRow(serial uint64) *command.IssueOpaque {
	h := digest("row")
	binary.BigEndian.PutUint64(h, serial*0x9e3779b97f4a7c15) // in no order, none twice
	return &command.IssueOpaque{Hash: h, ClientGeneration: 2, TenantGeneration: 1, Token: &state.OpaqueToken{
		Tenant: "default", Id: fmt.Sprintf("%024d", serial), ClientId: "app", Subject: "app", Scope: "read write " + strings.Repeat("x", 80),
		Audience: []string{"https://api.example"}, IssuedAt: seconds(0), ExpiresAt: seconds(600), Epoch: 1,
	}}
}

// tokenEntry is an entry of so many of them.
func (n *node) tokenEntry(from uint64, count int) []byte {
	envelopes := make([][]byte, count)
	for i := range envelopes {
		c := tokenRow(from + uint64(i))
		envelopes[i] = encoded(n.t, c, command.Key(c.GetHash()[:16]), [8]byte{}, false)
	}
	return entry(n.header(), envelopes...)
}

// manyRows gives a node that was restored with so many rows, and the stream: its
// store lies as a fresh one of any node that was restored.
func manyRows(b *testing.B) (*node, []byte) {
	b.Helper()
	from := openIn(b, b.TempDir(), storage.Options{})
	from.must(bootstrap())
	from.must(&command.PutClient{Client: client("app")})
	for i := 0; i < *benchRows; i += 256 {
		from.raw(from.tokenEntry(uint64(i), min(256, *benchRows-i)))
	}
	stream := from.snapshot()
	if err := from.Close(); err != nil {
		b.Fatal(err)
	}
	n := openIn(b, b.TempDir(), storage.Options{})
	n.mustRestore(bytes.NewReader(stream))
	return n, stream
}

// perRow reports time and CPU time of a row.
func perRow(b *testing.B, rows int, cpu func(int)) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
	cpu(rows)
}

// BenchmarkSnapshotStream is F12: it is held against BenchmarkBareIteration.
func BenchmarkSnapshotStream(b *testing.B) {
	n, stream := manyRows(b)
	_, rows, err := Inspect(bytes.NewReader(stream))
	if err != nil {
		b.Fatal(err)
	}
	end := gobench.CPU(b)
	for b.Loop() {
		s, err := n.Snapshot(n.now)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
		s.Release()
	}
	perRow(b, int(rows), end)
	b.ReportMetric(float64(len(stream))/float64(rows)-8, "B/row") // two lengths
}

// BenchmarkBareIteration reads every row of the same store with Pebble alone.
func BenchmarkBareIteration(b *testing.B) {
	n, _ := manyRows(b)
	name, err := current(n.dir)
	if err == nil {
		err = n.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
	const memTable = 16 << 20
	cache := pebble.NewCache(16<<20 + 4*memTable) // as storage has
	defer cache.Unref()
	db, err := pebble.Open(filepath.Join(n.dir, name), &pebble.Options{Cache: cache, MemTableSize: memTable, ReadOnly: true, Logger: quiet{}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }() // only read
	rows, size := 0, 0
	end := gobench.CPU(b)
	for b.Loop() {
		it, err := db.NewIter(nil)
		if err != nil {
			b.Fatal(err)
		}
		rows = 0
		for ok := it.First(); ok; ok = it.Next() {
			value, err := it.ValueAndErr()
			if err != nil {
				b.Fatal(err)
			}
			rows, size = rows+1, size+len(value)
		}
		if err := it.Close(); err != nil {
			b.Fatal(err)
		}
	}
	if rows < *benchRows || size == 0 {
		b.Fatalf("%d rows", rows)
	}
	perRow(b, rows, end)
}

// quiet is Pebble's logger for who needs none.
type quiet struct{}

func (quiet) Infof(string, ...any)              {}
func (quiet) Errorf(string, ...any)             {}
func (quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// BenchmarkRestoreStream is F12: it is held against BenchmarkBareBuild.
func BenchmarkRestoreStream(b *testing.B) {
	n, stream := manyRows(b)
	_, rows, err := Inspect(bytes.NewReader(stream))
	if err != nil {
		b.Fatal(err)
	}
	end := gobench.CPU(b)
	for b.Loop() {
		n.mustRestore(bytes.NewReader(stream))
	}
	perRow(b, int(rows), end)
}

// BenchmarkBareBuild writes the same rows into tables and has an empty Pebble ingest
// them, no more.
func BenchmarkBareBuild(b *testing.B) {
	_, stream := manyRows(b)
	in, err := newReader(bytes.NewReader(stream))
	if err != nil {
		b.Fatal(err)
	}
	var rows [][2][]byte
	if err := in.each(func(k, v []byte) error { rows = append(rows, [2][]byte{bytes.Clone(k), bytes.Clone(v)}); return nil }); err != nil {
		b.Fatal(err)
	}
	dir := filepath.Join(b.TempDir(), "bare")
	end := gobench.CPU(b)
	for b.Loop() {
		if err := bareBuild(dir, rows); err != nil {
			b.Fatal(err)
		}
		if err := os.RemoveAll(dir); err != nil { // as a restore removes the store before
			b.Fatal(err)
		}
	}
	perRow(b, len(rows), end)
}

func bareBuild(dir string, rows [][2][]byte) error {
	db, err := pebble.Open(dir, &pebble.Options{DisableWAL: true, Logger: quiet{}, FormatMajorVersion: pebble.FormatTableFormatV6})
	if err != nil {
		return err
	}
	var paths []string
	const tableBytes = 64 << 20
	for at := 0; at < len(rows) && err == nil; {
		path := filepath.Join(dir, fmt.Sprintf("bare-%d.sst", len(paths)))
		paths = append(paths, path)
		at, err = bareTable(path, rows, at, tableBytes)
	}
	if err == nil {
		err = db.Ingest(context.Background(), paths)
	}
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	return err
}

// bareTable writes a table of about limit bytes, and says with which row the next one
// begins.
func bareTable(path string, rows [][2][]byte, at int, limit uint64) (next int, err error) {
	f, err := vfs.Default.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return 0, err
	}
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), sstable.WriterOptions{TableFormat: sstable.TableFormatPebblev6})
	for ; at < len(rows) && w.Raw().EstimatedSize() < limit; at++ {
		if err := w.Set(rows[at][0], rows[at][1]); err != nil {
			return 0, err
		}
	}
	return at, w.Close()
}

// BenchmarkApplyAlone applies an entry of 64 opaque tokens every other millisecond,
// and reports how long the slowest hundredth took.
func BenchmarkApplyAlone(b *testing.B) {
	benchmarkApply(b, func(*node, <-chan struct{}) error { return nil })
}

// BenchmarkApplyBesideSnapshot does so while a snapshot is streamed into a file (F12):
// the same one over and over, which is to the store one of many more rows.
func BenchmarkApplyBesideSnapshot(b *testing.B) {
	path := filepath.Join(b.TempDir(), "snapshot")
	benchmarkApply(b, func(n *node, done <-chan struct{}) error {
		s, err := n.Snapshot(t0)
		if err != nil {
			return err
		}
		defer s.Release()
		for {
			select {
			case <-done:
				return nil
			default:
			}
			if err := streamTo(path, s); err != nil {
				return err
			}
		}
	})
}

func streamTo(path string, s *Snapshot) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = s.WriteTo(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

func benchmarkApply(b *testing.B, beside func(n *node, done <-chan struct{}) error) {
	b.Helper()
	n, _ := manyRows(b)
	done := make(chan struct{})
	var other sync.WaitGroup
	var otherErr error
	other.Go(func() { otherErr = beside(n, done) })
	serial := uint64(*benchRows)
	var took []time.Duration
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for b.Loop() {
		data := n.tokenEntry(serial, 64)
		serial += 64
		<-tick.C
		begun := time.Now()
		n.raw(data)
		took = append(took, time.Since(begun))
	}
	close(done)
	other.Wait()
	if otherErr != nil {
		b.Fatal(otherErr)
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-us")
}
