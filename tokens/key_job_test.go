package tokens_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/tokens"
	"github.com/keyraft/keyraft/tokens/verify"
)

func (k *kit) run(t testing.TB) {
	t.Helper()
	if err := k.job.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// keyOf returns the ids of a tenant's keys with that algorithm and status.
func (k *kit) keyOf(alg, status string) []string {
	var ids []string
	for _, row := range k.view().SigningKeys("default") {
		if row.GetAlg() == alg && row.GetStatus() == status {
			ids = append(ids, row.GetId())
		}
	}
	return ids
}

func (k *kit) published(t testing.TB) []string {
	t.Helper()
	text, err := k.keys.JWKS(k.view(), "default")
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []struct{ Kid string } }
	if err := json.Unmarshal(text, &set); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, key := range set.Keys {
		ids = append(ids, key.Kid)
	}
	return ids
}

// TestFreshNodeCanSignFirst: the quick algorithms come first, for all tenants.
func TestFreshNodeCanSignFirst(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	k.must(t, &command.PutTenant{Tenant: &state.Tenant{Id: "acme"}})
	var order []string
	k.world.propose = func(c command.Command) error {
		if put, ok := c.(*command.PutSigningKey); ok {
			order = append(order, put.GetKey().GetTenant()+" "+put.GetKey().GetAlg())
		}
		return nil
	}
	k.run(t)
	want := []string{"acme ES256", "acme EdDSA", "default ES256", "default EdDSA", "acme PS256", "acme RS256", "default PS256", "default RS256"}
	if !slices.Equal(order, want) {
		t.Errorf("keys were made in the order %q, want %q", order, want)
	}
	k.run(t)
	if len(order) != len(want) {
		t.Errorf("a second run made %d keys more", len(order)-len(want))
	}
}

// TestKeyLife follows one key by schedule: published before it signs, tokens of the
// retired one good to their end, gone afterwards.
func TestKeyLife(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	k := newKit(t, tokens.KeyJobConfig{Rotation: 30 * day, Lead: 2 * day})
	k.addClient(t, &state.Client{Id: "orders"})
	k.run(t)
	first := k.keyOf("ES256", "active")[0]
	k.pass(27 * day)
	k.run(t)
	if n := k.keyOf("ES256", "next"); len(n) != 0 {
		t.Fatalf("a successor three days early: %v", n)
	}
	k.pass(day)
	k.run(t)
	next := k.keyOf("ES256", "next")
	if len(next) != 1 || !slices.Contains(k.published(t), next[0]) {
		t.Fatalf("the successor %v is not published", next)
	}
	k.pass(day)
	k.run(t)
	if k.keyOf("ES256", "active")[0] != first {
		t.Fatal("rotated before its time")
	}
	k.pass(day - time.Minute)
	old := k.mint(t, k.claims("orders"))
	k.pass(2 * time.Minute)
	k.run(t)
	if got := k.keyOf("ES256", "active"); len(got) != 1 || got[0] != next[0] {
		t.Fatalf("active %v, want %v", got, next)
	}
	if !k.active(t, old) || !slices.Contains(k.published(t), first) {
		t.Error("a token of the retired key is refused before its end")
	}
	if !k.active(t, k.mint(t, k.claims("orders"))) {
		t.Error("the new key does not sign")
	}
	k.pass(2 * time.Hour)
	k.must(t, &command.ClockAdvance{To: k.clock.Load() + 1})
	k.run(t)
	if slices.Contains(k.published(t), first) || len(k.keyOf("ES256", "retired")) != 0 {
		t.Error("a key whose last token has expired is still there")
	}
}

func TestRotateByCall(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	k.run(t)
	first := k.keyOf("ES256", "active")[0]
	r, err := k.job.Rotate(context.Background(), "default", "ES256", false)
	if err != nil || r.Active || r.SignsFrom-k.clock.Load() < (2*tokens.DefaultJWKSCache).Milliseconds() {
		t.Fatalf("%+v, %v: a planned rotation must publish for twice the cache time first", r, err)
	}
	k.run(t)
	if k.keyOf("ES256", "active")[0] != first {
		t.Fatal("signs before it was published long enough")
	}
	k.pass(2*tokens.DefaultJWKSCache + time.Second)
	k.run(t)
	if k.keyOf("ES256", "active")[0] != r.KeyID {
		t.Error("the job did not finish what was asked for")
	}
	if _, err := k.job.Rotate(context.Background(), "default", "HS256", false); !errors.Is(err, oauth.InvalidRequest) {
		t.Errorf("algorithm HS256: %v", err)
	}
	if _, err := k.job.Rotate(context.Background(), "nobody", "ES256", false); !errors.Is(err, oauth.InvalidRequest) {
		t.Errorf("an unknown tenant: %v", err)
	}
}

// TestEmergencyRotation: every token of the old key is refused at once, whatever head
// it claims, and the new key signs at once.
func TestEmergencyRotation(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	k.addClient(t, &state.Client{Id: "orders"})
	k.run(t)
	old := k.mint(t, k.claims("orders"))
	if !k.active(t, old) { // so it is remembered
		t.Fatal("a new token is not active")
	}
	revoked := k.keyOf("ES256", "active")[0]
	r, err := k.job.Rotate(context.Background(), "default", "ES256", true)
	if err != nil || !r.Active || r.Seq == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if k.active(t, old) || slices.Contains(k.published(t), revoked) {
		t.Error("the old key is still good")
	}
	if !k.active(t, k.mint(t, k.claims("orders"))) {
		t.Error("the new key does not sign")
	}
}

// TestRevokedKeyIgnoresHeads: whoever stole a key writes any head, so its tokens are
// refused whatever they claim.
func TestRevokedKeyIgnoresHeads(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	k.addKeys(t, "ES256")
	k.addClient(t, &state.Client{Id: "orders"})
	kid := k.keyOf("ES256", "active")[0]
	before := k.view() // still takes the key for good
	k.must(t, &command.PutSigningKey{Key: mustKey(t, k, "ES256")})
	next := k.keyOf("ES256", "next")[0]
	k.must(t, &command.RotateSigningKey{Tenant: "default", Alg: "ES256", To: next, LongestLifetime: 3600, RevokeOld: true})
	for range 5 { // the head moves on
		k.must(t, &command.Revoke{Tenant: "default", TargetKind: "subject", Target: "x", ExpiresAt: k.now().Unix() + 9000})
	}
	if _, hit := k.view().Revoked("default", "", "key", kid, 0, k.now().Unix()); !hit {
		t.Fatal("the key's revocation is not in the state")
	}
	late := verify.Claims{KeyID: kid, Head: math.MaxUint64, IssuedAt: k.now().Unix()}
	if !tokens.TakenBack(k.view(), "default", &late) {
		t.Error("a head that was made up escapes the key's revocation")
	}
	token, err := k.minter.AppendJWT(context.Background(), nil, before, k.claims("orders"))
	if err != nil {
		t.Fatal(err)
	}
	if k.active(t, string(token)) {
		t.Error("a token of the revoked key is active")
	}
}

func mustKey(t testing.TB, k *kit, alg string) *state.SigningKey {
	t.Helper()
	row, err := tokens.NewSigningKey(k.ring, "default", alg)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

func TestKeyJobConfigRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := tokens.KeyJobConfig{View: w.View, Propose: w.Propose, Ring: w.ring, Now: w.now}
	if _, err := tokens.NewKeyJob(good); err != nil {
		t.Fatal(err)
	}
	short := good
	short.Rotation, short.CacheFor = time.Minute, time.Hour
	negative := good
	negative.Lead = -1
	for name, cfg := range map[string]tokens.KeyJobConfig{"nothing": {}, "a rotation shorter than the cache": short, "a negative lead": negative} {
		if _, err := tokens.NewKeyJob(cfg); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// TestSealedKeysAreBound: a key moved to another row, or another keyring, signs nothing.
func TestSealedKeysAreBound(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	a, b := mustKey(t, k, "ES256"), mustKey(t, k, "ES256")
	a.Sealed = b.GetSealed()
	k.must(t, &command.PutSigningKey{Key: a})
	if _, err := k.minter.AppendJWT(context.Background(), nil, k.view(), k.claims("orders")); !errors.Is(err, seal.ErrSealed) {
		t.Errorf("error %v, want that of the seal", err)
	}
}
