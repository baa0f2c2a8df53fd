package tokens_test

import (
	"strings"
	"testing"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/tokens"
)

// TestSubjects is OpenID Connect Core §8: clients of one sector know a user by one name,
// those of another by another, and none can tell whose it is.
func TestSubjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	subjects, err := tokens.NewSubjects(tokens.NewClusterKeys(w.ring))
	if err != nil {
		t.Fatal(err)
	}
	pairwise := func(id, sector string, redirects ...string) *state.Client {
		return &state.Client{Tenant: "default", Id: id, SubjectType: "pairwise", SectorIdentifierUri: sector, RedirectUris: redirects}
	}
	of := func(c *state.Client, user string) (string, string) {
		t.Helper()
		sub, sector, err := subjects.Subject(w.view(), c, user)
		if err != nil {
			t.Fatalf("%s: %v", c.GetId(), err)
		}
		return sub, sector
	}
	if sub, sector := of(&state.Client{Tenant: "default", Id: "plain"}, "u1"); sub != "u1" || sector != "" {
		t.Errorf("a public subject is %q in %q", sub, sector)
	}
	first, sector := of(pairwise("a", "", "https://App.example/cb", "https://app.example:8443/other"), "u1")
	if len(first) != 43 || sector != "app.example" {
		t.Errorf("%q in %q", first, sector)
	}
	for name, tt := range map[string]struct {
		client *state.Client
		user   string
		same   bool
		sector string
	}{
		"another client of the sector":           {pairwise("b", "https://app.example/sector.json", "https://x.example/cb"), "u1", true, "app.example"},
		"another user":                           {pairwise("a", "", "https://app.example/cb"), "u2", false, "app.example"},
		"another sector":                         {pairwise("c", "", "https://other.example/cb"), "u1", false, "other.example"},
		"a client without a host":                {pairwise("d", ""), "u1", false, "client d"},
		"applications on loopback are no sector": {pairwise("e", "", "http://127.0.0.1/cb", "http://localhost/cb", "http://[::1]/cb"), "u1", false, "client e"},
	} {
		t.Run(name, func(t *testing.T) {
			if sub, sector := of(tt.client, tt.user); (sub == first) != tt.same || sector != tt.sector {
				t.Errorf("%q in %q, the first was %q", sub, sector, first)
			}
		})
	}
	other := pairwise("a", "", "https://app.example/cb")
	other.Tenant = "acme"
	if sub, _ := of(other, "u1"); sub == first {
		t.Error("two tenants know a user by one name")
	}
	for name, c := range map[string]*state.Client{
		"two hosts": pairwise("f", "", "https://a.example/cb", "https://b.example/cb"), "no host": pairwise("g", "", "com.example:/cb"),
	} {
		if _, _, err := subjects.Subject(w.view(), c, "u1"); err == nil || !strings.Contains(err.Error(), "sector_identifier_uri") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tokens.NewSubjects(nil); err == nil {
		t.Error("subjects without keys are made")
	}
}
