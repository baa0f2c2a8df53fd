package main

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/internal/bench"
)

// TestEachFigureIsMadeOfRows: a row that nobody prepares would leave its figure out.
func TestEachFigureIsMadeOfRows(t *testing.T) {
	t.Parallel()
	made, used, names := map[string]bool{}, map[string]bool{}, map[string]bool{}
	s := &stage{o: options{peers: "all"}}
	for _, m := range s.makers() {
		if made[m.row] {
			t.Errorf("two rows are called %s", m.row)
		}
		made[m.row] = true
	}
	for _, f := range figures(s.o) {
		if names[f.name] {
			t.Errorf("two figures are called %s", f.name)
		}
		names[f.name] = true
		seen := round{}
		for i, row := range f.needs {
			used[row] = true
			if !made[row] {
				t.Errorf("%s needs %s, which nobody makes", f.name, row)
			}
			seen[row] = maps.Clone(clusterSeen)
			for _, name := range []string{"cpu_us", "rate", "allocs", "each_bytes", "p99_us", "rss_mib", "idle_mib", "peak_mib", "ready_ms"} {
				seen[row][name] = float64(i + 1) // other ones for each row, so that a difference is none of 0
			}
		}
		// What it computes with, it names.
		if f.value(seen) <= 0 || f.bound(seen) <= 0 && f.limit != "0" {
			t.Errorf("%s computes %v and %v from the rows that it names", f.name, f.value(seen), f.bound(seen))
		}
	}
	for row := range made {
		if !used[row] {
			t.Errorf("no figure needs %s", row)
		}
	}
}

// TestDocument: medians of ratios by round, floors, and rows; what a partial run has.
func TestDocument(t *testing.T) {
	t.Parallel()
	of := func(cpu, bare, sig float64) round {
		return round{"jwt_client_credentials_es256": {"cpu_us": cpu}, "bare": {"cpu_us": bare}, "sig_es256": {"cpu_us": sig}}
	}
	table := &bench.Table{
		Rows: []string{"bare", "sig_es256", "jwt_client_credentials_es256", "ceiling_es256"},
		// The second round met a busy machine, the fourth was broken off.
		Rounds: []map[string]bench.Figures{of(60, 10, 32), of(120, 20, 64), of(50, 9, 31), {"bare": {"cpu_us": 10}}},
	}
	s := &stage{o: options{only: regexp.MustCompile("es256"), peers: "none"}}
	d := s.document(table, "interrupted")
	if len(d.Results) != 1 || len(d.Rows) != 4 || d.Rounds != 4 || d.Machine == "" {
		t.Fatalf("%+v", d)
	}
	got := d.Results[0]
	if got.Value != 60 || got.Min != 50 || got.Max != 120 || got.LimitValue != 42 || got.Ratio != 0.7 || got.Floor != 0.6 || !got.OK || d.below() != 0 {
		t.Errorf("%+v", got)
	}
	path := filepath.Join(t.TempDir(), "build", "bench.json")
	if err := d.save(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Machine, Commit, Partial string
		Results                  []map[string]any
	}
	if err := json.Unmarshal(text, &back); err != nil || back.Partial != "interrupted" || back.Results[0]["limit_value"] != 42.0 || back.Results[0]["ok"] != true {
		t.Errorf("%v: %s", err, text)
	}
	var out strings.Builder
	if err := d.print(&out); err != nil || !strings.Contains(out.String(), "PARTIAL: interrupted") || !strings.Contains(out.String(), "jwt_client_credentials_es256  60     50–120   µs CPU  bare + sig  42  0.7    0.6    yes") {
		t.Errorf("%v:\n%s", err, out.String())
	}

	slow := s.document(&bench.Table{Rounds: []map[string]bench.Figures{of(100, 10, 32)}}, "")
	if slow.below() != 1 || slow.Results[0].OK {
		t.Errorf("%+v", slow.Results)
	}
}

// TestNothingToMeasure: a pattern that fits no figure is said, not measured.
func TestNothingToMeasure(t *testing.T) {
	t.Parallel()
	s := &stage{o: options{only: regexp.MustCompile("^nothing$"), rounds: 1, peers: "none"}}
	if _, err := s.rounds(context.Background()); err == nil || !strings.Contains(err.Error(), "names no row") {
		t.Error(err)
	}
}

func TestReadBenchmark(t *testing.T) {
	t.Parallel()
	out := []byte("goos: linux\nBenchmarkMintFast-2 \t 9 \t 1 ns/op\nBenchmarkMint-2 \t 1234\t 987.5 ns/op\t 6064 B/op\t 59 allocs/op\nPASS\n")
	if said, n, err := readBenchmark(out, "BenchmarkMint"); n != 1234 || said["allocs/op"] != 59 || said["ns/op"] != 987.5 || err != nil {
		t.Errorf("%v, %v, %v", said, n, err)
	}
	if _, _, err := readBenchmark(out, "BenchmarkOther"); err == nil {
		t.Error("a figure of nothing")
	}
}

// FuzzReadBenchmark: nothing divides by zero later.
func FuzzReadBenchmark(f *testing.F) {
	for _, seed := range []string{"BenchmarkX 1 2 ns/op", "BenchmarkX-8 0 1 ns/op", "BenchmarkX 1 x allocs/op", "BenchmarkX"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, out []byte) {
		if _, n, err := readBenchmark(out, "BenchmarkX"); err == nil && n < 1 {
			t.Errorf("%v times", n)
		}
	})
}
