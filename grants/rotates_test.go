package grants

import (
	"testing"

	"github.com/keyraft/keyraft/fsm/state"
)

// TestWhoseRefreshTokensRotate: a public client's do, whatever its tenant says, unless a
// key must be shown with them (RFC 9700 §4.14.2).
func TestWhoseRefreshTokensRotate(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	for _, tt := range []struct {
		name           string
		tenant, client *bool
		public, bound  bool
		want           bool
	}{
		{name: "nothing said", want: true},
		{name: "the tenant does", tenant: &yes, want: true},
		{name: "the tenant does not", tenant: &no},
		{name: "the client does", tenant: &no, client: &yes, want: true},
		{name: "the client does not", tenant: &yes, client: &no},
		{name: "a public client of a tenant that does not", tenant: &no, public: true, want: true},
		{name: "a public client with a key of a tenant that does not", tenant: &no, public: true, bound: true},
	} {
		client, binding := &state.Client{RefreshRotation: tt.client}, Binding{}
		if tt.public {
			client.AuthMethod = "none"
		}
		if tt.bound {
			binding.JKT = "thumb"
		}
		tenant := &state.Tenant{Settings: &state.TenantSettings{RefreshRotation: tt.tenant}}
		if got := rotates(tenant, client, binding); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if !rotates(&state.Tenant{}, &state.Client{}, Binding{}) {
		t.Error("a tenant without settings does not rotate")
	}
}
