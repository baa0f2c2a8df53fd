package main

import (
	"maps"
	"math"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/bench"
	"github.com/keyraft/keyraft/internal/config"
)

// clusterSeen are the figures that rows of a cluster give besides rate and CPU time.
var clusterSeen = bench.Figures{
	"p50_us": 1, "p99_us": 1, "own_us": 1, "added_us": 1, "rounds": 1, "delivery_us": 1, "reach_p99_ms": 1, "commit_p99_ms": 1,
	"resume_ms": 1, "kept": 1, "served": 1, "gap_ms": 1,
}

// TestWorstOfTheRounds: what must hold each time is not hidden by a median.
func TestWorstOfTheRounds(t *testing.T) {
	t.Parallel()
	of := func(resume, kept float64) round {
		return round{"failover_writes": {"resume_ms": resume, "kept": kept, "served": 1}}
	}
	s := &stage{o: options{only: regexp.MustCompile("^failover")}}
	d := s.document(&bench.Table{Rounds: []map[string]bench.Figures{of(1500, 1), of(1800, 0.99), of(4500, 1)}}, "")
	got := map[string]result{}
	for _, r := range d.Results {
		got[r.Name] = r
	}
	if r := got["failover_writes"]; r.Value != 1800 || !r.OK {
		t.Errorf("the median: %+v", r)
	}
	if r := got["failover_writes_worst"]; r.Value != 4500 || r.OK {
		t.Errorf("the worst: %+v", r)
	}
	if r := got["failover_writes_kept"]; r.Value != 0.99 || r.OK {
		t.Errorf("a lost write: %+v", r)
	}
	if r := got["failover_writes_served"]; r.Value != 1 || !r.OK || d.below() != 2 {
		t.Errorf("%d below, %+v", d.below(), r)
	}
}

// TestHeartbeatIsTheUsualOne: the limits of a failover are made of what the nodes have.
func TestHeartbeatIsTheUsualOne(t *testing.T) {
	t.Parallel()
	f, ok := reflect.TypeFor[config.Raft]().FieldByName("HeartbeatTimeout")
	if usual, err := time.ParseDuration(f.Tag.Get("default")); !ok || err != nil || usual != heartbeat {
		t.Errorf("the nodes' is %s, %v; the figures say %s", usual, err, heartbeat)
	}
}

// TestResumed: an answer of the old leader that was under way when it died is no proof
// of a new one.
func TestResumed(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	acks := []ack{{"a", at(0), at(4)}, {"b", at(9), at(14)}, {"d", at(12), at(90)}, {"c", at(11), at(80)}}
	if first, ok := resumed(acks, at(10)); !ok || !first.Equal(at(80)) {
		t.Errorf("%v, %v", first, ok)
	}
	if _, ok := resumed(acks[:2], at(10)); ok {
		t.Error("resumed by a write that began before")
	}
}

// TestLongestGap: the ends of the time count as well.
func TestLongestGap(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	acks := []ack{{done: at(5)}, {done: at(20)}, {done: at(30)}, {done: at(75)}, {done: at(80)}, {done: at(200)}}
	for _, c := range []struct{ from, to, want int }{{10, 85, 45}, {10, 150, 70}, {10, 32, 10}, {76, 79, 3}, {0, 20, 15}} {
		if got := longestGap(acks, at(c.from), at(c.to)); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("from %d to %d: %s, want %d ms", c.from, c.to, got, c.want)
		}
	}
}

// TestReach: each revocation counts once for each gateway, from its request on, and one
// that a gateway never heard of is an error.
func TestReach(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	r := &revocations{sent: map[uint64]time.Time{7: at(100), 9: at(200)}}
	f := &fleet{pollers: []*poller{
		{id: "a", heard: map[uint64]time.Time{7: at(110), 8: at(111), 9: at(203)}},
		{id: "b", heard: map[uint64]time.Time{7: at(150), 9: at(201)}},
	}}
	took, err := f.reach(r)
	if err != nil || len(took) != 4 || took[0] != time.Millisecond || took[3] != 50*time.Millisecond || r.last() != 9 {
		t.Errorf("%v, %v, last %d", took, err, r.last())
	}
	delete(f.pollers[1].heard, 9)
	if _, err := f.reach(r); err == nil || !strings.Contains(err.Error(), "b never heard of revocation 9") {
		t.Error(err)
	}
}

func TestBenchmarkMetric(t *testing.T) {
	t.Parallel()
	out := []byte("goos: linux\nBenchmarkBareApply/voters=1-2 \t 99 \t 470 ns/op \t 391.6 p50-us\t 0 p99-us\nPASS\n")
	if v, err := benchmarkMetric(out, "BenchmarkBareApply/voters=1", "p50-us"); v != 391.6 || err != nil {
		t.Errorf("%v, %v", v, err)
	}
	for _, c := range [][2]string{{"BenchmarkBareApply/voters=1", "p99-us"}, {"BenchmarkBareApply/voters=1", "p10-us"}, {"BenchmarkBareApply/voters=3", "p50-us"}} {
		if v, err := benchmarkMetric(out, c[0], c[1]); err == nil {
			t.Errorf("%v has the figure %v", c, v)
		}
	}
}

// TestQuantileOfWhatCameSince reads two looks at one node's histogram.
func TestQuantileOfWhatCameSince(t *testing.T) {
	t.Parallel()
	before := parseSeries([]byte("# TYPE x_seconds histogram\nx_seconds_bucket{le=\"0.1\"} 50\nx_seconds_bucket{le=\"1\"} 50\nx_seconds_bucket{le=\"+Inf\"} 50\n"))
	after := parseSeries([]byte("x_seconds_bucket{le=\"1\"} 148\nx_seconds_bucket{le=\"0.1\"} 140\nx_seconds_bucket{le=\"+Inf\"} 150\nx_seconds_sum 4\ny{a=\"b c\"} 7\nbroken\n"))
	b := after.since(before, "x_seconds")
	if len(b) != 3 || b[0] != (bucket{0.1, 90}) || b[2].count != 100 || after[`y{a="b c"}`] != 7 {
		t.Fatalf("%v of %v", b, after)
	}
	for share, want := range map[float64]float64{0.45: 0.05, 0.9: 0.1, 0.94: 0.55, 0.99: 1} {
		if got := quantile(b, share); math.Abs(got-want) > 1e-9 {
			t.Errorf("at %v: %v, want %v", share, got, want)
		}
	}
	if quantile(nil, 0.5) != 0 || quantile(before.since(before, "x_seconds"), 0.5) != 0 {
		t.Error("a quantile of nothing")
	}
}

// FuzzParseSeries: no text makes a quantile that is no number.
func FuzzParseSeries(f *testing.F) {
	for _, seed := range []string{"x_bucket{le=\"0.1\"} 4\nx_bucket{le=\"+Inf\"} 5", "x_bucket{le=\"NaN\"} 1", "x_bucket{le=\"1\"} -3\nx_bucket{le=\"2\"} NaN", " ", "x 1"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s := parseSeries(text)
		again := maps.Clone(s)
		for key := range again {
			again[key] = 0
		}
		for _, b := range s.since(again, "x") {
			if math.IsNaN(b.most) {
				t.Errorf("a bucket up to %v", b.most)
			}
		}
		_ = quantile(s.since(again, "x"), 0.99)
	})
}
