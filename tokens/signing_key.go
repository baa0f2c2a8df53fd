package tokens

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/tokens/verify"
)

// rsaBits is the size of RSA keys: the least that RFC 7518 §3.3 allows and three
// times as fast as 3072; keys live for weeks.
const rsaBits = 2048

// NewSigningKey makes a key pair for one tenant and algorithm, the private part
// sealed. Its id is its thumbprint (RFC 7638). The caller proposes it, and sets
// when it may sign.
func NewSigningKey(ring *seal.Keyring, tenant, alg string) (*state.SigningKey, error) {
	private, err := generate(alg)
	if err != nil {
		return nil, fmt.Errorf("make a signing key for %s: %w", alg, err)
	}
	kid, err := verify.Thumbprint(private.Public())
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return nil, fmt.Errorf("encode a public key for %s: %w", alg, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("encode a signing key for %s: %w", alg, err)
	}
	sealed, err := ring.Seal(signingKeyLabel(tenant, kid, alg), der)
	clear(der)
	if err != nil {
		return nil, fmt.Errorf("seal a signing key for %s: %w", alg, err)
	}
	return &state.SigningKey{Tenant: tenant, Id: kid, Alg: alg, Sealed: sealed, PublicKey: public}, nil
}

// signingKeyLabel binds a sealed key to its row. The length keeps a tenant's name
// from running into what follows.
func signingKeyLabel(tenant, kid, alg string) string {
	return fmt.Sprintf("signing-key/%d:%s/%s/%s", len(tenant), tenant, alg, kid)
}

func generate(alg string) (crypto.Signer, error) {
	switch alg {
	case verify.ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case verify.EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case verify.PS256, verify.RS256:
		return rsa.GenerateKey(rand.Reader, rsaBits)
	}
	return nil, fmt.Errorf("algorithm %q is none of %v", alg, Algs())
}

// openSigningKey unseals a row's private key and checks that it is the row's.
func openSigningKey(ring *seal.Keyring, row *state.SigningKey) (crypto.Signer, error) {
	der, err := ring.Open(signingKeyLabel(row.GetTenant(), row.GetId(), row.GetAlg()), row.GetSealed())
	if err != nil {
		return nil, fmt.Errorf("open signing key %s: %w", row.GetId(), err)
	}
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("signing key %s is damaged: rotate it", row.GetId()) // the library's text could quote the key
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("signing key %s can't sign: rotate it", row.GetId())
	}
	public := verify.Key{ID: row.GetId(), Alg: row.GetAlg(), Public: private.Public()}
	kid, err := verify.Thumbprint(private.Public())
	if err = errors.Join(err, public.Check()); err != nil {
		return nil, fmt.Errorf("signing key %s: %w", row.GetId(), err)
	}
	if kid != row.GetId() {
		return nil, fmt.Errorf("signing key %s is another key than its row says: rotate it", row.GetId())
	}
	return private, nil
}

// publicKey is the row's public part.
func publicKey(row *state.SigningKey) (verify.Key, error) {
	parsed, err := x509.ParsePKIXPublicKey(row.GetPublicKey())
	if err != nil {
		return verify.Key{}, fmt.Errorf("public part of signing key %s: %w", row.GetId(), err)
	}
	k := verify.Key{ID: row.GetId(), Alg: row.GetAlg(), Public: parsed}
	if err := k.Check(); err != nil {
		return verify.Key{}, fmt.Errorf("public part of signing key %s: %w", row.GetId(), err)
	}
	return k, nil
}
