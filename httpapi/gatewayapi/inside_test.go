package gatewayapi

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

func FuzzPosition(f *testing.F) {
	for _, s := range []string{"0", "5", "05", "+5", "-1", "1e3", "0x10", "", "9223372036854775807", "9223372036854775808", "１"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parsePosition("since", s)
		if err == nil && (strconv.FormatUint(n, 10) != s || n > 1<<63-1) {
			t.Errorf("%q is taken for %d", s, n)
		}
	})
}

func FuzzWait(f *testing.F) {
	for _, s := range []string{"", "30s", "30", "-1", "30h", "1e9", "99999999999999999999", "-", "1.5h", "s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := parseWait(s); err == nil && (d < 0 || d > time.Minute) {
			t.Errorf("%q waits %v", s, d)
		}
	})
}

func FuzzKinds(f *testing.F) {
	for _, s := range []string{"", "token", "client,token", "keys", "token,token", ",", "key,", "tokens"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		kinds, err := parseKinds(s)
		if err != nil || kinds == "" {
			return
		}
		again, err := parseKinds(kinds)
		if err != nil || again != kinds || strings.Contains(kinds, ",,") {
			t.Errorf("%q gives %q, that %q (%v)", s, kinds, again, err)
		}
	})
}

func FuzzReport(f *testing.F) {
	f.Add([]byte(`{"items":[{"gateway":"g1","instance":"i","epoch":1,"head":2,"acked":true,"seen_ms":3}]}`))
	f.Add([]byte(`{"items":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := parseReport(raw)
		if err != nil {
			return
		}
		q := &inquiry{Tenant: "default", Epoch: 1, Seq: 2}
		for i := range r.Items {
			_ = r.Items[i].expected(q) && r.Items[i].has(q)
		}
	})
}

func TestDeltasAreBounded(t *testing.T) {
	t.Parallel()
	d := newDeltas()
	made := 0
	get := func(since uint64, size int) {
		t.Helper()
		body, err := d.get(t.Context(), deltaKey{since: since}, func() ([]byte, error) { made++; return make([]byte, size), nil })
		if err != nil || len(body) != size {
			t.Fatalf("%d bytes, %v", len(body), err)
		}
	}
	for i := range uint64(3 * keptDeltas) {
		get(i, 100)
	}
	if len(d.byKey) != keptDeltas || d.bytes != 100*keptDeltas {
		t.Errorf("%d deltas of %d bytes are kept", len(d.byKey), d.bytes)
	}
	before := made
	if get(3*keptDeltas-1, 100); made != before {
		t.Error("the newest delta was made twice")
	}
	for i := range uint64(10) {
		get(1000+i, keptBytes/4)
	}
	if d.bytes > keptBytes {
		t.Errorf("%d bytes are kept", d.bytes)
	}
	if get(2000, keptBytes); d.byKey[deltaKey{since: 2000}] != nil {
		t.Error("a delta larger than its share is kept")
	}
	func() {
		defer func() { _ = recover() }()
		_, _ = d.get(t.Context(), deltaKey{since: 1 << 40}, func() ([]byte, error) { panic("inside") })
	}()
	get(1<<40, 1) // nobody waits for what panicked
}
