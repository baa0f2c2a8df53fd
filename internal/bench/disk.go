package bench

import (
	"errors"
	"os"
	"time"
)

// Sync appends 4 KiB to a file in dir and syncs its data, over and over for so long:
// the limit of whatever has to be on disk before it is answered. The figures are
// "rate", "p50_us" and "p99_us".
func Sync(dir string, long time.Duration) (_ Figures, err error) {
	f, err := os.CreateTemp(dir, "sync-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	h, block, begun := NewHistogram(), make([]byte, 4<<10), time.Now()
	for last := begun; last.Sub(begun) < long; {
		if _, err := f.Write(block); err != nil {
			return nil, err
		}
		if err := syncData(f); err != nil {
			return nil, err
		}
		now := time.Now()
		h.Record(now.Sub(last))
		last = now
	}
	return Figures{"rate": float64(h.Count()) / time.Since(begun).Seconds(), "p50_us": us(h.At(50)), "p99_us": us(h.At(99))}, nil
}
