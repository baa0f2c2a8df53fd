package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/keyraft/keyraft/internal/bench"
	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// heartbeat is raft.heartbeat_timeout, which the nodes keep as it is.
const heartbeat = time.Second

// of gives one figure of one row.
func of(row, name string) func(round) float64 {
	return func(r round) float64 { return r[row][name] }
}

func times(factor float64, f func(round) float64) func(round) float64 {
	return func(r round) float64 { return factor * f(r) }
}

func constant(v float64) func(round) float64 { return func(round) float64 { return v } }

// clusterFigures are those of three nodes, of writes, and of what gateways see.
func clusterFigures() []figure {
	// The smaller one of both limits, as one core can do no more than the other.
	committed := func(syncs, ceiling float64) func(round) float64 {
		return func(r round) float64 {
			return min(syncs*r["sync"]["rate"], ceiling*r["ceiling_opaque"]["rate"])
		}
	}
	rounds := func(row string) figure { // F7
		return figure{
			name: row + "_rounds", unit: "rounds/request", limit: "1 to 16 requests", floor: 1, needs: []string{row},
			value: of(row, "rounds"), bound: constant(1.0 / 16), less: true,
		}
	}
	share := func(row, what, unit string) figure { // F11
		return figure{
			name: row + "_" + what, unit: unit, limit: "all of them", floor: 1, needs: []string{row},
			value: of(row, what), bound: constant(1), worst: true,
		}
	}
	cpuOf := func(name, row, value, unit string, floor float64) figure {
		return figure{
			name: name, unit: unit, limit: "bare", floor: floor, needs: []string{row, "bare"},
			value: of(row, value), bound: cpu("bare"), less: true,
		}
	}

	single := func(row string) figure {
		return figure{
			name: row, unit: "µs", limit: "raft alone, 3 voters", needs: []string{row, "raft_apply_3voters"},
			value: of(row, "p50_us"), bound: of("raft_apply_3voters", "p50_us"), less: true,
		}
	}
	failover := figure{
		name: "failover_writes", unit: "ms", limit: "3 x heartbeat timeout", floor: 1, needs: []string{"failover_writes"},
		value: of("failover_writes", "resume_ms"), bound: constant(3 * millis(heartbeat)), less: true,
	}
	worst := failover
	worst.name, worst.limit, worst.bound, worst.worst = "failover_writes_worst", "4 x heartbeat timeout", constant(4*millis(heartbeat)), true
	return []figure{
		{ // F5
			name: "opaque_issue_3voters", unit: "1/s", limit: "min(4 x sync, 0.10 x ceiling)", floor: 1,
			needs: []string{"opaque_issue_3voters", "sync", "ceiling_opaque"}, value: rate("opaque_issue_3voters"), bound: committed(4, 0.10),
		},
		{ // F6
			name: "write_single_p50", unit: "µs", limit: "1.5 x raft alone", floor: 1, needs: []string{"write_single_p50", "raft_apply"},
			value: of("write_single_p50", "p50_us"), bound: times(1.5, of("raft_apply", "p50_us")), less: true,
		},
		single("write_single_p50_3voters"),
		single("write_single_p50_follower"),
		// Of the node that was asked; the round costs the others something, too.
		cpuOf("introspect_leader", "introspect_leader", "own_us", "µs CPU", 0.45), // F7
		cpuOf("introspect_leader_all_nodes", "introspect_leader", "cpu_us", "µs CPU", 0),
		rounds("introspect_leader"),
		cpuOf("introspect_follower", "introspect_follower", "own_us", "µs CPU", 0),
		cpuOf("introspect_follower_all_nodes", "introspect_follower", "cpu_us", "µs CPU", 0),
		rounds("introspect_follower"),
		{
			name: "revoke", unit: "1/s", limit: "min(10 x sync, 0.35 x ceiling)",
			needs: []string{"revoke", "sync", "ceiling_opaque"}, value: rate("revoke"), bound: committed(10, 0.35),
		},
		cpuOf("revoke_cpu", "revoke", "cpu_us", "µs CPU", 0),
		cpuOf("delta_100_gateways", "delta_100_gateways", "delivery_us", "µs CPU/delivery", 0),
		cpuOf("delta_100_gateways_added", "delta_100_gateways", "added_us", "µs CPU/delivery", 0),
		{ // F10
			name: "propagation_p99", unit: "ms", limit: "3 x commit p99 + 50 ms", floor: 1, needs: []string{"propagation_p99"},
			value: of("propagation_p99", "reach_p99_ms"), less: true,
			bound: func(r round) float64 { return 3*r["propagation_p99"]["commit_p99_ms"] + 50 },
		},
		failover, worst, // F11
		share("failover_writes", "kept", "of writes"),
		share("failover_writes", "served", "of JWTs"),
		{
			name: "handover", unit: "ms", limit: "150 ms", floor: 1, needs: []string{"handover"},
			value: of("handover", "gap_ms"), bound: constant(150), less: true,
		},
		share("handover", "served", "of JWTs"),
	}
}

func (s *stage) clusterMakers() []maker {
	t := &trio{s: s}
	three := func(run func(ctx context.Context) (bench.Figures, error)) func(context.Context) (runner, error) {
		return func(ctx context.Context) (runner, error) { return run, t.start(ctx) }
	}
	bare := func(voters int) func(context.Context) (runner, error) {
		return func(context.Context) (runner, error) {
			return func(ctx context.Context) (bench.Figures, error) { return s.bareApply(ctx, voters) }, nil
		}
	}
	issue := bench.Mix{Issue: 1}
	return []maker{
		{"opaque_issue_3voters", three(func(ctx context.Context) (bench.Figures, error) {
			return t.put(ctx, load{client: t.opaque, mix: issue, connections: crowd, spread: true}, leads)
		})},
		{"raft_apply", bare(1)},
		{"write_single_p50", s.prepareSingle},
		{"raft_apply_3voters", bare(3)},
		{"write_single_p50_3voters", three(func(ctx context.Context) (bench.Figures, error) {
			return t.put(ctx, load{client: t.opaque, mix: issue, connections: 1}, leads)
		})},
		{"write_single_p50_follower", three(func(ctx context.Context) (bench.Figures, error) {
			return t.put(ctx, load{client: t.opaque, mix: issue, connections: 1}, follows)
		})},
		{"introspect_leader", three(func(ctx context.Context) (bench.Figures, error) { return t.introspect(ctx, leads) })},
		{"introspect_follower", three(func(ctx context.Context) (bench.Figures, error) { return t.introspect(ctx, follows) })},
		{"revoke", s.prepareRevoke},
		{"delta_100_gateways", t.prepareDelta},
		{"propagation_p99", t.preparePropagation},
		{"handover", three(t.handover)},
		{"failover_writes", three(t.failover)},
	}
}

// prepareSingle is one client that issues opaque tokens at a lone node.
func (s *stage) prepareSingle(ctx context.Context) (runner, error) {
	v, err := s.keyraft(ctx)
	if err != nil {
		return nil, err
	}
	c, err := v.register(ctx, opaqueClient("single"))
	return func(ctx context.Context) (bench.Figures, error) {
		return s.put(ctx, load{server: v, client: c, mix: bench.Mix{Issue: 1}, connections: 1})
	}, err
}

func opaqueClient(name string) map[string]any {
	return map[string]any{"client_name": name, "access_token_format": "opaque", "access_token_lifetime": 3600}
}

// prepareRevoke is clients that revoke JWTs of their own at a node that does nothing
// else: what is revoked stays in its state.
func (s *stage) prepareRevoke(ctx context.Context) (runner, error) {
	v, err := s.alone(ctx, "keyraft-revoke")
	if err != nil {
		return nil, err
	}
	c, err := v.register(ctx, map[string]any{"client_name": "revoke", "access_token_signed_response_alg": "ES256", "access_token_lifetime": 3600})
	const guess = 2500 // revocations a second
	tokens := int(guess * (s.o.warmup + s.o.long).Seconds())
	return func(ctx context.Context) (bench.Figures, error) {
		for {
			f, done, err := s.revoke(ctx, v, c, tokens)
			if done || err != nil {
				return f, err
			}
			tokens *= 2 // it was quicker than that
		}
	}, err
}

// revoke revokes these many tokens, which are issued before. It is not done when they
// were too few: then the end of the run issued others.
func (s *stage) revoke(ctx context.Context, v *served, c proc.Client, tokens int) (bench.Figures, bool, error) {
	l := load{server: v}
	target := bench.Target{Servers: l.urls(), Client: bench.Credentials{ID: c.ID, Secret: c.Secret}}
	workers, err := target.Workers(ctx, crowd, bench.Mix{Revoke: 1}, tokens)
	if err != nil {
		return nil, false, err
	}
	r, err := succeeded(bench.Run(ctx, bench.Load{
		Ops: bench.Ops("issue"), Workers: workers, Warmup: s.o.warmup, Duration: s.o.long, Server: l.process(),
	}))
	if err != nil {
		return nil, false, err
	}
	return r.Figures(), len(r.Ops) == 1 && r.Ops[0].Name == "revoke", nil
}

// bareApply runs raft alone over the product's log store. Voters that share a process
// have a thread each, as processes of their own would.
func (s *stage) bareApply(ctx context.Context, voters int) (bench.Figures, error) {
	name := fmt.Sprintf("voters=%d", voters)
	out, _, err := s.once(ctx, s.o.test("logstore"), "-test.cpu", strconv.Itoa(voters), "-test.run", "^$", "-test.bench", "^BenchmarkBareApply$/^"+name+"$", "-test.benchtime", (s.o.long / 2).String())
	if err != nil {
		return nil, err
	}
	f := bench.Figures{}
	for _, figure := range []string{"p50", "p99"} {
		if f[figure+"_us"], err = benchmarkMetric(out, "BenchmarkBareApply/"+name, figure+"-us"); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// benchmarkMetric reads one figure of the line of a benchmark.
func benchmarkMetric(out []byte, name, unit string) (float64, error) {
	fields := benchmarkLine(out, name)
	for i := 2; i+1 < len(fields); i += 2 {
		if string(fields[i+1]) != unit {
			continue
		}
		v, err := strconv.ParseFloat(string(fields[i]), 64)
		if err != nil || !(v > 0) {
			return 0, fmt.Errorf("%s: %q is no figure in %s", name, fields[i], unit)
		}
		return v, nil
	}
	return 0, fmt.Errorf("%s printed no figure in %s", name, unit)
}
