package transport

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/keyraft/keyraft/cluster/ca"
)

// DialJoin opens the connection of a node that has a join token but no
// certificate yet: addr and fingerprint come from the token. The server must
// show the authority that the fingerprint pins, and a node certificate that
// this authority signed; the cluster that both name must be one. Only then is
// anything sent, so the token's secret is safe with whoever answers.
//
// The result's ConnectionState (it is a *tls.Conn) holds the node's and the
// authority's certificates. Dialling and handshake are bounded by ctx and by
// 10 s; afterwards the caller sets its own deadlines.
func DialJoin(ctx context.Context, addr string, fingerprint [32]byte) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, defaultHandshake)
	defer cancel()
	dialer := &net.Dialer{KeepAliveConfig: keepAlive()}
	raw, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dial the cluster port of %s: %w", addr, err)
	}
	c := tls.Client(raw, &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		NextProtos:             []string{protoJoin},
		InsecureSkipVerify:     true, // verifyPinned does it, against the pinned authority
		VerifyConnection:       func(cs tls.ConnectionState) error { return verifyPinned(cs, fingerprint, time.Now()) },
	})
	err = c.HandshakeContext(ctx)
	if err == nil && c.ConnectionState().NegotiatedProtocol != protoJoin {
		err = errors.New("the server takes no join; is this the cluster port?")
	}
	if err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("handshake with the cluster port of %s: %w", addr, err)
	}
	return c, nil
}

// verifyPinned trusts nothing but the fingerprint.
func verifyPinned(cs tls.ConnectionState, fingerprint [32]byte, now time.Time) error {
	for _, shown := range cs.PeerCertificates {
		if sha256.Sum256(shown.Raw) != fingerprint {
			continue
		}
		authority, cluster, err := ca.ParseAuthority(shown.Raw)
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		roots.AddCert(authority)
		leaf := cs.PeerCertificates[0]
		if _, err := leaf.Verify(x509.VerifyOptions{
			Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}); err != nil {
			return fmt.Errorf("the server's certificate is not a valid one of the token's cluster: %w", err)
		}
		id, err := ca.IdentityOf(leaf)
		if err != nil {
			return err
		}
		if id.ClusterID != cluster {
			return fmt.Errorf("the server is of cluster %q, its authority of cluster %q", id.ClusterID, cluster)
		}
		return nil
	}
	return errors.New("the server is not of the cluster that made the join token: it does not show the authority of the token's fingerprint; ask for a new token and check the address")
}
