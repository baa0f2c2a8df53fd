package grants

import (
	"regexp"
	"slices"
	"strings"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// Narrow returns the scope that a grant of user to client gets of what was asked: what
// the client may have, and of that what the user may. It adds nothing: each item of
// the answer was asked for, or is one of the client's own when nothing was asked.
//
// The client may have a scope that it is registered for, and what one of these
// includes. The user may have a registered scope that names no role or one of theirs
// (their own, or a group's; compared exactly; a role that is not registered is
// nobody's), what such a scope of the client includes, and whatever one of the
// tenant's scope_patterns matches whole. A scope that is neither registered nor matched
// goes as the client's registration says, unless the tenant refuses unknown ones. That of
// the admin API alone needs a role always.
//
// More than that is invalid_scope, or dropped where the tenant's narrow_scopes says so,
// but something must be left. When nothing was asked, what the user may not have is left
// out, and so are openid and offline_access, which are for those who ask (OpenID Connect
// Core §3.1.2.1, §11).
//
// A client that has registered no scopes may ask for the standard ones (OpenID Connect
// Core §5.4, §11). While the user is not known yet (nil), the client's half is decided.
//
// It reads the tenant's records in memory alone. It is safe for concurrent use.
func Narrow(v *state.View, tenant *state.Tenant, client *state.Client, user *state.User, asked string) (string, error) {
	return policy{v: v, tenant: tenant, client: client, user: user, drop: tenant.GetSettings().GetNarrowScopes()}.narrow(asked)
}

// remains is what is left of a scope that was granted, when client and user may have
// less than then. The error is invalid_scope where nothing is left.
func remains(v *state.View, tenant *state.Tenant, client *state.Client, user *state.User, granted string) (string, error) {
	if granted == "" {
		return "", nil
	}
	return policy{v: v, tenant: tenant, client: client, user: user, drop: true}.narrow(granted)
}

func (p policy) narrow(asked string) (string, error) {
	if asked == "" {
		return p.preset()
	}
	if strings.Count(asked, " ") >= maxScopes {
		return "", oauth.InvalidScope.Withf("scope has more than %d items; ask for fewer", maxScopes)
	}
	var kept []string
	for item := range strings.SplitSeq(asked, " ") {
		if !oauth.ValidScope(item) {
			return "", oauth.InvalidScope.With("scope must be a list of names separated by single spaces, of printable ASCII without quotes and backslashes")
		}
		if slices.Contains(kept, item) {
			continue
		}
		if !p.ofClient(item) {
			if !p.drop {
				return "", oauth.InvalidScope.Withf("the client may not have the scope %.100s; ask for less or register it", item)
			}
			continue
		}
		may, err := p.ofUser(item)
		if err != nil {
			return "", err
		}
		if may {
			kept = append(kept, item)
		} else if !p.drop {
			return "", oauth.InvalidScope.Withf("the user may not have the scope %.100s; ask for less, or ask the tenant's administrator for a role that it needs", item)
		}
	}
	if len(kept) == 0 {
		return "", oauth.InvalidScope.With("client and user may have none of the scopes that were asked for")
	}
	if len(kept) == strings.Count(asked, " ")+1 {
		return asked, nil
	}
	return strings.Join(kept, " "), nil
}

// policy is what one decision rests on.
type policy struct {
	v      *state.View
	tenant *state.Tenant
	client *state.Client
	user   *state.User // nil: not known yet
	drop   bool        // leave out what is too much, instead of refusing
}

// preset is what a client gets that asks for nothing.
func (p *policy) preset() (string, error) {
	var kept []string
	for _, item := range p.client.GetScopes() {
		if userOnly(item) || slices.Contains(kept, item) {
			continue
		}
		may, err := p.ofUser(item)
		if err != nil {
			return "", err
		}
		if may {
			kept = append(kept, item)
		}
	}
	return strings.Join(kept, " "), nil
}

func (p *policy) ofClient(item string) bool {
	if len(p.client.GetScopes()) == 0 {
		return standard(item)
	}
	if slices.Contains(p.client.GetScopes(), item) {
		return true
	}
	return slices.ContainsFunc(p.client.GetScopes(), func(wide string) bool { return p.v.Implies(p.tenant.GetId(), wide, item) })
}

func (p *policy) ofUser(item string) (bool, error) {
	if p.user == nil {
		return true, nil
	}
	scope, registered := p.v.Scope(p.tenant.GetId(), item)
	if item == oauth.ScopeAdmin { // a client that may administer makes no administrator of each user
		if roles := scope.GetRoles(); len(roles) > 0 {
			return p.hasOne(roles), nil
		}
		return p.hasOne([]string{roleAdmin}), nil
	}
	if registered && p.hasOne(scope.GetRoles()) {
		return true, nil
	}
	if !registered && (standard(item) || !p.tenant.GetSettings().GetRefuseUnknownScopes()) {
		return true, nil
	}
	// What includes it must be the client's and the user's as well.
	wider := func(wide string) bool {
		s, ok := p.v.Scope(p.tenant.GetId(), wide)
		return ok && wide != item && p.hasOne(s.GetRoles()) && p.v.Implies(p.tenant.GetId(), wide, item)
	}
	if registered && slices.ContainsFunc(p.client.GetScopes(), wider) {
		return true, nil
	}
	return p.matched(item)
}

// standard are the scopes that mean the same everywhere (OpenID Connect Core §5.4,
// §11): no tenant has to register them.
func standard(scope string) bool {
	switch scope {
	case "openid", "offline_access", "profile", "email", "address", "phone":
		return true
	}
	return false
}

// roleAdmin is whose users may administer their tenant while the scope for it names no
// other role.
const roleAdmin = "admin"

// hasOne reports whether the user has one of these roles, or none is needed.
func (p *policy) hasOne(roles []string) bool {
	return len(roles) == 0 || slices.ContainsFunc(roles, func(role string) bool { return HasRole(p.v, p.tenant.GetId(), p.user, role) })
}

// HasRole reports whether user has a role of the tenant: by name, or by a group.
func HasRole(v *state.View, tenant string, user *state.User, role string) bool {
	if _, ok := v.Role(tenant, role); !ok {
		return false
	}
	if slices.Contains(user.GetRoles(), role) {
		return true
	}
	return slices.ContainsFunc(user.GetGroups(), func(name string) bool {
		group, ok := v.Group(tenant, name)
		return ok && slices.Contains(group.GetRoles(), role)
	})
}

// matched reports whether one of the tenant's patterns matches the whole of item.
func (p *policy) matched(item string) (bool, error) {
	patterns, err := p.v.ScopePatterns(p.tenant, ScopePattern)
	if err != nil {
		return false, err // they were checked when they were saved
	}
	return slices.ContainsFunc(patterns, func(r *regexp.Regexp) bool { return r.MatchString(item) }), nil
}
