package verify

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Algorithms that tokens may be signed with (RFC 7518 §3.1, RFC 8037, RFC 9864).
// Each key has exactly one.
const (
	ES256   = "ES256"
	ES384   = "ES384"
	RS256   = "RS256"
	RS384   = "RS384"
	RS512   = "RS512"
	PS256   = "PS256"
	PS384   = "PS384"
	PS512   = "PS512"
	EdDSA   = "EdDSA"
	Ed25519 = "Ed25519" // the fully specified name; a key that is registered for one is not taken for the other
)

// ErrKey is wrapped by every refusal of a key or a key set.
var ErrKey = errors.New("the key is not usable")

// ErrNoKey is wrapped, beside ErrKey, where a sound key set has no key that verifies.
var ErrNoKey = errors.New("the set holds no key that verifies " + algNames)

// algNames are the algorithms, in the words of errors.
const algNames = "ES256, ES384, EdDSA, Ed25519, PS256, PS384, PS512, RS256, RS384 or RS512"

// Algs are the algorithms whose signatures are verified, best first.
func Algs() []string {
	return []string{ES256, ES384, EdDSA, Ed25519, PS256, PS384, PS512, RS256, RS384, RS512}
}

const (
	minRSABits = 2048
	maxRSABits = 8192 // beyond, one verification is an attack
	minRSAExp  = 65537
	maxKeyID   = 256
)

// Key is a public signing key: *ecdsa.PublicKey, ed25519.PublicKey or
// *rsa.PublicKey, with the one algorithm it may be used with. The kid may be empty.
type Key struct {
	ID, Alg string
	Public  crypto.PublicKey

	unnamed bool // its owner named no algorithm
}

// takes tells whether a signature under alg may be of this key. The two names of the one
// algorithm for Ed25519 are both taken where the key's owner names none (RFC 9864 §2.2).
func (k Key) takes(alg string) bool {
	return alg == k.Alg || k.unnamed && k.Alg == EdDSA && alg == Ed25519
}

func knownAlg(alg string) bool {
	switch alg {
	case ES256, ES384, EdDSA, Ed25519:
		return true
	}
	return ofRSA(alg)
}

// ofRSA tells the algorithms of RSA keys.
func ofRSA(alg string) bool {
	switch alg {
	case RS256, RS384, RS512, PS256, PS384, PS512:
		return true
	}
	return false
}

// For is the key for the one algorithm that its owner has registered for a use of it: a
// key that names none is of that one, where it fits. "" says nothing. So it is never the
// token that chooses (RFC 8725 §3.1).
func (k Key) For(alg string) Key {
	if named := (Key{ID: k.ID, Alg: alg, Public: k.Public}); k.unnamed && alg != "" && named.fits() == nil {
		return named
	}
	return k
}

// Check tells whether the key is sound and fits its algorithm: point on the curve,
// RSA of 2048 to 8192 bits with an odd exponent of at least 65537.
func (k Key) Check() error {
	if len(k.ID) > maxKeyID || !utf8.ValidString(k.ID) {
		return fmt.Errorf("%w: kid must be at most %d bytes of UTF-8", ErrKey, maxKeyID)
	}
	for i := range len(k.ID) {
		if k.ID[i] < 0x20 || k.ID[i] == 0x7f {
			return fmt.Errorf("%w: kid holds a control character", ErrKey)
		}
	}
	if err := k.fits(); err != nil {
		return err
	}
	switch pub := k.Public.(type) {
	case *ecdsa.PublicKey:
		if _, err := pub.ECDH(); err != nil { // checks the point
			return fmt.Errorf("%w: its point is not on %s", ErrKey, pub.Params().Name)
		}
	case *rsa.PublicKey:
		if pub.N.Bit(0) == 0 {
			return fmt.Errorf("%w: the RSA modulus is even", ErrKey)
		}
	}
	return nil
}

// fits compares type, curve and size with the algorithm: the part of Check that
// costs nothing and that every Verify repeats.
func (k Key) fits() error {
	switch pub := k.Public.(type) {
	case *ecdsa.PublicKey:
		if pub != nil && (k.Alg == ES256 && pub.Curve == elliptic.P256() || k.Alg == ES384 && pub.Curve == elliptic.P384()) {
			return nil
		}
		return fmt.Errorf("%w: an EC key needs P-256 with ES256 or P-384 with ES384", ErrKey)
	case ed25519.PublicKey:
		if len(pub) == ed25519.PublicKeySize && (k.Alg == EdDSA || k.Alg == Ed25519) {
			return nil
		}
		return fmt.Errorf("%w: an Ed25519 key needs 32 bytes and EdDSA or Ed25519", ErrKey)
	case *rsa.PublicKey:
		if pub == nil || pub.N == nil || !ofRSA(k.Alg) {
			return fmt.Errorf("%w: an RSA key needs RS256, RS384, RS512, PS256, PS384 or PS512", ErrKey)
		}
		if n := pub.N.BitLen(); n < minRSABits || n > maxRSABits {
			return fmt.Errorf("%w: an RSA modulus has %d to %d bits", ErrKey, minRSABits, maxRSABits)
		}
		if pub.E < minRSAExp || pub.E&1 == 0 {
			return fmt.Errorf("%w: an RSA exponent is odd and at least %d", ErrKey, minRSAExp)
		}
		return nil
	}
	return fmt.Errorf("%w: only EC, Ed25519 and RSA public keys verify tokens", ErrKey)
}

// KeySet holds the keys of one issuer. It is immutable; a new set replaces it.
type KeySet struct {
	keys []Key
	byID map[string]int
}

// NewKeySet checks every key and refuses two of one kid.
func NewKeySet(keys []Key) (*KeySet, error) {
	set := &KeySet{keys: make([]Key, len(keys)), byID: make(map[string]int, len(keys))}
	copy(set.keys, keys)
	for i, k := range set.keys {
		if err := k.Check(); err != nil {
			return nil, fmt.Errorf("key %d of the set: %w", i+1, err)
		}
		if _, twice := set.byID[k.ID]; twice {
			return nil, fmt.Errorf("key %d of the set: %w: another has the same kid", i+1, ErrKey)
		}
		set.byID[k.ID] = i
	}
	return set, nil
}

// Lookup returns the key with exactly this kid. A token without kid ("") gets the
// set's only key, if it has just one.
func (s *KeySet) Lookup(kid string) (Key, bool) {
	if i, ok := s.byID[kid]; ok {
		return s.keys[i], true
	}
	if kid == "" && len(s.keys) == 1 {
		return s.keys[0], true
	}
	return Key{}, false
}

// Len is the number of keys.
func (s *KeySet) Len() int { return len(s.keys) }
