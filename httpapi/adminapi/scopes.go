package adminapi

import (
	"slices"
	"unicode/utf8"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

const (
	maxNameLength  = 255
	maxListed      = 100
	maxDescription = 2000
)

type scopeBody struct {
	DisplayName string   `json:"display_name,omitempty"`
	Description string   `json:"description,omitempty"`
	Roles       []string `json:"roles,omitempty"`
	Includes    []string `json:"includes,omitempty"`
	Claims      []string `json:"claims,omitempty"`
}

type roleBody struct {
	Description string `json:"description,omitempty"`
}

type groupBody struct {
	Description string   `json:"description,omitempty"`
	Roles       []string `json:"roles,omitempty"`
}

// registryEndpoints are the scopes, roles and groups of a tenant.
func (a *api) registryEndpoints() []endpoint {
	return slices.Concat(scopes().endpoints(a), roles().endpoints(a), groups().endpoints(a))
}

func rowsOf[R, T any](all []R, line func(R) row[T]) []row[T] {
	out := make([]row[T], len(all))
	for i, r := range all {
		out[i] = line(r)
	}
	return out
}

func scopes() *registry[scopeBody] {
	line := func(s *state.Scope) row[scopeBody] {
		return row[scopeBody]{s.GetName(), scopeBody{s.GetDisplayName(), s.GetDescription(), s.GetRoles(), s.GetIncludes(), s.GetClaims()}, seconds(s.GetCreatedAt()), s.GetGeneration(), ""}
	}
	return &registry[scopeBody]{
		path: "/admin/v1/scopes", list: "scopes", noun: "scope",
		inUse: "another scope includes it; take it out of that one first",
		rows:  func(v *state.View, tenant string) []row[scopeBody] { return rowsOf(v.Scopes(tenant), line) },
		row: func(v *state.View, tenant, name string) (row[scopeBody], bool) {
			s, ok := v.Scope(tenant, name)
			return line(s), ok
		},
		check: checkScope,
		put: func(tenant string, in *row[scopeBody], expect uint64) command.Command {
			return &command.PutScope{Expect: expect, Scope: &state.Scope{Tenant: tenant, Name: in.Name, DisplayName: in.Body.DisplayName,
				Description: in.Body.Description, Roles: in.Body.Roles, Includes: in.Body.Includes, Claims: in.Body.Claims}}
		},
		remove: func(r *request, name string, expect uint64) (command.Command, error) {
			return &command.DeleteScope{Tenant: r.tenant, Name: name, Expect: expect}, nil
		},
	}
}

func roles() *registry[roleBody] {
	line := func(s *state.Role) row[roleBody] {
		return row[roleBody]{s.GetName(), roleBody{s.GetDescription()}, seconds(s.GetCreatedAt()), s.GetGeneration(), ""}
	}
	return &registry[roleBody]{
		path: "/admin/v1/roles", list: "roles", noun: "role", query: []string{"force"},
		inUse: "a scope or a group names it; take it out of them first, or delete it with ?force=true, which leaves those scopes closed",
		rows:  func(v *state.View, tenant string) []row[roleBody] { return rowsOf(v.Roles(tenant), line) },
		row: func(v *state.View, tenant, name string) (row[roleBody], bool) {
			s, ok := v.Role(tenant, name)
			return line(s), ok
		},
		check: func(_ *request, name string, in *roleBody) error { return checkTexts(name, "", in.Description) },
		put: func(tenant string, in *row[roleBody], expect uint64) command.Command {
			return &command.PutRole{Expect: expect, Role: &state.Role{Tenant: tenant, Name: in.Name, Description: in.Body.Description}}
		},
		remove: func(r *request, name string, expect uint64) (command.Command, error) {
			force, err := r.flag("force")
			return &command.DeleteRole{Tenant: r.tenant, Name: name, Expect: expect, Force: force}, err
		},
	}
}

func groups() *registry[groupBody] {
	line := func(s *state.Group) row[groupBody] {
		return row[groupBody]{s.GetName(), groupBody{s.GetDescription(), s.GetRoles()}, seconds(s.GetCreatedAt()), s.GetGeneration(), ""}
	}
	return &registry[groupBody]{
		path: "/admin/v1/groups", list: "groups", noun: "group",
		rows: func(v *state.View, tenant string) []row[groupBody] { return rowsOf(v.Groups(tenant), line) },
		row: func(v *state.View, tenant, name string) (row[groupBody], bool) {
			s, ok := v.Group(tenant, name)
			return line(s), ok
		},
		check: func(r *request, name string, in *groupBody) error {
			if err := checkTexts(name, "", in.Description); err != nil {
				return err
			}
			return r.checkRoles(in.Roles)
		},
		put: func(tenant string, in *row[groupBody], expect uint64) command.Command {
			return &command.PutGroup{Expect: expect, Group: &state.Group{Tenant: tenant, Name: in.Name, Description: in.Body.Description, Roles: in.Body.Roles}}
		},
		remove: func(r *request, name string, expect uint64) (command.Command, error) {
			return &command.DeleteGroup{Tenant: r.tenant, Name: name, Expect: expect}, nil
		},
	}
}

func checkScope(r *request, name string, in *scopeBody) error {
	if !oauth.ValidScope(name) {
		return invalid("name", "a scope is of printable ASCII without spaces, quotes and backslashes")
	}
	if err := checkTexts(name, in.DisplayName, in.Description); err != nil {
		return err
	}
	if err := r.checkRoles(in.Roles); err != nil {
		return err
	}
	if err := checkList("claims", in.Claims); err != nil {
		return err
	}
	if err := checkList("includes", in.Includes); err != nil {
		return err
	}
	for _, other := range in.Includes {
		if _, ok := r.view.Scope(r.tenant, other); !ok {
			return invalid("includes", "one of them is not registered; register it first")
		}
		if r.view.Implies(r.tenant, other, name) {
			return invalid("includes", "one of them is or includes this scope; a scope can't include itself")
		}
	}
	return nil
}

// checkTexts checks a name and what is written for people.
func checkTexts(name, display, description string) error {
	if len(name) > maxNameLength || !utf8.ValidString(name) || slices.ContainsFunc([]rune(name), func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return invalid("name", "1 to 255 bytes without control characters")
	}
	if len(display) > maxNameLength {
		return invalid("display_name", "at most 255 bytes")
	}
	if len(description) > maxDescription {
		return invalid("description", "at most 2000 bytes")
	}
	return nil
}

func checkList(field string, names []string) error {
	if len(names) > maxListed {
		return invalid(field, "at most 100 names")
	}
	for i, name := range names {
		if name == "" || len(name) > maxNameLength || slices.Contains(names[:i], name) {
			return invalid(field, "each name has 1 to 255 bytes and is there once")
		}
	}
	return nil
}

func (r *request) checkRoles(names []string) error {
	if err := checkList("roles", names); err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := r.view.Role(r.tenant, name); !ok {
			return invalid("roles", "one of them is not registered; register it first")
		}
	}
	return nil
}
