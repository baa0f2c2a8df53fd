package fsm

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// minted is a JWT as the model knows it.
type minted struct {
	head    uint64
	iat     int64
	expires int64
	targets map[string]string // kind to target
}

// taken is a revocation that was acknowledged.
type taken struct {
	seq          uint64
	kind, target string
	before       int64
}

func (r *taken) names(m *minted) bool { return m.targets[r.kind] == r.target }

// covers is the rule of docs/gateway.md, written down once more: any head for a key.
func covers(kind string, seq, head uint64, before, iat int64) bool {
	return (head < seq || kind == "key") && (before == 0 || iat <= before)
}

// follower is a gateway: what it was told, and up to where.
type follower struct {
	since  uint64
	events []*state.Event
}

func (g *follower) poll(rt *rapid.T, v *state.View) {
	if g.since < v.Counters().Floor { // the snapshot, over what it has
		g.since = 0
	}
	_, head, err := v.Changes(g.since, func(e *state.Event) bool { g.events = append(g.events, e); return true })
	if err != nil || head != v.Head() {
		rt.Fatalf("changes up to %d of %d: %v", head, v.Head(), err)
	}
	g.since = head
}

func (g *follower) revoked(m *minted) bool {
	return slices.ContainsFunc(g.events, func(e *state.Event) bool {
		return m.targets[e.GetKind()] == e.GetTarget() && covers(e.GetKind(), e.GetSeq(), m.head, e.GetIssuedBefore(), m.iat)
	})
}

// world is a node with everything that was ever minted and revoked at it.
type world struct {
	*rapid.T
	n         *node
	views     []*state.View // recent ones: some node still mints on them
	tokens    []*minted
	taken     []taken
	followers []*follower
	made      int
	last      uint64 // seq
}

// TestNoRevocationIsForgottenWhileATokenLives: random histories of clients, lifetimes,
// keys, tokens that lagging nodes mint, revocations, expiry and restores of snapshots,
// against a plain list of what was minted and revoked. At each step, the index in the
// state and every gateway that follows the log refuse each token that was revoked and
// has not expired (I2, G11); what was never named is refused nowhere; seqs only rise (I5).
func TestNoRevocationIsForgottenWhileATokenLives(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{T: rt, n: inMemory(rt, t), followers: []*follower{{}, {}, {}}}
		w.n.raw(first(t))
		for _, id := range []string{"a", "b"} {
			w.n.must(&command.PutClient{Client: client(id)})
		}
		w.n.must(&command.PutSigningKey{Key: signingKey("k0", "ES256")})
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			w.step()
			w.views = append(w.views, w.n.View())
			w.views = w.views[max(0, len(w.views)-3):]
			w.check()
		}
	})
}

func (w *world) pick(label string, from ...string) string {
	return rapid.SampledFrom(from).Draw(w.T, label)
}

func (w *world) step() {
	n, id := w.n, w.pick("client", "a", "b")
	c, there := n.View().Client("default", id)
	switch p := rapid.IntRange(0, 19).Draw(w.T, "step"); {
	case p < 5:
		w.mint(id)
	case p < 9:
		w.revoke()
	case p < 11:
		next := client(id)
		next.AccessTokenLifetime = rapid.SampledFrom([]int64{0, 60, 4000, 20_000}).Draw(w.T, "life")
		next.Disabled = rapid.IntRange(0, 3).Draw(w.T, "disable") == 0
		if r := n.must(&command.PutClient{Client: next, Expect: c.GetGeneration()}); r.Seq != 0 {
			w.took(r.Seq, "client", id, 0)
		}
	case p == 11 && there:
		w.took(n.must(&command.DeleteClient{Tenant: "default", Id: id}).Seq, "client", id, 0)
	case p == 12:
		tenant, _ := n.View().Tenant("default")
		n.must(&command.PutTenant{Expect: tenant.GetGeneration(), Tenant: &state.Tenant{Id: "default", Settings: &state.TenantSettings{AccessTokenLifetime: rapid.Int64Range(0, 9000).Draw(w.T, "tenant life")}}})
	case p == 13:
		w.rotate()
	case p < 16:
		passed := rapid.SampledFrom([]int64{500, 61_000, 4_000_000, 21_000_000}).Draw(w.T, "time passes")
		if n.now += passed; passed > 5000 {
			w.views = nil // no node mints on a view that old (R13)
		}
		n.must(&command.Expire{UpTo: math.MaxInt64, Limit: rapid.Uint32Range(1, 6).Draw(w.T, "rows")})
	case p == 16:
		n.must(&command.Expire{UpTo: math.MaxInt64, Limit: 1000})
	case p == 17:
		n.mustRestore(bytes.NewReader(n.snapshot()))
		w.views = nil // of the store that was closed
	default:
		rapid.SampledFrom(w.followers).Draw(w.T, "follower").poll(w.T, n.View())
	}
}

// mint makes a token on a view that may be some entries old, with a clock of its own.
func (w *world) mint(id string) {
	v := w.n.View()
	if len(w.views) > 0 {
		v = rapid.SampledFrom(w.views).Draw(w.T, "view")
	}
	c, ok := v.Client("default", id)
	if !ok || c.GetDisabled() {
		return
	}
	tenant, _ := v.Tenant("default")
	life := c.GetAccessTokenLifetime()
	if life == 0 {
		life = tenant.GetSettings().GetAccessTokenLifetime()
	}
	if life == 0 {
		life = DefaultLifetime
	}
	m := &minted{head: v.Head(), iat: w.n.now/1000 + rapid.Int64Range(-2, 2).Draw(w.T, "clock"), targets: map[string]string{
		"token": fmt.Sprint("j", len(w.tokens)), "client": id, "subject": w.pick("subject", "u", "v"),
	}}
	for _, k := range v.SigningKeys("default") {
		if k.GetStatus() == statusActive {
			m.targets["key"] = k.GetId()
		}
	}
	m.expires = m.iat + life
	w.tokens = append(w.tokens, m)
}

// revoke takes back what exists, for as long as the room tokens says.
func (w *world) revoke() {
	kind := w.pick("kind", "token", "client", "subject")
	var target string
	var lasts int64
	switch kind {
	case "token":
		if len(w.tokens) == 0 {
			return
		}
		m := rapid.SampledFrom(w.tokens).Draw(w.T, "token")
		target, lasts = m.targets["token"], m.expires-w.n.now/1000
	case "client":
		target = w.pick("client to revoke", "a", "b")
		lasts = longestOf(w.n.View(), "default")
		if c, ok := w.n.View().Client("default", target); ok {
			tenant, _ := w.n.View().Tenant("default")
			lasts = max(c.GetLongestLifetime(), longestLifetime(tenant, c))
		}
	default:
		target, lasts = w.pick("subject to revoke", "u", "v"), longestOf(w.n.View(), "default")
	}
	c := revocation(kind, target, 0, w.n.now/1000+lasts+skew)
	if rapid.Bool().Draw(w.T, "with a moment") {
		c.IssuedBefore = w.n.now/1000 + rapid.Int64Range(-100, 10).Draw(w.T, "moment")
	}
	if r := w.n.one(c); r.Reject == command.Accepted {
		w.took(r.Seq, kind, target, min(c.IssuedBefore, w.n.View().Clock()/1000))
	} else if r.Reject != command.AlreadyExpired {
		w.Fatalf("revoke: %v", r.Reject)
	}
}

// rotate adds a key and lets it sign, in an emergency or not.
func (w *world) rotate() {
	w.made++
	id, leaked := fmt.Sprint("k", w.made), rapid.Bool().Draw(w.T, "emergency")
	w.n.must(&command.PutSigningKey{Key: signingKey(id, "ES256")})
	var old string
	for _, k := range w.n.View().SigningKeys("default") {
		if k.GetStatus() == statusActive {
			old = k.GetId()
		}
	}
	r := w.n.must(&command.RotateSigningKey{Tenant: "default", Alg: "ES256", To: id, RevokeOld: leaked, LongestLifetime: longestOf(w.n.View(), "default")})
	if leaked {
		w.took(r.Seq-1, "key", old, 0)
	}
	w.last = max(w.last, r.Seq)
}

// took notes a revocation. The same single token once more keeps the seq that it has.
func (w *world) took(seq uint64, kind, target string, before int64) {
	known := slices.ContainsFunc(w.taken, func(r taken) bool { return r.seq == seq && r.kind == "token" && r.target == target })
	if seq <= w.last && !known {
		w.Fatalf("seq %d after %d", seq, w.last)
	}
	w.last = max(w.last, seq)
	w.taken = append(w.taken, taken{seq, kind, target, before})
}

func (w *world) check() {
	v := w.n.View()
	for i, m := range w.tokens {
		if m.expires+skew/2 <= v.Clock()/1000 {
			continue // refused for that everywhere
		}
		must, may := uint64(0), false
		for _, r := range w.taken {
			if r.names(m) && covers(r.kind, r.seq, m.head, 0, m.iat) {
				may = true // a later one with an earlier moment may have widened it
				if covers(r.kind, r.seq, m.head, r.before, m.iat) {
					must = max(must, r.seq)
				}
			}
		}
		if got := w.refused(m); must > 0 && !got || got && !may {
			w.Fatalf("token %d %+v: revoked by %d, may be %v, the state says %v\n%+v", i, m, must, may, got, w.taken)
		}
		for _, g := range w.followers {
			if got := g.revoked(m); must > 0 && must <= g.since && !got || got && !may {
				w.Fatalf("token %d %+v: revoked by %d, may be %v, a gateway at %d says %v", i, m, must, may, g.since, got)
			}
		}
	}
	if err := v.CheckMemory(); err != nil {
		w.Fatal(err)
	}
}

// refused asks the index in the state.
func (w *world) refused(m *minted) bool {
	for kind, target := range m.targets {
		head := m.head
		if kind == "key" {
			head = 0
		}
		if _, ok := w.n.View().Revoked("default", "", kind, target, head, m.iat); ok {
			return true
		}
	}
	return false
}

var generations = regexp.MustCompile(` ?generation:\d+`)

// TestGroupingChangesNothing: a leader may put commands into one entry or into many.
// Rows, seqs and decisions are the same, but for the generations, which are the
// indexes of the entries.
func TestGroupingChangesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		together, apart := inMemory(rt, t), inMemory(rt, t)
		together.raw(first(t))
		apart.raw(first(t))
		for e := range rapid.IntRange(1, 8).Draw(rt, "entries") {
			together.now += rapid.Int64Range(0, 90_000).Draw(rt, "time passes")
			var envelopes [][]byte
			for range rapid.IntRange(1, 8).Draw(rt, "commands") {
				c := drawn{rt}.command()
				if !ungenerated(c) {
					continue
				}
				envelopes = append(envelopes, encoded(t, c, key(fmt.Sprint(e, len(envelopes))), [8]byte{}, false))
			}
			if len(envelopes) == 0 {
				continue
			}
			var one []command.Result
			for _, x := range envelopes {
				one = append(one, apart.raw(entry(together.header(), x))...)
			}
			for i, r := range together.raw(entry(together.header(), envelopes...)) {
				if r.Reject != one[i].Reject || r.Seq != one[i].Seq || r.Head != one[i].Head {
					rt.Fatalf("command %d: together %+v, apart %+v", i, r, one[i])
				}
			}
			a, b := generations.ReplaceAllString(rowsOnly(together.dump()), ""), generations.ReplaceAllString(rowsOnly(apart.dump()), "")
			if a != b {
				rt.Fatalf("together:\n%s\napart:\n%s", a, b)
			}
			if together.View().Counters() != apart.View().Counters() {
				rt.Fatalf("counters %+v, apart %+v", together.View().Counters(), apart.View().Counters())
			}
		}
	})
}

// ungenerated takes the generation out of a command that names one; false for a
// command that can't do without.
func ungenerated(c command.Command) bool {
	switch c := c.(type) {
	case *command.PutTenant:
		c.Expect = 0
	case *command.PutClient:
		c.Expect = 0
	case *command.DeleteClient:
		c.Expect = 0
	case *command.PutSigningKey:
		c.Expect = 0
	case *command.PutRole:
		c.Expect = 0
	case *command.DeleteRole:
		c.Expect = 0
	case *command.PutGroup:
		c.Expect = 0
	case *command.DeleteGroup:
		c.Expect = 0
	case *command.PutScope:
		c.Expect = 0
	case *command.DeleteScope:
		c.Expect = 0
	case *command.PutTrustedIssuer:
		c.Expect = 0
	case *command.DeleteTrustedIssuer:
		c.Expect = 0
	case *command.IssueOpaque, *command.Bootstrap, *command.Redeem, *command.RotateRefresh:
		return false
	}
	return true
}
