package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/keyraft/keyraft/cluster/ca"
)

// serverConfig chooses by what the client offers. Only a client that offers
// the join protocol and nothing else is let in without a certificate, and it
// can then negotiate nothing else.
func (m *Mux) serverConfig() *tls.Config {
	peers := m.baseConfig()
	peers.NextProtos = []string{protoRaft, protoGRPC}
	peers.ClientAuth = tls.RequireAnyClientCert // verified by VerifyConnection, by the same code as on dialling
	peers.VerifyConnection = func(cs tls.ConnectionState) error { return m.verify(cs, x509.ExtKeyUsageClientAuth, "") }
	join := m.baseConfig()
	join.NextProtos = []string{protoJoin}
	join.ClientAuth = tls.NoClientCert
	choose := peers.Clone()
	choose.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Equal(hello.SupportedProtos, join.NextProtos) {
			return join, nil
		}
		return peers, nil
	}
	return choose
}

func (m *Mux) clientConfig(proto, node string) *tls.Config {
	c := m.baseConfig()
	c.NextProtos = []string{proto}
	// No name is verified by the library: a raft address names no node. verify
	// checks the chain and the identity on every connection.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(cs tls.ConnectionState) error { return m.verify(cs, x509.ExtKeyUsageServerAuth, node) }
	return c
}

// baseConfig is common to both sides. There is no resumption: a resumed session
// would carry the verdict of an earlier day.
func (m *Mux) baseConfig() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		Time:                   m.cfg.Now,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return m.cfg.Certificate() },
		GetClientCertificate:   func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.cfg.Certificate() },
	}
}

// verify is the one judgement on a peer. node is the id that it must have;
// empty means any that Check accepts.
func (m *Mux) verify(cs tls.ConnectionState, usage x509.ExtKeyUsage, node string) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the peer showed no certificate")
	}
	if cs.DidResume {
		return errors.New("the peer resumed a session, which this port never offers")
	}
	leaf := cs.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots:       m.cfg.Authorities(),
		CurrentTime: m.cfg.Now(),
		KeyUsages:   []x509.ExtKeyUsage{usage},
	}); err != nil {
		return fmt.Errorf("the peer's certificate is not a valid one of this cluster: %w", err)
	}
	id, err := ca.IdentityOf(leaf)
	if err != nil {
		return err
	}
	if id.ClusterID != m.cfg.ClusterID {
		return fmt.Errorf("the peer is of cluster %q, this is cluster %q", id.ClusterID, m.cfg.ClusterID)
	}
	if node != "" && id.NodeID != node {
		return fmt.Errorf("node %q answered where node %q was expected; is its address in the configuration out of date?", id.NodeID, node)
	}
	if err := m.cfg.Check(id); err != nil {
		return fmt.Errorf("peer %q is refused: %w", id.NodeID, err)
	}
	return nil
}

// dial opens a connection to another node's port, at most for HandshakeTimeout.
func (m *Mux) dial(ctx context.Context, addr, proto, node string) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.HandshakeTimeout)
	defer cancel()
	raw, err := m.cfg.Dial(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("dial the cluster port of %s: %w", addr, err)
	}
	c := &conn{Conn: tls.Client(raw, m.clientConfig(proto, node)), mux: m, usage: x509.ExtKeyUsageServerAuth}
	if err := m.enter(c); err != nil {
		_ = raw.Close()
		return nil, err
	}
	err = c.HandshakeContext(ctx)
	if err == nil && c.ConnectionState().NegotiatedProtocol != proto {
		err = fmt.Errorf("the peer does not speak %s", proto)
	}
	if err == nil {
		err = m.admit(c)
	}
	if err != nil {
		c.abort()
		return nil, fmt.Errorf("handshake with the cluster port of %s: %w", addr, err)
	}
	return c, nil
}
