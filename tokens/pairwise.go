package tokens

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/keyraft/keyraft/fsm/state"
)

// pairwiseLabel keeps a subject from being equal to anything else under that key.
const pairwiseLabel = "pairwise subject"

// SubjectPairwise is the subject_type of a client that knows a user by a name of its
// own sector's (OpenID Connect Core §8).
const SubjectPairwise = "pairwise"

// Subjects gives the names under which clients know users. Safe for concurrent use.
type Subjects struct{ shared *ClusterKeys }

// NewSubjects makes them over the cluster's keys.
func NewSubjects(shared *ClusterKeys) (*Subjects, error) {
	if shared == nil {
		return nil, errors.New("tokens: pairwise subjects need the cluster keys")
	}
	return &Subjects{shared}, nil
}

// Subject is the sub by which client knows user, and the sector of a pairwise one; ""
// where the user's id is public. The key never rotates, so the name never changes while
// the client stays in its sector.
func (s *Subjects) Subject(v *state.View, client *state.Client, user string) (subject, sector string, err error) {
	if client.GetSubjectType() != SubjectPairwise {
		return user, "", nil
	}
	if sector, err = sectorOf(client); err != nil {
		return "", "", err
	}
	key, _, err := s.shared.Newest(v, KeyPairwise)
	if err != nil {
		return "", "", err
	}
	mac := hmac.New(sha256.New, key[:])
	for _, part := range [...]string{pairwiseLabel, client.GetTenant(), sector, user} {
		mac.Write([]byte{byte(len(part) >> 8), byte(len(part))}) // so that no part forges a boundary
		mac.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), sector, nil
}

// sectorOf is the host of the client's sector_identifier_uri, or that of its redirect
// URIs (OpenID Connect Core §8.1). A client without either, or on loopback, where all
// applications have the same host, is a sector by itself.
func sectorOf(client *state.Client) (string, error) {
	own := "client " + client.GetId() // no host holds a space
	uris := client.GetRedirectUris()
	if uri := client.GetSectorIdentifierUri(); uri != "" {
		uris = []string{uri}
	}
	sector := ""
	for _, text := range uris {
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" {
			return "", fmt.Errorf("client %q is registered for pairwise subjects, but a redirect URI has no host: set sector_identifier_uri", client.GetId())
		}
		host := strings.ToLower(u.Hostname())
		if loopback(host) {
			host = own
		}
		if sector != "" && sector != host {
			return "", fmt.Errorf("client %q is registered for pairwise subjects, but its redirect URIs are of several hosts: set sector_identifier_uri", client.GetId())
		}
		sector = host
	}
	if sector == "" {
		return own, nil
	}
	return sector, nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}
