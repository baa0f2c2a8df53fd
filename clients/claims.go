package clients

import (
	"slices"
	"strings"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// ClaimRule puts something that is known of the user into a claim of access tokens.
type ClaimRule struct {
	Claim  string `json:"claim"`
	Source string `json:"source"` // member of the user, or AttributeSource and a name
}

// AttributeSource begins a source that is an attribute of the user.
const AttributeSource = "attribute:"

const (
	maxClaimRules = 30
	maxClaimName  = 100 // bytes
)

// claimSource tells what a rule may take.
func claimSource(source string) bool {
	switch source {
	case "roles", "groups", "entitlements", "username", "email", "email_verified", "name", "given_name", "family_name",
		"phone_number", "phone_number_verified", "locale":
		return true
	}
	name, ok := strings.CutPrefix(source, AttributeSource)
	return ok && ClaimName(name)
}

// ClaimName tells what may be the name of a claim that a rule reads or sets.
func ClaimName(name string) bool {
	return name != "" && len(name) <= maxClaimName && !strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '"' || c == '\\' })
}

// CheckClaims checks the rules that a client or a tenant is to have, wholly at each
// change. The error is a *FieldError.
func CheckClaims(rules []ClaimRule) error {
	const field = "access_token_claims"
	if len(rules) > maxClaimRules {
		return bad(field, "at most %d claims", maxClaimRules)
	}
	for i, r := range rules {
		switch {
		case !ClaimName(r.Claim):
			return bad(field, "a claim's name has 1 to %d printable ASCII characters without spaces, quotes and backslashes", maxClaimName)
		case oauth.ReservedClaim(strings.ToLower(r.Claim)):
			return bad(field, "the claim %s says what a token is and can't be set; choose another name", r.Claim)
		case !claimSource(r.Source):
			return bad(field, "the source of a claim is roles, groups, entitlements, username, email, email_verified, name, given_name, family_name, phone_number, phone_number_verified, locale, or %sNAME", AttributeSource)
		case slices.ContainsFunc(rules[:i], func(other ClaimRule) bool { return other.Claim == r.Claim }):
			return bad(field, "the claim %s is there twice", r.Claim)
		}
	}
	return nil
}

// ClaimRulesTo and ClaimRulesFrom turn rules into their records and back.
func ClaimRulesTo(rules []ClaimRule) []*state.ClaimRule {
	var out []*state.ClaimRule
	for _, r := range rules {
		out = append(out, &state.ClaimRule{Claim: r.Claim, Source: r.Source})
	}
	return out
}

// ClaimRulesFrom: see ClaimRulesTo.
func ClaimRulesFrom(rules []*state.ClaimRule) []ClaimRule {
	var out []ClaimRule
	for _, r := range rules {
		out = append(out, ClaimRule{Claim: r.GetClaim(), Source: r.GetSource()})
	}
	return out
}
