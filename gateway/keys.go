package gateway

import (
	"bytes"
	"fmt"

	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/keymanagers/match"
	"github.com/keyraft/keyraft/tokens/verify"
)

// keyring is who may vouch for a token: the match table and each issuer's keys.
// Immutable; a change builds a new one that shares the issuers that did not.
type keyring struct {
	table   *match.Table
	issuers map[string]*issuer
	apis    []match.API
}

// issuer is one issuer with its keys, and the seq of what it was made from.
type issuer struct {
	manager match.Manager
	keys    *verify.KeySet
	jwks    []byte
	at      uint64
}

func newKeyring(apis []match.API) (*keyring, error) {
	table, err := match.New(nil, apis)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return &keyring{table: table, apis: apis}, nil
}

// with gives the keyring of a whole key document. What a later event already
// told about an issuer stays: a node that lags can't bring old keys back.
func (k *keyring) with(doc *wire.Keys) (*keyring, error) {
	issuers := make(map[string]*issuer, len(doc.Issuers))
	for i := range doc.Issuers {
		s := &doc.Issuers[i]
		made, err := k.issuer(s.Tenant, s.KeyManager, s.Issuer, s.JWKS, doc.Head)
		if err != nil {
			return nil, err
		}
		issuers[s.Issuer] = made
	}
	for name, old := range k.issuers {
		if issuers[name] == nil && old.at > doc.Head {
			issuers[name] = old
		}
	}
	return k.rebuild(issuers)
}

// withEvent gives the keyring after a keys event that carries its JWKS.
func (k *keyring) withEvent(e *wire.Event) (*keyring, error) {
	made, err := k.issuer(e.Tenant, "", e.Issuer, e.Data, e.Seq)
	if err != nil {
		return nil, err
	}
	issuers := make(map[string]*issuer, len(k.issuers)+1)
	for name, s := range k.issuers {
		issuers[name] = s
	}
	issuers[e.Issuer] = made
	return k.rebuild(issuers)
}

func (k *keyring) issuer(tenant, name, url string, jwks []byte, at uint64) (*issuer, error) {
	old := k.issuers[url]
	if old != nil && name == "" {
		name = old.manager.Name
	}
	if name == "" {
		name = match.Resident
	}
	if old != nil && (old.at > at || old.manager.Tenant == tenant && old.manager.Name == name && bytes.Equal(old.jwks, jwks)) {
		return old, nil
	}
	keys, err := verify.ParseJWKS(jwks)
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", url, err)
	}
	set, err := verify.NewKeySet(keys)
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", url, err)
	}
	return &issuer{
		manager: match.Manager{Tenant: tenant, Name: name, Issuer: url, Own: name == match.Resident},
		keys:    set, jwks: jwks, at: at,
	}, nil
}

func (k *keyring) rebuild(issuers map[string]*issuer) (*keyring, error) {
	managers := make([]match.Manager, 0, len(issuers))
	for _, s := range issuers {
		managers = append(managers, s.manager)
	}
	table, err := match.New(managers, k.apis)
	if err != nil {
		return nil, err
	}
	return &keyring{table: table, issuers: issuers, apis: k.apis}, nil
}

// unplaced gives the same keys as of no seq, so that any document replaces them.
func (k *keyring) unplaced() *keyring {
	next := &keyring{table: k.table, issuers: make(map[string]*issuer, len(k.issuers)), apis: k.apis}
	for url, s := range k.issuers {
		free := *s
		free.at = 0
		next.issuers[url] = &free
	}
	return next
}

// document is what the cache file keeps of it.
func (k *keyring) document(cluster string, epoch, head uint64) *wire.Keys {
	doc := &wire.Keys{Cluster: cluster, Epoch: epoch, Head: head}
	for _, s := range k.issuers {
		doc.Issuers = append(doc.Issuers, wire.Issuer{
			Tenant: s.manager.Tenant, KeyManager: s.manager.Name, Issuer: s.manager.Issuer, JWKS: s.jwks,
		})
	}
	return doc
}

func (k *keyring) len() (n int) {
	for _, s := range k.issuers {
		n += s.keys.Len()
	}
	return n
}

// resident is the issuer of a tenant's built-in key manager, empty when unknown.
func (k *keyring) resident(tenant string) string {
	for url, s := range k.issuers {
		if s.manager.Own && s.manager.Tenant == tenant {
			return url
		}
	}
	return ""
}
