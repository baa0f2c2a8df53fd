package cluster

import "testing"

// TestQueueCountsWhatItRefuses: operators see that a queue is full, though each
// refusal is tried again and may succeed later.
func TestQueueCountsWhatItRefuses(t *testing.T) {
	q := newQueue()
	if !q.push(newUnit("a", 0, maxQueued-10, []byte{1})) {
		t.Fatal("an empty queue takes nothing")
	}
	if got := q.refusals.Load(); got != 0 {
		t.Errorf("%d refusals of a queue that took everything", got)
	}
	if q.push(newUnit("a", 0, 25, []byte{1})) {
		t.Fatal("a full queue takes more")
	}
	if got := q.refusals.Load(); got != 25 {
		t.Errorf("%d refusals, want the 25 commands that found no place", got)
	}
	q.refuse(errNotDone)
	if q.depth() != 0 || !q.push(newUnit("a", 0, 25, []byte{1})) {
		t.Error("an emptied queue is still full")
	}
}
