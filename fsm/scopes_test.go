package fsm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

func scope(name string, includes ...string) *state.Scope {
	return &state.Scope{Tenant: "default", Name: name, Includes: includes}
}

// registry is a node with the role clerk, a group and a scope that need it.
func registry(t *testing.T) *node {
	t.Helper()
	n := booted(t)
	n.must(&command.PutRole{Role: &state.Role{Tenant: "default", Name: "clerk"}})
	n.must(&command.PutGroup{Group: &state.Group{Tenant: "default", Name: "staff", Roles: []string{"clerk"}}})
	s := scope("read")
	s.Roles = []string{"clerk"}
	n.must(&command.PutScope{Scope: s})
	return n
}

func TestScopesIncludeNoneThatIncludesThem(t *testing.T) {
	t.Parallel()
	n := registry(t)
	n.must(&command.PutScope{Scope: scope("write", "read")})
	n.must(&command.PutScope{Scope: scope("all", "write")})
	read, _ := n.View().Scope("default", "read")
	for _, includes := range []string{"read", "write", "all"} {
		n.refused(&command.PutScope{Scope: scope("read", includes), Expect: read.GetGeneration()}, command.Invalid)
	}
	n.refused(&command.PutScope{Scope: scope("self", "self")}, command.Invalid)
	n.refused(&command.PutScope{Scope: scope("other", "no such")}, command.Invalid)
	n.refused(&command.PutScope{Scope: scope("twice", "read", "read")}, command.Invalid)
	n.refused(&command.DeleteScope{Tenant: "default", Name: "read"}, command.Conflict)
	v := n.View()
	for _, tt := range []struct {
		wide, narrow string
		want         bool
	}{
		{"all", "read", true}, {"all", "write", true}, {"write", "read", true}, {"read", "write", false},
		{"read", "read", true}, {"none", "none", true}, {"none", "read", false}, {"Write", "read", false},
	} {
		if got := v.Implies("default", tt.wide, tt.narrow); got != tt.want {
			t.Errorf("%s implies %s: %t", tt.wide, tt.narrow, got)
		}
	}
	if v.Implies("acme", "all", "read") {
		t.Error("another tenant's scope implies something here")
	}
	n.must(&command.DeleteScope{Tenant: "default", Name: "all"})
	n.must(&command.DeleteScope{Tenant: "default", Name: "write"})
	n.must(&command.DeleteScope{Tenant: "default", Name: "read"})
}

// TestImpliesLeavesTheRecordsAlone: the walk over a wide tree writes into no record.
func TestImpliesLeavesTheRecordsAlone(t *testing.T) {
	t.Parallel()
	n := booted(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		n.must(&command.PutScope{Scope: scope(name)})
	}
	n.must(&command.PutScope{Scope: scope("ab", "a", "b")})
	n.must(&command.PutScope{Scope: scope("top", "c", "d", "ab")})
	for range 3 {
		if n.View().Implies("default", "top", "none") || !n.View().Implies("default", "top", "a") {
			t.Error("what top implies is wrong")
		}
	}
	if err := n.View().CheckMemory(); err != nil {
		t.Error(err)
	}
}

// TestARoleInUseStays: and one that is deleted by force opens nothing, for what
// names it still does.
func TestARoleInUseStays(t *testing.T) {
	t.Parallel()
	n := registry(t)
	n.refused(&command.DeleteRole{Tenant: "default", Name: "clerk"}, command.Conflict)
	read, _ := n.View().Scope("default", "read")
	n.must(&command.PutScope{Scope: scope("read"), Expect: read.GetGeneration()})
	n.refused(&command.DeleteRole{Tenant: "default", Name: "clerk"}, command.Conflict) // the group
	n.must(&command.DeleteRole{Tenant: "default", Name: "clerk", Force: true})
	if g, _ := n.View().Group("default", "staff"); len(g.GetRoles()) != 1 {
		t.Errorf("the group's roles are %v", g.GetRoles())
	}
	closed := scope("closed")
	closed.Roles = []string{"clerk"}
	n.refused(&command.PutScope{Scope: closed}, command.Invalid)
	n.refused(&command.PutGroup{Group: &state.Group{Tenant: "default", Name: "g", Roles: []string{"clerk"}}}, command.Invalid)
	n.must(&command.DeleteGroup{Tenant: "default", Name: "staff"})
	n.refused(&command.DeleteGroup{Tenant: "default", Name: "staff"}, command.NotFound)
}

func TestRegistryGenerations(t *testing.T) {
	t.Parallel()
	n := registry(t)
	r, _ := n.View().Role("default", "clerk")
	g, _ := n.View().Group("default", "staff")
	s, _ := n.View().Scope("default", "read")
	put := func(expect [3]uint64) []command.Command {
		return []command.Command{
			&command.PutRole{Role: &state.Role{Tenant: "default", Name: "clerk"}, Expect: expect[0]},
			&command.PutGroup{Group: &state.Group{Tenant: "default", Name: "staff"}, Expect: expect[1]},
			&command.PutScope{Scope: scope("read"), Expect: expect[2]},
		}
	}
	for _, c := range put([3]uint64{}) {
		n.refused(c, command.Exists)
	}
	for _, c := range put([3]uint64{99, 99, 99}) {
		n.refused(c, command.Stale)
	}
	now := [3]uint64{r.GetGeneration(), g.GetGeneration(), s.GetGeneration()}
	n.now += 5000
	for _, c := range put(now) {
		n.must(c)
	}
	if again, _ := n.View().Scope("default", "read"); again.GetCreatedAt() != s.GetCreatedAt() || len(again.GetRoles()) != 0 {
		t.Errorf("replaced: %v", again)
	}
	for _, c := range []command.Command{
		&command.DeleteRole{Tenant: "default", Name: "clerk", Expect: now[0]}, &command.DeleteGroup{Tenant: "default", Name: "staff", Expect: now[1]},
		&command.DeleteScope{Tenant: "default", Name: "read", Expect: now[2]},
	} {
		n.refused(c, command.Stale)
	}
	n.refused(&command.PutScope{Scope: scope("new"), Expect: 4}, command.NotFound)
	n.refused(&command.PutScope{Scope: &state.Scope{Tenant: "nobody", Name: "x"}}, command.NotFound)
	n.refused(&command.PutRole{Role: &state.Role{Tenant: "default"}}, command.Invalid)
}

func TestRegistryBounds(t *testing.T) {
	t.Parallel()
	n := booted(t)
	long := scope("long")
	long.Description = strings.Repeat("x", maxText+1)
	n.refused(&command.PutScope{Scope: long}, command.Invalid)
	many := scope("many")
	for i := range maxNames + 1 {
		many.Claims = append(many.Claims, fmt.Sprint(i))
	}
	n.refused(&command.PutScope{Scope: many}, command.Invalid)
	var all []command.Command
	for i := range maxRegistered {
		all = append(all, &command.PutRole{Role: &state.Role{Tenant: "default", Name: fmt.Sprint(i)}})
	}
	for len(all) > 0 { // a thousand an entry
		n.do(all[:1000]...)
		all = all[1000:]
	}
	n.refused(&command.PutRole{Role: &state.Role{Tenant: "default", Name: "one more"}}, command.NotReady)
	n.must(&command.PutScope{Scope: scope("read")})
}

// TestTenantLifetimesAreBounded: no setting of a tenant makes a sum with the clock
// overflow.
func TestTenantLifetimesAreBounded(t *testing.T) {
	t.Parallel()
	n := fresh(t)
	n.must(bootstrap())
	beyond := maxLifetime + 1
	for _, s := range []*state.TenantSettings{
		{RefreshTokenLifetime: beyond}, {RefreshIdleLifetime: -1}, {IdTokenLifetime: beyond}, {RefreshGrace: &beyond},
	} {
		n.refused(&command.PutTenant{Tenant: &state.Tenant{Id: "acme", Settings: s}}, command.Invalid)
	}
}
