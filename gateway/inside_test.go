package gateway

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/keyraft/keyraft/cluster/member"
	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/internal/bench/gobench"
	"github.com/keyraft/keyraft/tokens/verify"
)

// quietGateway is one that believes itself in sync, without a node.
func quietGateway(t testing.TB, change func(*Config)) (*Gateway, *ecdsa.PrivateKey) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Nodes: []string{"http://127.0.0.1:1"}, Credential: func(context.Context) (string, error) { return "x", nil }, MaxStaleness: time.Hour}
	if change != nil {
		change(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	id := "c1"
	g.cluster.Store(&id)
	doc := &wire.Keys{Cluster: id, Epoch: 1, Head: 1, Issuers: []wire.Issuer{{Tenant: "default", Issuer: "https://sts.example",
		JWKS: verify.AppendJWKS(nil, []verify.Key{{ID: "k1", Alg: verify.ES256, Public: &private.PublicKey}})}}}
	if err := g.setKeys(doc); err != nil {
		t.Fatal(err)
	}
	g.proved(g.cfg.Clock.instant())
	return g, private
}

func mint(t testing.TB, key *ecdsa.PrivateKey, n int) string {
	t.Helper()
	e := base64.RawURLEncoding
	now := time.Now().Unix()
	text := e.EncodeToString([]byte(`{"alg":"ES256","typ":"at+jwt","kid":"k1"}`)) + "." + e.EncodeToString(fmt.Appendf(nil,
		`{"iss":"https://sts.example","sub":"orders","client_id":"orders","aud":"api","jti":"n1-1f2e3d4c-%d","scope":"read write","iat":%d,"exp":%d,"ev":"1.1","gid":"g-%d"}`, n, now, now+3600, n))
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + e.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// TestCacheKeepsItsBound: far more tokens than fit, and it stays in its bytes.
func TestCacheKeepsItsBound(t *testing.T) {
	t.Parallel()
	c := newCache(*testHasher(), 1<<20)
	for n := range 20_000 {
		token := fmt.Sprint(strings.Repeat("x", n%900), n)
		e := &entry{id: c.hash.sum([]byte(token)), token: token}
		c.put(e)
		if got := c.bytes.Load(); got > 1<<20 {
			t.Fatalf("%d bytes after %d tokens, want %d at most", got, n, 1<<20)
		}
	}
	live, bytes := int64(0), int64(0)
	for i := range c.buckets {
		for j := range c.buckets[i] {
			if e := c.buckets[i][j].Load(); e != nil {
				live++
				bytes += e.size()
			}
		}
	}
	if live != c.entries.Load() || bytes != c.bytes.Load() || live < 300 || unsafe.Sizeof(entry{})+8 > entryOverhead {
		t.Errorf("%d entries of %d bytes are there, %d of %d are counted", live, bytes, c.entries.Load(), c.bytes.Load())
	}
}

// TestSameDigestOtherToken: the whole token is compared, not its digest alone.
func TestSameDigestOtherToken(t *testing.T) {
	t.Parallel()
	c := newCache(*testHasher(), 1<<20)
	c.put(&entry{id: digest{1, 2}, token: "one"})
	if c.find(digest{1, 2}, "other") != nil {
		t.Error("another token of the same digest is taken for it")
	}
	if c.find(digest{1, 2}, "one") == nil {
		t.Error("the token itself is not found")
	}
}

// TestPanicIsARefusal is G7's second half.
func TestPanicIsARefusal(t *testing.T) {
	t.Parallel()
	g, key := quietGateway(t, nil)
	token := mint(t, key, 1)
	g.view.Store(&view{gen: 99}) // no keys: a programmer's mistake
	who, err := g.Validate(context.Background(), Request{Token: token})
	if who != nil || ReasonOf(err) != Internal {
		t.Errorf("%v, %v, want a refusal", who, err)
	}
}

// TestOlderKeysAreNotTaken: a key document that was under way while a newer change
// came in does not bring the old keys back.
func TestOlderKeysAreNotTaken(t *testing.T) {
	t.Parallel()
	g, key := quietGateway(t, nil)
	_, other := quietGateway(t, nil)
	const url = "https://sts.example"
	jwks := func(k *ecdsa.PrivateKey) []byte {
		return verify.AppendJWKS(nil, []verify.Key{{ID: "k1", Alg: verify.ES256, Public: &k.PublicKey}})
	}
	since := uint64(1)
	d := &wire.Delta{Epoch: 1, Head: 9, Items: []wire.Event{{Seq: 9, Tenant: "default", Issuer: url, Kind: wire.KindKeys, Data: jwks(other)}}}
	if err := g.apply(d, &since); err != nil {
		t.Fatal(err)
	}
	late := &wire.Keys{Cluster: "c1", Epoch: 1, Head: 8, Issuers: []wire.Issuer{{Tenant: "default", Issuer: url, JWKS: jwks(key)}}}
	if err := g.setKeys(late); !errors.Is(err, errBehind) {
		t.Errorf("gave %v", err)
	}
	for _, tt := range []struct {
		key  *ecdsa.PrivateKey
		want Reason
	}{{key, BadSignature}, {other, ""}} {
		if _, err := g.Validate(context.Background(), Request{Token: mint(t, tt.key, 1)}); reasonOr(err) != tt.want {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
}

func TestElapsedTakesTheLargest(t *testing.T) {
	t.Parallel()
	boot := time.Hour
	c := Clock{Now: time.Now, Boot: func() time.Duration { return boot }}
	at := c.instant()
	boot += time.Minute
	if got := c.elapsed(at, at.wall.Add(time.Second)); got != time.Minute {
		t.Errorf("the boot clock ran a minute: %v", got)
	}
	if got := c.elapsed(at, at.wall.Add(2*time.Minute)); got != 2*time.Minute {
		t.Errorf("the wall clock ran two: %v", got)
	}
	boot -= 2 * time.Minute
	if got := c.elapsed(at, at.wall.Add(-time.Minute)); got != 0 {
		t.Errorf("both went back: %v", got)
	}
	boot += 3 * time.Minute
	if c.within(at, at.wall.Add(9*time.Second), 10*time.Second) {
		t.Error("near the bound the boot clock is not asked")
	}
}

func FuzzReadCache(f *testing.F) {
	g, _ := quietGateway(f, nil)
	g.view.Load().set.add(&g.cache.hash, &wire.Event{Seq: 1, Kind: "token", Target: "x"})
	v := *g.view.Load()
	v.head = 5
	var b bytes.Buffer
	if err := g.writeCache(&b, &v); err != nil {
		f.Fatal(err)
	}
	if _, err := readCache(bytes.NewReader(b.Bytes()), 10); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		sum := sha256.Sum256(in) // so that the fuzzer gets past the checksum
		for _, file := range [][]byte{in, append(bytes.Clone(in), sum[:]...)} {
			if c, err := readCache(bytes.NewReader(file), 10); err == nil && (c.keys == nil || len(c.records) > 10) {
				t.Fatalf("%+v", c)
			}
		}
	})
}

func FuzzParseIntrospection(f *testing.F) {
	f.Add([]byte(`{"active":true,"aud":["a"],"exp":1,"ev":"1.2","cnf":{}}`))
	f.Add([]byte(`{"active":false}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if answer, err := parseIntrospection(in); err == nil {
			if c := answer.claims(); !*answer.Active || c.Own && answer.Event == "" {
				t.Fatalf("%+v", answer)
			}
		}
	})
}

// manyRevocations fills the gateway with a million that cover none of the tokens.
func manyRevocations(b *testing.B, g *Gateway) {
	b.Helper()
	v := g.view.Load()
	for n := range 1_000_000 {
		v.set.add(&g.cache.hash, &wire.Event{Seq: 2, Tenant: "default", Issuer: "https://sts.example", Kind: "token", Target: fmt.Sprint("n2-", n)})
	}
}

func BenchmarkValidateCachedHot(b *testing.B) {
	g, key := quietGateway(b, nil)
	manyRevocations(b, g)
	tokens := make([]string, 64)
	for i := range tokens {
		tokens[i] = mint(b, key, i)
	}
	ctx, n := context.Background(), 0
	b.ReportAllocs()
	end := gobench.CPU(b)
	for b.Loop() {
		if _, err := g.Validate(ctx, Request{Token: tokens[n%64]}); err != nil {
			b.Fatal(err)
		}
		n++
	}
	end(1)
}

// BenchmarkValidateHeadMoved looks the targets up again at each hit.
func BenchmarkValidateHeadMoved(b *testing.B) {
	g, key := quietGateway(b, nil)
	manyRevocations(b, g)
	tokens := make([]string, 64)
	for i := range tokens {
		tokens[i] = mint(b, key, i)
	}
	ctx := context.Background()
	next := *g.view.Load()
	b.ReportAllocs()
	b.ResetTimer()
	for n := range b.N {
		if n%64 == 0 {
			g.publish(next)
		}
		if _, err := g.Validate(ctx, Request{Token: tokens[n%64]}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidateUncached(b *testing.B) {
	g, key := quietGateway(b, nil)
	manyRevocations(b, g)
	token := mint(b, key, 1)
	id := g.cache.hash.sum([]byte(token))
	ctx := context.Background()
	b.ReportAllocs()
	end := gobench.CPU(b)
	for b.Loop() {
		if _, err := g.Validate(ctx, Request{Token: token}); err != nil {
			b.Fatal(err)
		}
		g.cache.drop(g.cache.find(id, token))
	}
	end(1)
}

func BenchmarkRawVerify(b *testing.B) {
	_, key := quietGateway(b, nil)
	token := mint(b, key, 1)
	sum := sha256.Sum256([]byte(token))
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	end := gobench.CPU(b)
	for b.Loop() {
		if !ecdsa.VerifyASN1(&key.PublicKey, sum[:], sig) {
			b.Fatal("refused")
		}
	}
	end(1)
}

func BenchmarkTokenHash(b *testing.B) {
	g, key := quietGateway(b, nil)
	token := []byte(mint(b, key, 1))
	b.SetBytes(int64(len(token)))
	b.ReportAllocs()
	end := gobench.CPU(b)
	for b.Loop() {
		g.cache.hash.sum(token)
	}
	end(1)
}

// TestAgeCountsFromTheRequest: an answer that was on its way while the machine
// slept says nothing about now (P6).
func TestAgeCountsFromTheRequest(t *testing.T) {
	t.Parallel()
	boot := time.Hour
	g, _ := quietGateway(t, func(c *Config) {
		c.Clock.Boot = func() time.Duration { return boot }
		c.MaxStaleness = 3 * time.Second // so near that the boot clock is always asked
	})
	g.proof.Store(nil)
	sent := g.cfg.Clock.instant()
	boot += time.Minute
	s := &syncer{g: g, loaded: true, known: true, epoch: 1}
	a := &answer{status: 200, media: wire.TypeProto, body: (&wire.Delta{Epoch: 1, Head: 7}).AppendProto(nil), sent: sent}
	if _, err := s.take(context.Background(), "http://127.0.0.1:1", polled{epoch: 1, answer: a}); err != nil {
		t.Fatal(err)
	}
	if st := g.Status(); st.Head != 7 || st.State != StaleNow || g.Fresh() {
		t.Errorf("%+v: the head is taken, but it is a minute old", st)
	}
}

// TestRevocationOutlivesTheToken is G11 and GW-06 at the gateway: as long as the
// skew lets an expired token pass, its revocation is kept.
func TestRevocationOutlivesTheToken(t *testing.T) {
	t.Parallel()
	offset := time.Duration(0)
	g, key := quietGateway(t, func(c *Config) {
		c.Skew, c.MaxStaleness = 10*time.Minute, 24*time.Hour
		c.Clock.Now = func() time.Time { return time.Now().Add(offset) }
	})
	token := mint(t, key, 1) // lives an hour
	since := uint64(1)
	d := &wire.Delta{Epoch: 1, Head: 2, Items: []wire.Event{{Seq: 2, Tenant: "default", Kind: "token", Target: "n1-1f2e3d4c-1", ExpiresAt: time.Now().Unix() + 3600}}}
	if err := g.apply(d, &since); err != nil {
		t.Fatal(err)
	}
	s := &syncer{g: g}
	for minutes := 0; minutes <= 90; minutes++ {
		offset = time.Duration(minutes) * time.Minute
		s.upkeep()
		if who, err := g.Validate(context.Background(), Request{Token: token}); err == nil {
			t.Fatalf("after %d minutes the revoked token passes: %v", minutes, who)
		}
		if e := g.cache.find(g.cache.hash.sum([]byte(token)), token); e != nil {
			g.cache.drop(e) // so that it is looked up anew
		}
	}
	if g.view.Load().set.len() != 0 {
		t.Error("the revocation is never dropped")
	}
}

// TestGossipNamesNoStranger is the rest of G8: whoever holds the gossip key names a
// server of his own, with a certificate that the whole world believes. It gets no
// credential, and is not asked for revocations.
func TestGossipNamesNoStranger(t *testing.T) {
	t.Parallel()
	members := []member.Info{
		{ID: "x1", Kind: member.KindNode, APIAddr: "stranger.example:443"},
		{ID: "x2", Kind: member.KindNode, APIAddr: "127.0.0.1:9"},
		{ID: "x3", Kind: member.KindGateway, APIAddr: "127.0.0.1:10"},
		{ID: "x4", Kind: member.KindNode},
	}
	own := &tls.Config{RootCAs: x509.NewCertPool()}
	for _, tt := range []struct {
		node string
		tls  *tls.Config
		want string
	}{
		{"https://n1.example", nil, ""},
		{"https://n1.example", &tls.Config{}, ""},
		{"https://n1.example", own, "https://stranger.example:443 https://127.0.0.1:9"},
		{"http://n1.example", nil, ""},
		{"http://127.0.0.1:1", nil, "http://127.0.0.1:9"},
		{"https://127.0.0.1:1", nil, "https://127.0.0.1:9"},
	} {
		g, _ := quietGateway(t, func(c *Config) { c.Nodes, c.TLS = []string{tt.node}, tt.tls })
		if got := strings.Join(g.addresses(members), " "); got != tt.want {
			t.Errorf("with %s and TLS %v: %q, want %q", tt.node, tt.tls != nil, got, tt.want)
		}
	}
}

// TestHintsAreRateBound is the other half of G8: a thousand forged heads in one
// second are worth five polls, and a node is left for them once in ten seconds.
func TestHintsAreRateBound(t *testing.T) {
	t.Parallel()
	boot := time.Hour
	g, _ := quietGateway(t, func(c *Config) { c.Clock.Boot = func() time.Duration { return boot } })
	s := &syncer{g: g, epoch: 1, since: 10}
	polls := 0
	for n := range 1000 {
		boot += time.Millisecond
		if s.worth(hint{1, uint64(n) << 40}) {
			polls++
		}
	}
	if polls != 5 {
		t.Errorf("%d polls in a second, want 5", polls)
	}
	if s.worth(hint{1, 10}) || s.worth(hint{0, 99}) {
		t.Error("a head that is not ahead is worth a poll")
	}
	moves := 0
	for range 200 {
		boot += 100 * time.Millisecond
		s.worth(hint{2, 1})
		if s.better() != nil {
			moves++
		}
	}
	if moves != 2 {
		t.Errorf("%d moves in 20 seconds, want 2", moves)
	}
	if s.epoch != 1 || s.since != 10 {
		t.Error("a hint moved the head")
	}
}
