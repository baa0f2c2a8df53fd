package ca

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

const (
	scheme    = "keyraft"
	dnsDomain = "keyraft.internal"
	// maxID keeps a gossip record below 200 bytes and a name readable.
	maxID = 64
)

// Identity is who a node certificate says its holder is. Its form in the
// certificate is one URI name, keyraft://<cluster>/<generation>/<node>.
type Identity struct {
	ClusterID string
	NodeID    string
	// Generation is the cluster's recovery generation when the certificate was
	// made: it rises when a cluster is recovered or restored, so that members
	// of the old one are told apart (rule R17).
	Generation uint64
	// Serial is the certificate's serial number in lower-case hex. IdentityOf
	// fills it in; Issue ignores it. It tells the certificates of one node id
	// apart: that of a removed node from that of its successor.
	Serial string
}

// String is the identity as in the certificate's URI name.
func (id Identity) String() string { return id.uri().String() }

func (id Identity) uri() *url.URL {
	return &url.URL{Scheme: scheme, Host: id.ClusterID, Path: "/" + strconv.FormatUint(id.Generation, 10) + "/" + id.NodeID}
}

func (id Identity) validate() error {
	if err := ValidID(id.ClusterID); err != nil {
		return fmt.Errorf("cluster id: %w", err)
	}
	if err := ValidID(id.NodeID); err != nil {
		return fmt.Errorf("node id: %w", err)
	}
	return nil
}

// ValidID checks a node or cluster id: 1 to 64 of a-z, 0-9 and the hyphen.
func ValidID(id string) error {
	if id == "" {
		return errors.New("an id is missing; choose 1 to 64 of a-z, 0-9 and -")
	}
	if len(id) > maxID {
		return fmt.Errorf("an id has %d characters; choose 1 to %d of a-z, 0-9 and -", len(id), maxID)
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("id %q has a character that is not allowed; choose 1 to %d of a-z, 0-9 and -", id, maxID)
		}
	}
	return nil
}

// DNSName is the fixed DNS name in a node's certificate. It is never looked
// up: addresses change, the name stays.
func DNSName(nodeID string) string { return nodeID + "." + dnsDomain }

// IdentityOf reads the identity from a node certificate. It accepts exactly
// the form that Issue writes. It says nothing about trust: verify the chain
// first.
func IdentityOf(cert *x509.Certificate) (Identity, error) {
	if cert.IsCA {
		return Identity{}, errors.New("the certificate is an authority's, not a node's")
	}
	if len(cert.URIs) != 1 {
		return Identity{}, fmt.Errorf("the certificate has %d URI names, want one, %s://<cluster>/<generation>/<node>", len(cert.URIs), scheme)
	}
	id, err := parseIdentity(cert.URIs[0].String())
	if err != nil {
		return Identity{}, err
	}
	if cert.SerialNumber != nil {
		id.Serial = cert.SerialNumber.Text(16)
	}
	return id, nil
}

func parseIdentity(text string) (Identity, error) {
	bad := fmt.Errorf("the certificate's URI name is not of the form %s://<cluster>/<generation>/<node>", scheme)
	rest, ok := strings.CutPrefix(text, scheme+"://")
	if !ok {
		return Identity{}, bad
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 3 {
		return Identity{}, bad
	}
	generation, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return Identity{}, bad
	}
	id := Identity{ClusterID: parts[0], Generation: generation, NodeID: parts[2]}
	// The comparison refuses a second spelling of one identity, such as 007.
	if id.validate() != nil || id.String() != text {
		return Identity{}, bad
	}
	return id, nil
}
