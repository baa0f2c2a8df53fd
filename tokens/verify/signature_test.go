package verify_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/tokens/verify"
)

// TestPsychicSignatures is JWT-12: everything about r and s that may be wrong.
func TestPsychicSignatures(t *testing.T) {
	t.Parallel()
	for alg, curve := range map[string]elliptic.Curve{verify.ES256: elliptic.P256(), verify.ES384: elliptic.P384()} {
		size := (curve.Params().BitSize + 7) / 8
		token := good(t, alg)
		signed := token[:strings.LastIndex(token, ".")]
		sig := signature(t, alg, signed)
		r, s := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
		n, zero := curve.Params().N, new(big.Int)
		max := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(8*size)), big.NewInt(1))
		der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		if err != nil {
			t.Fatal(err)
		}
		for name, bad := range map[string][]byte{
			"r and s zero":           raw(zero, zero, size),
			"r zero":                 raw(zero, s, size),
			"s zero":                 raw(r, zero, size),
			"s is n":                 raw(r, n, size),
			"r is n":                 raw(n, s, size),
			"r and s are n":          raw(n, n, size),
			"r is n+1":               raw(new(big.Int).Add(n, big.NewInt(1)), s, size),
			"all ones":               raw(max, max, size),
			"r and s one":            raw(big.NewInt(1), big.NewInt(1), size),
			"r and s exchanged":      raw(s, r, size),
			"DER":                    der,
			"a byte short":           sig[:2*size-1],
			"a byte more":            append(append([]byte{}, sig...), 0),
			"a zero byte before":     append([]byte{0}, sig...),
			"wider integers":         raw(r, s, size+16),
			"one byte":               {1},
			"half":                   sig[:size],
			"another token's":        signature(t, alg, signed+"A"),
			"the other curve's size": append(append([]byte{}, sig...), sig...)[:160-2*size],
		} {
			if _, err := accept(signed+"."+b64.EncodeToString(bad), key(alg)); !errors.Is(err, verify.ErrSignature) {
				t.Errorf("%s, %s: error %v, want ErrSignature", alg, name, err)
			}
		}
	}
}

// TestShortIntegersVerify: r or s with leading zero bytes are rare but good, and the
// DER that we build of them has to be the shortest.
func TestShortIntegersVerify(t *testing.T) {
	t.Parallel()
	seen := 0
	for range 3000 {
		token := good(t, verify.ES256)
		sig, err := b64.DecodeString(token[strings.LastIndex(token, ".")+1:])
		if err != nil {
			t.Fatal(err)
		}
		if sig[0] != 0 && sig[32] != 0 {
			continue
		}
		if _, err := accept(token, key(verify.ES256)); err != nil {
			t.Fatalf("signature %x: %v", sig, err)
		}
		if seen++; seen == 5 {
			return
		}
	}
	t.Fatalf("only %d signatures with a short integer in 3000", seen)
}

// TestOtherSpellingOfECDSAIsStillRevoked is REV-04: n−s verifies, as everywhere, and
// the revocation by jti reaches it.
func TestOtherSpellingOfECDSAIsStillRevoked(t *testing.T) {
	t.Parallel()
	token := good(t, verify.ES256)
	dot := strings.LastIndex(token, ".")
	sig, err := b64.DecodeString(token[dot+1:])
	if err != nil {
		t.Fatal(err)
	}
	n := elliptic.P256().Params().N
	s := new(big.Int).Sub(n, new(big.Int).SetBytes(sig[32:]))
	other := token[:dot+1] + b64.EncodeToString(raw(new(big.Int).SetBytes(sig[:32]), s, 32))
	if other == token {
		t.Fatal("nothing changed")
	}
	got, err := accept(other, key(verify.ES256))
	if err != nil {
		t.Fatalf("n−s: %v", err)
	}
	if !verify.Covers(verify.Revocation{Seq: 42, Kind: verify.KindToken, Target: "n1-b2-3"}, &got.Claims) {
		t.Error("the other spelling escapes its revocation")
	}
}

// TestKeyConfusion is JWT-02 and JWT-03: a key verifies its one algorithm only.
func TestKeyConfusion(t *testing.T) {
	t.Parallel()
	for _, signedAs := range algs {
		for _, registered := range algs {
			_, err := accept(good(t, signedAs), key(registered))
			if ok := signedAs == registered; ok != (err == nil) {
				t.Errorf("signed as %s, key of %s: error %v", signedAs, registered, err)
			}
		}
	}
	// A header that claims the key's algorithm over another's signature.
	for _, pair := range [][2]string{{verify.RS256, verify.PS256}, {verify.PS256, verify.RS256}, {verify.ES384, verify.ES256}, {verify.EdDSA, verify.ES256}} {
		if _, err := accept(mint(t, pair[0], header(pair[1]), testPayload), key(pair[1])); !errors.Is(err, verify.ErrSignature) {
			t.Errorf("%s signature under a header of %s: %v", pair[0], pair[1], err)
		}
	}
	for _, k := range []verify.Key{
		{ID: "k1", Alg: verify.ES384, Public: signers()[verify.ES256].Public()},
		{ID: "k1", Alg: verify.ES384, Public: nil},
		{ID: "k1", Alg: verify.ES384, Public: (*ecdsa.PublicKey)(nil)},
		{ID: "k1", Alg: verify.ES384, Public: []byte("secret")},
	} {
		if _, err := accept(good(t, verify.ES384), k); !errors.Is(err, verify.ErrKey) {
			t.Errorf("ES384 with a key of %T: %v", k.Public, err)
		}
	}
	if _, err := accept(good(t, verify.ES256), verify.Key{ID: "k2", Alg: verify.ES256, Public: key(verify.ES256).Public}); !errors.Is(err, verify.ErrUnknownKey) {
		t.Errorf("another kid: %v", err)
	}
}

// TestHMACUnderPublicKey is JWT-02: HS256 under every text that the public key has.
func TestHMACUnderPublicKey(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{verify.ES256, verify.RS256} {
		pub := signers()[alg].Public()
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		jwk, err := verify.MarshalJWK(key(alg), "sig")
		if err != nil {
			t.Fatal(err)
		}
		secrets := [][]byte{der, jwk, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}
		if r, ok := pub.(*rsa.PublicKey); ok {
			secrets = append(secrets, r.N.Bytes())
		}
		for _, claimed := range []string{"HS256", alg} {
			for _, secret := range secrets {
				signed := b64.EncodeToString([]byte(header(claimed))) + "." + b64.EncodeToString([]byte(testPayload))
				mac := hmac.New(sha256.New, secret)
				mac.Write([]byte(signed))
				if _, err := accept(signed+"."+b64.EncodeToString(mac.Sum(nil)), key(alg)); err == nil {
					t.Errorf("an HMAC under the public key of %s passes as %s", alg, claimed)
				}
			}
		}
	}
}

// TestPSSSaltLength: RFC 7518 §3.5 wants a salt as long as the hash.
func TestPSSSaltLength(t *testing.T) {
	t.Parallel()
	token := good(t, verify.PS256)
	signed := token[:strings.LastIndex(token, ".")]
	digest := sha256.Sum256([]byte(signed))
	for _, salt := range []int{20, 33} {
		sig, err := rsa.SignPSS(rand.Reader, signers()[verify.PS256].(*rsa.PrivateKey), 5, digest[:], &rsa.PSSOptions{SaltLength: salt})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := accept(signed+"."+b64.EncodeToString(sig), key(verify.PS256)); !errors.Is(err, verify.ErrSignature) {
			t.Errorf("salt of %d bytes: error %v, want ErrSignature", salt, err)
		}
	}
}

func BenchmarkRawVerifyES256(b *testing.B) {
	pub := signers()[verify.ES256].Public().(*ecdsa.PublicKey)
	digest := sha256.Sum256([]byte("x"))
	sig, err := ecdsa.SignASN1(rand.Reader, signers()[verify.ES256].(*ecdsa.PrivateKey), digest[:])
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !ecdsa.VerifyASN1(pub, digest[:], sig) {
			b.Fatal("refused")
		}
	}
}

func BenchmarkParse(b *testing.B) {
	token := good(b, verify.ES256)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := verify.Parse(token); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAccept(b *testing.B) {
	for _, alg := range algs {
		b.Run(alg, func(b *testing.B) {
			token, k, e := good(b, alg), key(alg), expect()
			b.ReportAllocs()
			for b.Loop() {
				t, err := verify.Parse(token)
				if err != nil {
					b.Fatal(err)
				}
				if err := t.Verify(k); err != nil {
					b.Fatal(err)
				}
				if err := t.Check(e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestAllocations is the count of F8: 20 for a whole uncached verification.
func TestAllocations(t *testing.T) {
	token, k, e := good(t, verify.ES256), key(verify.ES256), expect()
	whole := testing.AllocsPerRun(100, func() {
		got, err := verify.Parse(token)
		if err != nil {
			t.Fatal(err)
		}
		if err := got.Verify(k); err != nil {
			t.Fatal(err)
		}
		if err := got.Check(e); err != nil {
			t.Fatal(err)
		}
	})
	if whole > 20 {
		t.Errorf("%v allocations for a whole verification, want at most 20", whole)
	}
	if parse := testing.AllocsPerRun(100, func() { _, _ = verify.Parse(token) }); parse > 6 {
		t.Errorf("%v allocations in Parse, want at most 6", parse)
	}
}
