package fsm

import (
	"slices"

	"github.com/keyraft/keyraft/fsm/command"
)

const (
	// maxRegistered bounds the scopes, the roles and the groups of one tenant, which
	// all nodes hold in memory.
	maxRegistered = 5000
	// maxNames bounds the names in one list of a scope or a group.
	maxNames = 100
	// maxText bounds what is written for people, in bytes.
	maxText = 2000
)

// generation holds the one that a change expects against the one that is: 0 for a
// new row. old is 0 where there is none.
func generation(expect, old uint64) command.Reject {
	switch {
	case expect == 0 && old != 0:
		return command.Exists
	case expect != 0 && old == 0:
		return command.NotFound
	case expect != old:
		return command.Stale
	}
	return command.Accepted
}

// removable is the same for a row that goes: expect 0 is whichever there is.
func removable(expect, old uint64) command.Reject {
	switch {
	case old == 0:
		return command.NotFound
	case expect != 0 && expect != old:
		return command.Stale
	}
	return command.Accepted
}

// listed checks a list of names: none empty, too long or there twice.
func listed(names []string) bool {
	if len(names) > maxNames || !keyable(names...) {
		return false
	}
	for i, name := range names {
		if name == "" || slices.Contains(names[:i], name) {
			return false
		}
	}
	return true
}

// named checks what every row of the three tables has.
func (s step) named(tenant, name string, texts ...string) command.Reject {
	if tenant == "" || name == "" || !keyable(tenant, name) {
		return command.Invalid
	}
	for _, t := range texts {
		if len(t) > maxText {
			return command.Invalid
		}
	}
	if _, ok := s.Tenant(tenant); !ok {
		return command.NotFound
	}
	return command.Accepted
}

// roles reports whether all of these are roles of the tenant.
func (s step) roles(tenant string, names []string) bool {
	for _, name := range names {
		if _, ok := s.Role(tenant, name); !ok {
			return false
		}
	}
	return true
}

// putRole makes or replaces a role.
func (s step) putRole(c *command.PutRole) (command.Result, error) {
	next := c.GetRole()
	if r := s.named(next.GetTenant(), next.GetName(), next.GetDescription()); r != command.Accepted {
		return reject(r)
	}
	old, ok := s.Role(next.GetTenant(), next.GetName())
	if r := generation(c.GetExpect(), old.GetGeneration()); r != command.Accepted {
		return reject(r)
	}
	if !ok && len(s.Roles(next.GetTenant())) >= maxRegistered {
		return reject(command.NotReady)
	}
	next.Generation, next.CreatedAt = s.index, s.now
	if ok {
		next.CreatedAt = old.GetCreatedAt()
	}
	s.PutRole(next)
	return command.Result{Generation: s.index}, nil
}

// deleteRole removes a role. A scope that needs it is not opened by that: the name
// stays there, and nobody has a role that is not registered.
func (s step) deleteRole(c *command.DeleteRole) (command.Result, error) {
	if !keyable(c.GetTenant(), c.GetName()) {
		return reject(command.Invalid)
	}
	old, _ := s.Role(c.GetTenant(), c.GetName())
	if r := removable(c.GetExpect(), old.GetGeneration()); r != command.Accepted {
		return reject(r)
	}
	if !c.GetForce() && s.roleInUse(c.GetTenant(), c.GetName()) {
		return reject(command.Conflict)
	}
	s.DeleteRole(c.GetTenant(), c.GetName())
	return command.Result{}, nil
}

func (s step) roleInUse(tenant, name string) bool {
	for _, scope := range s.Scopes(tenant) {
		if slices.Contains(scope.GetRoles(), name) {
			return true
		}
	}
	for _, group := range s.Groups(tenant) {
		if slices.Contains(group.GetRoles(), name) {
			return true
		}
	}
	return false
}

// putGroup makes or replaces a group, whose roles must be registered.
func (s step) putGroup(c *command.PutGroup) (command.Result, error) {
	next := c.GetGroup()
	if r := s.named(next.GetTenant(), next.GetName(), next.GetDescription()); r != command.Accepted {
		return reject(r)
	}
	if !listed(next.GetRoles()) || !s.roles(next.GetTenant(), next.GetRoles()) {
		return reject(command.Invalid)
	}
	old, ok := s.Group(next.GetTenant(), next.GetName())
	if r := generation(c.GetExpect(), old.GetGeneration()); r != command.Accepted {
		return reject(r)
	}
	if !ok && len(s.Groups(next.GetTenant())) >= maxRegistered {
		return reject(command.NotReady)
	}
	next.Generation, next.CreatedAt = s.index, s.now
	if ok {
		next.CreatedAt = old.GetCreatedAt()
	}
	s.PutGroup(next)
	return command.Result{Generation: s.index}, nil
}

// deleteGroup removes a group. Users who name it have nothing by it any more.
func (s step) deleteGroup(c *command.DeleteGroup) (command.Result, error) {
	if !keyable(c.GetTenant(), c.GetName()) {
		return reject(command.Invalid)
	}
	old, _ := s.Group(c.GetTenant(), c.GetName())
	if r := removable(c.GetExpect(), old.GetGeneration()); r != command.Accepted {
		return reject(r)
	}
	s.DeleteGroup(c.GetTenant(), c.GetName())
	return command.Result{}, nil
}

// putScope makes or replaces a scope. Its roles and what it includes must be
// registered, and no scope includes itself by any number of steps.
func (s step) putScope(c *command.PutScope) (command.Result, error) {
	next := c.GetScope()
	tenant, name := next.GetTenant(), next.GetName()
	if r := s.named(tenant, name, next.GetDisplayName(), next.GetDescription()); r != command.Accepted {
		return reject(r)
	}
	if !listed(next.GetRoles()) || !listed(next.GetIncludes()) || !listed(next.GetClaims()) || !s.roles(tenant, next.GetRoles()) {
		return reject(command.Invalid)
	}
	for _, other := range next.GetIncludes() {
		if _, ok := s.Scope(tenant, other); !ok || s.Implies(tenant, other, name) {
			return reject(command.Invalid)
		}
	}
	old, ok := s.Scope(tenant, name)
	if r := generation(c.GetExpect(), old.GetGeneration()); r != command.Accepted {
		return reject(r)
	}
	if !ok && len(s.Scopes(tenant)) >= maxRegistered {
		return reject(command.NotReady)
	}
	next.Generation, next.CreatedAt = s.index, s.now
	if ok {
		next.CreatedAt = old.GetCreatedAt()
	}
	s.PutScope(next)
	return command.Result{Generation: s.index}, nil
}

// deleteScope removes a scope that no other includes.
func (s step) deleteScope(c *command.DeleteScope) (command.Result, error) {
	if !keyable(c.GetTenant(), c.GetName()) {
		return reject(command.Invalid)
	}
	old, _ := s.Scope(c.GetTenant(), c.GetName())
	if r := removable(c.GetExpect(), old.GetGeneration()); r != command.Accepted {
		return reject(r)
	}
	for _, other := range s.Scopes(c.GetTenant()) {
		if slices.Contains(other.GetIncludes(), c.GetName()) {
			return reject(command.Conflict)
		}
	}
	s.DeleteScope(c.GetTenant(), c.GetName())
	return command.Result{}, nil
}
