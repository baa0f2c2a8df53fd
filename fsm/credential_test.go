package fsm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

func credential(owner, id, kind string) *state.Credential {
	c := &state.Credential{Tenant: "default", User: owner, Id: id, Kind: kind, Name: "mine"}
	if kind == state.KindPasskey {
		c.Public = []byte(`{"id":"x"}`)
	} else {
		c.Sealed = []byte("sealed")
	}
	return c
}

// TestEachProofCountsOnce, whichever node took it (WEB-07, WEB-08).
func TestEachProofCountsOnce(t *testing.T) {
	t.Parallel()
	n, generation := peopled(t)
	use := func(id string, counter uint64) *command.UseCredential {
		c := &command.UseCredential{Tenant: "default", User: "u1", Id: id, Counter: counter}
		if strings.HasPrefix(id, "p") {
			c.Public = []byte("{}")
		}
		return c
	}
	for id, kind := range map[string]string{"t": "totp", "r": "recovery", "p": "passkey", "p0": "passkey"} {
		n.must(&command.PutCredential{Credential: credential("u1", id, kind)})
	}
	for _, tt := range []struct {
		name    string
		id      string
		counter uint64
		want    command.Reject
	}{
		{"a step of a TOTP", "t", 100, command.Accepted},
		{"the same step at another node", "t", 100, command.AlreadyUsed},
		{"an earlier step of the window", "t", 99, command.AlreadyUsed},
		{"the next step", "t", 101, command.Accepted},
		{"a recovery code", "r", 3, command.Accepted},
		{"the same code", "r", 3, command.AlreadyUsed},
		{"an earlier code", "r", 0, command.Accepted},
		{"a code beyond the row", "r", maxRecoveryCodes, command.Invalid},
		{"a signature count", "p", 7, command.Accepted},
		{"the same count", "p", 7, command.AlreadyUsed},
		{"a count that went back", "p", 6, command.AlreadyUsed},
		{"a count that went back to none", "p", 0, command.AlreadyUsed},
		{"an authenticator that does not count", "p0", 0, command.Accepted},
		{"the same one again", "p0", 0, command.Accepted},
		{"a credential that is not there", "x", 1, command.NotFound},
	} {
		t.Log(tt.name)
		if tt.want == command.Accepted {
			n.must(use(tt.id, tt.counter))
			continue
		}
		n.refused(use(tt.id, tt.counter), tt.want)
	}
	disabled := user("u1", "alice")
	disabled.Disabled = true
	n.must(&command.PutUser{User: disabled, Expect: generation})
	n.refused(use("t", 200), command.Disabled)
}

// TestWEB07ALockedFactorTakesNoCode: guesses that other nodes counted before a right code
// was applied refuse it, however many ran at once; a right one before that ends them.
func TestWEB07ALockedFactorTakesNoCode(t *testing.T) {
	t.Parallel()
	n, _ := peopled(t)
	n.must(&command.PutCredential{Credential: credential("u1", "t", "totp")})
	wrong := &command.RecordAttempt{Tenant: "default", User: "u1", Class: "factor", Limit: 3, Window: 60_000, Lock: 60_000}
	right := func(step uint64) *command.UseCredential {
		return &command.UseCredential{Tenant: "default", User: "u1", Id: "t", Counter: step, Attempts: "factor"}
	}
	n.must(wrong)
	n.must(wrong)
	n.must(right(100))
	n.must(wrong)
	n.must(wrong) // the count began anew
	n.must(right(101))
	for range 3 {
		n.must(wrong)
	}
	n.refused(right(102), command.NotReady)
	n.must(&command.UseCredential{Tenant: "default", User: "u1", Id: "t", Counter: 103}) // not a guess
	n.now += 61_000
	n.must(right(104))
}

// TestWEB08AChallengeIsAnsweredOnce, whatever answers it and wherever, in its time only; an
// answer that is refused uses up nothing.
func TestWEB08AChallengeIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	n, _ := peopled(t)
	put := func(id, challenge string, end int64) *command.PutCredential {
		return &command.PutCredential{Credential: credential("u1", id, "passkey"), Challenge: challenge, ChallengeEndsAt: end}
	}
	use := func(id, challenge string, end int64) *command.UseCredential {
		return &command.UseCredential{Tenant: "default", User: "u1", Id: id, Public: []byte("{}"), Challenge: challenge, ChallengeEndsAt: end}
	}
	n.refused(put("p", "c1", seconds(-1)), command.AlreadyExpired)
	n.must(put("p", "c1", seconds(300)))
	n.refused(put("q", "c1", seconds(300)), command.AlreadyUsed)
	n.refused(use("p", "c1", seconds(300)), command.AlreadyUsed)
	n.refused(use("none", "c2", seconds(300)), command.NotFound)
	n.must(use("p", "c2", seconds(300)))
	n.refused(use("p", "c2", seconds(300)), command.AlreadyUsed)
	n.refused(use("p", "c3", seconds(-1)), command.AlreadyExpired)
	n.refused(use("p", strings.Repeat("c", maxPart+1), seconds(300)), command.Invalid)
	if _, err := n.View().Credential("default", "u1", "q"); err == nil {
		t.Error("a refused passkey is stored")
	}
}

// TestAPasskeyIsOfOneUser of a tenant, and free again when it was removed (WEB-08).
func TestAPasskeyIsOfOneUser(t *testing.T) {
	t.Parallel()
	n, _ := peopled(t)
	n.must(&command.PutUser{User: user("u2", "bob")})
	n.must(&command.PutCredential{Credential: credential("u1", "p", "passkey")})
	n.refused(&command.PutCredential{Credential: credential("u2", "p", "passkey")}, command.Conflict)
	n.refused(&command.PutCredential{Credential: credential("u1", "p", "passkey")}, command.Exists)
	n.refused(&command.DeleteCredential{Tenant: "default", User: "u2", Id: "p"}, command.NotFound)
	if owner, err := n.View().UserByPasskey("default", "p"); err != nil || owner != "u1" {
		t.Errorf("owner %q, %v", owner, err)
	}
	n.must(&command.DeleteCredential{Tenant: "default", User: "u1", Id: "p"})
	n.must(&command.PutCredential{Credential: credential("u2", "p", "passkey")})
	n.must(&command.PutCredential{Credential: credential("u2", "t", "totp")}) // an id that is no passkey's is nobody else's matter
	n.must(&command.PutCredential{Credential: credential("u1", "t", "totp")})
}

// TestCredentialsAreBounded in number and size; one may take another's place.
func TestCredentialsAreBounded(t *testing.T) {
	t.Parallel()
	n, _ := peopled(t)
	for name, change := range map[string]func(c *state.Credential){
		"kind":   func(c *state.Credential) { c.Kind = "sms" },
		"sealed": func(c *state.Credential) { c.Sealed = make([]byte, maxSealed+1) },
		"public": func(c *state.Credential) { c.Public = []byte("of a passkey") },
		"name":   func(c *state.Credential) { c.Name = strings.Repeat("x", maxSessionText+1) },
		"id":     func(c *state.Credential) { c.Id = "" },
	} {
		c := credential("u1", "t", "totp")
		change(c)
		t.Log(name)
		n.refused(&command.PutCredential{Credential: c}, command.Invalid)
	}
	for i := range maxCredentials - 1 {
		n.must(&command.PutCredential{Credential: credential("u1", fmt.Sprint(i), "passkey")})
	}
	n.must(&command.PutCredential{Credential: credential("u1", "codes", "recovery")})
	n.refused(&command.PutCredential{Credential: credential("u1", "more", "passkey")}, command.NotReady)
	n.refused(&command.PutCredential{Credential: credential("u1", "more", "recovery")}, command.Stale) // one set of codes
	n.refused(&command.PutCredential{Credential: credential("u1", "more", "recovery"), Replaces: "none"}, command.Stale)
	n.refused(&command.PutCredential{Credential: credential("u1", "more", "totp"), Replaces: "0"}, command.Conflict)
	n.must(&command.PutCredential{Credential: credential("u1", "more", "recovery"), Replaces: "codes"})
	n.refused(&command.UseCredential{Tenant: "default", User: "u1", Id: "codes"}, command.NotFound) // a code of the old set
	if have, err := n.View().CredentialsOf("default", "u1"); err != nil || len(have) != maxCredentials {
		t.Errorf("%d credentials, %v", len(have), err)
	}
}

// TestWEB09TheFirstFactorIsTheFirst: what a user without a factor has begun to set up takes
// nobody's place who has one by now.
func TestWEB09TheFirstFactorIsTheFirst(t *testing.T) {
	t.Parallel()
	n, _ := peopled(t)
	n.must(&command.PutCredential{Credential: credential("u1", "codes", "recovery")})
	n.must(&command.PutCredential{Credential: credential("u1", "mine", "totp"), First: true})
	n.refused(&command.PutCredential{Credential: credential("u1", "theirs", "totp"), First: true}, command.Stale)
	n.refused(&command.PutCredential{Credential: credential("u1", "theirs", "totp"), First: true, Replaces: "mine"}, command.Stale)
	n.refused(&command.PutCredential{Credential: credential("u1", "theirs", "totp")}, command.Stale)
	n.must(&command.PutCredential{Credential: credential("u1", "p", "passkey")})
	n.must(&command.DeleteCredential{Tenant: "default", User: "u1", Id: "mine"})
	n.refused(&command.PutCredential{Credential: credential("u1", "theirs", "totp"), First: true}, command.Stale)
}

// TestADeletedUserLeavesNoProofs: credentials and consents have no end of their own.
func TestADeletedUserLeavesNoProofs(t *testing.T) {
	t.Parallel()
	n, _ := peopled(t)
	n.must(&command.PutCredential{Credential: credential("u1", "p", "passkey")})
	n.must(&command.PutConsent{Consent: consent("read")})
	n.must(&command.DeleteUser{Tenant: "default", Id: "u1"})
	for _, row := range []string{"credential ", "credential by passkey ", "consent "} {
		if strings.Contains(n.dump(), "\n"+row) {
			t.Errorf("a row is left: %s", row)
		}
	}
}
