package gateway

import (
	"testing"
	"time"
)

func BenchmarkBootTime(b *testing.B) {
	for b.Loop() {
		bootTime()
	}
}

func BenchmarkNow(b *testing.B) {
	for b.Loop() {
		_ = time.Now()
	}
}
