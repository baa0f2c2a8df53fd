package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyraft/keyraft/gateway"
	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/tokens/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRevokedIsRefused is the whole story: a token passes, is revoked by each
// kind, and is refused as soon as the head has arrived, cached or not.
func TestRevokedIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	g, _ := run(t, c.config(c.start()))
	synced(t, g, c)
	for kind, target := range map[string]string{
		verify.KindToken: "j1", verify.KindGrant: "gr", verify.KindRoot: "ro", verify.KindClient: "cl",
		verify.KindSubject: "su", verify.KindApplication: "ap",
	} {
		claim := map[string]string{"token": "jti", "grant": "gid", "root": "root", "client": "client_id", "subject": "sub", "application": "app"}[kind]
		token, cold := c.mint(map[string]any{claim: target}), c.mint(map[string]any{claim: target})
		want(t, g, token, "")
		c.revoke(kind, target)
		synced(t, g, c)
		want(t, g, token, gateway.Revoked)
		want(t, g, token, gateway.Revoked)
		want(t, g, cold, gateway.Revoked)
		want(t, g, c.mint(map[string]any{claim: target}), "") // minted after it
	}
}

func TestIssuedBeforeSparesLaterTokens(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	now := time.Now().Unix()
	old, young := c.mint(map[string]any{"iat": now - 100}), c.mint(map[string]any{"iat": now - 10})
	c.append(wire.Event{Tenant: "default", Kind: "client", Target: "orders", IssuedBefore: now - 50, ExpiresAt: now + 3600})
	c.append(wire.Event{Tenant: "other", Kind: "client", Target: "orders", ExpiresAt: now + 3600})
	g, _ := run(t, c.config(c.start()))
	synced(t, g, c)
	want(t, g, old, gateway.Revoked)
	want(t, g, young, "") // and the revocation of another tenant is not ours
}

// TestG1HeadNeverFalls: the node that was followed dies, the other one is
// behind; the gateway waits for it and its head never falls.
func TestG1HeadNeverFalls(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	a := c.start()
	token := c.mint(nil)
	for range 9 {
		c.revoke("token", "other")
	}
	b := c.start()
	b.limit.Store(5)
	b.answer(func(w http.ResponseWriter, _ *http.Request) bool { // not up yet
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	cfg := c.config(a, b)
	g, _ := run(t, cfg)
	c.revoke("client", "orders")
	synced(t, g, c)
	head := g.Status().Head
	b.instead.Store(nil)
	a.stop()
	asked := b.jwks.Load()
	until(t, "the node behind to be asked twice", func() bool { return b.jwks.Load() > asked+1 })
	if got := g.Status().Head; got != head {
		t.Errorf("head went from %d to %d", head, got)
	}
	want(t, g, token, gateway.Revoked)
	b.limit.Store(1 << 62)
	until(t, "the node that caught up to be followed", func() bool { return g.Status().Node == b.srv.URL && g.Status().HeadAgeMS < 1000 })
	want(t, g, token, gateway.Revoked)
}

// TestG2ReplayingNodeIsLeft: a node that answers behind is left for another.
func TestG2ReplayingNodeIsLeft(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	a, b := c.start(), c.start()
	c.revoke("token", "x")
	cfg := c.config(a, b)
	cfg.Hurry()
	g, _ := run(t, cfg)
	synced(t, g, c)
	for _, n := range []*testNode{a, b} {
		if n.srv.URL == g.Status().Node {
			n.limit.Store(0) // as after a restart, replaying
		}
	}
	first := g.Status().Node
	until(t, "a move to the other node", func() bool { s := g.Status(); return s.Node != first && s.Node != "" })
	c.revoke("token", "y")
	synced(t, g, c)
}

// TestG3CutAtEachByte: a poll whose answer is cut, here at every 24th byte,
// changes nothing, and the next one goes on from where the gateway was. (Package
// wire cuts at every single byte.)
func TestG3CutAtEachByte(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for at := 0; at < 240; at += 24 { // all at once: each waits out its pauses
		c := newCluster(t, "c1")
		n := c.start()
		cfg := c.config(n)
		cfg.Hurry()
		g, _ := run(t, cfg)
		synced(t, g, c)
		wg.Go(func() { cutAt(t, c, n, g, at) })
	}
	wg.Wait()
}

func cutAt(t *testing.T, c *testCluster, n *testNode, g *gateway.Gateway, at int) {
	token := c.mint(nil)
	want(t, g, token, "")
	n.answer(n.cut(at))
	if !await(func() bool { return failures(g) > 0 }) {
		t.Errorf("cut at %d: no short poll was cut", at)
	}
	c.revoke("client", "orders")
	failed := failures(g)
	if !await(func() bool { return failures(g) > failed+1 }) {
		t.Errorf("cut at %d: no poll with news was cut", at)
	}
	if got := g.Status().Head; got != 0 {
		t.Errorf("cut at %d: head moved to %d", at, got)
	}
	want(t, g, token, "")
	n.instead.Store(nil)
	if !await(func() bool { return g.Status().Head == 1 }) {
		t.Errorf("cut at %d: the poll does not go on", at)
	}
	want(t, g, token, gateway.Revoked)
}

func failures(g *gateway.Gateway) (n int) {
	for _, x := range g.Status().Nodes {
		n += x.Failures
	}
	return n
}

// TestG3Pages: a delta in pages is taken in whole, and once.
func TestG3Pages(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	n := c.start()
	n.page.Store(3)
	g, _ := run(t, c.config(n))
	synced(t, g, c)
	token := c.mint(nil)
	for range 20 {
		c.revoke("token", "other")
	}
	c.revoke("client", "orders")
	synced(t, g, c)
	want(t, g, token, gateway.Revoked)
	if got := g.Status().Counts.Revocations; got != 2 {
		t.Errorf("%d revocations, want 2: the same target again is one", got)
	}
}

// TestG4Compacted: 410 leads to the snapshot; what can't be true is
// dropped whole, and the other node asked (GW-05).
func TestG4Compacted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	n := c.start()
	cfg := c.config(n)
	cfg.Hurry()
	g, _ := run(t, cfg)
	synced(t, g, c)
	token := c.mint(nil)
	n.freeze()
	until(t, "the frozen node to be given up", func() bool { return failures(g) > 0 })
	c.revoke("client", "orders")
	c.revoke("token", "x")
	c.compact()
	n.thaw()
	synced(t, g, c)
	want(t, g, token, gateway.Revoked)
	if got := g.Status().Counts.Snapshots; got != 2 {
		t.Errorf("%d snapshots, want 2", got)
	}
}

func TestHostileNodeIsLeft(t *testing.T) {
	t.Parallel()
	delta := func(d *wire.Delta) []byte { return d.AppendProto(nil) }
	event := func(seq uint64) wire.Event {
		return wire.Event{Seq: seq, Tenant: "default", Kind: "client", Target: "orders"}
	}
	tests := []struct {
		name, media string
		status      int
		body        []byte
	}{
		{"an event above its own head", wire.TypeProto, 200, delta(&wire.Delta{Epoch: 1, Head: 5, Items: []wire.Event{event(9)}})},
		{"a head below what was asked for", wire.TypeProto, 200, delta(&wire.Delta{Epoch: 1, Head: 1})},
		{"an event from before what was asked for", wire.TypeProto, 200, delta(&wire.Delta{Epoch: 1, Head: 9, Items: []wire.Event{event(1)}})},
		{"an older epoch", wire.TypeProto, 200, delta(&wire.Delta{Epoch: 0, Head: 9})},
		{"another cluster", wire.TypeProto, 200, delta(&wire.Delta{Cluster: "c2", Epoch: 1, Head: 9, Items: []wire.Event{event(9)}})},
		{"a page of HTML", "text/html", 200, []byte("<html>")},
		{"JSON that is called protobuf", wire.TypeProto, 200, []byte(`{"epoch":1,"head":9,"items":[]}`)},
		{"a delta that is too long", wire.TypeProto, 200, make([]byte, wire.MaxDeltaBytes+1)},
		{"a redirect", wire.TypeProto, 302, nil},
		{"a failure", wire.TypeProto, 500, nil},
		{"a refusal of no known name", "application/problem+json", 409, []byte(`{"code":"tired"}`)},
		{"a refusal that is empty", "application/problem+json", 410, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				t.Error("the gateway followed a redirect")
			}))
			defer elsewhere.Close()
			c := newCluster(t, "c1")
			bad := c.start()
			c.revoke("token", "a")
			c.revoke("token", "b")
			g, _ := run(t, c.config(bad))
			synced(t, g, c)
			token := c.mint(nil)
			want(t, g, token, "")
			bad.answer(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/gateway/v1/revocations" {
					return false
				}
				w.Header().Set("Content-Type", tt.media)
				w.Header().Set("Location", elsewhere.URL)
				w.WriteHeader(tt.status)
				_, _ = w.Write(tt.body)
				return true
			})
			c.revoke("token", "c") // wakes the long poll, so that no good answer is under way
			until(t, "the answer to be dropped", func() bool { return failures(g) > 1 })
			if h := g.Status().Head; h != 2 && h != 3 {
				t.Errorf("head %d", h)
			}
			want(t, g, token, "")
			bad.instead.Store(nil)
			c.revoke("client", "orders")
			synced(t, g, c)
			want(t, g, token, gateway.Revoked)
		})
	}
}

// TestG5SnapshotAmidRevocations: revocations that come while a snapshot is on
// its way are refused when the gateway has caught up, and old ones all the time.
func TestG5SnapshotAmidRevocations(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	n := c.start()
	early, late := c.mint(map[string]any{"client_id": "early"}), c.mint(map[string]any{"client_id": "late"})
	cold := c.mint(map[string]any{"client_id": "early"}) // never seen before the restore
	c.revoke("client", "early")
	g, _ := run(t, c.config(n))
	synced(t, g, c)
	n.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/snapshot") {
			c.revoke("client", "late") // after the restore, while the stream is written
			if got := reason(g, early); got != gateway.Revoked {
				t.Errorf("during the snapshot the old revocation gives %q", got)
			}
		}
		return false
	})
	c.restore()
	until(t, "the new epoch", func() bool { return g.Status().Epoch == 2 })
	synced(t, g, c)
	want(t, g, early, gateway.Revoked) // the restored cluster has forgotten it, the gateway has not
	want(t, g, cold, gateway.Revoked)
	want(t, g, late, gateway.Revoked)
	want(t, g, c.mint(map[string]any{"client_id": "early"}), "")
}

func TestDamagedSnapshotIsNotTaken(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	n := c.start()
	for i := range 100 {
		c.revoke("token", string(rune('a'+i)))
	}
	n.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/snapshot") {
			return false
		}
		rec := httptest.NewRecorder()
		n.snapshot(rec)
		_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()-3])
		return true
	})
	g, _ := run(t, c.config(n))
	until(t, "the damaged snapshot to be dropped", func() bool { return g.Status().Counts.BadAnswers > 1 })
	if s := g.Status(); s.Head != 0 || s.Counts.Revocations != 0 || s.State != gateway.Starting || !s.Refusing {
		t.Errorf("something of it was taken: %+v", s)
	}
	want(t, g, c.mint(nil), gateway.NotSynced)
	n.instead.Store(nil)
	synced(t, g, c)
	want(t, g, c.mint(nil), "")
}

// TestG10TwoClusters: a gateway that is pointed at two clusters stays with one.
func TestG10TwoClusters(t *testing.T) {
	t.Parallel()
	ours, theirs := newCluster(t, "c1"), newCluster(t, "c2")
	theirs.revoke("client", "orders")
	a, b := ours.start(), theirs.start()
	cfg := ours.config(a, b)
	cfg.Cluster = "c1"
	cfg.Hurry()
	g, _ := run(t, cfg)
	synced(t, g, ours)
	token := ours.mint(nil)
	a.freeze()
	until(t, "the other cluster's node to be tried", func() bool { return b.jwks.Load() > 0 && failures(g) > 1 })
	want(t, g, token, "")
	if s := g.Status(); s.Cluster != "c1" || s.Counts.Revocations != 0 {
		t.Errorf("something of the other cluster was taken: %+v", s)
	}
	a.thaw()
	ours.revoke("client", "orders")
	synced(t, g, ours)
	want(t, g, token, gateway.Revoked)
}

// TestG12CredentialRenewed: the credential is revoked while a long poll waits;
// the gateway says so, and takes the new one from the file without a restart.
func TestG12CredentialRenewed(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	n := c.start()
	cfg := c.config(n)
	cfg.Hurry()
	g, _ := run(t, cfg)
	synced(t, g, c)
	start := time.Now()
	c.mu.Lock()
	c.credential = "second"
	c.mu.Unlock()
	until(t, "the gateway to say why", func() bool { return strings.Contains(g.Status().Problem, "credential") })
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the long poll ended after %v, want 5 s at most", took)
	}
	if s := g.Status().Problem; strings.Contains(s, "first") || strings.Contains(s, "second") {
		t.Errorf("the credential stands in %q", s)
	}
	if err := os.WriteFile(cfg.CredentialFile, []byte("second\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.revoke("token", "x")
	synced(t, g, c)
	if p := g.Status().Problem; p != "" {
		t.Errorf("it still says %q", p)
	}
}

// TestSilentNodeIsLeftWithinTwoSeconds: SIGSTOP keeps connections open.
func TestSilentNodeIsLeftWithinTwoSeconds(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	nodes := []*testNode{c.start(), c.start()}
	g, _ := run(t, c.config(nodes...))
	synced(t, g, c)
	for i, n := range nodes {
		if n.srv.URL == g.Status().Node {
			start := time.Now()
			n.freeze()
			until(t, "a move to the other node", func() bool { return g.Status().Node == nodes[1-i].srv.URL })
			if took := time.Since(start); took > 2500*time.Millisecond { // 2 s, and a loaded machine's half
				t.Errorf("the silent node was left after %v, want 2 s", took)
			}
			break
		}
	}
	c.revoke("token", "x")
	synced(t, g, c)
}

// TestKeysEvent: a rotation arrives in the delta, with and without its keys.
func TestKeysEvent(t *testing.T) {
	t.Parallel()
	for _, with := range []bool{true, false} {
		c := newCluster(t, "c1")
		var gone atomic.Pointer[string] // a token of a key that left, and
		var since atomic.Uint64         // the event that said so
		cfg := c.config(c.start())
		var g *gateway.Gateway
		cfg.OnSync = func(_, head uint64) {
			if token := gone.Load(); token != nil && head >= since.Load() {
				want(t, g, *token, gateway.UnknownKey) // as soon as the head is told
			}
		}
		var err error
		if g, err = gateway.New(cfg); err != nil {
			t.Fatal(err)
		}
		stop := begin(t, g)
		synced(t, g, c)
		old := c.mint(nil)
		want(t, g, old, "")
		c.mu.Lock()
		c.addKey("k2")
		c.published = 2
		e := wire.Event{Tenant: "default", Issuer: issuer, Kind: wire.KindKeys}
		if with {
			e.Data = c.jwks()
		}
		c.mu.Unlock()
		c.append(e)
		until(t, "two keys", func() bool { return g.Status().Counts.Keys == 2 })
		want(t, g, c.mint(nil), "")
		want(t, g, old, "")
		if got := g.Status().Counts.KeyRefreshes; got != 0 {
			t.Errorf("%d refreshes by unknown kid, want 0", got)
		}
		c.mu.Lock()
		c.keys, c.published = c.keys[1:], 1 // emergency: the first one is gone
		if with {
			e.Data = c.jwks()
		}
		since.Store(c.head + 1)
		gone.Store(&old)
		c.mu.Unlock()
		c.append(e)
		synced(t, g, c)
		want(t, g, old, gateway.UnknownKey) // cached before, refused now
		want(t, g, c.mint(nil), "")
		if got := g.Status().Counts.Keys; got != 1 {
			t.Errorf("%d keys, want 1", got)
		}
		stop()
	}
}

// TestHeadWaitsForItsKeys: an event says that keys changed, and the node's key
// document is from before it; the head does not move past it until there is one.
func TestHeadWaitsForItsKeys(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	n := c.start()
	g, _ := run(t, c.config(n))
	synced(t, g, c)
	token := c.mint(nil)
	want(t, g, token, "")
	c.mu.Lock()
	old := wire.Keys{Cluster: c.id, Epoch: c.epoch, Head: c.head, Issuers: []wire.Issuer{{Tenant: "default", Issuer: issuer, JWKS: c.jwks()}}}
	c.addKey("k2")
	c.keys = c.keys[1:]
	c.mu.Unlock()
	var served atomic.Int64
	n.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/gateway/v1/jwks" {
			return false
		}
		w.Header().Set("Content-Type", wire.TypeJSON)
		_, _ = w.Write(old.AppendJSON(nil))
		served.Add(1)
		return true
	})
	c.append(wire.Event{Tenant: "default", Kind: wire.KindKeys, Target: "default"})
	until(t, "the old document to be refused twice", func() bool { return served.Load() > 2 })
	if got := g.Status().Head; got != 0 {
		t.Errorf("the head moved to %d past a change of keys that is not in", got)
	}
	n.instead.Store(nil)
	synced(t, g, c)
	want(t, g, token, gateway.UnknownKey)
	want(t, g, c.mint(nil), "")
}

// TestY3UnknownKey: one refresh in a while, whatever comes.
func TestY3UnknownKey(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	n := c.start()
	g, _ := run(t, c.config(n))
	synced(t, g, c)
	good := c.mint(nil)
	c.mu.Lock()
	c.addKey("k2")
	c.published = 2 // no event: the first token of the new key comes earlier
	c.mu.Unlock()
	want(t, g, c.mint(nil), "")
	before := n.jwks.Load()
	forged := &signingKey{"", c.keys[0].private}
	for i := range 200 {
		forged.id = fmt.Sprint("random-", i)
		want(t, g, sign(t, forged, "at+jwt", map[string]any{"iss": issuer, "exp": time.Now().Unix() + 60}), gateway.UnknownKey)
	}
	if got := n.jwks.Load() - before; got > 1 {
		t.Errorf("%d refreshes for 200 unknown kids, want one at most", got)
	}
	want(t, g, good, "")
}

func TestRunTwiceIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	g, _ := run(t, c.config(c.start()))
	synced(t, g, c)
	if err := g.Run(context.Background()); err == nil {
		t.Error("taken")
	}
}

// TestANodeThatDoesNotLetPollsWait is asked with long polls as often as with short
// ones, no oftener: it answers each at once with no news, as a proxy with a cache would.
func TestANodeThatDoesNotLetPollsWait(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	n := c.start()
	var long, short atomic.Int64
	n.answer(func(_ http.ResponseWriter, r *http.Request) bool {
		q := r.URL.Query()
		switch q.Get("wait") {
		case "0s":
			short.Add(1)
		case "30s":
			long.Add(1)
			q.Set("wait", "0s")
			r.URL.RawQuery = q.Encode()
		}
		return false
	})
	cfg := c.config(n)
	cfg.Hurry()
	g, _ := run(t, cfg)
	synced(t, g, c)
	until(t, "twenty long polls", func() bool { return long.Load() >= 20 })
	if l, s := long.Load(), short.Load(); l > s+2 {
		t.Errorf("%d long polls beside %d short ones", l, s)
	}
	c.revoke("client", "orders")
	synced(t, g, c)
}
