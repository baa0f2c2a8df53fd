package tokens_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/storage"
	"github.com/keyraft/keyraft/tokens"
)

func absent(err error) bool { return errors.Is(err, storage.ErrNotFound) }

func (k *kit) issue(t testing.TB, client *state.Client) string {
	t.Helper()
	tenant, _ := k.view().Tenant("default")
	out, err := k.opaque.AppendToken(context.Background(), nil, k.view(), tenant, client, k.claims(client.GetId()))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func (k *kit) active(t testing.TB, token string) bool {
	t.Helper()
	a, err := k.intro.Introspect(k.view(), &tokens.Caller{}, token)
	if err != nil {
		t.Fatal(err)
	}
	return a.Active
}

// TestOneSpelling is TOK-22: nothing but the token itself is taken, and what is
// refused costs no look at the table of tokens.
func TestOneSpelling(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	token := k.issue(t, k.addClient(t, &state.Client{Id: "orders"}))
	if !k.active(t, token) {
		t.Fatal("a new token is inactive")
	}
	lookups := 0
	intro, err := tokens.NewIntrospector(tokens.IntrospectorConfig{Signing: k.keys, Shared: k.shared, Now: k.now,
		Absent: func(err error) bool { lookups++; return absent(err) }})
	if err != nil {
		t.Fatal(err)
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	forged := []string{
		"", "kr1_", token[:len(token)-1], token + "A", token + "=", " " + token, token + "\n", token[:20] + "\n" + token[21:],
		strings.ToUpper(token), "KR1_" + token[4:], "kr2_" + token[4:], strings.ReplaceAll(token, "_", "/"), token[4:],
	}
	for i := 4; i < len(token); i++ { // every other character at every place, the tail bits among them
		for _, c := range []byte(alphabet) {
			if c != token[i] {
				forged = append(forged, token[:i]+string(c)+token[i+1:])
			}
		}
	}
	for _, f := range forged {
		if f == token {
			continue
		}
		a, err := intro.Introspect(k.view(), &tokens.Caller{}, f)
		if err != nil || a.Active {
			t.Fatalf("a forged token: active %v, error %v", a.Active, err)
		}
	}
	if lookups != 0 {
		t.Errorf("%d forged tokens were looked up", lookups)
	}
}

func TestTokensEndExactly(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	k.addKeys(t, "ES256")
	opaque, jwt := k.issue(t, k.addClient(t, &state.Client{Id: "orders"})), k.mint(t, k.claims("orders"))
	k.pass(3599 * time.Second)
	if !k.active(t, opaque) || !k.active(t, jwt) {
		t.Error("inactive a second before its end")
	}
	k.pass(time.Second)
	if k.active(t, opaque) || k.active(t, jwt) {
		t.Error("active at its end")
	}
}

// TestSlowClockTakesNoExpiredToken: a node whose clock lags goes by the cluster's.
func TestSlowClockTakesNoExpiredToken(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	k.addKeys(t, "ES256")
	client := k.addClient(t, &state.Client{Id: "orders"})
	opaque, jwt := k.issue(t, client), k.mint(t, k.claims("orders"))
	k.pass(2 * time.Hour)
	k.must(t, &command.ClockAdvance{To: k.clock.Load() + 1})
	k.pass(-2 * time.Hour)
	if k.active(t, opaque) || k.active(t, jwt) {
		t.Error("an expired token is active for a slow clock")
	}
}

func TestRotatedClusterKeysStillKnowOldTokens(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	client := k.addClient(t, &state.Client{Id: "orders"})
	old := k.issue(t, client)
	for _, name := range []string{tokens.KeyHash, tokens.KeyTag} {
		row, err := tokens.NewClusterKey(k.ring, name, 2, k.now())
		if err != nil {
			t.Fatal(err)
		}
		k.must(t, &command.PutClusterKey{Key: row, NewVersion: true})
	}
	if _, version, err := k.shared.Newest(k.view(), tokens.KeyHash); err != nil || version != 2 {
		t.Errorf("version %d hashes, %v", version, err)
	}
	if !k.active(t, old) || !k.active(t, k.issue(t, client)) {
		t.Error("a token is unknown after the rotation")
	}
	if _, err := k.shared.Version(k.view(), tokens.KeyHash, 3); err == nil {
		t.Error("a version that is not there was found")
	}
}

// TestIssueOpaqueOnAChangedClient: what was decided on another record is not stored.
func TestIssueOpaqueOnAChangedClient(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	old := k.addClient(t, &state.Client{Id: "orders"})
	k.must(t, &command.PutClient{Client: &state.Client{Tenant: "default", Id: "orders", Name: "x"}, Expect: old.GetGeneration()})
	tenant, _ := k.view().Tenant("default")
	out, err := k.opaque.AppendToken(context.Background(), nil, k.view(), tenant, old, k.claims("orders"))
	if !errors.Is(err, command.Stale) || len(out) != 0 {
		t.Errorf("error %v with %d bytes, want Stale and none", err, len(out))
	}
}
