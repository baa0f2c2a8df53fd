package tokens_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/keyraft/keyraft/tokens"
	"github.com/keyraft/keyraft/tokens/verify"
)

// jwksOf is a published set of one key.
func jwksOf(t testing.TB, use, alg string, public any) []byte {
	t.Helper()
	out, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "e1", Use: use, Algorithm: alg}}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestEncrypt: go-jose opens what we encrypt, with each algorithm that is offered.
func TestEncrypt(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, alg := range verify.EncryptionAlgs() {
		for _, enc := range verify.EncryptionMethods() {
			for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
				var private, public any = rsaKey, &rsaKey.PublicKey
				if alg != "RSA-OAEP-256" {
					ec, err := ecdsa.GenerateKey(curve, rand.Reader)
					if err != nil {
						t.Fatal(err)
					}
					private, public = ec, &ec.PublicKey
				}
				out, err := tokens.Encrypt([]byte("before "), jwksOf(t, "enc", alg, public), alg, enc, "JWT", []byte("inner"))
				if err != nil {
					t.Fatalf("%s %s: %v", alg, enc, err)
				}
				text, found := strings.CutPrefix(string(out), "before ")
				object, err := jose.ParseEncryptedCompact(text, []jose.KeyAlgorithm{jose.KeyAlgorithm(alg)}, []jose.ContentEncryption{jose.ContentEncryption(enc)})
				if err != nil || !found {
					t.Fatalf("%s %s: %v", alg, enc, err)
				}
				plain, err := object.Decrypt(private)
				if err != nil || string(plain) != "inner" || object.Header.KeyID != "e1" || object.Header.ExtraHeaders["cty"] != "JWT" || object.Header.ExtraHeaders["zip"] != nil {
					t.Errorf("%s %s: %q, %v, header %v", alg, enc, plain, err, object.Header)
				}
			}
		}
	}
}

// TestEncryptTo tells which keys and algorithms nobody is encrypted to (JWT-13 to
// JWT-17).
func TestEncryptTo(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := jwksOf(t, "enc", "", &key.PublicKey)
	for _, tt := range []struct {
		name     string
		jwks     []byte
		alg, enc string
		key      bool // the refusal is of the key
	}{
		{"JWT-15 a password", good, "PBES2-HS256+A128KW", "A128GCM", false},
		{"JWT-17 RSA1_5", good, "RSA1_5", "A128GCM", false},
		{"JWT-17 dir", good, "dir", "A128GCM", false},
		{"RSA-OAEP with SHA-1", good, "RSA-OAEP", "A128GCM", false},
		{"an unknown content encryption", good, "ECDH-ES", "A192GCM", false},
		{"a key for signatures", jwksOf(t, "sig", "", &key.PublicKey), "ECDH-ES", "", true},
		{"a key for another algorithm", jwksOf(t, "enc", "ECDH-ES+A256KW", &key.PublicKey), "ECDH-ES", "", true},
		{"a key of another kind", good, "RSA-OAEP-256", "", true},
		{"JWT-13 a small RSA key", jwksOf(t, "enc", "", &small.PublicKey), "RSA-OAEP-256", "", true},
		{"JWT-14 a point beside the curve", []byte(fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","use":"enc","x":%q,"y":%[1]q}]}`, strings.Repeat("A", 43))), "ECDH-ES", "", true},
		{"key_ops that verifies alone", []byte(strings.Replace(string(good), `"use":"enc"`, `"key_ops":["verify"]`, 1)), "ECDH-ES", "", true},
		{"no set", nil, "ECDH-ES", "", true},
	} {
		out, err := tokens.Encrypt(nil, tt.jwks, tt.alg, tt.enc, "", []byte("inner"))
		if err == nil || errors.Is(err, verify.ErrKey) != tt.key || len(out) != 0 {
			t.Errorf("%s: %q, %v", tt.name, out, err)
		}
	}
	for _, set := range [][]byte{good, jwksOf(t, "", "", &key.PublicKey), []byte(strings.Replace(string(good), `"use":"enc"`, `"key_ops":["deriveKey"]`, 1))} {
		if _, err := tokens.Encrypt(nil, set, "ECDH-ES", "", "", []byte("inner")); err != nil {
			t.Errorf("%s: %v", set, err)
		}
	}
}
