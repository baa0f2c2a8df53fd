package fsm

import (
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

func user(id, name string) *state.User {
	return &state.User{Tenant: "default", Id: id, Username: name, Key: name, Password: "phc", Roles: []string{"admin"}}
}

func attempt(id string, ok bool) *command.RecordAttempt {
	return &command.RecordAttempt{Tenant: "default", User: id, Ok: ok, Limit: 3, Window: 60_000, Lock: 300_000}
}

// TestUserNamesAreUnique: one folded name is one account (WEB-14); a name that was given
// up is free again.
func TestUserNamesAreUnique(t *testing.T) {
	t.Parallel()
	n := booted(t)
	generation := n.must(&command.PutUser{User: user("u1", "alice")}).Generation
	n.refused(&command.PutUser{User: user("u1", "alice")}, command.Exists)
	n.refused(&command.PutUser{User: user("u2", "alice")}, command.Conflict)
	n.refused(&command.PutUser{User: user("u1", "bob"), Expect: generation + 1}, command.Stale)
	n.must(&command.PutUser{User: user("u1", "bob"), Expect: generation})
	n.must(&command.PutUser{User: user("u2", "alice")})
	if u, err := n.View().UserByName("default", "alice"); err != nil || u.GetId() != "u2" {
		t.Errorf("%v, %v", u, err)
	}
	n.must(&command.DeleteUser{Tenant: "default", Id: "u2"})
	n.refused(&command.DeleteUser{Tenant: "default", Id: "u2"}, command.NotFound)
	n.must(&command.PutUser{User: user("u3", "alice")})
	list, err := n.View().Users("default", "", 9)
	if err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestADisabledUsersTokensEnd: public and pairwise subjects are revoked with the change
// (TOK-30, TOK-31), and logins of before count no more (WEB-05).
func TestADisabledUsersTokensEnd(t *testing.T) {
	t.Parallel()
	n, redeem := granted(t)
	generation := n.must(&command.PutUser{User: user("u1", "alice")}).Generation
	redeem.Authorization.User, redeem.Authorization.Sector, redeem.Authorization.Subject = "u1", "app.example", "pairwise"
	n.must(redeem)
	off := user("u1", "alice")
	off.Disabled = true
	n.must(&command.PutUser{User: off, Expect: generation, RevokeUntil: seconds(9000)})
	for _, subject := range []string{"u1", "pairwise"} {
		if _, yes := n.View().Revoked("default", "", "subject", subject, 0, 0); !yes {
			t.Errorf("subject %s is not revoked", subject)
		}
	}
	u, err := n.View().User("default", "u1")
	if err != nil || u.GetSessionsAfter() != n.now {
		t.Errorf("%v, %v", u, err)
	}
	for _, subject := range []string{"u1", "pairwise"} { // whom it stands for (OpenID Connect Core §8)
		if same, err := n.View().UserBySubject("default", subject); err != nil || same.GetId() != "u1" {
			t.Errorf("%s stands for %v, %v", subject, same, err)
		}
	}
	if _, err := n.View().UserBySubject("acme", "pairwise"); err == nil {
		t.Error("another tenant knows the subject")
	}
	next := rotation(redeem.Decided, "r1", "r2", 0)
	next.Decided = &command.Decided{Client: next.Decided.Client, Tenant: 1, User: u.GetGeneration()}
	n.refused(next, command.Stale) // a disabled user refreshes nothing, whatever was seen
	n.must(&command.DeleteUser{Tenant: "default", Id: "u1"})
	if _, err := n.View().UserBySubject("default", "pairwise"); err == nil {
		t.Error("the subject of a deleted user stands for somebody")
	}
}

// TestLockout: failures within the window lock, a success clears, the lock ends by
// itself, and every name is counted apart.
func TestLockout(t *testing.T) {
	t.Parallel()
	n := booted(t)
	locked := func(id string) bool {
		a, err := n.View().Attempts("default", id, "")
		return err == nil && a.GetLockedUntil() > n.now
	}
	n.do(attempt("u1", false), attempt("u1", false))
	if locked("u1") {
		t.Fatal("locked too early")
	}
	n.must(attempt("u1", true))
	n.do(attempt("u1", false), attempt("u1", false))
	if locked("u1") {
		t.Fatal("a success did not clear the count")
	}
	n.must(attempt("u1", false))
	if !locked("u1") || locked("u2") {
		t.Fatal("the third failure in a row must lock this account and no other")
	}
	n.now += 300_000
	if locked("u1") {
		t.Error("the lock does not end")
	}
	n.must(attempt("u1", false))
	if locked("u1") {
		t.Error("an old count goes on after its time")
	}
	n.now += 600_000
	n.must(&command.Expire{UpTo: n.now, Limit: 100})
	if _, err := n.View().Attempts("default", "u1", ""); err == nil {
		t.Error("a counter stays for ever")
	}
}
