package verify_test

import (
	"context"
	"errors"
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
	if _, err := new(verify.RemoteSets).Of(t.Context(), url, "one"); !errors.Is(err, verify.ErrNoSet) {
		t.Errorf("no way to fetch: %v", err)
	}
}
