package fsm

import (
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

func selfRegistered(id string) *state.Client {
	c := client(id)
	c.SelfRegistered = true
	return c
}

// unusedFor is a client that goes after so many seconds unless it is used.
func unusedFor(id string, secs int64) *state.Client {
	c := selfRegistered(id)
	c.UnusedUntil = seconds(secs)
	return c
}

func initialToken(uses uint32) *command.PutInitialAccessToken {
	return &command.PutInitialAccessToken{Token: &state.InitialAccessToken{
		Tenant: "default", Id: "t1", Hash: digest("initial"), HashKey: 1, ExpiresAt: seconds(600), UsesLeft: uses}}
}

func registers(id string) *command.RegisterClient {
	return &command.RegisterClient{Token: "t1", Hash: digest("initial"), Client: selfRegistered(id), Limit: 100}
}

// TestAnInitialAccessTokenIsGoodForItsUses is REG-01: the count is held where all nodes
// agree on it.
func TestAnInitialAccessTokenIsGoodForItsUses(t *testing.T) {
	n := booted(t)
	n.must(initialToken(2))
	n.must(registers("a"))
	if row, ok := n.View().InitialAccessToken("default", "t1"); !ok || row.GetUsesLeft() != 1 {
		t.Errorf("after one use: %v", row)
	}
	n.must(registers("b"))
	n.refused(registers("c"), command.AlreadyUsed)
	if _, ok := n.View().Client("default", "c"); ok {
		t.Error("a refused registration has made the client")
	}
	if got := n.View().Registrations("default"); got != 2 {
		t.Errorf("%d clients are counted, want 2", got)
	}
}

func TestRegisterClientRefuses(t *testing.T) {
	n := booted(t)
	n.must(initialToken(5))
	for name, tt := range map[string]struct {
		change func(c *command.RegisterClient)
		want   command.Reject
	}{
		"another token":            {func(c *command.RegisterClient) { c.Token = "t2" }, command.AlreadyUsed},
		"another secret":           {func(c *command.RegisterClient) { c.Hash = digest("guess") }, command.AlreadyUsed},
		"another tenant":           {func(c *command.RegisterClient) { c.Client.Tenant = "acme" }, command.AlreadyUsed},
		"a full tenant (REG-10)":   {func(c *command.RegisterClient) { c.Limit = 0 }, command.NotReady},
		"a client of the operator": {func(c *command.RegisterClient) { c.Client.SelfRegistered = false }, command.Invalid},
		"a disabled client":        {func(c *command.RegisterClient) { c.Client.Disabled = true }, command.Invalid},
		"a client without an id":   {func(c *command.RegisterClient) { c.Client.Id = "" }, command.Invalid},
		"an id that is there":      {func(c *command.RegisterClient) { c.Client.Id = "app" }, command.Exists},
	} {
		c := registers("x")
		tt.change(c)
		t.Log(name)
		n.refused(c, tt.want)
	}
	if row, _ := n.View().InitialAccessToken("default", "t1"); row.GetUsesLeft() != 5 {
		t.Errorf("refused registrations have used the token: %d uses are left", row.GetUsesLeft())
	}
	n.must(&command.ClockAdvance{To: t0 + 600_000})
	n.refused(registers("late"), command.AlreadyExpired)
}

func TestADeletedClientMakesRoom(t *testing.T) {
	n := booted(t)
	n.must(initialToken(5))
	full := func(id string) *command.RegisterClient {
		c := registers(id)
		c.Limit = 1
		return c
	}
	n.must(full("a"))
	n.refused(full("b"), command.NotReady)
	n.must(&command.DeleteClient{Tenant: "default", Id: "app"}) // which was not counted
	n.refused(full("b"), command.NotReady)
	n.must(&command.DeleteClient{Tenant: "default", Id: "a"})
	n.must(full("b"))
}

func TestInitialAccessTokensEnd(t *testing.T) {
	n := booted(t)
	n.must(initialToken(1))
	n.refused(initialToken(1), command.Exists)
	n.must(&command.DeleteInitialAccessToken{Tenant: "default", Id: "t1"})
	n.refused(&command.DeleteInitialAccessToken{Tenant: "default", Id: "t1"}, command.NotFound)
	n.refused(registers("a"), command.AlreadyUsed)
	n.must(initialToken(1))
	n.must(&command.ClockAdvance{To: t0 + 700_000})
	n.must(&command.Expire{UpTo: t0 + 700_000, Limit: 10})
	if got := n.View().InitialAccessTokens("default"); len(got) != 0 {
		t.Errorf("%d tokens are left after their end", len(got))
	}
	for name, change := range map[string]func(*state.InitialAccessToken){
		"no uses": func(t *state.InitialAccessToken) { t.UsesLeft = 0 }, "too many uses": func(t *state.InitialAccessToken) { t.UsesLeft = maxUses + 1 },
		"no hash": func(t *state.InitialAccessToken) { t.Hash = nil }, "no id": func(t *state.InitialAccessToken) { t.Id = "" },
	} {
		c := initialToken(1)
		c.Token.ExpiresAt = seconds(900)
		change(c.Token)
		t.Log(name)
		n.refused(c, command.Invalid)
	}
}

// TestOpenRegistrationNeedsNoToken: only while the tenant says so, and within its bounds.
func TestOpenRegistrationNeedsNoToken(t *testing.T) {
	n := booted(t)
	open := func(id string, limit uint64) *command.RegisterClient {
		return &command.RegisterClient{Client: selfRegistered(id), Limit: limit}
	}
	policy := func(on bool) {
		t.Helper()
		tenant, _ := n.View().Tenant("default")
		next := cloneOf(tenant)
		next.Settings = &state.TenantSettings{Registration: &state.RegistrationPolicy{Open: on}}
		n.must(&command.PutTenant{Tenant: next, Expect: tenant.GetGeneration()})
	}
	n.refused(open("a", 100), command.AlreadyUsed)
	policy(true)
	n.must(open("a", 1))
	n.refused(open("b", 1), command.NotReady)
	n.refused(registers("b"), command.AlreadyUsed) // a token that is shown must be good
	policy(false)
	n.refused(open("b", 100), command.AlreadyUsed)
	if got := n.View().Registrations("default"); got != 1 {
		t.Errorf("%d clients are counted, want 1", got)
	}
}

// TestREG10AnUnusedClientGoes, and makes room; one that was used, or that the operator has
// changed, stays.
func TestREG10AnUnusedClientGoes(t *testing.T) {
	n := booted(t)
	n.must(initialToken(10))
	for _, id := range []string{"unused", "used", "adopted", "changed"} {
		n.must(&command.RegisterClient{Token: "t1", Hash: digest("initial"), Client: unusedFor(id, 600), Limit: 100})
	}
	n.must(&command.UseClient{Tenant: "default", Id: "used"})
	n.must(&command.UseClient{Tenant: "default", Id: "used"})
	n.refused(&command.UseClient{Tenant: "default", Id: "nobody"}, command.NotFound)
	row := func(id string) *state.Client {
		c, _ := n.View().Client("default", id)
		return c
	}
	stale := unusedFor("used", 600) // as it was read before its use
	n.must(&command.PutClient{Client: stale, Expect: row("used").GetGeneration()})
	adopted := cloneOf(row("adopted"))
	adopted.UnusedUntil = 0
	n.must(&command.PutClient{Client: adopted, Expect: adopted.GetGeneration()})
	n.must(&command.PutClient{Client: cloneOf(row("changed")), Expect: row("changed").GetGeneration()}) // by itself
	n.must(&command.ClockAdvance{To: t0 + 700_000})
	n.must(&command.Expire{UpTo: t0 + 500_000, Limit: 100})
	if row("unused") == nil {
		t.Fatal("it went before its time")
	}
	n.must(&command.Expire{UpTo: t0 + 700_000, Limit: 100})
	for id, stays := range map[string]bool{"unused": false, "changed": false, "used": true, "adopted": true, "app": true} {
		if (row(id) != nil) != stays {
			t.Errorf("%s: stays %v, want %v", id, row(id) != nil, stays)
		}
	}
	if got := n.View().Registrations("default"); got != 2 {
		t.Errorf("%d clients are counted, want 2", got)
	}
	n.refused(&command.UseClient{Tenant: "default", Id: "unused"}, command.NotFound)
	bad := unusedFor("x", 600)
	bad.UnusedUntil = -1
	n.refused(&command.PutClient{Client: bad}, command.Invalid)
}
