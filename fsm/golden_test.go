package fsm

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// write makes the golden files that are missing. One that exists is never
// written again: if it has to change for a test to pass, old logs no longer
// replay (I8), and what is needed is a new version of the command.
var write = flag.Bool("write-golden", false, "write the golden files that are missing")

// golden is one command of each kind, each after the entries that it needs.
type golden struct {
	name  string
	after string // names of the entries before it
	make  command.Command
	rem   bool // remembered under its key
}

func goldens() []golden {
	next := signingKey("k2", "ES256")
	next.SignsFrom = t0
	disabled := client("app")
	disabled.Disabled = true
	return []golden{
		{name: "bootstrap", make: bootstrap()},
		{name: "term_start", after: "bootstrap", make: &command.TermStart{Node: "n1", Term: 3, Clock: t0, FeatureLevel: 1}},
		{name: "clock_advance", after: "bootstrap", make: &command.ClockAdvance{To: t0 + 3_600_000, Voters: []int64{t0 + 3_600_000, t0 + 3_600_010}}},
		{name: "set_feature_level", after: "bootstrap", make: &command.SetFeatureLevel{Level: 1}},
		{name: "set_issuer", after: "bootstrap", make: &command.SetIssuer{Issuer: "https://login.example", Fixed: true}},
		{name: "put_tenant", after: "bootstrap", make: &command.PutTenant{Tenant: &state.Tenant{Id: "acme", DisplayName: "Acme",
			Settings: &state.TenantSettings{SigningAlg: "EdDSA", AccessTokenLifetime: 900, NarrowScopes: true, DefaultAudience: "https://api.example"}}}, rem: true},
		{name: "put_client", after: "bootstrap", make: &command.PutClient{Client: client("app")}},
		{name: "disable_client", after: "bootstrap put_client", make: &command.PutClient{Client: disabled, Expect: 2}},
		{name: "delete_client", after: "bootstrap put_client", make: &command.DeleteClient{Tenant: "default", Id: "app", Expect: 2}},
		{name: "issue_opaque", after: "bootstrap put_client", make: &command.IssueOpaque{Hash: digest("token"), ClientGeneration: 2, TenantGeneration: 1,
			Token: &state.OpaqueToken{Tenant: "default", Id: "j1", ClientId: "app", Subject: "app", Scope: "read", Audience: []string{"https://api.example"},
				IssuedAt: seconds(0), ExpiresAt: seconds(600), Epoch: 1, Head: 0, Grant: "g1"}}},
		{name: "revoke", after: "bootstrap", make: &command.Revoke{Tenant: "default", TargetKind: "subject", Target: "alice", ExpiresAt: seconds(7200)}},
		{name: "revoke_before", after: "bootstrap revoke", make: &command.Revoke{Tenant: "default", Issuer: "https://other.example", TargetKind: "subject",
			Target: "alice", IssuedBefore: seconds(-60), ExpiresAt: seconds(7200)}},
		{name: "consume", after: "bootstrap", make: &command.Consume{Tenant: "default", ValueKind: "assertion", Id: "jti-1", ExpiresAt: seconds(300)}},
		{name: "put_signing_key", after: "bootstrap", make: &command.PutSigningKey{Key: signingKey("k1", "ES256")}},
		{name: "put_next_signing_key", after: "bootstrap put_signing_key", make: &command.PutSigningKey{Key: next}},
		{name: "rotate_signing_key", after: "bootstrap put_signing_key put_next_signing_key",
			make: &command.RotateSigningKey{Tenant: "default", Alg: "ES256", To: "k2", LongestLifetime: 7200, RevokeOld: true}},
		{name: "clock_far", after: "bootstrap", make: &command.ClockAdvance{To: t0 + 86_400_000}},
		{name: "drop_signing_key", after: "bootstrap put_signing_key put_next_signing_key rotate_signing_key clock_far",
			make: &command.DropSigningKey{Tenant: "default", Id: "k1"}},
		{name: "put_cluster_key", after: "bootstrap", make: &command.PutClusterKey{NewVersion: true,
			Key: &state.ClusterKey{Name: "hash", Version: 2, Sealed: []byte("second"), Status: "next", CreatedAt: t0}}},
		{name: "put_join_token", after: "bootstrap", make: &command.PutJoinToken{Hash: digest("join"),
			Token: &state.JoinToken{ExpiresAt: t0 + 600_500, NonVoter: true, CreatedAt: t0}}},
		{name: "join", after: "bootstrap put_join_token", make: &command.Join{Hash: digest("join"),
			Node: &state.Node{Id: "n2", ClusterAddr: "127.0.0.1:7402", NonVoter: true, PublicKey: digest("n2 key"), FeatureLevel: 1, Version: "1.0.0"}}},
		{name: "put_node", after: "bootstrap", make: &command.PutNode{Node: &state.Node{Id: "n1", ApiAddr: "127.0.0.1:8080",
			ClusterAddr: "127.0.0.1:9401", GossipAddr: "127.0.0.1:7946", PublicKey: digest("n1 key"), FeatureLevel: 1}}},
		{name: "remove_node", after: "bootstrap", make: &command.RemoveNode{Id: "n1"}},
		{name: "put_gateway", after: "bootstrap", make: &command.PutGateway{Gateway: &state.Gateway{Id: "edge-1", Name: "Edge",
			Tenants: []string{"default"}, Credential: digest("edge"), CreatedAt: t0}}},
		{name: "delete_gateway", after: "bootstrap put_gateway", make: &command.DeleteGateway{Id: "edge-1"}},
		{name: "put_admin_token", after: "bootstrap", make: &command.PutAdminToken{Hash: digest("operator"),
			Token: &state.AdminToken{Id: "op", Tenant: "default", CreatedAt: t0, ExpiresAt: t0 + 1}}},
		{name: "put_user", after: "bootstrap", make: &command.PutUser{User: user("u1", "alice")}},
		{name: "disable_user", after: "bootstrap put_client put_user redeem", make: &command.PutUser{Expect: 3, RevokeUntil: seconds(7200),
			User: &state.User{Tenant: "default", Id: "u1", Username: "Alice", Key: "alicia", Disabled: true}}},
		{name: "delete_user", after: "bootstrap put_user", make: &command.DeleteUser{Tenant: "default", Id: "u1", RevokeUntil: seconds(7200)}},
		{name: "record_attempt", after: "bootstrap put_user", make: attempt("u1", false)},
		{name: "put_role", after: "bootstrap", make: &command.PutRole{Role: &state.Role{Tenant: "default", Name: "clerk", Description: "Takes orders"}}, rem: true},
		{name: "delete_role", after: "bootstrap put_role", make: &command.DeleteRole{Tenant: "default", Name: "clerk", Expect: 2, Force: true}},
		{name: "put_group", after: "bootstrap put_role", make: &command.PutGroup{Group: &state.Group{Tenant: "default", Name: "staff", Description: "Staff", Roles: []string{"clerk"}}}},
		{name: "delete_group", after: "bootstrap put_role put_group", make: &command.DeleteGroup{Tenant: "default", Name: "staff", Expect: 3}},
		{name: "put_scope", after: "bootstrap put_role", make: &command.PutScope{Scope: &state.Scope{Tenant: "default", Name: "orders:read", DisplayName: "Read orders",
			Description: "All of them", Roles: []string{"clerk"}, Claims: []string{"department"}}}},
		{name: "put_wider_scope", after: "bootstrap put_role put_scope", make: &command.PutScope{Scope: &state.Scope{Tenant: "default", Name: "orders", Includes: []string{"orders:read"}}}},
		{name: "delete_scope", after: "bootstrap put_role put_scope", make: &command.DeleteScope{Tenant: "default", Name: "orders:read", Expect: 3}},
		{name: "put_session", after: "bootstrap put_client put_user", make: &command.PutSession{Session: session("s1", "first"), UserGeneration: 3}},
		{name: "end_session", after: "bootstrap put_client put_user put_session redeem_by_session", make: &command.EndSession{Tenant: "default", Id: "s1"}},
		{name: "put_consent", after: "bootstrap put_client put_user", make: &command.PutConsent{Consent: consent("read", "write")}},
		{name: "delete_consent", after: "bootstrap put_client put_user put_consent redeem", make: &command.DeleteConsent{Tenant: "default", User: "u1", ClientId: "app", Families: []string{"g1"}}},
		{name: "put_totp", after: "bootstrap put_user", make: &command.PutCredential{Credential: credential("u1", "t1", "totp")}},
		{name: "put_passkey", after: "bootstrap put_user", make: &command.PutCredential{Credential: credential("u1", "p1", "passkey")}},
		{name: "delete_credential", after: "bootstrap put_user put_passkey", make: &command.DeleteCredential{Tenant: "default", User: "u1", Id: "p1"}},
		{name: "use_totp", after: "bootstrap put_user put_totp", make: &command.UseCredential{Tenant: "default", User: "u1", Id: "t1", Counter: 57_000_000}},
		{name: "put_answering_passkey", after: "bootstrap put_user", make: &command.PutCredential{Credential: credential("u1", "p1", "passkey"), Challenge: "c1", ChallengeEndsAt: t0/1000 + 300}},
		{name: "use_counted_totp", after: "bootstrap put_user put_totp record_attempt", make: &command.UseCredential{Tenant: "default", User: "u1", Id: "t1", Counter: 57_000_000, Attempts: "known"}},
		{name: "use_answering_passkey", after: "bootstrap put_user put_passkey", make: &command.UseCredential{Tenant: "default", User: "u1", Id: "p1", Counter: 7, Public: []byte("{}"), Challenge: "c2", ChallengeEndsAt: t0/1000 + 300}},
		{name: "use_passkey", after: "bootstrap put_user put_passkey", make: &command.UseCredential{Tenant: "default", User: "u1", Id: "p1", Counter: 7, Public: []byte("{}")}},
		{name: "redeem_by_session", after: "bootstrap put_client put_user put_session", make: &command.Redeem{
			Authorization: &state.Authorization{Tenant: "default", ClientId: "app", Subject: "u1", User: "u1", Session: "s1", Grant: "g2"},
			Family:        &state.RefreshFamily{Id: "g2", Hash: digest("refresh of s1"), ExpiresAt: seconds(3600)},
			Decided:       &command.Decided{Client: 2, Tenant: 1, User: 3}}},
		{name: "redeem", after: "bootstrap put_client", make: &command.Redeem{
			ValueKind: "code", ValueId: "c1", ValueExpiresAt: seconds(60), RevokeOnReuse: true,
			Authorization: &state.Authorization{Tenant: "default", ClientId: "app", Subject: "u1", Scope: "openid read", AuthTime: seconds(-5), Grant: "g1", Sector: "web.example", User: "u1"},
			Family:        &state.RefreshFamily{Id: "g1", Hash: digest("refresh 1"), ExpiresAt: seconds(3600), EndsAt: seconds(7200), Offline: true},
			Decided:       &command.Decided{Client: 2, Tenant: 1}}},
		{name: "rotate_refresh", after: "bootstrap put_client redeem", make: &command.RotateRefresh{Tenant: "default", Family: "g1",
			Presented: digest("refresh 1"), Next: digest("refresh 2"), Successor: []byte("sealed"), Grace: 10_000, ExpiresAt: seconds(4000),
			Decided: &command.Decided{Client: 2, Tenant: 1}}},
		{name: "end_grant", after: "bootstrap put_client redeem", make: &command.EndGrant{Tenant: "default", ClientId: "app", Grant: "g1"}},
		{name: "start_device", after: "bootstrap put_client", make: startDevice("d1", "BCDFGHJKLM")},
		{name: "approve_device", after: "bootstrap put_client put_user put_session start_device", make: &command.DecideDevice{Tenant: "default", Hash: digest("d1"), Authorization: allowed("g1")}},
		{name: "deny_device", after: "bootstrap put_client start_device", make: &command.DecideDevice{Tenant: "default", Hash: digest("d1")}},
		{name: "poll_device", after: "bootstrap put_client start_device", make: &command.PollDevice{Tenant: "default", Hash: digest("d1"), Node: "n1"}},
		{name: "poll_device_quick", after: "bootstrap put_client start_device poll_device", make: &command.PollDevice{Tenant: "default", Hash: digest("d1"), Node: "n2", Quick: true}},
		{name: "start_backchannel", after: "bootstrap put_client put_user", make: startBackchannel("b1")},
		{name: "approve_backchannel", after: "bootstrap put_client put_user put_session start_backchannel",
			make: &command.DecideBackchannel{Tenant: "default", User: "u1", Hash: digest("b1"), Authorization: allowed("g1")}},
		{name: "deny_backchannel", after: "bootstrap put_client put_user start_backchannel", make: &command.DecideBackchannel{Tenant: "default", User: "u1", Hash: digest("b1")}},
		{name: "poll_backchannel", after: "bootstrap put_client put_user start_backchannel", make: &command.PollBackchannel{Tenant: "default", Hash: digest("b1"), Node: "n1"}},
		{name: "put_initial_access_token", after: "bootstrap", make: &command.PutInitialAccessToken{Token: &state.InitialAccessToken{
			Tenant: "default", Id: "t1", Hash: digest("initial"), HashKey: 1, ExpiresAt: seconds(600), UsesLeft: 2}}, rem: true},
		{name: "register_client", after: "bootstrap put_initial_access_token", make: &command.RegisterClient{
			Token: "t1", Hash: digest("initial"), Client: selfRegistered("own"), Limit: 10}, rem: true},
		{name: "open_registration", after: "bootstrap", make: &command.PutTenant{Expect: 1, Tenant: &state.Tenant{Id: "default",
			Settings: &state.TenantSettings{Registration: &state.RegistrationPolicy{Open: true}}}}, rem: true},
		{name: "register_without_token", after: "bootstrap open_registration", make: &command.RegisterClient{
			Client: unusedFor("own", 600), Limit: 10}, rem: true},
		{name: "use_client", after: "bootstrap open_registration register_without_token", make: &command.UseClient{Tenant: "default", Id: "own"}},
		{name: "expire_unused", after: "bootstrap open_registration register_without_token clock_far", make: &command.Expire{UpTo: t0 + 86_400_000, Limit: 100}},
		{name: "delete_initial_access_token", after: "bootstrap put_initial_access_token", make: &command.DeleteInitialAccessToken{Tenant: "default", Id: "t1"}, rem: true},
		{name: "put_trusted_issuer", after: "bootstrap", make: &command.PutTrustedIssuer{Issuer: trusted("https://idp.example", 0)}, rem: true},
		{name: "change_trusted_issuer", after: "bootstrap put_trusted_issuer", make: &command.PutTrustedIssuer{Issuer: trusted("https://idp.example", 600), Expect: 2}, rem: true},
		{name: "delete_trusted_issuer", after: "bootstrap put_trusted_issuer", make: &command.DeleteTrustedIssuer{Tenant: "default", Issuer: "https://idp.example", Expect: 2}, rem: true},
		{name: "redeem_vouched", after: "bootstrap put_client put_trusted_issuer", make: &command.Redeem{
			ValueKind: "grant assertion", ValueId: "a1", ValueExpiresAt: seconds(60),
			Authorization: &state.Authorization{Tenant: "default", ClientId: "app", Subject: "s1", Grant: "g3", Issuer: "https://idp.example",
				Attributes: []*state.Attribute{{Name: "team", Json: []byte(`"red"`)}}},
			Decided: &command.Decided{Client: 2, Tenant: 1, Issuer: 3}}},
		{name: "expire", after: "bootstrap put_client issue_opaque consume revoke clock_far", make: &command.Expire{UpTo: t0 + 86_400_000, Limit: 100}},
	}
}

func goldenFile(g golden, ext string) string {
	return filepath.Join("testdata", fmt.Sprintf("%04d_%s_v1.%s", g.make.Kind(), g.name, ext))
}

// entryOf is what a leader of the first version writes for g.
func entryOf(t *testing.T, g golden) []byte {
	t.Helper()
	epoch := uint64(1)
	if g.name == "bootstrap" {
		epoch = 0
	}
	return entry(command.Header{Stamp: t0, Elapsed: 20, Epoch: epoch}, encoded(t, g.make, key(g.name), [8]byte{1, 2, 3}, g.rem))
}

func readHex(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; a new case gets its files by go test ./fsm -run Golden -write-golden", err)
	}
	raw, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// writeNew writes a golden file unless there is one.
func writeNew(t *testing.T, path string, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if os.IsExist(err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(data)
	if closeErr := f.Close(); err != nil || closeErr != nil {
		t.Fatal(err, closeErr)
	}
}

func hexLines(raw []byte) []byte {
	var out bytes.Buffer
	for len(raw) > 0 {
		n := min(len(raw), 32)
		fmt.Fprintf(&out, "%x\n", raw[:n])
		raw = raw[n:]
	}
	return out.Bytes()
}

// TestGolden replays bytes that the first version wrote and compares every row.
func TestGolden(t *testing.T) {
	cases := goldens()
	number := map[string]int{}
	for i, g := range cases {
		number[g.name] = i
		if *write {
			writeNew(t, goldenFile(g, "entry"), hexLines(entryOf(t, g)))
		}
	}
	for _, g := range cases {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			n := fresh(t)
			for _, before := range strings.Fields(g.after) {
				b := number[before]
				if r := n.raw(readHex(t, goldenFile(cases[b], "entry"))); r[0].Reject != command.Accepted {
					t.Fatalf("%s, which must come first: %v", before, r[0].Reject)
				}
			}
			data := readHex(t, goldenFile(g, "entry"))
			if !bytes.Equal(data, entryOf(t, g)) {
				t.Errorf("this binary writes the entry otherwise:\n%x\nwant:\n%x", entryOf(t, g), data)
			}
			r := n.raw(data)
			got := fmt.Sprintf("result %x\n%s", r[0].Append(nil), n.dump())
			if *write {
				writeNew(t, goldenFile(g, "state"), []byte(got))
			}
			want, err := os.ReadFile(goldenFile(g, "state"))
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("state after replay:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// TestEveryKindHasItsGoldenPair fails for a kind, or version, that was added
// without one; and for a pair that no case reads any more.
func TestEveryKindHasItsGoldenPair(t *testing.T) {
	kinds, files := map[command.Kind]bool{}, map[string]bool{}
	for _, g := range goldens() {
		kinds[g.make.Kind()] = true
		files[goldenFile(g, "entry")], files[goldenFile(g, "state")] = true, true
	}
	for k := range command.Kind(1 << 12) {
		for version := range uint8(4) {
			if _, err := command.New(k, version); err == nil && (!kinds[k] || version != command.Version) {
				t.Errorf("kind %d version %d has no golden pair", k, version)
			}
		}
	}
	there, err := filepath.Glob("testdata/*_v*.*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range there {
		if !files[path] {
			t.Errorf("%s is read by no test", path)
		}
	}
	for path := range files {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}
