package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// What the heap may grow by between two collections. Go's default, by as much as
// is alive, collects a small heap all the time and doubles a large one.
const (
	leastHeadroom = 24 << 20 // bytes
	leastPercent  = 50
	mostPercent   = 400
)

// paceCollector gives back what the start alone needed, then sets the garbage
// collector's percentage by what is alive, until ctx ends. It leaves that alone
// where the operator chose one (GOGC); a memory limit (GOMEMLIMIT) holds beside it.
func paceCollector(ctx context.Context) {
	debug.FreeOSMemory()
	if os.Getenv("GOGC") != "" {
		return
	}
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	set := 0
	for {
		metrics.Read(sample)
		if sample[0].Value.Kind() != metrics.KindUint64 {
			return // this Go no longer tells
		}
		if want := collectorPercent(sample[0].Value.Uint64()); want < set*9/10 || want > set*11/10 {
			debug.SetGCPercent(want)
			set = want
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// collectorPercent is the percentage for so many live bytes.
func collectorPercent(live uint64) int {
	return int(min(max(leastHeadroom*100/max(live, 1), leastPercent), mostPercent))
}
