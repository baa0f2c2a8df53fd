package identity_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/identity"
)

func TestCreate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := context.Background()
	full := &identity.Profile{
		Username: "Alice", Password: phrase, Email: "alice@example.com", EmailVerified: true, Name: "Alice B", Locale: "de",
		Roles: []string{"staff"}, Groups: []string{"all"}, Entitlements: []string{"beta"}, SecondFactor: true,
		Claims: map[string]json.RawMessage{"department": []byte(`"sales"`), "age": []byte(`7`)},
	}
	u, err := w.users.Create(ctx, tenant, full)
	if err != nil {
		t.Fatal(err)
	}
	if len(u.GetId()) != 22 || u.GetKey() != "alice" || !strings.HasPrefix(u.GetPassword(), "$argon2id$") || strings.Contains(u.GetPassword(), phrase) {
		t.Errorf("id %q, key %q, password stored as %.20q", u.GetId(), u.GetKey(), u.GetPassword())
	}
	back, err := json.Marshal(identity.ProfileOf(u))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(back, []byte("argon2")) || bytes.Contains(back, []byte("password")) {
		t.Errorf("the profile shows the password: %s", back)
	}
	again := new(identity.Profile)
	if err := json.Unmarshal(back, again); err != nil || string(again.Claims["department"]) != `"sales"` || !again.SecondFactor || !again.EmailVerified {
		t.Errorf("the profile is not what was given: %s", back)
	}
	if _, err := w.users.Create(ctx, tenant, &identity.Profile{Username: "ＡＬＩＣＥ"}); !errors.Is(err, command.Conflict) {
		t.Errorf("WEB-14: a second account of one name: %v", err)
	}
	if _, err := w.users.Create(ctx, tenant, &identity.Profile{Username: "alice2", Email: "alice@example.com"}); err != nil {
		t.Errorf("two users may share a mail address: %v", err)
	}
}

// TestCreateOnce: a repeated call under one key makes one user.
func TestCreateOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := command.WithKey(context.Background(), command.Key{1, 2, 3}, [8]byte{4})
	first, err1 := w.users.Create(ctx, tenant, &identity.Profile{Username: "alice", Password: phrase})
	second, err2 := w.users.Create(ctx, tenant, &identity.Profile{Username: "alice", Password: phrase})
	if err1 != nil || err2 != nil || first.GetId() != second.GetId() || first.GetGeneration() != second.GetGeneration() {
		t.Errorf("users %q and %q, errors %v and %v", first.GetId(), second.GetId(), err1, err2)
	}
}

func TestProfileRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	many := make([]string, 257)
	for i := range many {
		many[i] = "x"
	}
	for _, tt := range []struct {
		name, field string
		p           identity.Profile
	}{
		{"no user name", "username", identity.Profile{}},
		{"an address without a domain", "email", identity.Profile{Email: "alice@"}},
		{"an address with two signs", "email", identity.Profile{Email: "a@b@c"}},
		{"ADM-12: a newline in a name", "name", identity.Profile{Name: "a\nb"}},
		{"ADM-12: a right-to-left override in a name", "given_name", identity.Profile{GivenName: "a\u202eb"}},
		{"a text that is too long", "family_name", identity.Profile{FamilyName: strings.Repeat("x", 257)}},
		{"an empty role", "roles", identity.Profile{Roles: []string{""}}},
		{"too many groups", "groups", identity.Profile{Groups: many}},
		{"REG-05: a claim that the server sets", "claims", identity.Profile{Claims: map[string]json.RawMessage{"sub": []byte(`"admin"`)}}},
		{"REG-05: a claim that has a member", "claims", identity.Profile{Claims: map[string]json.RawMessage{"roles": []byte(`["admin"]`)}}},
		{"claims that are too large", "claims", identity.Profile{Claims: map[string]json.RawMessage{"x": []byte(`"` + strings.Repeat("x", 17<<10) + `"`)}}},
	} {
		if tt.field != "username" {
			tt.p.Username = "alice"
		}
		_, err := w.users.Create(context.Background(), tenant, &tt.p)
		var field *identity.FieldError
		if !errors.As(err, &field) || field.Field != tt.field {
			t.Errorf("%s: error %v, want one of %s", tt.name, err, tt.field)
		}
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	off := false
	tests := []struct {
		name string
		p    identity.Profile
		ends bool
	}{
		{"another name ends no login", identity.Profile{Username: "alice.b"}, false},
		{"a new password ends all logins", identity.Profile{Username: "alice", Password: "a newer phrase of mine"}, true},
		{"disabling ends all logins", identity.Profile{Username: "alice", Enabled: &off}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			old := w.make("alice")
			head := w.view().Head()
			u, err := w.users.Update(ctx, w.view(), tenant, old.GetId(), &tt.p, old.GetGeneration())
			if err != nil {
				t.Fatal(err)
			}
			if ended := u.GetSessionsAfter() != 0; ended != tt.ends || (w.view().Head() > head) != tt.ends {
				t.Errorf("sessions end %v, head %d after %d; want an end: %v", ended, w.view().Head(), head, tt.ends)
			}
			if changed := u.GetPassword() != old.GetPassword(); changed != (tt.p.Password != "") {
				t.Errorf("the password changed: %v", changed)
			}
			if _, err := w.users.Update(ctx, w.view(), tenant, old.GetId(), &tt.p, old.GetGeneration()); !errors.Is(err, command.Stale) {
				t.Errorf("ADM-07: a change of what has changed: %v", err)
			}
		})
	}
	t.Run("a name that another has is refused, one's own in another case is not", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.make("bob")
		id := w.make("alice").GetId()
		if _, err := w.users.Update(ctx, w.view(), tenant, id, &identity.Profile{Username: "BOB"}, 0); !errors.Is(err, command.Conflict) {
			t.Errorf("error %v, want a conflict", err)
		}
		if _, err := w.users.Update(ctx, w.view(), tenant, id, &identity.Profile{Username: "Alice"}, 0); err != nil {
			t.Error(err)
		}
	})
	t.Run("logins end and the user goes", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		id := w.make("alice").GetId()
		for _, do := range []func() error{
			func() error { return w.users.EndLogins(ctx, w.view(), tenant, id) },
			func() error { return w.users.Delete(ctx, w.view(), tenant, id, 0) },
		} {
			head := w.view().Head()
			if err := do(); err != nil {
				t.Fatal(err)
			}
			if w.view().Head() != head+1 {
				t.Errorf("head %d after %d: no revocation of the subject", w.view().Head(), head)
			}
		}
		if err := w.users.EndLogins(ctx, w.view(), tenant, id); !errors.Is(err, command.NotFound) {
			t.Errorf("error %v for a user who is gone", err)
		}
		w.make("alice") // the name is free again
	})
}
