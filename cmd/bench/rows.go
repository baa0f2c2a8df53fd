package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/keyraft/keyraft/internal/bench"
)

// round is what all rows gave in one round.
type round = map[string]bench.Figures

// figure is one line of the published table. Limit computes what value is held against;
// the ratio says which share of the limit is reached, and is at least the floor when
// all is well. A floor of 0 is none.
type figure struct {
	name  string
	unit  string
	limit string // in words
	floor float64
	needs []string // rows
	value func(r round) float64
	bound func(r round) float64
	less  bool // a smaller value is a better one: the ratio is limit over value
	worst bool // the worst round counts, not the middle one
}

// ratio is the share of the limit that is reached in one round.
func (f figure) ratio(r round) float64 {
	value, bound := f.value(r), f.bound(r)
	switch {
	case !f.less:
		return value / bound
	case value == 0: // no limit is below that
		return 1
	}
	return bound / value
}

func cpu(row string) func(round) float64 {
	return func(r round) float64 { return r[row]["cpu_us"] }
}

func rate(row string) func(round) float64 {
	return func(r round) float64 { return r[row]["rate"] }
}

func sum(a, b func(round) float64) func(round) float64 {
	return func(r round) float64 { return a(r) + b(r) }
}

// figures is the table: names as the readers of bench.json know them.
func figures(o options) []figure {
	us := func(name, limit string, floor float64, bound func(round) float64, needs ...string) figure {
		return figure{name: name, unit: "µs CPU", limit: limit, floor: floor, needs: append(needs, name), value: cpu(name), bound: bound, less: true}
	}
	es256 := us("jwt_client_credentials_es256", "bare + sig", 0.60, sum(cpu("bare"), cpu("sig_es256")), "bare", "sig_es256")
	ofCeiling := es256
	ofCeiling.name, ofCeiling.limit, ofCeiling.floor, ofCeiling.bound = es256.name+"_of_ceiling", "ceiling program", 0.78, cpu("ceiling_es256")
	ofCeiling.needs = []string{es256.name, "ceiling_es256"}
	return slices.Concat([]figure{
		es256, // F1
		ofCeiling,
		us("jwt_client_credentials_eddsa", "bare + sig", 0, sum(cpu("bare"), cpu("sig_eddsa")), "bare", "sig_eddsa"),
		us("jwt_client_credentials_rs256", "bare + sig", 0, sum(cpu("bare"), cpu("sig_rs256")), "bare", "sig_rs256"),
		// F3: at most four per cent of a signature.
		us("jwt_mint", "4 % of sig", 1, func(r round) float64 { return 0.04 * r["sig_alone"]["cpu_us"] }, "sig_alone"),
		{ // F4: the smaller one of both limits
			name: "opaque_issue_1voter", unit: "1/s", limit: "min(10 x sync, 0.35 x ceiling)", floor: 1,
			needs: []string{"opaque_issue_1voter", "sync", "ceiling_opaque"}, value: rate("opaque_issue_1voter"),
			bound: func(r round) float64 { return min(10*r["sync"]["rate"], 0.35*r["ceiling_opaque"]["rate"]) },
		},
		us("introspect_linearizable", "bare", 0.45, cpu("bare"), "bare"), // F7
		us("ceiling_es256", "bare + sig", 0, sum(cpu("bare"), cpu("sig_es256")), "bare", "sig_es256"),
		us("ceiling_eddsa", "bare + sig", 0, sum(cpu("bare"), cpu("sig_eddsa")), "bare", "sig_eddsa"),
		us("ceiling_rs256", "bare + sig", 0, sum(cpu("bare"), cpu("sig_rs256")), "bare", "sig_rs256"),
		us("ceiling_opaque", "bare", 0, cpu("bare"), "bare"),
		us("ceiling_introspect", "bare", 0, cpu("bare"), "bare"),
	},
		loginFigures(),
		clusterFigures(),
		peerFigures(o), // F15
		memoryFigures(o),
	)
}

// wanted are the figures that -only names.
func (o options) wanted() (out []figure) {
	for _, f := range figures(o) {
		if o.only.MatchString(f.name) {
			out = append(out, f)
		}
	}
	return out
}

// crowd is how many clients ask at once where a commit is shared (F4).
const crowd = 256

// rounds starts the servers that the figures need, and runs their rows in turn.
func (s *stage) rounds(ctx context.Context) (*bench.Table, error) {
	needed := map[string]bool{}
	for _, f := range s.o.wanted() {
		for _, row := range f.needs {
			needed[row] = true
		}
	}
	if len(needed) == 0 {
		return nil, fmt.Errorf("-only %q names no row", s.o.only)
	}
	for _, m := range s.makers() {
		if !needed[m.row] {
			continue
		}
		run, err := m.prepare(ctx)
		if errors.Is(err, errLeftOut) {
			fmt.Fprintf(os.Stderr, "%s: %v\n", m.row, err)
			s.leftOut[m.row] = err.Error()
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.row, err)
		}
		done := 0
		s.rows = append(s.rows, bench.Row{Name: m.row, Run: func(ctx context.Context) (bench.Figures, error) {
			done++
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", done, s.o.rounds, m.row)
			return run(ctx)
		}})
	}
	return bench.Rounds(ctx, s.o.rounds, s.rows)
}

// runner runs a row once.
type runner func(ctx context.Context) (bench.Figures, error)

// maker prepares a row: it starts its server and registers its client.
type maker struct {
	row     string
	prepare func(ctx context.Context) (runner, error)
}

func (s *stage) makers() []maker {
	issue := bench.Mix{Issue: 1}
	ceiling := func(alg, format string, l load) func(context.Context) (runner, error) {
		return func(ctx context.Context) (runner, error) {
			v, err := s.ceiling(ctx, alg, format)
			if err != nil {
				return nil, err
			}
			l.server, l.client = v, v.client
			return func(ctx context.Context) (bench.Figures, error) { return s.put(ctx, l) }, nil
		}
	}
	node := func(members map[string]any, l load) func(context.Context) (runner, error) {
		return func(ctx context.Context) (runner, error) {
			v, err := s.keyraft(ctx)
			if err != nil {
				return nil, err
			}
			c, err := v.register(ctx, members)
			if err != nil {
				return nil, err
			}
			l.server, l.client = v, c
			return func(ctx context.Context) (bench.Figures, error) { return s.put(ctx, l) }, nil
		}
	}
	signature := func(alg string) func(context.Context) (runner, error) {
		return func(context.Context) (runner, error) {
			return func(ctx context.Context) (bench.Figures, error) { return s.sign(ctx, alg) }, nil
		}
	}
	jwt := func(alg string) map[string]any {
		return map[string]any{"client_name": alg, "access_token_signed_response_alg": alg, "access_token_lifetime": 3600}
	}
	opaque := map[string]any{"client_name": "opaque", "access_token_format": "opaque", "access_token_lifetime": 3600}
	return slices.Concat([]maker{
		{"bare", ceiling("ES256", "jwt", load{token: "/bare", mix: issue})},
		{"sig_es256", signature("ES256")},
		{"sig_eddsa", signature("EdDSA")},
		{"sig_rs256", signature("RS256")},
		{"sync", func(context.Context) (runner, error) {
			return func(context.Context) (bench.Figures, error) { return bench.Sync(s.dir, s.o.long/4) }, nil
		}},
		{"ceiling_es256", ceiling("ES256", "jwt", load{mix: issue})},
		{"jwt_client_credentials_es256", node(jwt("ES256"), load{mix: issue})},
		{"ceiling_eddsa", ceiling("EdDSA", "jwt", load{mix: issue})},
		{"jwt_client_credentials_eddsa", node(jwt("EdDSA"), load{mix: issue})},
		{"ceiling_rs256", ceiling("RS256", "jwt", load{mix: issue})},
		{"jwt_client_credentials_rs256", node(jwt("RS256"), load{mix: issue})},
		{"sig_alone", s.benchmark("tokens", "BenchmarkSignatureAlone")},
		{"jwt_mint", s.benchmark("tokens", "BenchmarkMintWithoutSignature")},
		{"ceiling_opaque", ceiling("ES256", "opaque", load{mix: issue, connections: crowd})},
		{"opaque_issue_1voter", node(opaque, load{mix: issue, connections: crowd})},
		{"ceiling_introspect", ceiling("ES256", "opaque", load{mix: bench.Mix{Introspect: 1}, tokens: 1000})},
		{"introspect_linearizable", node(opaque, load{mix: bench.Mix{Introspect: 1}, tokens: 1000})},
	},
		s.loginMakers(),
		s.clusterMakers(),
		s.peerMakers(),
		s.memoryMakers(),
	)
}
