package oauth

import (
	"slices"
	"strings"
)

// maxScopes bounds the items of one scope value (TOK-37): more is a mistake or an
// attack, and every later step costs by the item.
const maxScopes = 256

// ScopeAdmin is the scope of access tokens that may use the admin API of their tenant.
const ScopeAdmin = "keyraft:admin"

// ValidScope says whether s is one scope-token: 1*( %x21 / %x23-5B / %x5D-7E ),
// printable ASCII without space, double quote and backslash (RFC 6749 §3.3).
func ValidScope(s string) bool {
	for i := range len(s) {
		if b := s[i]; b <= ' ' || b > '~' || b == '"' || b == '\\' {
			return false
		}
	}
	return s != ""
}

// SplitScope splits a scope value into its tokens: separated by exactly one space,
// order kept, repeated ones dropped (RFC 6749 §3.3). "" gives none. The error is
// invalid_scope: a character that is not allowed, an empty item (leading,
// trailing or doubled space), more than 256 items.
func SplitScope(s string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	if strings.Count(s, " ") >= maxScopes {
		return nil, InvalidScope.Withf("scope has more than %d items; ask for fewer", maxScopes)
	}
	items := strings.Split(s, " ")
	kept := items[:0]
	for _, item := range items {
		if !ValidScope(item) {
			return nil, InvalidScope.With("scope must be a list of names separated by single spaces, of printable ASCII without quotes and backslashes")
		}
		if !slices.Contains(kept, item) {
			kept = append(kept, item)
		}
	}
	return kept, nil
}
