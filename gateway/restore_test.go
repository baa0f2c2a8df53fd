package gateway_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/keyraft/keyraft/gateway"
	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/tokens/verify"
)

// TestS6RestoreTakesBackWhatCameAfterTheBackup: a restore's window arrives with the
// snapshot of the new epoch, in a delta, and from the cache file; it refuses what
// was decided or issued after the backup, cached or not, and nothing else.
func TestS6RestoreTakesBackWhatCameAfterTheBackup(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	n := c.start()
	cfg := c.config(n)
	cfg.CacheFile = filepath.Join(t.TempDir(), "cache")
	now := time.Now().Unix()
	backup := now - 50
	c.revoke("token", "x")
	kept := c.mint(map[string]any{"iat": backup})
	issuedAfter := c.mint(map[string]any{"iat": backup + 1}) // where no head moved
	c.revoke("token", "y")
	decidedAfter := c.mint(map[string]any{"iat": backup - 20}) // by a clock that lags
	g, stop := run(t, cfg)
	synced(t, g, c)
	for _, token := range []string{kept, issuedAfter, decidedAfter} {
		want(t, g, token, "")
	}
	c.restore()
	c.append(wire.Event{Tenant: "default", Kind: verify.KindKeyManager, Target: "resident", DecidedAfter: 1, IssuedAfter: backup, ExpiresAt: now + 3600})
	later := c.mint(map[string]any{"iat": now})
	check := func(g *gateway.Gateway) {
		t.Helper()
		want(t, g, kept, "")
		want(t, g, issuedAfter, gateway.Revoked)
		want(t, g, decidedAfter, gateway.Revoked)
		want(t, g, later, "")
		want(t, g, kept, "")
	}
	synced(t, g, c)
	check(g)
	cold, stopCold := run(t, c.config(n)) // by snapshot alone, without a cached decision
	synced(t, cold, c)
	check(cold)
	stopCold()
	stop()

	cfg.FailMode = gateway.FailOpen
	g, err := gateway.New(cfg) // before any contact
	if err != nil {
		t.Fatal(err)
	}
	check(g)
	g, _ = run(t, cfg)
	synced(t, g, c)
	check(g)

	c.restore() // from an older backup still: both windows hold
	c.append(wire.Event{Tenant: "default", Kind: verify.KindKeyManager, Target: "resident", IssuedAfter: backup - 100, ExpiresAt: now + 3600})
	synced(t, g, c)
	for _, token := range []string{kept, issuedAfter, decidedAfter, later} {
		want(t, g, token, gateway.Revoked)
	}
	want(t, g, c.mint(nil), "")
}

// TestY9LeakedKey: a signing key is revoked by its id. Every token of it is refused,
// cached or new, whatever head the thief wrote into it, while it is still in the key
// set and after; tokens of the next key pass.
func TestY9LeakedKey(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	g, _ := run(t, c.config(c.start()))
	synced(t, g, c)
	forged := map[string]any{"ev": "9.9223372036854775807", "iat": time.Now().Unix() + 30}
	cached, forgedCached, forgedNew := c.mint(nil), c.mint(forged), c.mint(forged)
	noKid := *c.keys[0]
	noKid.id = ""
	nameless := func() string {
		return sign(t, &noKid, "at+jwt", map[string]any{"iss": issuer, "sub": "eve", "aud": "api", "exp": time.Now().Unix() + 60, "ev": "9.9223372036854775807"})
	}
	for _, token := range []string{cached, forgedCached} {
		want(t, g, token, "")
	}
	want(t, g, nameless(), gateway.UnknownKey) // no node makes or takes one without kid
	c.revoke(verify.KindKey, "k1")
	synced(t, g, c)
	for _, token := range []string{cached, forgedCached, forgedNew, c.mint(nil)} {
		want(t, g, token, gateway.Revoked)
	}
	want(t, g, nameless(), gateway.UnknownKey)
	c.mu.Lock()
	c.addKey("k2")
	c.keys, c.published = c.keys[1:], 1
	c.mu.Unlock()
	c.append(wire.Event{Tenant: "default", Kind: wire.KindKeys, Target: "default"}) // as a node writes it: no issuer, no keys
	synced(t, g, c)
	for _, token := range []string{cached, forgedCached} {
		if got := reason(g, token); got != gateway.Revoked && got != gateway.UnknownKey {
			t.Errorf("after the key has left: %q", got)
		}
	}
	want(t, g, forgedNew, gateway.Revoked)
	want(t, g, c.mint(nil), "")
}

// TestKeyManagerRevoked: without a window it covers by head, by the name of the
// key manager and not by its issuer.
func TestKeyManagerRevoked(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	g, _ := run(t, c.config(c.start()))
	synced(t, g, c)
	cached, cold := c.mint(nil), c.mint(nil)
	want(t, g, cached, "")
	c.revoke(verify.KindKeyManager, issuer)
	c.revoke(verify.KindKeyManager, "okta")
	synced(t, g, c)
	want(t, g, cached, "")
	c.append(wire.Event{Tenant: "default", Kind: verify.KindKeyManager, Target: "resident", ExpiresAt: time.Now().Unix() + 3600})
	synced(t, g, c)
	want(t, g, cached, gateway.Revoked)
	want(t, g, cold, gateway.Revoked)
	want(t, g, c.mint(nil), "")
}

// TestFormerIssuer: tokens under a name that the issuer had before pass until they
// expire, and are revoked like the others.
func TestFormerIssuer(t *testing.T) {
	t.Parallel()
	const before = "https://old.example"
	c := newCluster(t, "c1")
	c.former = []string{before, issuer, before}
	cfg := c.config(c.start())
	cfg.CacheFile = filepath.Join(t.TempDir(), "cache")
	g, stop := run(t, cfg)
	synced(t, g, c)
	token := c.mint(map[string]any{"iss": before})
	want(t, g, token, "")
	want(t, g, c.mint(map[string]any{"iss": "https://older.example"}), gateway.UnknownIssuer)
	if got := g.Status().Counts.Keys; got != 1 {
		t.Errorf("%d keys, want the one that serves both names", got)
	}
	stop()
	g, _ = run(t, cfg)
	synced(t, g, c)
	want(t, g, token, "")
	c.mu.Lock()
	c.addKey("k2")
	c.published = 2
	e := wire.Event{Tenant: "default", Issuer: issuer, Kind: wire.KindKeys, Target: "default", Data: c.jwks()}
	c.mu.Unlock()
	c.append(e)
	synced(t, g, c)
	want(t, g, c.mint(map[string]any{"iss": before}), "")
	if s := g.Status(); s.Counts.KeyRefreshes != 0 {
		t.Error("the new key was not known under the former name")
	}
	c.append(wire.Event{Tenant: "default", Kind: verify.KindClient, Target: "orders", ExpiresAt: time.Now().Unix() + 3600})
	synced(t, g, c)
	want(t, g, token, gateway.Revoked)
	c.mu.Lock()
	c.former = nil
	c.mu.Unlock()
	c.append(wire.Event{Tenant: "default", Kind: wire.KindKeys, Target: "default"})
	synced(t, g, c)
	want(t, g, c.mint(map[string]any{"iss": before}), gateway.UnknownIssuer)
}
