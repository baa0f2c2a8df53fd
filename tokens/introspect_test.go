package tokens_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
	"github.com/keyraft/keyraft/tokens/verify"
)

// both runs a test for each form of token, new and asked about before.
func both(t *testing.T, run func(t *testing.T, k *kit, token func() string)) {
	t.Helper()
	for _, form := range []string{"jwt", "jwt, remembered", "opaque", "opaque, remembered"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, tokens.KeyJobConfig{})
			k.addKeys(t, "ES256")
			client := k.addClient(t, &state.Client{Id: "orders", Application: "shop"})
			run(t, k, func() string {
				remembered := func(token string) string {
					if strings.HasSuffix(form, "remembered") && !k.active(t, token) {
						t.Fatal("a new token is not active")
					}
					return token
				}
				if strings.HasPrefix(form, "jwt") {
					c := k.claims("orders")
					c.Application = "shop"
					return remembered(k.mint(t, c))
				}
				c, _ := k.view().Client("default", "orders")
				if c == nil {
					c = client
				}
				tenant, _ := k.view().Tenant("default")
				claims := k.claims("orders")
				claims.Application = "shop"
				out, err := k.opaque.AppendToken(context.Background(), nil, k.view(), tenant, c, claims)
				if err != nil {
					t.Fatal(err)
				}
				return remembered(string(out))
			})
		})
	}
}

// TestWhoMaySee is INT-04 with INT-03: whoever may not see gets the inactive answer.
func TestWhoMaySee(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, k *kit, token func() string) {
		tests := []struct {
			name   string
			caller tokens.Caller
			sees   bool
		}{
			{"the client that got it", tokens.Caller{Client: &state.Client{Tenant: "default", Id: "orders"}}, true},
			{"the API that it is for, by resource", tokens.Caller{Client: &state.Client{Tenant: "default", Id: "api", IntrospectAudience: true, Resources: []string{"https://api.example"}}}, true},
			{"another client that may ask for the same API", tokens.Caller{Client: &state.Client{Tenant: "default", Id: "shop", Resources: []string{"https://api.example"}}}, false},
			{"an API of another resource", tokens.Caller{Client: &state.Client{Tenant: "default", Id: "api", IntrospectAudience: true, Resources: []string{"https://api.example/"}}}, false},
			{"the API that it is for, by client id", tokens.Caller{Client: &state.Client{Tenant: "default", Id: "https://api.example"}}, true},
			{"a client that may see any", tokens.Caller{Client: &state.Client{Tenant: "default", Id: "audit", IntrospectAny: true}}, true},
			{"another client", tokens.Caller{Client: &state.Client{Tenant: "default", Id: "other"}}, false},
			{"an API with a prefix of the audience", tokens.Caller{Client: &state.Client{Tenant: "default", Id: "api", Resources: []string{"https://api"}}}, false},
			{"a client of the same id in another tenant", tokens.Caller{Client: &state.Client{Tenant: "acme", Id: "orders", IntrospectAny: true}}, false},
			{"a gateway of all tenants", tokens.Caller{}, true},
			{"a gateway of this tenant", tokens.Caller{Tenants: []string{"default"}}, true},
			{"a gateway of another tenant", tokens.Caller{Tenants: []string{"acme"}}, false},
		}
		text := token()
		for _, tt := range tests {
			a, err := k.intro.Introspect(k.view(), &tt.caller, text)
			if err != nil || a.Active != tt.sees {
				t.Errorf("%s: active %v, %v", tt.name, a.Active, err)
			}
			got := string(a.AppendJSON(nil))
			if !tt.sees && got != `{"active":false}` {
				t.Errorf("%s: %s", tt.name, got)
			}
			if detailed := strings.Contains(got, `"ev":"1.`); tt.sees && detailed != (tt.caller.Client == nil) {
				t.Errorf("%s: %s", tt.name, got)
			}
		}
	})
}

func TestAnswerIsWhole(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, k *kit, token func() string) {
		a, err := k.intro.Introspect(k.view(), &tokens.Caller{}, token())
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(a.AppendJSON(nil), &got); err != nil {
			t.Fatal(err)
		}
		now := float64(k.now().Unix())
		for name, want := range map[string]any{
			"active": true, "scope": "read write", "client_id": "orders", "sub": "orders", "aud": "https://api.example",
			"iss": "https://sts.example", "iat": now, "exp": now + 3600, "token_type": "Bearer", "app": "shop", "gid": got["jti"],
		} {
			if got[name] != want {
				t.Errorf("%s is %v, want %v", name, got[name], want)
			}
		}
		who, ok, err := k.intro.Authenticate(k.view(), token())
		if err != nil || !ok || who.ClientID != "orders" || who.Tenant != "default" {
			t.Errorf("Authenticate: %+v, %v, %v", who, ok, err)
		}
	})
}

// TestRevocationCovers: each kind takes back what was decided before it, and nothing
// that was decided after (contract: "be it in the same second").
func TestRevocationCovers(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, k *kit, token func() string) {
		for _, target := range []tokens.Target{{ClientID: "orders"}, {Subject: "orders"}, {Application: "shop"}} {
			before := token()
			r, err := k.revoke.RevokeTarget(context.Background(), k.view(), "default", &target)
			if err != nil || r.Seq == 0 || r.Head < r.Seq {
				t.Fatalf("%+v: %+v, %v", target, r, err)
			}
			if k.active(t, before) {
				t.Errorf("%+v left an older token active", target)
			}
			if !k.active(t, token()) {
				t.Errorf("%+v took a newer token back", target)
			}
		}
		one, two := token(), token()
		if _, err := k.revoke.RevokeTarget(context.Background(), k.view(), "default", &tokens.Target{Token: one}); err != nil {
			t.Fatal(err)
		}
		if k.active(t, one) || !k.active(t, two) {
			t.Error("revoking one token took none or both")
		}
		if _, err := k.revoke.RevokeTarget(context.Background(), k.view(), "default", &tokens.Target{Subject: "orders", IssuedBefore: k.now().Unix() - 10}); err != nil {
			t.Fatal(err)
		}
		if !k.active(t, two) {
			t.Error("issued_before took a token back that was issued later")
		}
		k.must(t, &command.Revoke{Tenant: "default", TargetKind: "keymanager", Target: tokens.ResidentKeyManager, ExpiresAt: k.now().Unix() + 9000})
		if k.active(t, two) {
			t.Error("the key manager's revocation left its token active")
		}
	})
}

func TestDisabledOrGoneIsInactive(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, k *kit, token func() string) {
		text := token()
		c, _ := k.view().Client("default", "orders")
		k.must(t, &command.PutClient{Client: &state.Client{Tenant: "default", Id: "orders", Disabled: true}, Expect: c.GetGeneration()})
		if k.active(t, text) {
			t.Error("active though its client is disabled")
		}
		c, _ = k.view().Client("default", "orders")
		k.must(t, &command.PutClient{Client: &state.Client{Tenant: "default", Id: "orders"}, Expect: c.GetGeneration()})
		if k.active(t, text) {
			t.Error("active again after its client was enabled again")
		}
		text = token()
		tenant, _ := k.view().Tenant("default")
		k.must(t, &command.PutTenant{Tenant: &state.Tenant{Id: "default", Disabled: true}, Expect: tenant.GetGeneration()})
		if k.active(t, text) {
			t.Error("active though its tenant is suspended")
		}
		tenant, _ = k.view().Tenant("default")
		k.must(t, &command.PutTenant{Tenant: &state.Tenant{Id: "default"}, Expect: tenant.GetGeneration()})
		k.must(t, &command.DeleteClient{Tenant: "default", Id: "orders"})
		if k.active(t, text) {
			t.Error("active though its client is gone")
		}
	})
}

// TestARememberedTokenIsDecidedAnew: that its signature was checked once says
// nothing of its time, of its key, or of a token that looks like it.
func TestARememberedTokenIsDecidedAnew(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, k *kit, token func() string) {
		text := token()
		last := text[len(text)-2]
		other := byte('A')
		if last == other {
			other = 'Q'
		}
		if k.active(t, text[:len(text)-2]+string(other)+text[len(text)-1:]) {
			t.Error("a forged signature of a genuine token is active")
		}
		for range 2 {
			if !k.active(t, text) {
				t.Error("a genuine token is not active")
			}
		}
		k.pass(3600 * time.Second)
		if k.active(t, text) {
			t.Error("active though its time is over")
		}
	})
}

// TestForeignTokens is JWT-25: the key is looked up by issuer, then kid, never
// globally; a former issuer of ours is still known.
func TestForeignTokens(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	k.addKeys(t, "ES256")
	k.addClient(t, &state.Client{Id: "orders"})
	token := k.mint(t, k.claims("orders"))
	other := newKit(t, tokens.KeyJobConfig{})
	other.addKeys(t, "ES256")
	if k.active(t, other.mint(t, other.claims("orders"))) {
		t.Error("a token of another cluster's key is active")
	}
	k.must(t, &command.PutTenant{Tenant: &state.Tenant{Id: "acme"}})
	k.addClient(t, &state.Client{Tenant: "acme", Id: "orders"})
	row, err := tokens.NewSigningKey(k.ring, "acme", "ES256")
	if err != nil {
		t.Fatal(err)
	}
	k.must(t, &command.PutSigningKey{Key: row})
	acme := k.claims("orders")
	acme.Tenant = "acme"
	a, err := k.intro.Introspect(k.view(), &tokens.Caller{}, k.mint(t, acme))
	if err != nil || !a.Active || a.Issuer != "https://sts.example/t/acme" {
		t.Errorf("a token of the tenant acme: %+v, %v", a, err)
	}
	k.must(t, &command.SetIssuer{Issuer: "https://new.example"})
	if !k.active(t, token) {
		t.Error("a token of the former issuer is inactive")
	}
	if got, err := k.keys.Issuer(k.view(), "acme"); err != nil || got != "https://new.example/t/acme" {
		t.Errorf("issuer %q, %v", got, err)
	}
	if a, _ := k.intro.Introspect(k.view(), &tokens.Caller{}, k.mint(t, k.claims("orders"))); a.Issuer != "https://new.example" {
		t.Errorf("a new token is of issuer %q", a.Issuer)
	}
}

// TestRevokeTargetRefusals: REV-05 and what an operator may mistype.
func TestRevokeTargetRefusals(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	k.addKeys(t, "ES256")
	k.addClient(t, &state.Client{Id: "orders"})
	active := k.view().SigningKeys("default")[0].GetId()
	for name, target := range map[string]tokens.Target{
		"nothing": {}, "two things": {ClientID: "a", Subject: "b"}, "a negative time": {ClientID: "a", IssuedBefore: -1},
		"bytes that are no text": {Subject: "\xff"}, "a long subject": {Subject: strings.Repeat("a", 2000)},
		"no token": {Token: "abc"}, "the key that signs": {KeyID: active},
	} {
		if _, err := k.revoke.RevokeTarget(context.Background(), k.view(), "default", &target); !errors.Is(err, oauth.InvalidRequest) {
			t.Errorf("%s: error %v, want invalid_request", name, err)
		}
	}
	token := k.mint(t, k.claims("orders"))
	if _, err := k.revoke.RevokeTarget(context.Background(), k.view(), "default", &tokens.Target{Subject: "*"}); err != nil {
		t.Fatal(err)
	}
	if !k.active(t, token) {
		t.Error("a wildcard is a subject like any other, yet it matched")
	}
	far := k.now().Unix() + 1_000_000
	if _, err := k.revoke.RevokeTarget(context.Background(), k.view(), "default", &tokens.Target{ClientID: "orders", IssuedBefore: far}); err != nil {
		t.Fatal(err)
	}
	if k.active(t, token) {
		t.Error("an issued_before in the future did not cover the present")
	}
	if !k.active(t, k.mint(t, k.claims("orders"))) {
		t.Error("an issued_before in the future covers what was decided later")
	}
}

// TestRevocationIsKeptLongEnough: it must outlive the longest token that the client
// ever could have.
func TestRevocationIsKeptLongEnough(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	c := k.addClient(t, &state.Client{Id: "orders", AccessTokenLifetime: 100_000})
	k.must(t, &command.PutClient{Client: &state.Client{Tenant: "default", Id: "orders", AccessTokenLifetime: 60}, Expect: c.GetGeneration()})
	for _, target := range []tokens.Target{{ClientID: "orders"}, {Subject: "u"}, {Root: "r"}} {
		r, err := k.revoke.RevokeTarget(context.Background(), k.view(), "default", &target)
		if err != nil {
			t.Fatal(err)
		}
		err = k.view().Events(r.Seq-1, func(e *state.Event) bool {
			if left := e.GetExpiresAt() - k.now().Unix(); left < 100_000+60 {
				t.Errorf("%+v is kept for %d s only", target, left)
			}
			return false
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestJWTIsNeverAnError(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	k.addKeys(t, "ES256")
	k.addClient(t, &state.Client{Id: "orders"})
	token := k.mint(t, k.claims("orders"))
	parts := strings.Split(token, ".")
	for _, bad := range []string{
		"a.b.c", "..", token + ".", parts[0] + "." + parts[1] + ".", parts[0] + "." + parts[1] + "." + parts[2][:10],
		parts[1] + "." + parts[0] + "." + parts[2], strings.Repeat("a", verify.MaxSize+1), token + " ", "{}", "\x00",
		"eyJhbGciOiJub25lIn0." + parts[1] + ".AA",
	} {
		if a, err := k.intro.Introspect(k.view(), &tokens.Caller{}, bad); err != nil || a.Active {
			t.Errorf("%.40q: active %v, error %v", bad, a.Active, err)
		}
	}
}
