package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// formatVersion is the on-disk format of every store. It is named, never "newest",
// since it can't be lowered again: it is raised only with the cluster's feature
// level. This one checksums the footers of tables too.
const formatVersion = pebble.FormatTableFormatV6

const (
	defaultCacheBytes    = 16 << 20
	defaultMemTableBytes = 16 << 20
	memTables            = 4                // live at most, before writes wait
	defaultStall         = 10 * time.Second // storage.stall_limit of R8
	slowDisk             = time.Second      // counted and logged, not yet a fault
	bitsPerKey           = 10               // bloom filter: about 1 % false positives
)

// trips brings what Pebble tells of trouble to the latch. Until it is armed, that
// is while Open or Build runs, an error is only returned to their caller; a write
// that hangs closes the latch even then.
type trips struct {
	latch *Latch
	armed atomic.Bool
}

func (t *trips) allow() error {
	err := t.latch.Err()
	if err != nil {
		time.Sleep(retryPause) // holds Pebble's endless retries back; nothing waits for it
	}
	return err
}

func (t *trips) write(what string, limit time.Duration, op func() error) error {
	if err := t.allow(); err != nil {
		return err
	}
	if t.armed.Load() {
		return t.latch.Write(what, limit, op)
	}
	var failed error
	err := t.latch.Write(what, limit, func() error { failed = op(); return nil })
	if failed != nil {
		return failed
	}
	return err
}

// trip closes the latch once the store is open and returns the error to give to
// the caller.
func (t *trips) trip(err error) error {
	if !t.armed.Load() {
		return err
	}
	return t.latch.Trip(err)
}

// logger is what Pebble logs to. Its Fatalf must not return normally by Pebble's
// contract; ours closes the latch and does return, which is safe because Pebble
// then hands the same error back and every later write is refused (K31).
type logger struct {
	log   *slog.Logger
	trips *trips
}

func (l logger) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("pebble: " + fmt.Sprintf(format, args...))
	}
}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("pebble: " + fmt.Sprintf(format, args...))
}

func (l logger) Fatalf(format string, args ...any) {
	_ = l.trips.trip(fmt.Errorf("pebble: "+format, args...))
}

// counters are what the event listener counts for Stats.
type counters struct {
	diskSlow, writeStalls, backgroundErrors atomic.Uint64
}

// listener reports what is worth a metric or a fault. Pebble calls it with its
// locks held: nothing here may call back into it.
func listener(log *slog.Logger, t *trips, c *counters) *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			if errors.Is(err, pebble.ErrCancelledCompaction) {
				return // normal: it is planned anew
			}
			c.backgroundErrors.Add(1)
			_ = t.trip(fmt.Errorf("flush or compaction: %w", err))
		},
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			_ = t.trip(fmt.Errorf("corrupt file %s: %w", i.Path, i.Details))
		},
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) {
			c.writeStalls.Add(1)
			log.Warn("storage holds writes back until flushes or compactions catch up", "reason", i.Reason)
		},
		LowDiskSpace: func(i pebble.LowDiskSpaceInfo) {
			log.Warn("disk space runs low", "available_bytes", i.AvailBytes, "total_bytes", i.TotalBytes)
		},
	}
}

// pebbleOptions returns Pebble's options for o and what must be released after
// the database is closed.
func pebbleOptions(o Options, t *trips, c *counters) (*pebble.Options, func()) {
	// Pebble takes the room of its memtables from the cache. Without room of their
	// own for them no block would ever stay in it.
	cache := pebble.NewCache(o.CacheBytes + memTables*o.MemTableBytes)
	opts := &pebble.Options{
		FS:                          &latchFS{FS: o.FS, trips: t, stall: o.Stall, log: o.Logger, slow: &c.diskSlow},
		Cache:                       cache,
		MemTableSize:                uint64(o.MemTableBytes),
		MemTableStopWritesThreshold: memTables,
		DisableWAL:                  true, // the Raft log is the WAL
		FormatMajorVersion:          formatVersion,
		Logger:                      logger{o.Logger, t},
		EventListener:               listener(o.Logger, t, c),
	}
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(bitsPerKey)
		opts.Levels[i].FilterType = pebble.TableFilter
	}
	opts.EnsureDefaults()
	return opts, cache.Unref
}
