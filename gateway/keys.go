package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/keymanagers/match"
	"github.com/keyraft/keyraft/tokens/verify"
)

// keyring is who may vouch for a token: the match table and each issuer's keys,
// as of the seq at. Immutable; a change builds a new one that shares the issuers
// that did not.
type keyring struct {
	table   *match.Table
	issuers map[string]*issuer // by every name that tokens carry, former ones too
	apis    []match.API
	at      uint64
}

// issuer is one name of an issuer with its keys.
type issuer struct {
	manager match.Manager
	keys    *verify.KeySet
	jwks    []byte
	former  []string // names that it had before
	now     string   // of a former name: the present one
}

func newKeyring(apis []match.API) (*keyring, error) {
	table, err := match.New(nil, apis)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return &keyring{table: table, apis: apis}, nil
}

// with gives the keyring of a whole key document. The caller has seen that it is
// not older than what is known: a node that lags can't bring old keys back.
func (k *keyring) with(doc *wire.Keys) (*keyring, error) {
	next := &keyring{issuers: make(map[string]*issuer, len(doc.Issuers)), apis: k.apis, at: doc.Head}
	for _, s := range doc.Issuers {
		made, err := k.issuer(&s, s.Issuer)
		if err != nil {
			return nil, err
		}
		next.issuers[s.Issuer] = made
	}
	twice := make(map[string]bool)
	for _, s := range doc.Issuers {
		for _, name := range s.FormerIssuers {
			if old := next.issuers[name]; old != nil {
				twice[name] = old.now != "" && old.now != s.Issuer
				continue
			}
			made, err := k.issuer(&s, name)
			if err != nil {
				return nil, err
			}
			next.issuers[name] = made
		}
	}
	for name, ambiguous := range twice { // two had it: nobody's
		if ambiguous {
			delete(next.issuers, name)
		}
	}
	return next.build()
}

// withEvent gives the keyring after a keys event. The error says that the event
// does not tell what the keys are.
func (k *keyring) withEvent(e *wire.Event) (*keyring, error) {
	if e.Seq <= k.at {
		return k, nil
	}
	old := k.issuers[e.Issuer]
	if len(e.Data) == 0 || old == nil || old.now != "" {
		return nil, errors.New("the event holds no keys of a known issuer")
	}
	s := &wire.Issuer{Tenant: e.Tenant, KeyManager: old.manager.Name, Issuer: e.Issuer, FormerIssuers: old.former, JWKS: e.Data}
	next := &keyring{issuers: make(map[string]*issuer, len(k.issuers)), apis: k.apis, at: e.Seq}
	for name, x := range k.issuers {
		if name == e.Issuer || x.now == e.Issuer {
			var err error
			if x, err = k.issuer(s, name); err != nil {
				return nil, err
			}
		}
		next.issuers[name] = x
	}
	return next.build()
}

// issuer makes the issuer s under one of its names, or gives the one that is there.
func (k *keyring) issuer(s *wire.Issuer, name string) (*issuer, error) {
	manager := s.KeyManager
	if manager == "" {
		manager = match.Resident
	}
	made := &issuer{
		manager: match.Manager{Tenant: s.Tenant, Name: manager, Issuer: name, Own: manager == match.Resident},
		jwks:    s.JWKS,
	}
	if name == s.Issuer {
		made.former = s.FormerIssuers
	} else {
		made.now = s.Issuer
	}
	if old := k.issuers[name]; old != nil && old.manager == made.manager && old.now == made.now &&
		slices.Equal(old.former, made.former) && bytes.Equal(old.jwks, made.jwks) {
		return old, nil
	}
	keys, err := verify.ParseJWKS(s.JWKS)
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", name, err)
	}
	if made.keys, err = verify.NewKeySet(keys); err != nil {
		return nil, fmt.Errorf("keys of %s: %w", name, err)
	}
	return made, nil
}

// ours stands for every name that the tenant's own issuer has or had, in what is kept
// of events that name it and of tokens that carry it. It is no URL, so no issuer's name.
const ours = "resident"

// named puts that in the place of the name in a revocation: JSON tells the issuer as
// it is called at the time, the token may carry another of its names.
func (k *keyring) named(e *wire.Event) {
	if x := k.issuers[e.Issuer]; x != nil && x.manager.Own && x.manager.Tenant == e.Tenant {
		e.Issuer = ours
	}
}

// build makes the match table.
func (k *keyring) build() (*keyring, error) {
	managers := make([]match.Manager, 0, len(k.issuers))
	for _, s := range k.issuers {
		managers = append(managers, s.manager)
	}
	var err error
	k.table, err = match.New(managers, k.apis)
	return k, err
}

// unplaced gives the same keys as of no seq, so that any document replaces them.
func (k *keyring) unplaced() *keyring {
	next := *k
	next.at = 0
	return &next
}

// document is what the cache file keeps of it.
func (k *keyring) document(cluster string, epoch, head uint64) *wire.Keys {
	doc := &wire.Keys{Cluster: cluster, Epoch: epoch, Head: head}
	for _, s := range k.issuers {
		if s.now == "" {
			doc.Issuers = append(doc.Issuers, wire.Issuer{
				Tenant: s.manager.Tenant, KeyManager: s.manager.Name, Issuer: s.manager.Issuer, FormerIssuers: s.former, JWKS: s.jwks,
			})
		}
	}
	return doc
}

func (k *keyring) len() (n int) {
	for _, s := range k.issuers {
		if s.now == "" {
			n += s.keys.Len()
		}
	}
	return n
}

// resident is the issuer of a tenant's built-in key manager, empty when unknown.
func (k *keyring) resident(tenant string) string {
	for url, s := range k.issuers {
		if s.manager.Own && s.now == "" && s.manager.Tenant == tenant {
			return url
		}
	}
	return ""
}
