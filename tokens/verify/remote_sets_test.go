package verify_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/testproof"
	"github.com/keyraft/keyraft/tokens/verify"
)

// TestRemoteSets is JWT-05 and JWT-27: a set is fetched once in a cool-down, whoever asks
// for what; a new one replaces the old; what can't be had is used for an hour.
func TestRemoteSets(t *testing.T) {
	t.Parallel()
	const url = "https://app.example/jwks"
	now := time.Unix(1_800_000_000, 0)
	fetched, failed := 0, 0
	body, down := testproof.New(t).JWKS(t, "one"), error(nil)
	sets := &verify.RemoteSets{
		Fetch:  func(context.Context, string, int64) ([]byte, error) { fetched++; return body, down },
		Now:    func() time.Time { return now },
		Failed: func(string, error) { failed++ },
	}
	step := func(name string, ahead time.Duration, kid string, has bool, times int) {
		t.Helper()
		now = now.Add(ahead)
		set, err := sets.Of(t.Context(), url, kid)
		if err != nil && !errors.Is(err, verify.ErrNoSet) {
			t.Fatal(err)
		}
		found := false
		if err == nil {
			_, found = set.Lookup(kid)
		}
		if found != has || fetched != times {
			t.Errorf("%s: found %t after %d fetches, want %t after %d", name, found, fetched, has, times)
		}
	}
	step("the first use", 0, "one", true, 1)
	step("a second", time.Second, "one", true, 1)
	body = testproof.New(t).JWKS(t, "two")
	step("a new kid, too soon", time.Second, "two", false, 1)
	step("a new kid", 30*time.Second, "two", true, 2)
	step("the old one, too soon", time.Second, "one", false, 2)
	down = errors.New("gone")
	step("an old set that can't be had", 11*time.Minute, "two", true, 3)
	step("within the cool-down", time.Second, "two", true, 3)
	step("after an hour", time.Hour, "two", false, 4)
	if failed != 2 {
		t.Errorf("%d failures were told of, want 2", failed)
	}
	// A set for another end: whole for who looks for that, nothing for signatures.
	down, body = nil, []byte(`{"keys":[{"kty":"EC","crv":"P-256","use":"enc","x":"AA","y":"AA"}]}`)
	has := func(word string) func([]byte) bool {
		return func(document []byte) bool { return strings.Contains(string(document), word) }
	}
	document := func(name string, ahead time.Duration, word string, times, failures int) {
		t.Helper()
		now = now.Add(ahead)
		got, err := sets.Document(t.Context(), url, has(word))
		if err != nil || !has("enc")(got) || fetched != times || failed != failures {
			t.Errorf("%s: %s, %v after %d fetches and %d failures", name, got, err, fetched, failed)
		}
	}
	document("one for encryption", time.Hour, "enc", 5, 2)
	document("once more", time.Second, "enc", 5, 2)
	document("what is not there, too soon", time.Second, "x5c", 5, 2)
	document("what is not there", time.Minute, "x5c", 6, 2)
	step("no key of it verifies", time.Minute, "two", false, 7)
	if failed != 3 {
		t.Errorf("%d failures were told of, want 3", failed)
	}
	if _, err := new(verify.RemoteSets).Document(t.Context(), url, has("enc")); !errors.Is(err, verify.ErrNoSet) {
		t.Errorf("no way to fetch: %v", err)
	}
	if _, err := new(verify.RemoteSets).Of(t.Context(), url, "one"); !errors.Is(err, verify.ErrNoSet) {
		t.Errorf("no way to fetch: %v", err)
	}
}
