package identity_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/testnode"
)

func claimsText(claims []identity.Claim) string {
	var out []string
	for _, c := range claims {
		out = append(out, c.Name+"="+string(c.JSON))
	}
	return strings.Join(out, " ")
}

// TestScopeClaims is OpenID Connect Core §5.4, with a tenant's own scopes.
func TestScopeClaims(t *testing.T) {
	t.Parallel()
	n := testnode.New(t, testnode.Options{})
	n.Must(t, &command.PutRole{Role: &state.Role{Tenant: "default", Name: "clerk"}})
	n.Must(t, &command.PutScope{Scope: &state.Scope{Tenant: "default", Name: "staff", Claims: []string{"department", "roles", "email", "sub", "acr"}}})
	v := n.FSM.View()
	user := &state.User{
		Tenant: "default", Id: "u1", Username: "alice", Name: "Alice", Email: "a@x.example", PhoneNumber: "+49 1", PhoneNumberVerified: true,
		Roles: []string{"clerk", "former"}, UpdatedAt: 1_700_000_000_999, Attributes: []*state.Attribute{
			{Name: "department", Json: []byte(`"sales"`)}, {Name: "address", Json: []byte(`{"country":"DE"}`)}, {Name: "nickname", Json: []byte(`{`)},
			{Name: "acr", Json: []byte(`"forged"`)}, {Name: "sub", Json: []byte(`"u2"`)}, {Name: "website", Json: []byte(`"https://a.example"`)},
		},
	}
	for _, tt := range []struct{ scope, want string }{
		{"", ""},
		{"openid offline_access unknown", ""},
		{"email", `email="a@x.example" email_verified=false`},
		{"openid phone address", `address={"country":"DE"} phone_number="+49 1" phone_number_verified=true`},
		{"profile", `name="Alice" preferred_username="alice" updated_at=1700000000 website="https://a.example"`},
		{"staff email", `department="sales" email="a@x.example" email_verified=false roles=["clerk"]`},
	} {
		if got := claimsText(identity.Claims(v, user, identity.ScopeClaims(v, "default", tt.scope))); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.scope, got, tt.want)
		}
	}
	if names := identity.ScopeClaims(v, "acme", "staff"); names != nil {
		t.Errorf("another tenant's scope brings %v", names)
	}
	scopes, claims := identity.StandardScopes()
	if !slices.Contains(scopes, "phone") || !slices.Contains(claims, "birthdate") {
		t.Errorf("%v, %v", scopes, claims)
	}
}

// TestClaimsRequest is OpenID Connect Core §5.5, with its limits (AUT-27).
func TestClaimsRequest(t *testing.T) {
	t.Parallel()
	r, err := identity.ParseClaimsRequest([]byte(`{
		"userinfo": {"given_name": {"essential": true}, "nickname": null, "http://x.example/c": {"other": [1]}},
		"id_token": {"acr": {"values": ["2", "3"]}, "sub": {"value": "u1"}, "email": {"value": "b@x.example"}, "name": null},
		"unknown": 7}`))
	if err != nil || len(r.Userinfo) != 3 || len(r.IDToken) != 4 || !r.Userinfo[0].Essential || r.Userinfo[1].Essential {
		t.Fatalf("%+v, %v", r, err)
	}
	if acr, sub := r.Texts("acr"), r.Texts("sub"); !slices.Equal(acr, []string{"2", "3"}) || !slices.Equal(sub, []string{"u1"}) || r.Texts("none") != nil {
		t.Errorf("acr %v, sub %v", acr, sub)
	}
	user := &state.User{Tenant: "default", Name: "Alice", GivenName: "Ali", Email: "a@x.example"}
	v := testnode.New(t, testnode.Options{}).FSM.View()
	may := func(name string) bool { return name != "given_name" }
	if got := claimsText(identity.Pick(v, user, append(r.IDToken, r.Userinfo...), may)); got != `name="Alice"` {
		t.Errorf("a claim of another value, or one that may not be told: %s", got)
	}
	if r, err := identity.ParseClaimsRequest(nil); err != nil || r.Userinfo != nil {
		t.Errorf("%v, %v", r, err)
	}
	many := strings.TrimSuffix(strings.Repeat(`"c",`, 101), ",")
	for i := range 101 {
		many = strings.Replace(many, `"c"`, `"k`+strings.Repeat("x", i)+`":null`, 1)
	}
	for name, text := range map[string]string{
		"10 MB":                    `{"userinfo":{"a":{"value":"` + strings.Repeat("x", 10<<20) + `"}}}`,
		"10 000 deep":              strings.Repeat(`[`, 10_000) + strings.Repeat(`]`, 10_000),
		"7 deep":                   `{"userinfo":{"a":{"value":[[[[1]]]]}}}`,
		"a name twice":             `{"userinfo":{},"userinfo":{}}`,
		"a name twice inside":      `{"x":[{"a":1,"\u0061":2}]}`,
		"a claim twice":            `{"id_token":{"sub":{"value":"u1"},"sub":{"value":"u2"}}}`,
		"no object":                `[]`,
		"null":                     `null`,
		"no JSON":                  `{`,
		"more behind":              `{} {}`,
		"an answer that is a list": `{"userinfo":[]}`,
		"a claim that is a text":   `{"userinfo":{"a":"b"}}`,
		"values that are no list":  `{"userinfo":{"a":{"values":"b"}}}`,
		"essential that is a text": `{"userinfo":{"a":{"essential":"yes"}}}`,
		"a claim without a name":   `{"userinfo":{"":null}}`,
		"a claim with a long name": `{"userinfo":{"` + strings.Repeat("x", 300) + `":null}}`,
		"101 claims":               `{"userinfo":{` + many + `}}`,
		"bytes that are not UTF-8": "{\"userinfo\":{\"\xff\":null}}",
	} {
		if r, err := identity.ParseClaimsRequest([]byte(text)); err == nil {
			t.Errorf("%s is taken: %+v", name, r)
		}
	}
	// Members of another case are other members.
	if r, err := identity.ParseClaimsRequest([]byte(`{"UserInfo":{"a":null},"id_token":{"a":{"Essential":true}}}`)); err != nil || r.Userinfo != nil || r.IDToken[0].Essential {
		t.Errorf("%+v, %v", r, err)
	}
}

// FuzzParseClaimsRequest: whatever is taken is within the limits, and valid JSON.
func FuzzParseClaimsRequest(f *testing.F) {
	f.Add([]byte(`{"userinfo":{"a":{"essential":true,"values":[1,{}]},"b":null},"id_token":{"sub":{"value":"u"}}}`))
	f.Add([]byte(`{"userinfo":null}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := identity.ParseClaimsRequest(text)
		if err != nil || len(text) == 0 {
			return
		}
		if !json.Valid(text) || len(r.Userinfo) > 100 || len(r.IDToken) > 100 {
			t.Fatalf("%q: %d and %d", text, len(r.Userinfo), len(r.IDToken))
		}
		for _, list := range [][]identity.Asked{r.Userinfo, r.IDToken} {
			if !slices.IsSortedFunc(list, func(a, b identity.Asked) int { return strings.Compare(a.Name, b.Name) }) {
				t.Fatalf("%q: not in order", text)
			}
		}
	})
}
