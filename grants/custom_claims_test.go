package grants_test

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// introspected is what introspection says of a token.
func (w *world) introspected(token []byte) map[string]any {
	w.t.Helper()
	answer := must(w.intro.Introspect(w.FSM.View(), &tokens.Caller{}, string(token)))(w.t)
	out := map[string]any{}
	if err := json.Unmarshal(answer.AppendJSON(nil), &out); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// TestCustomClaimsOfBothForms: what tenant and client put into access tokens is the same
// in a JWT, in its introspection and in that of an opaque token, asked about once or
// again, after a refresh too. REG-05: nothing of it takes the place of a claim that says
// what the token is, be the record what it may.
func TestCustomClaimsOfBothForms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Must(t, &command.PutRole{Role: &state.Role{Tenant: "default", Name: "clerk"}})
	w.user(func(u *state.User) {
		u.Roles, u.Entitlements, u.Email = []string{"clerk"}, []string{"gold"}, "alice@x.example"
		u.Attributes = []*state.Attribute{{Name: "office", Json: []byte(`{"floor":3}`)}}
	})
	w.tenant(func(tenant *state.Tenant) {
		tenant.Settings = &state.TenantSettings{AccessTokenClaims: []*state.ClaimRule{
			{Claim: "roles", Source: "roles"}, {Claim: "mail", Source: "email"}, {Claim: "exp", Source: "email"}, {Claim: "Active", Source: "email"},
		}}
	})
	want := map[string]string{"roles": `["clerk"]`, "ent": `["gold"]`, "office": `{"floor":3}`, "mail": `"alice"`}
	holds := func(what string, got map[string]any) {
		t.Helper()
		for name, value := range want {
			if text, _ := json.Marshal(got[name]); string(text) != value {
				t.Errorf("%s: %s is %s, want %s", what, name, text, value)
			}
		}
		if exp, ok := got["exp"].(float64); !ok || int64(exp) <= w.Now().Unix() || got["Active"] != nil {
			t.Errorf("%s: a protected claim was set: %v", what, got)
		}
	}
	for _, format := range []string{"jwt", "opaque"} {
		w.client(format, func(r *clients.Registration) {
			r.AccessTokenFormat = format
			r.AccessTokenClaims = []clients.ClaimRule{{Claim: "ent", Source: "entitlements"}, {Claim: "office", Source: "attribute:office"}, {Claim: "mail", Source: "username"}}
		})
		login := w.login(format, "openid offline_access read")
		if format == "jwt" {
			holds("the token", payload(t, string(login.Token)))
		}
		holds(format, w.introspected(login.Token))
		holds(format+", asked again", w.introspected(login.Token))
		next := must(w.ask(format, "refresh_token", "refresh_token", string(login.Refresh)))(t)
		holds(format+" after a refresh", w.introspected(next.Token))
		own := must(w.ask(format, "client_credentials"))(t)
		if got := w.introspected(own.Token); got["roles"] != nil || got["mail"] != nil || got["active"] != true {
			t.Errorf("%s: a client's own token has claims of a user: %v", format, got)
		}
	}
}

// TestCustomClaimsOfAnIssuer: what a trusted issuer brought is told of an opaque token, too.
func TestCustomClaimsOfAnIssuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.trust(func(i *state.TrustedIssuer) {
		i.ClaimMapping = []*state.ClaimMapping{{Remote: "dept", Local: "department"}}
	})
	w.client("opaque", func(r *clients.Registration) { r.AccessTokenFormat = "opaque" })
	out := must(w.ask("opaque", jwtBearer, "assertion", w.assertion("dept", "sales")))(t)
	if got := w.introspected(out.Token); got["department"] != "sales" {
		t.Errorf("introspection says %v", got)
	}
}

// TestTooManyCustomClaims: what would not fit a header is refused before the code is used
// up, and in words that say what to do.
func TestTooManyCustomClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, format := range []string{"jwt", "opaque"} {
		w.client(format, func(r *clients.Registration) {
			r.AccessTokenFormat, r.AccessTokenClaims = format, []clients.ClaimRule{{Claim: "notes", Source: "attribute:notes"}}
		})
		notes := func(size int) {
			w.user(func(u *state.User) {
				u.Attributes = []*state.Attribute{{Name: "notes", Json: []byte(`"` + strings.Repeat("x", size) + `"`)}}
			})
		}
		notes(4096)
		code := w.code(format, "read")
		redeem := func() (*grants.Answer, error) {
			return w.ask(format, "authorization_code", "code", code, "redirect_uri", "https://app.example/cb")
		}
		out, err := redeem()
		w.refused(format+" with 4 KiB of claims", out, err, oauth.InvalidRequest)
		notes(100)
		if _, err := redeem(); err != nil {
			t.Errorf("%s: the refusal used the code up: %v", format, err)
		}
	}
}

// TestWhatCustomClaimsCostInTheState: a row of an opaque token holds the claims' JSON and
// three bytes more, and without a rule nothing.
func TestWhatCustomClaimsCostInTheState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.user(func(u *state.User) { u.Entitlements = []string{"gold", "early access"} })
	rows := map[string]*state.OpaqueToken{}
	for name, rules := range map[string][]clients.ClaimRule{"without": nil, "with": {{Claim: "ent", Source: "entitlements"}}} {
		w.client(name, func(r *clients.Registration) { r.AccessTokenFormat, r.AccessTokenClaims = "opaque", rules })
		w.login(name, "read")
		w.mu.Lock()
		rows[name] = w.writes[len(w.writes)-1].(*command.IssueOpaque).GetToken()
		w.mu.Unlock()
	}
	if n := len(rows["without"].GetClaims()); n != 0 {
		t.Errorf("%d bytes without a rule", n)
	}
	const claims = `{"ent":["gold","early access"]}`
	bare := proto.CloneOf(rows["with"])
	bare.Claims = nil
	if cost := proto.Size(rows["with"]) - proto.Size(bare); string(rows["with"].GetClaims()) != claims || cost != len(claims)+3 {
		t.Errorf("%s costs %d bytes, want %s and %d", rows["with"].GetClaims(), cost, claims, len(claims)+3)
	}
}
