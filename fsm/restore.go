package fsm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/storage"
)

// The state folder holds one store, named by the file CURRENT. A restore builds
// the next one beside it and swaps by one rename of that file.
const currentFile = "CURRENT"

func storeName(n int) string { return fmt.Sprintf("db-%06d", n) }

func storeNumber(name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, "db-")
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil && n > 0
}

// current reads the name of the live store, or makes the first one.
func current(dir string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(dir, currentFile))
	if errors.Is(err, os.ErrNotExist) {
		if stores, err := filepath.Glob(filepath.Join(dir, "db-*")); err != nil || len(stores) > 0 {
			return "", errors.Join(err, fmt.Errorf("%s in %s is missing though stores are there, so the live one is unknown: move the folder away and let the node rejoin by snapshot", currentFile, dir))
		}
		return storeName(1), setCurrent(dir, storeName(1))
	}
	if err != nil {
		return "", fmt.Errorf("read which store is live: %w", err)
	}
	name := strings.TrimSpace(string(raw))
	if _, ok := storeNumber(name); !ok {
		return "", fmt.Errorf("%s in %s is damaged: it should name the live store (db-000001 or such)", currentFile, dir)
	}
	return name, nil
}

// setCurrent names the live store: temp file, sync, rename, sync of the folder.
func setCurrent(dir, name string) error {
	temp := filepath.Join(dir, currentFile+".tmp")
	if err := writeSynced(temp, []byte(name+"\n")); err != nil {
		return fmt.Errorf("name the live store: %w", err)
	}
	if err := os.Rename(temp, filepath.Join(dir, currentFile)); err != nil {
		return fmt.Errorf("name the live store: %w", err)
	}
	return syncDir(dir)
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sweep removes stores that are not the live one.
func sweep(dir, live string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, ok := storeNumber(e.Name()); ok && e.Name() != live {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("remove what a restore left behind: %w", err)
			}
		}
	}
	return nil
}

var errHalted = errors.New("this node has halted: start it again")

// Restore replaces the whole state by the stream's, or changes nothing: the
// stream is verified and the new store and memory views are built before the
// swap; whatever fails behind the swap halts the node instead of returning
// (R6). It must not run beside Apply.
func (f *FSM) Restore(r io.Reader) error {
	s, err := newReader(r)
	if err != nil {
		return err
	}
	if s.Header.FeatureLevel > command.Level {
		return fmt.Errorf("the snapshot has feature level %d, this binary understands %d: start a newer one", s.Header.FeatureLevel, command.Level)
	}
	f.life.Lock()
	defer f.life.Unlock()
	if f.halted.Load() {
		return errHalted
	}
	old, err := current(f.cfg.Dir)
	if err != nil {
		return err
	}
	n, _ := storeNumber(old)
	name := storeName(n + 1)
	path := filepath.Join(f.cfg.Dir, name)
	db, v, err := build(path, f.cfg.Storage, s)
	if err != nil {
		return errors.Join(fmt.Errorf("restore: %w", err), remove(path, f.cfg.Storage))
	}
	if err := f.swap(f.cfg.Dir, name); err != nil {
		// The rename may or may not be on disk: only a fresh start can tell.
		f.halt(errors.Join(fmt.Errorf("restore: %w", err), db.CloseDirty()))
		return nil
	}
	f.mu.Lock()
	before := f.db
	f.db = db
	f.mu.Unlock()
	f.replayed = 0 // nothing behind a restore may come again: skipping would swallow it (K12)
	f.view.Store(v)
	f.cfg.Observe(v)
	if err := errors.Join(before.CloseDirty(), remove(filepath.Join(f.cfg.Dir, old), f.cfg.Storage)); err != nil {
		f.cfg.Logger.Warn("the store before the restore could not be removed; the next start does it", "error", err)
	}
	return nil
}

// remove removes a store from where it lies.
func remove(path string, o storage.Options) error {
	if o.FS != nil {
		return o.FS.RemoveAll(path)
	}
	return os.RemoveAll(path)
}

// build makes a store of s at path, whatever an earlier try left there.
func build(path string, o storage.Options, s *reader) (*storage.DB, *state.View, error) {
	if err := remove(path, o); err != nil {
		return nil, nil, err
	}
	if err := storage.Build(path, o, s.each); err != nil {
		return nil, nil, err
	}
	db, err := storage.Open(path, o)
	if err != nil {
		return nil, nil, err
	}
	v, err := state.Load(db)
	if err == nil {
		rows := headerOf(v)
		rows.TakenAt = s.Header.TakenAt // the only number that no row holds
		if rows != s.Header {
			err = fmt.Errorf("%w: its header says %+v, its rows say %+v", ErrSnapshot, s.Header, rows)
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, db.CloseDirty())
	}
	return db, v, nil
}
