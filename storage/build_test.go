package storage

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func TestBuildThenOpen(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 3000} {
		t.Run(fmt.Sprintf("%d rows", n), func(t *testing.T) {
			t.Parallel()
			disk := vfs.NewCrashableMem()
			err := build("parent/db", Options{FS: disk}, 16<<10, func(put func(k, v []byte) error) error {
				for i := range n {
					if err := put(AppendUint64(nil, uint64(i)), fmt.Appendf(nil, "value %d", i)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatalf("build: %v", err)
			}
			// The power goes the moment after Build returned.
			db := open(t, "parent/db", Options{FS: disk.CrashClone(vfs.CrashCloneCfg{})})
			next := 0
			if err := db.Scan(nil, nil, func(k, v []byte) error {
				if got, _, _ := CutUint64(k); got != uint64(next) || string(v) != fmt.Sprintf("value %d", next) {
					return fmt.Errorf("row %d is %d: %s", next, got, v)
				}
				next++
				return nil
			}); err != nil {
				t.Error(err)
			}
			if next != n {
				t.Errorf("%d rows, want %d", next, n)
			}
			if tables := db.pebble.Metrics().Levels[6].TablesCount; n > 1 && tables < 2 {
				t.Errorf("%d tables at the bottom; a large store must be split", tables)
			}
			put(t, db, "more", "1") // it is a store like any other
			if err := db.Flush(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBuildRefusesAndLeavesNothing(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	rows := func(keys ...string) func(func(k, v []byte) error) error {
		return func(put func(k, v []byte) error) error {
			for _, k := range keys {
				_ = put([]byte(k), nil) // a caller that does not look is caught all the same
			}
			return nil
		}
	}
	tests := []struct {
		name string
		rows func(func(k, v []byte) error) error
		want string
	}{
		{"a row below the one before it", rows("b", "a"), "not above"},
		{"a row twice", rows("a", "a"), "not above"},
		{"a row without a key", rows(""), "must have a key"},
		{"an error of the source", func(put func(k, v []byte) error) error { _ = put([]byte("a"), nil); return boom }, "boom"},
		{"a panic", func(func(k, v []byte) error) error { panic("rows") }, "panicked"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			disk := vfs.NewMem()
			err := Build("db", Options{FS: disk}, tt.rows)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if names, err := disk.List("db"); err == nil {
				t.Errorf("the half-built store was left: %q", names)
			}
		})
	}
}

func TestBuildReturnsWriteErrors(t *testing.T) {
	t.Parallel()
	fatal := newFatalCount()
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSync && strings.HasSuffix(op.Path, ".sst") {
			return syscall.ENOSPC
		}
		return nil
	})
	err := Build("db", Options{FS: errorfs.Wrap(vfs.NewMem(), inject), Fatal: fatal.call},
		func(put func(k, v []byte) error) error { return put([]byte("a"), nil) })
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("build on a full disk: %v", err)
	}
	if n := fatal.calls.Load(); n != 0 {
		t.Errorf("Fatal was called %d times; the old store is still sound", n)
	}
}

func TestBuildRefusesADirectoryInUse(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	db := open(t, "db", Options{FS: disk})
	put(t, db, "a", "1")
	err := Build("db", Options{FS: disk}, func(put func(k, v []byte) error) error { return put([]byte("b"), nil) })
	if err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("build over a store: %v", err)
	}
	if got := dump(t, db); got != "a=1" {
		t.Errorf("the store was changed: %q", got)
	}
}

// TestNothingElseIngests is K32: tables enter a database only in the function
// ingest, which only buildIn calls, and the room exports no way to do it.
func TestNothingElseIngests(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]int{}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if fn.Name.IsExported() && strings.Contains(strings.ToLower(fn.Name.Name), "ingest") {
				t.Errorf("%s is exported", fn.Name.Name)
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok && id != fn.Name && strings.Contains(strings.ToLower(id.Name), "ingest") {
					calls[fn.Name.Name+" uses "+id.Name]++
				}
				return true
			})
		}
	}
	if len(calls) != 2 || calls["ingest uses Ingest"] != 1 || calls["buildIn uses ingest"] != 1 {
		t.Errorf("ingestion outside Build: %v", calls)
	}
}
