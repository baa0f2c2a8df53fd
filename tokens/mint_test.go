package tokens_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/tokens"
	"github.com/keyraft/keyraft/tokens/verify"
)

// kit is a world with the parts of this room.
type kit struct {
	*world
	keys   *tokens.SigningKeys
	shared *tokens.ClusterKeys
	minter *tokens.Minter
	opaque *tokens.Opaque
	intro  *tokens.Introspector
	revoke *tokens.Revoker
	job    *tokens.KeyJob
}

func newKit(t testing.TB, rotation tokens.KeyJobConfig) *kit {
	t.Helper()
	w := newWorld(t)
	k := &kit{world: w, keys: tokens.NewSigningKeys(w.ring), shared: tokens.NewClusterKeys(w.ring)}
	var errs [6]error
	k.minter, errs[0] = tokens.NewMinter(k.keys, "n1")
	k.opaque, errs[1] = tokens.NewOpaque(k.minter, k.shared, w.Propose)
	k.intro, errs[2] = tokens.NewIntrospector(tokens.IntrospectorConfig{Signing: k.keys, Shared: k.shared, Now: w.now, Absent: absent})
	k.revoke, errs[3] = tokens.NewRevoker(k.intro, w.View, w.Propose)
	rotation.View, rotation.Propose, rotation.Ring, rotation.Now = w.View, w.Propose, w.ring, w.now
	k.job, errs[4] = tokens.NewKeyJob(rotation)
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return k
}

// addKeys gives the default tenant one active key of each algorithm.
func (k *kit) addKeys(t testing.TB, algs ...string) {
	t.Helper()
	for _, alg := range algs {
		row, err := tokens.NewSigningKey(k.ring, "default", alg)
		if err != nil {
			t.Fatal(err)
		}
		k.must(t, &command.PutSigningKey{Key: row})
	}
}

func (k *kit) addClient(t testing.TB, c *state.Client) *state.Client {
	t.Helper()
	if c.Tenant == "" {
		c.Tenant = "default"
	}
	k.must(t, &command.PutClient{Client: c})
	stored, _ := k.view().Client(c.Tenant, c.Id)
	return stored
}

func (k *kit) claims(client string) *tokens.Claims {
	now := k.now().Unix()
	return &tokens.Claims{
		Tenant: "default", Subject: client, ClientID: client, Scope: "read write", Audience: []string{"https://api.example"},
		IssuedAt: now, Expires: now + 3600,
	}
}

func (k *kit) mint(t testing.TB, c *tokens.Claims) string {
	t.Helper()
	out, err := k.minter.AppendJWT(context.Background(), nil, k.view(), c)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestMintedTokensVerifyWithAnotherLibrary takes go-jose as oracle for every
// algorithm, with the keys as they are published.
func TestMintedTokensVerifyWithAnotherLibrary(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	k.addKeys(t, tokens.Algs()...)
	published, err := k.keys.JWKS(k.view(), "default")
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(published, &set); err != nil || len(set.Keys) != 4 {
		t.Fatalf("published keys: %d, %v", len(set.Keys), err)
	}
	for _, alg := range tokens.Algs() {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			c := k.claims("orders")
			c.Alg, c.Application, c.Subject = alg, "shop", "a\"b\\c\n\u00e9\x01</x>"
			for range 20 { // the width of an ECDSA signature's parts varies
				token := k.mint(t, c)
				parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
				if err != nil {
					t.Fatal(err)
				}
				if typ := parsed.Headers[0].ExtraHeaders[jose.HeaderType]; typ != "at+jwt" {
					t.Errorf("typ %v", typ)
				}
				keys := set.Key(parsed.Headers[0].KeyID)
				if len(keys) != 1 {
					t.Fatalf("%d keys have the token's kid", len(keys))
				}
				var std jwt.Claims
				var own map[string]any
				if err := parsed.Claims(keys[0].Key, &std, &own); err != nil {
					t.Fatal(err)
				}
				if err := std.Validate(jwt.Expected{Issuer: "https://sts.example", Subject: c.Subject, AnyAudience: c.Audience, Time: k.now()}); err != nil {
					t.Error(err)
				}
				for name, want := range map[string]any{"client_id": "orders", "scope": "read write", "app": "shop", "gid": own["jti"], "aud": "https://api.example"} {
					if own[name] != want {
						t.Errorf("%s is %v, want %v", name, own[name], want)
					}
				}
				if own["ev"] != "1."+uint64String(k.view().Head()) {
					t.Errorf("ev is %v", own["ev"])
				}
			}
		})
	}
}

func uint64String(n uint64) string { b, _ := json.Marshal(n); return string(b) }

func TestTokenIDsAreUnique(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	again, err := tokens.NewMinter(k.keys, "n1") // the same node after a restart
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 1000 {
		for _, id := range []string{k.minter.NextID(), again.NextID()} {
			if seen[id] {
				t.Fatalf("id %s came twice", id)
			}
			seen[id] = true
		}
	}
	if _, err := tokens.NewMinter(k.keys, ""); err == nil {
		t.Error("a minter without a node id was made")
	}
}

func TestSeveralAudiencesAreAnArray(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	k.addKeys(t, "EdDSA")
	c := k.claims("orders")
	c.Alg, c.Audience = "EdDSA", []string{"a", "b"}
	parsed, err := verify.Parse(k.mint(t, c))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(parsed.Claims.Audience, " "); got != "a b" {
		t.Errorf("audience %q", got)
	}
}

func TestMintWithoutAKeyIsTemporary(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	_, err := k.minter.AppendJWT(context.Background(), nil, k.view(), k.claims("orders"))
	if err == nil || !strings.Contains(err.Error(), "temporarily_unavailable") {
		t.Errorf("error %v, want temporarily_unavailable", err)
	}
	if err := k.keys.Ready(k.view(), "default"); !errors.Is(err, tokens.ErrNoKey) {
		t.Errorf("Ready says %v, want ErrNoKey", err)
	}
	k.addKeys(t, "ES256")
	if err := k.keys.Ready(k.view(), "default"); err != nil {
		t.Errorf("Ready says %v with a key", err)
	}
}

// TestRSALaneIsBounded fills the lane of RSA signatures: the queue is bounded, what
// is too much is refused at once with Retry-After, and other algorithms go on.
func TestRSALaneIsBounded(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	k.addKeys(t, "ES256", "PS256")
	ps := k.claims("orders")
	ps.Alg = "PS256"
	k.mint(t, ps) // opened
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	const callers = 2000
	results := make(chan error, callers)
	start := make(chan struct{})
	for range callers {
		go func() {
			<-start
			_, err := k.minter.AppendJWT(ctx, nil, k.view(), ps)
			results <- err
		}()
	}
	close(start)
	k.mint(t, k.claims("orders"))
	served, refused := 0, 0
	for range callers {
		if err := <-results; err == nil {
			served++
		} else if strings.Contains(err.Error(), "temporarily_unavailable") {
			refused++
		} else {
			t.Fatal(err)
		}
	}
	if served == 0 || refused == 0 {
		t.Errorf("%d served, %d refused; want some of both", served, refused)
	}
	if queued, counted := k.keys.Lane(); queued != 0 || counted != uint64(refused) {
		t.Errorf("Lane says %d queued and %d refused, want 0 and %d", queued, counted, refused)
	}
}

func BenchmarkMint(b *testing.B) {
	k := newKit(b, tokens.KeyJobConfig{})
	k.addKeys(b, "ES256", "EdDSA")
	for _, alg := range []string{"ES256", "EdDSA"} {
		b.Run(alg, func(b *testing.B) {
			c, v, buf := k.claims("orders"), k.view(), make([]byte, 0, 1024)
			c.Alg = alg
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if buf, err = k.minter.AppendJWT(context.Background(), buf[:0], v, c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
