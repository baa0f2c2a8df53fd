package identity_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

func (w *world) resets() *identity.Resets {
	shared := tokens.NewClusterKeys(w.Ring)
	boxes := tokens.NewBoxes(shared, tokens.KeyCode)
	return &identity.Resets{Users: w.users, Hashes: shared.Hashes, Seal: boxes.Seal, Open: boxes.Open}
}

// link makes one for a user.
func (w *world) link(r *identity.Resets, id string) string {
	w.t.Helper()
	token, until, err := r.New(w.t.Context(), w.view(), tenant, id)
	if err != nil || until <= w.Now().Unix() {
		w.t.Fatalf("until %d, %v", until, err)
	}
	return token
}

// TestWEB06ResetLinks: a link is good once, for an hour, for its user in its tenant, and a
// newer one, a new password or a lock of the account ends it.
func TestWEB06ResetLinks(t *testing.T) {
	t.Parallel()
	const next = "a newer phrase of mine"
	w := newWorld(t)
	r := w.resets()
	alice, bob := w.make("alice"), w.make("bob")
	refused := func(name, token string) {
		t.Helper()
		if _, err := r.Use(t.Context(), w.view(), tenant, token, next); !errors.Is(err, oauth.InvalidGrant) {
			t.Errorf("%s: %v", name, err)
		}
	}
	token := w.link(r, alice.GetId())
	if row, err := w.view().User(tenant, alice.GetId()); err != nil || strings.Contains(row.String(), strings.TrimPrefix(token, alice.GetId()+".")) || len(row.GetResetHash()) != 32 {
		t.Errorf("the state holds the token itself, or no hash of it: %v", err)
	}
	_, secret, _ := strings.Cut(token, ".")
	refused("another user's name before it", bob.GetId()+"."+secret)
	refused("half of it", token[:len(token)-1])
	refused("nothing", "")
	refused("the user alone", alice.GetId())
	refused("nobody's", "nobody."+secret)
	if _, err := r.Holder(w.view(), "acme", token); !errors.Is(err, oauth.InvalidGrant) {
		t.Errorf("at another tenant: %v", err)
	}
	// An action token of another type: what is hashed says what it is for.
	shared := tokens.NewClusterKeys(w.Ring)
	if plain, err := shared.Hashes(w.view(), []byte(secret)); err != nil {
		t.Error(err)
	} else if row, _ := w.view().User(tenant, alice.GetId()); string(row.GetResetHash()) == string(plain[0][:]) {
		t.Error("the hash is that of any secret of ours: a token of another type would pass")
	}
	var field *identity.FieldError
	if _, err := r.Use(t.Context(), w.view(), tenant, token, "short"); !errors.As(err, &field) {
		t.Errorf("a weak password: %v", err)
	}
	w.seen = nil
	if _, err := r.Use(t.Context(), w.view(), tenant, token, next); err != nil || len(w.seen) != 1 {
		t.Fatalf("%d writes, %v", len(w.seen), err)
	}
	refused("a second time", token)
	w.passes("alice", next, "")

	token = w.link(r, alice.GetId())
	newer := w.link(r, alice.GetId())
	refused("one with a newer one", token)
	w.Pass(time.Hour + time.Second)
	refused("after its hour", newer)
	token = w.link(r, alice.GetId())
	if err := r.Withdraw(t.Context(), w.view(), tenant, alice.GetId()); err != nil {
		t.Fatal(err)
	}
	refused("one that was withdrawn", token)
	token = w.link(r, alice.GetId())
	if _, err := w.users.Update(t.Context(), w.view(), tenant, alice.GetId(), &identity.Profile{Username: "alice", Password: phrase}, 0); err != nil {
		t.Fatal(err)
	}
	refused("after another new password", token)
	token = w.link(r, bob.GetId())
	off := false
	if _, err := w.users.Update(t.Context(), w.view(), tenant, bob.GetId(), &identity.Profile{Username: "bob", Enabled: &off}, 0); err != nil {
		t.Fatal(err)
	}
	refused("of a user who may not sign in", token)
	if _, _, err := r.New(t.Context(), w.view(), tenant, bob.GetId()); !errors.Is(err, command.Disabled) {
		t.Errorf("a link for one: %v", err)
	}
}

// TestWEB06ARestoreBringsNoLinkBack: the backup has forgotten that it was used (R15).
func TestWEB06ARestoreBringsNoLinkBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.resets()
	id := w.make("alice").GetId()
	token := w.link(r, id)
	backup := w.Backup(t)
	w.Pass(time.Second)
	if _, err := r.Use(t.Context(), w.view(), tenant, token, "a newer phrase of mine"); err != nil {
		t.Fatal(err)
	}
	w.Restore(t, backup)
	if _, err := r.Use(t.Context(), w.view(), tenant, token, "a third phrase of mine"); !errors.Is(err, oauth.InvalidGrant) {
		t.Errorf("a link of the backup: %v", err)
	}
	w.Pass(2 * time.Second)
	if _, err := r.Holder(w.view(), tenant, w.link(r, id)); err != nil {
		t.Errorf("a link from after it: %v", err)
	}
}

// FuzzResetTokens: whatever an address says, nobody but who was given the link holds it.
func FuzzResetTokens(f *testing.F) {
	w := newWorld(f)
	r := w.resets()
	id := w.make("alice").GetId()
	token := w.link(r, id)
	v := w.view()
	value, err := r.Carry(v, tenant, token, here)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{token, id, id + ".", "." + token, token + ".", token[:len(token)-1], strings.ToUpper(token), value, "", ".", "\x00.\x00", strings.Repeat("a", 300)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, said string) {
		if user, err := r.Holder(v, tenant, said); err == nil && (said != token || user.GetId() != id) {
			t.Errorf("%q is held by %s", said, user.GetId())
		} else if err != nil && !errors.Is(err, oauth.InvalidGrant) {
			t.Errorf("%q: %v", said, err)
		}
		if got, err := r.Carried(v, tenant, said, here); err != nil || got != "" && got != token {
			t.Errorf("%q carries something, %v", said, err)
		}
	})
}

// TestWEB06TwoUsesOfALinkAtOnce: one of many wins, whatever runs beside it.
func TestWEB06TwoUsesOfALinkAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.resets()
	token := w.link(r, w.make("alice").GetId())
	v := w.view()
	var won atomic.Int32
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			_, err := r.Use(t.Context(), v, tenant, token, "a newer phrase of mine "+string(rune('a'+i)))
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, oauth.InvalidGrant) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d uses of one link were good", won.Load())
	}
}

// TestWEB06APageOfALinkIsOfOneBrowser: what its address carries is no token, and good at the
// browser alone that opened the link.
func TestWEB06APageOfALinkIsOfOneBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.resets()
	value, err := r.Carry(w.view(), tenant, "alice.secret", here)
	if err != nil || strings.Contains(value, "secret") {
		t.Fatalf("%q, %v", value, err)
	}
	for _, tt := range []struct{ name, tenant, value, browser, want string }{
		{"here", tenant, value, here, "alice.secret"}, {"at another browser", tenant, value, "another", ""}, {"at another tenant", "acme", value, here, ""},
		{"changed", tenant, value[:len(value)-2] + "AA", here, ""}, {"nothing", tenant, "", here, ""}, {"the token itself", tenant, "alice.secret", here, ""},
	} {
		if got, err := r.Carried(w.view(), tt.tenant, tt.value, tt.browser); err != nil || got != tt.want {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
	v := w.view()
	if other, err := r.Seal(v, "session cookie", []byte(`{"t":"default","k":"x","b":"`+here+`"}`)); err != nil {
		t.Error(err)
	} else if got, err := r.Carried(v, tenant, other, here); got != "" || err != nil {
		t.Errorf("a value of another kind passes: %q, %v", got, err)
	}
}

// TestSessionsByPages: every session stands on one page, and nobody has another's.
func TestSessionsByPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := sessions(t, w.Node)
	alice, bob := w.make("alice"), w.make("bob")
	var theirs string
	for _, u := range []*state.User{alice, bob, alice, alice, alice, alice} {
		_, row, err := s.Start(t.Context(), w.view(), tenant, u, identity.Authentication{AMR: []string{"pwd"}})
		if err != nil {
			t.Fatal(err)
		}
		if u == bob {
			theirs = row.GetId()
		}
	}
	seen := map[string]int{}
	after, pages := "", 0
	for {
		rows, next, err := s.Page(w.view(), alice, after, 2)
		if err != nil || len(rows) > 2 {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		for _, row := range rows {
			seen[row.GetId()]++
		}
		if pages++; next == "" {
			break
		}
		after = next
	}
	if len(seen) != 5 || pages != 3 || seen[theirs] != 0 {
		t.Errorf("%d sessions on %d pages", len(seen), pages)
	}
	for id := range seen {
		if has, err := s.Has(w.view(), alice, id); !has || err != nil {
			t.Errorf("a session of hers is none: %v", err)
		}
	}
	for _, id := range []string{theirs, "", "nobody"} {
		if has, err := s.Has(w.view(), alice, id); has || err != nil {
			t.Errorf("%q is hers: %v", id, err)
		}
	}
}
