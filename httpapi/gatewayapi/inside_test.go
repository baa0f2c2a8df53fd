package gatewayapi

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/state"
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

// TestAFullGatewayTakesNobodyElsesPlace: a gateway whose instances all poll has none
// to forget, and whoever polls without a name is none of them.
func TestAFullGatewayTakesNobodyElsesPlace(t *testing.T) {
	t.Parallel()
	p, err := NewPollers(PollersConfig{
		View:  func(context.Context, state.Freshness) (*state.View, error) { return nil, errors.New("no view") },
		Nodes: func() []string { return nil },
		Ask:   func(context.Context, string, string, []byte) ([]byte, error) { return nil, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	poll := func(gateway, instance string) *visit {
		return p.arrived(&caller{gateway: gateway}, &question{instance: instance}, "127.0.0.1")
	}
	poll("", "").done()
	var first *visit
	for i := range maxInstances {
		if v := poll("g", strconv.Itoa(i)); i == 0 {
			first = v
		}
	}
	poll("g", "one more")
	if p.known[instanceKey{}] == nil {
		t.Error("somebody else was forgotten")
	}
	first.done()
	poll("g", "the last")
	if p.known[instanceKey{"g", "0"}] != nil || p.known[instanceKey{"g", "the last"}] == nil {
		t.Error("the silent instance was not the one to go")
	}
}

// TestAccept is RFC 9110 §12.5.1, as far as two forms need it.
func TestAccept(t *testing.T) {
	t.Parallel()
	for accept, proto := range map[string]bool{
		"": false, "*/*": false, "application/*": false, "text/html": false, "application/json": false,
		"application/x-protobuf": true, "Application/X-Protobuf": true, "application/x-protobuf;q=0.5": true,
		"application/x-protobuf;q=0, application/json": false, "application/x-protobuf;q=0": false,
		"application/json, application/x-protobuf": false, "application/x-protobuf, application/json": true,
		"application/json;q=0.1, application/x-protobuf": true, "application/x-protobuf;q=0.4,application/json;q=0.5": false,
		"application/x-protobuffer": false, "text/plain;application/x-protobuf": false, "application/x-protobuf; Q = 0": false,
		"application/x-protobuf;q=NaN": false, "application/x-protobuf;v=1;q=1.0": true, " application/x-protobuf ;q=2": false,
		"application/json;q=0, */*": false,
	} {
		if got := prefersProto(accept); got != proto {
			t.Errorf("%q: the compact form %v, want %v", accept, got, proto)
		}
	}
}

func FuzzAccept(f *testing.F) {
	f.Add("application/x-protobuf;q=0.5, application/json;q=0.4")
	f.Add(";;,=,q=")
	f.Fuzz(func(t *testing.T, accept string) {
		if prefersProto(accept) && !strings.Contains(strings.ToLower(accept), "application/x-protobuf") {
			t.Errorf("%q gives the compact form", accept)
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
