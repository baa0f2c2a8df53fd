package forwardauth

import (
	"strings"
	"testing"

	"github.com/keyraft/keyraft/gateway"
)

// TestBEA05AChallengeIsOneHeader: whatever a refusal holds stays within the quotes of its
// parameter, and no line ends in it.
func TestBEA05AChallengeIsOneHeader(t *testing.T) {
	t.Parallel()
	for _, r := range []*gateway.Refusal{
		{Reason: gateway.InsufficientScope, Status: 403, Code: "insufficient_scope", Scope: `a" , error="x`, Message: `say "please" \ now`},
		{Reason: gateway.InsufficientScope, Status: 403, Code: "insufficient_scope", Scope: "a\r\nSet-Cookie: x=y", Message: "b\nc\x00d\x7f\u00e9"},
		{Reason: gateway.Bound, Status: 401, Code: `in"valid`, Scheme: "DPoP", Message: "\\"},
	} {
		c := challenge(r)
		inside, escaped := false, false
		for i := range len(c) {
			switch {
			case c[i] < ' ' || c[i] > '~':
				t.Fatalf("%q holds a control character", c)
			case escaped:
				escaped = false
			case c[i] == '\\':
				if escaped = true; !inside {
					t.Fatalf("%q: a backslash outside of quotes", c)
				}
			case c[i] == '"':
				inside = !inside
			}
		}
		if inside || strings.Count(c, `error="x`) != 0 {
			t.Errorf("%q", c)
		}
	}
}
