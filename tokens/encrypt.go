package tokens

import (
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/keyraft/keyraft/tokens/verify"
)

// DefaultEncryption encrypts the content where a client names the key management
// algorithm alone (OpenID Connect Registration §2).
const DefaultEncryption = "A128CBC-HS256"

// Encrypt appends inner to dst as a compact JWE (RFC 7516) for the client whose JWK set
// is jwks. cty is "JWT" where inner is one (RFC 7519 §5.2), else "". Nothing is
// compressed (JWT-16). The set was checked when it was registered, so an error means that
// it was not: it wraps verify.ErrKey or names the algorithm.
func Encrypt(dst, jwks []byte, alg, enc, cty string, inner []byte) ([]byte, error) {
	if enc == "" {
		enc = DefaultEncryption
	}
	if !slices.Contains(verify.EncryptionAlgs(), alg) || !slices.Contains(verify.EncryptionMethods(), enc) {
		return dst, fmt.Errorf("encrypt with %q and %q: that is not offered; register the client anew", alg, enc)
	}
	key, err := verify.FindEncryptionKey(jwks, alg)
	if err != nil {
		return dst, fmt.Errorf("encrypt for the client: %w", err)
	}
	var opts jose.EncrypterOptions
	if cty != "" {
		opts.WithContentType(jose.ContentType(cty))
	}
	e, err := jose.NewEncrypter(jose.ContentEncryption(enc), jose.Recipient{Algorithm: jose.KeyAlgorithm(alg), Key: key.Public, KeyID: key.ID}, &opts)
	if err != nil {
		return dst, fmt.Errorf("encrypt for the client: %w", err)
	}
	object, err := e.Encrypt(inner)
	if err != nil {
		return dst, fmt.Errorf("encrypt for the client: %w", err)
	}
	text, err := object.CompactSerialize()
	if err != nil {
		return dst, fmt.Errorf("encrypt for the client: %w", err)
	}
	return append(dst, text...), nil
}
