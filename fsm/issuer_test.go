package fsm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

func trusted(iss string, life int64) *state.TrustedIssuer {
	return &state.TrustedIssuer{
		Tenant: "default", Issuer: iss, Kind: "jwt", Jwks: []byte(`{"keys":[]}`), Audiences: []string{"https://keyraft.example"},
		ClaimMapping: []*state.ClaimMapping{{Remote: "team", Local: "team"}}, Clients: []string{"app"}, Scopes: []string{"read"}, MaxLife: life, TokenExchange: true,
	}
}

func TestTrustedIssuerGenerations(t *testing.T) {
	t.Parallel()
	n := booted(t)
	const iss = "https://idp.example"
	n.must(&command.PutTrustedIssuer{Issuer: trusted(iss, 0)})
	first, ok := n.View().TrustedIssuer("default", iss)
	if !ok || first.GetGeneration() == 0 || first.GetCreatedAt() == 0 {
		t.Fatalf("the issuer is %v", first)
	}
	n.refused(&command.PutTrustedIssuer{Issuer: trusted(iss, 60)}, command.Exists)
	n.refused(&command.PutTrustedIssuer{Issuer: trusted(iss, 60), Expect: 99}, command.Stale)
	n.refused(&command.PutTrustedIssuer{Issuer: trusted(iss+"/", 60), Expect: 3}, command.NotFound)
	n.now += 5000
	n.must(&command.PutTrustedIssuer{Issuer: trusted(iss, 60), Expect: first.GetGeneration()})
	second, _ := n.View().TrustedIssuer("default", iss)
	if second.GetGeneration() <= first.GetGeneration() || second.GetCreatedAt() != first.GetCreatedAt() || second.GetUpdatedAt() == first.GetUpdatedAt() {
		t.Errorf("changed: %v, was %v", second, first)
	}
	for _, other := range []string{"https://IDP.example", iss + "/", "https://idp.example:443"} { // JWT-25
		if _, ok := n.View().TrustedIssuer("default", other); ok {
			t.Errorf("%s passes for %s", other, iss)
		}
	}
	n.refused(&command.DeleteTrustedIssuer{Tenant: "default", Issuer: iss, Expect: first.GetGeneration()}, command.Stale)
	n.must(&command.DeleteTrustedIssuer{Tenant: "default", Issuer: iss})
	n.refused(&command.DeleteTrustedIssuer{Tenant: "default", Issuer: iss}, command.NotFound)
	if len(n.View().TrustedIssuers("default")) != 0 {
		t.Error("it is still trusted")
	}
}

func TestTrustedIssuerBounds(t *testing.T) {
	t.Parallel()
	n := booted(t)
	for name, change := range map[string]func(i *state.TrustedIssuer){
		"no issuer":        func(i *state.TrustedIssuer) { i.Issuer = "" },
		"a long issuer":    func(i *state.TrustedIssuer) { i.Issuer = strings.Repeat("x", maxPart+1) },
		"many keys":        func(i *state.TrustedIssuer) { i.Jwks = make([]byte, maxIssuerKeys+1) },
		"a client twice":   func(i *state.TrustedIssuer) { i.Clients = []string{"a", "a"} },
		"a negative life":  func(i *state.TrustedIssuer) { i.MaxLife = -1 },
		"a nameless claim": func(i *state.TrustedIssuer) { i.ClaimMapping[0].Local = "" },
	} {
		i := trusted("https://idp.example", 0)
		change(i)
		t.Run(name, func(t *testing.T) { n.refused(&command.PutTrustedIssuer{Issuer: i}, command.Invalid) })
	}
	elsewhere := trusted("https://idp.example", 0)
	elsewhere.Tenant = "nobody"
	n.refused(&command.PutTrustedIssuer{Issuer: elsewhere}, command.NotFound)
	var all []command.Command
	for i := range maxIssuers {
		all = append(all, &command.PutTrustedIssuer{Issuer: trusted(fmt.Sprintf("https://%d.example", i), 0)})
	}
	n.do(all...)
	n.refused(&command.PutTrustedIssuer{Issuer: trusted("https://one.more", 0)}, command.NotReady)
}

// TestAGrantRestsOnItsIssuer is TOK-32 in the commit itself: what was decided on an
// issuer that was disabled, changed or deleted meanwhile is not committed.
func TestAGrantRestsOnItsIssuer(t *testing.T) {
	t.Parallel()
	const iss = "https://idp.example"
	for name, change := range map[string]func(n *node, generation uint64){
		"changed": func(n *node, g uint64) { n.must(&command.PutTrustedIssuer{Issuer: trusted(iss, 60), Expect: g}) },
		"disabled": func(n *node, g uint64) {
			off := trusted(iss, 0)
			off.Disabled = true
			n.must(&command.PutTrustedIssuer{Issuer: off, Expect: g})
		},
		"deleted": func(n *node, _ uint64) { n.must(&command.DeleteTrustedIssuer{Tenant: "default", Issuer: iss}) },
		"made anew": func(n *node, _ uint64) {
			n.must(&command.DeleteTrustedIssuer{Tenant: "default", Issuer: iss})
			n.must(&command.PutTrustedIssuer{Issuer: trusted(iss, 0)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := booted(t)
			n.must(&command.PutTrustedIssuer{Issuer: trusted(iss, 0)})
			c, _ := n.View().Client("default", "app")
			i, _ := n.View().TrustedIssuer("default", iss)
			tenant, _ := n.View().Tenant("default")
			redeem := func(id string) *command.Redeem {
				return &command.Redeem{
					ValueKind: "grant assertion", ValueId: id, ValueExpiresAt: seconds(600),
					Authorization: &state.Authorization{Tenant: "default", ClientId: "app", Subject: "s", Grant: "g" + id, Issuer: iss},
					Decided:       &command.Decided{Client: c.GetGeneration(), Tenant: tenant.GetGeneration(), Issuer: i.GetGeneration()},
				}
			}
			n.must(redeem("1"))
			n.refused(redeem("1"), command.AlreadyUsed)
			change(n, i.GetGeneration())
			n.refused(redeem("2"), command.Stale)
		})
	}
}
