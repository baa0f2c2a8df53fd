package gateway

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/keymanagers/match"
	"github.com/keyraft/keyraft/tokens/verify"
)

// known are the issuers of the property test: two tenants, one with a third party.
var known = []match.Manager{
	{Tenant: "t1", Name: match.Resident, Issuer: "https://a", Own: true},
	{Tenant: "t1", Name: "okta", Issuer: "https://okta"},
	{Tenant: "t2", Name: match.Resident, Issuer: "https://a/t/t2", Own: true},
}

func knownKeys(t testing.TB) (map[string]*ecdsa.PrivateKey, *wire.Keys) {
	t.Helper()
	keys, public := map[string]*ecdsa.PrivateKey{}, []verify.Key{}
	for _, id := range []string{"a", "b"} {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[id] = k
		public = append(public, verify.Key{ID: id, Alg: verify.ES256, Public: &k.PublicKey})
	}
	doc := &wire.Keys{Cluster: "c1", Epoch: 1, Head: 1}
	for _, m := range known {
		doc.Issuers = append(doc.Issuers, wire.Issuer{Tenant: m.Tenant, KeyManager: m.Name, Issuer: m.Issuer, JWKS: verify.AppendJWKS(nil, public)})
	}
	return keys, doc
}

func signed(t testing.TB, k *ecdsa.PrivateKey, kid string, claims map[string]any) string {
	t.Helper()
	e := base64.RawURLEncoding
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	text := e.EncodeToString(fmt.Appendf(nil, `{"alg":"ES256","typ":"at+jwt","kid":%q}`, kid)) + "." + e.EncodeToString(payload)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, k, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + e.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// claimed is a token with what verify says of it.
type claimed struct {
	text   string
	tenant string
	verify.Claims
}

func drawToken(t *rapid.T, tb testing.TB, keys map[string]*ecdsa.PrivateKey) claimed {
	id := rapid.SampledFrom([]string{"a", "b", "resident"})
	m := rapid.SampledFrom(known).Draw(t, "issuer")
	kid := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "kid")
	claims := map[string]any{
		"iss": m.Issuer, "exp": time.Now().Unix() + 3600, "jti": id.Draw(t, "jti"), "gid": id.Draw(t, "gid"), "root": id.Draw(t, "root"),
		"client_id": id.Draw(t, "client"), "sub": id.Draw(t, "sub"), "app": id.Draw(t, "app"),
		"ev": fmt.Sprintf("1.%d", rapid.IntRange(0, 40).Draw(t, "head")),
	}
	if iat := rapid.IntRange(0, 5).Draw(t, "iat"); iat > 0 {
		claims["iat"] = iat
	}
	text := signed(tb, keys[kid], kid, claims)
	token, err := verify.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := token.Check(verify.Expect{Issuer: m.Issuer, Own: m.Own, Now: time.Now().Unix()}); err != nil {
		t.Fatal(err)
	}
	c := claimed{text, m.Tenant, token.Claims}
	c.KeyManager = m.Name
	return c
}

func drawEvent(t *rapid.T, seq uint64) wire.Event {
	kinds := []string{
		verify.KindToken, verify.KindGrant, verify.KindRoot, verify.KindClient, verify.KindSubject, verify.KindApplication,
		verify.KindKeyManager, verify.KindKeyManager, verify.KindKey, verify.KindAPIKey, "unheard-of",
	}
	e := wire.Event{
		Seq: seq, Tenant: rapid.SampledFrom([]string{"t1", "t2"}).Draw(t, "tenant"),
		Issuer:       rapid.SampledFrom([]string{"", "", "https://a", "https://okta", "https://a/t/t2"}).Draw(t, "of issuer"),
		Kind:         rapid.SampledFrom(kinds).Draw(t, "kind"),
		Target:       rapid.SampledFrom([]string{"a", "b", "resident", "okta"}).Draw(t, "target"),
		IssuedBefore: max(rapid.Int64Range(-5, 5).Draw(t, "issued before"), 0),
		IssuedAfter:  max(rapid.Int64Range(-5, 5).Draw(t, "issued after"), 0),
	}
	if e.IssuedAfter != 0 {
		e.DecidedAfter = rapid.Uint64Range(0, 40).Draw(t, "decided after")
	}
	return e
}

// TestDecisionIsCovers: after any events, by deltas, a snapshot and a cache file,
// a token is refused exactly when verify.Covers says so of one of its tenant's
// revocations, whether it was cached before or is new.
func TestDecisionIsCovers(t *testing.T) {
	t.Parallel()
	keys, doc := knownKeys(t)
	rapid.Check(t, func(rt *rapid.T) {
		g, _ := quietGateway(t, nil)
		if err := g.setKeys(doc); err != nil {
			rt.Fatal(err)
		}
		var tokens []claimed
		for range 6 {
			tokens = append(tokens, drawToken(rt, t, keys))
		}
		same := func(when string, events []wire.Event) {
			for i := range tokens {
				tok, want := &tokens[i], Reason("")
				for j := range events {
					if e := &events[j]; revocable(e.Kind) && e.Tenant == tok.tenant && verify.Covers(revocationOf(e), &tok.Claims) {
						want = Revoked
					}
				}
				for _, how := range []string{"cached", "new"} {
					_, err := g.Validate(context.Background(), Request{Token: tok.text})
					if got := reasonOr(err); got != want {
						rt.Fatalf("%s, %s: %q, want %q for %+v under %+v", when, how, got, want, tok.Claims, events)
					}
					if e := g.cache.find(g.cache.hash.sum([]byte(tok.text)), tok.text); e == nil {
						rt.Fatal("the decision is not in the cache")
					} else if how == "cached" {
						g.cache.drop(e)
					}
				}
			}
		}
		same("before all", nil)
		var events []wire.Event
		since, seq := uint64(0), uint64(0)
		for range rapid.IntRange(1, 4).Draw(rt, "pages") {
			d := &wire.Delta{Epoch: 1}
			for range rapid.IntRange(0, 4).Draw(rt, "items") {
				seq += rapid.Uint64Range(1, 4).Draw(rt, "gap")
				d.Items = append(d.Items, drawEvent(rt, seq))
			}
			d.Head = seq
			events = append(events, d.Items...)
			if rapid.Bool().Draw(rt, "snapshot") {
				lost := rapid.IntRange(0, len(events)-len(d.Items)).Draw(rt, "seen and forgotten by a restore")
				installAll(rt, g, seq, events[lost:])
				since = seq
			} else if err := g.apply(d, &since); err != nil {
				rt.Fatal(err)
			}
			same("after a page", events)
		}
		again, _ := quietGateway(t, nil)
		var file bytes.Buffer
		if err := g.writeCache(&file, g.view.Load()); err != nil {
			rt.Fatal(err)
		}
		c, err := readCache(&file, 1000)
		if err != nil {
			rt.Fatal(err)
		}
		v, err := c.view(again.view.Load())
		if err != nil {
			rt.Fatal(err)
		}
		again.cache.hash = c.hash
		again.view.Store(v)
		g = again
		same("from the cache file", events)
	})
}

func reasonOr(err error) Reason {
	if err == nil {
		return ""
	}
	return ReasonOf(err)
}

// installAll takes the events in as the syncer does with a snapshot.
func installAll(t *rapid.T, g *Gateway, head uint64, events []wire.Event) {
	set := newRevset()
	var more []verify.Revocation
	for i := range events {
		e := new(events[i])
		g.view.Load().keys.named(e)
		switch {
		case !revocable(e.Kind):
		case e.IssuedAfter != 0:
			more = append(more, revocationOf(e))
		default:
			set.add(&g.cache.hash, e)
		}
	}
	if err := g.install(wire.Snapshot{Epoch: 1, Head: head}, time.Now().Unix(), set, more); err != nil {
		t.Fatal(err)
	}
}

// TestWindowsAreFewAndExpire: a wider one replaces narrower ones, an expired one
// goes when no token that it covers can pass, and there is a bound.
func TestWindowsAreFewAndExpire(t *testing.T) {
	t.Parallel()
	now := time.Now().Unix()
	offset := time.Duration(0)
	g, _ := quietGateway(t, func(c *Config) {
		c.Skew, c.MaxStaleness = time.Minute, 24*time.Hour
		c.Clock.Now = func() time.Time { return time.Unix(now, 0).Add(offset) }
	})
	window := func(seq, decided uint64, issued, expires int64) wire.Event {
		return wire.Event{Seq: seq, Tenant: "default", Kind: "keymanager", Target: match.Resident, DecidedAfter: decided, IssuedAfter: issued, ExpiresAt: expires}
	}
	since := uint64(1)
	d := &wire.Delta{Epoch: 1, Head: 6, Items: []wire.Event{
		window(2, 9, 100, now+10), window(3, 5, 50, now+10), // lies within the next one; stays
		window(4, 4, 60, now+30), window(5, 4, 60, now+20), // ends later; begins the same
		window(6, 6, 40, now+20), // begins later by head, earlier by time
	}}
	before := g.view.Load()
	if err := g.apply(d, &since); err != nil {
		t.Fatal(err)
	}
	if n := g.view.Load().windows.len(); n != 4 || g.Status().Counts.Revocations != 4 {
		t.Errorf("%d windows and %d counted, want 4: only the first lies within another", n, g.Status().Counts.Revocations)
	}
	if before.windows.len() != 0 {
		t.Error("a view that was published has changed")
	}
	for _, at := range []struct{ seconds, left int }{{69, 4}, {70, 3}, {80, 1}, {89, 1}, {90, 0}} {
		offset = time.Duration(at.seconds) * time.Second
		g.sweep()
		if n := g.view.Load().windows.len(); n != at.left || g.view.Load().head != 6 {
			t.Errorf("%d s later %d windows are left at head %d, want %d at 6", at.seconds, n, g.view.Load().head, at.left)
		}
	}
	many := make([]verify.Revocation, maxWindows+1)
	for i := range many {
		many[i] = verify.Revocation{Seq: uint64(i + 1), Tenant: fmt.Sprint(i), Kind: "keymanager", Target: match.Resident, IssuedAfter: 1}
	}
	if _, err := (windows)(nil).with(many); err == nil {
		t.Error("there is no bound")
	}
}

// BenchmarkValidateWithWindow is the cost of a restore's revocation: each token of
// its tenant looks at it when the head has moved.
func BenchmarkValidateWithWindow(b *testing.B) {
	g, key := quietGateway(b, nil)
	since := uint64(1)
	e := wire.Event{Seq: 2, Tenant: "default", Kind: "keymanager", Target: match.Resident, DecidedAfter: 1, IssuedAfter: 1 << 40}
	if err := g.apply(&wire.Delta{Epoch: 1, Head: 2, Items: []wire.Event{e}}, &since); err != nil {
		b.Fatal(err)
	}
	token := mint(b, key, 1)
	next := *g.view.Load()
	b.ReportAllocs()
	for b.Loop() {
		g.publish(next)
		if _, err := g.Validate(context.Background(), Request{Token: token}); err != nil {
			b.Fatal(err)
		}
	}
}
