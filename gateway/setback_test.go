package gateway_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/gateway"
	"github.com/keyraft/keyraft/gateway/wire"
)

// TestClockSetBackRevivesNothing: while the machine's clock is a day ahead the sweep
// takes every live revocation for over. When the clock is right again, no revoked
// token passes, neither before the gateway has loaded them anew nor after, and the
// other tokens do pass then.
func TestClockSetBackRevivesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	k := newClock()
	cfg := c.config(c.start())
	cfg.Clock = k.clock()
	cfg.CacheFile = filepath.Join(t.TempDir(), "cache")
	cfg.Hurry()
	g, stop := run(t, cfg)
	synced(t, g, c)
	bad, good := c.mint(map[string]any{"client_id": "bad"}), c.mint(nil)
	c.revoke("client", "bad")
	synced(t, g, c)
	want(t, g, bad, gateway.Revoked)

	k.wall.Add(int64(24 * time.Hour))
	g.Sweep()
	if n := g.Status().Counts.Revocations; n != 0 {
		t.Fatalf("%d revocations are left; the sweep was meant to drop them", n)
	}
	k.wall.Add(-int64(24 * time.Hour))
	never := func() bool {
		for _, token := range []string{bad, c.mint(map[string]any{"client_id": "bad", "ev": "1.0"})} {
			if got := reason(g, token); got == "" {
				t.Fatal("a revoked token passes after the clock was set back")
			}
		}
		return reason(g, good) == ""
	}
	until(t, "the other tokens to pass again", never)
	want(t, g, bad, gateway.Revoked)

	k.wall.Add(int64(24 * time.Hour))
	g.Sweep()
	stop() // writes the cache file
	k.wall.Add(-int64(24 * time.Hour))
	g, _ = run(t, cfg)
	until(t, "the other tokens to pass after a restart", never)
}

// TestSlowClockMeetsASnapshot: the cluster drops a revocation two minutes after the
// token's end. A gateway whose own clock is ten minutes behind, and that starts only
// then, still takes the token for a live one; it must not let it pass.
func TestSlowClockMeetsASnapshot(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	k := newClock()
	k.wall.Add(-int64(10 * time.Minute))
	cfg := c.config(c.start())
	cfg.Clock = k.clock()
	now := time.Now().Unix()
	ended := c.mint(map[string]any{"iat": now - 900, "exp": now - 180})
	live := c.mint(map[string]any{"iat": now - 900})
	c.revoke("client", "gone")
	c.forget()
	g, _ := run(t, cfg)
	synced(t, g, c)
	want(t, g, ended, gateway.Expired)
	want(t, g, live, "")
}

// TestRevocationInJSONReachesFormerIssuers: a JSON delta names the issuer as it is
// now; a token under a name that it had before is refused all the same, and one under
// the present name by an event from before the change.
func TestRevocationInJSONReachesFormerIssuers(t *testing.T) {
	t.Parallel()
	const before, first = "https://before.example", "https://first.example"
	c := newCluster(t, "c1")
	c.former = []string{before, first}
	n := c.start()
	n.answer(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/revocations") {
			r.Header.Set("Accept", wire.TypeJSON) // a proxy that takes the header away
		}
		return false
	})
	g, _ := run(t, c.config(n))
	synced(t, g, c)
	var tokens []string
	for _, iss := range []string{issuer, before, first} {
		for _, jti := range []string{"j1", "j2"} {
			tokens = append(tokens, c.mint(map[string]any{"iss": iss, "jti": jti}))
		}
	}
	for _, token := range tokens {
		want(t, g, token, "")
	}
	ends := time.Now().Unix() + 3600
	c.append(wire.Event{Tenant: "default", Issuer: issuer, Kind: "token", Target: "j1", ExpiresAt: ends})
	c.append(wire.Event{Tenant: "default", Issuer: before, Kind: "keymanager", Target: "resident", ExpiresAt: ends, IssuedAfter: time.Now().Unix() - 60})
	synced(t, g, c)
	for _, token := range tokens {
		want(t, g, token, gateway.Revoked)
	}
}
