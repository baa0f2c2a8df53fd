package storage

// Stats are numbers for metrics. Counts go up since Open; the rest is now.
type Stats struct {
	DiskBytes        uint64 // all files of the store
	MemTableBytes    uint64
	CacheBytes       int64
	CacheHits        int64
	CacheMisses      int64
	Level0Files      int64
	ReadAmp          int
	CompactionDebt   uint64 // bytes that compactions still have to move
	Flushes          int64
	Compactions      int64
	OpenSnapshots    int
	OpenIterators    int64
	WriteStalls      uint64
	SlowDiskOps      uint64 // writes and syncs that took over a second
	BackgroundErrors uint64
}

// Stats returns the numbers of now, or zeros once the store is closed or broken.
func (d *DB) Stats() Stats {
	if err := d.enter(); err != nil {
		return Stats{}
	}
	defer d.guard.leave()
	m := d.pebble.Metrics()
	return Stats{
		DiskBytes:        m.DiskSpaceUsage(),
		MemTableBytes:    m.MemTable.Size,
		CacheBytes:       m.BlockCache.Size,
		CacheHits:        m.BlockCache.Hits,
		CacheMisses:      m.BlockCache.Misses,
		Level0Files:      m.Levels[0].TablesCount,
		ReadAmp:          m.ReadAmp(),
		CompactionDebt:   m.Compact.EstimatedDebt,
		Flushes:          m.Flush.Count,
		Compactions:      m.Compact.Count,
		OpenSnapshots:    m.Snapshots.Count,
		OpenIterators:    m.TableIters,
		WriteStalls:      d.counters.writeStalls.Load(),
		SlowDiskOps:      d.counters.diskSlow.Load(),
		BackgroundErrors: d.counters.backgroundErrors.Load(),
	}
}
