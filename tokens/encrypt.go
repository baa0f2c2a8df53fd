package tokens

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/keyraft/keyraft/internal/oauth"
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
	if err := offered(alg); err != nil {
		return dst, err
	}
	key, err := verify.FindEncryptionKey(jwks, alg)
	if err != nil {
		return dst, fmt.Errorf("encrypt for the client: %w", err)
	}
	return EncryptTo(dst, key, alg, enc, cty, inner)
}

// EncryptTo is Encrypt for a key that was found before.
func EncryptTo(dst []byte, key verify.EncryptionKey, alg, enc, cty string, inner []byte) ([]byte, error) {
	if enc == "" {
		enc = DefaultEncryption
	}
	if err := offered(alg); err != nil {
		return dst, err
	}
	if !slices.Contains(verify.EncryptionMethods(), enc) {
		return dst, fmt.Errorf("encrypt with %q: that is not offered; register the client anew", enc)
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

func offered(alg string) error {
	if !slices.Contains(verify.EncryptionAlgs(), alg) {
		return fmt.Errorf("encrypt with %q: that is not offered; register the client anew", alg)
	}
	return nil
}

// IsEncrypted tells whether a token is a JWE in compact form (RFC 7516 §7.1): this server
// makes such for resource servers, and can read none.
func IsEncrypted(token string) bool {
	header, rest, _ := strings.Cut(token, ".")
	if strings.Count(rest, ".") != 3 || len(header) > maxEncryptedHeader {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(header)
	var said struct {
		Enc string `json:"enc"`
	}
	return err == nil && json.Unmarshal(raw, &said) == nil && said.Enc != ""
}

// ErrEncrypted refuses to tell of such a token. Whoever has the key has the signed token
// inside, of which everything can be asked.
var ErrEncrypted = oauth.InvalidRequest.With("the token is encrypted to its resource server's key, so nothing can be told of it here; decrypt it there and ask about the signed token inside")

// maxEncryptedHeader bounds the header of a JWE that is looked at, in bytes of base64url.
const maxEncryptedHeader = 4 << 10
