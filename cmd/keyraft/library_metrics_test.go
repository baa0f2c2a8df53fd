package main

import (
	"strings"
	"testing"

	"github.com/hashicorp/go-metrics"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestSeriesOfLibrariesAreShown(t *testing.T) {
	t.Parallel()
	sink := &librarySink{series: map[string]*librarySeries{}}
	for range 3 {
		sink.IncrCounter([]string{"raft", "apply"}, 2)
		sink.SetGauge([]string{"raft", "last-index"}, 7)
		sink.AddSampleWithLabels([]string{"raft", "rpc.time"}, 1.5, []metrics.Label{{Name: "peer_id", Value: "b\xff"}})
	}
	sink.AddSampleWithLabels([]string{"raft", "rpc.time"}, 4, []metrics.Label{{Name: "peer_id", Value: "c"}})
	sink.EmitKey([]string{"nothing"}, 1)
	want := `
# HELP raft_apply Of a library that this node is built on.
# TYPE raft_apply counter
raft_apply 6
# HELP raft_last_index Of a library that this node is built on.
# TYPE raft_last_index gauge
raft_last_index 7
# HELP raft_rpc_time Of a library that this node is built on.
# TYPE raft_rpc_time summary
raft_rpc_time_sum{peer_id="b?"} 4.5
raft_rpc_time_count{peer_id="b?"} 3
raft_rpc_time_sum{peer_id="c"} 4
raft_rpc_time_count{peer_id="c"} 1
`
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(sink); err != nil {
		t.Fatal(err)
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
