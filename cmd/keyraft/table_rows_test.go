package main

import (
	"fmt"
	"maps"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/testnode"
)

// TestTableRowsAreCounted: what is shown is what the tables hold, over several chunks too,
// and NaN before anything was counted.
func TestTableRowsAreCounted(t *testing.T) {
	t.Parallel()
	n := testnode.New(t, testnode.Options{})
	r := newTableRows(n.FSM.View)
	shown := func() map[string]float64 {
		to := make(chan prometheus.Metric, len(state.Ending()))
		r.Collect(to)
		close(to)
		out := map[string]float64{}
		for m := range to {
			var d dto.Metric
			if err := m.Write(&d); err != nil {
				t.Fatal(err)
			}
			out[d.GetLabel()[0].GetValue()] = d.GetGauge().GetValue()
		}
		return out
	}
	if got := shown()["consumed"]; !math.IsNaN(got) {
		t.Errorf("before the first count: %v", got)
	}
	r.count(t.Context(), 3, func(time.Duration) {})
	idle := shown()
	for i := range 7 {
		n.Must(t, &command.Consume{Tenant: "default", ValueKind: "jti", Id: fmt.Sprint(i), ExpiresAt: n.Now().Unix() + 90})
	}
	chunks := 0
	r.count(t.Context(), 3, func(time.Duration) { chunks++ })
	if got := shown(); got["consumed"] != 7 || got["expiry_queue"] != idle["expiry_queue"]+7 || got["sessions"] != 0 || len(got) != len(state.Ending()) {
		t.Errorf("shown: %v", got)
	}
	if least := len(state.Ending()) + 4; chunks < least {
		t.Errorf("%d chunks, want %d", chunks, least)
	}
	n.Pass(3 * time.Minute)
	n.Must(t, &command.Expire{UpTo: n.Now().UnixMilli(), Limit: 100})
	r.count(t.Context(), 3, func(time.Duration) {})
	if got := shown(); !maps.Equal(got, idle) {
		t.Errorf("after their end: %v", got)
	}
}
