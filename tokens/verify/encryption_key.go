package verify

import (
	"crypto"
	"crypto/elliptic"
	"fmt"
	"strings"
)

// EncryptionAlgs are the key management algorithms that may encrypt to a client (RFC
// 7518 §4): no RSA1_5 (RFC 8725 §3.2), no SHA-1, no password (JWT-15, JWT-17).
func EncryptionAlgs() []string {
	return []string{"RSA-OAEP-256", "ECDH-ES", "ECDH-ES+A128KW", "ECDH-ES+A256KW"}
}

// EncryptionMethods are the content encryptions that go with them (RFC 7518 §5).
func EncryptionMethods() []string { return []string{"A128CBC-HS256", "A128GCM", "A256GCM"} }

// EncryptionKey is a public key to encrypt to: *ecdsa.PublicKey or *rsa.PublicKey. The
// kid may be empty.
type EncryptionKey struct {
	ID     string
	Public crypto.PublicKey
}

// FindEncryptionKey returns the first key of a JWK set that one may encrypt to with alg:
// of use "enc" or without use, and without another alg. It must be sound: a point of
// P-256, P-384 or P-521, or RSA of 2048 to 8192 bits (JWT-13, JWT-14). Errors wrap ErrKey.
func FindEncryptionKey(jwks []byte, alg string) (EncryptionKey, error) {
	var none EncryptionKey
	if len(jwks) > maxJWKS {
		return none, fmt.Errorf("%w: the key set is larger than %d bytes", ErrKey, maxJWKS)
	}
	s := scanner{text: string(jwks)}
	var found []jwk
	if !s.whole(func() bool { return s.jwks(&found) }) {
		return none, fmt.Errorf("%w: key set: %s", ErrKey, s.why)
	}
	for i := range found {
		j := &found[i]
		if j.use != "" && j.use != "enc" || j.alg != "" && j.alg != alg || j.cannotEncrypt {
			continue
		}
		public, err := j.recipient(alg)
		if err != nil {
			return none, fmt.Errorf("key %d of the set: %w", i+1, err)
		}
		if public != nil {
			return EncryptionKey{j.kid, public}, nil
		}
	}
	return none, fmt.Errorf("%w: the set holds no key of use enc for %s", ErrKey, alg)
}

// recipient is the key as alg needs it; nil when it is of another kind.
func (j *jwk) recipient(alg string) (crypto.PublicKey, error) {
	switch {
	case strings.HasPrefix(alg, "RSA-") && j.kty == "RSA":
		pub, err := j.rsa()
		if err != nil {
			return nil, err
		}
		return pub, Key{Alg: RS256, Public: pub}.Check() // size, exponent and modulus are judged alike
	case strings.HasPrefix(alg, "ECDH-ES") && j.kty == "EC":
		for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
			if curve.Params().Name == j.crv {
				var none string
				pub, err := j.point(curve, &none, "")
				if err != nil {
					return nil, err
				}
				return pub, nil
			}
		}
	}
	return nil, nil
}
