package verify

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
)

// Orders of the curves (FIPS 186-5), big-endian: r and s lie in [1, n−1].
const (
	orderP256 = "\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51"
	orderP384 = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xc7\x63\x4d\x81\xf4\x37\x2d\xdf\x58\x1a\x0d\xb2\x48\xb0\xa7\x7a\xec\xec\x19\x6a\xcc\xc5\x29\x73"
)

// Verify checks the signature with a key that the caller found by issuer and kid.
// The token's alg and kid must be the key's. A token without kid gets the key's in
// its Claims, so that a revocation of the key reaches it. Errors: ErrSignature,
// ErrUnknownKey, ErrKey.
func (t *Token) Verify(k Key) error {
	if !k.takes(t.Header.Alg) {
		return fmt.Errorf("%w: its alg is not the one that the key is registered for", ErrSignature)
	}
	if t.Header.KeyID != "" && k.ID != "" && t.Header.KeyID != k.ID {
		return fmt.Errorf("%w: its kid is not that of the key", ErrUnknownKey)
	}
	if err := k.fits(); err != nil {
		return err
	}
	if !t.verify(k) {
		return fmt.Errorf("%w", ErrSignature)
	}
	t.Claims.KeyID = cmp.Or(t.Claims.KeyID, k.ID)
	return nil
}

// verify does the arithmetic. k fits its algorithm.
func (t *Token) verify(k Key) bool {
	switch pub := k.Public.(type) {
	case *ecdsa.PublicKey:
		if k.Alg == ES384 {
			digest := sha512.Sum384([]byte(t.signed))
			return verifyECDSA(pub, digest[:], t.signature, orderP384)
		}
		digest := sha256.Sum256([]byte(t.signed))
		return verifyECDSA(pub, digest[:], t.signature, orderP256)
	case ed25519.PublicKey:
		return len(t.signature) == ed25519.SignatureSize && ed25519.Verify(pub, []byte(t.signed), t.signature)
	case *rsa.PublicKey:
		if len(t.signature) != pub.Size() {
			return false
		}
		return verifyRSA(pub, k.Alg, t.signed, t.signature)
	}
	return false
}

// verifyRSA does the arithmetic of RFC 7518 §3.3 and §3.5; there the salt is as long as
// the hash.
func verifyRSA(pub *rsa.PublicKey, alg, signed string, sig []byte) bool {
	var stack [sha512.Size]byte
	digest, hash := stack[:0], crypto.SHA256
	switch alg[2:] {
	case "384":
		sum := sha512.Sum384([]byte(signed))
		digest, hash = append(digest, sum[:]...), crypto.SHA384
	case "512":
		sum := sha512.Sum512([]byte(signed))
		digest, hash = append(digest, sum[:]...), crypto.SHA512
	default:
		sum := sha256.Sum256([]byte(signed))
		digest = append(digest, sum[:]...)
	}
	if alg[0] == 'P' {
		return rsa.VerifyPSS(pub, hash, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	}
	return rsa.VerifyPKCS1v15(pub, hash, digest, sig) == nil
}

// verifyECDSA takes r‖s of fixed width (RFC 7518 §3.4). Width and range are checked
// before the curve's arithmetic sees them.
func verifyECDSA(pub *ecdsa.PublicKey, digest, sig []byte, order string) bool {
	size := len(order)
	if len(sig) != 2*size || !inRange(sig[:size], order) || !inRange(sig[size:], order) {
		return false
	}
	// DER for the standard library: SEQUENCE of two INTEGERs, all lengths below 128.
	var stack [2 + 2*(2+1+len(orderP384))]byte
	der := append(stack[:0], 0x30, 0)
	der = appendInteger(der, sig[:size])
	der = appendInteger(der, sig[size:])
	der[1] = byte(len(der) - 2)
	return ecdsa.VerifyASN1(pub, digest, der)
}

// inRange tells whether 0 < n < order; both have one length. Signatures are public,
// so the time that it takes tells nothing.
func inRange(n []byte, order string) bool {
	for _, b := range n {
		if b != 0 {
			return string(n) < order
		}
	}
	return false
}

// appendInteger appends n > 0 as the shortest DER INTEGER.
func appendInteger(der, n []byte) []byte {
	for n[0] == 0 {
		n = n[1:]
	}
	if n[0] >= 0x80 {
		der = append(der, 2, byte(len(n)+1), 0)
	} else {
		der = append(der, 2, byte(len(n)))
	}
	return append(der, n...)
}
