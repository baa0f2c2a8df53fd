// Package ca is the certificate authority of one cluster: an ECDSA P-256 key
// that signs the certificates by which nodes know each other, the names in
// those certificates, and the join token by which a new node finds the cluster
// and proves that it was invited.
//
// A certificate is made from this package's template alone. Of a certificate
// request nothing is taken but its public key, so no request can ask for
// another node's name, for a longer life or for the right to sign.
//
// Times are passed in by the caller; this package reads no clock. Errors say
// what was refused and never hold key or token bytes.
//
// An Authority is immutable and safe for concurrent use; so are the functions.
//
// Sources: RFC 5280 (profile, path length, name constraints), RFC 2986
// (requests), SPIFFE X.509-SVID §2 (one URI SAN names the workload).
package ca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/url"
	"time"
)

const (
	// AuthorityLifetime is how long the cluster's own certificate lives. It is
	// pinned by fingerprint in join tokens and replaced only by an operator.
	AuthorityLifetime = 10 * 365 * 24 * time.Hour
	// NodeLifetime is how long a node certificate lives; nodes renew over the
	// cluster port long before its end.
	NodeLifetime = 90 * 24 * time.Hour
	// Backdate is how far before "now" a certificate begins, so that a peer
	// whose clock is behind still accepts it.
	Backdate = time.Hour
)

// Authority is the certificate authority of one cluster. Its key is the
// cluster's most valuable secret: print, log and JSON forms hide it.
type Authority struct {
	cluster string
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	keyDER  []byte
}

// Create makes a new authority for the cluster clusterID ([a-z0-9-]{1,64}),
// valid from now for AuthorityLifetime.
func Create(clusterID string, now time.Time) (*Authority, error) {
	if err := ValidID(clusterID); err != nil {
		return nil, fmt.Errorf("cluster id: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of the cluster's authority: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Keyraft cluster " + clusterID},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(AuthorityLifetime),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // signs nodes, never another authority
		URIs:                  []*url.URL{{Scheme: scheme, Host: clusterID}},
		// A stolen authority must not be able to name anything but nodes.
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{dnsDomain},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of the cluster's authority: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key of the cluster's authority: %w", err)
	}
	return Load(der, keyDER)
}

// Load reads back what CertDER and KeyDER gave. It refuses a key that does not
// belong to the certificate and a certificate that is no cluster authority.
func Load(certDER, keyDER []byte) (*Authority, error) {
	cert, cluster, err := ParseAuthority(certDER)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		// The parser's own words are not passed on: they may quote key bytes.
		return nil, errors.New("the key of the cluster's authority is not PKCS #8; restore it from a backup of the cluster")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("the key of the cluster's authority is a %T, want ECDSA P-256", parsed)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("the key of the cluster's authority does not belong to its certificate; restore both from the same backup")
	}
	return &Authority{cluster: cluster, cert: cert, key: key, keyDER: bytes.Clone(keyDER)}, nil
}

// ParseAuthority reads the certificate of a cluster's authority and returns it
// with the cluster id that it names. It says nothing about trust: compare its
// Fingerprint first, or verify against a pool.
func ParseAuthority(certDER []byte) (*x509.Certificate, string, error) {
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, "", fmt.Errorf("parse the certificate of the cluster's authority: %w", err)
	}
	if !cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, "", errors.New("the certificate is no authority: it may not sign others")
	}
	if err := cert.CheckSignatureFrom(cert); err != nil {
		return nil, "", fmt.Errorf("the authority's certificate is not signed by itself: %w", err)
	}
	if len(cert.URIs) != 1 {
		return nil, "", fmt.Errorf("the authority's certificate has %d URI names, want one, %s://<cluster id>", len(cert.URIs), scheme)
	}
	cluster := cert.URIs[0].Host
	if ValidID(cluster) != nil || cert.URIs[0].String() != scheme+"://"+cluster {
		return nil, "", fmt.Errorf("the authority's certificate does not name a cluster, want %s://<cluster id>", scheme)
	}
	return cert, cluster, nil
}

// ClusterID is the cluster that this authority signs for.
func (a *Authority) ClusterID() string { return a.cluster }

// CertDER is the authority's certificate; a copy.
func (a *Authority) CertDER() []byte { return bytes.Clone(a.cert.Raw) }

// KeyDER is the authority's private key in PKCS #8, in clear; a copy. Seal it
// before it is stored or sent.
func (a *Authority) KeyDER() []byte { return bytes.Clone(a.keyDER) }

// Fingerprint is SHA-256 over CertDER: what a join token pins.
func (a *Authority) Fingerprint() [32]byte { return sha256.Sum256(a.cert.Raw) }

// Issue signs a certificate for the node id, valid from now for NodeLifetime
// but never longer than the authority itself. csrDER is a PKCS #10 request;
// only its public key is used, after its signature has proved that the sender
// holds the private key. The serial is random: IdentityOf tells it.
//
// Issue does not know who may ask: that id is free and invited is the caller's
// to check first.
func (a *Authority) Issue(csrDER []byte, id Identity, now time.Time) (certDER []byte, err error) {
	if err := id.validate(); err != nil {
		return nil, err
	}
	if id.ClusterID != a.cluster {
		return nil, fmt.Errorf("this authority signs for cluster %q, not for %q", a.cluster, id.ClusterID)
	}
	if now.Before(a.cert.NotBefore) || !now.Before(a.cert.NotAfter) {
		return nil, fmt.Errorf("the cluster's authority is valid from %s to %s; check the clock or rotate the authority",
			a.cert.NotBefore.Format(time.RFC3339), a.cert.NotAfter.Format(time.RFC3339))
	}
	public, err := requestKey(csrDER)
	if err != nil {
		return nil, err
	}
	if public.Equal(a.cert.PublicKey) {
		return nil, errors.New("the request uses the key of the authority itself; make a key for the node")
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: id.NodeID},
		NotBefore:             latest(now.Add(-Backdate), a.cert.NotBefore),
		NotAfter:              earliest(now.Add(NodeLifetime), a.cert.NotAfter),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, // and IsCA false
		URIs:                  []*url.URL{id.uri()},
		DNSNames:              []string{DNSName(id.NodeID)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of node %q: %w", id.NodeID, err)
	}
	return der, nil
}

// NodeCertificate joins a node's certificate, its private key (PKCS #8) and
// the authority's certificate into what a TLS endpoint presents. The authority
// is part of the chain because a joining node, which has only its fingerprint,
// verifies against what it is shown.
func NodeCertificate(certDER, keyDER, authorityDER []byte) (*tls.Certificate, error) {
	leaf, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, fmt.Errorf("parse the node's certificate: %w", err)
	}
	authority, _, err := ParseAuthority(authorityDER)
	if err != nil {
		return nil, err
	}
	if err := leaf.CheckSignatureFrom(authority); err != nil {
		return nil, fmt.Errorf("the node's certificate was not issued by this cluster's authority; join again: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return nil, errors.New("the node's key is not PKCS #8; remove the node and join again")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("the node's key does not belong to its certificate; remove the node and join again")
	}
	return &tls.Certificate{
		Certificate: [][]byte{leaf.Raw, authority.Raw},
		PrivateKey:  key,
		Leaf:        leaf,
	}, nil
}

// Pool is a pool of these authorities, for verifying peers.
func Pool(authoritiesDER ...[]byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, der := range authoritiesDER {
		cert, _, err := ParseAuthority(der)
		if err != nil {
			return nil, err
		}
		pool.AddCert(cert)
	}
	return pool, nil
}

// String names the cluster and hides the key.
func (a *Authority) String() string { return "authority of cluster " + a.cluster + " (key hidden)" }

// Format hides the key under every verb.
func (a *Authority) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(a.String())) }

// LogValue hides the key in structured logs.
func (a *Authority) LogValue() slog.Value { return slog.StringValue(a.String()) }

// MarshalJSON hides the key.
func (a *Authority) MarshalJSON() ([]byte, error) { return []byte(`"[hidden]"`), nil }

// newSerial gives a positive random number below 2^128 (RFC 5280 §4.1.2.2 asks
// for a unique one of at most 20 bytes).
func newSerial() (*big.Int, error) {
	limit := new(big.Int).Lsh(big.NewInt(1), 128)
	n, err := rand.Int(rand.Reader, limit.Sub(limit, big.NewInt(1)))
	if err != nil {
		return nil, fmt.Errorf("make a certificate's serial number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
