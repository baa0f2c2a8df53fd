package window

import (
	"fmt"
	"testing"
	"time"
)

// TestWindow: an IPv6 network of 64 bits is one address, each tenant has its own counts,
// addresses beyond what can be remembered are one together, and each window begins anew.
func TestWindow(t *testing.T) {
	t.Parallel()
	w := Window{Lasts: time.Minute}
	now := time.Unix(1_700_000_000, 0)
	for i, tt := range []struct {
		after           time.Duration
		tenant, address string
		want            int
	}{
		{0, "", "2001:db8::1", 1}, {0, "", "2001:db8::2", 2}, {0, "", "2001:db8::3", 3}, {0, "", "2001:db8:0:1::1", 1},
		{0, "", "192.0.2.1", 1}, {0, "acme", "192.0.2.1", 1}, {59 * time.Second, "", "192.0.2.1", 2}, {time.Minute, "", "192.0.2.1", 1},
	} {
		if got := w.Add(now.Add(tt.after), tt.tenant, tt.address); got != tt.want {
			t.Errorf("%d: %s %s: %d, want %d", i, tt.tenant, tt.address, got, tt.want)
		}
	}
	later := now.Add(time.Minute)
	for i := range MaxRemembered {
		w.Add(later, "", fmt.Sprint("a", i))
	}
	w.Add(later, "acme", "one of the others")
	if w.Count(later, "", "yet another") == 0 || len(w.counts) > MaxRemembered+1 {
		t.Errorf("%d addresses are counted", len(w.counts))
	}
}
