package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
)

// maxRequest is far above the 250 bytes of a P-256 request without attributes.
const maxRequest = 4096

// NewRequest makes a fresh P-256 key for a node and the request that proves it.
// keyDER is PKCS #8, in clear: it never leaves the node, and is stored with
// mode 0600 or sealed. The node id in the request is for people who read it;
// the authority decides the name.
func NewRequest(nodeID string) (keyDER, csrDER []byte, err error) {
	if err := ValidID(nodeID); err != nil {
		return nil, nil, fmt.Errorf("node id: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make the key of node %q: %w", nodeID, err)
	}
	csrDER, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: nodeID}}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign the certificate request of node %q: %w", nodeID, err)
	}
	keyDER, err = x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the key of node %q: %w", nodeID, err)
	}
	return keyDER, csrDER, nil
}

// requestKey is all that is ever taken from a request: its public key, when it
// is P-256 and its holder signed the request with it.
func requestKey(csrDER []byte) (*ecdsa.PublicKey, error) {
	if len(csrDER) > maxRequest {
		return nil, fmt.Errorf("the certificate request has %d bytes, at most %d are allowed", len(csrDER), maxRequest)
	}
	request, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		return nil, fmt.Errorf("parse the certificate request: %w", err)
	}
	// The type is checked before the signature, so that nobody makes us verify
	// with a huge RSA key.
	key, ok := request.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the certificate request's key is not ECDSA P-256; make the request with this version's own join command")
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the certificate request is not signed by its own key: %w", err)
	}
	return key, nil
}
