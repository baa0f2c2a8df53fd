package authorize_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/internal/oauth"
)

// enrol gives the user an authenticator, later than all that was before.
func (w *world) enrol() {
	w.t.Helper()
	w.Pass(time.Second)
	w.Must(w.t, &command.PutCredential{Credential: &state.Credential{Tenant: "default", User: "u1", Id: "t1", Kind: state.KindTOTP, Sealed: []byte("sealed")}})
	w.Pass(time.Second)
}

// signedIn is the user's session by these methods from now on.
func (w *world) signedIn(amr ...string) authorize.Present {
	w.t.Helper()
	s := proto.CloneOf(must(w.FSM.View().Session("default", "s1"))(w.t))
	s.Amr, s.AuthTime, s.Secret = amr, w.Now().Unix(), append([]byte{s.GetSecret()[0] + 1}, s.GetSecret()[1:]...)
	user := must(w.FSM.View().User("default", "u1"))(w.t)
	w.Must(w.t, &command.PutSession{Session: s, Expect: s.GetGeneration(), UserGeneration: user.GetGeneration()})
	return authorize.Present{Session: must(w.FSM.View().Session("default", "s1"))(w.t), User: user}
}

func (w *world) step(r *state.AuthorizationRequest, who authorize.Present) authorize.Step {
	w.t.Helper()
	return must(w.engine.Next(w.FSM.View(), r, who))(w.t)
}

// TestWEB09FactorAtTheGate: once a user has a second factor, no grant gives what a login
// without it has begun, but a refresh token from before goes on; where an administrator
// wants two factors, it does not either.
func TestWEB09FactorAtTheGate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := must(w.redeem("spa", w.code()))(t)
	begun := w.code()
	w.enrol()
	_, err := w.redeem("spa", begun)
	w.refused("a code from before", err, oauth.InvalidGrant)
	again := must(w.refresh("spa", string(before.Refresh)))(t)
	r := must(w.engine.Parse(t.Context(), w.FSM.View(), "default", asked()))(t)
	if step := w.step(r, w.who); step != authorize.Factor {
		t.Errorf("a login by a password alone: step %d", step)
	}
	quiet := must(w.engine.Parse(t.Context(), w.FSM.View(), "default", asked("prompt", "none")))(t)
	_, err = w.engine.Next(w.FSM.View(), quiet, w.who)
	w.refused("prompt=none", err, oauth.InteractionRequired)

	w.who = w.signedIn("pwd", "otp", "mfa")
	two := must(w.redeem("spa", w.code("acr_values", authorize.ACRFactors)))(t)

	user := proto.CloneOf(w.who.User)
	user.SecondFactor = true
	w.Must(t, &command.PutUser{User: user, Expect: user.GetGeneration()})
	_, err = w.refresh("spa", string(again.Refresh))
	w.refused("a refresh token of one factor where an administrator wants two", err, oauth.InvalidGrant)
	must(w.refresh("spa", string(two.Refresh)))(t)
}

// TestAFactorThatIsGoneCountsNoMore, and one that a client asks for is asked for.
func TestAFactorThatIsGoneCountsNoMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.enrol()
	w.Must(t, &command.DeleteCredential{Tenant: "default", User: "u1", Id: "t1"})
	must(w.redeem("spa", w.code()))(t)
	r := must(w.engine.Parse(t.Context(), w.FSM.View(), "default", asked("acr_values", "other "+authorize.ACRFactors)))(t)
	if step := w.step(r, w.who); step != authorize.Factor {
		t.Errorf("a client that asks for two factors: step %d", step)
	}
	if step := w.step(r, w.signedIn("pop", "mfa")); step != authorize.Done {
		t.Errorf("after two factors: step %d", step)
	}
}

// TestAUT13OwnPages: what changes how a user signs in needs a recent proof; of one who has
// a second factor, that one (WEB-09).
func TestAUT13OwnPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own := func(maxAge int64, who authorize.Present) authorize.Step {
		t.Helper()
		return w.step(w.engine.Own(w.FSM.View(), "default", "/account", maxAge), who)
	}
	wants := func(what string, got, want authorize.Step) {
		t.Helper()
		if got != want {
			t.Errorf("%s: step %d, want %d", what, got, want)
		}
	}
	wants("nobody", own(-1, authorize.Present{}), authorize.Login)
	wants("a login", own(300, w.who), authorize.Done)
	w.Pass(6 * time.Minute)
	wants("a login from before", own(300, w.who), authorize.Login)
	wants("a page that changes nothing", own(-1, w.who), authorize.Done)
	w.enrol()
	wants("one factor of two", own(-1, w.who), authorize.Factor)
	who := w.signedIn("pwd", "otp", "mfa")
	wants("two factors", own(300, who), authorize.Done)
	w.Pass(6 * time.Minute)
	wants("two factors from before", own(300, who), authorize.Factor)
	wants("a fresh password in place of the second factor", own(-1, w.signedIn("pwd")), authorize.Factor)
	r := w.engine.Own(w.FSM.View(), "default", "/account", -1)
	w.Pass(2 * time.Hour)
	_, err := w.engine.Next(w.FSM.View(), r, who)
	w.refused("a page of long ago", err, oauth.InvalidRequest)
}

// TestTheFirstOfTwoProofs is the user's for ten minutes, until they may not sign in or
// something has ended their logins.
func TestTheFirstOfTwoProofs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.engine.Own(w.FSM.View(), "default", "/account", -1)
	first := func() bool {
		t.Helper()
		u := must(w.engine.First(w.FSM.View(), r))(t)
		return u.GetId() == "u1"
	}
	if first() {
		t.Error("nobody has proved anything")
	}
	w.engine.ProvedFirst(w.FSM.View(), r, w.who.User, []string{"pwd"})
	if !first() || w.step(r, authorize.Present{}) != authorize.Login {
		t.Error("the first proof is not there, or counts for a login")
	}
	w.Pass(11 * time.Minute)
	if first() {
		t.Error("it waits for ever")
	}
	w.engine.ProvedFirst(w.FSM.View(), r, w.who.User, []string{"pwd"})
	w.Pass(time.Second)
	user := proto.CloneOf(must(w.FSM.View().User("default", "u1"))(t))
	w.Must(t, &command.PutUser{User: user, Expect: user.GetGeneration(), EndLogins: true, RevokeUntil: w.Now().Unix() + 3600})
	if first() {
		t.Error("it outlives what ended the user's logins (WEB-05)")
	}
	user = proto.CloneOf(must(w.FSM.View().User("default", "u1"))(t))
	w.engine.ProvedFirst(w.FSM.View(), r, user, []string{"pwd"})
	if !first() {
		t.Error("a proof after that, within the same second, is none")
	}
	user.Disabled = true
	w.Must(t, &command.PutUser{User: user, Expect: user.GetGeneration()})
	if first() {
		t.Error("a disabled user goes on")
	}
}
