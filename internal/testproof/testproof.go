// Package testproof makes DPoP proofs (RFC 9449 §4.2) for the tests of all rooms, by the
// standard library alone, so that tests of the gateway can use it too.
package testproof

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"testing"
)

// Key is a client's key, ES256.
type Key struct {
	private    *ecdsa.PrivateKey
	jwk        map[string]string
	Thumbprint string // jkt
}

// New makes a key.
func New(t testing.TB) *Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, y := text(point[1:33]), text(point[33:])
	sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + x + `","y":"` + y + `"}`))
	return &Key{private, map[string]string{"kty": "EC", "crv": "P-256", "x": x, "y": y}, text(sum[:])}
}

// Claims are a proof's payload: of one request at a moment, and no nonce yet.
func Claims(method, url string, at int64) map[string]any {
	return map[string]any{"jti": rand.Text(), "htm": method, "htu": url, "iat": at}
}

// With is claims with changes; a nil value takes a member away.
func With(claims map[string]any, change map[string]any) map[string]any {
	out := maps.Clone(claims)
	for name, value := range change {
		if out[name] = value; value == nil {
			delete(out, name)
		}
	}
	return out
}

// Proof signs claims.
func (k *Key) Proof(t testing.TB, claims map[string]any) string {
	t.Helper()
	header, err1 := json.Marshal(map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": k.jwk})
	payload, err2 := json.Marshal(claims)
	signed := text(header) + "." + text(payload)
	sum := sha256.Sum256([]byte(signed))
	r, s, err3 := ecdsa.Sign(rand.Reader, k.private, sum[:])
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return signed + "." + text(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// Hash is ath of an access token.
func Hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return text(sum[:])
}

func text(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
