package verify_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"math/big"
	"sync"
	"testing"

	"github.com/keyraft/keyraft/tokens/verify"
)

const (
	testNow     = 1_700_000_000
	testPayload = `{"iss":"https://as.example","sub":"alice","aud":"https://api.example","client_id":"orders",` +
		`"jti":"n1-b2-3","scope":"read write","iat":1699999990,"exp":1700000300,"ev":"3.41","gid":"g7","root":"r1","app":"shop"}`
)

var b64 = base64.RawURLEncoding

// signers are made once: an RSA key takes a while.
var signers = sync.OnceValue(func() map[string]crypto.Signer {
	p256, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, err2 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, ed, err3 := ed25519.GenerateKey(rand.Reader)
	rsaKey, err4 := rsa.GenerateKey(rand.Reader, 2048)
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			panic(err)
		}
	}
	return map[string]crypto.Signer{
		verify.ES256: p256, verify.ES384: p384, verify.EdDSA: ed, verify.Ed25519: ed, verify.RS256: rsaKey, verify.PS256: rsaKey,
		verify.RS384: rsaKey, verify.RS512: rsaKey, verify.PS384: rsaKey, verify.PS512: rsaKey,
	}
})

var algs = verify.Algs()

func key(alg string) verify.Key {
	return verify.Key{ID: "k1", Alg: alg, Public: signers()[alg].Public()}
}

// mint signs any header and payload text with the algorithm's key.
func mint(t testing.TB, alg, header, payload string) string {
	t.Helper()
	signed := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload))
	return signed + "." + b64.EncodeToString(signature(t, alg, signed))
}

func signature(t testing.TB, alg, signed string) []byte {
	t.Helper()
	sum := sha256.Sum256([]byte(signed))
	digest, opts := sum[:], crypto.SignerOpts(crypto.SHA256)
	switch alg {
	case verify.ES384:
		wide := sha512.Sum384([]byte(signed))
		digest = wide[:]
	case verify.EdDSA, verify.Ed25519:
		digest, opts = []byte(signed), crypto.Hash(0)
	case verify.RS384, verify.PS384:
		wide := sha512.Sum384([]byte(signed))
		digest, opts = wide[:], crypto.SHA384
	case verify.RS512, verify.PS512:
		wide := sha512.Sum512([]byte(signed))
		digest, opts = wide[:], crypto.SHA512
	}
	if alg[0] == 'P' {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: opts.HashFunc()}
	}
	if k, ok := signers()[alg].(*ecdsa.PrivateKey); ok {
		r, s, err := ecdsa.Sign(rand.Reader, k, digest)
		if err != nil {
			t.Fatal(err)
		}
		return raw(r, s, (k.Params().BitSize+7)/8)
	}
	sig, err := signers()[alg].Sign(rand.Reader, digest, opts)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func raw(r, s *big.Int, size int) []byte {
	return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
}

func header(alg string) string { return `{"alg":"` + alg + `","typ":"at+jwt","kid":"k1"}` }

func good(t testing.TB, alg string) string {
	t.Helper()
	return mint(t, alg, header(alg), testPayload)
}

// accept takes a token through all that stands between a string and a claim.
func accept(token string, k verify.Key) (*verify.Token, error) {
	t, err := verify.Parse(token)
	if err != nil {
		return nil, err
	}
	if err := t.Verify(k); err != nil {
		return nil, err
	}
	return t, t.Check(expect())
}

func expect() verify.Expect {
	return verify.Expect{
		Type: "at+jwt", Issuer: "https://as.example", Own: true,
		Audience: []string{"https://other.example", "https://api.example"}, Now: testNow,
	}
}
