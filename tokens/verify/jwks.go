package verify

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"math/big"
)

const (
	maxJWKS     = 512 << 10 // bytes of one JWKS: 100 RSA keys with certificate chains
	maxJWKSKeys = 100
)

// jwk holds the members of a JWK (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2) that
// matter here.
type jwk struct {
	kty, use, alg, kid, crv, x, y, n, e string

	cannotVerify  bool // key_ops is there without "verify"
	cannotEncrypt bool // key_ops is there without a way to encrypt to the key
}

// ParseJWKS reads a JWK set and returns its keys that verify signatures with an
// algorithm of ours. Keys for other ends (use "enc", key_ops without "verify",
// another kty, crv or alg) are left out. The whole set is refused when it is not
// strict JSON, too large, publishes a private or symmetric key, has a kid twice or
// holds an unsound key of ours; so is a set without any usable key. An EC or OKP
// key without alg gets its curve's, an RSA key RS256, until Key.For says another. Errors
// wrap ErrKey.
func ParseJWKS(data []byte) ([]Key, error) {
	if len(data) > maxJWKS {
		return nil, fmt.Errorf("%w: the key set is larger than %d bytes", ErrKey, maxJWKS)
	}
	s := scanner{text: string(data)}
	var found []jwk
	if !s.whole(func() bool { return s.jwks(&found) }) {
		return nil, fmt.Errorf("%w: key set: %s", ErrKey, s.why)
	}
	keys := make([]Key, 0, len(found))
	for i := range found {
		k, ours, err := found[i].key()
		if err != nil {
			return nil, fmt.Errorf("key %d of the set: %w", i+1, err)
		}
		if ours {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: %w", ErrKey, ErrNoKey)
	}
	if _, err := NewKeySet(keys); err != nil {
		return nil, err
	}
	return keys, nil
}

// jwks reads {"keys":[…]}.
func (s *scanner) jwks(to *[]jwk) bool {
	o, ok := s.beginObject()
	seen := false
	for ok {
		var name string
		var more bool
		if name, more, ok = s.member(&o); !ok {
			return false
		}
		if !more {
			return seen || s.fail("the member keys is missing")
		}
		if name != "keys" {
			ok = s.properCase(name, []string{"keys"}) && s.skip()
			continue
		}
		seen = true
		ok = s.jwkList(to)
	}
	return false
}

func (s *scanner) jwkList(to *[]jwk) bool {
	l, ok := s.beginArray()
	for ok {
		var more bool
		if more, ok = s.element(&l); !ok || !more {
			return ok
		}
		if l.n > maxJWKSKeys {
			return s.fail("it has too many keys")
		}
		var j jwk
		ok = s.jwk(&j)
		*to = append(*to, j)
	}
	return false
}

// jwk reads one key. Private members are refused, whatever the kty.
func (s *scanner) jwk(j *jwk) bool {
	o, ok := s.beginObject()
	for ok {
		var name string
		var more bool
		if name, more, ok = s.member(&o); !ok || !more {
			return ok
		}
		switch name {
		case "d", "p", "q", "dp", "dq", "qi", "oth", "k":
			return s.fail("a private or symmetric key is published in it; treat that key as leaked")
		case "kty":
			ok = s.plain(&j.kty)
		case "use":
			ok = s.plain(&j.use)
		case "alg":
			ok = s.plain(&j.alg)
		case "kid":
			ok = s.plain(&j.kid)
		case "crv":
			ok = s.plain(&j.crv)
		case "x":
			ok = s.plain(&j.x)
		case "y":
			ok = s.plain(&j.y)
		case "n":
			ok = s.plain(&j.n)
		case "e":
			ok = s.plain(&j.e)
		case "key_ops":
			ok = s.keyOps(j)
		default:
			ok = s.properCase(name, jwkNames) && s.skip()
		}
	}
	return false
}

var jwkNames = []string{"kty", "use", "key_ops", "alg", "kid", "crv", "x", "y", "n", "e", "d", "p", "q", "dp", "dq", "qi", "oth", "k"}

func (s *scanner) keyOps(j *jwk) bool {
	j.cannotVerify, j.cannotEncrypt = true, true
	l, ok := s.beginArray()
	for ok {
		var more bool
		if more, ok = s.element(&l); !ok || !more {
			return ok
		}
		var op string
		ok = s.plain(&op)
		switch op {
		case "verify":
			j.cannotVerify = false
		case "encrypt", "wrapKey", "deriveKey", "deriveBits":
			j.cannotEncrypt = false
		}
	}
	return false
}

// key builds the public key; ours is false when it serves another end.
func (j *jwk) key() (k Key, ours bool, err error) {
	if j.kty == "" {
		return k, false, fmt.Errorf("%w: kty is missing", ErrKey)
	}
	if j.kty == "oct" {
		return k, false, fmt.Errorf("%w: a symmetric key is published; treat it as leaked", ErrKey)
	}
	if j.use != "" && j.use != "sig" || j.cannotVerify || j.alg != "" && !knownAlg(j.alg) {
		return k, false, nil
	}
	k = Key{ID: j.kid, Alg: j.alg, unnamed: j.alg == ""}
	switch j.kty + " " + j.crv {
	case "EC P-256":
		k.Public, err = j.point(elliptic.P256(), &k.Alg, ES256)
	case "EC P-384":
		k.Public, err = j.point(elliptic.P384(), &k.Alg, ES384)
	case "OKP Ed25519":
		var x []byte
		if x, err = fixed(j.x, ed25519.PublicKeySize); err == nil {
			k.Public = ed25519.PublicKey(x)
		}
		k.defaultAlg(EdDSA)
	case "RSA ":
		k.Public, err = j.rsa()
		k.defaultAlg(RS256)
	default:
		return Key{}, false, nil
	}
	if err == nil {
		err = k.Check()
	}
	return k, err == nil, err
}

func (k *Key) defaultAlg(alg string) {
	if k.Alg == "" {
		k.Alg = alg
	}
}

// point reads x and y; the library refuses what is not on the curve.
func (j *jwk) point(curve elliptic.Curve, alg *string, usual string) (*ecdsa.PublicKey, error) {
	if *alg == "" {
		*alg = usual
	}
	size := (curve.Params().BitSize + 7) / 8
	x, err := fixed(j.x, size)
	if err != nil {
		return nil, err
	}
	y, err := fixed(j.y, size)
	if err != nil {
		return nil, err
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil, fmt.Errorf("%w: its point is not on %s", ErrKey, curve.Params().Name)
	}
	return pub, nil
}

func (j *jwk) rsa() (*rsa.PublicKey, error) {
	n, err := bytesOf(j.n)
	if err != nil {
		return nil, err
	}
	e, err := bytesOf(j.e)
	if err != nil {
		return nil, err
	}
	if len(n) == 0 || n[0] == 0 || len(e) == 0 || e[0] == 0 {
		return nil, fmt.Errorf("%w: n and e must be there, without leading zero bytes (RFC 7518 §6.3.1)", ErrKey)
	}
	if len(n) > maxRSABits/8 || len(e) > 4 || len(e) == 4 && e[0] > 0x7f {
		return nil, fmt.Errorf("%w: n has at most %d bits and e at most 31", ErrKey, maxRSABits)
	}
	exp := 0
	for _, b := range e {
		exp = exp<<8 | int(b)
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: exp}, nil
}

func fixed(text string, size int) ([]byte, error) {
	b, err := bytesOf(text)
	if err == nil && len(b) != size {
		return nil, fmt.Errorf("%w: a coordinate must have %d bytes", ErrKey, size)
	}
	return b, err
}

// bytesOf decodes strict base64url. Line breaks, which the decoder would skip, are
// not in a plain string.
func bytesOf(text string) ([]byte, error) {
	b, err := encoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: a member is not base64url without padding", ErrKey)
	}
	return b, nil
}

// MarshalJWK writes a public key as a JWK with the given use ("sig"; "" leaves it
// out). It refuses a key that Check refuses.
func MarshalJWK(k Key, use string) ([]byte, error) {
	if err := k.Check(); err != nil {
		return nil, err
	}
	return appendJWK(nil, k, use), nil
}

// AppendJWKS appends a JWK set of signing keys to dst, those that name no algorithm
// without one. A key that Check refuses
// cannot verify anything and is left out; NewKeySet tells of it.
func AppendJWKS(dst []byte, keys []Key) []byte {
	dst = append(dst, `{"keys":[`...)
	first := true
	for _, k := range keys {
		if k.Check() != nil {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendJWK(dst, k, "sig")
	}
	return append(dst, "]}"...)
}

// appendJWK writes a key that Check has passed.
func appendJWK(dst []byte, k Key, use string) []byte {
	dst = append(dst, '{')
	switch pub := k.Public.(type) {
	case *ecdsa.PublicKey:
		dst = appendMember(dst, "kty", "EC")
		dst = appendMember(dst, "crv", pub.Params().Name)
		if point, err := pub.Bytes(); err == nil { // Check has proved that there is none
			half := len(point) / 2
			dst = appendMember(dst, "x", base64.RawURLEncoding.EncodeToString(point[1:1+half]))
			dst = appendMember(dst, "y", base64.RawURLEncoding.EncodeToString(point[1+half:]))
		}
	case ed25519.PublicKey:
		dst = appendMember(dst, "kty", "OKP")
		dst = appendMember(dst, "crv", "Ed25519")
		dst = appendMember(dst, "x", base64.RawURLEncoding.EncodeToString(pub))
	case *rsa.PublicKey:
		dst = appendMember(dst, "kty", "RSA")
		dst = appendMember(dst, "n", base64.RawURLEncoding.EncodeToString(pub.N.Bytes()))
		dst = appendMember(dst, "e", base64.RawURLEncoding.EncodeToString(big.NewInt(int64(pub.E)).Bytes()))
	}
	if !k.unnamed {
		dst = appendMember(dst, "alg", k.Alg)
	}
	if k.ID != "" {
		dst = appendMember(dst, "kid", k.ID)
	}
	if use != "" {
		dst = appendMember(dst, "use", use)
	}
	return append(dst, '}')
}

// appendMember writes "name":"value"; value holds no control character.
func appendMember(dst []byte, name, value string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(append(append(dst, '"'), name...), `":"`...)
	for i := range len(value) {
		if value[i] == '"' || value[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, value[i])
	}
	return append(dst, '"')
}
