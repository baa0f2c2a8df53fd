package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyraft/keyraft/internal/bench"
	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// What a row has many of, and with -small.
const (
	manyClients, fewClients = 1_000_000, 50_000
	manyRows, fewRows       = 200_000, 20_000
)

// clients is how many the crowded folder has.
func (o options) clients() int {
	if o.small {
		return fewClients
	}
	return manyClients
}

// rest is how long a node is left alone before its memory is read.
func (o options) rest() time.Duration {
	if o.small {
		return time.Second
	}
	return 5 * time.Second
}

// starts is how often a start is measured in one round.
func (o options) starts() int {
	if o.small {
		return 1
	}
	return 3
}

// memoryFigures are what a request allocates, what a gateway's validation takes, and
// what a node takes of memory, of a snapshot and of a start: F2, F8, F9, F12 to F14.
func memoryFigures(o options) []figure {
	// Memory is held against what a million clients may take, in proportion.
	more := 400 * float64(o.clients()) / manyClients
	least := func(name, unit, limit string, floor float64, value, bound func(round) float64, needs ...string) figure {
		return figure{name: name, unit: unit, limit: limit, floor: floor, needs: needs, value: value, bound: bound, less: true}
	}
	ns := func(row string) func(round) float64 { return times(1000, cpu(row)) }
	return []figure{
		least("allocations_jwt_es256", "allocations", "sig + 5", 1, of("allocs_jwt_es256", "allocs"), // F2
			func(r round) float64 { return r["sig_served"]["allocs"] + 5 }, "sig_served", "allocs_jwt_es256"),
		least("allocations_jwt_eddsa", "allocations", "5", 1, of("allocs_jwt_eddsa", "allocs"), constant(5), "allocs_jwt_eddsa"),
		// F8: at most 1.25 times, at most 7 times; beside a million revocations.
		least("gateway_validate_uncached", "µs CPU", "raw verification", 1/1.25, cpu("validate_uncached"), cpu("raw_verify"), "raw_verify", "validate_uncached"),
		least("gateway_validate_uncached_allocations", "allocations", "20", 1, of("validate_uncached", "allocs"), constant(20), "validate_uncached"),
		least("gateway_validate_cached", "ns CPU", "hash of the token", 1.0/7, ns("validate_cached"), ns("token_hash"), "token_hash", "validate_cached"),
		least("gateway_validate_cached_allocations", "allocations", "0", 1, of("validate_cached", "allocs"), constant(0), "validate_cached"),
		least("revocation_bytes_each", "B", "64 B", 1, of("revocation_bytes", "each_bytes"), constant(64), "revocation_bytes"), // F9
		// F12: three times, twice, three times.
		least("snapshot_rows", "ns CPU/row", "bare iteration", 1.0/3, ns("snapshot_stream"), ns("bare_iteration"), "bare_iteration", "snapshot_stream"),
		least("restore_rows", "ns CPU/row", "bare SST + ingest", 1.0/2, ns("restore_stream"), ns("bare_build"), "bare_build", "restore_stream"),
		least("snapshot_apply_p99", "µs", "without a snapshot", 1.0/3, of("apply_beside_snapshot", "p99_us"), of("apply_alone", "p99_us"), "apply_alone", "apply_beside_snapshot"),
		// F13
		least("rss_idle", "MiB", "80 MiB", 1, of("node_idle", "rss_mib"), constant(80), "node_idle"),
		least("rss_1m_clients", "MiB more", short(more)+" MiB", 1,
			func(r round) float64 { return r["node_crowded"]["rss_mib"] - r["node_idle"]["rss_mib"] }, constant(more), "node_idle", "node_crowded"),
		least("rss_es256_load", "MiB", "2.5 x idle", 1, of("node_loaded", "peak_mib"), times(2.5, of("node_loaded", "idle_mib")), "node_loaded"),
		// F14
		least("start_ready", "ms", "1 s", 1, of("node_idle", "ready_ms"), constant(1000), "node_idle"),
		least("start_ready_1m_rows", "ms", "1.5 s", 1, of("node_crowded", "ready_ms"), constant(1500), "node_crowded"),
	}
}

func (s *stage) memoryMakers() []maker {
	rows := []string{"-rows", strconv.Itoa(manyRows)}
	if s.o.small {
		rows[1] = strconv.Itoa(fewRows)
	}
	// What Apply takes is measured with a core for the snapshot beside it, where there is one.
	apply := func(name string) func(context.Context) (runner, error) {
		return func(context.Context) (runner, error) {
			return func(ctx context.Context) (bench.Figures, error) {
				return s.goBenchmark(ctx, []int{s.serverCore, s.ownCore}, s.o.long, "fsm", name, rows...)
			}, nil
		}
	}
	return []maker{
		{"sig_served", s.benchmark("tokens", "BenchmarkSignatureServed")},
		{"allocs_jwt_es256", s.allocations("ES256")},
		{"allocs_jwt_eddsa", s.allocations("EdDSA")},
		{"raw_verify", s.benchmark("gateway", "BenchmarkRawVerify")},
		{"validate_uncached", s.benchmark("gateway", "BenchmarkValidateUncached")},
		{"token_hash", s.benchmark("gateway", "BenchmarkTokenHash")},
		{"validate_cached", s.benchmark("gateway", "BenchmarkValidateCachedHot")},
		{"revocation_bytes", s.benchmark("gateway", "BenchmarkRevocationBytes")},
		{"bare_iteration", s.benchmark("fsm", "BenchmarkBareIteration", rows...)},
		{"snapshot_stream", s.benchmark("fsm", "BenchmarkSnapshotStream", rows...)},
		{"bare_build", s.benchmark("fsm", "BenchmarkBareBuild", rows...)},
		{"restore_stream", s.benchmark("fsm", "BenchmarkRestoreStream", rows...)},
		{"apply_alone", apply("BenchmarkApplyAlone")},
		{"apply_beside_snapshot", apply("BenchmarkApplyBesideSnapshot")},
		{"node_idle", s.startsEmpty},
		{"node_loaded", s.startsLoaded},
		{"node_crowded", s.startsCrowded},
	}
}

// allocations prepares a row that counts what a node allocates for a token request,
// everything that it does meanwhile included.
func (s *stage) allocations(alg string) func(context.Context) (runner, error) {
	return func(ctx context.Context) (runner, error) {
		v, err := s.keyraft(ctx)
		if err != nil {
			return nil, err
		}
		c, err := v.register(ctx, map[string]any{"client_name": "allocations " + alg, "access_token_signed_response_alg": alg, "access_token_lifetime": 3600})
		if err != nil {
			return nil, err
		}
		l := load{server: v, client: c, mix: bench.Mix{Issue: 1}}
		return func(ctx context.Context) (bench.Figures, error) {
			first, err := v.counts(ctx)
			if err != nil {
				return nil, err
			}
			begun, err := v.counts(ctx) // between the two lies what reading them allocates
			if err != nil {
				return nil, err
			}
			f, err := s.put(ctx, l)
			if err != nil {
				return nil, err
			}
			ended, err := v.counts(ctx)
			if err != nil {
				return nil, err
			}
			requests := ended.requests - begun.requests
			if requests < 1 {
				return nil, errors.New("the node counted no token request")
			}
			f["allocs"] = (ended.mallocs - begun.mallocs - (begun.mallocs - first.mallocs)) / requests
			return f, nil
		}, nil
	}
}

// counts are counters of a node.
type counts struct{ mallocs, requests float64 }

// counts reads a node's own metrics.
func (v *served) counts(ctx context.Context) (counts, error) {
	ctx, cancel := context.WithTimeout(ctx, readyBound)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.ready.URL+"/metrics", nil)
	if err != nil {
		return counts{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return counts{}, err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return counts{}, err
	}
	return readCounts(text)
}

// readCounts reads what counts wants of a page of metrics.
func readCounts(text []byte) (c counts, err error) {
	found := false
	for line := range bytes.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(string(line)), " ")
		if !ok {
			continue
		}
		into := &c.requests
		switch {
		case name == "go_memstats_mallocs_total":
			into, found = &c.mallocs, true
		case strings.HasPrefix(name, "keyraft_token_requests_total{"):
		default:
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return c, fmt.Errorf("the metric %s is no number: %w", name, err)
		}
		*into += n
	}
	if !found {
		return c, errors.New("the node's /metrics has no go_memstats_mallocs_total")
	}
	return c, nil
}

// fresh starts a node over a folder, and says how long it took until it served: from
// the start of the process to its ready line.
func (s *stage) fresh(ctx context.Context, name, dir string) (*served, time.Duration, error) {
	begun := time.Now()
	v, err := s.start(ctx, name, s.o.bin, "server", "--dev", "--api-addr", "127.0.0.1:0", "--data-dir", dir, "--log-level", "warn")
	return v, time.Since(begun), err
}

// started measures several starts, and the memory of the last node when it has rested.
// before makes the folder ready.
func (s *stage) started(ctx context.Context, name, dir string, before func() error) (bench.Figures, error) {
	var took, used []time.Duration
	for {
		if err := before(); err != nil {
			return nil, err
		}
		v, ready, err := s.fresh(ctx, name, dir)
		if err != nil {
			return nil, err
		}
		cpu, err := (&bench.Process{PID: v.proc.PID()}).CPU()
		if err != nil {
			return nil, err
		}
		took, used = append(took, ready), append(used, cpu)
		if len(took) < s.o.starts() {
			v.proc.Terminate(stopBound)
			continue
		}
		rss, peak, err := s.rested(ctx, v)
		v.proc.Terminate(stopBound)
		return bench.Figures{"ready_ms": middle(took), "ready_cpu_ms": middle(used), "rss_mib": rss, "peak_mib": peak}, err
	}
}

// middle is the median, in milliseconds.
func middle(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2].Microseconds()) / 1000
}

// rested leaves a node alone for a while and reads its memory, in MiB.
func (s *stage) rested(ctx context.Context, v *served) (rss, peak float64, err error) {
	timer := time.NewTimer(s.o.rest())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-v.proc.Ended():
		return 0, 0, fmt.Errorf("the node ended: %s", v.proc.Tail(5))
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
	held, most, err := (&bench.Process{PID: v.proc.PID()}).Memory()
	return float64(held) / (1 << 20), float64(most) / (1 << 20), err
}

// startsEmpty measures nodes that are started over an empty folder.
func (s *stage) startsEmpty(context.Context) (runner, error) {
	dir := filepath.Join(s.dir, "idle")
	return func(ctx context.Context) (bench.Figures, error) {
		return s.started(ctx, "idle", dir, func() error { return os.RemoveAll(dir) })
	}, nil
}

// startsCrowded measures nodes that are started over a folder with many clients.
func (s *stage) startsCrowded(ctx context.Context) (runner, error) {
	dir := filepath.Join(s.dir, "crowded")
	v, _, err := s.fresh(ctx, "crowded", dir)
	if err != nil {
		return nil, err
	}
	if err := v.crowd(ctx, s.dir, s.o.clients()); err != nil {
		return nil, fmt.Errorf("register %d clients: %w", s.o.clients(), err)
	}
	if code := v.proc.Terminate(stopBound); code != 0 {
		return nil, fmt.Errorf("the node with %d clients ended with %d: %s", s.o.clients(), code, v.proc.Tail(5))
	}
	return func(ctx context.Context) (bench.Figures, error) {
		return s.started(ctx, "crowded", dir, func() error { return nil })
	}, nil
}

// startsLoaded measures what a node holds at rest, and at most when it has then signed
// as many tokens as it can. It is a fresh one each time: the most is since the start.
func (s *stage) startsLoaded(context.Context) (runner, error) {
	dir := filepath.Join(s.dir, "loaded")
	return func(ctx context.Context) (bench.Figures, error) {
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
		v, _, err := s.fresh(ctx, "loaded", dir)
		if err != nil {
			return nil, err
		}
		defer v.proc.Terminate(stopBound)
		idle, _, err := s.rested(ctx, v)
		if err != nil {
			return nil, err
		}
		f, err := s.put(ctx, load{server: v, client: proc.Client{ID: v.ready.ClientID, Secret: v.ready.ClientSecret}, mix: bench.Mix{Issue: 1}})
		if err != nil {
			return nil, err
		}
		f["idle_mib"], f["rss_mib"], f["peak_mib"] = idle, f["rss_bytes"]/(1<<20), f["peak_bytes"]/(1<<20)
		return f, nil
	}, nil
}
