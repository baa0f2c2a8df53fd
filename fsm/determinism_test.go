package fsm

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// drawn makes commands out of few names, so that they meet each other, some of
// them breaking a rule.
type drawn struct{ *rapid.T }

func (d drawn) pick(label string, from ...string) string {
	return rapid.SampledFrom(from).Draw(d.T, label)
}

func (d drawn) tenant() string { return d.pick("tenant", "default", "default", "default", "t2", "") }
func (d drawn) id() string {
	return d.pick("id", "a", "a", "b", "b", "c", "", strings.Repeat("x", maxPart+1))
}
func (d drawn) flag(label string) bool { return rapid.Bool().Draw(d.T, label) }

// generation is 0, an index that may be right, or one far off.
func (d drawn) generation() uint64 { return rapid.Uint64Range(0, 14).Draw(d.T, "generation") }

// end is a second round the clock of the test, or one that overflows.
func (d drawn) end() int64 {
	return rapid.OneOf(rapid.Int64Range(seconds(-100), seconds(400)), rapid.SampledFrom([]int64{-1, 0, 1<<63 - 1})).Draw(d.T, "end")
}

func (d drawn) command() command.Command {
	tenant, id := d.tenant(), d.id()
	switch rapid.IntRange(1, 42).Draw(d.T, "kind") {
	case 1:
		return bootstrap()
	case 2:
		return &command.TermStart{Node: id, Term: d.generation()}
	case 3:
		return &command.ClockAdvance{To: rapid.Int64Range(t0-1000, t0+200_000).Draw(d.T, "to")}
	case 4:
		return &command.SetFeatureLevel{Level: rapid.Uint32Range(0, 1).Draw(d.T, "level")}
	case 5:
		return &command.SetIssuer{Issuer: d.pick("issuer", "", "https://a", "https://b"), Fixed: d.flag("fixed")}
	case 6:
		return &command.PutTenant{Expect: d.generation(), Tenant: &state.Tenant{Id: tenant, Disabled: d.flag("disabled"),
			Settings: &state.TenantSettings{AccessTokenLifetime: rapid.Int64Range(-1, 9000).Draw(d.T, "lifetime")}}}
	case 7, 8:
		return &command.PutClient{Expect: d.generation(), Client: &state.Client{Tenant: tenant, Id: id, Disabled: d.flag("disabled"),
			Secrets: make([]*state.SecretHash, rapid.IntRange(0, 1).Draw(d.T, "secrets"))}}
	case 9:
		return &command.DeleteClient{Tenant: tenant, Id: id, Expect: d.generation()}
	case 10:
		return &command.IssueOpaque{Hash: digest(d.pick("token", "1", "2", "3")), ClientGeneration: d.generation(), TenantGeneration: 1,
			Token: &state.OpaqueToken{Tenant: tenant, Id: id, ClientId: d.id(), ExpiresAt: d.end()}}
	case 11, 12:
		return &command.Revoke{Tenant: tenant, Issuer: d.pick("issuer", "", "", "https://other"), TargetKind: d.pick("kind of target", "token", "client", "key", "subject", "no such"),
			Target: id, IssuedBefore: max(0, d.end()), ExpiresAt: d.end()}
	case 13, 14:
		return &command.Consume{Tenant: tenant, ValueKind: d.pick("value kind", "code", "jti"), Id: id, ExpiresAt: d.end()}
	case 15:
		return &command.PutSigningKey{Key: signingKey(id, d.pick("alg", "ES256", "EdDSA")), Expect: d.generation() % 3}
	case 16:
		return &command.RotateSigningKey{Tenant: tenant, Alg: "ES256", To: id, RevokeOld: d.flag("revoke old"), LongestLifetime: rapid.Int64Range(-1, 60).Draw(d.T, "longest")}
	case 17:
		return &command.DropSigningKey{Tenant: tenant, Id: id}
	case 18:
		return &command.PutClusterKey{NewVersion: d.flag("new"), Key: &state.ClusterKey{Name: id, Version: uint32(d.generation() % 3), Sealed: []byte(id)}}
	case 19:
		return d.member(id)
	case 20:
		return &command.PutGateway{Gateway: &state.Gateway{Id: id, Credential: digest(d.pick("credential", "1", "2"))}}
	case 21:
		return &command.DeleteGateway{Id: id}
	case 22:
		return &command.PutAdminToken{Hash: digest(id), Token: &state.AdminToken{Id: id}}
	case 33, 34, 35, 36:
		return d.login(tenant)
	case 24, 25, 26:
		return d.grant(tenant, id)
	case 39, 40, 41, 42:
		return d.waiting(tenant, id)
	case 27:
		u := user(d.pick("user id", "u", "u1"), d.pick("user name", "alice", "bob"))
		u.Tenant, u.Disabled = tenant, d.flag("disabled")
		return &command.PutUser{User: u, Expect: d.generation(), EndLogins: d.flag("end logins"), RevokeUntil: max(0, d.end()>>12)}
	case 28:
		if d.flag("delete") {
			return &command.DeleteUser{Tenant: tenant, Id: "u", Expect: d.generation() % 2}
		}
		return attempt(d.pick("user id", "u", "u1"), d.flag("ok"))
	case 29, 30, 31:
		return d.registry(tenant, id)
	case 32:
		return d.registration(tenant, id)
	case 37, 38:
		return d.issuer(tenant)
	default:
		return &command.Expire{UpTo: rapid.Int64Range(-1, t0+500_000).Draw(d.T, "up to"), Limit: rapid.Uint32Range(0, 4).Draw(d.T, "limit")}
	}
}

func (d drawn) registration(tenant, id string) command.Command {
	token, hash := d.pick("initial token", "1", "2"), digest(d.pick("initial token hash", "1", "1", "2"))
	switch rapid.IntRange(0, 5).Draw(d.T, "registration command") {
	case 0:
		return &command.DeleteInitialAccessToken{Tenant: tenant, Id: token}
	case 1, 2:
		return &command.PutInitialAccessToken{Token: &state.InitialAccessToken{Tenant: tenant, Id: token, Hash: hash,
			ExpiresAt: d.end(), UsesLeft: rapid.Uint32Range(0, 2).Draw(d.T, "uses"), Unlimited: d.flag("unlimited")}}
	case 3:
		return &command.UseClient{Tenant: tenant, Id: id}
	default:
		return &command.RegisterClient{Token: token, Hash: hash, Limit: rapid.Uint64Range(0, 2).Draw(d.T, "limit"),
			Client: &state.Client{Tenant: tenant, Id: id, SelfRegistered: true, Disabled: d.flag("disabled"), UnusedUntil: d.end()}}
	}
}

func (d drawn) issuer(tenant string) command.Command {
	iss := d.pick("trusted issuer", "https://a", "https://b", "")
	if d.flag("no longer trusted") {
		return &command.DeleteTrustedIssuer{Tenant: tenant, Issuer: iss, Expect: d.generation() % 2}
	}
	return &command.PutTrustedIssuer{Expect: d.generation(), Issuer: &state.TrustedIssuer{Tenant: tenant, Issuer: iss, Disabled: d.flag("disabled"),
		MaxLife: rapid.Int64Range(-1, 600).Draw(d.T, "max life")}}
}

func (d drawn) grant(tenant, id string) command.Command {
	decided := &command.Decided{Client: d.generation(), Tenant: 1, Issuer: rapid.Uint64Range(0, 1).Draw(d.T, "issuer's generation") * d.generation()}
	family := d.pick("family", "g1", "g2")
	token := func() []byte { return digest(d.pick("refresh token", "1", "2", "3")) }
	switch rapid.IntRange(0, 3).Draw(d.T, "grant command") {
	case 0:
		return &command.EndGrant{Tenant: tenant, ClientId: id, Grant: family}
	case 1:
		return &command.RotateRefresh{Tenant: tenant, Family: family, Presented: token(), Next: token(), Successor: []byte("s"),
			Grace: rapid.Int64Range(-1, 60_000).Draw(d.T, "grace"), ExpiresAt: d.end(), Decided: decided}
	default:
		c := &command.Redeem{ValueKind: d.pick("value kind", "", "code"), ValueId: id, ValueExpiresAt: d.end(), RevokeOnReuse: d.flag("revoke"), Decided: decided,
			Authorization: &state.Authorization{Tenant: tenant, ClientId: id, Grant: family, User: d.pick("user", "", "u"), Sector: d.pick("sector", "", "s"), Subject: "u", Issuer: d.pick("vouched", "", "https://a")}}
		if d.flag("refresh") {
			c.Family = &state.RefreshFamily{Id: family, Hash: token(), ExpiresAt: d.end(), EndsAt: max(0, d.end()), Offline: d.flag("offline")}
		}
		return c
	}
}

func (d drawn) registry(tenant, id string) command.Command {
	names := func(label string) []string {
		return rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 2).Draw(d.T, label)
	}
	switch rapid.IntRange(0, 7).Draw(d.T, "registry command") {
	case 0, 1:
		return &command.PutRole{Role: &state.Role{Tenant: tenant, Name: id}, Expect: d.generation()}
	case 2:
		return &command.DeleteRole{Tenant: tenant, Name: id, Expect: d.generation(), Force: d.flag("force")}
	case 3:
		return &command.PutGroup{Group: &state.Group{Tenant: tenant, Name: id, Roles: names("roles")}, Expect: d.generation()}
	case 4:
		return &command.DeleteGroup{Tenant: tenant, Name: id, Expect: d.generation()}
	case 5, 6:
		return &command.PutScope{Scope: &state.Scope{Tenant: tenant, Name: id, Roles: names("roles"), Includes: names("includes")}, Expect: d.generation()}
	default:
		return &command.DeleteScope{Tenant: tenant, Name: id, Expect: d.generation()}
	}
}

// waiting draws what changes requests that wait for a user.
func (d drawn) waiting(tenant, id string) command.Command {
	hash := d.pick("waiting", "w1", "w2")
	a := allowed(d.pick("family", "g1", "g2"))
	a.Tenant, a.ClientId, a.User, a.Session = tenant, id, d.pick("owner", "a", "b", "u"), d.pick("login id", "l1", "l2")
	if d.flag("deny") {
		a = nil
	}
	switch rapid.IntRange(0, 5).Draw(d.T, "waiting command") {
	case 0:
		c := startDevice(hash, d.pick("user code", "B", "C", ""))
		c.Request.Tenant, c.Request.ClientId, c.Request.ClientGeneration, c.Request.ExpiresAt = tenant, id, d.generation(), d.end()
		return c
	case 1:
		return &command.DecideDevice{Tenant: tenant, Hash: digest(hash), Authorization: a}
	case 2:
		return &command.PollDevice{Tenant: tenant, Hash: digest(hash), Node: id, Quick: d.flag("quick")}
	case 3:
		c := startBackchannel(hash)
		c.Request.Tenant, c.Request.ClientId, c.Request.ClientGeneration, c.Request.ExpiresAt = tenant, id, d.generation(), d.end()
		c.Request.User = d.pick("owner", "u", "u1")
		return c
	case 4:
		return &command.DecideBackchannel{Tenant: tenant, User: d.pick("owner", "u", "u1"), Hash: digest(hash), Authorization: a}
	default:
		return &command.PollBackchannel{Tenant: tenant, Hash: digest(hash), Node: id, Quick: d.flag("quick")}
	}
}

// login draws what changes sessions, consents and credentials.
func (d drawn) login(tenant string) command.Command {
	id, owner := d.pick("login id", "l1", "l2"), d.pick("owner", "a", "b", "u")
	switch rapid.IntRange(0, 6).Draw(d.T, "login command") {
	case 0:
		m := session(id, d.pick("secret", "1", "2"))
		m.Tenant, m.User, m.ExpiresAt = tenant, owner, d.end()
		return &command.PutSession{Session: m, Expect: d.generation(), UserGeneration: d.generation()}
	case 1:
		return &command.EndSession{Tenant: tenant, Id: id}
	case 2:
		return &command.PutConsent{Consent: &state.Consent{Tenant: tenant, User: owner, ClientId: d.id(), Scopes: []string{"read"}}, Expect: d.generation()}
	case 3:
		return &command.DeleteConsent{Tenant: tenant, User: owner, ClientId: d.id(), Families: []string{"g1", "g2"}}
	case 4:
		m := credential(owner, id, d.pick("kind of credential", "totp", "passkey", "recovery", "no such"))
		m.Tenant = tenant
		return &command.PutCredential{Credential: m, Replaces: d.pick("replaces", "", "", "l1", "l2"), Challenge: d.pick("challenge", "", "c1"), ChallengeEndsAt: d.end(), First: d.flag("first")}
	case 5:
		return &command.DeleteCredential{Tenant: tenant, User: owner, Id: id}
	default:
		return &command.UseCredential{
			Tenant: tenant, User: owner, Id: id, Counter: d.generation(), Public: []byte("{}"),
			Challenge: d.pick("challenge", "", "c1"), ChallengeEndsAt: d.end(), Attempts: d.pick("attempts", "", "factor"),
		}
	}
}

func (d drawn) member(id string) command.Command {
	n := &state.Node{Id: id, PublicKey: digest(d.pick("node key", "1", "2")), NonVoter: d.flag("non-voter")}
	switch rapid.IntRange(0, 3).Draw(d.T, "member command") {
	case 0:
		return &command.PutJoinToken{Hash: digest(d.pick("join token", "1", "2")), Token: &state.JoinToken{ExpiresAt: t0 + rapid.Int64Range(-1, 300_000).Draw(d.T, "ends"), NonVoter: d.flag("non-voters only")}}
	case 1:
		return &command.Join{Hash: digest(d.pick("join token", "1", "2")), Node: n}
	case 2:
		return &command.PutNode{Node: n}
	default:
		return &command.RemoveNode{Id: id}
	}
}

// entry draws the bytes of one entry: the leader's clock may jump, keys and
// bodies come again, the epoch may be an old one.
func (d drawn) entry(t testing.TB, epoch uint64) []byte {
	h := command.Header{
		Stamp:   t0 + rapid.OneOf(rapid.Int64Range(0, 200_000), rapid.SampledFrom([]int64{-t0, -1 << 62, 1<<63 - 1 - t0})).Draw(d.T, "stamp"),
		Elapsed: rapid.SampledFrom([]uint64{0, 5, 1000, 1<<64 - 1}).Draw(d.T, "elapsed"),
		Epoch:   epoch,
	}
	if rapid.IntRange(0, 9).Draw(d.T, "old epoch") == 0 {
		h.Epoch--
	}
	var envelopes [][]byte
	for range rapid.IntRange(1, 6).Draw(d.T, "commands") {
		envelopes = append(envelopes, encoded(t, d.command(),
			key(fmt.Sprint(rapid.IntRange(0, 30).Draw(d.T, "key"))), [8]byte{rapid.ByteRange(0, 1).Draw(d.T, "body")}, d.flag("remember")))
	}
	return entry(h, envelopes...)
}

// first is an entry that makes a cluster worth testing.
func first(t testing.TB) []byte {
	return entry(command.Header{Stamp: t0}, encoded(t, bootstrap(), key("boot"), [8]byte{}, false))
}

// inMemory opens a node whose store is in memory; only CURRENT is on disk.
func inMemory(rt *rapid.T, t testing.TB) *node {
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		rt.Fatal(err)
	}
	o := small()
	o.FS = vfs.NewMem()
	n := &node{t: t, dir: dir, opts: o, now: t0}
	if err := n.open(); err != nil {
		rt.Fatal(err)
	}
	rt.Cleanup(func() { _ = n.Kill() })
	return n
}

// TestEqualEntriesGiveEqualStates: two nodes that get the same entries have the
// same results, chain, counters and checksum (I4, C6); their memory is what a
// fresh start would read from the store (R20, S11); the clock, the head and the
// epoch never go back (R14, I5); a snapshot restored on a third is the same.
func TestEqualEntriesGiveEqualStates(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		a, b := inMemory(rt, t), inMemory(rt, t)
		a.raw(first(t))
		b.raw(first(t))
		for range rapid.IntRange(1, 12).Draw(rt, "entries") {
			before := a.View()
			data := drawn{rt}.entry(t, before.Epoch())
			ra, rb := a.raw(data), b.raw(bytes.Clone(data))
			if !slices.Equal(ra, rb) {
				rt.Fatalf("results %v and %v", ra, rb)
			}
			if a.View().Applied() != b.View().Applied() || a.View().Counters() != b.View().Counters() {
				rt.Fatalf("the nodes part at entry %d", a.index)
			}
			if err := a.View().CheckMemory(); err != nil {
				rt.Fatal(err)
			}
			after := a.View()
			if after.Clock() < before.Clock() || after.Head() < before.Head() || after.Epoch() < before.Epoch() || after.Counters().Floor > after.Head() {
				rt.Fatalf("counters went from %+v to %+v", before.Counters(), after.Counters())
			}
			seqs(rt, ra, before.Head())
		}
		if a.sum() != b.sum() {
			rt.Fatal("the checksums differ")
		}
		checkKeys(rt, a.View())
		c := inMemory(rt, t)
		c.mustRestore(bytes.NewReader(a.snapshot()))
		if c.sum() != a.sum() || c.View().Applied() != a.View().Applied() {
			rt.Fatal("the restored state is another")
		}
	})
}

// seqs checks that an entry's new seqs rise.
func seqs(rt *rapid.T, results []command.Result, head uint64) {
	for _, r := range results {
		if r.Head < head {
			rt.Fatalf("head fell from %d to %d", head, r.Head)
		}
		if r.Seq > r.Head {
			rt.Fatalf("seq %d above the head %d", r.Seq, r.Head)
		}
		head = r.Head
	}
}

// checkKeys: of each tenant and algorithm exactly one key signs, once there is
// any, and at most one comes next (Y1).
func checkKeys(rt *rapid.T, v *state.View) {
	count := map[string]int{}
	for _, k := range v.SigningKeys("") {
		count[k.GetTenant()+" "+k.GetAlg()+" "+k.GetStatus()]++
		count[k.GetTenant()+" "+k.GetAlg()+" "+statusActive] += 0
	}
	for name, n := range count {
		if strings.HasSuffix(name, statusActive) && n != 1 || strings.HasSuffix(name, statusNext) && n > 1 {
			rt.Fatalf("%d signing keys are %s", n, name)
		}
	}
}

// TestReplayAfterACrash: a node is killed without a flush at any entry, once or
// more, is given the log again from the first entry on, and ends where a node
// that never fell ends (R7, K2).
func TestReplayAfterACrash(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		steady, falling := inMemory(rt, t), inMemory(rt, t)
		log := [][]byte{first(t)}
		steady.raw(log[0])
		falling.raw(log[0])
		for range rapid.IntRange(1, 12).Draw(rt, "entries") {
			data := drawn{rt}.entry(t, steady.View().Epoch())
			log = append(log, data)
			steady.raw(data)
			falling.raw(data)
			switch rapid.IntRange(0, 5).Draw(rt, "what happens") {
			case 0:
				if err := falling.Flush(); err != nil {
					rt.Fatal(err)
				}
			case 1:
				if err := falling.Kill(); err != nil {
					rt.Fatal(err)
				}
				if err := falling.open(); err != nil {
					rt.Fatal(err)
				}
				for i, again := range log {
					falling.Apply(uint64(i+1), 1, again)
				}
				falling.index = uint64(len(log))
			}
			if err := falling.haltedBy(); err != nil {
				rt.Fatal(err)
			}
			if falling.View().Applied() != steady.View().Applied() {
				rt.Fatalf("entry %d: position %+v after the replay, want %+v", len(log), falling.View().Applied(), steady.View().Applied())
			}
		}
		if err := falling.View().CheckMemory(); err != nil {
			rt.Fatal(err)
		}
		if falling.sum() != steady.sum() {
			rt.Fatal("the checksums differ")
		}
	})
}

// TestPowerLoss: what a crash leaves on the disk opens at some entry that was
// applied, not below the last flush, and the log brings it to the same chain.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	o := small()
	o.FS = disk
	n := openIn(t, t.TempDir(), o)
	log := [][]byte{first(t)}
	n.raw(log[0])
	flushed := uint64(0)
	for i := range 40 {
		data := entry(n.header(), encoded(t, &command.Consume{Tenant: "default", ValueKind: "code", Id: fmt.Sprint(i), ExpiresAt: seconds(500)}, key(fmt.Sprint(i)), [8]byte{}, false))
		log = append(log, data)
		n.raw(data)
		if i%7 == 3 {
			if err := n.Flush(); err != nil {
				t.Fatal(err)
			}
			flushed = n.index
		}
		if i%5 != 3 {
			continue
		}
		o.FS = disk.CrashClone(vfs.CrashCloneCfg{})
		again := openIn(t, n.dir, o) // CURRENT is on the real disk and stays
		if again.index < flushed {
			t.Fatalf("opens at entry %d, though %d was flushed", again.index, flushed)
		}
		for j, data := range log {
			again.Apply(uint64(j+1), 1, data)
		}
		if err := again.haltedBy(); err != nil {
			t.Fatal(err)
		}
		if again.View().Applied() != n.View().Applied() || again.sum() != n.sum() {
			t.Fatalf("after the power loss at entry %d the replay ends elsewhere", n.index)
		}
	}
}
