package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// gapBound is how long writes may stop when a leader dies: four heartbeat
// timeouts of the defaults (P1), and room for a machine that is busy with the
// other tests.
const gapBound = 4*time.Second + 4*time.Second

// TestP1LeaderKilledUnderLoad: SIGKILL to the leader while the survivors issue
// tokens and take writes: no JWT request fails there, writes go on within the
// bound, nothing acknowledged is lost, and the gateway finds another node (P2).
func TestP1LeaderKilledUnderLoad(t *testing.T) {
	t.Parallel()
	w, nodes := cluster(t)
	leader := w.leader(nodes...)
	rest := without(nodes, leader)
	g := w.edge("gw1", []*node{leader, rest[0], rest[1]}, "--max-staleness", "5s")
	revoked := must(leader.Issue(w.bound(), w.client, ""))(t)
	must(leader.Revoke(w.bound(), map[string]any{"token": revoked}, 5*time.Second))(t)
	live := must(leader.Issue(w.bound(), w.client, ""))(t)

	issuing, writing := w.issuing(3, rest...), w.writing(2, rest...)
	w.await("writes under way", func(context.Context) error { return atLeast(writing.count(), 20) })
	begun := time.Now()
	leader.kill()
	next := w.leader(rest...)
	t.Logf("%s leads %s after the kill of %s", next.name, time.Since(begun).Round(time.Millisecond), leader.name)
	then := writing.count()
	w.await("writes that go on", func(context.Context) error { return atLeast(writing.count(), then+20) })
	acked, wrong := writing.end()
	issued, failed := issuing.end()
	t.Logf("%d tokens, %d writes; writes stood still for %s", issued, len(acked), writing.gap.Round(time.Millisecond))
	if len(failed) > 0 || issued < 50 {
		t.Errorf("%d tokens were issued, and refused were: %s", issued, strings.Join(failed, "\n"))
	}
	if len(wrong) > 0 {
		t.Errorf("writes that never got through: %s", strings.Join(wrong, "\n"))
	}
	if writing.gap > gapBound {
		t.Errorf("writes stood still for %s, the bound is %s", writing.gap, gapBound)
	}
	g.says(t, revoked, http.StatusUnauthorized, "revoked")
	g.says(t, live, http.StatusNoContent, "")
	w.await("the gateway at a survivor", func(ctx context.Context) error {
		var s edgeStatus
		err := g.Call(ctx, http.MethodGet, "/status", nil, &s)
		if err == nil && s.Node == leader.Base {
			err = errors.New("it still follows " + s.Node)
		}
		return err
	})
	r := must(rest[0].Revoke(w.bound(), map[string]any{"token": live}, 5*time.Second))(t)
	if !r.Complete {
		t.Errorf("the receipt after the kill is not whole: %+v", r)
	}
	g.says(t, live, http.StatusUnauthorized, "revoked")

	leader.run() // it comes back on what the kill left
	w.awaitVoters(next, 3)
	w.kept(acked, nodes...)
	w.equalChecksums(nodes...)
	for _, n := range nodes {
		w.gapless(n, map[uint64]bool{r.Seq: true})
	}
}

func atLeast(have, want int) error {
	if have < want {
		return fmt.Errorf("%d of %d", have, want)
	}
	return nil
}

// TestP3AllKilledAtOnce: SIGKILL to all nodes in one moment, restarted in another
// order with one staying away at first: the same state on all, revoked stays
// revoked.
func TestP3AllKilledAtOnce(t *testing.T) {
	t.Parallel()
	w, nodes := cluster(t)
	opaque := must(nodes[0].CreateClient(w.bound(), map[string]any{"access_token_format": "opaque"}))(t)
	kept := must(nodes[0].Issue(w.bound(), opaque, ""))(t)
	revoked := must(nodes[1].Issue(w.bound(), w.client, ""))(t)
	r := must(nodes[2].Revoke(w.bound(), map[string]any{"token": revoked}, 0))(t)
	writing := w.writing(2, nodes...)
	w.await("writes under way", func(context.Context) error { return atLeast(writing.count(), 30) })
	var all sync.WaitGroup
	for _, n := range nodes {
		all.Go(n.kill)
	}
	all.Wait()
	acked, _ := writing.end()
	order := rand.Perm(len(nodes))
	t.Logf("%d writes were acknowledged; restart in the order %v", len(acked), order)
	first, second, third := nodes[order[0]], nodes[order[1]], nodes[order[2]]
	first.launch()
	second.launch()
	begun := time.Now()
	first.awaitReady()
	second.awaitReady()
	t.Logf("two of three serve again after %s", time.Since(begun).Round(time.Millisecond))
	if active, err := second.Active(w.bound(), w.client, revoked); err != nil || active {
		t.Errorf("a revoked token is active: %v, %v", active, err)
	}
	third.run()
	w.kept(acked, nodes...)
	w.equalChecksums(nodes...)
	for _, n := range nodes {
		w.gapless(n, map[uint64]bool{r.Seq: true})
		for what, c := range map[string]struct {
			client proc.Client
			token  string
			active bool
		}{"the opaque token": {opaque, kept, true}, "the revoked one": {w.client, revoked, false}} {
			if active, err := n.Active(w.bound(), c.client, c.token); err != nil || active != c.active {
				t.Errorf("%s: %s is active: %v, %v", n.name, what, active, err)
			}
		}
	}
}

// TestP5LeaderPaused: SIGSTOP to the leader, a revocation elsewhere meanwhile,
// SIGCONT with requests waiting in its socket: it answers none of them from the
// past.
func TestP5LeaderPaused(t *testing.T) {
	t.Parallel()
	w, nodes := cluster(t)
	for _, pause := range []time.Duration{300 * time.Millisecond, 2 * time.Second} {
		t.Run(pause.String(), func(t *testing.T) {
			defer w.during(t)()
			leader := w.leader(nodes...)
			rest := without(nodes, leader)
			token := must(leader.Issue(w.bound(), w.client, ""))(t)
			leader.pause()
			timer := time.After(pause)
			// Needs another leader; with a pause shorter than an election the old one
			// has to take it once it goes on.
			revoked := make(chan error, 1)
			go func() {
				_, err := rest[0].Revoke(w.bound(), map[string]any{"token": token}, 0)
				revoked <- err
			}()
			<-timer
			if pause > time.Second {
				if err := <-revoked; err != nil {
					leader.cont()
					t.Fatal(err)
				}
			}
			asked := w.introspections(leader, token, 20)
			leader.cont()
			stale := 0
			for range 20 {
				if a := <-asked; a.err == nil && a.active {
					stale++
				}
			}
			if pause > time.Second && stale > 0 {
				t.Errorf("I2: %d of 20 questions that were asked after the revocation are answered active", stale)
			}
			if pause < time.Second {
				if err := <-revoked; err != nil {
					t.Fatal(err)
				}
			}
			for _, n := range nodes {
				w.await(n.name+" to answer", func(ctx context.Context) error {
					active, err := n.Active(ctx, w.client, token)
					if err == nil && active {
						t.Errorf("I2: %s says active after the revocation", n.name)
					}
					return err
				})
			}
		})
	}
	w.awaitVoters(nodes[0], 3)
	w.equalChecksums(nodes...)
}

type asked struct {
	active bool
	err    error
}

// introspections sends so many questions at once and returns when all are in the
// node's hands; their answers come in any order.
func (w *world) introspections(at *node, token string, n int) <-chan asked {
	out := make(chan asked, n)
	ctx := w.bound()
	var sent sync.WaitGroup
	api := at.API
	for range n {
		sent.Add(1)
		once := sync.OnceFunc(sent.Done)
		go func() {
			active, err := api.Active(proc.OnSent(ctx, once), w.client, token)
			once()
			out <- asked{active, err}
		}()
	}
	sent.Wait()
	return out
}

// TestP6GatewayPaused: SIGSTOP to a gateway for longer than its bound, a
// revocation meanwhile: the first answer after SIGCONT is a refusal.
func TestP6GatewayPaused(t *testing.T) {
	t.Parallel()
	w, n := single(t)
	g := w.edge("gw1", []*node{n}, "--max-staleness", "2s")
	token := must(n.Issue(w.bound(), w.client, ""))(t)
	g.says(t, token, http.StatusNoContent, "")
	if err := g.proc.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	must(n.Revoke(w.bound(), map[string]any{"token": token}, 0))(t)
	<-time.After(2500 * time.Millisecond) // the bound has to pass while it stands still
	verdicts := make(chan proc.Verdict, 10)
	var sent sync.WaitGroup
	for range cap(verdicts) {
		sent.Add(1)
		once := sync.OnceFunc(sent.Done)
		go func() {
			v, _ := g.Validate(proc.OnSent(w.bound(), once), token) // the zero verdict accepts nothing
			once()
			verdicts <- v
		}()
	}
	sent.Wait()
	if err := g.proc.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for range cap(verdicts) {
		if v := <-verdicts; v.Status != http.StatusUnauthorized && v.Status != http.StatusForbidden {
			t.Errorf("I2: a question from the pause is answered %d %q", v.Status, v.Reason)
		}
	}
	w.await("the refusal as revoked", func(ctx context.Context) error {
		v, err := g.Validate(ctx, token)
		if err == nil && v.Reason != "revoked" {
			err = fmt.Errorf("it says %d %q", v.Status, v.Reason)
		}
		return err
	})
}

// TestP7SigtermUnderLoad: SIGTERM to the leader under load: it hands over, drains,
// ends with 0, and nobody meets a 5xx other than 503 with Retry-After.
func TestP7SigtermUnderLoad(t *testing.T) {
	t.Parallel()
	w, nodes := cluster(t)
	leader := w.leader(nodes...)
	rest := without(nodes, leader)
	issuing, writing := w.issuing(2, rest...), w.writing(2, nodes...)
	w.await("writes under way", func(context.Context) error { return atLeast(writing.count(), 20) })
	leader.signal(syscall.SIGTERM)
	begun := time.Now()
	code, err := leader.proc.Wait(15 * time.Second)
	if err != nil || code != 0 {
		t.Errorf("exit code %d, %v", code, err)
	}
	t.Logf("it ended %s after SIGTERM", time.Since(begun).Round(time.Millisecond))
	then := writing.count()
	w.await("writes that go on", func(context.Context) error { return atLeast(writing.count(), then+10) })
	acked, wrong := writing.end()
	_, failed := issuing.end()
	if len(failed) > 0 {
		t.Errorf("tokens refused by the others: %s", strings.Join(failed, "\n"))
	}
	for _, text := range wrong {
		if !strings.HasPrefix(text, leader.name+":") { // its port is closed by now
			t.Errorf("a write that never got through: %s", text)
		}
	}
	t.Logf("writes stood still for %s", writing.gap.Round(time.Millisecond))
	if writing.gap > gapBound {
		t.Errorf("writes stood still for %s although leadership was handed over", writing.gap)
	}
	leader.run()
	w.kept(acked, nodes...)
	w.equalChecksums(nodes...)
}

// TestG2RestartedNodeIsBehind: a node that restarts without reaching a leader
// (R13) issues nothing, introspects nothing, and answers a gateway's poll with
// 409, not with an empty delta; once it reaches one, it serves.
func TestG2RestartedNodeIsBehind(t *testing.T) {
	t.Parallel()
	w, nodes := cluster(t)
	leader := w.leader(nodes...)
	back := without(nodes, leader)[0]
	others := without(nodes, back)
	for _, tt := range []struct {
		name string
		end  func()
		// A node that was killed may have nothing on its disk but the log, which it
		// can't apply without a leader: then it doesn't even know who asks.
		unknown bool
	}{
		{"stopped before", func() { back.proc.Terminate(15 * time.Second) }, false},
		{"killed before", back.kill, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer w.during(t)()
			leader := w.leader(nodes...)
			if leader == back {
				w.cli(leader, "", "operator", "transfer-leader", "--to", others[0].name)
				leader = w.leader(nodes...)
			}
			tt.end()
			token := must(leader.Issue(w.bound(), w.client, ""))(t)
			r := must(leader.Revoke(w.bound(), map[string]any{"token": token}, 0))(t)
			epoch := must(w.delta(w.bound(), leader, r.Seq, 0))(t).Epoch
			for _, n := range others {
				n.pause()
			}
			resume := sync.OnceFunc(func() {
				for _, n := range others {
					n.cont()
				}
			})
			defer resume()
			back.launch()
			w.alone(back, r.Seq, epoch, token, tt.unknown)
			resume()
			back.awaitReady()
			w.caughtUp(back, r.Seq, epoch, token)
		})
	}
}

// alone checks what a node says that has not reached a leader since its start.
func (w *world) alone(n *node, seq, epoch uint64, token string, unknown bool) {
	w.t.Helper()
	w.await("an answer of the restarted node", func(ctx context.Context) error {
		return n.Call(ctx, http.MethodGet, "/livez", nil, nil)
	})
	for range 5 { // each may look for a leader for a moment
		d, err := w.delta(w.bound(), n, seq, epoch)
		behind := proc.StatusOf(err) == http.StatusConflict && strings.Contains(err.Error(), "behind")
		if !behind && !(unknown && proc.StatusOf(err) == http.StatusServiceUnavailable) {
			w.t.Fatalf("a poll since %d is answered with %+v, %v; want 409 behind", seq, d, err)
		}
	}
	if err := n.Call(w.bound(), http.MethodGet, "/readyz", nil, nil); proc.StatusOf(err) != http.StatusServiceUnavailable {
		w.t.Errorf("/readyz: %v", err)
	}
	_, issue := n.Issue(w.bound(), w.client, "")
	_, introspect := n.Active(w.bound(), w.client, token)
	for what, err := range map[string]error{"issues a token": issue, "introspects": introspect} {
		var refused *proc.Refused
		if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || refused.RetryAfter == "" {
			w.t.Errorf("it %s: %v; want 503 with Retry-After", what, err)
		}
	}
}

// caughtUp checks that a node knows the revocation that it had missed, and
// refuses positions that it can't answer from.
func (w *world) caughtUp(n *node, seq, epoch uint64, token string) {
	w.t.Helper()
	if active, err := n.Active(w.bound(), w.client, token); err != nil || active {
		w.t.Errorf("the token that was revoked meanwhile is active: %v, %v", active, err)
	}
	if d, err := w.delta(w.bound(), n, seq-1, epoch); err != nil || d.Head < seq || len(d.Items) == 0 {
		w.t.Errorf("its delta since %d is %+v, %v", seq-1, d, err)
	}
	if d, err := w.delta(w.bound(), n, seq+1<<40, epoch); proc.StatusOf(err) != http.StatusConflict || !strings.Contains(err.Error(), "ahead") && !strings.Contains(err.Error(), "behind") {
		w.t.Errorf("since above the head: %+v, %v; want 409", d, err)
	}
	if d, err := w.delta(w.bound(), n, seq, epoch+1); proc.StatusOf(err) != http.StatusConflict || !strings.Contains(err.Error(), "epoch") {
		w.t.Errorf("in another epoch: %+v, %v; want 409 epoch", d, err)
	}
}

// TestG7AllNodesGone: with no node left a gateway decides within its bound and
// refuses everything after it, with the reason; one that fails open goes on and
// still refuses what it knows.
func TestG7AllNodesGone(t *testing.T) {
	t.Parallel()
	w, n := single(t)
	closed := w.edge("closed", []*node{n}, "--max-staleness", "2s")
	open := w.edge("open", []*node{n}, "--max-staleness", "2s", "--fail-mode", "open")
	good, bad := must(n.Issue(w.bound(), w.client, ""))(t), must(n.Issue(w.bound(), w.client, ""))(t)
	if r := must(n.Revoke(w.bound(), map[string]any{"token": bad}, 5*time.Second))(t); !r.Complete || len(r.Receipt) != 2 {
		t.Errorf("the receipt of two gateways is %+v", r)
	}
	closed.says(t, good, http.StatusNoContent, "")
	n.kill()
	gone := time.Now()
	for time.Since(gone) < time.Second {
		closed.says(t, good, http.StatusNoContent, "") // still within the bound
	}
	took := w.await("the first refusal", func(ctx context.Context) error {
		v, err := closed.Validate(ctx, good)
		if err == nil && v.Reason != "stale" {
			err = fmt.Errorf("it says %d %q", v.Status, v.Reason)
		}
		return err
	})
	if took > 5*time.Second {
		t.Errorf("refused only %s after its bound could pass", took)
	}
	for range 100 {
		v := must(closed.Validate(t.Context(), good))(t)
		if v.Reason != "stale" || v.Status != http.StatusUnauthorized && v.Status != http.StatusForbidden {
			t.Fatalf("it says %d %q after the bound", v.Status, v.Reason)
		}
	}
	open.says(t, good, http.StatusNoContent, "")
	open.says(t, bad, http.StatusUnauthorized, "revoked")
	n.run()
	w.await("the gateway to decide again", func(ctx context.Context) error {
		v, err := closed.Validate(ctx, good)
		if err == nil && v.Status != http.StatusNoContent {
			err = fmt.Errorf("it says %d %q", v.Status, v.Reason)
		}
		return err
	})
	closed.says(t, bad, http.StatusUnauthorized, "revoked")
}

// TestGatewayRestart: a gateway with a cache file knows after a restart what it
// knew before, and goes on from there without a snapshot.
func TestGatewayRestart(t *testing.T) {
	t.Parallel()
	w, n := single(t)
	cache := w.dir + "/gateway.cache"
	g := w.edge("gw1", []*node{n}, "--cache-file", cache)
	token := must(n.Issue(w.bound(), w.client, ""))(t)
	must(n.Revoke(w.bound(), map[string]any{"token": token}, 5*time.Second))(t)
	head := g.status(t).Head
	if code := g.proc.Terminate(15 * time.Second); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if info, err := os.Stat(cache); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the cache file: %v, %v", info, err)
	}
	g = w.edge("gw1", []*node{n}, "--cache-file", cache)
	if s := g.status(t); s.Head < head || s.Counts.Snapshots != 0 {
		t.Errorf("after the restart head %d (before %d), %d snapshots", s.Head, head, s.Counts.Snapshots)
	}
	g.says(t, token, http.StatusUnauthorized, "revoked")
}
