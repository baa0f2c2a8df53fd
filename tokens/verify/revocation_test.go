package verify_test

import (
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
			JTI: id.Draw(t, "jti"), Grant: id.Draw(t, "gid"), Root: id.Draw(t, "root"), ClientID: id.Draw(t, "client"), Subject: id.Draw(t, "sub"),
			Application: id.Draw(t, "app"), Issuer: id.Draw(t, "iss"), KeyID: id.Draw(t, "kid"),
			Own: rapid.Bool().Draw(t, "own"), Head: rapid.Uint64Range(0, 4).Draw(t, "head"), IssuedAt: rapid.Int64Range(0, 4).Draw(t, "iat"),
		}
		r := verify.Revocation{
			Seq: rapid.Uint64Range(0, 4).Draw(t, "seq"), IssuedBefore: rapid.Int64Range(0, 4).Draw(t, "issued before"),
			Issuer: id.Draw(t, "issuer"), Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Target: id.Draw(t, "target"),
		}
		claim := map[string]string{
			"token": c.JTI, "grant": c.Grant, "root": c.Root, "client": c.ClientID, "subject": c.Subject,
			"application": c.Application, "keymanager": c.Issuer, "key": c.KeyID,
		}
		meant := r.Target != "" && claim[r.Kind] == r.Target && (r.Issuer == "" || r.Issuer == c.Issuer)
		before := r.IssuedBefore == 0 || c.IssuedAt <= r.IssuedBefore
		if c.Own {
			before = before && c.Head < r.Seq
		}
		if got := verify.Covers(r, &c); got != (meant && before) {
			t.Fatalf("Covers says %v of %+v and %+v", got, r, c)
		}
		found := map[string]string{}
		verify.Targets(&c, func(kind, target string) bool {
			if _, twice := found[kind]; twice || target == "" {
				t.Fatalf("target %q of kind %q", target, kind)
			}
			found[kind] = target
			return true
		})
		for kind, target := range claim {
			if found[kind] != target {
				t.Fatalf("Targets gives %q for %s, want %q", found[kind], kind, target)
			}
		}
	})
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
