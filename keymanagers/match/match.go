// Package match is the pure rule "whose token is this, and may it be used at
// this API". Nodes and gateways share it, so both decide alike.
//
// A Table is immutable and safe for concurrent use: a change of key managers or
// APIs builds a new one.
//
// Errors: New refuses a table that would not be unambiguous; a lookup answers
// with a Verdict, which is a word of the outside contract.
package match

import "fmt"

// Resident is the name of the built-in key manager of every tenant.
const Resident = "resident"

// Verdict says whether a token may be used at an API, and if not, why.
type Verdict string

// The verdicts. All but Allowed are refusals.
const (
	Allowed            Verdict = ""
	UnknownIssuer      Verdict = "unknown_issuer"
	UnknownAPI         Verdict = "unknown_api"
	KeyManagerDisabled Verdict = "key_manager_disabled"
	KeyManagerNotAtAPI Verdict = "key_manager_not_at_api"
)

// Manager is one key manager: the issuer whose tokens it vouches for. Own says
// that the tokens are minted by this cluster, so that their epoch and head count.
type Manager struct {
	Tenant   string
	Name     string // Resident for the built-in one
	Issuer   string
	Own      bool
	Disabled bool
}

// API is one API that tokens are used at.
type API struct {
	Name        string
	KeyManagers []string // names; empty: all
	Audience    []string // a token must be meant for one of them; empty: not asked
	Scopes      []string // a token must have all of them
}

// Allows says whether the key manager of this name may be used here.
func (a *API) Allows(keyManager string) bool {
	if len(a.KeyManagers) == 0 {
		return true
	}
	for _, n := range a.KeyManagers {
		if n == keyManager {
			return true
		}
	}
	return false
}

// Table finds key managers by issuer and APIs by name.
type Table struct {
	managers map[string]*Manager
	apis     map[string]*API
}

// New builds a table. An issuer belongs to one key manager, a name to one API:
// anything else would let the order of a list decide whose token it is.
func New(managers []Manager, apis []API) (*Table, error) {
	t := &Table{make(map[string]*Manager, len(managers)), make(map[string]*API, len(apis))}
	for i := range managers {
		m := managers[i]
		if m.Tenant == "" || m.Name == "" || m.Issuer == "" {
			return nil, fmt.Errorf("key manager %d: tenant, name and issuer must be set", i)
		}
		if other := t.managers[m.Issuer]; other != nil {
			return nil, fmt.Errorf("issuer %q belongs to two key managers, %s/%s and %s/%s: give one of them another issuer",
				m.Issuer, other.Tenant, other.Name, m.Tenant, m.Name)
		}
		t.managers[m.Issuer] = &m
	}
	for i := range apis {
		a := apis[i]
		if a.Name == "" {
			return nil, fmt.Errorf("API %d has no name", i)
		}
		if t.apis[a.Name] != nil {
			return nil, fmt.Errorf("API %q is there twice: names are unique", a.Name)
		}
		t.apis[a.Name] = &a
	}
	return t, nil
}

// Manager is the key manager whose tokens carry this issuer, compared byte by
// byte (RFC 8414 §3.3), or nil. The caller must not change it.
func (t *Table) Manager(issuer string) *Manager { return t.managers[issuer] }

// API is the API of this name, or nil. The caller must not change it.
func (t *Table) API(name string) *API { return t.apis[name] }

// Decide says whether a token of this issuer may be used at this API. An empty
// api asks only whose token it is. The results are nil when not Allowed.
func (t *Table) Decide(issuer, api string) (*Manager, *API, Verdict) {
	var a *API
	if api != "" {
		if a = t.apis[api]; a == nil {
			return nil, nil, UnknownAPI
		}
	}
	m := t.managers[issuer]
	switch {
	case m == nil:
		return nil, nil, UnknownIssuer
	case m.Disabled:
		return nil, nil, KeyManagerDisabled
	case a != nil && !a.Allows(m.Name):
		return nil, nil, KeyManagerNotAtAPI
	}
	return m, a, Allowed
}
