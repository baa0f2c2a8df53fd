package gateway_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyraft/keyraft/gateway"
)

// TestG6CacheFile: a restart resumes from the file; before the first contact the
// fail mode decides; a file that is torn, foreign or from another time is dropped.
func TestG6CacheFile(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	n := c.start()
	cfg := c.config(n)
	cfg.CacheFile = filepath.Join(t.TempDir(), "cache")
	token, good := c.mint(nil), c.mint(map[string]any{"client_id": "other"})
	c.revoke("client", "orders")
	g, stop := run(t, cfg)
	synced(t, g, c)
	stop()
	whole, err := os.ReadFile(cfg.CacheFile)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(cfg.CacheFile); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", st.Mode(), err)
	}
	open := func(t *testing.T, change func(*gateway.Config)) *gateway.Gateway {
		t.Helper()
		cfg := cfg
		if change != nil {
			change(&cfg)
		}
		g, err := gateway.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	g = open(t, nil)
	if s := g.Status(); !s.FromCacheFile || s.Head != 1 || !s.Refusing || s.State != gateway.Starting {
		t.Errorf("before the first contact: %+v", s)
	}
	want(t, g, good, gateway.NotSynced)
	g = open(t, func(c *gateway.Config) { c.FailMode = gateway.FailOpen })
	want(t, g, token, gateway.Revoked) // open lets good ones pass, not this one
	want(t, g, good, "")
	if s := g.Status(); s.Refusing || s.Counts.AcceptedStale == 0 {
		t.Errorf("fail-open does not say what it does: %+v", s)
	}

	g, stop = run(t, cfg)
	synced(t, g, c)
	if got := g.Status().Counts.Snapshots; got != 0 {
		t.Errorf("%d snapshots were loaded, want 0: the file says where to go on", got)
	}
	want(t, g, token, gateway.Revoked)
	stop()

	dropped := func(t *testing.T, what string, content []byte, change func(*gateway.Config)) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "cache")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		g := open(t, func(c *gateway.Config) {
			c.CacheFile = file
			if change != nil {
				change(c)
			}
		})
		if s := g.Status(); s.FromCacheFile || s.Head != 0 || s.Counts.Revocations != 0 {
			t.Errorf("%s was taken: %+v", what, s)
		}
	}
	for at := 0; at < len(whole); at += 7 {
		dropped(t, "a torn file", whole[:at], nil)
		flipped := append([]byte(nil), whole...)
		flipped[at] ^= 4
		dropped(t, "a flipped file", flipped, nil)
	}
	dropped(t, "a file with something behind it", append(append([]byte(nil), whole...), 0), nil)
	dropped(t, "a file of another cluster", whole, func(c *gateway.Config) { c.Cluster = "c2" })
	at := func(d time.Duration) func(*gateway.Config) {
		return func(c *gateway.Config) {
			k := newClock()
			k.wall.Store(int64(d))
			c.Clock = k.clock()
		}
	}
	dropped(t, "a file of the day before yesterday", whole, at(48*time.Hour))
	dropped(t, "a file from the future", whole, at(-time.Hour))
}

// TestG6ForeignAndFutureCacheMeetTheCluster: what only the first contact can
// tell about a cache file.
func TestG6ForeignAndFutureCacheMeetTheCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	cfg := c.config(c.start())
	cfg.CacheFile = filepath.Join(t.TempDir(), "cache")
	for range 9 {
		c.revoke("client", "orders")
	}
	g, stop := run(t, cfg)
	synced(t, g, c)
	stop()

	future := newCluster(t, "c1") // the same cluster, lost and begun again without a new epoch
	cfg.Nodes = future.config(future.start()).Nodes
	g, stop = run(t, cfg)
	synced(t, g, future)
	if s := g.Status(); s.Counts.Revocations != 1 {
		t.Errorf("the revocations of the file are gone: %+v", s.Counts)
	}
	want(t, g, future.mint(map[string]any{"client_id": "other"}), "") // and the keys are the new ones
	stop()

	foreign := newCluster(t, "c9")
	cfg.Nodes = foreign.config(foreign.start()).Nodes
	g, _ = run(t, cfg)
	synced(t, g, foreign)
	if s := g.Status(); s.Cluster != "c9" || s.Counts.Revocations != 0 {
		t.Errorf("two clusters were merged: %+v", s)
	}
}

// TestG7FailMode: all nodes gone for longer than the bound.
func TestG7FailMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []gateway.FailMode{gateway.FailClosed, gateway.FailOpen} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, "c1")
			n := c.start()
			k := newClock()
			cfg := c.config(n)
			cfg.FailMode, cfg.Clock = mode, k.clock()
			cfg.MaxStaleness = 20 * time.Second
			g, _ := run(t, cfg)
			c.revoke("client", "bad")
			bad, good := c.mint(map[string]any{"client_id": "bad", "ev": "1.0"}), c.mint(nil)
			synced(t, g, c)
			n.stop()
			k.sleep(15 * time.Second)
			want(t, g, good, "") // within the bound
			k.sleep(6 * time.Second)
			s := g.Status()
			if s.State != gateway.StaleNow || s.HeadAgeMS < 20000 {
				t.Errorf("status %+v", s)
			}
			if mode == gateway.FailClosed {
				for range 100 {
					want(t, g, good, gateway.Stale)
				}
				want(t, g, bad, gateway.Stale)
				return
			}
			want(t, g, good, "")
			want(t, g, bad, gateway.Revoked)
		})
	}
}

// TestP6PauseCounts: the machine sleeps, so Go's monotonic clock stands still;
// the boot clock and the wall clock do not. The first decision afterwards is a
// refusal, whatever an answer says that was on its way before the pause.
func TestP6PauseCounts(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	n := c.start()
	k := newClock()
	cfg := c.config(n)
	cfg.Clock = k.clock()
	cfg.Hurry()
	g, _ := run(t, cfg)
	synced(t, g, c)
	token := c.mint(nil)
	want(t, g, token, "")
	n.freeze()
	until(t, "no poll to be answered any more", func() bool { return failures(g) > 0 })
	k.sleep(time.Minute)
	want(t, g, token, gateway.Stale)
	n.thaw()
	until(t, "a poll sent after the pause", func() bool { return reason(g, token) == "" })
}
