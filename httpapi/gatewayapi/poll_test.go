package gatewayapi_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/httpapi/gatewayapi"
	"github.com/keyraft/keyraft/storage"
	"github.com/keyraft/keyraft/tokens"
)

const polling = "/gateway/v1/revocations"

func delta(t testing.TB, a answer) *wire.Delta {
	t.Helper()
	if a.status != http.StatusOK {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	parse := wire.ParseJSON
	if a.header.Get("Content-Type") == wire.TypeProto {
		parse = wire.ParseProto
	}
	d, err := parse(a.body)
	if err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return d
}

func TestDeltaHoldsTheMembersOfTheContract(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{})
	cred := n.gateway("g1")
	seq := n.revoke("default", "c1")

	a := n.get(cred, polling+"?since=0")
	d := a.object(t)
	if d["epoch"] != 1.0 || d["head"] != float64(seq) || d["truncated"] != false {
		t.Errorf("delta %s", a.body)
	}
	items := d["items"].([]any)
	last := items[len(items)-1].(map[string]any)
	for name, want := range map[string]any{"seq": float64(seq), "tenant": "default", "issuer": issuer, "kind": "client", "target": "c1", "issued_before": 0.0} {
		if last[name] != want {
			t.Errorf("%s is %v, want %v", name, last[name], want)
		}
	}
	if last["expires_at"].(float64) < float64(time.Now().Unix()) {
		t.Errorf("expires_at %v", last["expires_at"])
	}
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", a.header)
	}
	compact := delta(t, n.get(cred, polling+"?since=0&epoch=1", "Accept", wire.TypeProto))
	if got := compact.Items[len(compact.Items)-1]; got.Seq != seq || got.Issuer != "" || got.Target != "c1" {
		t.Errorf("the compact form's last item is %+v", got)
	}
	if empty := delta(t, n.get(cred, fmt.Sprintf("%s?since=%d", polling, seq))); len(empty.Items) != 0 || empty.Head != seq {
		t.Errorf("at the head: %+v", empty)
	}
	if all := delta(t, n.get(cred, "/gateway/v1/events?since=0")); len(all.Items) != len(items) {
		t.Errorf("events has %d items, revocations %d", len(all.Items), len(items))
	}
	if some := delta(t, n.get(cred, polling+"?since=0&kinds=token,subject")); len(some.Items) != 0 || some.Head != seq {
		t.Errorf("kinds that nothing is of: %+v", some)
	}
}

// TestRestoreWindowTravels: a restore's blanket revocation says which tokens it means.
func TestRestoreWindowTravels(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{})
	cred := n.gateway("g1")
	backup := n.backup()
	n.revoke("default", "c1")
	head := n.fsm.View().Head()
	n.restore(backup)

	for _, accept := range []string{wire.TypeJSON, wire.TypeProto} {
		d := delta(t, n.get(cred, fmt.Sprintf("%s?since=%d", polling, head), "Accept", accept))
		found := false
		for _, e := range d.Items {
			if e.Kind == "keymanager" {
				found = e.IssuedAfter > 0
			}
		}
		if d.Epoch != 2 || !found {
			t.Errorf("%s: the blanket revocation and its window are missing in %+v", accept, d)
		}
	}
}

func (n *node) backup() []byte {
	n.t.Helper()
	s, err := n.fsm.Snapshot(time.Now().UnixMilli())
	if err != nil {
		n.t.Fatal(err)
	}
	defer s.Release()
	var out bytes.Buffer
	if _, err := s.WriteTo(&out); err != nil {
		n.t.Fatal(err)
	}
	return out.Bytes()
}

// restore replaces the state as a cluster does (R15).
func (n *node) restore(backup []byte) {
	n.t.Helper()
	applying.Lock()
	defer applying.Unlock()
	var out bytes.Buffer
	_, err := fsm.Rewrite(bytes.NewReader(backup), &out, filepath.Join(n.t.TempDir(), "scratch"), storage.Options{}, fsm.Plan{
		Now: n.fsm.View(), Head: n.fsm.View().Head(), Index: n.index + 1, Clock: time.Now().UnixMilli(),
	})
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.fsm.Restore(&out); err != nil {
		n.t.Fatal(err)
	}
	n.index = n.fsm.View().Index()
}

// TestSinceIsStrict is GW-02: syntax is 400, what lies above the head is 409 by name,
// never an empty 200.
func TestSinceIsStrict(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{})
	cred := n.gateway("g1")
	n.revoke("default", "c1")
	for _, tt := range []struct {
		query, code string
		status      int
	}{
		{"", "invalid_request", 400}, {"since=", "invalid_request", 400}, {"since=-1", "invalid_request", 400}, {"since=1e3", "invalid_request", 400},
		{"since=0x10", "invalid_request", 400}, {"since=%2B5", "invalid_request", 400}, {"since=05", "invalid_request", 400}, {"since=1.0", "invalid_request", 400},
		{"since=1&since=2", "invalid_request", 400}, {"since=18446744073709551616", "invalid_request", 400}, {"since=9223372036854775808", "invalid_request", 400},
		{"since=NaN", "invalid_request", 400}, {"since=%d9%a1", "invalid_request", 400},
		{"since=9223372036854775807", "ahead", 409}, {"since=99", "ahead", 409}, {"since=99&wait=30s", "ahead", 409},
		{"since=0&epoch=7", "epoch", 409}, {"since=0&epoch=0", "epoch", 409}, {"since=0&epoch=x", "invalid_request", 400},
		{"since=0&instance=a%20b", "invalid_request", 400}, {"since=0&kinds=tokens", "invalid_request", 400}, {"since=0&wait=abc", "invalid_request", 400},
	} {
		a := n.get(cred, polling+"?"+tt.query)
		p := a.object(t)
		if a.status != tt.status || p["code"] != tt.code || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%q: status %d, %s", tt.query, a.status, a.body)
		}
		if tt.status == 409 && (p["epoch"] != 1.0 || p["head"] != float64(n.fsm.View().Head())) {
			t.Errorf("%q: no position in %s", tt.query, a.body)
		}
		if tt.status == 409 {
			if r, err := wire.ParseRefusal(a.body); err != nil || r.Code != tt.code {
				t.Errorf("%q: the SDK reads %+v, %v", tt.query, r, err)
			}
		}
	}
}

// TestFault_G1: a node that is behind the asker asks the leader, and says so when it
// can't.
func TestFault_G1(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{})
	cred := n.gateway("g1")
	lag := n.fsm.View()
	n.lagging.Store(lag)
	seq := n.revoke("default", "c1")
	if d := delta(t, n.get(cred, fmt.Sprintf("%s?since=%d", polling, seq))); d.Head != seq {
		t.Errorf("after a read index the head is %d, want %d", d.Head, seq)
	}
	n.lagging.Store(lag)
	n.noLeader.Store(true)
	a := n.get(cred, fmt.Sprintf("%s?since=%d", polling, seq))
	if p := a.object(t); a.status != 409 || p["code"] != "behind" {
		t.Errorf("without a leader: %d %s", a.status, a.body)
	}
}

// TestFault_G2: without a proof since its start a node answers 409, not an empty delta.
func TestFault_G2(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{})
	cred := n.gateway("g1")
	n.unproven.Store(true)
	n.noLeader.Store(true)
	a := n.get(cred, polling+"?since=0")
	if p := a.object(t); a.status != 409 || p["code"] != "behind" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := n.get(cred, "/gateway/v1/jwks"); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("jwks: %d %s", a.status, a.body)
	}
	if a := n.get("somebody-elses-credential", polling+"?since=0"); a.status != 503 {
		t.Errorf("a credential that can't be looked up: %d, want 503 and no refusal", a.status)
	}
}

// TestFault_G4: below the floor is 410 by name, exactly at it a delta, another epoch
// 409 with the current one (GW-03).
func TestFault_G4(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{})
	cred := n.gateway("g1")
	short := n.must(&command.Revoke{Tenant: "default", TargetKind: "token", Target: "t1", ExpiresAt: time.Now().Unix() + 1}).Seq
	last := n.revoke("default", "c1")
	until(t, "the first revocation to expire", func() bool {
		n.must(&command.Expire{UpTo: time.Now().Add(3 * time.Minute).UnixMilli(), Limit: 100})
		_ = n.must(&command.ClockAdvance{To: n.fsm.View().Clock() + 60_000})
		return n.fsm.View().Counters().Floor >= short
	})
	floor := n.fsm.View().Counters().Floor
	a := n.get(cred, fmt.Sprintf("%s?since=%d", polling, floor-1))
	if p := a.object(t); a.status != 410 || p["code"] != "compacted" || p["snapshot"] != "/gateway/v1/revocations/snapshot" {
		t.Errorf("below the floor: %d %s", a.status, a.body)
	}
	if d := delta(t, n.get(cred, fmt.Sprintf("%s?since=%d", polling, floor))); len(d.Items) != 1 || d.Items[0].Seq != last {
		t.Errorf("at the floor: %+v", d)
	}
	backup := n.backup()
	n.restore(backup)
	a = n.get(cred, fmt.Sprintf("%s?since=%d&epoch=1", polling, last))
	if p := a.object(t); a.status != 409 || p["code"] != "epoch" || p["epoch"] != 2.0 {
		t.Errorf("of the epoch before: %d %s", a.status, a.body)
	}
}

func TestLongPollWakesAtTheRevocation(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{})
	cred := n.gateway("g1")
	head := n.fsm.View().Head()
	got := make(chan answer, 1)
	go func() {
		got <- n.get(cred, fmt.Sprintf("%s?since=%d&wait=30s&instance=i1", polling, head))
	}()
	until(t, "the poll to wait", func() bool { return len(n.pollers.Instances(context.Background())) == 1 })
	began := time.Now()
	seq := n.revoke("default", "c1")
	d := delta(t, <-got)
	if len(d.Items) != 1 || d.Items[0].Seq != seq || time.Since(began) > 2*time.Second {
		t.Errorf("after %v: %+v", time.Since(began), d)
	}
	began = time.Now()
	if d := delta(t, n.get(cred, fmt.Sprintf("%s?since=%d&wait=50ms", polling, seq))); len(d.Items) != 0 || d.Head != seq || time.Since(began) > 5*time.Second {
		t.Errorf("at the end of the wait: %+v", d)
	}
}

// TestLongPollLooksAgainBeforeItAnswers: what was proved when the wait began is no
// proof when it ends (I7).
func TestLongPollLooksAgainBeforeItAnswers(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{})
	cred := n.gateway("g1")
	got := make(chan answer, 1)
	go func() {
		got <- n.get(cred, fmt.Sprintf("%s?since=%d&wait=300ms&instance=i1", polling, n.fsm.View().Head()))
	}()
	until(t, "the poll to wait", func() bool { return len(n.pollers.Instances(context.Background())) == 1 })
	n.unproven.Store(true)
	n.noLeader.Store(true)
	if a := <-got; a.status != 409 || a.object(t)["code"] != "behind" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestFault_G12: a credential that was taken back ends its long-poll within 5 s.
func TestFault_G12(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{})
	cred, other := n.gateway("g1"), n.gateway("g2")
	var wg sync.WaitGroup
	got, kept := make(chan answer, 1), make(chan answer, 1)
	head := n.fsm.View().Head()
	wg.Go(func() { got <- n.get(cred, fmt.Sprintf("%s?since=%d&wait=60s&instance=i1", polling, head)) })
	wg.Go(func() { kept <- n.get(other, fmt.Sprintf("%s?since=%d&wait=60s&instance=i2", polling, head)) })
	until(t, "both to wait", func() bool { return len(n.pollers.Instances(context.Background())) == 2 })
	began := time.Now()
	n.must(&command.DeleteGateway{Id: "g1"})
	a := <-got
	if a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), `error="invalid_token"`) || time.Since(began) > 5*time.Second {
		t.Errorf("after %v: %d %s", time.Since(began), a.status, a.body)
	}
	n.revoke("default", "c1")
	if a := <-kept; a.status != 200 {
		t.Errorf("another gateway's poll: %d %s", a.status, a.body)
	}
	wg.Wait()
	if a := n.get(cred, polling+"?since=0"); a.status != 401 {
		t.Errorf("the deleted credential: %d", a.status)
	}
}

func TestCredentialsAreAskedFor(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{})
	cred := n.gateway("g1")
	lag := n.fsm.View()
	for _, path := range []string{polling + "?since=0", "/gateway/v1/events?since=0", "/gateway/v1/revocations/snapshot", "/gateway/v1/jwks", "/gateway/v1/members", "/gateway/v1/key-managers", "/gateway/v1/apis"} {
		if a := n.get(cred, path); a.status != 200 {
			t.Errorf("%s with the credential: %d %s", path, a.status, a.body)
		}
		if a := n.get(adminToken, path); a.status != 200 {
			t.Errorf("%s with the admin token in --dev: %d", path, a.status)
		}
		for _, token := range []string{"", "wrong-credential"} {
			if a := n.get(token, path); a.status != 401 || a.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s with %q: %d", path, token, a.status)
			}
		}
		if a := n.get("", path, "Authorization", "Basic dXNlcjpwdw=="); a.status != 401 {
			t.Errorf("%s with Basic: %d", path, a.status)
		}
	}
	n.lagging.Store(lag)
	if a := n.get(n.gateway("g2"), polling+"?since=0"); a.status != 200 {
		t.Errorf("a credential that this node has not applied yet: %d, want it looked up once more", a.status)
	}
	strict := start(newWorld(t), options{deps: func(d *gatewayapi.Deps) { d.Operators = false }})
	if a := strict.get(adminToken, polling+"?since=0"); a.status != 401 {
		t.Errorf("an admin token outside of --dev: %d, want 401", a.status)
	}
}

// TestTenantsAreKeptApart is GW-01: a credential of one tenant gets nothing of another.
func TestTenantsAreKeptApart(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{})
	n.tenant("acme")
	cred := n.gateway("g1", "acme")
	n.revoke("default", "theirs")
	seq := n.revoke("acme", "ours")
	n.revoke("default", "theirs-too")

	for _, path := range []string{polling, "/gateway/v1/events"} {
		d := delta(t, n.get(cred, path+"?since=0"))
		if len(d.Items) != 1 || d.Items[0].Seq != seq || d.Items[0].Issuer != issuer+"/t/acme" || d.Head != n.fsm.View().Head() {
			t.Errorf("%s: %+v", path, d)
		}
	}
	for _, path := range []string{"/gateway/v1/jwks", "/gateway/v1/key-managers", "/gateway/v1/apis"} {
		if a := n.get(cred, path); a.status != 200 || bytes.Contains(a.body, []byte(`"default"`)) {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	count := 0
	a := n.get(cred, "/gateway/v1/revocations/snapshot")
	if _, err := wire.DecodeSnapshot(bytes.NewReader(a.body), func(e *wire.Event) error {
		if count++; e.Tenant != "acme" {
			t.Errorf("the snapshot holds %+v", e)
		}
		return nil
	}); err != nil || count != 1 {
		t.Errorf("snapshot: %d items, %v", count, err)
	}
}

func TestSnapshotIsWhole(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{})
	cred := n.gateway("g1")
	want := map[uint64]string{}
	for i := range 500 {
		target := fmt.Sprintf("c%d", i)
		want[n.revoke("default", target)] = target
	}
	a := n.get(cred, "/gateway/v1/revocations/snapshot")
	if a.status != 200 || a.header.Get("Content-Type") != wire.TypeSnapshot {
		t.Fatalf("%d %v", a.status, a.header)
	}
	at, err := wire.DecodeSnapshot(bytes.NewReader(a.body), func(e *wire.Event) error {
		if want[e.Seq] != e.Target || e.Kind != "client" {
			t.Errorf("item %+v", e)
		}
		delete(want, e.Seq)
		return nil
	})
	if err != nil || len(want) != 0 || at.Cluster != "test" || at.Epoch != 1 || at.Head != n.fsm.View().Head() {
		t.Errorf("%+v, %d left out, %v", at, len(want), err)
	}
}

// TestSnapshotOfALaggingViewLeavesNothingOut: a revocation that was widened since the
// view lies above that view's head under another seq; the snapshot has it, and names a
// head that it is whole at, and the clock by which others have ended.
func TestSnapshotOfALaggingViewLeavesNothingOut(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{})
	cred := n.gateway("g1")
	n.revoke("default", "c1")
	n.revoke("default", "c2")
	lag := n.fsm.View()
	n.lagging.Store(lag)
	n.revoke("default", "c1")
	a := n.get(cred, "/gateway/v1/revocations/snapshot")
	var targets []string
	at, err := wire.DecodeSnapshot(bytes.NewReader(a.body), func(e *wire.Event) error {
		targets = append(targets, e.Target)
		return nil
	})
	if err != nil || strings.Join(targets, " ") != "c2 c1" || at.Head != lag.Head()+1 {
		t.Errorf("%+v holds %v (%v); the view's head is %d", at, targets, err, lag.Head())
	}
	if got, want := a.header.Get(wire.HeaderClock), fmt.Sprint(n.fsm.View().Clock()/1000); got != want {
		t.Errorf("clock %q, want %q", got, want)
	}
}

func TestPagesAreTruncatedAndGoOn(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{deps: func(d *gatewayapi.Deps) { d.PageItems = 7 }})
	cred := n.gateway("g1")
	for i := range 20 {
		n.revoke("default", fmt.Sprintf("c%d", i))
	}
	since, items, pages := uint64(0), 0, 0
	for {
		d := delta(t, n.get(cred, fmt.Sprintf("%s?since=%d", polling, since)))
		items, since = items+len(d.Items), d.Next()
		if pages++; len(d.Items) > 7 || d.Head != n.fsm.View().Head() {
			t.Fatalf("page %d: %d items, head %d", pages, len(d.Items), d.Head)
		}
		if !d.Truncated {
			break
		}
	}
	if items != 20 || pages != 3 || since != n.fsm.View().Head() {
		t.Errorf("%d items in %d pages up to %d", items, pages, since)
	}
}

// TestFloodOfPolls is GW-04: waits are clamped, and one credential has so many at once.
func TestFloodOfPolls(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{deps: func(d *gatewayapi.Deps) { d.MaxPolls = 3 }})
	cred, other := n.gateway("g1"), n.gateway("g2")
	head := n.fsm.View().Head()
	got := make(chan answer, 3)
	for i, wait := range []string{"30h", "99999999999999999999", "60"} {
		go func() {
			for { // the test's own short poll may have the last place for a moment
				if a := n.get(cred, fmt.Sprintf("%s?since=%d&wait=%s&instance=i%d", polling, head, wait, i)); a.status != 429 {
					got <- a
					return
				}
			}
		}()
	}
	until(t, "one poll too many to be refused", func() bool {
		a := n.get(cred, fmt.Sprintf("%s?since=%d&wait=1ms", polling, head))
		return a.status == 429 && a.header.Get("Retry-After") != "" && a.object(t)["code"] == "too_many_requests"
	})
	for _, wait := range []string{"-1", "-30h", "0", "0s"} {
		if a := n.get(cred, fmt.Sprintf("%s?since=%d&wait=%s", polling, head, wait)); a.status != 200 {
			t.Errorf("wait=%s: %d %s", wait, a.status, a.body)
		}
	}
	if a := n.get(other, fmt.Sprintf("%s?since=%d&wait=1ms", polling, head)); a.status != 200 {
		t.Errorf("another credential: %d", a.status)
	}
	n.revoke("default", "c1")
	for range 3 {
		if a := <-got; a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
}

func TestManyWaitersShareOneDelta(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{})
	cred := n.gateway("g1")
	head := n.fsm.View().Head()
	const waiters = 50
	got := make(chan answer, waiters)
	for i := range waiters {
		go func() {
			got <- n.get(cred, fmt.Sprintf("%s?since=%d&wait=30s&instance=i%d", polling, head, i))
		}()
	}
	until(t, "all to wait", func() bool { return len(n.pollers.Instances(context.Background())) == waiters })
	n.revoke("default", "c1")
	first := <-got
	for range waiters - 1 {
		if a := <-got; a.status != 200 || !bytes.Equal(a.body, first.body) {
			t.Errorf("another answer: %d %s", a.status, a.body)
		}
	}
}

// TestPollThroughARestore: the store is taken away under a waiting poll, which answers
// from the new one by name.
func TestPollThroughARestore(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{})
	cred := n.gateway("g1")
	backup := n.backup()
	head := n.fsm.View().Head()
	got := make(chan answer, 1)
	go func() { got <- n.get(cred, fmt.Sprintf("%s?since=%d&epoch=1&wait=30s&instance=i1", polling, head)) }()
	until(t, "the poll to wait", func() bool { return len(n.pollers.Instances(context.Background())) == 1 })
	n.restore(backup)
	if a := <-got; a.status != 409 || a.object(t)["code"] != "epoch" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestPublishedDocuments(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{})
	n.tenant("acme")
	n.tenant("new") // without keys
	for _, tenant := range []string{"default", "acme"} {
		row, err := tokens.NewSigningKey(n.ring, tenant, "ES256")
		if err != nil {
			t.Fatal(err)
		}
		n.must(&command.PutSigningKey{Key: row})
	}
	cred := n.gateway("g1")
	n.must(&command.SetIssuer{Issuer: "https://new.example"})

	keys, err := wire.ParseKeys(n.get(cred, "/gateway/v1/jwks").body)
	if err != nil || keys.Cluster != "test" || keys.Epoch != 1 || keys.Head != n.fsm.View().Head() || len(keys.Issuers) != 2 {
		t.Fatalf("keys %+v, %v", keys, err)
	}
	if i := keys.Issuers[0]; i.Tenant != "acme" || i.Issuer != "https://new.example/t/acme" || len(i.FormerIssuers) != 1 || i.FormerIssuers[0] != issuer+"/t/acme" {
		t.Errorf("issuer %+v", i)
	}
	members, err := wire.ParseMembers(n.get(cred, "/gateway/v1/members").body)
	if err != nil || members.Cluster != "test" || len(members.Items) != 1 || members.Items[0] != (wire.Member{ID: "n1", APIAddr: "127.0.0.1:9763", GossipAddr: "127.0.0.1:9767"}) {
		t.Errorf("members %+v, %v", members, err)
	}
	managers := n.get(cred, "/gateway/v1/key-managers").object(t)["items"].([]any)
	if m := managers[2].(map[string]any); len(managers) != 3 || m["name"] != "resident" || m["tenant"] != "default" || m["issuer"] != "https://new.example" || m["enabled"] != true {
		t.Errorf("key managers %v", managers)
	}
	if apis := n.get(cred, "/gateway/v1/apis").object(t)["items"].([]any); len(apis) != 0 {
		t.Errorf("apis %v", apis)
	}
	if req, err := http.NewRequest("HEAD", "http://node/gateway/v1/revocations/snapshot", nil); err == nil {
		req.Header.Set("Authorization", "Bearer "+cred)
		if resp, err := n.http.Do(req); err != nil || resp.StatusCode != 200 {
			t.Errorf("HEAD of the snapshot: %v %v", resp, err)
		}
	}
}
