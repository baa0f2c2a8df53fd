package identity_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/identity"
)

func TestPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tt := range []struct{ name, user, password, rule string }{
		{"nine characters are too few", "u1", "ninechars", "at least 10 characters"},
		{"length counts characters, not bytes", "u2", "ääääööööü", "at least 10 characters"},
		{"the user name is no password", "somebody.else", "Somebody.Else", "the user name"},
		{"the user name in full width is no password", "somebody.else", "ｓomebody.else", "the user name"},
		{"a common one is refused in any case", "u3", "PassWord123", "commonest"},
		{"WEB-14: more than 1024 bytes is refused before any hash", "u4", strings.Repeat("x", 1025), "1024"},
		{"1024 bytes are good", "u5", strings.Repeat("xy", 512), ""},
		{"spaces are good", "u6", "correct horse battery", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := w.users.Create(context.Background(), tenant, &identity.Profile{Username: tt.user, Password: tt.password})
			var field *identity.FieldError
			switch {
			case tt.rule == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.rule != "" && (!errors.As(err, &field) || field.Field != "password" || !strings.Contains(field.Detail, tt.rule)):
				t.Errorf("error %v, want one of the password that names %q", err, tt.rule)
			}
			if err != nil && strings.Contains(err.Error(), tt.password) {
				t.Error("the error holds the password")
			}
		})
	}
}

// TestCheckAccounts: TOK-34, WEB-12 and WEB-14. Every writing of a name is one account,
// and every refusal reads the same and costs one write.
func TestCheckAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.make("Bob")
	for _, name := range []string{"bob", "BOB", "ｂｏｂ"} {
		w.passes(name, phrase, "")
	}
	w.passes("bob", "a long\u00a0phrase of mine", "") // OpaqueString: a space is a space
	if n := w.proposals(); n != 0 {
		t.Errorf("good logins without failures before made %d writes", n)
	}
	disabled := w.make("disabled")
	off := identity.ProfileOf(disabled)
	enabled := false
	off.Enabled = &enabled
	if _, err := w.users.Update(context.Background(), w.view(), tenant, disabled.GetId(), off, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := w.users.Create(context.Background(), tenant, &identity.Profile{Username: "without"}); err != nil {
		t.Fatal(err)
	}
	w.make("locked")
	for range 3 {
		w.fails("locked", "another phrase", "")
	}
	w.proposals()
	want := w.fails("bob", "another phrase", "")
	w.proposals()
	for _, tt := range []struct{ cause, name, password string }{
		{"unknown", "nobody", phrase}, {"disabled", "disabled", phrase}, {"without a password", "without", phrase},
		{"locked, the right password", "locked", phrase}, {"locked, a wrong password", "locked", "another phrase"},
		{"a name that can't be", "bob\u200b", phrase}, {"a space behind", "bob ", phrase}, {"another domain", `DOM\bob`, phrase}, {"a mail address", "bob@dom", phrase},
		{"LDP-02: no password", "bob", ""}, {"LDP-02: a NUL", "bob", phrase + "\x00"}, {"LDP-02: 64 KiB", "bob", strings.Repeat("x", 64<<10)},
	} {
		if got := w.fails(tt.name, tt.password, ""); got != want {
			t.Errorf("%s: %q, where a wrong password gets %q", tt.cause, got, want)
		}
		if n := w.proposals(); n != 1 {
			t.Errorf("%s: %d writes, where a wrong password makes 1", tt.cause, n)
		}
		if err := w.users.Unlock(context.Background(), tenant, mustID(w, "bob")); err != nil {
			t.Fatal(err)
		}
		w.proposals()
	}
}

func mustID(w *world, key string) string {
	w.t.Helper()
	u, err := w.view().UserByName(tenant, key)
	if err != nil {
		w.t.Fatal(err)
	}
	return u.GetId()
}

func TestLockout(t *testing.T) {
	t.Parallel()
	t.Run("TOK-34: writings of one name count together", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.make("bob")
		for _, name := range []string{"bob", "BOB", "ｂｏｂ"} {
			w.fails(name, "another phrase", "")
		}
		w.fails("bob", phrase, "")
	})
	t.Run("strangers can't lock out a browser that its owner is known at", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.make("bob")
		for range 9 {
			w.fails("bob", "another phrase", "")
		}
		w.passes("bob", phrase, "home")
		w.fails("bob", phrase, "")
	})
	t.Run("a known browser is locked by its own guesses", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.make("bob")
		for range 3 {
			w.fails("bob", "another phrase", "home")
		}
		w.fails("bob", phrase, "home")
		w.passes("bob", phrase, "")
	})
	t.Run("guesses while it is locked prolong nothing, and its end is the end", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.make("bob")
		for range 3 {
			w.fails("bob", "another phrase", "")
		}
		w.Pass(4 * time.Minute)
		w.fails("bob", "another phrase", "")
		w.Pass(59 * time.Second)
		w.fails("bob", phrase, "")
		w.Pass(2 * time.Second)
		w.passes("bob", phrase, "")
	})
	t.Run("the right password clears the count", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.make("bob")
		for range 3 {
			w.fails("bob", "another phrase", "")
			w.fails("bob", "another phrase", "")
			w.passes("bob", phrase, "")
		}
	})
	t.Run("WEB-12: a known browser is not locked by another one", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		id := w.make("bob").GetId()
		for range 3 {
			w.fails("bob", "another phrase", "cafe")
		}
		w.fails("bob", phrase, "cafe")
		w.passes("bob", phrase, "home")
		w.passes("bob", phrase, "")
		if locked, err := w.users.Locked(w.view(), tenant, id); err != nil || locked {
			t.Errorf("the account as such is locked by one browser: %v, %v", locked, err)
		}
	})
	t.Run("unlocking ends every lock, of many browsers too", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		id := w.make("bob").GetId()
		for range 3 {
			w.fails("bob", "another phrase", "")
			w.fails("bob", "another phrase", "home")
		}
		for i := range 250 { // more than are read at once, before and behind the name of the other
			for range 3 {
				w.Must(t, &command.RecordAttempt{Tenant: tenant, User: id, Class: fmt.Sprintf("known:%c%d", "ax"[i%2], i), Limit: 3, Window: 60_000, Lock: 60_000})
			}
		}
		if locked, err := w.users.Locked(w.view(), tenant, id); err != nil || !locked {
			t.Errorf("locked by strangers: %v, %v", locked, err)
		}
		w.fails("bob", phrase, "home")
		if err := w.users.Unlock(context.Background(), tenant, id); err != nil {
			t.Fatal(err)
		}
		w.passes("bob", phrase, "")
		w.passes("bob", phrase, "home")
		if left, err := w.view().AttemptClasses(tenant, id, "", 1); err != nil || len(left) != 0 {
			t.Errorf("left of the counters: %v, %v", left, err)
		}
	})
	t.Run("a wrong password that can't be counted is no answer", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.make("bob")
		w.before = func(command.Command) error { return command.ErrUnavailable }
		if _, err := w.check("bob", "another phrase", ""); !errors.Is(err, command.ErrUnavailable) {
			t.Errorf("error %v, want that no write is possible", err)
		}
	})
	t.Run("without a leader even the right password waits", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.make("bob")
		w.NoLeader.Store(true)
		if _, err := w.check("bob", phrase, ""); !errors.Is(err, command.ErrUnavailable) {
			t.Errorf("error %v, want that the count can't be proved", err)
		}
	})
}

// TestCheckSeesTheNewestUser: WEB-05. What was decided on an old view is held against
// the newest before it passes.
func TestCheckSeesTheNewestUser(t *testing.T) {
	t.Parallel()
	off := false
	for name, change := range map[string]func(w *world, id string) error{
		"a new password": func(w *world, id string) error {
			_, err := w.users.Update(context.Background(), w.view(), tenant, id, &identity.Profile{Username: "bob", Password: "a newer phrase of mine"}, 0)
			return err
		},
		"disabled": func(w *world, id string) error {
			_, err := w.users.Update(context.Background(), w.view(), tenant, id, &identity.Profile{Username: "bob", Enabled: &off}, 0)
			return err
		},
		"deleted": func(w *world, id string) error {
			return w.users.Delete(context.Background(), w.view(), tenant, id, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			id := w.make("bob").GetId()
			w.during = func() {
				if err := change(w, id); err != nil {
					t.Error(err)
				}
			}
			w.fails("bob", phrase, "")
		})
	}
}
