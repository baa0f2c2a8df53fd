package verify_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/keyraft/keyraft/tokens/verify"
)

func TestAMACIsOfItsSecretOnly(t *testing.T) {
	t.Parallel()
	secret := strings.Repeat("s", 43)
	sign := func(alg jose.SignatureAlgorithm, key string) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: []byte(key)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		jws, err := signer.Sign([]byte(`{"iss":"a","sub":"a"}`))
		if err != nil {
			t.Fatal(err)
		}
		text, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	text := sign(jose.HS256, secret)
	token, err := verify.ParseMAC(text)
	if err != nil {
		t.Fatal(err)
	}
	if !token.VerifyMAC([]byte(secret)) {
		t.Error("the secret does not verify")
	}
	if token.VerifyMAC([]byte(secret+"s")) || token.VerifyMAC(nil) {
		t.Error("another secret verifies")
	}
	if _, err := verify.Parse(text); !errors.Is(err, verify.ErrMalformed) {
		t.Errorf("a MAC passes where signatures are wanted: %v", err)
	}
	for _, other := range []string{sign(jose.HS512, secret+secret), good(t, "ES256")} {
		if _, err := verify.ParseMAC(other); !errors.Is(err, verify.ErrMalformed) {
			t.Errorf("another algorithm passes for HS256: %v", err)
		}
	}
	signed, err := verify.Parse(good(t, "ES256"))
	if err != nil || signed.VerifyMAC([]byte(secret)) {
		t.Errorf("a signature passes for a MAC (%v)", err)
	}
}
