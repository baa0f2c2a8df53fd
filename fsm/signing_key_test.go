package fsm

import (
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
)

// status is the state of the keys, in order of their ids.
func (n *node) status() (out string) {
	for _, k := range n.View().SigningKeys("default") {
		out += k.GetId() + "=" + k.GetStatus() + " "
	}
	return out
}

// TestLifeOfASigningKey: exactly one signs; next waits until it was published
// long enough, except in an emergency; none goes before its last token (Y1).
func TestLifeOfASigningKey(t *testing.T) {
	t.Parallel()
	n := booted(t)
	want := func(s string) {
		t.Helper()
		if n.status() != s {
			t.Errorf("keys %q, want %q", n.status(), s)
		}
	}
	rotate := func(to string) *command.RotateSigningKey {
		return &command.RotateSigningKey{Tenant: "default", Alg: "ES256", To: to}
	}
	n.must(&command.PutSigningKey{Key: signingKey("k1", "ES256")})
	n.must(&command.PutSigningKey{Key: signingKey("e1", "EdDSA")})
	next := signingKey("k2", "ES256")
	next.SignsFrom = t0 + 60_000
	n.must(&command.PutSigningKey{Key: next})
	want("e1=active k1=active k2=next ")
	n.refused(&command.PutSigningKey{Key: signingKey("k3", "ES256")}, command.Exists)
	n.refused(&command.PutSigningKey{Key: signingKey("k1", "ES256")}, command.Exists)
	n.now += 59_999
	n.refused(rotate("k2"), command.NotReady)
	n.refused(rotate("k1"), command.NotFound)
	n.refused(rotate("e1"), command.NotFound)
	n.now++
	got := n.do(rotate("k2"), rotate("k2"))
	if got[0].Reject != command.Accepted || got[1].Reject != command.NotFound {
		t.Errorf("two rotations at once: %v", rejects(got))
	}
	want("e1=active k1=retired k2=active ")
	if got[0].Seq != got[0].Head {
		t.Errorf("no event tells gateways of the rotation: %+v", got[0])
	}
	k1, _ := n.View().SigningKey("default", "k1")
	if k1.GetGoneAt() < n.now+(DefaultLifetime+skew)*1000 {
		t.Errorf("k1 goes %d ms after the rotation: before its last token", k1.GetGoneAt()-n.now)
	}
	n.refused(&command.DropSigningKey{Tenant: "default", Id: "k2"}, command.NotReady)
	n.now = k1.GetGoneAt() - 1
	n.refused(&command.DropSigningKey{Tenant: "default", Id: "k1"}, command.NotReady)
	n.now++
	n.must(&command.DropSigningKey{Tenant: "default", Id: "k1"})
	want("e1=active k2=active ")
	n.refused(&command.PutSigningKey{Key: signingKey("k1", "ES256"), Expect: k1.GetGeneration()}, command.NotFound)
}

func TestEmergencyRotation(t *testing.T) {
	t.Parallel()
	n := booted(t)
	n.must(&command.PutSigningKey{Key: signingKey("k1", "ES256")})
	next := signingKey("k2", "ES256")
	next.SignsFrom = t0 + 60_000
	n.must(&command.PutSigningKey{Key: next})
	n.refused(&command.RotateSigningKey{Tenant: "default", Alg: "ES256", To: "k2", RevokeOld: true, LongestLifetime: -1}, command.Invalid)
	r := n.must(&command.RotateSigningKey{Tenant: "default", Alg: "ES256", To: "k2", RevokeOld: true})
	if n.status() != "k1=revoked k2=active " {
		t.Errorf("keys %q", n.status())
	}
	if _, ok := n.View().Revoked("default", "", "key", "k1", r.Seq-2, seconds(1000)); !ok {
		t.Error("tokens of the old key are not revoked")
	}
}

func TestSealingAKeyAnew(t *testing.T) {
	t.Parallel()
	n := booted(t)
	gen := n.must(&command.PutSigningKey{Key: signingKey("k1", "ES256")}).Generation
	again := signingKey("k1", "RS256")
	again.Sealed, again.PublicKey = []byte("anew"), []byte("another")
	n.must(&command.PutSigningKey{Key: again, Expect: gen})
	k, _ := n.View().SigningKey("default", "k1")
	if string(k.GetSealed()) != "anew" || string(k.GetPublicKey()) != "public k1" || k.GetAlg() != "ES256" || k.GetStatus() != statusActive {
		t.Errorf("sealing anew changed more than the seal: %v", k)
	}
	n.refused(&command.PutSigningKey{Key: again, Expect: gen}, command.Exists)
}
