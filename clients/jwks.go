package clients

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

// jwk holds the public members of a JWK that are kept (RFC 7517 §4, RFC 7518 §6).
type jwk struct {
	Type   string   `json:"kty"`
	Use    string   `json:"use,omitempty"`
	Ops    []string `json:"key_ops,omitempty"`
	Alg    string   `json:"alg,omitempty"`
	ID     string   `json:"kid,omitempty"`
	Curve  string   `json:"crv,omitempty"`
	X      string   `json:"x,omitempty"`
	Y      string   `json:"y,omitempty"`
	N      string   `json:"n,omitempty"`
	E      string   `json:"e,omitempty"`
	Chain  []string `json:"x5c,omitempty"`
	Thumbs string   `json:"x5t#S256,omitempty"`
}

func (r *Registration) hasJWKS() bool { return len(r.JWKS) > 0 && string(r.JWKS) != "null" }

// jwkSet reads the set for what no signature verifier looks at.
func (r *Registration) jwkSet() (set struct {
	Keys []jwk `json:"keys"`
}) {
	if r.hasJWKS() && len(r.JWKS) <= maxJWKS && json.Unmarshal(r.JWKS, &set) != nil {
		set.Keys = nil
	}
	return set
}

// jwks reads the public keys and returns the set in our own form: what a verifier
// uses, and if there are any, keys to encrypt to and certificates.
func (r *Registration) jwks() ([]byte, error) {
	if !r.hasJWKS() {
		return nil, nil
	}
	if len(r.JWKS) > maxJWKS {
		return nil, bad("jwks", "at most %d bytes", maxJWKS)
	}
	set := r.jwkSet()
	// A key without use may serve both ends, so it is kept as it came.
	more := r.encrypts() || slices.ContainsFunc(set.Keys, func(k jwk) bool { return k.Use == "enc" || len(k.Chain) > 0 })
	keys, err := verify.ParseJWKS(r.JWKS)
	switch {
	// A certificate's key may be of any kind that TLS takes.
	case errors.Is(err, verify.ErrNoKey) && more && !r.verifies():
	case err != nil:
		return nil, bad("jwks", "%v", err)
	case !more:
		return verify.AppendJWKS(nil, keys), nil
	}
	return json.Marshal(set)
}

// verifies tells whether signatures of the client are checked by its keys.
func (r *Registration) verifies() bool {
	return r.AuthMethod == string(oauth.AuthPrivateKeyJWT) || r.RequestObjectAlg != "" || r.RequireRequestObject
}

// ownEncryption tells whether its access tokens are encrypted to a key of its own.
func (r *Registration) ownEncryption() bool {
	return r.AccessTokenEncryptedAlg != "" && (r.AccessTokenEncryptedFor == "" || r.AccessTokenEncryptedFor == r.ClientID)
}

// encrypts tells whether something is encrypted to keys of the client.
func (r *Registration) encrypts() bool {
	return r.IDTokenEncryptedAlg != "" || r.UserinfoEncryptedAlg != "" || r.ownEncryption()
}
