package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/keyraft/keyraft/internal/bench"
	"github.com/keyraft/keyraft/internal/bench/peers"
)

// errLeftOut says that a row can't be run on this machine, and why; the run goes on
// without it.
var errLeftOut = errors.New("left out")

// contest is one kind of request, and Keyraft's own row for it.
type contest struct {
	workload peers.Workload
	suffix   string // of the figure's name
	row      string
	crowd    bool // as many clients at once as where a commit is shared
}

func contests() []contest {
	return []contest{
		{peers.JWTES256, "es256", "jwt_client_credentials_es256", false},
		{peers.JWTRS256, "rs256", "jwt_client_credentials_rs256", false},
		{peers.Opaque, "opaque", "opaque_issue_1voter", true},
		{peers.Introspect, "introspect", "introspect_linearizable", false},
	}
}

// peerRow names the row and the figure of a peer: peer_zitadel_es256.
func peerRow(p *peers.Peer, c contest) string {
	name := strings.ReplaceAll(strings.TrimSuffix(p.Name, "-oidc"), "-", "_")
	return "peer_" + name + "_" + c.suffix
}

// peerFloors are those of F15: how many times its CPU time Keyraft may take. There is
// none for RS256, where Node's OpenSSL wins (docs/peers.md).
func peerFloors() map[string]float64 {
	return map[string]float64{
		"peer_oidc_provider_es256": 4, "peer_zitadel_es256": 1.6,
		"peer_oidc_provider_opaque": 5, "peer_zitadel_opaque": 2,
		"peer_oidc_provider_introspect": 9,
	}
}

// eachContest goes through what is measured of the peers that were asked for.
func eachContest(o options, do func(*peers.Peer, contest)) {
	for _, p := range peers.All() {
		if o.peers == "none" || p.Name == "keycloak" && o.peers != "all" {
			continue
		}
		for _, c := range contests() {
			for _, w := range p.Workloads {
				if w == c.workload {
					do(p, c)
				}
			}
		}
	}
}

// peerFigures hold a peer's CPU time against Keyraft's, for the same request in the
// same round.
func peerFigures(o options) (out []figure) {
	eachContest(o, func(p *peers.Peer, c contest) {
		name := peerRow(p, c)
		out = append(out, figure{
			name: name, unit: "µs CPU", limit: "Keyraft's " + c.row, floor: peerFloors()[name],
			needs: []string{name, c.row}, value: cpu(name), bound: cpu(c.row),
		})
	})
	return out
}

func (s *stage) peerMakers() (out []maker) {
	started := map[string]*contestant{} // each peer once, however many of its rows are run
	eachContest(s.o, func(p *peers.Peer, c contest) {
		if started[p.Name] == nil {
			started[p.Name] = &contestant{stage: s, peer: p}
		}
		out = append(out, maker{peerRow(p, c), func(ctx context.Context) (runner, error) {
			return started[p.Name].prepare(ctx, c)
		}})
	})
	return out
}

// contestant is a peer in a run.
type contestant struct {
	*stage
	peer     *peers.Peer
	prepared bool
	left     error // why it is left out
	running  *peers.Running
}

func (p *contestant) folders() peers.Folders {
	return peers.Folders{Source: filepath.Join("internal", "bench", "peers"), Cache: filepath.Join(p.o.data, "peers")}
}

// prepare installs and starts the peer, once. What this machine lacks for it leaves
// it out, unless everything is required.
func (p *contestant) prepare(ctx context.Context, c contest) (runner, error) {
	if p.left != nil {
		return nil, p.left
	}
	if !p.prepared {
		err := p.install(ctx)
		if err != nil && os.Getenv("KEYRAFT_REQUIRE") != "all" && ctx.Err() == nil {
			p.left = fmt.Errorf("%w: %w", errLeftOut, err)
			return nil, p.left
		}
		if err != nil {
			return nil, err
		}
		p.prepared = true
	}
	warm := false
	return func(ctx context.Context) (bench.Figures, error) {
		warmup := p.o.warmup
		if !warm && !p.o.small { // a just-in-time compiler needs the workload itself
			warmup = max(warmup, p.peer.Warmup)
		}
		f, err := p.run(ctx, c, warmup)
		warm = err == nil
		return f, err
	}, nil
}

func (p *contestant) install(ctx context.Context) error {
	fmt.Fprintf(os.Stderr, "preparing %s %s\n", p.peer.Name, p.peer.Version)
	if err := p.peer.Prepare(ctx, p.folders()); err != nil {
		return err
	}
	return p.start(ctx)
}

// start starts the peer, anew when it runs.
func (p *contestant) start(ctx context.Context) (err error) {
	core := -1
	if p.pinned {
		core = p.serverCore
	}
	if p.running != nil {
		p.running.Stop()
	} else {
		p.ends = append(p.ends, func() {
			if p.running != nil {
				p.running.Stop()
			}
		})
	}
	p.running, err = p.peer.Start(ctx, p.folders(), core)
	return err
}

// run runs one workload once.
func (p *contestant) run(ctx context.Context, c contest, warmup time.Duration) (bench.Figures, error) {
	// Its store only grows: its memory is that of one row's tokens, not of all rows.
	if p.peer.Name == "zitadel-oidc" {
		if err := p.start(ctx); err != nil {
			return nil, err
		}
	}
	if c.workload == peers.Introspect && warmup > p.o.warmup {
		if _, err := p.once(ctx, c, 0, warmup); err != nil { // the warm-up's token may be forgotten by its end
			return nil, err
		}
		warmup = p.o.warmup
	}
	return p.once(ctx, c, warmup, p.o.long)
}

func (p *contestant) once(ctx context.Context, c contest, warmup, long time.Duration) (bench.Figures, error) {
	request, err := p.running.Request(ctx, c.workload) // with a fresh token where one is asked about
	if err != nil {
		return nil, err
	}
	connections := p.o.connections
	if c.crowd {
		connections = crowd
	}
	workers, err := bench.Fixed{
		URL: request.URL, Authorization: request.Header.Get("Authorization"), Forms: [][]byte{request.Body}, Active: c.workload == peers.Introspect,
	}.Workers(ctx, connections)
	if err != nil {
		return nil, err
	}
	return figuresOf(bench.Run(ctx, bench.Load{Ops: bench.Ops("issue"), Workers: workers, Warmup: warmup, Duration: long, Server: &bench.Process{PID: p.running.PID()}}))
}
