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

// consents keeps what u1 allows the client asks.
func (w *world) consents(scopes ...string) {
	w.t.Helper()
	expect := uint64(0)
	if old, err := w.FSM.View().Consent("default", "u1", "asks"); err == nil {
		expect = old.GetGeneration()
	}
	w.Must(w.t, &command.PutConsent{Expect: expect, Consent: &state.Consent{Tenant: "default", User: "u1", ClientId: "asks", Scopes: scopes}})
}

// TestAUT15WhatWasJustAllowedIsNotAskedAgain, though the client wants its user asked each
// time: for this request alone, and while that very consent stands.
func TestAUT15WhatWasJustAllowedIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Must(t, &command.PutClient{Client: &state.Client{
		Tenant: "default", Id: "asks", AuthMethod: "none", GrantTypes: []string{"authorization_code"}, RedirectUris: []string{callback}, Scopes: []string{"read", "openid"},
	}})
	r := must(w.engine.Parse(t.Context(), w.FSM.View(), "default", asked("client_id", "asks", "scope", "read", "prompt", "consent")))(t)
	w.consents("read")
	if w.step(r, w.who) != authorize.Consent {
		t.Fatal("prompt=consent asks nobody")
	}
	if err := w.engine.Consented(w.FSM.View(), r, w.who.User); err != nil {
		t.Fatal(err)
	}
	if w.step(r, w.who) != authorize.Done {
		t.Error("what was just allowed is asked once more")
	}
	other := must(w.engine.Parse(t.Context(), w.FSM.View(), "default", asked("client_id", "asks", "scope", "read", "prompt", "consent")))(t)
	if w.step(other, w.who) != authorize.Consent {
		t.Error("another request is not asked about")
	}
	w.Must(t, &command.DeleteConsent{Tenant: "default", User: "u1", ClientId: "asks"})
	if w.step(r, w.who) != authorize.Consent {
		t.Error("what was taken back is given")
	}
	w.Pass(time.Second)
	w.consents("read")
	if w.step(r, w.who) != authorize.Consent {
		t.Error("an answer of before the consent was taken back counts for a later one")
	}
	if err := w.engine.Consented(w.FSM.View(), r, w.who.User); err != nil {
		t.Fatal(err)
	}
	r.Scope, r.ScopeGiven = "read openid", true
	if w.step(r, w.who) != authorize.Consent {
		t.Error("more than was allowed is given")
	}
}

// TestWEB09APasswordThatMustBeChangedAtTheGate: no grant gives what a login by it has begun,
// whichever way it came; what is refreshed goes on, and a passkey is no password.
func TestWEB09APasswordThatMustBeChangedAtTheGate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := must(w.redeem("spa", w.code()))(t)
	begun := w.code()
	must := func(must bool) {
		t.Helper()
		old, err := w.FSM.View().User("default", "u1")
		if err != nil {
			t.Fatal(err)
		}
		user := proto.CloneOf(old)
		user.MustChangePassword = must
		w.Must(t, &command.PutUser{User: user, Expect: old.GetGeneration()})
		if w.who.User, err = w.FSM.View().User("default", "u1"); err != nil {
			t.Fatal(err)
		}
	}
	must(true)
	_, err := w.redeem("spa", begun)
	w.refused("a code from before", err, oauth.InvalidGrant)
	if _, err := w.refresh("spa", string(before.Refresh)); err != nil {
		t.Errorf("a refresh token from before: %v", err)
	}
	parse := func(pairs ...string) *state.AuthorizationRequest {
		t.Helper()
		r, err := w.engine.Parse(t.Context(), w.FSM.View(), "default", asked(pairs...))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if w.step(parse(), w.who) != authorize.Login || w.step(w.engine.Own(w.FSM.View(), "default", "/account", -1), w.who) != authorize.Login {
		t.Error("a session by that password is enough")
	}
	_, err = w.engine.Next(w.FSM.View(), parse("prompt", "none"), w.who)
	w.refused("prompt=none", err, oauth.LoginRequired)
	w.who = w.signedIn("pop", "mfa")
	if w.step(parse(), w.who) != authorize.Done {
		t.Error("a passkey alone is not enough")
	}
}
