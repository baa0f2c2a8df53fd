package grants

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

// Fetch gets the document at a URL, of at most so many bytes.
type Fetch func(ctx context.Context, url string, limit int64) ([]byte, error)

// issuerKeys are the keys of trusted issuers: those of their records, and those that
// are fetched from where a record says. Safe for concurrent use.
type issuerKeys struct {
	known  verify.KeySets // by text
	remote verify.RemoteSets
}

var errFetch = oauth.TemporarilyUnavailable.With("the keys of the token's issuer can't be had now; try again in a minute").WithRetryAfter(30)

// candidates are the keys of an issuer that may have signed a token with this kid: one,
// or where the record names keys without an id, all of them. None is no error.
func (k *issuerKeys) candidates(ctx context.Context, i *state.TrustedIssuer, kid string, now int64) ([]verify.Key, error) {
	var set *verify.KeySet
	var err error
	switch {
	case len(i.GetCertificates()) > 0:
		return namedKeys(i.GetCertificates(), kid, now)
	case len(i.GetJwks()) > 0:
		set, err = k.known.Of(i.GetJwks())
	default:
		if set, err = k.remote.Of(ctx, i.GetJwksUri(), kid); errors.Is(err, verify.ErrNoSet) {
			err = errFetch
		}
	}
	if err != nil {
		return nil, err
	}
	if key, ok := set.Lookup(kid); ok {
		return []verify.Key{key}, nil
	}
	return nil, nil
}

// namedKeys are the public keys of certificates, or keys as they are, in DER, under the
// kid that the token says: such keys have none of their own. A certificate counts while
// it is valid.
func namedKeys(all [][]byte, kid string, now int64) ([]verify.Key, error) {
	var out []verify.Key
	for _, der := range all {
		public, valid, err := publicKey(der)
		if err != nil {
			return nil, fmt.Errorf("stored key of a trusted issuer: %w", err)
		}
		if !valid(now) {
			continue
		}
		alg, ok := algOf(public)
		if !ok {
			continue
		}
		out = append(out, verify.Key{ID: kid, Alg: alg, Public: public})
	}
	return out, nil
}

func publicKey(der []byte) (public any, valid func(now int64) bool, err error) {
	if c, err := x509.ParseCertificate(der); err == nil {
		return c.PublicKey, func(now int64) bool { return c.NotBefore.Unix() <= now && now < c.NotAfter.Unix() }, nil
	}
	public, err = x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, nil, errors.New("neither a certificate nor a public key (PKIX)")
	}
	return public, func(int64) bool { return true }, nil
}

// algOf is the one algorithm that a key without a word of its own verifies (RFC 8725
// §3.1): that of its curve, RS256 of an RSA key.
func algOf(public any) (alg string, ok bool) {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		switch p.Curve {
		case elliptic.P256():
			return verify.ES256, true
		case elliptic.P384():
			return verify.ES384, true
		}
	case ed25519.PublicKey:
		return verify.EdDSA, true
	case *rsa.PublicKey:
		return verify.RS256, true
	}
	return "", false
}
