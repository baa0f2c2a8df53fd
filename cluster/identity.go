package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/keyraft/keyraft/cluster/ca"
	"github.com/keyraft/keyraft/internal/seal"
)

// identity is who this node is: what its certificate says. It is kept in
// node.json of the data folder, the private key sealed.
type identity struct {
	ClusterID  string `json:"cluster_id"`
	NodeID     string `json:"node_id"`
	Generation uint64 `json:"generation"`
	NonVoter   bool   `json:"non_voter"`
	CA         []byte `json:"ca"`          // DER
	Cert       []byte `json:"certificate"` // DER
	SealedKey  []byte `json:"sealed_key"`  // PKCS #8
	// The member that let this node in: it passes the first word to the leader.
	IntroducerID   string `json:"introducer_id,omitempty"`
	IntroducerAddr string `json:"introducer_addr,omitempty"`

	cert atomic.Pointer[tls.Certificate] // renewed while the node runs
	pool *x509.CertPool
}

const identityFile = "node.json"

func nodeKeyLabel(cluster, node string) string { return "node-key/" + cluster + "/" + node }

// loadIdentity reads node.json; nil when the folder holds no node yet.
func loadIdentity(dir string, keys *seal.Keyring) (*identity, error) {
	raw, err := os.ReadFile(filepath.Join(dir, identityFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read who this node is: %w", err)
	}
	id := &identity{}
	if err := parseIdentity(raw, id); err != nil {
		return nil, fmt.Errorf("%w; move the data folder away and join again with a new token", err)
	}
	return id, id.open(keys)
}

func parseIdentity(raw []byte, id *identity) error {
	if err := json.Unmarshal(raw, id); err != nil {
		return fmt.Errorf("%s is damaged: %w", identityFile, err)
	}
	return nil
}

// open unseals the key and builds what TLS needs.
func (id *identity) open(keys *seal.Keyring) error {
	key, err := keys.Open(nodeKeyLabel(id.ClusterID, id.NodeID), id.SealedKey)
	if err != nil {
		return fmt.Errorf("open this node's key: %w", err)
	}
	cert, err := ca.NodeCertificate(id.Cert, key, id.CA)
	if err != nil {
		return err
	}
	id.cert.Store(cert)
	if id.pool == nil { // a renewal keeps the authority, and the pool is in use then
		id.pool, err = ca.Pool(id.CA)
	}
	return err
}

// save writes node.json whole or not at all.
func (id *identity) save(dir string) error {
	raw, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, identityFile), raw)
}

// writeFile writes a file of mode 0600 whole or not at all, and synced.
func writeFile(path string, data []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// issue makes the certificate of a node from its request.
func issue(authority *ca.Authority, csr []byte, id ca.Identity, now time.Time) (cert []byte, serial string, err error) {
	cert, err = authority.Issue(csr, id, now)
	if err != nil {
		return nil, "", err
	}
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		return nil, "", err
	}
	got, err := ca.IdentityOf(parsed)
	return cert, got.Serial, err
}
