package verify_test

import (
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyraft/keyraft/tokens/verify"
)

var kinds = []string{
	verify.KindToken, verify.KindGrant, verify.KindRoot, verify.KindClient, verify.KindSubject,
	verify.KindApplication, verify.KindKeyManager, verify.KindKey, verify.KindAPIKey, "unheard-of", "",
}

// TestCoversExactly compares Covers with the sentence that defines it, over tokens
// and revocations that meet often, and Targets with Covers: a revocation that covers
// a token is always found by one of the token's targets.
func TestCoversExactly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.SampledFrom([]string{"", "a", "b"})
		c := verify.Claims{
			JTI: id.Draw(t, "jti"), Grant: id.Draw(t, "gid"), Root: id.Draw(t, "root"), RootClient: id.Draw(t, "root client"), ClientID: id.Draw(t, "client"), Subject: id.Draw(t, "sub"),
			Application: id.Draw(t, "app"), Issuer: id.Draw(t, "iss"), KeyID: id.Draw(t, "kid"), KeyManager: id.Draw(t, "key manager"),
			Own: rapid.Bool().Draw(t, "own"), Head: rapid.Uint64Range(0, 4).Draw(t, "head"), IssuedAt: rapid.Int64Range(0, 4).Draw(t, "iat"),
		}
		r := verify.Revocation{
			Seq: rapid.Uint64Range(0, 4).Draw(t, "seq"), IssuedBefore: rapid.Int64Range(0, 4).Draw(t, "issued before"),
			Issuer: id.Draw(t, "issuer"), Kind: rapid.SampledFrom(kinds).Draw(t, "kind"),
			Target:       rapid.SampledFrom([]string{"", "a", "b", "resident"}).Draw(t, "target"),
			DecidedAfter: rapid.Uint64Range(0, 4).Draw(t, "decided after"), IssuedAfter: rapid.Int64Range(0, 4).Draw(t, "issued after"),
		}
		claim := map[string]string{
			"token": c.JTI, "grant": c.Grant, "root": c.Root, "client": c.ClientID, "subject": c.Subject,
			"application": c.Application, "keymanager": c.KeyManager, "key": c.KeyID,
		}
		if c.KeyManager == "" {
			claim["keymanager"] = "resident"
		}
		named := claim[r.Kind] == r.Target || r.Kind == "token" && c.Root == r.Target || // a token takes its tree with it
			r.Kind == "client" && c.RootClient == r.Target // so do all of a client's
		meant := r.Target != "" && named && (r.Issuer == "" || r.Issuer == c.Issuer)
		before := r.IssuedBefore == 0 || c.IssuedAt <= r.IssuedBefore
		after := c.IssuedAt > r.IssuedAfter
		if c.Own && r.Kind != "key" {
			before = before && c.Head < r.Seq
			after = after || c.Head > r.DecidedAfter
		} else {
			after = after || c.IssuedAt == 0
		}
		before = before && (r.IssuedAfter == 0 || after)
		if got := verify.Covers(r, &c); got != (meant && before) {
			t.Fatalf("Covers says %v of %+v and %+v", got, r, c)
		}
		found := map[[2]string]bool{}
		verify.Targets(&c, func(kind, target string) bool {
			if found[[2]string{kind, target}] || target == "" {
				t.Fatalf("target %q of kind %q", target, kind)
			}
			found[[2]string{kind, target}] = true
			return true
		})
		want := map[[2]string]bool{{"token", c.Root}: true, {"client", c.RootClient}: true}
		for kind, target := range claim {
			want[[2]string{kind, target}] = true
		}
		maps.DeleteFunc(want, func(pair [2]string, _ bool) bool { return pair[1] == "" })
		if !maps.Equal(found, want) {
			t.Fatalf("Targets gives %v, want %v", found, want)
		}
	})
}

// TestRestoreTakesBackWhatCameAfterTheBackup is R15: its window covers what was
// decided above the backup's head or issued after its second, before the restore.
func TestRestoreTakesBackWhatCameAfterTheBackup(t *testing.T) {
	t.Parallel()
	const backup = 1_700_000_000
	r := verify.Revocation{Seq: 1 << 32, Kind: verify.KindKeyManager, Target: "resident", DecidedAfter: 40, IssuedAfter: backup}
	tests := []struct {
		name  string
		c     verify.Claims
		cover bool
	}{
		{"decided and issued before the backup", verify.Claims{Own: true, Head: 40, IssuedAt: backup}, false},
		{"decided after it, by a clock that lags", verify.Claims{Own: true, Head: 41, IssuedAt: backup - 9}, true},
		{"issued after it, where no head moved", verify.Claims{Own: true, Head: 40, IssuedAt: backup + 1}, true},
		{"decided on the restored state", verify.Claims{Own: true, Head: 1 << 32, IssuedAt: backup + 9}, false},
		{"another key manager's token", verify.Claims{KeyManager: "okta", IssuedAt: backup + 9}, false},
		{"a token whose head nobody told, issued before", verify.Claims{IssuedAt: backup}, false},
		{"one issued after", verify.Claims{IssuedAt: backup + 1}, true},
		{"one that tells neither", verify.Claims{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := verify.Covers(r, &tt.c); got != tt.cover {
				t.Errorf("covered %v, want %v", got, tt.cover)
			}
		})
	}
}

// TestLeakedKeyForgesHeads is Y9: who has the key writes any head, and leaves the
// kid out where that helps.
func TestLeakedKeyForgesHeads(t *testing.T) {
	t.Parallel()
	r := verify.Revocation{Seq: 100, Kind: verify.KindKey, Target: key(verify.ES256).ID}
	payload := strings.Replace(testPayload, "3.41", "3.18446744073709551615", 1)
	for name, h := range map[string]string{
		"with its kid": header(verify.ES256), "without kid": `{"alg":"ES256","typ":"at+jwt"}`,
	} {
		token, err := verify.Parse(mint(t, verify.ES256, h, payload))
		if err != nil {
			t.Fatal(err)
		}
		if err := token.Verify(key(verify.ES256)); err != nil {
			t.Fatal(err)
		}
		if err := token.Check(expect()); err != nil || !token.Claims.Own {
			t.Fatalf("own %v, error %v", token.Claims.Own, err)
		}
		if !verify.Covers(r, &token.Claims) {
			t.Errorf("%s: the token escapes by the head it names", name)
		}
	}
}

// TestRevocationRacesWithIssue is G9.
func TestRevocationRacesWithIssue(t *testing.T) {
	t.Parallel()
	const second = 1_700_000_000
	named := verify.Revocation{Seq: 100, Kind: verify.KindSubject, Target: "alice", IssuedBefore: second}
	whole := named
	whole.IssuedBefore = 0
	tests := []struct {
		name  string
		r     verify.Revocation
		own   bool
		head  uint64
		iat   int64
		cover bool
	}{
		{"minted 5 ms later in the same second by a node that has not seen it", named, true, 99, second, true},
		{"minted in the same second by a node that has seen it", named, true, 100, second, false},
		{"minted a second later by a lagging node, when issued_before is named", named, true, 99, second + 1, false},
		{"minted a year later by a lagging node, when it is not", whole, true, 99, second + 31_536_000, true},
		{"minted by a node whose clock lags but that has seen it", whole, true, 100, second - 3600, false},
		{"minted by a node further on", whole, true, 1000, second, false},
		{"a third party's token of the same second", named, false, 0, second, true},
		{"a third party's token of the next second", named, false, 0, second + 1, false},
		{"a third party's token without issued_before", whole, false, 0, second + 1, true},
		{"a third party's token without iat", named, false, 0, 0, true},
		{"a third party's token with a head of its own making", whole, false, 1 << 63, second + 1, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := verify.Claims{Subject: "alice", Own: tt.own, Head: tt.head, IssuedAt: tt.iat}
			if got := verify.Covers(tt.r, &c); got != tt.cover {
				t.Errorf("covered %v, want %v", got, tt.cover)
			}
		})
	}
}

// TestThirdPartyCannotWriteItselfAHead: a token says ev of itself; only an issuer
// that the caller knows to be ours is believed.
func TestThirdPartyCannotWriteItselfAHead(t *testing.T) {
	t.Parallel()
	payload := strings.Replace(testPayload, "3.41", "3.18446744073709551615", 1)
	token, err := verify.Parse(mint(t, verify.ES256, header(verify.ES256), payload))
	if err != nil {
		t.Fatal(err)
	}
	r := verify.Revocation{Seq: 42, Kind: verify.KindClient, Target: "orders"}
	if !verify.Covers(r, &token.Claims) {
		t.Error("a token that was only parsed escapes")
	}
	e := expect()
	e.Own = false
	if err := token.Check(e); err != nil || token.Claims.Own || !verify.Covers(r, &token.Claims) {
		t.Errorf("a foreign token escapes: own %v, error %v", token.Claims.Own, err)
	}
	if err := token.Check(verify.Expect{Own: true, Now: testNow}); err != nil || token.Claims.Own {
		t.Errorf("a token of an issuer that was not compared counts as ours: %v", err)
	}
	if err := token.Check(expect()); err != nil || !token.Claims.Own || verify.Covers(r, &token.Claims) {
		t.Errorf("our own later token is covered: own %v, error %v", token.Claims.Own, err)
	}
}

func TestTargetsStopsAndDoesNotAllocate(t *testing.T) {
	c := verify.Claims{JTI: "j", Grant: "g", Root: "r", ClientID: "c", Subject: "s", Application: "a", Issuer: "i", KeyID: "k"}
	n := 0
	verify.Targets(&c, func(string, string) bool { n++; return n < 3 })
	if n != 3 {
		t.Errorf("called %d times, want 3", n)
	}
	want := rand.Uint64()
	revs := verify.Revocation{Seq: want, Kind: verify.KindKey, Target: "k"}
	if allocs := testing.AllocsPerRun(100, func() {
		verify.Targets(&c, func(kind, target string) bool {
			n += len(kind) + len(target)
			return !verify.Covers(revs, &c) || n > 0
		})
	}); allocs != 0 {
		t.Errorf("%v allocations, want 0", allocs)
	}
}

func BenchmarkTargets(b *testing.B) {
	c := verify.Claims{JTI: "j", Grant: "g", Root: "r", ClientID: "c", Subject: "s", Application: "a", Issuer: "i", KeyID: "k"}
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		verify.Targets(&c, func(_, target string) bool { n += len(target); return true })
	}
}
