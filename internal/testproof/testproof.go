// Package testproof makes DPoP proofs (RFC 9449 §4.2), and other JWTs of one key, for the
// tests of all rooms, by the standard library alone, so that tests of the gateway can use
// it too.
package testproof

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"testing"
)

// Key is a client's key.
type Key struct {
	private    crypto.Signer
	jwk        map[string]string
	Alg        string // that it signs with
	Thumbprint string // jkt
}

// NewRSA makes a key that signs with RS256 or PS256.
func NewRSA(t testing.TB, alg string) *Key {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	n, e := text(private.N.Bytes()), text(big.NewInt(int64(private.E)).Bytes())
	sum := sha256.Sum256([]byte(`{"e":"` + e + `","kty":"RSA","n":"` + n + `"}`))
	return &Key{private, map[string]string{"kty": "RSA", "n": n, "e": e}, alg, text(sum[:])}
}

// New makes a key for ES256.
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
	return &Key{private, map[string]string{"kty": "EC", "crv": "P-256", "x": x, "y": y}, "ES256", text(sum[:])}
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

// Proof signs claims as a proof.
func (k *Key) Proof(t testing.TB, claims map[string]any) string {
	t.Helper()
	return k.Sign(t, map[string]any{"typ": "dpop+jwt", "alg": k.Alg, "jwk": k.jwk}, claims)
}

// Sign makes a JWT of a header and claims, whatever they say.
func (k *Key) Sign(t testing.TB, header, claims any) string {
	t.Helper()
	h, err1 := json.Marshal(header)
	c, err2 := json.Marshal(claims)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return k.SignRaw(t, string(h), string(c))
}

// SignRaw makes a JWT of two texts, JSON or not.
func (k *Key) SignRaw(t testing.TB, header, claims string) string {
	t.Helper()
	signed := text([]byte(header)) + "." + text([]byte(claims))
	sum := sha256.Sum256([]byte(signed))
	sig, err := k.signature(sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + text(sig)
}

// signature is that of the key's own algorithm, whatever a header says.
func (k *Key) signature(digest []byte) ([]byte, error) {
	switch private := k.private.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, private, digest)
		if err != nil {
			return nil, err
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...), nil
	case *rsa.PrivateKey:
		if k.Alg == "PS256" {
			return rsa.SignPSS(rand.Reader, private, crypto.SHA256, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
		return rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, digest)
	}
	return nil, errors.New("a key of another kind")
}

// JWKS is a key set of this one key.
func (k *Key) JWKS(t testing.TB, kid string) []byte {
	t.Helper()
	return k.set(t, map[string]string{"kid": kid, "alg": k.Alg})
}

// JWKSWithoutAlg is one that does not say what the key signs with.
func (k *Key) JWKSWithoutAlg(t testing.TB, kid string) []byte {
	t.Helper()
	return k.set(t, map[string]string{"kid": kid})
}

func (k *Key) set(t testing.TB, more map[string]string) []byte {
	t.Helper()
	jwk := maps.Clone(k.jwk)
	maps.Copy(jwk, more)
	set, err := json.Marshal(map[string]any{"keys": []any{jwk}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// Public is the public key.
func (k *Key) Public() crypto.PublicKey { return k.private.Public() }

// Hash is ath of an access token.
func Hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return text(sum[:])
}

func text(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
