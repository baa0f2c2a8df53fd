package clients

import (
	"context"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

// registered tells whether the certificate itself is in the client's key set (RFC 8705
// §2.2), or in what is found at its jwks_uri. A new certificate for the same key is
// another one, until it is there.
func (a *Authenticator) registered(ctx context.Context, c *state.Client, cert *x509.Certificate, now time.Time) (bool, error) {
	if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return false, nil
	}
	if c.GetJwksUri() == "" {
		found, err := listed(c.GetJwks(), cert)
		if err != nil {
			return false, fmt.Errorf("stored keys of client %q: %w", c.GetId(), err)
		}
		return found, nil
	}
	holds := func(document []byte) bool {
		found, err := listed(document, cert)
		return err == nil && found
	}
	document, err := a.document(ctx, c, holds)
	if errors.Is(err, verify.ErrNoSet) {
		return false, nil // the operator's log says why
	}
	return err == nil && holds(document), err
}

// listed tells whether a key of a JWK set has the certificate.
func listed(jwks []byte, cert *x509.Certificate) (bool, error) {
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(jwks, &set); err != nil {
		return false, err
	}
	for _, k := range set.Keys {
		if len(k.Chain) == 0 {
			continue
		}
		der, err := base64.StdEncoding.DecodeString(k.Chain[0])
		if err == nil && subtle.ConstantTimeCompare(der, cert.Raw) == 1 {
			return true, nil
		}
	}
	return false, nil
}

// checkCertificates holds the rules of self_signed_tls_client_auth at registration.
func (r *Registration) checkCertificates() error {
	found := false
	for i, k := range r.jwkSet().Keys {
		if len(k.Chain) == 0 {
			continue
		}
		der, err := base64.StdEncoding.DecodeString(k.Chain[0])
		if err == nil {
			_, err = x509.ParseCertificate(der)
		}
		if err != nil {
			return bad("jwks", "x5c of key %d does not begin with a certificate in base64 (RFC 7517 §4.7)", i+1)
		}
		found = true
	}
	if !found && r.JWKSURI == "" && r.AuthMethod == string(oauth.AuthSelfSignedTLS) {
		return bad("jwks", "self_signed_tls_client_auth needs a key with the certificate in its member x5c, or a jwks_uri where there is one")
	}
	return nil
}
