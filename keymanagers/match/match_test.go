package match_test

import (
	"testing"

	"github.com/keyraft/keyraft/keymanagers/match"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	table, err := match.New([]match.Manager{
		{Tenant: "default", Name: match.Resident, Issuer: "https://sts.example", Own: true},
		{Tenant: "acme", Name: "okta", Issuer: "https://okta.example"},
		{Tenant: "acme", Name: "old", Issuer: "https://old.example", Disabled: true},
	}, []match.API{{Name: "open"}, {Name: "closed", KeyManagers: []string{"okta"}}})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, issuer, api string
		want              match.Verdict
	}{
		{"no API named asks only for the issuer", "https://sts.example", "", match.Allowed},
		{"an API without a list takes every key manager", "https://sts.example", "open", match.Allowed},
		{"an API with a list takes those on it", "https://okta.example", "closed", match.Allowed},
		{"an API with a list refuses the others", "https://sts.example", "closed", match.KeyManagerNotAtAPI},
		{"an API that the table does not know is refused", "https://sts.example", "nowhere", match.UnknownAPI},
		{"an issuer nobody vouches for is refused", "https://evil.example", "", match.UnknownIssuer},
		{"a trailing slash makes another issuer", "https://sts.example/", "", match.UnknownIssuer},
		{"case makes another issuer", "https://STS.example", "", match.UnknownIssuer},
		{"no issuer is an unknown one", "", "", match.UnknownIssuer},
		{"a disabled key manager vouches for nothing", "https://old.example", "", match.KeyManagerDisabled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, a, got := table.Decide(tt.issuer, tt.api)
			if got != tt.want {
				t.Fatalf("verdict %q, want %q", got, tt.want)
			}
			if allowed := got == match.Allowed; allowed != (m != nil) || (a != nil) != (allowed && tt.api != "") {
				t.Errorf("manager %v and API %v do not fit the verdict %q", m, a, got)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	one := match.Manager{Tenant: "a", Name: "x", Issuer: "https://i"}
	tests := []struct {
		name     string
		managers []match.Manager
		apis     []match.API
	}{
		{"an issuer of two tenants", []match.Manager{one, {Tenant: "b", Name: "y", Issuer: "https://i"}}, nil},
		{"a key manager without an issuer", []match.Manager{{Tenant: "a", Name: "x"}}, nil},
		{"a key manager without a tenant", []match.Manager{{Name: "x", Issuer: "https://i"}}, nil},
		{"an API twice", nil, []match.API{{Name: "a"}, {Name: "a"}}},
		{"an API without a name", nil, []match.API{{}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := match.New(tt.managers, tt.apis); err == nil {
				t.Error("accepted")
			}
		})
	}
}
