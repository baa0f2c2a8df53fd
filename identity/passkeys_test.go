package identity_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/testfactor"
)

const origin = "https://id.example:8443"

// register gives a user a passkey of an authenticator.
func (f *factored) register(user *state.User, a *testfactor.Authenticator, name string) {
	f.t.Helper()
	c, err := f.BeginRegistration(f.view(), user, here)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.Register(f.t.Context(), f.view(), user, here, c.Value, a.Create(f.t, c.Options), name, false); err != nil {
		f.t.Fatal(err)
	}
}

// login asks for any passkey, and shows what the authenticator answers.
func (f *factored) login(a *testfactor.Authenticator, forge ...func(*testfactor.Answer)) (*state.User, error) {
	f.t.Helper()
	c, err := f.BeginLogin(f.view(), tenant, here)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.Login(f.t.Context(), f.view(), tenant, here, c.Value, a.Get(f.t, c.Options, forge...))
}

func decoded(t *testing.T, id string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestPasskeyAloneAndAsAFactor(t *testing.T) {
	t.Parallel()
	f := withFactors(t)
	a := &testfactor.Authenticator{Origin: origin}
	f.register(f.user, a, "my phone")
	for range 3 { // an authenticator that does not count
		user, err := f.login(a)
		if err != nil || user.GetId() != f.user.GetId() {
			t.Fatalf("%v, %v", user, err)
		}
	}
	c, err := f.BeginFactor(f.view(), f.user, here)
	if err != nil {
		t.Fatal(err)
	}
	unverified := func(w *testfactor.Answer) { w.Verified = false } // a touch, after a password
	if err := f.CheckPasskey(t.Context(), f.view(), f.user, here, c.Value, a.Get(t, c.Options, unverified)); err != nil {
		t.Error(err)
	}
	have, err := f.Of(f.view(), f.user)
	if err != nil || len(have.Passkeys) != 1 || have.Passkeys[0].GetName() != "my phone" || have.Passkeys[0].GetUsedAt() == 0 {
		t.Fatalf("%v, %v", have, err)
	}
	second := &testfactor.Authenticator{Origin: origin, Counts: true}
	f.register(f.user, second, "my key")
	for range 3 {
		if _, err := f.login(second); err != nil {
			t.Error(err)
		}
	}
	if err := f.Remove(t.Context(), f.view(), f.user, have.Passkeys[0].GetId()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.login(a); !errors.Is(err, oauth.InvalidGrant) {
		t.Errorf("a passkey that was removed: %v", err)
	}
	if _, err := f.login(second); err != nil {
		t.Error(err)
	}
}

// TestWEB08ForgedLogins: what proves nothing is refused, in one text.
func TestWEB08ForgedLogins(t *testing.T) {
	t.Parallel()
	f := withFactors(t)
	a := &testfactor.Authenticator{Origin: origin, Counts: true}
	f.register(f.user, a, "")
	bob := f.make("bob")
	forged := map[string]func(*testfactor.Answer){
		"another origin":                 func(w *testfactor.Answer) { w.Origin = "https://evil.example" },
		"another port":                   func(w *testfactor.Answer) { w.Origin = "https://id.example" },
		"a sibling's origin":             func(w *testfactor.Answer) { w.Origin = "https://id.example:8443.evil.example" },
		"a frame of another origin":      func(w *testfactor.Answer) { w.CrossOrigin = true },
		"the parent domain":              func(w *testfactor.Answer) { w.Party = "example" },
		"no user verification":           func(w *testfactor.Answer) { w.Verified = false },
		"no user presence":               func(w *testfactor.Answer) { w.Present = false },
		"another challenge":              func(w *testfactor.Answer) { w.Challenge = strings.Repeat("A", 43) },
		"a registration":                 func(w *testfactor.Answer) { w.Type = "webauthn.create" },
		"another user's handle":          func(w *testfactor.Answer) { w.Handle = []byte(bob.GetId()) },
		"no handle":                      func(w *testfactor.Answer) { w.Handle = nil },
		"an id that is nobody's":         func(w *testfactor.Answer) { w.ID = []byte("nobody's passkey") },
		"a bad signature":                func(w *testfactor.Answer) { w.BadSignature = true },
		"a signature count that is back": func(w *testfactor.Answer) { w.Count = 1 },
		"a count of none":                func(w *testfactor.Answer) { w.Count = 0 },
	}
	for range 3 {
		if _, err := f.login(a); err != nil {
			t.Fatal(err)
		}
	}
	var text string
	for why, forge := range forged {
		user, err := f.login(a, forge)
		if user != nil && err == nil || !errors.Is(err, oauth.InvalidGrant) {
			t.Errorf("%s: %v", why, err)
			continue
		}
		if text == "" {
			text = err.Error()
		}
		if err.Error() != text {
			t.Errorf("%s reads %q, another one %q", why, err, text)
		}
	}
	for why, answer := range map[string]string{"no JSON": "{", "none": "", "an array": "[]", "very long": `{"id":"` + strings.Repeat("A", 70_000) + `"}`} {
		c, _ := f.BeginLogin(f.view(), tenant, here)
		if _, err := f.Login(t.Context(), f.view(), tenant, here, c.Value, answer); !errors.Is(err, oauth.InvalidGrant) {
			t.Errorf("%s: %v", why, err)
		}
	}
	if _, err := f.login(a); err != nil {
		t.Errorf("after all that the right one: %v", err)
	}
	disabled := false
	if _, err := f.users.Update(t.Context(), f.view(), tenant, f.user.GetId(), &identity.Profile{Username: "alice", Enabled: &disabled}, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.login(a); !errors.Is(err, oauth.InvalidGrant) {
		t.Errorf("a disabled user: %v", err)
	}
}

// TestWEB08ChallengesAreOfOneBrowserOnce: an answer is good at the browser and for the page
// that asked, once, in its time.
func TestWEB08ChallengesAreOfOneBrowserOnce(t *testing.T) {
	t.Parallel()
	f := withFactors(t)
	a := &testfactor.Authenticator{Origin: origin}
	f.register(f.user, a, "")
	c, err := f.BeginLogin(f.view(), tenant, here)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(c.Options, "allowCredentials") { // WEB-12
		t.Errorf("the page tells of passkeys: %s", c.Options)
	}
	answer, v := a.Get(t, c.Options), f.view()
	login := func(browser, value string) error {
		_, err := f.Login(t.Context(), v, tenant, browser, value, answer)
		return err
	}
	if err := login("another browser", c.Value); !errors.Is(err, oauth.InvalidRequest) {
		t.Errorf("another browser: %v", err)
	}
	if err := login(here, "A"+c.Value); !errors.Is(err, oauth.InvalidRequest) {
		t.Errorf("a changed value: %v", err)
	}
	if err := f.CheckPasskey(t.Context(), v, f.user, here, c.Value, answer); !errors.Is(err, oauth.InvalidRequest) {
		t.Errorf("as the answer to another page: %v", err)
	}
	if err := login(here, c.Value); err != nil {
		t.Error(err)
	}
	if err := login(here, c.Value); !errors.Is(err, oauth.InvalidGrant) {
		t.Errorf("once more, on the view of before: %v", err)
	}
	c, _ = f.BeginLogin(f.view(), tenant, here)
	late := a.Get(t, c.Options)
	f.Pass(6 * time.Minute)
	if _, err := f.Login(t.Context(), f.view(), tenant, here, c.Value, late); !errors.Is(err, oauth.InvalidRequest) {
		t.Errorf("after its time: %v", err)
	}
}

// TestWEB08ForgedRegistrations: none is stored; one passkey is of one user.
func TestWEB08ForgedRegistrations(t *testing.T) {
	t.Parallel()
	f := withFactors(t)
	bob := f.make("bob")
	a := &testfactor.Authenticator{Origin: origin}
	f.register(bob, a, "")
	taken, err := f.Of(f.view(), bob)
	if err != nil {
		t.Fatal(err)
	}
	bobs := taken.Passkeys[0].GetId()
	for why, forge := range map[string]func(*testfactor.Answer){
		"another origin":            func(w *testfactor.Answer) { w.Origin = "https://evil.example" },
		"a frame of another origin": func(w *testfactor.Answer) { w.CrossOrigin = true },
		"another party":             func(w *testfactor.Answer) { w.Party = "evil.example" },
		"no user presence":          func(w *testfactor.Answer) { w.Present = false },
		"another challenge":         func(w *testfactor.Answer) { w.Challenge = strings.Repeat("A", 43) },
		"a login":                   func(w *testfactor.Answer) { w.Type = "webauthn.get" },
		"another user's passkey":    func(w *testfactor.Answer) { w.ID = decoded(t, bobs) },
		"a very long id":            func(w *testfactor.Answer) { w.ID = make([]byte, 1024) },
		"CBOR that nests deeply":    func(w *testfactor.Answer) { w.Padding = 9000 },
	} {
		c, err := f.BeginRegistration(f.view(), f.user, here)
		if err != nil {
			t.Fatal(err)
		}
		forger := &testfactor.Authenticator{Origin: origin}
		if err := f.Register(t.Context(), f.view(), f.user, here, c.Value, forger.Create(t, c.Options, forge), "", false); !errors.Is(err, oauth.InvalidGrant) {
			t.Errorf("%s: %v", why, err)
		}
	}
	if have, err := f.Of(f.view(), f.user); err != nil || have.Any() {
		t.Errorf("a forged passkey is stored: %v", err)
	}
	c, _ := f.BeginRegistration(f.view(), f.user, here)
	answer := a.Create(t, c.Options)
	if err := f.Register(t.Context(), f.view(), bob, here, c.Value, answer, "", false); !errors.Is(err, oauth.InvalidRequest) {
		t.Errorf("for another user: %v", err)
	}
	if err := f.Register(t.Context(), f.view(), f.user, "another", c.Value, answer, "", false); !errors.Is(err, oauth.InvalidRequest) {
		t.Errorf("another browser: %v", err)
	}
	var field *identity.FieldError
	if err := f.Register(t.Context(), f.view(), f.user, here, c.Value, answer, "a\u202ename", false); !errors.As(err, &field) {
		t.Errorf("a name that turns round: %v", err)
	}
	if err := f.Register(t.Context(), f.view(), f.user, here, c.Value, answer, "mine", false); err != nil {
		t.Fatal(err)
	}
	have, _ := f.Of(f.view(), f.user)
	if err := f.Remove(t.Context(), f.view(), f.user, have.Passkeys[0].GetId()); err != nil {
		t.Fatal(err)
	}
	if err := f.Register(t.Context(), f.view(), f.user, here, c.Value, answer, "again", false); !errors.Is(err, oauth.InvalidGrant) {
		t.Errorf("an answer of before brings a removed passkey back: %v", err)
	}
	if err := f.Remove(t.Context(), f.view(), f.user, bobs); !errors.Is(err, command.NotFound) {
		t.Errorf("removing another user's: %v", err)
	}
}

// TestAnAddressHasNoPasskeys: a relying party is a domain (WebAuthn L2 §5.1.2).
func TestAnAddressHasNoPasskeys(t *testing.T) {
	t.Parallel()
	f := withFactors(t)
	f.issuer = "http://127.0.0.1:8080"
	if c, err := f.BeginLogin(f.view(), tenant, here); c != nil || err != nil {
		t.Errorf("%v, %v", c, err)
	}
	if c, err := f.BeginRegistration(f.view(), f.user, here); c != nil || err != nil {
		t.Errorf("%v, %v", c, err)
	}
	f.issuer = "http://localhost:8080"
	if c, err := f.BeginLogin(f.view(), tenant, here); c == nil || err != nil {
		t.Errorf("%v, %v", c, err)
	}
}

// FuzzPasskeyAnswers: what a browser sends is anything; none of it signs anyone in or adds
// a passkey, but what an authenticator signed.
func FuzzPasskeyAnswers(f *testing.F) {
	w := withFactors(f)
	a := &testfactor.Authenticator{Origin: origin}
	w.register(w.user, a, "")
	login, err1 := w.BeginLogin(w.view(), tenant, here)
	adding, err2 := w.BeginRegistration(w.view(), w.user, here)
	if err := errors.Join(err1, err2); err != nil {
		f.Fatal(err)
	}
	f.Add(a.Get(f, login.Options, func(w *testfactor.Answer) { w.Verified = false }))
	f.Add((&testfactor.Authenticator{Origin: origin}).Create(f, adding.Options, func(w *testfactor.Answer) { w.Present = false }))
	f.Add("{}")
	f.Fuzz(func(t *testing.T, answer string) {
		if user, err := w.Login(t.Context(), w.view(), tenant, here, login.Value, answer); err == nil {
			t.Errorf("%q signs %v in", answer, user.GetId())
		}
		if err := w.Register(t.Context(), w.view(), w.user, here, adding.Value, answer, "", false); err == nil {
			t.Errorf("%q adds a passkey", answer)
		}
	})
}

// FuzzCodes: what is typed is anything; only the code of now and a recovery code count.
func FuzzCodes(f *testing.F) {
	w := withFactors(f)
	secret := w.enrol(w.user)
	f.Add("000000")
	f.Add(" 12-34 56")
	f.Add("ABCDE-FGHIJ")
	f.Fuzz(func(t *testing.T, code string) {
		if err := w.users.Unlock(t.Context(), tenant, w.user.GetId()); err != nil {
			t.Fatal(err)
		}
		plain := strings.NewReplacer(" ", "", "-", "").Replace(code)
		if err := w.CheckCode(t.Context(), w.view(), w.user, code); err == nil && plain != w.code(secret, 1) {
			t.Errorf("%q counts", code)
		}
	})
}
