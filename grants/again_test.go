package grants_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/internal/testproof"
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

// TestARevocationReachesRefreshTokens: what an operator revokes whole gives no new access
// token by a refresh token from before.
func TestARevocationReachesRefreshTokens(t *testing.T) {
	t.Parallel()
	for _, target := range []tokens.Target{{Subject: "u1"}, {ClientID: "app"}, {Application: "shop"}} {
		for _, fixed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s%s%s fixed %v", target.Subject, target.ClientID, target.Application, fixed), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.client("app", func(r *clients.Registration) { r.Application, r.RefreshRotation = "shop", new(!fixed) })
				w.client("other", func(*clients.Registration) {})
				before, other := w.login("app", "read offline_access"), w.login("other", "read offline_access")
				w.Pass(time.Second)
				if _, err := w.revoker.RevokeTarget(t.Context(), w.FSM.View(), "default", &target); err != nil {
					t.Fatal(err)
				}
				w.Pass(time.Second)
				out, err := w.ask("app", "refresh_token", "refresh_token", string(before.Refresh))
				w.refused("the refresh token", out, err, oauth.InvalidGrant)
				w.good(w.ask("app", "refresh_token", "refresh_token", string(w.login("app", "read offline_access").Refresh)))
				if target.Subject == "" {
					w.good(w.ask("other", "refresh_token", "refresh_token", string(other.Refresh)))
				}
			})
		}
	}
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

// TestAnAssertionGivesNothingTwiceDuringARestore is R15 at the very moment: a client's
// assertion was used since the backup, and is shown again while the state is replaced.
// What it gives then was decided on the state of before, and is revoked at its birth.
func TestAnAssertionGivesNothingTwiceDuringARestore(t *testing.T) {
	t.Parallel()
	var w *world
	var backup []byte
	restore := false
	w = newWorldBefore(t, func(c command.Command) {
		if _, ok := c.(*command.Consume); ok && restore {
			restore = false
			w.Restore(t, backup)
		}
	})
	key := testproof.New(t)
	w.client("app", func(r *clients.Registration) {
		r.AuthMethod, r.JWKS, r.GrantTypes = "private_key_jwt", key.JWKS(t, "k1"), []string{"client_credentials"}
	})
	backup = w.Backup(t)
	w.Pass(time.Minute)
	assertion := key.Sign(t, map[string]any{"alg": "ES256", "kid": "k1"}, map[string]any{
		"iss": "app", "sub": "app", "aud": testnode.Issuer, "iat": w.Now().Unix(), "exp": w.Now().Unix() + 600, "jti": "one",
	})
	ask := func() (*grants.Answer, error) {
		out := new(grants.Answer)
		return out, w.pipeline.Token(t.Context(), w.FSM.View(), &grants.Request{
			Credentials: clients.Request{Tenant: "default", AssertionType: oauth.ClientAssertionJWT, Assertion: assertion}, GrantType: "client_credentials", Form: form{},
		}, out)
	}
	w.good(ask())
	w.Pass(time.Minute)
	restore = true
	out, err := ask()
	if restore {
		t.Fatal("nothing was restored")
	}
	if err == nil && w.active(out.Token) {
		t.Errorf("it gave %v", payload(t, string(out.Token)))
	}
	w.Pass(time.Minute)
	out, err = ask()
	w.refused("an assertion of before the restore", out, err, oauth.InvalidClient)
}

// TestASubjectThatIsNobodyHereHasNoRoles: what a user of the tenant needs a role for, an
// issuer's own name does not get for want of a user to ask.
func TestASubjectThatIsNobodyHereHasNoRoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.client("app", func(*clients.Registration) {})
	w.trust(func(i *state.TrustedIssuer) { i.MapToUser = false })
	w.Must(t, &command.PutRole{Role: &state.Role{Tenant: "default", Name: "clerk"}})
	w.Must(t, &command.PutScope{Scope: &state.Scope{Tenant: "default", Name: "write", Roles: []string{"clerk"}}})
	out, err := w.bears(w.assertion("sub", "somebody"), "scope", "read write")
	w.refused("a scope of a role", out, err, oauth.InvalidScope)
	if c := w.good(w.bears(w.assertion("sub", "somebody"))); c["scope"] != "read" {
		t.Errorf("it has %v", c["scope"])
	}
	out, err = w.ask("app", exchange, "subject_token", w.assertion("sub", "somebody"), "subject_token_type", plainJWT, "scope", "write")
	w.refused("a scope of a role, by exchange", out, err, oauth.InvalidScope)
}

// TestUsersNeedARoleToAdminister: that a client may use the admin API for itself makes no
// administrators of those who sign in at it.
func TestUsersNeedARoleToAdminister(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.client("console", func(r *clients.Registration) { r.Scope = "openid read keyraft:admin" })
	has := func() any {
		t.Helper()
		out := must(w.ask("console", "authorization_code", "code", w.code("console", "read keyraft:admin"), "redirect_uri", "https://app.example/cb"))(t)
		return payload(t, string(out.Token))["scope"]
	}
	if scope := has(); scope != "read" {
		t.Errorf("an ordinary user gets %v", scope)
	}
	made := w.Must(t, &command.PutScope{Scope: &state.Scope{Tenant: "default", Name: "keyraft:admin"}})
	if scope := has(); scope != "read" {
		t.Errorf("a registered scope without roles gives %v", scope)
	}
	w.Must(t, &command.PutRole{Role: &state.Role{Tenant: "default", Name: "admin"}})
	w.user(func(u *state.User) { u.Roles = []string{"admin"} })
	if scope := has(); scope != "read keyraft:admin" {
		t.Errorf("with the role admin: %v", scope)
	}
	w.Must(t, &command.PutRole{Role: &state.Role{Tenant: "default", Name: "admins"}})
	w.Must(t, &command.PutScope{Scope: &state.Scope{Tenant: "default", Name: "keyraft:admin", Roles: []string{"admins"}}, Expect: made.Generation})
	if scope := has(); scope != "read" {
		t.Errorf("without the role: %v", scope)
	}
	w.user(func(u *state.User) { u.Roles = []string{"admins"} })
	if scope := has(); scope != "read keyraft:admin" {
		t.Errorf("with the role: %v", scope)
	}
	if c := w.good(w.ask("console", "client_credentials", "scope", "keyraft:admin")); c["scope"] != "keyraft:admin" {
		t.Errorf("for itself: %v", c["scope"])
	}
}

// TestNoTokenIsTooLongToBeRevoked: what we give, we can read: a longer one would be
// nobody's when somebody wants to take it back.
func TestNoTokenIsTooLongToBeRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var asked []string
	w.client("app", func(r *clients.Registration) {
		for i := range 16 {
			r.Resources = append(r.Resources, fmt.Sprintf("https://%d.example/%s", i, strings.Repeat("x", 1900)))
			asked = append(asked, "resource", r.Resources[i])
		}
	})
	out, err := w.ask("app", "client_credentials", asked...)
	if err != nil {
		w.refused("a token that nobody reads", nil, err, oauth.InvalidRequest)
	} else if c, _ := w.FSM.View().Client("default", "app"); !w.active(out.Token) {
		t.Errorf("a token of %d bytes is not active, and revoking it says %v", len(out.Token), w.revoker.Revoke(t.Context(), w.FSM.View(), c, string(out.Token)))
	}
	if out, err := w.ask("app", "client_credentials", asked[:8]...); err != nil || !w.active(out.Token) {
		t.Errorf("four of them: %v", err)
	}
}
