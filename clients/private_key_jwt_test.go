package clients_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/testnode"
)

// TestAssertionsOfKeysWithoutAlg is JWT-03: an RSA key that names no algorithm is for the
// token_endpoint_auth_signing_alg of its client, and for RS256 where there is none.
func TestAssertionsOfKeysWithoutAlg(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	algs := []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}
	for _, registered := range append([]jose.SignatureAlgorithm{""}, algs...) {
		id := fmt.Sprintf("app-%sx", registered)
		k.create(t, clients.Registration{ClientID: id, AuthMethod: "private_key_jwt", AuthSigningAlg: string(registered), JWKS: set})
		want := registered
		if want == "" {
			want = jose.RS256
		}
		for _, alg := range algs {
			signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "k1"))
			if err != nil {
				t.Fatal(err)
			}
			text, err := jwt.Signed(signer).Claims(map[string]any{
				"iss": id, "sub": id, "aud": testnode.Issuer, "jti": string(alg), "iat": k.now().Unix(), "exp": k.now().Add(time.Minute).Unix(),
			}).Serialize()
			if err != nil {
				t.Fatal(err)
			}
			err = k.shows(clients.Request{Assertion: text, AssertionType: oauth.ClientAssertionJWT})
			if (err == nil) != (alg == want) || err != nil && !errors.Is(err, oauth.InvalidClient) {
				t.Errorf("registered %q, signed with %s: %v", registered, alg, err)
			}
		}
	}
}
