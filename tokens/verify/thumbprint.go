package verify

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"math/big"
)

// Thumbprint is the SHA-256 of a key's required members in the order of their names,
// as base64url (RFC 7638 §3, RFC 8037 App. A.3).
func Thumbprint(public crypto.PublicKey) (string, error) {
	var text string
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return "", fmt.Errorf("encode a public key: %w", err)
		}
		half := len(point) / 2
		text = `{"crv":"` + k.Params().Name + `","kty":"EC","x":"` + encoding.EncodeToString(point[1:1+half]) +
			`","y":"` + encoding.EncodeToString(point[1+half:]) + `"}`
	case ed25519.PublicKey:
		text = `{"crv":"Ed25519","kty":"OKP","x":"` + encoding.EncodeToString(k) + `"}`
	case *rsa.PublicKey:
		text = `{"e":"` + encoding.EncodeToString(big.NewInt(int64(k.E)).Bytes()) + `","kty":"RSA","n":"` + encoding.EncodeToString(k.N.Bytes()) + `"}`
	default:
		return "", fmt.Errorf("a public key of type %T has no thumbprint", public)
	}
	sum := sha256.Sum256([]byte(text))
	return encoding.EncodeToString(sum[:]), nil
}
