package grants

import (
	"strings"
	"testing"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
)

func TestAccessClaims(t *testing.T) {
	t.Parallel()
	v := registered(t)
	user := &state.User{
		Tenant: "default", Username: "alice", Email: "a@x.example", Roles: []string{"clerk", "former"}, Groups: []string{"heads", "none such"},
		Entitlements: []string{"gold"}, Attributes: []*state.Attribute{{Name: "office", Json: []byte(`{"floor":3}`)}, {Name: "broken", Json: []byte(`{`)}},
	}
	rules := func(text string) (out []*state.ClaimRule) {
		for _, pair := range strings.Fields(text) {
			claim, source, _ := strings.Cut(pair, "=")
			out = append(out, &state.ClaimRule{Claim: claim, Source: source})
		}
		return out
	}
	for _, tt := range []struct {
		name, tenant, client string
		self                 bool
		want                 string
	}{
		{name: "no rule", want: ""},
		{name: "roles by name and by group, registered ones alone", tenant: "roles=roles", want: `roles=["chief","clerk"]`},
		{name: "registered groups", tenant: "teams=groups", want: `teams=["heads"]`},
		{name: "entitlements and members", tenant: "ent=entitlements user=username", client: "mail=email ok=email_verified", want: `ent=["gold"] user="alice" mail="a@x.example" ok=false`},
		{name: "an attribute is its JSON", client: "office=attribute:office", want: `office={"floor":3}`},
		{name: "what the user has not is left out", tenant: "a=attribute:none b=phone_number c=phone_number_verified d=attribute:broken e=nonsense", want: ""},
		{name: "the client's rule wins", tenant: "x=email y=username", client: "x=username", want: `y="alice" x="alice"`},
		{name: "a client that registered itself helps itself to nothing", tenant: "x=username", client: "x=email z=email", self: true, want: `x="alice"`},
		{name: "REG-05 a protected claim is left out, whatever the record says", tenant: "sub=email cnf=attribute:office ISS=email", client: "scope=username", want: ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tenant := &state.Tenant{Id: "default", Settings: &state.TenantSettings{AccessTokenClaims: rules(tt.tenant)}}
			var got []string
			for _, m := range accessClaims(v, tenant, &state.Client{AccessTokenClaims: rules(tt.client), SelfRegistered: tt.self}, user) {
				got = append(got, m.Name+"="+string(m.JSON))
			}
			if all := strings.Join(got, " "); all != tt.want {
				t.Errorf("claims %s, want %s", all, tt.want)
			}
		})
	}
}

// TestClaimRules is REG-05: what is saved may not name a protected claim.
func TestClaimRules(t *testing.T) {
	t.Parallel()
	if err := clients.CheckClaims([]clients.ClaimRule{{Claim: "office", Source: "attribute:office"}, {Claim: "roles", Source: "roles"}}); err != nil {
		t.Error(err)
	}
	for _, claim := range strings.Fields("iss sub aud exp nbf iat jti client_id scope ev gid root app cnf act authorization_details acr amr auth_time SUB Cnf") {
		if clients.CheckClaims([]clients.ClaimRule{{Claim: claim, Source: "email"}}) == nil {
			t.Errorf("%s may be set", claim)
		}
	}
	for _, bad := range [][]clients.ClaimRule{
		{{Claim: "", Source: "email"}}, {{Claim: "a b", Source: "email"}}, {{Claim: "a", Source: ""}}, {{Claim: "a", Source: "password"}},
		{{Claim: "a", Source: "attribute:"}}, {{Claim: "a", Source: "email"}, {Claim: "a", Source: "name"}}, make([]clients.ClaimRule, 31),
	} {
		if clients.CheckClaims(bad) == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}
