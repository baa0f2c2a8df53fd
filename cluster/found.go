package cluster

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/cluster/ca"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/seal"
)

// Names of the cluster's shared keys that this room uses.
const (
	keyCA            = "ca"
	keyGossip        = "gossip"         // of the nodes' pool
	keyGatewayGossip = "gateway-gossip" // of the gateways' pool
	keyHash          = "hash"           // of stored secrets
)

// keyLabel is the label under which a version of a cluster key is sealed.
func keyLabel(name string, version uint32) string {
	return fmt.Sprintf("cluster-key/%s/%d", name, version)
}

// bootstrapFile holds the first command (sealed keys and hashes only) until it
// is applied, so that a node that dies in between makes the same cluster again.
const bootstrapFile = "bootstrap.pending"

// found makes a new cluster of this node: its name, its authority, its
// certificate, its gossip keys.
func (n *Node) found() error {
	cmd := n.cfg.Bootstrap
	name := make([]byte, 8)
	if _, err := rand.Read(name); err != nil {
		return err
	}
	cluster := "k" + hex.EncodeToString(name)
	now := n.cfg.Now()
	authority, err := ca.Create(cluster, now)
	if err != nil {
		return err
	}
	key, csr, err := ca.NewRequest(n.cfg.NodeID)
	if err != nil {
		return err
	}
	cert, serial, err := issue(authority, csr, ca.Identity{ClusterID: cluster, NodeID: n.cfg.NodeID, Generation: 1}, now)
	if err != nil {
		return err
	}
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		return err
	}
	public := sha256.Sum256(parsed.RawSubjectPublicKeyInfo)
	sealedKey, err := n.keys.Seal(nodeKeyLabel(cluster, n.cfg.NodeID), key)
	if err != nil {
		return err
	}
	n.id = &identity{
		ClusterID: cluster, NodeID: n.cfg.NodeID, Generation: 1, CA: authority.CertDER(), Cert: cert,
		SealedKey: sealedKey,
	}
	if err := n.id.open(n.keys); err != nil {
		return err
	}
	cmd.Cluster.Id, cmd.Cluster.Generation = cluster, 1
	cmd.Cluster.CreatedAt, cmd.Cluster.SealCheck = now.UnixMilli(), n.keys.CheckValue()
	cmd.Node = &state.Node{
		Id: n.cfg.NodeID, Generation: 1, PublicKey: public[:], Serial: serial, JoinedAt: now.UnixMilli(),
		FeatureLevel: command.Level, Version: n.cfg.Version, ApiAddr: n.cfg.APIAddr,
	}
	if err := n.addClusterKeys(cmd, authority); err != nil {
		return err
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(cmd)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(n.cfg.DataDir, bootstrapFile), raw); err != nil {
		return err
	}
	return n.id.save(n.cfg.DataDir)
}

func (n *Node) addClusterKeys(cmd *command.Bootstrap, authority *ca.Authority) error {
	add := func(name string, plain, public []byte) error {
		sealed, err := n.keys.Seal(keyLabel(name, 1), plain)
		cmd.Keys = append(cmd.Keys, &state.ClusterKey{
			Name: name, Version: 1, Sealed: sealed, PublicPart: public, Status: "active", CreatedAt: cmd.GetCluster().GetCreatedAt(),
		})
		return err
	}
	gossip, gateways := seal.Generate(), seal.Generate()
	return errors.Join(
		add(keyCA, authority.KeyDER(), authority.CertDER()),
		add(keyGossip, gossip[:], nil),
		add(keyGatewayGossip, gateways[:], nil),
	)
}

func (n *Node) pendingBootstrap() bool {
	_, err := os.Stat(filepath.Join(n.cfg.DataDir, bootstrapFile))
	return err == nil
}

// bootstrapRaft writes the first configuration, this node alone, unless a start
// before this one has: a node may die at any point of its first start.
func (n *Node) bootstrapRaft(config *raft.Config) error {
	err := raft.BootstrapCluster(config, n.store.Log(), n.store.Stable(), n.snapshots, n.transport, raft.Configuration{
		Servers: []raft.Server{{Suffrage: raft.Voter, ID: config.LocalID, Address: n.transport.LocalAddr()}},
	})
	if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("write the first configuration: %w", err)
	}
	return nil
}

// finishBootstrap commits the first command, once.
func (n *Node) finishBootstrap(ctx context.Context) error {
	path := filepath.Join(n.cfg.DataDir, bootstrapFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, ok := n.fsm.View().Cluster(); !ok {
		cmd := &command.Bootstrap{}
		if err := proto.Unmarshal(raw, cmd); err != nil {
			return fmt.Errorf("%s is damaged: %w", bootstrapFile, err)
		}
		r, err := n.Propose(ctx, cmd)
		if err != nil {
			return err
		}
		if r.Reject != command.Accepted && r.Reject != command.Exists && r.Reject != command.EpochChanged {
			return r.Err()
		}
	}
	return os.Remove(path)
}

func (n *Node) certificate() (*tls.Certificate, error) { return n.id.cert.Load(), nil }

func (n *Node) authorities() *x509.CertPool { return n.id.pool }

func (n *Node) serial() string {
	got, err := ca.IdentityOf(n.id.cert.Load().Leaf)
	if err != nil {
		return ""
	}
	return got.Serial
}

// Knows tells whether fingerprint is of this cluster's authority: who has it was
// given a join token once.
func (n *Node) Knows(fingerprint [32]byte) bool {
	mine := sha256.Sum256(n.id.CA)
	return subtle.ConstantTimeCompare(mine[:], fingerprint[:]) == 1
}
