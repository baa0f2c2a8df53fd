package grants_test

import (
	"testing"
	"time"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// TestAClientOfAnOldNameInheritsNothing is TOK-20 for refresh tokens: who is registered under the id of
// a client that was deleted is another client. Neither its users' refresh tokens nor what
// they consented to come with the name.
func TestAClientOfAnOldNameInheritsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.client("app", func(*clients.Registration) {})
	w.client("asks", func(r *clients.Registration) { r.SkipConsent = false })
	consents := &identity.Consents{Propose: w.Propose, View: w.View, Absent: absent}
	consent := func(scope string) {
		t.Helper()
		if err := consents.Remember(t.Context(), &state.Consent{Tenant: "default", User: "u1", ClientId: "asks", Scopes: []string{scope}}); err != nil {
			t.Fatal(err)
		}
	}
	consent("read")
	old := w.login("app", "read offline_access")
	for _, id := range []string{"app", "asks"} {
		w.Pass(time.Second)
		w.Must(t, &command.DeleteClient{Tenant: "default", Id: id})
		w.Pass(time.Second)
	}
	w.client("app", func(*clients.Registration) {})
	w.client("asks", func(r *clients.Registration) { r.SkipConsent = false })
	out, err := w.ask("app", "refresh_token", "refresh_token", string(old.Refresh))
	w.refused("a refresh token of the client before", out, err, oauth.InvalidGrant)
	out, err = w.ask("asks", "authorization_code", "code", w.code("asks", "read"), "redirect_uri", "https://app.example/cb")
	w.refused("a consent to the client before", out, err, oauth.InvalidGrant)
	consent("write")
	out, err = w.ask("asks", "authorization_code", "code", w.code("asks", "read write"), "redirect_uri", "https://app.example/cb")
	w.refused("a consent that adds up with one to the client before", out, err, oauth.InvalidGrant)
	w.good(w.ask("asks", "authorization_code", "code", w.code("asks", "write"), "redirect_uri", "https://app.example/cb"))
	w.good(w.ask("app", "refresh_token", "refresh_token", string(w.login("app", "read offline_access").Refresh)))
}

// TestARestoreBringsNoRefreshTokenBack is R15: a backup has forgotten which refresh tokens
// were rotated, and which grants have ended, since it was taken.
func TestARestoreBringsNoRefreshTokenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.client("app", func(*clients.Registration) {})
	rotated, ended := w.login("app", "read offline_access"), w.login("app", "read offline_access")
	w.Pass(time.Minute)
	backup := w.Backup(t)
	w.Pass(time.Minute)
	w.good(w.ask("app", "refresh_token", "refresh_token", string(rotated.Refresh)))
	c, _ := w.FSM.View().Client("default", "app")
	if err := w.revoker.Revoke(t.Context(), w.FSM.View(), c, string(ended.Refresh)); err != nil {
		t.Fatal(err)
	}
	w.Pass(time.Minute)
	w.Restore(t, backup)
	w.Pass(time.Minute)
	for what, token := range map[string][]byte{"rotated": rotated.Refresh, "ended": ended.Refresh} {
		out, err := w.ask("app", "refresh_token", "refresh_token", string(token))
		w.refused("a refresh token that was "+what+" before the restore", out, err, oauth.InvalidGrant)
	}
	w.good(w.ask("app", "refresh_token", "refresh_token", string(w.login("app", "read offline_access").Refresh)))
}

// TestARevocationReachesIDTokens: what an operator or a client took back gives no new
// access token by an ID token of the same login.
func TestARevocationReachesIDTokens(t *testing.T) {
	t.Parallel()
	for name, revoke := range map[string]func(w *world, login *loginAnswer) error{
		"of the subject": func(w *world, _ *loginAnswer) error {
			_, err := w.revoker.RevokeTarget(t.Context(), w.FSM.View(), "default", &tokens.Target{Subject: "u1"})
			return err
		},
		"of the client": func(w *world, _ *loginAnswer) error {
			_, err := w.revoker.RevokeTarget(t.Context(), w.FSM.View(), "default", &tokens.Target{ClientID: "app"})
			return err
		},
		"of the grant": func(w *world, l *loginAnswer) error {
			c, _ := w.FSM.View().Client("default", "app")
			return w.revoker.Revoke(t.Context(), w.FSM.View(), c, l.refresh)
		},
		"by the code's second use": func(w *world, l *loginAnswer) error {
			_, _ = w.ask("app", "authorization_code", "code", l.code, "redirect_uri", "https://app.example/cb")
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := exchangeWorld(t)
			code := w.code("app", "openid read")
			out, err := w.ask("app", "authorization_code", "code", code, "redirect_uri", "https://app.example/cb")
			w.good(out, err)
			w.good(w.ask("app", exchange, "subject_token", string(out.ID), "subject_token_type", idToken))
			if err := revoke(w, &loginAnswer{code, string(out.Refresh)}); err != nil {
				t.Fatal(err)
			}
			if w.active(out.Token) {
				t.Fatal("the access token is active")
			}
			w.Pass(time.Second)
			got, err := w.ask("app", exchange, "subject_token", string(out.ID), "subject_token_type", idToken)
			w.refused("the ID token", got, err, oauth.InvalidRequest)
			after, err := w.ask("app", "authorization_code", "code", w.code("app", "openid read"), "redirect_uri", "https://app.example/cb")
			w.good(after, err)
			w.good(w.ask("app", exchange, "subject_token", string(after.ID), "subject_token_type", idToken))
		})
	}
}

type loginAnswer struct{ code, refresh string }
