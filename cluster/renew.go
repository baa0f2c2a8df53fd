package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"

	"github.com/keyraft/keyraft/cluster/ca"
	"github.com/keyraft/keyraft/fsm/command"
)

// renewEvery is how often a node looks at its certificate's age.
const renewEvery = time.Hour

// renewLoop renews this node's certificate when a third of its life is left (Y5).
func (n *Node) renewLoop(ctx context.Context) {
	for {
		if err := n.renewDue(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("this node's certificate could not be renewed; trying again", "until", n.id.cert.Load().Leaf.NotAfter.Format(time.RFC3339), "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(renewEvery):
		}
	}
}

func (n *Node) renewDue(ctx context.Context) error {
	leaf := n.id.cert.Load().Leaf
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	if n.cfg.Now().Before(leaf.NotAfter.Add(-life / 3)) {
		return nil
	}
	return n.renew(ctx)
}

// renew issues a new certificate for this node's own key, from the authority that
// every node can open. Its serial is in the state before it is used, and the old
// one stays good beside it: a crash in between locks nobody out.
func (n *Node) renew(ctx context.Context) error {
	if err := n.prove(ctx); err != nil {
		return err
	}
	v := n.fsm.View()
	row, ok := v.Node(n.id.NodeID)
	if !ok || row.GetRemoved() {
		return errors.New("this node is no member")
	}
	authority, err := n.authority(v)
	if err != nil {
		return err
	}
	key, ok := n.id.cert.Load().PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return errors.New("this node's key is no ECDSA key")
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: n.id.NodeID}}, key)
	if err != nil {
		return err
	}
	cert, serial, err := issue(authority, csr, ca.Identity{ClusterID: n.id.ClusterID, NodeID: n.id.NodeID, Generation: n.id.Generation}, n.cfg.Now())
	if err != nil {
		return err
	}
	want := cloneNode(row)
	want.Serial, want.PreviousSerial = serial, n.serial()
	r, err := n.Propose(ctx, &command.PutNode{Node: want})
	if err := errors.Join(err, r.Err()); err != nil {
		return err
	}
	n.id.Cert = cert
	if err := n.id.open(n.keys); err != nil {
		return err
	}
	if err := n.id.save(n.cfg.DataDir); err != nil {
		return fmt.Errorf("keep the new certificate: %w", err)
	}
	n.log.Info("this node's certificate was renewed", "until", n.id.cert.Load().Leaf.NotAfter.Format(time.RFC3339))
	return nil
}
