package cluster

import (
	"testing"
	"time"
)

// TestATroubleThatGoesOnIsToldNowAndThen: what is tried again five times a second
// doesn't fill the log with one line.
func TestATroubleThatGoesOnIsToldNowAndThen(t *testing.T) {
	t.Parallel()
	var r repeats
	at := time.Unix(1e9, 0)
	for _, step := range []struct {
		what, text string
		after      time.Duration
		want       bool
	}{
		{"a", "port in use", 0, true},
		{"a", "port in use", 200 * time.Millisecond, false},
		{"b", "port in use", 0, true},
		{"a", "no such host", time.Second, true},
		{"a", "no such host", repeatEvery - time.Second, false},
		{"a", "no such host", time.Second, true},
		{"a", "", time.Second, false},
		{"a", "no such host", time.Second, true},
	} {
		at = at.Add(step.after)
		if got := r.due(step.what, step.text, at); got != step.want {
			t.Errorf("%s %q at %s: told %v", step.what, step.text, at.Sub(time.Unix(1e9, 0)), got)
		}
	}
}
