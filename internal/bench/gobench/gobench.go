// Package gobench adds the CPU time to a Go benchmark: on a busy machine it is
// steadier than ns/op, which is time on the wall. Only test files import it.
package gobench

import (
	"runtime"
	"testing"
)

// CPU begins to count this process's CPU time, right before the loop; what it
// returns ends that, right behind the loop, and reports cpu-ns/op for so many
// operations a turn. It counts all threads: one benchmark at a time.
func CPU(b *testing.B) (end func(perTurn int)) {
	b.Helper()
	runtime.GC() // what was made ready beforehand is not collected in the loop
	begun, known := used()
	return func(perTurn int) {
		b.Helper()
		ended, _ := used()
		if n := b.N * perTurn; known && n > 0 {
			b.ReportMetric(float64(ended-begun)/float64(n), "cpu-ns/op")
		}
	}
}
