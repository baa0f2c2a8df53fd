package identity_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
)

// rules gives the tenant a policy of its own.
func (w *world) rules(p *state.PasswordPolicy) {
	w.t.Helper()
	if err := identity.FoldPolicy(p); err != nil {
		w.t.Fatal(err)
	}
	old, _ := w.view().Tenant(tenant)
	next := proto.CloneOf(old)
	if next.Settings == nil {
		next.Settings = &state.TenantSettings{}
	}
	next.Settings.Passwords = p
	result, err := w.Propose(w.t.Context(), &command.PutTenant{Tenant: next, Expect: old.GetGeneration()})
	if err != nil || result.Err() != nil {
		w.t.Fatal(err, result.Err())
	}
}

// TestTenantPolicyOfPasswords: each rule of a tenant is held, and its error says which.
func TestTenantPolicyOfPasswords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.rules(&state.PasswordPolicy{MinLength: 14, MaxLength: 64, Refused: []string{"Correct Horse Battery", "ｋｅｙｒａｆｔ is ours"}})
	tests := []struct {
		name, password string
		rule           identity.Rule
	}{
		{name: "what the default would take", password: "thirteen char", rule: identity.RuleShort},
		{name: "none", password: "", rule: identity.RuleShort},
		{name: "too long", password: strings.Repeat("ä", 65), rule: identity.RuleLong},
		{name: "as long as may be, in characters", password: strings.Repeat("ä", 64)},
		{name: "more than any tenant allows", password: strings.Repeat("x", 1025), rule: identity.RuleLong},
		{name: "a refused one, in capitals", password: "CORRECT horse battery", rule: identity.RuleCommon},
		{name: "a refused one that was written in wide letters", password: "ｋｅｙｒａｆｔ IS ours", rule: identity.RuleCommon},
		{name: "the user name", password: "Alice.In.Wonderland", rule: identity.RuleName},
		{name: "what can't be typed", password: "fourteen \x00 characters", rule: identity.RuleTyped},
		{name: "a good one", password: "fourteen chars and more"},
	}
	for i, tt := range tests {
		user := "alice.in.wonderland"
		if tt.rule == "" {
			user = "user" + string(rune('a'+i))
		}
		_, err := w.users.Create(t.Context(), tenant, &identity.Profile{Username: user, Password: tt.password})
		if tt.password == "" { // nobody can sign in with it, and it is no new one
			_, err = w.users.ChangePassword(t.Context(), w.view(), w.make("empty"), "")
		}
		var field *identity.FieldError
		errors.As(err, &field)
		if (err == nil) != (tt.rule == "") || field != nil && field.Rule != tt.rule {
			t.Errorf("%s: %v, want the rule %q", tt.name, err, tt.rule)
		}
	}
}

// TestTenantPolicyOfLockout is TOK-34: a tenant says how many guesses lock an account, and
// for how long; a browser that the user is known at is counted apart all the same.
func TestTenantPolicyOfLockout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.make("bob")
	w.rules(&state.PasswordPolicy{Failures: 5, Window: 120, Lock: 3600})
	for range 4 {
		w.fails("bob", "wrong", "")
	}
	w.passes("bob", phrase, "") // three would do by the default of these tests
	for range 5 {
		w.fails("bob", "wrong", "")
	}
	w.fails("bob", phrase, "")
	w.passes("bob", phrase, "home")
	w.Pass(50 * time.Minute) // longer than the default
	w.fails("bob", phrase, "")
	w.Pass(11 * time.Minute)
	w.passes("bob", phrase, "")
	for range 4 {
		w.fails("bob", "wrong", "")
	}
	w.Pass(121 * time.Second)
	w.fails("bob", "wrong", "") // the window is over, so it is the first
	w.passes("bob", phrase, "")
}

// TestPolicyBounds: what would weaken a tenant's passwords or lock its people out is refused,
// by name.
func TestPolicyBounds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, field string
		policy      *state.PasswordPolicy
	}{
		{name: "seven characters", field: "password_min_length", policy: &state.PasswordPolicy{MinLength: 7}},
		{name: "129 characters", field: "password_min_length", policy: &state.PasswordPolicy{MinLength: 129}},
		{name: "no room for a phrase", field: "password_max_length", policy: &state.PasswordPolicy{MaxLength: 63}},
		{name: "more than is hashed", field: "password_max_length", policy: &state.PasswordPolicy{MaxLength: 1025}},
		{name: "nothing between", field: "password_max_length", policy: &state.PasswordPolicy{MinLength: 100, MaxLength: 80}},
		{name: "a slip or two", field: "lockout_failures", policy: &state.PasswordPolicy{Failures: 2}},
		{name: "any number", field: "lockout_failures", policy: &state.PasswordPolicy{Failures: 1001}},
		{name: "a second", field: "lockout_window", policy: &state.PasswordPolicy{Window: 1}},
		{name: "a lock for ever", field: "lockout_time", policy: &state.PasswordPolicy{Lock: 86_401}},
		{name: "a negative lock", field: "lockout_time", policy: &state.PasswordPolicy{Lock: -60}},
		{name: "too many words", field: "password_refused", policy: &state.PasswordPolicy{Refused: make([]string, 1001)}},
		{name: "an empty word", field: "password_refused", policy: &state.PasswordPolicy{Refused: []string{""}}},
		{name: "a word of no bound", field: "password_refused", policy: &state.PasswordPolicy{Refused: []string{strings.Repeat("x", 129)}}},
		{name: "all at their edges", policy: &state.PasswordPolicy{MinLength: 8, MaxLength: 1024, Failures: 3, Window: 60, Lock: 86_400}},
		{name: "none"},
	}
	for _, tt := range tests {
		p := tt.policy
		if p == nil {
			p = &state.PasswordPolicy{}
		}
		err := identity.FoldPolicy(p)
		var field *identity.FieldError
		errors.As(err, &field)
		if (err == nil) != (tt.field == "") || field != nil && field.Field != tt.field {
			t.Errorf("%s: %v, want an error of %q", tt.name, err, tt.field)
		}
	}
}

// TestWEB05ChangePasswordIsOneWrite: the user's own change ends that they must, the link to
// set one and every login of before by one command; the password of before is none.
func TestWEB05ChangePasswordIsOneWrite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.resets()
	made, err := w.users.Create(t.Context(), tenant, &identity.Profile{Username: "alice", Password: phrase, MustChange: true})
	if err != nil || !identity.MustChange(made, []string{identity.AMRPassword}) || identity.MustChange(made, []string{"pop", identity.AMRFactors}) {
		t.Fatalf("%v, %v", made, err)
	}
	if _, _, err := r.New(t.Context(), w.view(), tenant, made.GetId()); err != nil {
		t.Fatal(err)
	}
	user, err := w.view().User(tenant, made.GetId())
	if err != nil {
		t.Fatal(err)
	}
	var field *identity.FieldError
	if _, err := w.users.ChangePassword(t.Context(), w.view(), user, phrase); !errors.As(err, &field) || field.Rule != identity.RuleSame {
		t.Errorf("the password of before: %v", err)
	}
	w.seen = nil
	changed, err := w.users.ChangePassword(t.Context(), w.view(), user, "a newer phrase of mine")
	if err != nil {
		t.Fatal(err)
	}
	if len(w.seen) != 1 || changed.GetMustChangePassword() || len(changed.GetResetHash()) != 0 || changed.GetSessionsAfter() == 0 {
		t.Errorf("%d writes; the user is %v", len(w.seen), changed)
	}
	if _, err := w.users.ChangePassword(t.Context(), w.view(), user, "another phrase of mine"); !errors.Is(err, command.Stale) {
		t.Errorf("a change of a user of before: %v", err)
	}
	w.fails("alice", phrase, "")
	w.passes("alice", "a newer phrase of mine", "")
}
