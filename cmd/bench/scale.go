package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/bench"
	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// curves is scale.json: how the figures change with how much there is.
type curves struct {
	Machine string  `json:"machine"`
	Commit  string  `json:"commit"`
	Small   bool    `json:"small,omitempty"`   // for function alone
	Partial string  `json:"partial,omitempty"` // why it ended early
	Curves  []curve `json:"curves"`
}

// curve is one quantity that grew. Skipped says why its last points are missing.
type curve struct {
	Name    string  `json:"name"`
	Points  []point `json:"points"`
	Skipped string  `json:"skipped,omitempty"`
}

// point is what was measured at one size.
type point struct {
	N       int           `json:"n"`
	Figures bench.Figures `json:"figures"`
}

// sweep makes a curve. at measures at n, having been at the sizes before.
type sweep struct {
	name  string
	sizes []int
	share float64 // of the time that there is for all
	begin func(ctx context.Context) (at func(ctx context.Context, n int) (bench.Figures, error), err error)
}

// smallest is how large a size may be in a run for function.
const smallest = 1000

// budget is about how long all curves may take, unless -small asks for less.
const budget = 10 * time.Minute

func decades(from, to float64) (out []int) {
	for e := from; e <= to; e++ {
		out = append(out, int(math.Pow(10, e)))
	}
	return out
}

func (s *stage) sweeps() []sweep {
	return []sweep{
		{"connections", []int{1, 4, 16, 64, 256, 1024, 4096}, 0.06, s.manyConnections},
		{"gateways", []int{1, 10, 100, 300, 1000}, 0.08, s.manyGateways},
		{"clients", decades(3, 6), 0.16, s.clientsGrow},
		{"opaque_tokens", decades(3, 6), 0.25, s.tokensGrow},
		{"revocations", decades(3, 7), 0.45, s.revocationsGrow},
	}
}

// scale measures all curves that -only names, and saves them; after an error, those
// before it.
func scale(ctx context.Context, o options) (err error) {
	s, err := newStage(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	d := curves{Machine: bench.Machine(), Commit: commit(), Small: o.small, Curves: []curve{}}
	saved := time.Duration(0) // what the curves before left over goes to the next
	for _, w := range s.sweeps() {
		allowed, begun := saved+time.Duration(w.share*float64(budget)), time.Now()
		if !o.only.MatchString(w.name) {
			saved = allowed
			continue
		}
		c, failed := w.run(ctx, o, allowed)
		saved = max(0, allowed-time.Since(begun))
		if len(c.Points) > 0 {
			d.Curves = append(d.Curves, c)
		}
		if failed != nil {
			d.Partial = w.name + ": " + failed.Error()
			if ctx.Err() != nil {
				d.Partial = "interrupted in " + w.name
			}
			return errors.Join(fmt.Errorf("%s: %w", w.name, failed), save(o.scale, d))
		}
	}
	if len(d.Curves) == 0 {
		return fmt.Errorf("-only %q names no curve", o.only)
	}
	fmt.Println("wrote", o.scale)
	return save(o.scale, d)
}

// run goes from size to size, until one would be too large or take too long.
func (w sweep) run(ctx context.Context, o options, allowed time.Duration) (curve, error) {
	c := curve{Name: w.name}
	at, err := w.begin(ctx)
	if err != nil {
		return c, err
	}
	begun := time.Now()
	var last time.Duration
	for i, n := range w.sizes {
		if o.small && n > smallest {
			c.Skipped = "a short run, for function"
			break
		}
		// The work at a size is at most in proportion to it.
		if i > 0 {
			next := last * time.Duration(n) / time.Duration(w.sizes[i-1])
			if left := allowed - time.Since(begun); next > 2*left {
				c.Skipped = fmt.Sprintf("%s would have taken about %s, and %s was left", grouped(float64(n)), next.Round(time.Second), max(0, left).Round(time.Second))
				break
			}
		}
		fmt.Fprintf(os.Stderr, "%s: %d\n", w.name, n)
		started := time.Now()
		// Twice what is left is the end of it, whatever was expected.
		limit := max(30*time.Second, 2*(allowed-time.Since(begun)))
		within, cancel := context.WithTimeout(ctx, limit)
		f, err := at(within, n)
		late := within.Err() != nil && ctx.Err() == nil
		cancel()
		if err != nil && late {
			c.Skipped = fmt.Sprintf("%s took more than %s", grouped(float64(n)), limit.Round(time.Second))
			break
		}
		if err != nil {
			return c, fmt.Errorf("at %d: %w", n, err)
		}
		// What a load takes whatever the size is grows with nothing.
		last = max(0, time.Since(started)-2*(o.warmup+o.long))
		c.Points = append(c.Points, point{n, f})
		fmt.Fprintf(os.Stderr, "  %s in %s\n", listed(f), time.Since(started).Round(100*time.Millisecond))
	}
	if c.Skipped != "" {
		fmt.Fprintf(os.Stderr, "%s: stopped: %s\n", w.name, c.Skipped)
	}
	return c, nil
}

// listed is the figures on one line.
func listed(f bench.Figures) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(f)) {
		out = append(out, name+" "+short(f[name]))
	}
	return strings.Join(out, ", ")
}

// save writes v whole.
func save(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// manyConnections has more and more of them ask for JWTs.
func (s *stage) manyConnections(ctx context.Context) (func(context.Context, int) (bench.Figures, error), error) {
	v, err := s.node(ctx, "connections", "--limits-conns-per-ip=8192")
	if err != nil {
		return nil, err
	}
	client, err := v.register(ctx, map[string]any{"access_token_signed_response_alg": "ES256"})
	return func(ctx context.Context, n int) (bench.Figures, error) {
		return s.put(ctx, load{server: v, client: client, mix: bench.Mix{Issue: 1}, connections: n})
	}, err
}

// askers is how many of the clients ask, taking turns.
const askers = 10_000

// clientsGrow has up to ten thousand of all clients ask for JWTs.
func (s *stage) clientsGrow(ctx context.Context) (func(context.Context, int) (bench.Figures, error), error) {
	v, err := s.node(ctx, "clients")
	if err != nil {
		return nil, err
	}
	template, err := v.register(ctx, map[string]any{"access_token_signed_response_alg": "ES256", "token_endpoint_auth_method": "client_secret_post"})
	if err != nil {
		return nil, err
	}
	have := 0
	var asking []filled
	return func(ctx context.Context, n int) (bench.Figures, error) {
		ring, err := v.keyring()
		if err != nil {
			return nil, err
		}
		err = s.fill(ctx, v, func(view *state.View) (iter.Seq[command.Command], error) {
			commands, kept, err := clientsLike(view, ring, template.ID, have, n-have, min(n-have, askers))
			asking = append(asking, kept...)
			return commands, err
		})
		if err != nil {
			return nil, err
		}
		have = n
		f := bench.Fixed{URL: v.ready.URL + "/oauth2/token"}
		for _, c := range asking[max(0, len(asking)-askers):] {
			form := url.Values{"grant_type": {"client_credentials"}, "client_id": {c.id}, "client_secret": {c.secret}}
			f.Forms = append(f.Forms, []byte(form.Encode()))
		}
		workers, err := f.Workers(ctx, s.o.connections)
		if err != nil {
			return nil, err
		}
		return s.under(ctx, v, workers)
	}, nil
}

// figuresOf gives the figures of a run in which nothing went wrong.
func figuresOf(r *bench.Result, err error) (bench.Figures, error) {
	if r, err = succeeded(r, err); err != nil {
		return nil, err
	}
	return r.Figures(), nil
}

// under runs workers against a node.
func (s *stage) under(ctx context.Context, v *served, workers []bench.Worker) (bench.Figures, error) {
	return figuresOf(bench.Run(ctx, bench.Load{
		Ops: bench.Ops("issue"), Workers: workers, Warmup: s.o.warmup, Duration: s.o.long, Server: &bench.Process{PID: v.proc.PID()},
	}))
}

// tokensGrow has tokens issued until so many live, and asks about all of them.
func (s *stage) tokensGrow(ctx context.Context) (func(context.Context, int) (bench.Figures, error), error) {
	v, err := s.node(ctx, "tokens")
	if err != nil {
		return nil, err
	}
	client, err := v.register(ctx, map[string]any{"access_token_format": "opaque", "access_token_lifetime": 86400})
	if err != nil {
		return nil, err
	}
	have := 0 // of smaller sizes: they live on, and nobody asks about them
	return func(ctx context.Context, n int) (bench.Figures, error) {
		target := bench.Target{Servers: []string{v.ready.URL}, Client: bench.Credentials{ID: client.ID, Secret: client.Secret}}
		begun := time.Now()
		workers, err := target.Workers(ctx, crowd, bench.Mix{Introspect: 1}, n-have)
		if err != nil {
			return nil, err
		}
		took := time.Since(begun)
		f, err := s.under(ctx, v, workers)
		if err == nil {
			f["issued_per_second"] = float64(n-have) / took.Seconds()
			have = n
		}
		return f, err
	}, nil
}

// revocationsGrow has a node and a gateway hold more and more live revocations.
func (s *stage) revocationsGrow(ctx context.Context) (func(context.Context, int) (bench.Figures, error), error) {
	v, err := s.node(ctx, "revocations")
	if err != nil {
		return nil, err
	}
	opaque, err := v.register(ctx, map[string]any{"access_token_format": "opaque", "access_token_lifetime": 3600})
	if err != nil {
		return nil, err
	}
	jwt, err := v.register(ctx, map[string]any{"access_token_signed_response_alg": "ES256", "access_token_lifetime": 3600, "token_endpoint_auth_method": "client_secret_post"})
	if err != nil {
		return nil, err
	}
	have := 0
	return func(ctx context.Context, n int) (bench.Figures, error) {
		err := s.fill(ctx, v, func(*state.View) (iter.Seq[command.Command], error) {
			return randomRevocations(n-have, time.Now()), nil
		})
		if err != nil {
			return nil, err
		}
		have = n
		f, err := s.put(ctx, load{server: v, client: opaque, mix: bench.Mix{Introspect: 1}, tokens: 1000})
		if err != nil {
			return nil, err
		}
		gateway, err := s.gatewayHolds(ctx, v, jwt, n)
		for name, value := range gateway {
			f[name] = value
		}
		return f, err
	}, nil
}

// api is the node's, as its operator.
func (v *served) api() proc.API {
	return proc.API{Base: v.ready.URL, Token: v.ready.AdminToken, HTTP: proc.NewHTTP()}
}
