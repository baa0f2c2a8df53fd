package logstore

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// log is the raft.LogStore with checksums, latch and chunks.
type log struct{ s *Store }

var (
	_ raft.MonotonicLogStore = (*cachedLog)(nil)
	_ raft.MonotonicLogStore = (*log)(nil)
)

// Log returns the log for raft, with the cache outside the checks. Errors wrap
// storage.ErrBroken or are ErrClosed; an absent entry is raft.ErrLogNotFound.
func (s *Store) Log() raft.LogStore {
	cache, err := raft.NewLogCache(s.opts.CacheEntries, s.log)
	if err != nil {
		return s.log // no cache without a size, which withDefaults has set
	}
	return &cachedLog{LogCache: cache, s: s}
}

// cachedLog keeps a broken store from answering out of its cache, and the errors
// of the log from being flattened to text by raft's cache.
type cachedLog struct {
	*raft.LogCache
	s *Store
}

func (c *cachedLog) GetLog(index uint64, into *raft.Log) error {
	if err := c.s.enter(); err != nil {
		return err
	}
	return c.LogCache.GetLog(index, into)
}

func (c *cachedLog) StoreLog(l *raft.Log) error { return c.StoreLogs([]*raft.Log{l}) }

func (c *cachedLog) StoreLogs(logs []*raft.Log) error {
	err := c.LogCache.StoreLogs(logs)
	if err == nil {
		return nil
	}
	if cause := c.s.enter(); cause != nil {
		return cause
	}
	return err
}

// IsMonotonic tells raft that this log has no holes; see the package comment.
func (l *log) IsMonotonic() bool { return true }

func (l *log) FirstIndex() (index uint64, err error) {
	err = l.s.read("first_index", func() (err error) {
		index, err = l.s.engine.FirstIndex()
		return err
	})
	return index, err
}

func (l *log) LastIndex() (index uint64, err error) {
	err = l.s.read("last_index", func() (err error) {
		index, err = l.s.engine.LastIndex()
		return err
	})
	return index, err
}

// GetLog reads one entry and checks it. into is written only when it is good.
func (l *log) GetLog(index uint64, into *raft.Log) error {
	var entry raft.Log
	err := l.s.read("get_log", func() error {
		if err := l.s.engine.GetLog(index, &entry); err != nil {
			if errors.Is(err, raft.ErrLogNotFound) {
				return err
			}
			return fmt.Errorf("entry %d: %w", index, err)
		}
		if entry.Index != index {
			return fmt.Errorf("entry %d says that it is entry %d: %w", index, entry.Index, errSealSum)
		}
		if err := check(&entry); err != nil {
			return fmt.Errorf("entry %d of term %d: %w", index, entry.Term, err)
		}
		return nil
	}, raft.ErrLogNotFound)
	if err != nil {
		return err
	}
	*into = entry
	return nil
}

func (l *log) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs seals the entries and writes them in one synced transaction. Entries
// that do not follow each other, that would overwrite stored ones, or that fail
// the checksum they came with, close the latch: raft would go on after a mere
// error, and after a truncation its memory no longer agrees with the log (K19).
func (l *log) StoreLogs(logs []*raft.Log) error {
	if err := l.s.enter(); err != nil || len(logs) == 0 {
		return err
	}
	for i, entry := range logs {
		if want := logs[0].Index + uint64(i); entry.Index != want {
			return l.refuse(fmt.Errorf("entry %d where %d must follow", entry.Index, want))
		}
		if err := seal(entry); err != nil {
			return l.refuse(fmt.Errorf("entry %d of term %d: %w", entry.Index, entry.Term, err))
		}
	}
	if err := l.join(logs[0].Index); err != nil {
		return err
	}
	return l.s.write("store_logs", func() error { return l.s.engine.StoreLogs(logs) })
}

func (l *log) refuse(err error) error {
	return l.s.opts.Latch.Trip(fmt.Errorf("raft log: append: %w", err))
}

// join makes sure that next follows the last stored entry. Raft leaves a gap only
// where its snapshot covers all before next, and then the older entries go first.
func (l *log) join(next uint64) error {
	last, err := l.LastIndex()
	if err != nil || last == 0 || next == last+1 {
		return err
	}
	if next <= last {
		return l.refuse(fmt.Errorf("entry %d would overwrite a log that ends at %d", next, last))
	}
	first, err := l.FirstIndex()
	if err != nil {
		return err
	}
	return l.DeleteRange(first, last)
}

// DeleteRange deletes low to high, both included, in chunks. The range must reach
// the beginning or the end of the log.
func (l *log) DeleteRange(low, high uint64) error {
	first, err := l.FirstIndex()
	if err != nil {
		return err
	}
	last, err := l.LastIndex()
	if err != nil {
		return err
	}
	if first == 0 || low > high || high < first || low > last {
		return nil
	}
	if low > first && high < last {
		return fmt.Errorf("raft log: delete %d to %d of %d to %d: it would leave a hole", low, high, first, last)
	}
	low, high = max(low, first), min(high, last)
	if low == first {
		return l.deletePrefix(low, high)
	}
	return l.deleteSuffix(low, high)
}

func (l *log) deletePrefix(low, high uint64) error {
	for {
		end := high
		if high-low >= chunk {
			end = low + chunk - 1
		}
		if err := l.deleteChunk(low, end); err != nil || end == high {
			return err
		}
		low = end + 1
	}
}

func (l *log) deleteSuffix(low, high uint64) error {
	for {
		begin := low
		if high-low >= chunk {
			begin = high - chunk + 1
		}
		if err := l.deleteChunk(begin, high); err != nil || begin == low {
			return err
		}
		high = begin - 1
	}
}

func (l *log) deleteChunk(low, high uint64) error {
	return l.s.write("delete_range", func() error { return l.s.engine.DeleteRange(low, high) })
}
