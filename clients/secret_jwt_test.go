package clients_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/testnode"
)

// macAssertion is one of client_secret_jwt.
func (k *kit) macAssertion(t testing.TB, alg jose.SignatureAlgorithm, id, secret, jti string) string {
	t.Helper()
	// go-jose asks for a key as long as the hash; HS384 is for what is refused here.
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: []byte(secret)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := k.now()
	text, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": id, "sub": id, "aud": testnode.Issuer, "jti": jti, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (k *kit) shows(r clients.Request) error {
	r.Tenant = "default"
	proof, err := k.auth.Authenticate(context.Background(), k.view(), &r)
	if err != nil {
		return err
	}
	return k.auth.Consume(context.Background(), &proof)
}

func TestClientSecretJWT(t *testing.T) {
	k := newKit(t)
	made := k.create(t, clients.Registration{ClientID: "mac", AuthMethod: "client_secret_jwt"})
	hashed := k.create(t, clients.Registration{ClientID: "basic"})
	asserts := func(text string) clients.Request {
		return clients.Request{Assertion: text, AssertionType: oauth.ClientAssertionJWT}
	}
	if err := k.shows(asserts(k.macAssertion(t, jose.HS256, "mac", made.Secret(), "1"))); err != nil {
		t.Errorf("a good assertion is refused: %v", err)
	}
	stored, _ := k.view().Client("default", "mac")
	if row := stored.GetSecrets()[0]; len(row.GetSealed()) == 0 || strings.Contains(string(row.GetSealed()), made.Secret()) {
		t.Error("the secret is not kept sealed")
	}
	for name, r := range map[string]clients.Request{
		"a replay (JWT-21)":              asserts(k.macAssertion(t, jose.HS256, "mac", made.Secret(), "1")),
		"another secret":                 asserts(k.macAssertion(t, jose.HS256, "mac", strings.Repeat("x", 43), "2")),
		"another client's":               asserts(k.macAssertion(t, jose.HS256, "mac", hashed.Secret(), "3")),
		"HS384":                          asserts(k.macAssertion(t, jose.HS384, "mac", made.Secret()+"12345", "4")),
		"a hashed secret (JWT-23)":       asserts(k.macAssertion(t, jose.HS256, "basic", hashed.Secret(), "5")),
		"the secret itself (TOK-09)":     {ID: "mac", Secret: made.Secret()},
		"an unknown client":              asserts(k.macAssertion(t, jose.HS256, "nobody", made.Secret(), "6")),
		"the id and nothing else TOK-10": {ID: "mac"},
	} {
		if err := k.shows(r); !errors.Is(err, oauth.InvalidClient) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestASecretIsSealedForItsMethodOnly: a client that comes to client_secret_jwt gets a
// secret that can be read again; one that leaves it keeps the secret, and its hash only.
func TestASecretIsSealedForItsMethodOnly(t *testing.T) {
	k := newKit(t)
	first := k.create(t, clients.Registration{ClientID: "a"})
	ctx := context.Background()
	second, err := k.registry.Update(ctx, k.view(), "default", "a", &clients.Registration{AuthMethod: "client_secret_jwt"}, 0)
	if err != nil || second.Secret() == "" || second.Secret() == first.Secret() {
		t.Fatalf("no new secret: %v", err)
	}
	text := k.macAssertion(t, jose.HS256, "a", second.Secret(), "1")
	if err := k.shows(clients.Request{Assertion: text, AssertionType: oauth.ClientAssertionJWT}); err != nil {
		t.Error(err)
	}
	rotated, err := k.registry.RotateSecret(ctx, k.view(), "default", "a", clients.UntilNext, 0)
	if err != nil {
		t.Fatal(err)
	}
	for jti, secret := range map[string]string{"2": second.Secret(), "3": rotated.Secret()} { // both are live
		text := k.macAssertion(t, jose.HS256, "a", secret, jti)
		if err := k.shows(clients.Request{Assertion: text, AssertionType: oauth.ClientAssertionJWT}); err != nil {
			t.Error(err)
		}
	}
	back, err := k.registry.Update(ctx, k.view(), "default", "a", &clients.Registration{AuthMethod: "client_secret_post"}, 0)
	if err != nil || back.Secret() != "" {
		t.Fatalf("another secret: %v", err)
	}
	stored, _ := k.view().Client("default", "a")
	for _, s := range stored.GetSecrets() {
		if len(s.GetSealed()) != 0 {
			t.Error("a secret is kept sealed that nobody needs so")
		}
	}
	if err := k.shows(clients.Request{ID: "a", Secret: rotated.Secret()}); err != nil {
		t.Error(err)
	}
}
