package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/internal/bench"
	"github.com/keyraft/keyraft/internal/e2e/proc"
)

const (
	pollWait  = 10 * time.Second
	pollBound = pollWait + 5*time.Second
	// arriveBound is how long the last gateway may take to have the last revocation.
	arriveBound = 10 * time.Second
	mostGateway = 16 << 20 // bytes of one answer
)

// fleet is gateways that long-poll, each at a node of its own choice, and remember when
// they heard of what.
type fleet struct {
	pollers []*poller
	polls   atomic.Uint64
	stop    context.CancelFunc
	wg      sync.WaitGroup
}

// poller is one gateway as the nodes see it.
type poller struct {
	id, credential string
	nodes          []string // URLs; it goes on to the next when one knows less than itself
	at             int
	http           *http.Client
	epoch          uint64

	mu    sync.Mutex
	since uint64
	heard map[uint64]time.Time // by the seq of the event
	err   error                // why it stopped
}

// register makes so many gateways known to the cluster.
func (t *trio) register(ctx context.Context, gateways int) (out []proc.GatewayCredential, err error) {
	for i := range gateways {
		g, err := t.c.Nodes[i%len(t.c.Nodes)].RegisterGateway(ctx, "bench-"+rand.Text())
		if err != nil {
			return nil, fmt.Errorf("register a gateway: %w", err)
		}
		out = append(out, g)
	}
	return out, nil
}

// poll starts the gateways; each knows its place in the log when it returns.
func (t *trio) poll(ctx context.Context, who []proc.GatewayCredential) (*fleet, error) {
	ctx, stop := context.WithCancel(ctx)
	f := &fleet{stop: stop}
	web := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: len(who), DisableCompression: true}, Timeout: pollBound}
	for i, g := range who {
		p := &poller{id: g.ID, credential: g.Credential, at: i, http: web, heard: map[uint64]time.Time{}}
		for _, n := range t.c.Nodes {
			p.nodes = append(p.nodes, n.Base)
		}
		if err := p.enter(ctx); err != nil {
			return nil, errors.Join(err, f.end())
		}
		f.pollers = append(f.pollers, p)
		f.wg.Go(func() { p.run(ctx, &f.polls) })
	}
	return f, nil
}

// end stops the gateways, and says why one stopped before.
func (f *fleet) end() error {
	f.stop()
	f.wg.Wait()
	for _, p := range f.pollers {
		if p.err != nil {
			return fmt.Errorf("gateway %s: %w", p.id, p.err)
		}
		p.http.CloseIdleConnections()
	}
	return nil
}

// await waits until all gateways know the log up to seq.
func (f *fleet) await(ctx context.Context, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, arriveBound)
	defer cancel()
	return proc.Until(ctx, fmt.Sprintf("all gateways to hear of revocation %d", seq), func(context.Context) error {
		for _, p := range f.pollers {
			p.mu.Lock()
			since, err := p.since, p.err
			p.mu.Unlock()
			if err != nil {
				return fmt.Errorf("gateway %s: %w", p.id, err)
			}
			if since < seq {
				return fmt.Errorf("gateway %s has heard of %d", p.id, since)
			}
		}
		return nil
	})
}

// get asks the node in use.
func (p *poller) get(ctx context.Context, path, accept string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.nodes[p.at%len(p.nodes)]+path, nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("Authorization", "Bearer "+p.credential)
	req.Header.Set(wire.HeaderFailMode, "closed")
	req.Header.Set(wire.HeaderBound, "5000")
	resp, err := p.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, mostGateway))
	return resp.StatusCode, body, errors.Join(err, resp.Body.Close())
}

// enter learns where the log stands.
func (p *poller) enter(ctx context.Context) error {
	status, body, err := p.get(ctx, "/gateway/v1/jwks", wire.TypeJSON)
	if err != nil || status != http.StatusOK {
		return errors.Join(err, fmt.Errorf("a gateway asked for the keys: status %d", status))
	}
	k, err := wire.ParseKeys(body)
	if err == nil {
		p.epoch, p.since = k.Epoch, k.Head
	}
	return err
}

// run polls until ctx ends.
func (p *poller) run(ctx context.Context, polls *atomic.Uint64) {
	for ctx.Err() == nil {
		err := p.once(ctx)
		polls.Add(1)
		if err != nil && ctx.Err() == nil {
			p.mu.Lock()
			p.err = err
			p.mu.Unlock()
			return
		}
	}
}

// once is one poll. Only this goroutine moves since.
func (p *poller) once(ctx context.Context) error {
	path := "/gateway/v1/revocations?since=" + strconv.FormatUint(p.since, 10) + "&epoch=" + strconv.FormatUint(p.epoch, 10) +
		"&wait=" + strconv.Itoa(int(pollWait.Seconds())) + "s&instance=" + p.id
	status, body, err := p.get(ctx, path, wire.TypeProto)
	now := time.Now()
	switch {
	case err != nil:
		return err
	case status == http.StatusConflict:
		if r, err := wire.ParseRefusal(body); err != nil || r.Code != wire.Behind {
			return errors.Join(err, fmt.Errorf("the poll was refused: %s", r.Code))
		}
		p.at++ // another node knows more
		return nil
	case status != http.StatusOK:
		return fmt.Errorf("the poll got status %d", status)
	}
	d, err := wire.ParseProto(body)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range d.Items {
		p.heard[d.Items[i].Seq] = now
	}
	p.since = d.Next()
	return nil
}

// revoker revokes subjects at one node, over and over; it is a worker of a load.
type revoker struct {
	api proc.API
	ctx context.Context
	end context.CancelFunc
	log *revocations
}

// revocations are those of a run, by seq.
type revocations struct {
	mu   sync.Mutex
	sent map[uint64]time.Time // when the request for it left
}

func (r *revocations) workers(ctx context.Context, at *proc.Node, n int) (out []bench.Worker) {
	for range n {
		ctx, end := context.WithCancel(ctx)
		out = append(out, &revoker{at.API, ctx, end, r})
	}
	return out
}

// last is the highest seq.
func (r *revocations) last() (seq uint64) {
	for s := range r.sent {
		seq = max(seq, s)
	}
	return seq
}

// Do revokes a subject that nobody else does.
func (r *revoker) Do(uint64) bench.Outcome {
	sent := time.Now()
	receipt, err := r.api.Revoke(r.ctx, map[string]any{"subject": "bench-" + rand.Text()}, 0)
	if err != nil {
		return bench.Outcome{Kind: fmt.Sprintf("revoke: status %d", proc.StatusOf(err))}
	}
	r.log.mu.Lock()
	r.log.sent[receipt.Seq] = sent
	r.log.mu.Unlock()
	return bench.Outcome{}
}

// Close ends what is under way.
func (r *revoker) Close() { r.end() }

// reach is how long each revocation took from its request to each gateway, sorted. A
// pair that is missing is an error: that gateway goes on taking the token.
func (f *fleet) reach(r *revocations) ([]time.Duration, error) {
	var took []time.Duration
	for _, p := range f.pollers {
		for seq, sent := range r.sent {
			at, heard := p.heard[seq]
			if !heard {
				return nil, fmt.Errorf("gateway %s never heard of revocation %d", p.id, seq)
			}
			took = append(took, at.Sub(sent))
		}
	}
	slices.Sort(took)
	return took, nil
}

// stream has revocations made at a follower, this many a second, while gateways poll.
// The CPU time is that of all three nodes, for one revocation; "delivery_us" is it for
// one revocation at one gateway, its commit and the nodes' own life included.
func (t *trio) stream(ctx context.Context, who []proc.GatewayCredential, perSecond float64) (bench.Figures, error) {
	return t.steadily(ctx, follows, func(nodes []*proc.Node) (bench.Figures, error) {
		return t.streamAt(ctx, nodes, who, perSecond)
	})
}

// streamAt is stream at the first one of the nodes, of which the last leads.
func (t *trio) streamAt(ctx context.Context, nodes []*proc.Node, who []proc.GatewayCredential, perSecond float64) (f bench.Figures, err error) {
	before, err := scrape(ctx, nodes[2]) // the leader
	if err != nil {
		return nil, err
	}
	fl, err := t.poll(ctx, who)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, fl.end()) }()
	log := &revocations{sent: map[uint64]time.Time{}}
	l := load{server: t.served(nodes[0])[0], others: t.served(nodes[1:]...)}
	polls, begun := fl.polls.Load(), time.Now()
	r, err := succeeded(bench.Run(ctx, bench.Load{
		Ops: []string{"revoke"}, Workers: log.workers(ctx, nodes[0], 16), Rate: perSecond,
		Warmup: t.s.o.warmup, Duration: t.s.o.long, Server: l.process(),
	}))
	if err != nil {
		return nil, err
	}
	pollRate := float64(fl.polls.Load()-polls) / time.Since(begun).Seconds()
	if err := fl.await(ctx, log.last()); err != nil {
		return nil, err
	}
	after, err := scrape(ctx, nodes[2])
	if err != nil {
		return nil, err
	}
	if err := fl.end(); err != nil {
		return nil, err
	}
	f = r.Figures()
	f["polls"] = pollRate
	took, err := fl.reach(log)
	if err != nil || len(took) == 0 {
		return f, err
	}
	f["delivery_us"] = f["cpu_us"] / float64(len(who))
	f["reach_p50_ms"], f["reach_p99_ms"] = millis(took[len(took)/2]), millis(took[len(took)*99/100])
	f["commit_p99_ms"] = 1000 * quantile(after.since(before, "keyraft_raft_commit_seconds"), 0.99)
	return f, nil
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// prepareStream registers the gateways of a row, fewer of them in a small run.
func (t *trio) prepareStream(ctx context.Context, gateways, small int, perSecond float64) ([]proc.GatewayCredential, runner, error) {
	if t.s.o.small {
		gateways = small
	}
	if err := t.start(ctx); err != nil {
		return nil, nil, err
	}
	who, err := t.register(ctx, gateways)
	return who, func(ctx context.Context) (bench.Figures, error) { return t.stream(ctx, who, perSecond) }, err
}

// prepareDelta is what it costs the nodes to tell many gateways. "added_us" is what one
// delivery adds to the same stream of revocations that nobody asks for.
func (t *trio) prepareDelta(ctx context.Context) (runner, error) {
	const perSecond = 20
	who, stream, err := t.prepareStream(ctx, 100, 10, perSecond)
	return func(ctx context.Context) (bench.Figures, error) {
		alone, err := t.stream(ctx, nil, perSecond)
		if err != nil {
			return nil, err
		}
		f, err := stream(ctx)
		if err != nil {
			return nil, err
		}
		f["added_us"] = (f["cpu_us"] - alone["cpu_us"]) / float64(len(who))
		return f, nil
	}, err
}

// preparePropagation is how soon each of some gateways knows.
func (t *trio) preparePropagation(ctx context.Context) (runner, error) {
	_, stream, err := t.prepareStream(ctx, 20, 5, 50)
	return stream, err
}
