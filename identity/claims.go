package identity

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/keyraft/keyraft/fsm/state"
)

// Claim is what is said of a user: its name and its value as JSON.
type Claim struct {
	Name string
	JSON []byte
}

// scopeClaims are the claims of the scopes of OpenID Connect Core §5.4.
func scopeClaims(scope string) []string {
	switch scope {
	case "profile":
		return []string{"name", "family_name", "given_name", "middle_name", "nickname", "preferred_username", "profile", "picture", "website",
			"gender", "birthdate", "zoneinfo", "locale", "updated_at"}
	case "email":
		return []string{"email", "email_verified"}
	case "phone":
		return []string{"phone_number", "phone_number_verified"}
	case "address":
		return []string{"address"}
	}
	return nil
}

// StandardScopes are the scopes that bring claims without being registered, and the
// claims that any of them brings: for discovery.
func StandardScopes() (scopes, claims []string) {
	scopes = []string{"profile", "email", "phone", "address"}
	for _, s := range scopes {
		claims = append(claims, scopeClaims(s)...)
	}
	return scopes, claims
}

// ScopeClaims are the names of the claims that scopes bring, each once: those of OpenID
// Connect Core §5.4, and those that the tenant registered with a scope.
func ScopeClaims(v *state.View, tenant, scope string) []string {
	var names []string
	for item := range strings.FieldsSeq(scope) {
		names = append(names, scopeClaims(item)...)
		if s, ok := v.Scope(tenant, item); ok {
			names = append(names, s.GetClaims()...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Claims says of a user what names ask for, in their order. What the user has not is left
// out, and so is what no record of a user may say (REG-05).
func Claims(v *state.View, u *state.User, names []string) []Claim {
	var out []Claim
	for _, name := range names {
		if value := claimValue(v, u, name); value != nil {
			out = append(out, Claim{name, value})
		}
	}
	return out
}

// Pick says which of the asked claims the user has with a value that is asked for, where
// may allows the name.
func Pick(v *state.View, u *state.User, asked []Asked, may func(name string) bool) []Claim {
	var out []Claim
	for i := range asked {
		if !may(asked[i].Name) {
			continue
		}
		if value := claimValue(v, u, asked[i].Name); value != nil && asked[i].takes(value) {
			out = append(out, Claim{asked[i].Name, value})
		}
	}
	return out
}

// ClaimsOf are those of names that something is known of for the user.
func ClaimsOf(v *state.View, u *state.User, names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return claimValue(v, u, name) == nil })
}

// claimValue is one claim of OpenID Connect Core §5.1 or of the tenant's own; nil where
// there is none.
func claimValue(v *state.View, u *state.User, name string) []byte {
	switch name {
	case "preferred_username":
		return Member(v, u, "username")
	case "updated_at":
		if u.GetUpdatedAt() <= 0 {
			return nil
		}
		return jsonOf(u.GetUpdatedAt() / 1000)
	case "roles", "groups", "entitlements", "name", "given_name", "family_name", "locale", "email", "email_verified", "phone_number", "phone_number_verified":
		return Member(v, u, name)
	}
	if slices.Contains(own, name) {
		return nil
	}
	return Attribute(u, name)
}

// Member is what a member of the record gives, as JSON; nil for nothing. Roles and groups
// are the registered ones.
func Member(v *state.View, u *state.User, name string) []byte {
	switch name {
	case "roles":
		return jsonList(rolesOf(v, u))
	case "groups":
		return jsonList(groupsOf(v, u))
	case "entitlements":
		return jsonList(u.GetEntitlements())
	case "username":
		return jsonText(u.GetUsername())
	case "name":
		return jsonText(u.GetName())
	case "given_name":
		return jsonText(u.GetGivenName())
	case "family_name":
		return jsonText(u.GetFamilyName())
	case "locale":
		return jsonText(u.GetLocale())
	case "email":
		return jsonText(u.GetEmail())
	case "phone_number":
		return jsonText(u.GetPhoneNumber())
	case "email_verified":
		return jsonFlag(u.GetEmail() != "", u.GetEmailVerified())
	case "phone_number_verified":
		return jsonFlag(u.GetPhoneNumber() != "", u.GetPhoneNumberVerified())
	}
	return nil
}

// Attribute is a claim of the user that has no member of its own, as JSON; nil for none.
func Attribute(u *state.User, name string) []byte {
	for _, a := range u.GetAttributes() {
		if a.GetName() == name && json.Valid(a.GetJson()) {
			return a.GetJson()
		}
	}
	return nil
}

// rolesOf are the registered roles that a user has, by name or by a group, in order.
func rolesOf(v *state.View, u *state.User) []string {
	all := slices.Clone(u.GetRoles())
	for _, name := range u.GetGroups() {
		if g, ok := v.Group(u.GetTenant(), name); ok {
			all = append(all, g.GetRoles()...)
		}
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(name string) bool { _, ok := v.Role(u.GetTenant(), name); return !ok })
}

// groupsOf are the registered groups that a user is in.
func groupsOf(v *state.View, u *state.User) []string {
	return slices.DeleteFunc(slices.Clone(u.GetGroups()), func(name string) bool { _, ok := v.Group(u.GetTenant(), name); return !ok })
}

func jsonList(names []string) []byte {
	if len(names) == 0 {
		return nil
	}
	return jsonOf(names)
}

func jsonText(text string) []byte {
	if text == "" {
		return nil
	}
	return jsonOf(text)
}

func jsonFlag(known, on bool) []byte {
	if !known {
		return nil
	}
	return jsonOf(on)
}

// jsonOf encodes what always can be.
func jsonOf[T string | []string | int64 | bool](v T) []byte {
	out, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return out
}
