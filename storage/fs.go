package storage

import (
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// retryPause is how long a write is held back before it is refused after the
// latch closed. Pebble tries a failed flush again at once and for ever; without
// the pause it would burn a core until the process ends.
const retryPause = 50 * time.Millisecond

// latchFS puts every write of Pebble under the latch (R8) and counts slow ones. It
// stands in for Pebble's own disk health checks, which look only every two seconds
// and keep a goroutine for each file, some of which a failed store leaks. Failures of Link,
// Remove, Preallocate and Lock are the caller's to judge: Pebble copies where it
// cannot link, a file that stays only costs space, and a held lock is no damage.
type latchFS struct {
	vfs.FS
	trips *trips
	stall time.Duration
	log   *slog.Logger
	slow  *atomic.Uint64
}

func (f *latchFS) write(what, name string, op func() error) error {
	start := time.Now()
	err := f.trips.write(what+" "+name, f.stall, op)
	if took := time.Since(start); took > slowDisk {
		f.slow.Add(1)
		f.log.Warn("slow disk", "operation", what, "path", name, "took", took)
	}
	return err
}

// allow refuses what may change the disk once the latch is closed.
func (f *latchFS) allow() error { return f.trips.allow() }

func (f *latchFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open("create", name, func() (vfs.File, error) { return f.FS.Create(name, c) })
}

func (f *latchFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.open("open", name, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, opts...) })
}

func (f *latchFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open("reuse", newname, func() (vfs.File, error) { return f.FS.ReuseForWrite(oldname, newname, c) })
}

func (f *latchFS) open(what, name string, op func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File
	err := f.write(what, name, func() (err error) {
		file, err = op()
		return err
	})
	if err != nil {
		if file != nil {
			_ = file.Close()
		}
		return nil, err
	}
	return &latchFile{File: file, fs: f, name: name}, nil
}

func (f *latchFS) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &latchFile{File: file, fs: f, name: name}, nil
}

func (f *latchFS) Rename(oldname, newname string) error {
	return f.write("rename to", newname, func() error { return f.FS.Rename(oldname, newname) })
}

func (f *latchFS) MkdirAll(dir string, perm os.FileMode) error {
	return f.write("make directory", dir, func() error { return f.FS.MkdirAll(dir, perm) })
}

func (f *latchFS) Link(oldname, newname string) error {
	if err := f.allow(); err != nil {
		return err
	}
	return f.FS.Link(oldname, newname)
}

func (f *latchFS) Remove(name string) error {
	if err := f.allow(); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

func (f *latchFS) RemoveAll(name string) error {
	if err := f.allow(); err != nil {
		return err
	}
	return f.FS.RemoveAll(name)
}

// Unwrap serves vfs.Root.
func (f *latchFS) Unwrap() vfs.FS { return f.FS }

// latchFile is a file or directory that was opened for writing or syncing.
type latchFile struct {
	vfs.File
	fs   *latchFS
	name string
}

func (f *latchFile) Write(p []byte) (n int, err error) {
	err = f.fs.write("write", f.name, func() (err error) {
		n, err = f.File.Write(p)
		return err
	})
	return n, err
}

func (f *latchFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.fs.write("write", f.name, func() (err error) {
		n, err = f.File.WriteAt(p, off)
		return err
	})
	return n, err
}

func (f *latchFile) Sync() error { return f.fs.write("sync", f.name, f.File.Sync) }

func (f *latchFile) SyncData() error { return f.fs.write("sync", f.name, f.File.SyncData) }

func (f *latchFile) SyncTo(length int64) (full bool, err error) {
	err = f.fs.write("sync", f.name, func() (err error) {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

func (f *latchFile) Preallocate(off, n int64) error {
	if err := f.fs.allow(); err != nil {
		return err
	}
	return f.File.Preallocate(off, n)
}

// Close always closes the descriptor; an error of close tells of writes that were
// lost (NFS, quota), so it counts.
func (f *latchFile) Close() error {
	err := f.File.Close()
	if err != nil {
		return f.fs.write("close", f.name, func() error { return err })
	}
	return nil
}
