package main

import "testing"

func TestASmallHeapGetsRoomAndALargeOneIsNotDoubled(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 400, 4 << 20: 400, 8 << 20: 300, 24 << 20: 100, 48 << 20: 50, 1 << 30: 50} {
		if got := collectorPercent(live); got != want {
			t.Errorf("%d bytes alive: %d %%, want %d", live, got, want)
		}
	}
}
