package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyraft/keyraft/gateway"
	"github.com/keyraft/keyraft/internal/bench"
	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// holdBound is how long a gateway may take to load what a node holds.
const holdBound = 5 * time.Minute

// gatewayHolds runs a gateway in this process beside a node with n live revocations:
// how long the copy takes, what a revocation takes of memory, and what it costs to
// decide about a token that was seen before.
func (s *stage) gatewayHolds(ctx context.Context, v *served, client proc.Client, n int) (_ bench.Figures, err error) {
	token, err := oneToken(ctx, v, client)
	if err != nil {
		return nil, err
	}
	api := v.api()
	defer api.HTTP.CloseIdleConnections()
	credential, err := api.RegisterGateway(ctx, fmt.Sprintf("scale-%d", n))
	if err != nil {
		return nil, err
	}
	before, begun := heap(), time.Now()
	g, err := gateway.New(gateway.Config{
		Nodes:      []string{v.ready.URL},
		Credential: func(context.Context) (string, error) { return credential.Credential, nil },
	})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(ctx, holdBound)
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	defer func() { stop(); err = errors.Join(err, <-done) }()
	if err := proc.Until(ctx, "the gateway to hold every revocation", func(context.Context) error {
		if st := g.Status(); st.State != gateway.Synced || st.Counts.Revocations < n {
			return fmt.Errorf("it has %d: %s", st.Counts.Revocations, st.Problem)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	f := bench.Figures{"gateway_sync_ms": float64(time.Since(begun)) / float64(time.Millisecond)}
	f["gateway_bytes"] = max(0, float64(heap())-float64(before))
	f["gateway_bytes_each"] = f["gateway_bytes"] / float64(n)
	h, begun := bench.NewHistogram(), time.Now()
	for last := begun; last.Sub(begun) < s.o.long/4; {
		if _, err := g.Validate(ctx, gateway.Request{Token: token}); err != nil {
			return nil, err
		}
		now := time.Now()
		h.Record(now.Sub(last))
		last = now
	}
	f["gateway_validate_rate"] = float64(h.Count()) / time.Since(begun).Seconds()
	f["gateway_validate_p99_us"] = float64(h.At(99)) / float64(time.Microsecond)
	return f, nil
}

// heap is what is in use after a collection; the second one frees what the first
// found to be finalized.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// oneToken asks for a token as a client that authenticates in the form.
func oneToken(ctx context.Context, v *served, c proc.Client) (string, error) {
	api := proc.API{Base: v.ready.URL, HTTP: proc.NewHTTP()}
	defer api.HTTP.CloseIdleConnections()
	var answer struct {
		Token string `json:"access_token"`
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {c.ID}, "client_secret": {c.Secret}}
	err := api.Call(ctx, http.MethodPost, "/oauth2/token", form, &answer)
	return answer.Token, err
}

// heard is what one simulated gateway was told last, and when.
type heard struct {
	head uint64
	at   time.Time
}

// crowdOfGateways are simulated: each polls as a gateway does and reads the head.
type crowdOfGateways struct {
	url, credential string
	http            *http.Client
	moved           []chan heard // of each gateway
	failed          atomic.Pointer[error]
}

// poll polls until ctx ends.
func (c *crowdOfGateways) poll(ctx context.Context, i int, since uint64) {
	for ctx.Err() == nil {
		head, err := c.once(ctx, i, since, 30)
		if err != nil {
			if ctx.Err() == nil {
				c.failed.CompareAndSwap(nil, &err)
			}
			return
		}
		if head > since {
			since = head
			select {
			case c.moved[i] <- heard{head, time.Now()}:
			case <-ctx.Done():
			}
		}
	}
}

func (c *crowdOfGateways) once(ctx context.Context, i int, since uint64, wait int) (uint64, error) {
	at := fmt.Sprintf("%s/gateway/v1/revocations?since=%d&wait=%ds&instance=simulated-%d", c.url, since, wait, i)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+c.credential)
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, &proc.Refused{Status: resp.StatusCode, Body: string(body)}
	}
	return headOf(body)
}

// headOf reads "head":N; decoding the whole answer would be more work than the node's.
func headOf(body []byte) (uint64, error) {
	_, rest, found := bytes.Cut(body, []byte(`"head":`))
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	if !found || end == 0 {
		return 0, errors.New("the delta names no head")
	}
	return strconv.ParseUint(string(rest[:end]), 10, 64)
}

// teller revokes, and waits until every gateway was told: that is one operation.
type teller struct {
	ctx   context.Context // the run's; a Worker has none
	api   proc.API
	crowd *crowdOfGateways
	all   *bench.Histogram // from the call until each gateway had it
	count atomic.Uint64
}

// Close does nothing: the run's end ends the operation.
func (r *teller) Close() {}

// Do revokes one token that never was.
func (r *teller) Do(uint64) bench.Outcome {
	begun := time.Now()
	receipt, err := r.api.Revoke(r.ctx, map[string]any{"subject": fmt.Sprintf("nobody-%d", r.count.Add(1))}, 0)
	if err != nil {
		return bench.Outcome{Kind: bench.KindBroken}
	}
	for _, moved := range r.crowd.moved {
		for {
			var h heard
			select {
			case h = <-moved:
			case <-r.ctx.Done():
				return bench.Outcome{Kind: bench.KindTimeout}
			case <-time.After(10 * time.Second):
				return bench.Outcome{Kind: bench.KindTimeout}
			}
			if h.head >= receipt.Seq {
				r.all.Record(h.at.Sub(begun))
				break
			}
		}
	}
	return bench.Outcome{}
}

// manyGateways has more and more of them wait for one revocation after another.
func (s *stage) manyGateways(ctx context.Context) (func(context.Context, int) (bench.Figures, error), error) {
	v, err := s.node(ctx, "gateways", "--limits-conns-per-ip=8192")
	if err != nil {
		return nil, err
	}
	api := v.api()
	credential, err := api.RegisterGateway(ctx, "scale")
	return func(ctx context.Context, n int) (bench.Figures, error) {
		ctx, stop := context.WithCancel(ctx)
		c := &crowdOfGateways{url: v.ready.URL, credential: credential.Credential, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}}
		defer c.http.CloseIdleConnections()
		var polling sync.WaitGroup
		defer polling.Wait()
		defer stop()
		status, err := api.Status(ctx)
		if err != nil {
			return nil, err
		}
		for i := range n {
			c.moved = append(c.moved, make(chan heard, 8))
			polling.Go(func() { c.poll(ctx, i, status.Head) })
		}
		r := &teller{ctx: ctx, api: api, crowd: c, all: bench.NewHistogram()}
		if o := r.Do(0); o.Kind != "" { // each of them is connected and waits
			return nil, fmt.Errorf("the first revocation: %s", o.Kind)
		}
		r.all.Reset()
		f, err := figuresOf(bench.Run(ctx, bench.Load{
			Ops: []string{"revoke"}, Workers: []bench.Worker{r}, Rate: min(20, 5000/float64(n)), Warmup: s.o.warmup, Duration: s.o.long,
			GiveUp: 30 * time.Second, Server: &bench.Process{PID: v.proc.PID()},
		}))
		if failed := c.failed.Load(); failed != nil {
			return nil, fmt.Errorf("a simulated gateway: %w", *failed)
		}
		if err != nil {
			return nil, err
		}
		f["told_p50_us"], f["told_p99_us"] = float64(r.all.At(50))/1e3, float64(r.all.At(99))/1e3
		f["cpu_us_each"] = f["cpu_us"] / float64(n)
		return f, nil
	}, err
}
