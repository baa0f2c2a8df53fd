package main

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// TestSmallScalesWhatMemoryMayBe: few clients are held against a few clients' share.
func TestSmallScalesWhatMemoryMayBe(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		small bool
		bound float64
		limit string
	}{{false, 400, "400 MiB"}, {true, 20, "20 MiB"}} {
		for _, f := range memoryFigures(options{small: tt.small}) {
			if f.name != "rss_1m_clients" {
				continue
			}
			r := round{"node_idle": {"rss_mib": 30}, "node_crowded": {"rss_mib": 40}}
			if f.bound(r) != tt.bound || f.limit != tt.limit || f.value(r) != 10 || f.ratio(r) != tt.bound/10 {
				t.Errorf("small %v: %v of %v (%s), ratio %v", tt.small, f.value(r), f.bound(r), f.limit, f.ratio(r))
			}
		}
	}
}

// TestRatioOfNothing: what takes nothing keeps every limit, one of nothing too.
func TestRatioOfNothing(t *testing.T) {
	t.Parallel()
	f := figure{value: of("x", "allocs"), bound: constant(0), less: true}
	for allocs, want := range map[float64]float64{0: 1, 2: 0} {
		if got := f.ratio(round{"x": {"allocs": allocs}}); got != want {
			t.Errorf("%v allocations: ratio %v, want %v", allocs, got, want)
		}
	}
}

func TestReadCounts(t *testing.T) {
	t.Parallel()
	page := "# HELP go_memstats_mallocs_total x\ngo_memstats_mallocs_total 1.5e+06\ngo_memstats_mallocs_total_other 7\n" +
		"keyraft_token_requests_total{grant=\"client_credentials\",result=\"ok\"} 40\nkeyraft_token_requests_total{grant=\"x\",result=\"error\"} 2\n"
	if c, err := readCounts([]byte(page)); err != nil || c.mallocs != 1.5e6 || c.requests != 42 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, page := range []string{"", "keyraft_token_requests_total{} 1\n", "go_memstats_mallocs_total x\n"} {
		if c, err := readCounts([]byte(page)); err == nil {
			t.Errorf("%q gives %+v", page, c)
		}
	}
}

// FuzzReadCounts: a page of anything gives counts or an error.
func FuzzReadCounts(f *testing.F) {
	f.Add([]byte("go_memstats_mallocs_total 1\nkeyraft_token_requests_total{} 2"))
	f.Add([]byte("go_memstats_mallocs_total NaN x"))
	f.Fuzz(func(t *testing.T, page []byte) {
		if _, err := readCounts(page); err == nil && !bytes.Contains(page, []byte("go_memstats_mallocs_total")) {
			t.Error("counts of nothing")
		}
	})
}

// TestMiddle: an even number of starts has the slower one of the two in the middle.
func TestMiddle(t *testing.T) {
	t.Parallel()
	if got := middle([]time.Duration{3 * time.Millisecond, 1500 * time.Microsecond, 9 * time.Millisecond}); got != 3 {
		t.Error(got)
	}
	if got := middle([]time.Duration{2 * time.Millisecond, time.Millisecond}); math.Abs(got-2) > 1e-9 {
		t.Error(got)
	}
}

// booted writes the snapshot of a cluster that has just begun.
func booted(t *testing.T, path string) {
	t.Helper()
	f, err := fsm.Open(fsm.Config{Dir: t.TempDir(), Halt: func(err error) { t.Error(err) }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Kill() }()
	b, err := command.Encode(&command.Bootstrap{
		Cluster:    &state.Cluster{Id: "c1", Generation: 1, SealCheck: []byte("x"), CreatedAt: 1_700_000_000_000, Issuer: "https://sts.example"},
		Tenant:     &state.Tenant{Id: "default", CreatedAt: 1_700_000_000_000},
		Keys:       []*state.ClusterKey{{Name: "ca", Version: 1, Sealed: []byte("x"), Status: "active"}, {Name: "hash", Version: 1, Sealed: []byte("x"), Status: "active"}},
		Node:       &state.Node{Id: "n1", ClusterAddr: "127.0.0.1:1", PublicKey: make([]byte, 32), JoinedAt: 1_700_000_000_000, FeatureLevel: 1},
		AdminToken: make([]byte, 32),
	}, command.Key{}, [8]byte{}, false)
	if err != nil {
		t.Fatal(err)
	}
	if r := f.Apply(1, 1, append(command.AppendHeader(nil, command.Header{Stamp: 1_700_000_000_000}, 1), b...)); len(r) != 1 || r[0].Reject != command.Accepted {
		t.Fatalf("%+v", r)
	}
	if err := snapshotTo(f, path); err != nil {
		t.Fatal(err)
	}
}

func inspect(t *testing.T, path string) (fsm.Header, int64) {
	t.Helper()
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	h, rows, err := fsm.Inspect(in)
	if err != nil {
		t.Fatal(err)
	}
	return h, rows
}

// TestGrow: the snapshot that is restored is the node's own with the clients added.
func TestGrow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	booted(t, from)
	if err := grow(context.Background(), dir, from, to, 600); err != nil {
		t.Fatal(err)
	}
	before, had := inspect(t, from)
	after, has := inspect(t, to)
	if has-had < 600 || after.Cluster != before.Cluster || after.Index != before.Index+3 || after.Epoch != before.Epoch {
		t.Errorf("%d rows before, %d after: %+v, %+v", had, has, before, after)
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if err := grow(gone, t.TempDir(), from, to, 600); err == nil {
		t.Error("it went on")
	}
}

// TestSnapshotRefused: a node's refusal is said, with its words and without the token.
func TestSnapshotRefused(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" || r.URL.Path != "/admin/v1/cluster/snapshot" {
			t.Errorf("%s with %q", r.URL, r.Header.Get("Authorization"))
		}
		http.Error(w, "no leader", http.StatusServiceUnavailable)
	}))
	defer server.Close()
	v := &served{ready: proc.Ready{URL: server.URL, AdminToken: "secret"}}
	if err := v.crowd(context.Background(), t.TempDir(), 1); err == nil || !strings.Contains(err.Error(), "status 503: no leader") || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}
