package verify_test

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/keyraft/keyraft/tokens/verify"
)

func set(keys ...string) []byte { return []byte(`{"keys":[` + strings.Join(keys, ",") + `]}`) }

// jwkOf is a good JWK of alg's key with changes: an empty value takes a member away.
func jwkOf(t testing.TB, alg string, change map[string]any) string {
	t.Helper()
	text, err := verify.MarshalJWK(key(alg), "sig")
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	for name, value := range change {
		if value == "" {
			delete(m, name)
		} else {
			m[name] = value
		}
	}
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestJWKSRoundTrip(t *testing.T) {
	t.Parallel()
	var keys []verify.Key
	for i, alg := range algs {
		k := key(alg)
		k.ID = fmt.Sprintf(`k"\%d é`, i)
		keys = append(keys, k)
	}
	text := verify.AppendJWKS(nil, keys)
	got, err := verify.ParseJWKS(text)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, keys) {
		t.Errorf("read %+v\nwrote %+v", got, keys)
	}
	var oracle jose.JSONWebKeySet
	if err := json.Unmarshal(text, &oracle); err != nil {
		t.Fatal(err)
	}
	for i, k := range oracle.Keys {
		if !k.Valid() || k.KeyID != keys[i].ID || k.Algorithm != keys[i].Alg || k.Use != "sig" || !reflect.DeepEqual(k.Key, keys[i].Public) {
			t.Errorf("go-jose reads key %d as %+v", i, k)
		}
	}
	if text := verify.AppendJWKS([]byte("x"), nil); string(text) != `x{"keys":[]}` {
		t.Errorf("an empty set is %s", text)
	}
	if text := verify.AppendJWKS(nil, []verify.Key{{Alg: verify.ES256}}); string(text) != `{"keys":[]}` {
		t.Errorf("an unusable key is written: %s", text)
	}
}

func TestParseJWKSRefuses(t *testing.T) {
	t.Parallel()
	good := jwkOf(t, verify.ES256, nil)
	x := func(n int64) string { return b64.EncodeToString(big.NewInt(n).FillBytes(make([]byte, 32))) }
	number := func(n *big.Int) string { return b64.EncodeToString(n.Bytes()) }
	pow := func(bits uint) *big.Int { return new(big.Int).Lsh(big.NewInt(1), bits) }
	n := signers()[verify.RS256].Public().(*rsa.PublicKey).N
	ec := func(c map[string]any) []byte { return set(jwkOf(t, verify.ES256, c)) }
	rs := func(c map[string]any) []byte { return set(jwkOf(t, verify.RS256, c)) }
	ed := func(c map[string]any) []byte { return set(jwkOf(t, verify.EdDSA, c)) }
	compressed := elliptic.MarshalCompressed(elliptic.P256(), signers()[verify.ES256].Public().(*ecdsa.PublicKey).X, signers()[verify.ES256].Public().(*ecdsa.PublicKey).Y)
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprintf(`{"kty":"EC","kid":"%d","use":"enc"}`, i)
	}
	tests := map[string][]byte{
		"JWT-13 a point off the curve":            ec(map[string]any{"y": x(5)}),
		"JWT-13 the point (0,0)":                  ec(map[string]any{"x": x(0), "y": x(0)}),
		"JWT-13 coordinates above the prime":      ec(map[string]any{"x": b64.EncodeToString([]byte(strings.Repeat("\xff", 32)))}),
		"JWT-13 a compressed point":               ec(map[string]any{"x": b64.EncodeToString(compressed), "y": ""}),
		"JWT-13 a short coordinate":               ec(map[string]any{"x": "AA"}),
		"JWT-13 crv other than the key":           ec(map[string]any{"crv": "P-384", "alg": "ES384"}),
		"JWT-03 P-256 with ES384":                 ec(map[string]any{"alg": "ES384"}),
		"JWT-03 P-256 with RS256":                 ec(map[string]any{"alg": "RS256"}),
		"JWT-03 use enc only":                     ec(map[string]any{"use": "enc"}),
		"JWT-03 key_ops without verify":           ec(map[string]any{"key_ops": []string{"deriveKey", "sign"}}),
		"JWT-03 RSA-OAEP key":                     rs(map[string]any{"alg": "RSA-OAEP"}),
		"JWT-13 RSA of 512 bits":                  rs(map[string]any{"n": number(new(big.Int).Add(pow(511), big.NewInt(1)))}),
		"JWT-13 RSA of 2047 bits":                 rs(map[string]any{"n": number(new(big.Int).Add(pow(2046), big.NewInt(1)))}),
		"JWT-13 RSA of 16384 bits":                rs(map[string]any{"n": number(new(big.Int).Add(pow(16383), big.NewInt(1)))}),
		"JWT-13 an even modulus":                  rs(map[string]any{"n": number(new(big.Int).Sub(n, big.NewInt(1)))}),
		"JWT-13 e is 1":                           rs(map[string]any{"e": number(big.NewInt(1))}),
		"JWT-13 e is 3":                           rs(map[string]any{"e": number(big.NewInt(3))}),
		"JWT-13 e is even":                        rs(map[string]any{"e": number(big.NewInt(65538))}),
		"JWT-13 e is 2^32+1":                      rs(map[string]any{"e": number(new(big.Int).Add(pow(32), big.NewInt(1)))}),
		"JWT-13 e is 2^31+1":                      rs(map[string]any{"e": number(new(big.Int).Add(pow(31), big.NewInt(1)))}),
		"a leading zero byte in n":                rs(map[string]any{"n": b64.EncodeToString(append([]byte{0}, n.Bytes()...))}),
		"n missing":                               rs(map[string]any{"n": ""}),
		"padding in e":                            rs(map[string]any{"e": "AQAB="}),
		"a line break in x":                       ed(map[string]any{"x": "AAAA\nAAAA"}),
		"Ed25519 of 31 bytes":                     ed(map[string]any{"x": b64.EncodeToString(make([]byte, 31))}),
		"Ed25519 with ES256":                      ed(map[string]any{"alg": "ES256"}),
		"JWT-27 a private key":                    ec(map[string]any{"d": x(7)}),
		"JWT-27 a private key for encryption":     ec(map[string]any{"d": x(7), "use": "enc"}),
		"JWT-27 a symmetric key beside a good":    set(good, `{"kty":"oct","k":"AAAA"}`),
		"JWT-27 kty oct without k":                set(good, `{"kty":"oct"}`),
		"JWT-05 a kid twice":                      set(good, good),
		"JWT-05 two keys without kid":             set(jwkOf(t, verify.ES256, map[string]any{"kid": ""}), jwkOf(t, verify.EdDSA, map[string]any{"kid": ""})),
		"JWT-05 a kid that is a number":           ec(map[string]any{"kid": 7}),
		"JWT-05 a kid with a NUL":                 ec(map[string]any{"kid": "a\x00"}),
		"JWT-05 a kid of 1 KiB":                   ec(map[string]any{"kid": strings.Repeat("k", 1024)}),
		"JWT-27 101 keys":                         set(many...),
		"JWT-27 more than 512 KiB":                append(set(good), []byte(strings.Repeat(" ", 512<<10))...),
		"JWT-27 HTML":                             []byte("<!DOCTYPE html><html></html>"),
		"no keys":                                 set(),
		"no member keys":                          []byte(`{}`),
		"Keys":                                    []byte(`{"Keys":[]}`),
		"keys twice":                              []byte(`{"keys":[` + good + `],"keys":[]}`),
		"keys an object":                          []byte(`{"keys":{}}`),
		"a bare JWK":                              []byte(good),
		"a bare array":                            []byte("[" + good + "]"),
		"crv twice, once escaped":                 set(strings.Replace(good, `{`, `{"c\u0072v":"P-384",`, 1)),
		"KTY":                                     set(strings.Replace(good, `{`, `{"KTY":"oct",`, 1)),
		"a null key":                              set("null"),
		"bytes after the set":                     append(set(good), 'x'),
		"nothing":                                 nil,
		"kty missing":                             ec(map[string]any{"kty": ""}),
		"nothing but a curve that is not offered": set(`{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}`),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys, err := verify.ParseJWKS(text)
			if !errors.Is(err, verify.ErrKey) || keys != nil {
				t.Errorf("keys %v, error %v, want ErrKey", keys, err)
			}
		})
	}
}

func TestParseJWKSAccepts(t *testing.T) {
	t.Parallel()
	noAlg := map[string]any{"alg": "", "use": "", "kid": ""}
	tests := []struct {
		name, jwk, alg string
	}{
		{"an EC key without alg, use and kid", jwkOf(t, verify.ES256, noAlg), verify.ES256},
		{"a P-384 key without alg", jwkOf(t, verify.ES384, noAlg), verify.ES384},
		{"an OKP key without alg is EdDSA", jwkOf(t, verify.Ed25519, noAlg), verify.EdDSA},
		{"an RSA key without alg is RS256", jwkOf(t, verify.PS256, noAlg), verify.RS256},
		{"an RSA key for PS256", jwkOf(t, verify.PS256, nil), verify.PS256},
		{"key_ops with verify, x5c, x5t and unknown members", jwkOf(t, verify.ES256, map[string]any{"key_ops": []string{"verify"}, "x5c": []string{"MIIB"}, "x5t": "AA", "exp": 1}), verify.ES256},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// Keys for other ends stand beside it, as at Keycloak.
			keys, err := verify.ParseJWKS(set(
				`{"kty":"RSA","kid":"e","use":"enc","alg":"RSA-OAEP","n":"AA","e":"AQAB"}`,
				`{"kty":"EC","kid":"s","crv":"secp256k1","x":"AA","y":"AA"}`, tt.jwk, `{"kty":"new","kid":"n"}`))
			if err != nil || len(keys) != 1 || keys[0].Alg != tt.alg {
				t.Fatalf("keys %+v, error %v", keys, err)
			}
			if !reflect.DeepEqual(keys[0].Public, signers()[tt.alg].Public()) {
				t.Error("another key came out")
			}
		})
	}
}

// TestBothNamesOfEd25519 is JWT-03 where nothing is registered: libraries sign under
// either name of the one algorithm (RFC 9864), and a key without alg is good for both.
func TestBothNamesOfEd25519(t *testing.T) {
	t.Parallel()
	for registered, want := range map[string]map[string]bool{
		"":             {verify.EdDSA: true, verify.Ed25519: true},
		verify.EdDSA:   {verify.EdDSA: true, verify.Ed25519: false},
		verify.Ed25519: {verify.EdDSA: false, verify.Ed25519: true},
	} {
		keys, err := verify.ParseJWKS(set(jwkOf(t, verify.Ed25519, map[string]any{"alg": registered})))
		if err != nil || len(keys) != 1 {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		for alg, good := range want {
			token, err := verify.Parse(mint(t, alg, `{"alg":"`+alg+`"}`, `{"sub":"a"}`))
			if err != nil {
				t.Fatal(err)
			}
			if err := token.Verify(keys[0]); (err == nil) != good {
				t.Errorf("a key for %q, a token under %s: %v", registered, alg, err)
			}
		}
	}
}

func TestKeySet(t *testing.T) {
	t.Parallel()
	a, b := key(verify.ES256), key(verify.EdDSA)
	b.ID = "k2"
	keys := []verify.Key{a, b}
	s, err := verify.NewKeySet(keys)
	if err != nil {
		t.Fatal(err)
	}
	keys[0].Alg = "changed by the caller"
	if k, ok := s.Lookup("k1"); !ok || k.Alg != verify.ES256 || s.Len() != 2 {
		t.Errorf("k1 is %+v, %v", k, ok)
	}
	for _, kid := range []string{"", "K1", "k", "k1 ", "k11", "../k1", "k1\x00"} {
		if k, ok := s.Lookup(kid); ok {
			t.Errorf("kid %q finds %+v", kid, k)
		}
	}
	one, err := verify.NewKeySet(keys[1:])
	if err != nil {
		t.Fatal(err)
	}
	if k, ok := one.Lookup(""); !ok || k.ID != "k2" {
		t.Errorf("no kid finds %+v, %v, want the only key", k, ok)
	}
	if _, ok := one.Lookup("k1"); ok {
		t.Error("a wrong kid finds the only key")
	}
	b.ID = "k1"
	if _, err := verify.NewKeySet([]verify.Key{a, b}); !errors.Is(err, verify.ErrKey) {
		t.Errorf("two keys of one kid: %v", err)
	}
	off := &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}
	if _, err := verify.NewKeySet([]verify.Key{{ID: "x", Alg: verify.ES256, Public: off}}); !errors.Is(err, verify.ErrKey) {
		t.Errorf("a point off the curve: %v", err)
	}
	if text, err := verify.MarshalJWK(verify.Key{ID: "x", Alg: verify.ES256, Public: off}, "sig"); !errors.Is(err, verify.ErrKey) {
		t.Errorf("a point off the curve is written: %s, %v", text, err)
	}
}

func FuzzParseJWKS(f *testing.F) {
	for _, alg := range algs {
		f.Add(set(jwkOf(f, alg, nil)))
	}
	f.Add([]byte(`{"keys":[{"kty":"EC","key_ops":["verify"],"x5c":[[]]}],"x":-1e5}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := verify.ParseJWKS(text)
		if err != nil {
			if !errors.Is(err, verify.ErrKey) {
				t.Fatalf("error %v does not wrap ErrKey", err)
			}
			return
		}
		again, err := verify.ParseJWKS(verify.AppendJWKS(nil, keys))
		if err != nil || !reflect.DeepEqual(keys, again) {
			t.Fatalf("%+v comes back as %+v, %v", keys, again, err)
		}
	})
}

// TestAKeyWithoutAlgIsForWhatIsRegistered is JWT-03 where a key names no algorithm: it is
// for the one that its owner has registered for this use, of RSA for RS256 without, and
// never for what a token says of itself. A key that names one stays with it.
func TestAKeyWithoutAlgIsForWhatIsRegistered(t *testing.T) {
	t.Parallel()
	all := []string{verify.RS256, verify.RS384, verify.RS512, verify.PS256, verify.PS384, verify.PS512}
	signed := map[string]string{}
	for _, alg := range all {
		signed[alg] = good(t, alg)
	}
	for _, named := range append([]string{""}, all...) {
		keys, err := verify.ParseJWKS(set(jwkOf(t, verify.RS256, map[string]any{"alg": named})))
		if err != nil || len(keys) != 1 {
			t.Fatal(err)
		}
		again, err := verify.ParseJWKS(verify.AppendJWKS(nil, keys)) // as it is stored
		if err != nil {
			t.Fatal(err)
		}
		for _, registered := range append([]string{"", verify.ES256, verify.EdDSA, "none", "HS256"}, all...) {
			want := cmp.Or(named, verify.RS256)
			if named == "" && slices.Contains(all, registered) {
				want = registered
			}
			for _, signedAs := range all {
				for _, k := range []verify.Key{keys[0], again[0]} {
					_, err := accept(signed[signedAs], k.For(registered))
					if ok := signedAs == want; ok != (err == nil) {
						t.Errorf("alg of the key %q, registered %q, signed as %s: %v", named, registered, signedAs, err)
					}
				}
			}
		}
	}
}
