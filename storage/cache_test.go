package storage

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestBlocksStayInTheCacheBesideFullMemtables: Pebble takes the memtables' room
// from the cache, so a store that has been written to must still read a block
// from disk once and not at each Get.
func TestBlocksStayInTheCacheBesideFullMemtables(t *testing.T) {
	t.Parallel()
	const memtable = 1 << 20
	db := open(t, "db", Options{FS: vfs.NewMem(), MemTableBytes: memtable, CacheBytes: memtable})
	value := bytes.Repeat([]byte{'v'}, 1000)
	for i := range 6 * memtable / len(value) { // grows the memtable to its full size, and fills several
		put(t, db, fmt.Sprintf("row %08d", i), string(value))
	}
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	read := func() {
		for _, key := range []string{"row 00000001", "row 00000002", "row 00000003"} {
			if _, err := db.Get([]byte(key)); err != nil {
				t.Fatal(err)
			}
		}
	}
	read()
	before := db.Stats()
	for range 100 {
		read()
	}
	after := db.Stats()
	if n := after.CacheMisses - before.CacheMisses; n > 100 { // a compaction may move them
		t.Errorf("300 reads of three rows missed the cache %d times and hit it %d times", n, after.CacheHits-before.CacheHits)
	}
}
