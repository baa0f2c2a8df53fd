package fsm

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

func revocation(kind, target string, before, end int64) *command.Revoke {
	return &command.Revoke{Tenant: "default", TargetKind: kind, Target: target, IssuedBefore: before, ExpiresAt: end}
}

func (n *node) events() (out []*state.Event) {
	n.t.Helper()
	if err := n.View().Events(0, func(e *state.Event) bool { out = append(out, e); return true }); err != nil {
		n.t.Fatal(err)
	}
	return out
}

func TestWhatARevocationMustSay(t *testing.T) {
	t.Parallel()
	n := booted(t)
	n.refused(revocation("colour", "x", 0, seconds(60)), command.Invalid)
	n.refused(revocation("subject", "", 0, seconds(60)), command.Invalid)
	n.refused(revocation("subject", "x", -1, seconds(60)), command.Invalid)
	n.refused(revocation("subject", "x", 0, seconds(0)), command.AlreadyExpired)
	n.refused(&command.Revoke{TargetKind: "subject", Target: "x", ExpiresAt: seconds(60)}, command.Invalid)
	n.must(revocation("subject", "x", 0, seconds(1)))
	n.must(revocation("subject", "for ever", 0, math.MaxInt64))
	n.now += 3_600_000
	n.must(&command.Expire{UpTo: n.now, Limit: 10})
	if _, ok := n.View().Revoked("default", "", "subject", "for ever", 0, 0); !ok {
		t.Error("a revocation without an end has ended")
	}
}

// TestWideningRevocations: a second one of a target takes the first one's place
// with the wider of both, under a seq of its own.
func TestWideningRevocations(t *testing.T) {
	t.Parallel()
	n := booted(t)
	first := n.must(revocation("subject", "alice", 0, seconds(1000))).Seq
	second := n.must(revocation("subject", "alice", 0, seconds(500))).Seq
	if second != first+1 {
		t.Fatalf("seqs %d and %d", first, second)
	}
	if e := n.events(); len(e) != 1 || e[0].GetSeq() != second || e[0].GetExpiresAt() != seconds(1000) {
		t.Errorf("events %v: want the second alone, with the later end", e)
	}
	if _, ok := n.View().Revoked("default", "", "subject", "alice", first, 0); !ok {
		t.Error("a token decided between the two is not revoked")
	}
	token := n.must(revocation("token", "j", 0, seconds(500))).Seq
	if again := n.must(revocation("token", "j", 0, seconds(400))); again.Seq != token || again.Head != token {
		t.Errorf("the same token once more: %+v, want seq %d and nothing new", again, token)
	}
	if later := n.must(revocation("token", "j", 0, seconds(501))).Seq; later != token+1 {
		t.Errorf("the same token for longer: seq %d", later)
	}
}

// TestIssuedBefore: the named moment counts in a class of its own and never
// narrows what a plain revocation covers, in either order; nobody revokes the
// future.
func TestIssuedBefore(t *testing.T) {
	t.Parallel()
	for name, order := range map[string][]int64{"plain first": {0, seconds(-100)}, "moment first": {seconds(-100), 0}} {
		n := booted(t)
		var seq [2]uint64
		for i, before := range order {
			seq[i] = n.must(revocation("subject", "alice", before, seconds(1000))).Seq
		}
		plain := seq[0]
		if order[0] != 0 {
			plain = seq[1]
		}
		v := n.View()
		for _, c := range []struct {
			head uint64
			iat  int64
			want bool
		}{
			{plain - 1, seconds(50), true}, // decided before the plain one
			{2, seconds(50), false},        // decided after both
			{1, seconds(-100), true},
			{1, seconds(-99), plain == 2},
		} {
			if _, got := v.Revoked("default", "", "subject", "alice", c.head, c.iat); got != c.want {
				t.Errorf("%s: head %d iat %d: revoked %v, want %v", name, c.head, c.iat-seconds(0), got, c.want)
			}
		}
	}
	n := booted(t)
	n.must(revocation("subject", "bob", seconds(1e6), seconds(1e7)))
	if e := n.events(); e[0].GetIssuedBefore() != seconds(0) {
		t.Errorf("issued_before %d lies beyond the cluster clock %d", e[0].GetIssuedBefore(), seconds(0))
	}
	n.must(revocation("subject", "bob", seconds(-5), seconds(60)))
	if e := n.events(); len(e) != 1 || e[0].GetIssuedBefore() != seconds(0) || e[0].GetExpiresAt() != seconds(1e7) {
		t.Errorf("an earlier moment narrowed the first: %v", e)
	}
}

// TestRevocationsOnlyGrow: whatever was refused at some moment is refused until
// its end, whatever is revoked afterwards; every seq is new (I5).
func TestRevocationsOnlyGrow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := inMemory(rt, t)
		n.raw(first(t))
		type token struct {
			head uint64
			iat  int64
		}
		covered := map[token]int64{} // until when
		last := uint64(0)
		for range rapid.IntRange(1, 8).Draw(rt, "revocations") {
			c := revocation("subject", "x", rapid.SampledFrom([]int64{0, seconds(-20), seconds(-10), seconds(9000)}).Draw(rt, "before"),
				n.now/1000+rapid.Int64Range(1, 300).Draw(rt, "life"))
			r := n.must(c)
			if r.Seq != last+1 {
				rt.Fatalf("seq %d after %d", r.Seq, last)
			}
			last = r.Seq
			for head := range last + 1 {
				for _, iat := range []int64{seconds(-20), seconds(-15), seconds(-10), seconds(0)} {
					at := token{head, iat}
					_, now := n.View().Revoked("default", "", "subject", "x", head, iat)
					if head < last && (c.GetIssuedBefore() == 0 || iat <= min(c.GetIssuedBefore(), n.now/1000)) {
						covered[at] = max(covered[at], c.GetExpiresAt())
					}
					if !now && covered[at] > n.now/1000 {
						rt.Fatalf("token %+v was revoked until %d and is not at %d", at, covered[at], n.now/1000)
					}
				}
			}
			n.now += rapid.Int64Range(0, 40_000).Draw(rt, "time passes")
			n.must(&command.Expire{UpTo: math.MaxInt64, Limit: 100})
		}
	})
}

func TestRevokingASigningKey(t *testing.T) {
	t.Parallel()
	n := booted(t)
	n.must(&command.PutSigningKey{Key: signingKey("k1", "ES256")})
	n.must(&command.PutSigningKey{Key: signingKey("k2", "ES256")})
	n.refused(revocation("key", "k1", 0, seconds(60)), command.NotReady)
	other := revocation("key", "k1", 0, seconds(60))
	other.Issuer = "https://other.example"
	n.must(other)
	if k, _ := n.View().SigningKey("default", "k1"); k.GetStatus() != statusActive {
		t.Error("the key of another issuer took ours away")
	}
	n.must(revocation("key", "k2", 0, math.MaxInt64))
	if k, _ := n.View().SigningKey("default", "k2"); k.GetStatus() != statusRevoked || k.GetGoneAt() < n.now || k.GetGeneration() != n.index {
		t.Errorf("revoked key: %v", k)
	}
}

// TestEventsForGateways: Events ends at the view's head, Changes is whole at the
// head that it names even when a revocation was replaced in the meantime.
func TestEventsForGateways(t *testing.T) {
	t.Parallel()
	n := booted(t)
	n.must(revocation("subject", "a", 0, seconds(60)))
	n.must(revocation("subject", "b", 0, seconds(60)))
	old := n.View()
	n.must(revocation("subject", "a", 0, seconds(60)))
	read := func(since uint64) (seqs []uint64, epoch, head uint64) {
		epoch, head, err := old.Changes(since, func(e *state.Event) bool { seqs = append(seqs, e.GetSeq()); return true })
		if err != nil {
			t.Fatal(err)
		}
		return seqs, epoch, head
	}
	if seqs, epoch, head := read(0); len(seqs) != 2 || seqs[0] != 2 || seqs[1] != 3 || head != 3 || epoch != 1 {
		t.Errorf("changes %v, epoch %d, head %d", seqs, epoch, head)
	}
	if seqs, _, head := read(3); seqs != nil || head != 3 {
		t.Errorf("changes since the head: %v, head %d", seqs, head)
	}
	var targets []string
	if err := old.Revocations(func(e *state.Event) { targets = append(targets, e.GetTarget()) }); err != nil || len(targets) != 2 {
		t.Errorf("the old view lost a revocation: %v, %v", targets, err)
	}
}
