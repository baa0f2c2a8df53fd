package clients_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/tokens"
	"github.com/keyraft/keyraft/tokens/verify"
)

// kit is a world with the parts of this room.
type kit struct {
	*world
	registry *clients.Registry
	auth     *clients.Authenticator
	cas      *atomic.Pointer[x509.CertPool] // what tls_client_auth trusts
	keysAt   *sync.Map                      // URL → []byte: what clients publish
}

func newKit(t testing.TB) *kit {
	t.Helper()
	w := newWorld(t)
	shared := tokens.NewClusterKeys(w.ring)
	keys := clients.Keys{
		Newest: func(v *state.View) (*seal.Key, uint32, error) { return shared.Newest(v, tokens.KeyHash) },
		Version: func(v *state.View, version uint32) (*seal.Key, error) {
			return shared.Version(v, tokens.KeyHash, version)
		},
	}
	boxes := tokens.NewBoxes(shared, tokens.KeyCode)
	keys.Seal, keys.Open = boxes.Seal, boxes.Open
	cas := new(atomic.Pointer[x509.CertPool])
	signing := tokens.NewSigningKeys(w.ring)
	keysAt := new(sync.Map)
	registry, err := clients.NewRegistry(clients.RegistryConfig{
		Propose: w.Propose, View: w.View, Keys: keys, Now: w.now, Grants: []oauth.GrantType{oauth.GrantClientCredentials}, Issuer: signing.Issuer,
		OutboundURL: func(string) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	auth, err := clients.NewAuthenticator(clients.AuthenticatorConfig{
		Propose: w.Propose, View: w.View, Keys: keys, Now: w.now, Issuer: signing.Issuer, TokenPath: "/oauth2/token",
		ClientCAs: cas.Load,
		Remote: &verify.RemoteSets{Now: w.now, Fetch: func(_ context.Context, url string, _ int64) ([]byte, error) {
			if set, ok := keysAt.Load(url); ok {
				return set.([]byte), nil
			}
			return nil, errors.New("nobody answers")
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &kit{w, registry, auth, cas, keysAt}
}

func (k *kit) create(t testing.TB, r clients.Registration) *clients.Registered {
	t.Helper()
	c, err := k.registry.Create(context.Background(), k.view(), "default", &r)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// proves tells whether id and secret are taken on v.
func (k *kit) proves(t testing.TB, v *state.View, id, secret string) bool {
	t.Helper()
	_, err := k.auth.Authenticate(context.Background(), v, &clients.Request{Tenant: "default", ID: id, Secret: secret})
	if err != nil && !errors.Is(err, oauth.InvalidClient) {
		t.Fatal(err)
	}
	return err == nil
}

var post = clients.Registration{ClientID: "orders", AuthMethod: "client_secret_post", Scope: "read"}

func TestTwoSecretsAreLive(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	first := k.create(t, post).Secret()
	rotate := func(keep time.Duration) string {
		r, err := k.registry.RotateSecret(context.Background(), k.view(), "default", "orders", keep, 0)
		if err != nil {
			t.Fatal(err)
		}
		return r.Secret()
	}
	second := rotate(clients.UntilNext)
	if !k.proves(t, k.view(), "orders", first) || !k.proves(t, k.view(), "orders", second) {
		t.Error("one of two live secrets is refused")
	}
	third := rotate(time.Minute)
	if k.proves(t, k.view(), "orders", first) || !k.proves(t, k.view(), "orders", second) || !k.proves(t, k.view(), "orders", third) {
		t.Error("after two rotations the last two secrets are good, the first is not")
	}
	k.pass(61 * time.Second)
	if k.proves(t, k.view(), "orders", second) || !k.proves(t, k.view(), "orders", third) {
		t.Error("a secret with an end outlived it, or took the other one along")
	}
	fourth := rotate(0)
	if k.proves(t, k.view(), "orders", third) || !k.proves(t, k.view(), "orders", fourth) {
		t.Error("a secret that was to end at once is still taken")
	}
	third = fourth
	for _, wrong := range []string{"", third[:len(third)-1], third + "A", strings.Repeat("a", 5000)} {
		if k.proves(t, k.view(), "orders", wrong) {
			t.Errorf("a wrong secret of %d bytes is taken", len(wrong))
		}
	}
}

// TestSecretUnderAnIdempotencyKey: a retry gets the same id and secret, and nothing
// of them is kept in clear; another key gets others.
func TestSecretUnderAnIdempotencyKey(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	under := func(key byte, body byte) (*clients.Registered, error) {
		ctx := command.WithKey(context.Background(), command.Key{key}, [8]byte{body})
		return k.registry.Create(ctx, k.view(), "default", &clients.Registration{})
	}
	one, err := under(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	again, err := under(1, 1)
	if err != nil || again.ClientID != one.ClientID || again.Secret() != one.Secret() || one.Secret() == "" {
		t.Fatalf("a retry made another client or secret: %v", err)
	}
	other, err := under(2, 1)
	if err != nil || other.ClientID == one.ClientID || other.Secret() == one.Secret() {
		t.Errorf("another key made the same client or secret: %v", err)
	}
	if _, err := under(1, 2); !errors.Is(err, command.KeyReused) {
		t.Errorf("the key with another body: %v, want KeyReused", err)
	}
	for range 2 { // the first secret goes
		if _, err := k.registry.RotateSecret(context.Background(), k.view(), "default", one.ClientID, clients.UntilNext, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := under(1, 1); !errors.Is(err, command.Stale) {
		t.Errorf("a retry after the secret was rotated away: %v, want Stale", err)
	}
}

func TestSecretsHide(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	r := k.create(t, post)
	plain, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(r), fmt.Sprint(*r), string(plain), fmt.Sprint(clients.Request{ID: "a", Secret: r.Secret()})} {
		if strings.Contains(text, r.Secret()) {
			t.Errorf("the secret stands in %s", text)
		}
	}
	shown, err := r.MarshalWithSecret()
	if err != nil || !strings.Contains(string(shown), `"client_secret":"`+r.Secret()+`"`) || !strings.Contains(string(shown), `"client_id":"orders"`) {
		t.Errorf("the answer that hands it out is %d bytes without it, %v", len(shown), err)
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	made := k.create(t, post)
	ctx := context.Background()
	next := made.Registration
	next.Scope = "read write"
	got, err := k.registry.Update(ctx, k.view(), "default", "orders", &next, made.Generation)
	if err != nil || got.Scope != "read write" || got.Secret() != "" || got.Generation <= made.Generation {
		t.Fatalf("%+v, %v", got, err)
	}
	if !k.proves(t, k.view(), "orders", made.Secret()) {
		t.Error("an update lost the secret")
	}
	if _, err := k.registry.Update(ctx, k.view(), "default", "orders", &next, made.Generation); !errors.Is(err, command.Stale) {
		t.Errorf("an old generation: %v, want Stale", err)
	}
	if _, err := k.registry.Update(ctx, k.view(), "default", "nobody", &next, 0); !errors.Is(err, command.NotFound) {
		t.Errorf("an unknown client: %v, want NotFound", err)
	}
	var field *clients.FieldError
	renamed := next
	renamed.ClientID = "other"
	if _, err := k.registry.Update(ctx, k.view(), "default", "orders", &renamed, 0); !errors.As(err, &field) || field.Field != "client_id" {
		t.Errorf("another id: %v", err)
	}
	if _, err := k.registry.Create(ctx, k.view(), "default", &post); !errors.Is(err, command.Exists) {
		t.Errorf("the same id again: %v, want Exists", err)
	}
	public := next
	public.AuthMethod, public.GrantTypes = "none", []string{}
	if _, err := k.registry.Update(ctx, k.view(), "default", "orders", &public, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := k.registry.RotateSecret(ctx, k.view(), "default", "orders", clients.UntilNext, 0); !errors.As(err, &field) {
		t.Errorf("a secret for a public client: %v", err)
	}
	back, err := k.registry.Update(ctx, k.view(), "default", "orders", &next, 0)
	if err != nil || back.Secret() == "" || back.Secret() == made.Secret() || k.proves(t, k.view(), "orders", made.Secret()) {
		t.Errorf("confidential again: the old secret must be gone and a new one there, %v", err)
	}
	if seq, err := k.registry.Delete(ctx, "default", "orders", 0); err != nil || seq == 0 {
		t.Errorf("delete: seq %d, %v", seq, err)
	}
	if _, err := k.registry.Delete(ctx, "default", "orders", 0); !errors.Is(err, command.NotFound) {
		t.Errorf("delete again: %v, want NotFound", err)
	}
}

// TestRefusalIsCheckedOnceMore: what was created or rotated elsewhere is known here,
// and a refusal whose record does not differ is not worked out twice.
func TestRefusalIsCheckedOnceMore(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	before := k.view()
	secret := k.create(t, post).Secret()
	if !k.proves(t, before, "orders", secret) {
		t.Error("a client that another node made is refused")
	}
	old := k.view()
	rotated, err := k.registry.RotateSecret(context.Background(), old, "default", "orders", clients.UntilNext, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !k.proves(t, old, "orders", rotated.Secret()) {
		t.Error("a secret that another node made is refused")
	}
	k.looks.Store(0)
	if k.proves(t, k.view(), "orders", "wrong") || k.looks.Load() != 1 {
		t.Errorf("%d looks at a fresh view, want 1", k.looks.Load())
	}
	k.looks.Store(0)
	_, err = k.auth.Authenticate(context.Background(), k.view(), &clients.Request{Tenant: "default", ID: "orders", Secret: "wrong", Linearizable: true})
	if !errors.Is(err, oauth.InvalidClient) || k.looks.Load() != 0 {
		t.Errorf("%v with %d looks; a linearizable view needs none", err, k.looks.Load())
	}
}

// TestCostIsTheSame is TOK-11 by count: an unknown client costs as many allocations
// as a wrong secret. The times are compared where the machine is quiet (loadtest).
func TestCostIsTheSame(t *testing.T) {
	k := newKit(t)
	k.create(t, post)
	v := k.view()
	cost := func(id string) float64 {
		r := &clients.Request{Tenant: "default", ID: id, Secret: "wrong", Linearizable: true}
		return testing.AllocsPerRun(200, func() { _, _ = k.auth.Authenticate(context.Background(), v, r) })
	}
	if known, unknown := cost("orders"), cost("nobody"); known != unknown {
		t.Errorf("%v allocations for a known client, %v for an unknown one", known, unknown)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	k := newKit(b)
	secret := k.create(b, post).Secret()
	v := k.view()
	for name, r := range map[string]*clients.Request{
		"right":   {Tenant: "default", ID: "orders", Secret: secret, Linearizable: true},
		"wrong":   {Tenant: "default", ID: "orders", Secret: "." + secret[1:], Linearizable: true},
		"unknown": {Tenant: "default", ID: "nobody", Secret: secret, Linearizable: true},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = k.auth.Authenticate(context.Background(), v, r)
			}
		})
	}
}
