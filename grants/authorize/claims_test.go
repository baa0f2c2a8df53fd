package authorize

import (
	"slices"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/fsm/state"
)

type claimsForm string

func (f claimsForm) Get(name string) string {
	if name == "claims" {
		return string(f)
	}
	return ""
}
func (f claimsForm) All(string) []string { return nil }

// TestClaimsParameter is AUT-27: limits of the parameter, the user and the class of login
// that it asks for; what is unknown is ignored.
func TestClaimsParameter(t *testing.T) {
	t.Parallel()
	defaults := []string{"1"}
	for _, tt := range []struct {
		name, claims string
		refused      bool
		subject, acr string
	}{
		{name: "none", acr: "1"},
		{name: "unknown claims and answers", claims: `{"userinfo":{"x":null},"y":[1]}`, acr: "1"},
		{name: "another user", claims: `{"id_token":{"sub":{"value":"u2"}}}`, subject: "u2", acr: "1"},
		{name: "one user twice", claims: `{"id_token":{"sub":{"value":"u2"}},"userinfo":{"sub":{"value":"u2"}}}`, subject: "u2", acr: "1"},
		{name: "two users", claims: `{"id_token":{"sub":{"value":"u2"}},"userinfo":{"sub":{"value":"u3"}}}`, refused: true},
		{name: "a class of login", claims: `{"id_token":{"acr":{"essential":true,"values":["1","2"]}}}`, acr: "1 2"},
		{name: "too many classes", claims: `{"id_token":{"acr":{"values":["` + strings.Join(strings.Fields("a b c d e f g h i j k l m n o p"), `","`) + `"]}}}`, refused: true},
		{name: "a name twice", claims: `{"userinfo":{},"userinfo":{}}`, refused: true},
		{name: "10 MB", claims: `{"userinfo":{"a":{"value":"` + strings.Repeat("x", 10<<20) + `"}}}`, refused: true},
		{name: "10 000 deep", claims: strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), refused: true},
	} {
		r := &state.AuthorizationRequest{AcrValues: defaults[:1:1]}
		refusal := objects(r, nil, nil, claimsForm(tt.claims))
		if (refusal != nil) != tt.refused {
			t.Errorf("%s: %v", tt.name, refusal)
		}
		if refusal == nil && (r.GetHintSubject() != tt.subject || strings.Join(r.GetAcrValues(), " ") != tt.acr || string(r.GetClaims()) != tt.claims) {
			t.Errorf("%s: %v", tt.name, r)
		}
	}
	if !slices.Equal(defaults, []string{"1"}) {
		t.Errorf("the client's defaults became %v", defaults)
	}
}
