package state

import (
	"regexp"
	"slices"

	"github.com/keyraft/keyraft/storage"
)

// Scope returns one registered scope of a tenant.
func (v *View) Scope(tenant, name string) (*Scope, bool) {
	var buf [192]byte
	return row[*Scope](v, appendKey(buf[:0], tableScopes, tenant, name))
}

// Scopes returns the registered scopes of a tenant, those with short names first.
func (v *View) Scopes(tenant string) []*Scope {
	return all[*Scope](v, storage.Key(tableScopes, tenant))
}

// Role returns one role of a tenant.
func (v *View) Role(tenant, name string) (*Role, bool) {
	var buf [192]byte
	return row[*Role](v, appendKey(buf[:0], tableRoles, tenant, name))
}

// Roles returns the roles of a tenant, those with short names first.
func (v *View) Roles(tenant string) []*Role { return all[*Role](v, storage.Key(tableRoles, tenant)) }

// Group returns one group of a tenant.
func (v *View) Group(tenant, name string) (*Group, bool) {
	var buf [192]byte
	return row[*Group](v, appendKey(buf[:0], tableGroups, tenant, name))
}

// Groups returns the groups of a tenant, those with short names first.
func (v *View) Groups(tenant string) []*Group {
	return all[*Group](v, storage.Key(tableGroups, tenant))
}

// Implies reports whether scope wide is scope narrow, or includes it by any number of
// steps. A scope that is not registered implies itself alone.
func (v *View) Implies(tenant, wide, narrow string) bool {
	if wide == narrow {
		return true
	}
	s, ok := v.Scope(tenant, wide)
	if !ok || len(s.GetIncludes()) == 0 {
		return false
	}
	seen := []string{wide}
	for next := s.GetIncludes(); len(next) > 0; {
		name := next[len(next)-1]
		next = next[: len(next)-1 : len(next)-1] // a copy is appended to, never the record
		if name == narrow {
			return true
		}
		if slices.Contains(seen, name) {
			continue
		}
		seen = append(seen, name)
		if s, ok := v.Scope(tenant, name); ok {
			next = append(next, s.GetIncludes()...)
		}
	}
	return false
}

// tenantPatterns are the compiled scope_patterns of one row of a tenant.
type tenantPatterns struct {
	of       *Tenant // rows never change: another row is another pointer
	compiled []*regexp.Regexp
}

// ScopePatterns returns what compile makes of the scope_patterns of t, which it is
// asked for once for each row of a tenant.
func (v *View) ScopePatterns(t *Tenant, compile func(pattern string) (*regexp.Regexp, error)) ([]*regexp.Regexp, error) {
	if len(t.GetSettings().GetScopePatterns()) == 0 {
		return nil, nil
	}
	if kept, ok := v.decoded.patterns.Load(t.GetId()); ok && kept.(*tenantPatterns).of == t {
		return kept.(*tenantPatterns).compiled, nil
	}
	p := &tenantPatterns{of: t}
	for _, text := range t.GetSettings().GetScopePatterns() {
		r, err := compile(text)
		if err != nil {
			return nil, err
		}
		p.compiled = append(p.compiled, r)
	}
	v.decoded.patterns.Store(t.GetId(), p)
	return p.compiled, nil
}

// PutScope writes one scope.
func (b *Batch) PutScope(s *Scope) { b.put(storage.Key(tableScopes, s.GetTenant(), s.GetName()), s) }

// DeleteScope removes one scope.
func (b *Batch) DeleteScope(tenant, name string) { b.delete(storage.Key(tableScopes, tenant, name)) }

// PutRole writes one role.
func (b *Batch) PutRole(r *Role) { b.put(storage.Key(tableRoles, r.GetTenant(), r.GetName()), r) }

// DeleteRole removes one role.
func (b *Batch) DeleteRole(tenant, name string) { b.delete(storage.Key(tableRoles, tenant, name)) }

// PutGroup writes one group.
func (b *Batch) PutGroup(g *Group) { b.put(storage.Key(tableGroups, g.GetTenant(), g.GetName()), g) }

// DeleteGroup removes one group.
func (b *Batch) DeleteGroup(tenant, name string) { b.delete(storage.Key(tableGroups, tenant, name)) }
