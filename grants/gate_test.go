package grants_test

import (
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/internal/oauth"
)

// asks are the ways in which each grant of the list is used well: each makes a good
// request of the client "app", to be sent later. A grant that is not in here fails
// TestEveryGrantPassesTheWholeGate.
func asks() map[oauth.GrantType]map[string]way {
	return map[oauth.GrantType]map[string]way{
		oauth.GrantClientCredentials: {"itself": {make: func(*world) []string { return []string{"scope", "read"} }}},
		oauth.GrantAuthorizationCode: {"a code": {user: true, make: func(w *world) []string {
			return []string{"code", w.code("app", "read"), "redirect_uri", "https://app.example/cb"}
		}}},
		oauth.GrantRefreshToken: {"a refresh token": {user: true, make: func(w *world) []string {
			return []string{"refresh_token", string(w.login("app", "read offline_access").Refresh)}
		}}},
		oauth.GrantDeviceCode: {"a device": {user: true, stranger: true, make: func(w *world) []string { return []string{"device_code", w.device("app", "read")} }}},
		oauth.GrantCIBA:       {"a back channel": {user: true, stranger: true, make: func(w *world) []string { return []string{"auth_req_id", w.backchannel("app", "openid read")} }}},
		oauth.GrantPassword: {"a password": {user: true, stranger: true, make: func(*world) []string {
			return []string{"username", "alice", "password", phrase, "scope", "read"}
		}}},
		oauth.GrantJWTBearer: {
			"of a user": {user: true, issuer: true, make: func(w *world) []string { return []string{"assertion", w.assertion(), "scope", "read"} }},
			"of an issuer's own name": {issuer: true, make: func(w *world) []string {
				w.trust(func(i *state.TrustedIssuer) { i.MapToUser = false })
				return []string{"assertion", w.assertion("sub", "build-17"), "scope", "read"}
			}},
		},
		oauth.GrantTokenExchange: {
			"a user's token": {user: true, make: func(w *world) []string {
				return []string{"subject_token", string(w.login("app", "read").Token), "subject_token_type", access}
			}},
			"a user's ID token": {user: true, make: func(w *world) []string {
				return []string{"subject_token", string(w.login("app", "openid read").ID), "subject_token_type", idToken, "scope", "read"}
			}},
			"a user's opaque token": {user: true, make: func(w *world) []string {
				w.client("opaque", func(r *clients.Registration) { r.AccessTokenFormat = "opaque" })
				w.consented("opaque")
				return []string{"subject_token", string(w.login("opaque", "read", "resource", api).Token), "subject_token_type", access}
			}},
			"another issuer's token": {user: true, issuer: true, make: func(w *world) []string {
				return []string{"subject_token", w.assertion(), "subject_token_type", plainJWT, "scope", "read"}
			}},
			"a client's own token": {make: func(w *world) []string {
				return []string{"subject_token", string(must(w.ask("app", "client_credentials", "scope", "read"))(w.t).Token), "subject_token_type", access}
			}},
		},
	}
}

// way is a way of using a grant.
type way struct {
	user, issuer bool // a user of the tenant allowed it; an issuer vouched for it
	stranger     bool // guesses of strangers at the user's password lock it
	make         func(w *world) []string
}

// condition is something that the gate must see (TOK-30 to TOK-33, TOK-35, TOK-36,
// WEB-09), and whom it concerns.
type condition struct {
	name     string
	concerns func(way) bool
	happens  func(w *world)
	want     []oauth.Code
}

func everybody(way) bool     { return true }
func ofUsers(x way) bool     { return x.user }
func ofIssuers(x way) bool   { return x.issuer }
func ofStrangers(x way) bool { return x.stranger }

// consented makes alice's consent to a client.
func (w *world) consented(client string) {
	w.t.Helper()
	w.consent(client, "read", "openid", "offline_access")
}

func (w *world) consent(client string, scopes ...string) {
	w.t.Helper()
	old, _ := w.FSM.View().Consent("default", "u1", client)
	w.Must(w.t, &command.PutConsent{Expect: old.GetGeneration(), Consent: &state.Consent{Tenant: "default", User: "u1", ClientId: client, Scopes: scopes}})
}

// lock lets a class of guesses lock alice.
func lock(class string) func(w *world) {
	return func(w *world) {
		for range 3 {
			w.Must(w.t, &command.RecordAttempt{Tenant: "default", User: "u1", Class: class, Limit: 3, Window: 600_000, Lock: 600_000})
		}
	}
}

func conditions() []condition {
	grantsLeft := func(w *world, keep ...string) {
		w.tenant(func(t *state.Tenant) { t.Settings = &state.TenantSettings{GrantTypes: keep} })
	}
	person := []oauth.Code{oauth.InvalidGrant, oauth.InvalidRequest} // the latter of a token that is exchanged
	return []condition{
		{"a suspended tenant", everybody, func(w *world) { w.tenant(func(t *state.Tenant) { t.Disabled = true }) }, []oauth.Code{oauth.InvalidClient}},
		{"a disabled client", everybody, func(w *world) { w.change("app", func(c *state.Client) { c.Disabled = true }) }, []oauth.Code{oauth.InvalidClient}},
		{"a client without the grant", everybody, func(w *world) { w.change("app", func(c *state.Client) { c.GrantTypes = []string{"none"} }) }, []oauth.Code{oauth.UnauthorizedClient}},
		{"a tenant without the grant", everybody, func(w *world) { grantsLeft(w, "none") }, []oauth.Code{oauth.UnauthorizedClient}},
		{"a disabled user", ofUsers, func(w *world) { w.user(func(u *state.User) { u.Disabled = true }) }, person},
		{"a deleted user", ofUsers, func(w *world) {
			w.Must(w.t, &command.DeleteUser{Tenant: "default", Id: "u1", RevokeUntil: w.Now().Unix() + 7200})
		}, person},
		{"a user who needs a second factor", ofUsers, func(w *world) { w.user(func(u *state.User) { u.SecondFactor = true }) }, person},
		{"a user whom strangers have locked", ofStrangers, lock(""), person},
		{"a consent that was taken back", ofUsers, func(w *world) {
			w.change("app", func(c *state.Client) { c.SkipConsent = false })
			w.Must(w.t, &command.DeleteConsent{Tenant: "default", User: "u1", ClientId: "app"})
		}, person},
		{"a consent to another scope", ofUsers, func(w *world) {
			w.change("app", func(c *state.Client) { c.SkipConsent = false })
			w.consent("app", "write")
		}, person},
		{"a disabled issuer", ofIssuers, func(w *world) { w.trust(func(i *state.TrustedIssuer) { i.Disabled = true }) }, person},
		{"a deleted issuer", ofIssuers, func(w *world) {
			w.Must(w.t, &command.DeleteTrustedIssuer{Tenant: "default", Issuer: w.idp.issuer})
		}, person},
	}
}

// change changes a client's record as it is.
func (w *world) change(id string, change func(*state.Client)) {
	w.t.Helper()
	old, _ := w.FSM.View().Client("default", id)
	next := proto.CloneOf(old) // the view may hold the row itself
	change(next)
	w.Must(w.t, &command.PutClient{Client: next, Expect: old.GetGeneration()})
}

// TestEveryGrantPassesTheWholeGate is TOK-30 to TOK-33, TOK-35, TOK-36 and WEB-09: what
// was good is refused after each thing that the gate must see, whichever grant it comes
// by. A new grant is in the list, so it must be in here, too.
func TestEveryGrantPassesTheWholeGate(t *testing.T) {
	t.Parallel()
	all := asks()
	for _, g := range grants.Types() {
		if len(all[g]) == 0 {
			t.Errorf("no way of using the grant %s is known to this test: add one to asks", g)
		}
		for name, how := range all[g] {
			t.Run(string(g)+" by "+name, func(t *testing.T) {
				t.Parallel()
				ready := func() (*world, []string) {
					w := newWorld(t)
					w.allowPassword()
					w.client("app", func(r *clients.Registration) { r.ExchangeSubjects = []string{api} })
					w.consented("app")
					return w, how.make(w)
				}
				w, pairs := ready()
				if _, err := w.ask("app", string(g), pairs...); err != nil {
					t.Fatalf("a good request: %v", err)
				}
				for _, c := range conditions() {
					if !c.concerns(how) {
						continue
					}
					w, pairs := ready()
					c.happens(w)
					_, err := w.ask("app", string(g), pairs...)
					if !isOne(err, c.want) {
						t.Errorf("%s: %v, want one of %v", c.name, err, c.want)
					}
				}
			})
		}
	}
}

// TestGuessesElsewhereRefuseNothing is WEB-12: what is guessed at one browser refuses no code
// and no token of the user, and what strangers guess none that was begun at a browser.
func TestGuessesElsewhereRefuseNothing(t *testing.T) {
	t.Parallel()
	for g, ways := range asks() {
		for name, how := range ways {
			if !how.user {
				continue
			}
			t.Run(string(g)+" by "+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.allowPassword()
				w.client("app", func(r *clients.Registration) { r.ExchangeSubjects = []string{api} })
				w.consented("app")
				pairs := how.make(w)
				lock("known:a browser")(w)
				if !how.stranger {
					lock("")(w)
				}
				if _, err := w.ask("app", string(g), pairs...); err != nil {
					t.Errorf("guesses at another browser refuse it: %v", err)
				}
			})
		}
	}
}

func isOne(err error, codes []oauth.Code) bool {
	return slices.ContainsFunc(codes, func(c oauth.Code) bool { return errors.Is(err, c) })
}
