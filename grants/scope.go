package grants

import (
	"slices"
	"strings"

	"github.com/keyraft/keyraft/internal/oauth"
)

// maxScopes bounds the items of a request's scope (TOK-37).
const maxScopes = 256

// narrow returns the scope that is granted: of what was asked, what the client may
// have, in the order asked, each once; all that it may have when nothing was asked
// (RFC 6749 §3.3). More than that is invalid_scope, or dropped where drop says so;
// but something must be left. never tells scopes that this grant gives nobody. It
// does not allocate when what was asked is granted as it is.
func narrow(asked string, allowed []string, drop bool, never func(string) bool) (string, error) {
	if asked == "" {
		return whole(allowed, never), nil
	}
	if strings.Count(asked, " ") >= maxScopes {
		return "", oauth.InvalidScope.Withf("scope has more than %d items; ask for fewer", maxScopes)
	}
	same := true
	for rest, more := asked, true; more; {
		var item string
		start := len(asked) - len(rest)
		item, rest, more = strings.Cut(rest, " ")
		if !oauth.ValidScope(item) {
			return "", oauth.InvalidScope.With("scope must be a list of names separated by single spaces, of printable ASCII without quotes and backslashes")
		}
		if !slices.Contains(allowed, item) || never(item) {
			if !drop {
				return "", oauth.InvalidScope.Withf("the client may not have the scope %.100s; ask for less or register it", item)
			}
			same = false
		} else if within(asked[:max(start-1, 0)], item) {
			same = false
		}
	}
	if same {
		return asked, nil
	}
	var kept []string
	for item := range strings.SplitSeq(asked, " ") {
		if slices.Contains(allowed, item) && !never(item) && !slices.Contains(kept, item) {
			kept = append(kept, item)
		}
	}
	if len(kept) == 0 {
		return "", oauth.InvalidScope.With("the client may have none of the scopes that it asked for")
	}
	return strings.Join(kept, " "), nil
}

// within tells whether item is one of the items of list.
func within(list, item string) bool {
	for rest, more := list, list != ""; more; {
		var have string
		have, rest, more = strings.Cut(rest, " ")
		if have == item {
			return true
		}
	}
	return false
}

// whole joins all that the client may have.
func whole(allowed []string, never func(string) bool) string {
	if slices.ContainsFunc(allowed, never) {
		allowed = slices.DeleteFunc(slices.Clone(allowed), never)
	}
	return strings.Join(allowed, " ")
}

// scopeItems splits a scope that was granted.
func scopeItems(scope string) []string { return strings.Fields(scope) }

// nobody is the never of a grant that gives every scope.
func nobody(string) bool { return false }
