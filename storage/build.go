package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// buildTableBytes is about where Build begins another table: what a compaction
// later has to rewrite at once.
const buildTableBytes = 64 << 20

const bottomLevel = 6

// Build makes a new store in dir from rows: the restore path (R6). rows gives
// each row to put, in strictly ascending key order, and returns its first error.
// When Build returns nil, the store is complete, durable and closed; else dir is
// removed again. dir must not exist or be empty. Fatal is called only when a write
// hangs.
func Build(dir string, o Options, rows func(put func(key, value []byte) error) error) error {
	return build(dir, o, buildTableBytes, rows)
}

func build(dir string, o Options, tableBytes uint64, rows func(put func(key, value []byte) error) error) error {
	if err := o.check(); err != nil {
		return err
	}
	o = o.withDefaults()
	if err := o.Latch.Err(); err != nil {
		return err
	}
	if names, err := o.FS.List(dir); err != nil && !oserror.IsNotExist(err) {
		return fmt.Errorf("look into %s: %w", dir, err)
	} else if len(names) > 0 {
		return fmt.Errorf("build a store in %s: it is not empty; a store is built only in a fresh directory", dir)
	}
	opts, release := pebbleOptions(o, &trips{latch: o.Latch}, new(counters))
	defer release()
	if err := buildIn(dir, opts, tableBytes, rows); err != nil {
		if rmErr := o.FS.RemoveAll(dir); rmErr != nil {
			err = errors.Join(err, fmt.Errorf("remove the half-built store: %w", rmErr))
		}
		return fmt.Errorf("build a store in %s: %w", dir, err)
	}
	return o.Latch.Err()
}

func buildIn(dir string, opts *pebble.Options, tableBytes uint64, rows func(put func(key, value []byte) error) error) (err error) {
	defer recovered(&err)
	fs := opts.FS
	tmp := fs.PathJoin(dir, "build")
	if err := makeDir(fs, dir); err != nil {
		return err
	}
	if err := fs.MkdirAll(tmp, 0o700); err != nil {
		return err
	}
	w := &tableWriter{opts: opts, dir: tmp, limit: tableBytes}
	defer w.abort()
	if err := rows(w.put); err != nil {
		return err
	}
	if err := w.finish(); err != nil {
		return err
	}
	if err := ingest(dir, opts, w.paths); err != nil {
		return err
	}
	if err := fs.RemoveAll(tmp); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

// ingest is the only place that may add tables to a database (K32): it is new and
// empty, and nobody else sees it before it is closed again.
func ingest(dir string, opts *pebble.Options, paths []string) error {
	opts.ErrorIfExists = true
	p, err := pebble.Open(dir, opts)
	if err != nil {
		return err
	}
	if len(paths) > 0 {
		err = p.Ingest(context.Background(), paths)
	}
	if err == nil {
		err = p.Flush()
	}
	return errors.Join(err, p.Close())
}

// makeDir creates dir and what is missing above it, durably.
func makeDir(fs vfs.FS, dir string) error {
	var changed []string // directories that get an entry, the lowest first
	for d := dir; ; d = fs.PathDir(d) {
		if _, err := fs.Stat(d); !oserror.IsNotExist(err) || d == fs.PathDir(d) {
			break
		}
		changed = append(changed, fs.PathDir(d))
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, d := range changed {
		if err := syncDir(fs, d); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(fs vfs.FS, dir string) error {
	f, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// tableWriter writes rows into tables of about limit bytes.
type tableWriter struct {
	opts  *pebble.Options
	dir   string
	limit uint64
	paths []string
	table *sstable.Writer
	last  []byte
	any   bool
	err   error
}

// put keeps its first error: a caller that goes on after one gets it again, and so
// does finish.
func (w *tableWriter) put(key, value []byte) error {
	if w.err == nil {
		w.err = w.write(key, value)
	}
	return w.err
}

func (w *tableWriter) write(key, value []byte) error {
	if len(key) == 0 {
		return errEmptyKey
	}
	if w.any && bytes.Compare(key, w.last) <= 0 {
		return errors.New("a row is not above the one before it; the stream is damaged or was made wrongly")
	}
	w.any, w.last = true, append(w.last[:0], key...)
	if w.table == nil {
		if err := w.begin(); err != nil {
			return err
		}
	}
	if err := w.table.Set(key, value); err != nil {
		return err
	}
	if w.table.Raw().EstimatedSize() >= w.limit {
		return w.end()
	}
	return nil
}

func (w *tableWriter) begin() error {
	path := w.opts.FS.PathJoin(w.dir, fmt.Sprintf("%06d.sst", len(w.paths)+1))
	f, err := w.opts.FS.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	w.paths = append(w.paths, path)
	w.table = sstable.NewWriter(objstorageprovider.NewFileWritable(f),
		w.opts.MakeWriterOptions(bottomLevel, formatVersion.MaxTableFormat()))
	return nil
}

func (w *tableWriter) end() error {
	t := w.table
	w.table = nil
	return t.Close() // syncs
}

func (w *tableWriter) finish() error {
	if w.err == nil && w.table != nil {
		w.err = w.end()
	}
	return w.err
}

// abort closes a table that an error left open; it is removed with the directory.
func (w *tableWriter) abort() {
	if w.table != nil {
		_ = w.end()
	}
}
