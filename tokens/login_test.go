package tokens_test

import (
	"encoding/json"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/tokens"
)

// TestWhatATokenSaysOfItsUser: introspection tells of either form of token what it was
// minted with, and a bound token is never taken for a bearer token (RFC 9449 §7.2).
func TestWhatATokenSaysOfItsUser(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	k.addKeys(t, "ES256")
	client := k.addClient(t, &state.Client{Id: "web"})
	k.must(t, &command.PutUser{User: &state.User{Tenant: "default", Id: "u1", Username: "Alice", Key: "alice"}})
	tenant, _ := k.view().Tenant("default")
	const login = `,"auth_time":1700000000,"acr":"2","amr":["pwd","otp"],"act":{"sub":"svc"},"authorization_details":[{"type":"pay"}]`
	for _, tt := range []struct {
		name, subject, jkt, x5t, want string
	}{
		{"a bearer token of a public subject", "u1", "", "", `"token_type":"Bearer","username":"Alice"` + login},
		{"a pairwise subject tells no name", "pairwise", "", "", `"token_type":"Bearer"` + login},
		{"a client's own token", "web", "", "", `"token_type":"Bearer"` + login},
		{"bound to a DPoP key", "u1", "thumb", "", `"token_type":"DPoP","username":"Alice","cnf":{"jkt":"thumb"}` + login},
		{"bound to a certificate", "u1", "", "print", `"token_type":"Bearer","username":"Alice","cnf":{"x5t#S256":"print"}` + login},
		{"bound to both", "u1", "thumb", "print", `"token_type":"DPoP","username":"Alice","cnf":{"jkt":"thumb","x5t#S256":"print"}` + login},
	} {
		c := k.claims("web")
		c.Subject, c.JKT, c.X5T, c.AuthTime, c.ACR, c.AMR = tt.subject, tt.jkt, tt.x5t, 1_700_000_000, "2", []string{"pwd", "otp"}
		c.Act, c.Details, c.Userinfo = []byte(`{"sub":"svc"}`), []byte(`[{"type":"pay"}]`), []string{"email"}
		opaque, err := k.opaque.AppendToken(t.Context(), nil, k.view(), tenant, client, c)
		if err != nil {
			t.Fatal(err)
		}
		for form, token := range map[string]string{"jwt": k.mint(t, c), "opaque": string(opaque)} {
			answer, err := k.intro.Introspect(k.view(), &tokens.Caller{Client: client}, token)
			if err != nil {
				t.Fatal(err)
			}
			var got, want map[string]any
			if err := json.Unmarshal(answer.AppendJSON(nil), &got); err != nil {
				t.Fatalf("%s, %s: %v: %s", tt.name, form, err, answer.AppendJSON(nil))
			}
			if err := json.Unmarshal([]byte("{"+tt.want+"}"), &want); err != nil {
				t.Fatal(err)
			}
			for name := range map[string]any{"token_type": nil, "username": nil, "cnf": nil, "auth_time": nil, "acr": nil, "amr": nil, "act": nil, "authorization_details": nil} {
				a, _ := json.Marshal(got[name])
				b, _ := json.Marshal(want[name])
				if string(a) != string(b) {
					t.Errorf("%s, %s: %s is %s, want %s", tt.name, form, name, a, b)
				}
			}
			if got["userinfo_claims"] != nil {
				t.Errorf("%s, %s: what userinfo is asked for is told", tt.name, form)
			}
			_, bearer, err := k.intro.Authenticate(k.view(), token)
			if bound := tt.jkt != "" || tt.x5t != ""; err != nil || bearer == bound {
				t.Errorf("%s, %s: taken as bearer token: %t, %v", tt.name, form, bearer, err)
			}
			s, ok, err := k.intro.Holder(k.view(), token)
			if err != nil || !ok || s.JKT != tt.jkt || s.X5T != tt.x5t || s.Subject != tt.subject || len(s.Userinfo) != 1 {
				t.Errorf("%s, %s: %+v, %t, %v", tt.name, form, s, ok, err)
			}
		}
	}
}
