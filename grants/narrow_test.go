package grants

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/testnode"
)

// registered is a state with the roles clerk and chief, the group heads with chief, and
// scopes: read (clerk), write (chief), all (chief, includes read), free (no role), gone
// (a role that was deleted), loop of two.
func registered(t *testing.T) *state.View {
	t.Helper()
	n := testnode.New(t, testnode.Options{})
	for _, name := range []string{"clerk", "chief", "former"} {
		n.Must(t, &command.PutRole{Role: &state.Role{Tenant: "default", Name: name}})
	}
	n.Must(t, &command.PutGroup{Group: &state.Group{Tenant: "default", Name: "heads", Roles: []string{"chief"}}})
	for _, s := range []*state.Scope{
		{Name: "read", Roles: []string{"clerk"}}, {Name: "write", Roles: []string{"chief"}}, {Name: "free"},
		{Name: "gone", Roles: []string{"former"}}, {Name: "all", Roles: []string{"chief"}, Includes: []string{"read"}},
		{Name: "device_1", Roles: []string{"chief"}}, {Name: "open", Includes: []string{"write"}},
	} {
		s.Tenant = "default"
		n.Must(t, &command.PutScope{Scope: s})
	}
	n.Must(t, &command.DeleteRole{Tenant: "default", Name: "former", Force: true})
	return n.FSM.View()
}

func TestNarrowOfAUser(t *testing.T) {
	t.Parallel()
	v := registered(t)
	clerk := &state.User{Tenant: "default", Roles: []string{"clerk", "former"}}
	head := &state.User{Tenant: "default", Groups: []string{"heads", "no such group"}}
	nobody := &state.User{Tenant: "default"}
	strict := &state.TenantSettings{RefuseUnknownScopes: true, ScopePatterns: []string{"device_.*", "misc"}}
	drop := &state.TenantSettings{NarrowScopes: true}
	for _, tt := range []struct {
		name     string
		user     *state.User
		client   string
		settings *state.TenantSettings
		asked    string
		want     string
		refused  bool
	}{
		{name: "a role of the user's own", user: clerk, client: "read", asked: "read", want: "read"},
		{name: "no role", user: nobody, client: "read", asked: "read", refused: true},
		{name: "a role by a group", user: head, client: "write", asked: "write", want: "write"},
		{name: "another role", user: clerk, client: "write", asked: "write", refused: true},
		{name: "letter case of a role counts", user: &state.User{Roles: []string{"Clerk"}}, client: "read", asked: "read", refused: true},
		{name: "a group of that name is no role", user: &state.User{Groups: []string{"clerk"}}, client: "read", asked: "read", refused: true},
		{name: "a role that was deleted is nobody's", user: clerk, client: "gone", asked: "gone", refused: true},
		{name: "a role does not widen the client", user: clerk, client: "free", asked: "read", refused: true},
		{name: "a scope without roles is everybody's", user: nobody, client: "free", asked: "free", want: "free"},
		{name: "an unregistered one goes by the client", user: nobody, client: "misc", asked: "misc", want: "misc"},
		{name: "unless the tenant refuses unknown ones", user: nobody, client: "other", settings: strict, asked: "other", refused: true},
		{name: "standard ones are known", user: nobody, client: "openid email", settings: strict, asked: "openid email", want: "openid email"},
		{name: "a pattern knows it", user: nobody, client: "misc", settings: strict, asked: "misc", want: "misc"},
		{name: "a pattern passes without the role", user: nobody, client: "device_1", settings: strict, asked: "device_1", want: "device_1"},
		{name: "a pattern does not widen the client", user: nobody, client: "misc", settings: strict, asked: "device_1", refused: true},
		{name: "a pattern is anchored", user: nobody, client: "my_misc", settings: strict, asked: "my_misc", refused: true},
		{name: "a wider scope of client and user implies it", user: head, client: "all", asked: "read", want: "read"},
		{name: "a wider scope that the user may not have does not", user: nobody, client: "all read", asked: "read", refused: true},
		{name: "a wider scope that the client may not have does not", user: head, client: "read", asked: "read", refused: true},
		{name: "a wider scope adds nothing to what was asked", user: head, client: "all read", asked: "all", want: "all"},
		{name: "what is beyond the user is dropped where the tenant says so", user: clerk, client: "read write free", settings: drop, asked: "write free read", want: "free read"},
		{name: "something must be left", user: nobody, client: "read write", settings: drop, asked: "read write", refused: true},
		{name: "each once", user: clerk, client: "read free", asked: "read free read", want: "read free"},
		{name: "TOK-37 a doubled space", user: clerk, client: "read free", asked: "read  free", refused: true},
		{name: "TOK-37 a quote", user: clerk, client: "read", settings: drop, asked: "read \"", refused: true},
		{name: "TOK-37 ten thousand", user: clerk, client: "read", settings: drop, asked: strings.TrimSpace(strings.Repeat("read ", 10_000)), refused: true},
		{name: "TOK-37 a star is a name", user: clerk, client: "read", asked: "*", refused: true},
		{name: "nothing asked gives what both may have", user: clerk, client: "openid read write free offline_access", want: "read free"},
		{name: "nothing asked of a client without scopes", user: clerk, want: ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tenant := &state.Tenant{Id: "default", Settings: tt.settings}
			got, err := Narrow(v, tenant, &state.Client{Tenant: "default", Scopes: strings.Fields(tt.client)}, tt.user, tt.asked)
			if tt.refused != errors.Is(err, oauth.InvalidScope) || !tt.refused && err != nil {
				t.Fatalf("error %v, refused should be %t", err, tt.refused)
			}
			if got != tt.want {
				t.Errorf("scope %q, want %q", got, tt.want)
			}
		})
	}
}

// TestScopePatterns is ADM-11: RE2 only, matched whole, no long ones, none that
// compiles to much.
func TestScopePatterns(t *testing.T) {
	t.Parallel()
	for pattern, matches := range map[string]string{"device_.*": "device_1", "a|bc": "bc", "^x$": "x", "(a+)+": "aaa"} {
		r, err := ScopePattern(pattern)
		if err != nil || !r.MatchString(matches) || r.MatchString("!"+matches) || r.MatchString(matches+"!") && pattern != "device_.*" {
			t.Errorf("%s: %v", pattern, err)
		}
	}
	for _, bad := range []string{"", "(", "a)|(b", `(a)\1`, "(?=a)", strings.Repeat("a", 201), "(a{100}){10}b{1000}", "((a{30}){30}){1}b{500}"} {
		if _, err := ScopePattern(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestTheTenantAllowsGrants: those that it names; where it names none, all but what is
// off by default (TOK-35).
func TestTheTenantAllowsGrants(t *testing.T) {
	t.Parallel()
	client := &state.Client{GrantTypes: []string{"client_credentials", "password", "refresh_token"}}
	for _, tt := range []struct {
		name    string
		allowed []string
		grant   oauth.GrantType
		want    bool
	}{
		{"one that is on by default", nil, oauth.GrantClientCredentials, true},
		{"password is off by default", nil, oauth.GrantPassword, false},
		{"password where the tenant names it", []string{"password"}, oauth.GrantPassword, true},
		{"what the tenant does not name", []string{"password", "refresh_token"}, oauth.GrantClientCredentials, false},
		{"the tenant's list gives the client none", []string{"authorization_code"}, oauth.GrantAuthorizationCode, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tenant := &state.Tenant{Id: "default", Settings: &state.TenantSettings{GrantTypes: tt.allowed}}
			if err := gate(tenant, client, tt.grant); (err == nil) != tt.want || err != nil && !errors.Is(err, oauth.UnauthorizedClient) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestPatternsAreCompiledOnce: for each row of a tenant; another row has its own.
func TestPatternsAreCompiledOnce(t *testing.T) {
	t.Parallel()
	v := registered(t)
	made := 0
	compile := func(text string) (*regexp.Regexp, error) { made++; return ScopePattern(text) }
	of := func(pattern string) *state.Tenant {
		return &state.Tenant{Id: "default", Settings: &state.TenantSettings{ScopePatterns: []string{pattern}}}
	}
	one, two := of("a"), of("b")
	for i, tt := range []struct {
		tenant  *state.Tenant
		matches string
		made    int
	}{{one, "a", 1}, {one, "a", 1}, {two, "b", 2}, {two, "b", 2}, {one, "a", 3}} {
		got, err := v.ScopePatterns(tt.tenant, compile)
		if err != nil || len(got) != 1 || !got[0].MatchString(tt.matches) || made != tt.made {
			t.Errorf("step %d: %v, error %v, compiled %d times, want %d", i, got, err, made, tt.made)
		}
	}
}
