package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/keyraft/keyraft/storage"
)

// openBolt opens the file. Damage is an error, not a panic (K27).
func openBolt(path string) (*raftboltdb.BoltStore, error) {
	err := walk(path)
	if err != nil {
		return nil, openError(path, err)
	}
	var bolt *raftboltdb.BoltStore
	err = withFile(func(open openFile) (err error) {
		bolt, err = raftboltdb.New(raftboltdb.Options{
			Path:                    path,
			MsgpackUseNewTimeFormat: true,
			BoltOptions: &bbolt.Options{
				Timeout:        lockWait,
				NoFreelistSync: true,                  // K24: else the freelist is written with each commit
				FreelistType:   bbolt.FreelistMapType, // stays fast when there are many free pages
				OpenFile:       open,
			},
		})
		return err
	})
	if err != nil {
		return nil, openError(path, err)
	}
	return bolt, nil
}

// walk reads every page of an existing file that is in use. bbolt does so too when
// it opens a file without a freelist, but on a goroutine of its own, where its panic
// on a damaged page would end the process without a word to the operator.
func walk(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return withFile(func(open openFile) error {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait, OpenFile: open})
		if err != nil {
			return err
		}
		err = db.View(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return walkBucket(b) })
		})
		return errors.Join(err, db.Close())
	})
}

// walkBucket wants ascending keys, each with a value: neither bucket nests others.
func walkBucket(b *bbolt.Bucket) error {
	var last []byte
	cursor := b.Cursor()
	for key, value := cursor.First(); key != nil; key, value = cursor.Next() {
		if value == nil || last != nil && bytes.Compare(key, last) <= 0 {
			return errDamaged
		}
		last = append(last[:0], key...)
	}
	return nil
}

var errDamaged = errors.New("the file is damaged")

type openFile func(name string, flag int, perm os.FileMode) (*os.File, error)

// withFile runs do, turns the panics of bbolt on damaged pages, and the fault of
// reading a mapped page that the file no longer has, into errors, and then closes
// the file that do opened: its lock would outlive the panic.
func withFile(do func(openFile) error) (err error) {
	var file *os.File
	defer func() {
		if r := recover(); r != nil {
			_ = file.Close() // nil is harmless
			err = fmt.Errorf("%w: %v", errDamaged, r)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	return do(func(name string, flag int, perm os.FileMode) (f *os.File, err error) {
		file, err = os.OpenFile(name, flag, perm)
		return file, err
	})
}

// guarded is withFile for what is open already.
func guarded(do func() error) error {
	return withFile(func(openFile) error { return do() })
}

func openError(path string, err error) error {
	switch {
	case errors.Is(err, errDamaged):
		return fmt.Errorf("open the raft log %s: %w; quarantine the data directory and let the node rejoin", path, err)
	case !errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("open the raft log %s: %w", path, err)
	}
	if pid := storage.LockHolder(path); pid != 0 {
		return fmt.Errorf("open the raft log %s: process %d has it open; stop that process or choose another data directory: %w", path, pid, err)
	}
	return fmt.Errorf("open the raft log %s: another process has it open; stop that process or choose another data directory: %w", path, err)
}
