package grants

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

func TestNarrow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, asked, allowed, want string
		drop                       bool
		err                        error
	}{
		{name: "asking nothing gives all that is registered", allowed: "read write", want: "read write"},
		{name: "asking nothing of nothing gives nothing"},
		{name: "a subset keeps the order asked", asked: "write read", allowed: "read write", want: "write read"},
		{name: "one more than registered is refused, not dropped", asked: "read admin", allowed: "read", err: oauth.InvalidScope},
		{name: "a tenant may choose to drop it", asked: "read admin", allowed: "read", drop: true, want: "read"},
		{name: "but something must be left", asked: "admin", allowed: "read", drop: true, err: oauth.InvalidScope},
		{name: "case matters (RFC 6749 §3.3)", asked: "Read", allowed: "read", err: oauth.InvalidScope},
		{name: "a repeated scope is granted once", asked: "read write read read", allowed: "read write", want: "read write"},
		{name: "a prefix is another scope", asked: "rea", allowed: "read", err: oauth.InvalidScope},
		{name: "a wildcard is a scope like any other", asked: "*", allowed: "read", err: oauth.InvalidScope},
		{name: "a double space is refused", asked: "read  write", allowed: "read write", err: oauth.InvalidScope},
		{name: "a space at the end is refused", asked: "read ", allowed: "read", err: oauth.InvalidScope},
		{name: "a space in front is refused", asked: " read", allowed: "read", err: oauth.InvalidScope},
		{name: "a quote is refused", asked: `a"b`, allowed: `a"b`, err: oauth.InvalidScope},
		{name: "a control character is refused even where others are dropped", asked: "read\tx", allowed: "read", drop: true, err: oauth.InvalidScope},
		{name: "openid is a user's", asked: "openid read", allowed: "openid read", err: oauth.InvalidScope},
		{name: "openid is left out of the default", allowed: "openid read offline_access", want: "read"},
		{name: "300 scopes are too many", asked: strings.Repeat("read ", 299) + "read", allowed: "read", err: oauth.InvalidScope},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := narrow(tt.asked, strings.Fields(tt.allowed), tt.drop, userOnly)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if got != tt.want {
				t.Errorf("scope %q, want %q", got, tt.want)
			}
		})
	}
}

type form map[string][]string

func (f form) Get(name string) string {
	if all := f[name]; len(all) > 0 {
		return all[0]
	}
	return ""
}
func (f form) All(name string) []string { return f[name] }

// TestTargets is TOK-38.
func TestTargets(t *testing.T) {
	t.Parallel()
	registered := []string{"https://a.example", "https://b.example/x", "orders-api"}
	many := slices.Repeat([]string{"https://a.example"}, 17)
	tests := []struct {
		name string
		form form
		want []string
		err  error
	}{
		{name: "none named", form: form{}},
		{name: "a registered resource", form: form{"resource": {"https://a.example"}}, want: []string{"https://a.example"}},
		{name: "several, each once", form: form{"resource": {"https://b.example/x", "https://a.example"}, "audience": {"orders-api", "https://a.example"}}, want: []string{"https://b.example/x", "https://a.example", "orders-api"}},
		{name: "an unregistered one beside a registered one", form: form{"resource": {"https://a.example", "https://c.example"}}, err: oauth.InvalidTarget},
		{name: "a relative one", form: form{"resource": {"orders-api"}}, err: oauth.InvalidTarget},
		{name: "with a fragment", form: form{"resource": {"https://a.example#x"}}, err: oauth.InvalidTarget},
		{name: "with a slash more", form: form{"resource": {"https://a.example/"}}, err: oauth.InvalidTarget},
		{name: "another tenant's API", form: form{"audience": {"acme-api"}}, err: oauth.InvalidTarget},
		{name: "too many", form: form{"resource": many}, err: oauth.InvalidTarget},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := targets(tt.form, registered)
			if !errors.Is(err, tt.err) || !slices.Equal(got, tt.want) {
				t.Errorf("%q, %v; want %q, %v", got, err, tt.want, tt.err)
			}
		})
	}
}

// watched is a grant that tells whether it was asked.
type watched struct {
	Grant
	asked *bool
}

func (w watched) Authorize(ctx context.Context, in *Input, out *Decision) error {
	*w.asked = true
	return w.Grant.Authorize(ctx, in, out)
}

// TestEveryGrantPassesTheGate is TOK-31 and TOK-35: no grant of the list is as much as
// asked for a client or tenant that is disabled or gone, or for a client that is not
// registered for it. A new grant is in All, so it is in here.
func TestEveryGrantPassesTheGate(t *testing.T) {
	t.Parallel()
	for _, g := range All(&Config{}) {
		tenant := &state.Tenant{Id: "default", Settings: &state.TenantSettings{GrantTypes: []string{string(g.Type())}}}
		client := &state.Client{Tenant: "default", Id: "a", GrantTypes: []string{string(g.Type())}}
		others := &state.Client{Tenant: "default", Id: "a", GrantTypes: []string{"another"}}
		disabled := &state.Client{Tenant: "default", Id: "a", GrantTypes: client.GrantTypes, Disabled: true}
		tests := []struct {
			name   string
			tenant *state.Tenant
			client *state.Client
			want   error
		}{
			{"a disabled client", tenant, disabled, oauth.InvalidClient},
			{"a client that is gone", tenant, nil, oauth.InvalidClient},
			{"a suspended tenant", &state.Tenant{Id: "default", Disabled: true}, client, oauth.InvalidClient},
			{"a tenant that is gone", nil, client, oauth.InvalidClient},
			{"a client that is not registered for it", tenant, others, oauth.UnauthorizedClient},
		}
		for _, tt := range tests {
			asked := false
			p := &Pipeline{}
			err := p.decide(context.Background(), nil, tt.tenant, tt.client, watched{g, &asked}, &Request{Form: form{}}, new(exchange), new(Answer))
			if !errors.Is(err, tt.want) || asked {
				t.Errorf("%s, %s: error %v, want %v; asked: %v", g.Type(), tt.name, err, tt.want, asked)
			}
		}
		if err := gate(tenant, client, g.Type()); err != nil {
			t.Errorf("%s: the gate refuses a client that may: %v", g.Type(), err)
		}
	}
}

func TestNewRefusesAGrantTwice(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Error("a pipeline of nothing was made")
	}
	if len(Types()) != len(All(&Config{})) {
		t.Errorf("%d types of %d grants", len(Types()), len(All(&Config{})))
	}
}
