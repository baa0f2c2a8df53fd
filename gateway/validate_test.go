package gateway_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/keyraft/keyraft/gateway"
	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/keymanagers/match"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	cfg := c.config(c.start())
	cfg.Audience = []string{"api", "api2"}
	cfg.APIs = []match.API{
		{Name: "orders", Scopes: []string{"read"}}, {Name: "admin", Scopes: []string{"read", "admin"}},
		{Name: "own", Audience: []string{"own"}}, {Name: "okta-only", KeyManagers: []string{"okta"}},
	}
	g, _ := run(t, cfg)
	synced(t, g, c)
	now := time.Now().Unix()
	good := c.mint(nil)
	foreign := newCluster(t, "c1")
	flip := func(token string) string {
		i := strings.LastIndexByte(token, '.') + 5
		other := byte('A')
		if token[i] == 'A' {
			other = 'B'
		}
		return token[:i] + string(other) + token[i+1:]
	}
	tests := []struct {
		name string
		r    gateway.Request
		want gateway.Reason
	}{
		{"a good token passes", gateway.Request{Token: good}, ""},
		{"the scheme has no case", gateway.Request{Token: good, Scheme: "bEARER"}, ""},
		{"no token", gateway.Request{}, gateway.NoToken},
		{"another scheme", gateway.Request{Token: good, Scheme: "Basic"}, gateway.BadScheme},
		{"POP-08 a bearer token with the scheme DPoP", gateway.Request{Token: good, Scheme: "DPoP", DPoP: "x"}, gateway.Unbound},
		{"an API with a scope that the token has", gateway.Request{Token: good, API: "orders"}, ""},
		{"an API with a scope that it lacks", gateway.Request{Token: good, API: "admin"}, gateway.InsufficientScope},
		{"an API with an audience of its own", gateway.Request{Token: good, API: "own"}, gateway.WrongAudience},
		{"that audience", gateway.Request{Token: c.mint(map[string]any{"aud": []string{"x", "own"}}), API: "own"}, ""},
		{"an API of another key manager", gateway.Request{Token: good, API: "okta-only"}, gateway.KeyManagerNotAtAPI},
		{"an API that is not known", gateway.Request{Token: good, API: "nowhere"}, gateway.UnknownAPI},
		{"a header that is not a token", gateway.Request{Token: "hello"}, gateway.Malformed},
		{"a very long token", gateway.Request{Token: strings.Repeat("a", 1<<20)}, gateway.Malformed},
		{"a flipped signature", gateway.Request{Token: flip(good)}, gateway.BadSignature},
		{"a key of the same name and another cluster", gateway.Request{Token: foreign.mint(nil)}, gateway.BadSignature},
		{"an issuer nobody vouches for", gateway.Request{Token: c.mint(map[string]any{"iss": "https://evil.example"})}, gateway.UnknownIssuer},
		{"an ID token", gateway.Request{Token: sign(t, c.keys[0], "JWT", map[string]any{"iss": issuer, "aud": "api", "exp": now + 60, "ev": "1.0"})}, gateway.WrongType},
		{"a token that expired beyond the skew", gateway.Request{Token: c.mint(map[string]any{"exp": now - 61})}, gateway.Expired},
		{"one within it", gateway.Request{Token: c.mint(map[string]any{"exp": now - 50})}, ""},
		{"one that is not valid yet", gateway.Request{Token: c.mint(map[string]any{"nbf": now + 120})}, gateway.NotYetValid},
		{"one without exp", gateway.Request{Token: c.mint(map[string]any{"exp": nil})}, gateway.Malformed},
		{"one of ours without ev", gateway.Request{Token: c.mint(map[string]any{"ev": nil})}, gateway.Malformed},
		{"another audience", gateway.Request{Token: c.mint(map[string]any{"aud": "other"})}, gateway.WrongAudience},
		{"a token bound by DPoP sent as bearer", gateway.Request{Token: c.mint(map[string]any{"cnf": map[string]any{"jkt": "x"}})}, gateway.Bound},
		{"a token bound to something unknown", gateway.Request{Token: c.mint(map[string]any{"cnf": map[string]any{"zzz": "x"}})}, gateway.Bound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, what := range []string{"first", "again, cached"} {
				who, err := g.Validate(context.Background(), tt.r)
				if err == nil && tt.want != "" || err != nil && gateway.ReasonOf(err) != tt.want {
					t.Errorf("%s: %v, want %q", what, err, tt.want)
				}
				if (who == nil) != (err != nil) {
					t.Errorf("%s: identity %v with error %v", what, who, err)
				}
				if err != nil && len(tt.r.Token) > 8 && strings.Contains(err.Error(), tt.r.Token[:8]) {
					t.Errorf("%s: the error holds part of the token", what)
				}
			}
		})
	}
	who, err := g.Validate(context.Background(), gateway.Request{Token: good})
	if err != nil || who.Subject != "alice" || who.ClientID != "orders" || who.Tenant != "default" || who.KeyManager != match.Resident ||
		who.Scope != "read write" || !who.HasScope("write") || who.HasScope("rea") || !strings.Contains(who.Claims(), `"jti"`) {
		t.Errorf("identity %+v, %v", who, err)
	}
	if text := fmt.Sprintf("%v %+v", who, who); strings.Contains(text, "jti") {
		t.Errorf("printing an identity shows its claims: %s", text)
	}
}

// TestAnEncryptedToken: without the key a gateway can tell nothing of a token that is
// encrypted to a resource server, and refuses it; with the key its owner has the signed
// token inside, which is held to every rule.
func TestAnEncryptedToken(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	cfg := c.config(c.start())
	cfg.Audience = []string{"api"}
	g, _ := run(t, cfg)
	synced(t, g, c)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed := c.mint(nil)
	encrypter, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.ECDH_ES, Key: &key.PublicKey}, (&jose.EncrypterOptions{}).WithContentType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	object, err := encrypter.Encrypt([]byte(signed))
	if err != nil {
		t.Fatal(err)
	}
	encrypted, err := object.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	if who, err := g.Validate(t.Context(), gateway.Request{Token: encrypted}); who != nil || gateway.ReasonOf(err) != gateway.Malformed {
		t.Errorf("a gateway without the key: %v, %v", who, err)
	}
	object, err = jose.ParseEncryptedCompact(encrypted, []jose.KeyAlgorithm{jose.ECDH_ES}, []jose.ContentEncryption{jose.A128GCM})
	if err != nil {
		t.Fatal(err)
	}
	inner, err := object.Decrypt(key)
	if err != nil || string(inner) != signed {
		t.Fatalf("its owner: %v", err)
	}
	if who, err := g.Validate(t.Context(), gateway.Request{Token: string(inner)}); err != nil || who.Subject != "alice" {
		t.Errorf("the token inside: %v, %v", who, err)
	}
}

func TestExpiryReachesTheCache(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	k := newClock()
	cfg := c.config(c.start())
	cfg.Clock, cfg.MaxStaleness = k.clock(), time.Hour
	g, _ := run(t, cfg)
	synced(t, g, c)
	token := c.mint(map[string]any{"exp": time.Now().Unix() + 30})
	want(t, g, token, "")
	k.sleep(85 * time.Second)
	want(t, g, token, "")
	k.sleep(6 * time.Second)
	want(t, g, token, gateway.Expired)
	want(t, g, token, gateway.Expired)
}

// TestOpaque: asked once for all callers, kept a short while, and reached by a
// revocation at once.
func TestOpaque(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	n := c.start()
	k := newClock()
	cfg := c.config(n)
	cfg.Clock, cfg.MaxStaleness = k.clock(), time.Hour
	g, _ := run(t, cfg)
	synced(t, g, c)
	now := time.Now().Unix()
	answer := func(client string) map[string]any {
		return map[string]any{"active": true, "client_id": client, "sub": "bob", "jti": "j-" + client, "scope": "read", "exp": now + 600, "ev": "1.0", "iss": issuer}
	}
	bound := answer("c")
	bound["cnf"] = map[string]any{"jkt": "x"}
	c.mu.Lock()
	c.opaque["kr1_aaaa"], c.opaque["kr1_bbbb"], c.opaque["kr1_cccc"] = answer("a"), answer("b"), bound
	delete(c.opaque["kr1_bbbb"], "iss")
	c.mu.Unlock()

	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { want(t, g, "kr1_aaaa", "") })
	}
	wg.Wait()
	if got := n.asked.Load(); got != 1 {
		t.Errorf("the node was asked %d times for 20 callers, want once", got)
	}
	want(t, g, "kr1_bbbb", "")
	want(t, g, "kr1_cccc", gateway.Bound)
	want(t, g, "kr1_unknown", gateway.Inactive)
	want(t, g, "kr1_a b", gateway.Malformed)
	want(t, g, "kr1_"+strings.Repeat("a", 600), gateway.Malformed)

	c.revoke("token", "j-a")
	c.revoke("client", "b")
	synced(t, g, c)
	want(t, g, "kr1_aaaa", gateway.Revoked) // from memory: the node would still say active
	want(t, g, "kr1_bbbb", gateway.Revoked)

	asked := n.asked.Load()
	c.mu.Lock()
	c.opaque["kr1_dddd"] = answer("d")
	c.mu.Unlock()
	want(t, g, "kr1_dddd", "")
	c.mu.Lock()
	delete(c.opaque, "kr1_dddd")
	c.mu.Unlock()
	want(t, g, "kr1_dddd", "") // within the bound
	k.sleep(6 * time.Second)
	want(t, g, "kr1_dddd", gateway.Inactive)
	if got := n.asked.Load() - asked; got != 2 {
		t.Errorf("the node was asked %d times, want twice", got)
	}
	n.stop()
	want(t, g, "kr1_eeee", gateway.Unreachable)
}

// TestAnOpaqueTokenOfAnotherTenant: a gateway may see the tokens of every tenant, so a node
// tells it of them all; it takes those of its own tenant alone, or somebody of another one
// would pass for whoever has the same name here.
func TestAnOpaqueTokenOfAnotherTenant(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	c.others = []wire.Issuer{{Tenant: "acme", Issuer: issuer + "/t/acme", JWKS: c.jwks()}}
	g, _ := run(t, c.config(c.start()))
	synced(t, g, c)
	for token, iss := range map[string]string{"kr1_acme": issuer + "/t/acme", "kr1_gone": issuer + "/t/gone"} {
		c.mu.Lock()
		c.opaque[token] = map[string]any{
			"active": true, "client_id": "orders", "sub": "alice", "jti": token, "scope": "read", "exp": time.Now().Unix() + 600, "ev": "1.0", "iss": iss,
		}
		c.mu.Unlock()
		want(t, g, token, gateway.UnknownIssuer)
	}
}

// TestManyAtOnce: callers beside the sync loop; once a head is known, a token
// revoked at or below it is refused by every call that begins afterwards.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	cfg := c.config(c.start())
	var head atomic.Uint64
	cfg.OnSync = func(_, h uint64) { head.Store(h) }
	g, _ := run(t, cfg)
	synced(t, g, c)
	tokens := make([]string, 40)
	for i := range tokens {
		tokens[i] = c.mint(map[string]any{"jti": fmt.Sprint("j", i), "ev": "1.0"})
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				n := i % len(tokens)
				known := head.Load()
				if got := reason(g, tokens[n]); uint64(n) < known && got != gateway.Revoked {
					t.Errorf("token %d at head %d gets %q", n, known, got)
					return
				}
			}
		})
	}
	for i := range tokens {
		c.revoke("token", fmt.Sprint("j", i))
	}
	synced(t, g, c)
	close(done)
	wg.Wait()
	for _, token := range tokens {
		want(t, g, token, gateway.Revoked)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "c1")
	good := c.config(c.start())
	tests := []struct {
		name   string
		change func(*gateway.Config)
	}{
		{"no nodes", func(c *gateway.Config) { c.Nodes = nil }},
		{"a node that is no URL", func(c *gateway.Config) { c.Nodes = []string{"sts:9443"} }},
		{"a node with a password", func(c *gateway.Config) { c.Nodes = []string{"https://a:b@sts"} }},
		{"no credential", func(c *gateway.Config) { c.CredentialFile = "" }},
		{"two credentials", func(c *gateway.Config) { c.Credential = func(context.Context) (string, error) { return "x", nil } }},
		{"a credential file that is not there", func(c *gateway.Config) { c.CredentialFile += "x" }},
		{"an unknown fail mode", func(c *gateway.Config) { c.FailMode = "ajar" }},
		{"a bound that is too short", func(c *gateway.Config) { c.MaxStaleness = time.Millisecond }},
		{"a short gossip key", func(c *gateway.Config) { c.Gossip = &gateway.Gossip{Key: make([]byte, 16)} }},
		{"an instance that would need escapes", func(c *gateway.Config) { c.Instance = "a&b" }},
		{"an API twice", func(c *gateway.Config) { c.APIs = []match.API{{Name: "a"}, {Name: "a"}} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := good
			tt.change(&cfg)
			if _, err := gateway.New(cfg); err == nil {
				t.Error("taken")
			}
		})
	}
}
