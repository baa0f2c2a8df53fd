package identity_test

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// here is the browser of these tests.
const here = "hash of a cookie"

// factored is a world with second factors.
type factored struct {
	*world
	*identity.Factors
	user   *state.User
	issuer string
}

func withFactors(t testing.TB) *factored {
	t.Helper()
	w := newWorld(t)
	made := &factored{world: w, issuer: "https://id.example:8443/t/acme"}
	shared := tokens.NewClusterKeys(w.Ring)
	boxes := tokens.NewBoxes(shared, tokens.KeyCode)
	f, err := identity.NewFactors(identity.FactorsConfig{
		Propose: w.Propose, View: w.View, Now: w.Now, Users: w.users, Seal: boxes.Seal, Open: boxes.Open,
		Hashes: shared.Hashes,
		Issuer: func(*state.View, string) (string, error) { return made.issuer, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	made.Factors, made.user = f, w.make("alice")
	return made
}

// enrol sets an authenticator up, and gives its secret.
func (f *factored) enrol(user *state.User) []byte {
	f.t.Helper()
	e, err := f.BeginTOTP(f.view(), user, here)
	if err != nil {
		f.t.Fatal(err)
	}
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(e.Secret())
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.ConfirmTOTP(f.t.Context(), f.view(), user, here, e.Value, f.code(secret, 0), false); err != nil {
		f.t.Fatal(err)
	}
	return secret
}

// code is that of some steps from now.
func (f *factored) code(secret []byte, steps int) string {
	return identity.HOTP(secret, uint64(f.Now().Unix()/30+int64(steps)))
}

// takes wants a code to count, refuses wants the refusal.
func (f *factored) takes(code string) {
	f.t.Helper()
	if err := f.CheckCode(f.t.Context(), f.view(), f.user, code); err != nil {
		f.t.Errorf("code %q: %v", code, err)
	}
}

func (f *factored) refuses(why, code string) {
	f.t.Helper()
	if err := f.CheckCode(f.t.Context(), f.view(), f.user, code); !errors.Is(err, oauth.InvalidGrant) {
		f.t.Errorf("%s: %v, want invalid_grant", why, err)
	}
}

// TestHOTP is appendix D of RFC 4226.
func TestHOTP(t *testing.T) {
	t.Parallel()
	for i, want := range strings.Fields("755224 287082 359152 969429 338314 254676 287922 162583 399871 520489") {
		if got := identity.HOTP([]byte("12345678901234567890"), uint64(i)); got != want {
			t.Errorf("counter %d: %s, want %s", i, got, want)
		}
	}
}

// TestWEB07ACodeIsGoodOnce: each step of an authenticator counts once, spaces or not, and
// no step before it; what is no code of now is none.
func TestWEB07ACodeIsGoodOnce(t *testing.T) {
	t.Parallel()
	f := withFactors(t)
	secret := f.enrol(f.user)
	f.refuses("the code that set it up", f.code(secret, 0))
	f.refuses("a code of the step before", f.code(secret, -1))
	next := f.code(secret, 1)
	f.takes(next[:3] + " " + next[3:])
	f.refuses("the same code with other gaps", next+" ")
	f.Pass(30 * time.Second)
	f.refuses("the same code when its step has come", next)
	f.Pass(90 * time.Second)
	code := f.code(secret, 0)
	for why, wrong := range map[string]string{
		"two steps ahead": f.code(secret, 2), "two steps ago": f.code(secret, -2), "seven digits": code + "0", "five digits": code[:5],
		"none": "", "no digits": "abcdef", "another script's digits": "１２３４５６", "a minus": "-" + code[1:], "very long": strings.Repeat(code, 1000),
	} {
		f.refuses(why, wrong)
		f.unlock()
	}
	f.takes(code)
}

// unlock forgets wrong codes.
func (f *factored) unlock() {
	f.t.Helper()
	if err := f.users.Unlock(f.t.Context(), tenant, f.user.GetId()); err != nil {
		f.t.Fatal(err)
	}
}

// TestWEB07OneOfManyAtOnce: of parallel tries of one code one counts.
func TestWEB07OneOfManyAtOnce(t *testing.T) {
	t.Parallel()
	f := withFactors(t)
	code := f.code(f.enrol(f.user), 1)
	v := f.view() // all have seen the same state
	var wg sync.WaitGroup
	results := make(chan error, 20)
	for range cap(results) {
		wg.Go(func() { results <- f.CheckCode(t.Context(), v, f.user, code) })
	}
	wg.Wait()
	close(results)
	good := 0
	for err := range results {
		if err == nil {
			good++
		} else if !errors.Is(err, oauth.InvalidGrant) {
			t.Error(err)
		}
	}
	if good != 1 {
		t.Errorf("%d of the tries counted", good)
	}
}

// TestWEB07GuessesLock, whatever the guesser saw before, and a right password unlocks
// nothing; while it is locked wrong codes do not prolong it. Recovery codes are locked with
// it.
func TestWEB07GuessesLock(t *testing.T) {
	t.Parallel()
	f := withFactors(t)
	secret := f.enrol(f.user)
	codes, err := f.NewRecoveryCodes(t.Context(), f.view(), f.user)
	if err != nil {
		t.Fatal(err)
	}
	f.Pass(time.Minute)
	before := f.view()
	for range 3 {
		f.refuses("a guess", "000000")
	}
	f.passes("alice", phrase, "")
	f.refuses("a right code", f.code(secret, 0))
	f.refuses("a recovery code", codes[0])
	if err := f.CheckCode(t.Context(), before, f.user, f.code(secret, 0)); !errors.Is(err, oauth.InvalidGrant) {
		t.Errorf("a right code on a view of before: %v", err)
	}
	f.Pass(4 * time.Minute)
	f.refuses("a guess during the lock", "000000")
	f.Pass(2 * time.Minute)
	f.takes(f.code(secret, 0))
	f.takes(codes[0])
}

// TestRecoveryCodes: each is good once, written as people write them, until others take
// their place; they go with the last factor.
func TestRecoveryCodes(t *testing.T) {
	t.Parallel()
	f := withFactors(t)
	secret := f.enrol(f.user)
	first, err := f.NewRecoveryCodes(t.Context(), f.view(), f.user)
	if err != nil || len(first) != 10 {
		t.Fatalf("%d codes, %v", len(first), err)
	}
	f.takes(strings.ToLower(first[3]))
	f.refuses("the same code", first[3])
	f.takes(strings.ReplaceAll(first[9], "-", ""))
	if have, err := f.Of(f.view(), f.user); err != nil || have.Codes != 8 {
		t.Errorf("%d codes are left, %v", have.Codes, err)
	}
	second, err := f.NewRecoveryCodes(t.Context(), f.view(), f.user)
	if err != nil {
		t.Fatal(err)
	}
	f.refuses("a code of the old set", first[0])
	f.takes(second[0])
	rows, err := f.view().CredentialsOf(tenant, f.user.GetId())
	if err != nil || len(rows) != 2 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, row := range rows { // what is stored tells neither secret nor code
		if stored := string(row.GetSealed()); strings.Contains(stored, string(secret)) || strings.Contains(stored, second[1][:5]) {
			t.Errorf("row %s holds a secret", row.GetKind())
		}
	}
	have, _ := f.Of(f.view(), f.user)
	if err := f.Remove(t.Context(), f.view(), f.user, have.TOTP.GetId()); err != nil {
		t.Fatal(err)
	}
	if have, err = f.Of(f.view(), f.user); err != nil || have.Any() || have.Recovery != nil {
		t.Errorf("after the last factor there is %+v, %v", have, err)
	}
	f.refuses("a code without a factor", second[1])
}

// TestEnrolmentIsOfItsBrowser: a secret is stored with its first code, for the browser and
// the user that it was shown to, in its time; a new one takes the place of the old.
func TestEnrolmentIsOfItsBrowser(t *testing.T) {
	t.Parallel()
	f := withFactors(t)
	bob := f.make("bob")
	f.seen = nil
	e, err := f.BeginTOTP(f.view(), f.user, here)
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(e.Secret())
	u, err := url.Parse(e.URI())
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/id.example:alice" || u.Query().Get("secret") != e.Secret() || u.Query().Get("issuer") != "id.example" {
		t.Errorf("%s, %v", u, err)
	}
	confirm := func(user *state.User, browser, value, code string) error {
		return f.ConfirmTOTP(t.Context(), f.view(), user, browser, value, code, false)
	}
	if err := confirm(f.user, here, e.Value, "000000"); !errors.Is(err, oauth.InvalidGrant) {
		t.Errorf("a wrong code: %v", err)
	}
	if again, err := f.ResumeTOTP(f.view(), f.user, here, e.Value); err != nil || again.Secret() != e.Secret() || again.URI() != e.URI() {
		t.Errorf("the page again: %v", err)
	}
	for why, err := range map[string]error{
		"another browser": confirm(f.user, "another", e.Value, f.code(secret, 0)), "another user": confirm(bob, here, e.Value, f.code(secret, 0)),
		"another value": confirm(f.user, here, e.Value+"A", f.code(secret, 0)), "none": confirm(f.user, here, "", ""),
	} {
		if !errors.Is(err, oauth.InvalidRequest) {
			t.Errorf("%s: %v", why, err)
		}
	}
	if len(f.seen) != 0 {
		t.Errorf("%d writes before an authenticator is confirmed", len(f.seen))
	}
	old := f.enrol(f.user)
	f.Pass(20 * time.Minute)
	if err := confirm(f.user, here, e.Value, f.code(secret, 0)); !errors.Is(err, oauth.InvalidRequest) {
		t.Errorf("after its time: %v", err)
	}
	f.enrol(f.user)
	f.refuses("a code of the authenticator of before", f.code(old, 1))
	if have, _ := f.Of(f.view(), f.user); have.TOTP == nil {
		t.Error("no authenticator is there")
	}
}

// TestWEB09FactorNeeded: by an administrator's wish, or by what the user has set up; a
// recovery code alone is none.
func TestWEB09FactorNeeded(t *testing.T) {
	t.Parallel()
	f := withFactors(t)
	needed := func(user *state.User, amr ...string) bool {
		yes, err := identity.FactorNeeded(f.view(), user, amr)
		if err != nil {
			t.Fatal(err)
		}
		return yes
	}
	if _, err := f.NewRecoveryCodes(t.Context(), f.view(), f.user); err != nil {
		t.Fatal(err)
	}
	if needed(f.user, "pwd") {
		t.Error("a user without a factor needs one")
	}
	f.enrol(f.user)
	if !needed(f.user, "pwd") || !needed(f.user) || needed(f.user, "pwd", "otp", "mfa") {
		t.Error("a user's own factor does not count")
	}
	bob, err := f.users.Create(t.Context(), tenant, &identity.Profile{Username: "bob", SecondFactor: true})
	if err != nil || !needed(bob, "pwd") || needed(bob, "mfa") {
		t.Errorf("an administrator's wish does not count: %v", err)
	}
}

// TestWEB04StepUp: a further proof gives the session another secret and a new time, and
// leaves its id; the cookie of before is worth nothing.
func TestWEB04StepUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := sessions(t, w.Node)
	user := w.make("alice")
	old, session, err := s.Start(t.Context(), w.view(), tenant, user, identity.Authentication{AMR: []string{"pwd"}, ACR: "1", UserAgent: "a browser"})
	if err != nil {
		t.Fatal(err)
	}
	w.Pass(time.Hour)
	renewed, up, err := s.StepUp(t.Context(), w.view(), session, user, identity.Authentication{AMR: []string{"pwd", "otp", "mfa"}, ACR: "2", UserAgent: "a browser"})
	if err != nil || up.GetId() != session.GetId() || up.GetAuthTime() != session.GetAuthTime()+3600 || up.GetAcr() != "2" || up.GetUserAgent() != "a browser" {
		t.Fatalf("%v, %v", up, err)
	}
	if up.GetExpiresAt() != session.GetExpiresAt() {
		t.Error("a further proof moved the absolute end")
	}
	if row, _, _, err := s.Current(w.view(), tenant, old); row != nil || err != nil {
		t.Errorf("the cookie of before is good: %v", err)
	}
	if row, _, _, err := s.Current(w.view(), tenant, renewed); err != nil || len(row.GetAmr()) != 3 {
		t.Errorf("the new cookie is not: %v, %v", row, err)
	}
	if _, _, err := s.StepUp(t.Context(), w.view(), session, user, identity.Authentication{}); !errors.Is(err, oauth.InvalidGrant) {
		t.Errorf("a proof for the session of before: %v", err)
	}
	if err := s.End(t.Context(), tenant, up.GetId()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.StepUp(t.Context(), w.view(), up, user, identity.Authentication{}); !errors.Is(err, oauth.InvalidGrant) {
		t.Errorf("a proof for a session that has ended: %v", err)
	}
}

// TestWEB05EndOthers leaves the one session that asked.
func TestWEB05EndOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := sessions(t, w.Node)
	user := w.make("alice")
	var kept *state.Session
	for range 5 {
		_, row, err := s.Start(t.Context(), w.view(), tenant, user, identity.Authentication{AMR: []string{"pwd"}})
		if err != nil {
			t.Fatal(err)
		}
		kept = row
	}
	if rows, _, err := s.Page(w.view(), user, "", identity.MaxSessions); err != nil || len(rows) != 5 {
		t.Fatalf("%d sessions, %v", len(rows), err)
	}
	if err := s.EndOthers(t.Context(), w.view(), user, kept.GetId()); err != nil {
		t.Fatal(err)
	}
	if rows, _, err := s.Page(w.view(), user, "", identity.MaxSessions); err != nil || len(rows) != 1 || rows[0].GetId() != kept.GetId() {
		t.Errorf("%d sessions are left, %v", len(rows), err)
	}
	w.Pass(13 * time.Hour)
	if rows, _, err := s.Page(w.view(), user, "", identity.MaxSessions); err != nil || len(rows) != 0 {
		t.Errorf("a session of long ago is listed: %v", err)
	}
}

// TestForgetAConsent ends what the client has of the user, and nothing else (TOK-30).
func TestForgetAConsent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.make("alice"), w.make("bob")
	consents := &identity.Consents{Propose: w.Propose, View: w.View, Absent: gone}
	for _, client := range []string{"app", "other"} {
		if _, err := w.Propose(t.Context(), &command.PutClient{Client: &state.Client{Tenant: tenant, Id: client, GrantTypes: []string{"authorization_code"}}}); err != nil {
			t.Fatal(err)
		}
	}
	family := func(user *state.User, client, id string) {
		t.Helper()
		v := w.view()
		c, _ := v.Client(tenant, client)
		at, _ := v.Tenant(tenant)
		hash := sha256.Sum256([]byte(id))
		result, err := w.Propose(t.Context(), &command.Redeem{
			Authorization: &state.Authorization{Tenant: tenant, ClientId: client, User: user.GetId(), Subject: user.GetId(), Grant: id, Scope: "openid"},
			Family:        &state.RefreshFamily{Id: id, Hash: hash[:], ExpiresAt: w.Now().Add(time.Hour).Unix()},
			Decided:       &command.Decided{Client: c.GetGeneration(), Tenant: at.GetGeneration(), User: user.GetGeneration()},
		})
		if err == nil {
			err = result.Err()
		}
		if err != nil {
			t.Fatalf("family %s: %v", id, err)
		}
	}
	for _, u := range []*state.User{alice, bob} {
		for _, client := range []string{"app", "other"} {
			if err := consents.Remember(t.Context(), &state.Consent{Tenant: tenant, User: u.GetId(), ClientId: client, Scopes: []string{"openid"}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 300 { // more than one command ends
		family(alice, "app", fmt.Sprintf("a%03d", i))
	}
	family(alice, "other", "b")
	family(bob, "app", "c")
	if err := consents.Forget(t.Context(), tenant, alice.GetId(), "app"); err != nil {
		t.Fatal(err)
	}
	if ids, err := w.view().FamiliesOf(tenant, alice.GetId(), "", 10); err != nil || len(ids) != 1 || ids[0] != "b" {
		t.Errorf("refresh tokens %v, %v", ids, err)
	}
	if ids, _ := w.view().FamiliesOf(tenant, bob.GetId(), "", 10); len(ids) != 1 {
		t.Errorf("another user's refresh tokens %v", ids)
	}
	if head := w.view().Head(); head < 300 {
		t.Errorf("gateways have heard of %d events", head)
	}
	if ids, err := w.view().ConsentsOf(tenant, alice.GetId(), "", 10); err != nil || len(ids) != 1 || ids[0] != "other" {
		t.Errorf("consents %v, %v", ids, err)
	}
	if ids, _ := w.view().ConsentsOf(tenant, bob.GetId(), "", 10); len(ids) != 2 {
		t.Errorf("another user's consents %v", ids)
	}
	if err := consents.Forget(t.Context(), tenant, alice.GetId(), "app"); !errors.Is(err, command.NotFound) {
		t.Errorf("once more: %v", err)
	}
}
