package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// TestThreeNodesAndAGateway is the story of the whole: nodes that join by token,
// tokens that every node knows, and a revocation that every gateway refuses.
func TestThreeNodesAndAGateway(t *testing.T) {
	t.Parallel()
	w, nodes := cluster(t)
	issuer := w.prepareJoin(nodes[1], "x1", "nonvoter").run() // joined through another member than the first
	w.awaitVoters(nodes[0], 3)
	all := append(nodes, issuer)
	g := w.edge("gw1", nodes)
	opaque := must(nodes[0].CreateClient(w.bound(), map[string]any{"access_token_format": "opaque"}))(t)

	t.Run("a token of each node is active at each other", func(t *testing.T) {
		defer w.during(t)()
		for _, from := range all {
			for format, c := range map[string]proc.Client{"JWT": w.client, "opaque token": opaque} {
				token := must(from.Issue(w.bound(), c, "read"))(t)
				for _, at := range all {
					if active, err := at.Active(w.bound(), c, token); err != nil || !active {
						t.Errorf("a %s of %s is active at %s: %v, %v", format, from.name, at.name, active, err)
					}
				}
				g.says(t, token, http.StatusNoContent, "")
			}
		}
	})
	t.Run("a client of one node is known at each other at once", func(t *testing.T) {
		defer w.during(t)()
		for _, from := range all {
			c := must(from.CreateClient(w.bound(), nil))(t)
			for _, at := range all {
				if _, err := at.Issue(w.bound(), c, ""); err != nil {
					t.Errorf("a client of %s at %s: %v", from.name, at.name, err)
				}
			}
		}
	})
	t.Run("revoked at a follower, receipt, refused everywhere", func(t *testing.T) {
		defer w.during(t)()
		follower := without(nodes, w.leader(nodes...))[0]
		for format, c := range map[string]proc.Client{"JWT": w.client, "opaque": opaque} {
			token, other := must(nodes[0].Issue(w.bound(), c, "read"))(t), must(nodes[0].Issue(w.bound(), c, "read"))(t)
			g.says(t, token, http.StatusNoContent, "")
			r := must(follower.Revoke(w.bound(), map[string]any{"token": token}, 5*time.Second))(t)
			if v := must(g.Validate(t.Context(), token))(t); v.Status != http.StatusUnauthorized {
				t.Errorf("%s: the gateway says %d after its receipt", format, v.Status)
			}
			if !r.Complete || len(r.Receipt) != 1 || !r.Receipt[0].OK || r.Receipt[0].Head < r.Seq || r.Seq == 0 || r.Head < r.Seq {
				t.Errorf("%s: the receipt is not whole: %+v", format, r)
			}
			g.says(t, other, http.StatusNoContent, "") // only what was named
			for _, at := range all {
				if active, err := at.Active(w.bound(), c, token); err != nil || active {
					t.Errorf("%s: still active at %s: %v, %v", format, at.name, active, err)
				}
			}
		}
	})
	t.Run("all tokens of a client, and new ones are good again", func(t *testing.T) {
		defer w.during(t)()
		c := must(nodes[0].CreateClient(w.bound(), nil))(t)
		old := must(issuer.Issue(w.bound(), c, ""))(t)
		r := must(nodes[2].Revoke(w.bound(), map[string]any{"client_id": c.ID}, 5*time.Second))(t)
		if !r.Complete {
			t.Errorf("the receipt is not whole: %+v", r)
		}
		g.says(t, old, http.StatusUnauthorized, "revoked")
		fresh := must(nodes[2].Issue(w.bound(), c, ""))(t) // in the same second, by the node that has applied it
		g.says(t, fresh, http.StatusNoContent, "")
		if active, err := nodes[0].Active(w.bound(), c, fresh); err != nil || !active {
			t.Errorf("a token minted after the revocation is active: %v, %v", active, err)
		}
	})
	t.Run("RFC 7009 reaches the gateway too", func(t *testing.T) {
		defer w.during(t)()
		token := must(nodes[1].Issue(w.bound(), w.client, ""))(t)
		if err := nodes[2].RevokeOwn(w.bound(), w.client, token); err != nil {
			t.Fatal(err)
		}
		took := w.await("the gateway's refusal", func(ctx context.Context) error {
			if v, err := g.Validate(ctx, token); err != nil || v.Status != http.StatusUnauthorized {
				return fmt.Errorf("it says %d, %v", v.Status, err)
			}
			return nil
		})
		t.Logf("refused %s after the answer", took.Round(time.Millisecond))
	})
	t.Run("a gateway that comes later knows it all", func(t *testing.T) {
		defer w.during(t)()
		token := must(nodes[0].Issue(w.bound(), w.client, ""))(t)
		must(nodes[0].Revoke(w.bound(), map[string]any{"token": token}, 0))(t)
		late := w.edge("gw2", nodes[2:])
		w.await("the late gateway's refusal", func(ctx context.Context) error { // its node may be an instant behind
			v, err := late.Validate(ctx, token)
			if err == nil && v.Reason != "revoked" {
				err = fmt.Errorf("it says %d %q", v.Status, v.Reason)
			}
			return err
		})
		late.says(t, "", http.StatusUnauthorized, "no_token")
		late.says(t, "nonsense", http.StatusUnauthorized, "malformed")
		if code := late.proc.Terminate(15 * time.Second); code != 0 {
			t.Errorf("the gateway's exit code is %d", code)
		}
	})
	t.Run("I4 and I5 hold", func(t *testing.T) {
		defer w.during(t)()
		w.equalChecksums(all...)
		for _, n := range all {
			w.gapless(n, nil)
		}
	})
}

// TestE1BadJoins: a join that can't be ends with one line that says why, and
// leaves the cluster and the folder alone.
func TestE1BadJoins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n1 := w.found("n1")
	used := must(n1.JoinToken(w.bound(), "voter", "10m"))(t)
	w.newNode("n2", []string{"--join", n1.Base, "--join-token", used}).run()
	expired := must(n1.JoinToken(w.bound(), "voter", "1s"))(t)
	mine := must(n1.JoinToken(w.bound(), "voter", "10m"))(t)
	other := newWorld(t)
	foreign := must(other.found("o1").JoinToken(w.bound(), "voter", "10m"))(t)
	<-time.After(1500 * time.Millisecond) // the token lives for a second
	for _, tt := range []struct {
		name, token, at string
		flags           []string
	}{
		{name: "a token whose time is over", token: expired, at: n1.Base},
		{name: "a token that is used up", token: used, at: n1.Base},
		{name: "no token at all", token: "krj1_nonsense", at: n1.Base},
		{name: "one byte of the token is wrong", token: flip(mine), at: n1.Base},
		{name: "the name of another member", token: mine, at: n1.Base, flags: []string{"--node-id", "n1"}},
		{name: "the token of another cluster", token: foreign, at: n1.Base},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer w.during(t)()
			dir := w.dir + "/" + strings.ReplaceAll(tt.name, " ", "-")
			got := w.cli(nil, "", append([]string{"server", "--dev", "--api-addr", "127.0.0.1:0", "--data-dir", dir, "--join", tt.at, "--join-token", tt.token}, tt.flags...)...)
			line := strings.TrimSpace(got.err)
			if got.code != 1 && got.code != 2 || !strings.Contains(line, "keyraft: ") {
				t.Errorf("exit code %d: %q", got.code, line)
			}
			if strings.Contains(line, tt.token) {
				t.Errorf("the message shows the token")
			}
			t.Log(line[strings.LastIndex(line, "keyraft: "):])
		})
	}
	members := must(n1.Members(w.bound()))(t)
	if len(members) != 2 {
		t.Errorf("the cluster has %d members now, want 2: %+v", len(members), members)
	}
}

// TestJoinThroughAnyMember: --join takes the API address of any member, also when
// the one that made the token is gone.
func TestJoinThroughAnyMember(t *testing.T) {
	t.Parallel()
	w, nodes := cluster(t)
	n4 := w.prepareJoin(nodes[0], "n4", "voter")
	n4.first[1] = nodes[1].Base // in place of the one that made the token
	nodes[0].kill()
	w.leader(nodes[1:]...)
	n4.run()
	if _, err := n4.Issue(w.bound(), w.client, ""); err != nil {
		t.Error(err)
	}
	w.await("n4 to be a member", func(ctx context.Context) error {
		members, err := nodes[1].Members(ctx)
		for _, m := range members {
			if m.ID == "n4" && m.State == "ready" {
				return nil
			}
		}
		return fmt.Errorf("members are %+v, %v", members, err)
	})
}

// flip changes one character in the middle of a token.
func flip(token string) string {
	b := []byte(token)
	if i := len(b) / 2; b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

// TestM4RemovedNode: a removed node says so, ends, and can't come back with what
// it has, whether it heard of the removal or not. The leader is not disturbed.
func TestM4RemovedNode(t *testing.T) {
	t.Parallel()
	w, nodes := cluster(t)
	leader := w.leader(nodes...)
	rest := without(nodes, leader)
	term := must(leader.Status(w.bound()))(t).Term

	t.Run("one that hears of it", func(t *testing.T) {
		defer w.during(t)()
		gone := rest[0]
		if err := leader.Write(w.bound(), http.MethodDelete, "/admin/v1/cluster/members/"+gone.name, nil, nil); err != nil {
			t.Fatal(err)
		}
		removed := false
		deadline := time.Now().Add(10 * time.Second)
		for time.Now().Before(deadline) && !removed {
			err := gone.Call(w.within(2*time.Second), http.MethodGet, "/readyz", nil, nil)
			removed = proc.StatusOf(err) == http.StatusServiceUnavailable && strings.Contains(err.Error(), "removed")
			if err != nil && proc.StatusOf(err) == 0 {
				break // gone already
			}
		}
		if !removed {
			t.Error("/readyz never said removed")
		}
		if code, err := gone.proc.Wait(time.Until(deadline)); err != nil || code != 1 {
			t.Errorf("exit code %d, %v; want 1 within 10 s", code, err)
		}
		w.refusedReturn(gone)
	})
	t.Run("one that was down", func(t *testing.T) {
		defer w.during(t)()
		x := w.prepareJoin(leader, "n4", "voter").run()
		w.awaitVoters(leader, 3)
		x.kill()
		if err := leader.Write(w.bound(), http.MethodDelete, "/admin/v1/cluster/members/n4", nil, nil); err != nil {
			t.Fatal(err)
		}
		w.refusedReturn(x)
	})
	w.awaitVoters(leader, 2)
	s := must(leader.Status(w.bound()))(t)
	if s.Term != term || s.State != "leader" {
		t.Errorf("the leader was disturbed: term %d after %d, it is %s", s.Term, term, s.State)
	}
	t.Run("with a new folder and a new token it is welcome", func(t *testing.T) {
		defer w.during(t)()
		again := w.prepareJoin(leader, "n5", "voter").run()
		w.awaitVoters(leader, 3)
		w.equalChecksums(leader, again)
	})
}

// refusedReturn starts a removed node on its old folder: it must not serve, and
// must end by itself with exit code 1.
func (w *world) refusedReturn(n *node) {
	w.t.Helper()
	n.launch()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	r, err := n.proc.Ready(ctx)
	if err == nil {
		w.t.Errorf("%s came back: %v", n.name, r)
		n.kill()
		return
	}
	code, err := n.proc.Wait(time.Second)
	if err != nil || code != 1 {
		w.t.Errorf("%s: exit code %d, %v; want 1", n.name, code, err)
	}
	if log := n.proc.Tail(5); !strings.Contains(log, "keyraft: removed") {
		w.t.Errorf("%s does not say that it was removed: %s", n.name, log)
	}
}

// TestRestore: a snapshot saved and restored through the command line: state as
// it was, another epoch, equal checksums, and gateways that go on refusing.
func TestRestore(t *testing.T) {
	t.Parallel()
	w, nodes := cluster(t)
	g := w.edge("gw1", nodes)
	before := must(nodes[0].CreateClient(w.bound(), nil))(t)
	revoked := must(nodes[0].Issue(w.bound(), w.client, ""))(t)
	must(nodes[0].Revoke(w.bound(), map[string]any{"token": revoked}, 5*time.Second))(t)

	file := w.dir + "/cluster.snap"
	if got := w.cli(nodes[1], "", "operator", "snapshot", "save", file); got.code != 0 {
		t.Fatalf("save: exit code %d: %s", got.code, got.err)
	}
	after := must(nodes[0].CreateClient(w.bound(), nil))(t)
	later := must(nodes[0].Issue(w.bound(), w.client, ""))(t)
	must(nodes[0].Revoke(w.bound(), map[string]any{"token": later}, 5*time.Second))(t)
	between := must(nodes[0].Issue(w.bound(), w.client, ""))(t) // issued after the backup
	old := g.status(t)

	if got := w.cli(nodes[2], "", "operator", "snapshot", "restore", file); got.code != 0 {
		t.Fatalf("restore: exit code %d: %s", got.code, got.err)
	}
	sum := w.equalChecksums(nodes...)
	t.Logf("all nodes at index %d", sum.AppliedIndex)
	for _, n := range nodes {
		ids := must(n.ClientIDs(w.bound()))(t)
		if !ids[before.ID] || ids[after.ID] {
			t.Errorf("%s: the client of before is there: %v, that of after: %v", n.name, ids[before.ID], ids[after.ID])
		}
		if _, err := n.Issue(w.bound(), before, ""); err != nil {
			t.Errorf("%s issues nothing: %v", n.name, err)
		}
		for what, token := range map[string]string{"revoked before the backup": revoked, "revoked after it": later, "issued after it": between} {
			if active, err := n.Active(w.bound(), w.client, token); err != nil || active {
				t.Errorf("%s: a token %s is active: %v, %v", n.name, what, active, err)
			}
		}
	}
	w.await("the gateway in the new epoch", func(ctx context.Context) error {
		var s edgeStatus
		if err := g.Call(ctx, http.MethodGet, "/status", nil, &s); err != nil {
			return err
		}
		if s.Epoch <= old.Epoch || s.Head <= old.Head {
			return fmt.Errorf("it is at epoch %d, head %d, after %d and %d", s.Epoch, s.Head, old.Epoch, old.Head)
		}
		return nil
	})
	for what, token := range map[string]string{"revoked before the backup": revoked, "revoked after it": later, "issued after it": between} {
		if v := must(g.Validate(t.Context(), token))(t); v.Status != http.StatusUnauthorized {
			t.Errorf("the gateway says %d to a token %s", v.Status, what)
		}
	}
	g.says(t, must(nodes[0].Issue(w.bound(), before, ""))(t), http.StatusNoContent, "")
	if _, err := w.delta(w.bound(), nodes[0], old.Head, old.Epoch); proc.StatusOf(err) != http.StatusConflict {
		t.Errorf("a delta in the old epoch is answered with %v, want 409", err)
	}
	w.damagedSnapshot(nodes[0], file)
}

// damagedSnapshot: a file with one bit changed is refused, and nothing moves.
func (w *world) damagedSnapshot(at *node, file string) {
	w.t.Helper()
	sum := must(at.Checksum(w.bound()))(w.t)
	bad := flipBit(w.t, file)
	got := w.cli(at, "", "operator", "snapshot", "restore", bad, "--yes")
	if got.code != 1 || !strings.Contains(got.err, "nothing was sent") {
		w.t.Errorf("a damaged file: exit code %d: %s", got.code, got.err)
	}
	if now := must(at.Checksum(w.bound()))(w.t); now.AppliedIndex == sum.AppliedIndex && now.Checksum != sum.Checksum {
		w.t.Error("the state moved without an entry")
	}
}
