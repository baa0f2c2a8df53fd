package grants

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/tokens"
)

// extra are the claims that a grant's token gets from its user. Who asks for none pays
// for no look-up.
func (p *Pipeline) extra(v *state.View, tenant *state.Tenant, client *state.Client, d *Decision) ([]tokens.Member, error) {
	if d.Authorization.GetUser() == "" || client.GetAccessTokenFormat() == formatOpaque ||
		len(tenant.GetSettings().GetAccessTokenClaims()) == 0 && len(client.GetAccessTokenClaims()) == 0 {
		return nil, nil
	}
	user, err := v.User(tenant.GetId(), d.Authorization.GetUser())
	if p.cfg.absent(err) {
		return nil, errPerson
	}
	if err != nil {
		return nil, err
	}
	return accessClaims(v, tenant, client, user), nil
}

// accessClaims are the claims of an access token that tenant and client take from the
// user: the tenant's rules, then the client's, which win where both name a claim. Those
// of a client that registered itself don't count: it would help itself to what is
// known of users. What the user has not is left out, and so is a protected claim,
// whatever a record says (REG-05).
func accessClaims(v *state.View, tenant *state.Tenant, client *state.Client, user *state.User) []tokens.Member {
	var own []*state.ClaimRule
	if !client.GetSelfRegistered() {
		own = client.GetAccessTokenClaims()
	}
	var out []tokens.Member
	add := func(rule *state.ClaimRule) {
		if clients.ProtectedClaim(strings.ToLower(rule.GetClaim())) {
			return
		}
		if value := claimValue(v, tenant.GetId(), user, rule.GetSource()); value != nil {
			out = append(out, tokens.Member{Name: rule.GetClaim(), JSON: value})
		}
	}
	for _, rule := range tenant.GetSettings().GetAccessTokenClaims() {
		if !slices.ContainsFunc(own, func(o *state.ClaimRule) bool { return o.GetClaim() == rule.GetClaim() }) {
			add(rule)
		}
	}
	for _, rule := range own {
		add(rule)
	}
	return out
}

// claimValue is what a source gives, as JSON; nil for nothing.
func claimValue(v *state.View, tenant string, u *state.User, source string) []byte {
	if name, ok := strings.CutPrefix(source, clients.AttributeSource); ok {
		for _, a := range u.GetAttributes() {
			if a.GetName() == name && json.Valid(a.GetJson()) {
				return a.GetJson()
			}
		}
		return nil
	}
	switch source {
	case "roles":
		return jsonOf(rolesOf(v, tenant, u))
	case "groups":
		return jsonOf(groupsOf(v, tenant, u))
	case "entitlements":
		return jsonOf(u.GetEntitlements())
	case "email_verified":
		return jsonFlag(u.GetEmail() != "", u.GetEmailVerified())
	case "phone_number_verified":
		return jsonFlag(u.GetPhoneNumber() != "", u.GetPhoneNumberVerified())
	}
	return jsonText(map[string]string{
		"username": u.GetUsername(), "email": u.GetEmail(), "name": u.GetName(), "given_name": u.GetGivenName(),
		"family_name": u.GetFamilyName(), "phone_number": u.GetPhoneNumber(), "locale": u.GetLocale(),
	}[source])
}

// rolesOf are the registered roles that a user has, by name or by a group, in order.
func rolesOf(v *state.View, tenant string, u *state.User) []string {
	all := slices.Clone(u.GetRoles())
	for _, name := range u.GetGroups() {
		if g, ok := v.Group(tenant, name); ok {
			all = append(all, g.GetRoles()...)
		}
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(name string) bool { _, ok := v.Role(tenant, name); return !ok })
}

// groupsOf are the registered groups that a user is in.
func groupsOf(v *state.View, tenant string, u *state.User) []string {
	return slices.DeleteFunc(slices.Clone(u.GetGroups()), func(name string) bool { _, ok := v.Group(tenant, name); return !ok })
}

func jsonOf(names []string) []byte {
	if len(names) == 0 {
		return nil
	}
	return jsonValue(names)
}

func jsonText(text string) []byte {
	if text == "" {
		return nil
	}
	return jsonValue(text)
}

func jsonFlag(known, on bool) []byte {
	switch {
	case !known:
		return nil
	case on:
		return []byte("true")
	}
	return []byte("false")
}

// jsonValue encodes what always can be.
func jsonValue[T string | []string](v T) []byte {
	out, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return out
}
