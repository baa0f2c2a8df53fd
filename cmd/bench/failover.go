package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/keyraft/keyraft/internal/bench"
	"github.com/keyraft/keyraft/internal/e2e/proc"
)

const (
	writersEach = 4                    // at each node
	writePause  = 5 * time.Millisecond // of each between two writes: the load is steady, not the most there can be
	jwtRate     = 200                  // a second, over the nodes that go on
	resumeBound = 30 * time.Second
	jwtLongest  = 2 * resumeBound
)

// ack is an acknowledged write.
type ack struct {
	id          string
	begun, done time.Time
}

// writers register clients at some nodes, and keep what was acknowledged.
type writers struct {
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu   sync.Mutex
	acks []ack
	news chan struct{} // closed, and made anew, with each of them
}

func (t *trio) write(ctx context.Context, nodes ...*proc.Node) *writers {
	ctx, stop := context.WithCancel(ctx)
	w := &writers{stop: stop, news: make(chan struct{})}
	for _, n := range nodes {
		for range writersEach {
			w.wg.Go(func() { w.run(ctx, n.API) })
		}
	}
	return w
}

// run writes until ctx ends. A write that fails is not tried again: another one is.
func (w *writers) run(ctx context.Context, api proc.API) {
	pause := time.NewTicker(writePause)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		a := ack{begun: time.Now()}
		var c proc.Client
		body := map[string]any{"client_name": "failover", "grant_types": []string{"client_credentials"}}
		if err := api.Call(ctx, http.MethodPost, "/admin/v1/clients", body, &c); err != nil {
			continue
		}
		a.id, a.done = c.ID, time.Now()
		w.mu.Lock()
		w.acks = append(w.acks, a)
		close(w.news)
		w.news = make(chan struct{})
		w.mu.Unlock()
	}
}

// end stops the writers and gives what was acknowledged, by the time of that.
func (w *writers) end() []ack {
	w.stop()
	w.wg.Wait()
	slices.SortFunc(w.acks, func(a, b ack) int { return a.done.Compare(b.done) })
	return w.acks
}

// await waits until ok is content with what was acknowledged.
func (w *writers) await(ctx context.Context, what string, ok func([]ack) bool) error {
	ctx, cancel := context.WithTimeout(ctx, resumeBound)
	defer cancel()
	for {
		w.mu.Lock()
		good, news := ok(w.acks), w.news
		w.mu.Unlock()
		if good {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s: %w", what, ctx.Err())
		}
	}
}

// steady waits until each writer has written.
func (w *writers) steady(ctx context.Context, nodes int) error {
	return w.await(ctx, "the first writes", func(acks []ack) bool { return len(acks) >= 2*nodes*writersEach })
}

// resumed is when a write that began after an instant was acknowledged first.
func resumed(acks []ack, after time.Time) (first time.Time, ok bool) {
	for _, a := range acks {
		if a.begun.After(after) && (!ok || a.done.Before(first)) {
			first, ok = a.done, true
		}
	}
	return first, ok
}

// longestGap is the longest time without an acknowledgement between two instants. acks
// are in the order of their times.
func longestGap(acks []ack, from, to time.Time) (longest time.Duration) {
	last := from
	for _, a := range acks {
		if a.done.Before(from) || a.done.After(to) {
			continue
		}
		longest, last = max(longest, a.done.Sub(last)), a.done
	}
	return max(longest, to.Sub(last))
}

// issuing asks some nodes for JWTs until it is ended.
type issuing struct {
	stop context.CancelFunc
	done chan struct{}
	r    *bench.Result
	err  error
}

func (t *trio) issue(ctx context.Context, nodes ...*proc.Node) (*issuing, error) {
	target := bench.Target{Client: bench.Credentials{ID: t.jwt.ID, Secret: t.jwt.Secret}}
	for _, n := range nodes {
		target.Servers = append(target.Servers, n.Base)
	}
	workers, err := target.Workers(ctx, 4*len(nodes), bench.Mix{Issue: 1}, 0)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	i := &issuing{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(i.done)
		i.r, i.err = bench.Run(ctx, bench.Load{Ops: bench.Ops("jwt"), Workers: workers, Rate: jwtRate, Duration: jwtLongest, GiveUp: jwtLongest})
	}()
	return i, nil
}

// end stops it and gives the share of the requests that got their token.
func (i *issuing) end() (served float64, err error) {
	i.stop()
	<-i.done
	switch {
	case i.err != nil:
		return 0, i.err
	case i.r.OK() == 0:
		return 0, errors.New("no JWT was issued")
	}
	failed := i.r.Failed() - i.r.Unsent // these were due as it was ended
	if failed > 0 {
		fmt.Fprintf(os.Stderr, "bench: %d JWTs were not issued: %+v\n", failed, i.r.Failures())
	}
	return float64(i.r.OK()) / float64(i.r.OK()+failed), nil
}

// handover has the leader hand over to another node while all are written to. "gap_ms"
// is the longest time without an acknowledged write from then on, which is never less
// than what a write takes.
func (t *trio) handover(ctx context.Context) (f bench.Figures, err error) {
	leader, _, err := t.roles(ctx)
	if err != nil {
		return nil, err
	}
	w := t.write(ctx, t.c.Nodes...)
	defer w.end()
	jwts, err := t.issue(ctx, t.c.Nodes...)
	if err != nil {
		return nil, err
	}
	defer jwts.stop()
	if err := w.steady(ctx, len(t.c.Nodes)); err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := leader.Call(ctx, http.MethodPost, "/admin/v1/cluster/transfer-leader", nil, nil); err != nil {
		return nil, fmt.Errorf("hand over: %w", err)
	}
	took := time.Since(begun)
	if err := pass(ctx, t.s.o.long); err != nil {
		return nil, err
	}
	until := time.Now()
	acks := w.end()
	served, err := jwts.end()
	if err != nil {
		return nil, err
	}
	next, _, err := t.roles(ctx)
	if err != nil {
		return nil, err
	}
	if next == leader {
		return nil, fmt.Errorf("%s leads again after it handed over", leader.Name)
	}
	return bench.Figures{"gap_ms": millis(longestGap(acks, begun, until)), "transfer_ms": millis(took), "writes": float64(len(acks)), "served": served}, nil
}

// pass lets the load go on for a while.
func pass(ctx context.Context, long time.Duration) error {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// failover kills the leader while the others are written to. "resume_ms" is from then
// until a write is acknowledged that began after it was gone.
func (t *trio) failover(ctx context.Context) (f bench.Figures, err error) {
	leader, survivors, err := t.roles(ctx)
	if err != nil {
		return nil, err
	}
	w := t.write(ctx, survivors...)
	defer w.end()
	jwts, err := t.issue(ctx, survivors...)
	if err != nil {
		return nil, err
	}
	defer jwts.stop()
	if err := w.steady(ctx, len(survivors)); err != nil {
		return nil, err
	}
	begun := time.Now()
	t.c.Expect(leader.Proc)
	leader.Proc.Kill()
	gone := time.Now()
	var first time.Time
	err = w.await(ctx, "writes after the leader was gone", func(acks []ack) (ok bool) {
		first, ok = resumed(acks, gone)
		return ok
	})
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, t.c.Tails())
	}
	if err := pass(ctx, t.s.o.long/4); err != nil { // it goes on, not just once
		return nil, err
	}
	acks := w.end()
	served, err := jwts.end()
	if err != nil {
		return nil, err
	}
	if err := t.restart(ctx, leader); err != nil {
		return nil, err
	}
	kept, err := kept(ctx, acks, t.c.Nodes)
	return bench.Figures{"resume_ms": millis(first.Sub(begun)), "writes": float64(len(acks)), "served": served, "kept": kept}, err
}

// restart starts a node that was killed, with its data.
func (t *trio) restart(ctx context.Context, n *proc.Node) error {
	if err := t.c.Launch(n); err != nil {
		return err
	}
	if err := t.settle(n); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyBound)
	defer cancel()
	if err := t.c.Await(ctx, n); err != nil {
		return err
	}
	return t.settle(n) // it is known where it listens by now
}

// kept is the share of the acknowledged writes that every node has.
func kept(ctx context.Context, acks []ack, nodes []*proc.Node) (float64, error) {
	apis := make([]proc.API, 0, len(nodes))
	for _, n := range nodes {
		apis = append(apis, n.API)
	}
	if _, err := proc.EqualChecksums(ctx, apis...); err != nil {
		return 0, err
	}
	there := 0
	ids, err := nodes[0].ClientIDs(ctx)
	if err != nil {
		return 0, err
	}
	for _, a := range acks {
		if ids[a.id] {
			there++
		}
	}
	if len(acks) == 0 {
		return 0, errors.New("no write was acknowledged")
	}
	return float64(there) / float64(len(acks)), nil
}
