package testcluster_test

import (
	"errors"
	"testing"
	"time"

	"github.com/keyraft/keyraft/cluster"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/testcluster"
)

// TestK2NonVoterDoesNotConfirmTheLeader: a leader that only non-voters can hear
// answers no linearizable read, not even while its lease lasts (R2, R18).
func TestK2NonVoterDoesNotConfirmTheLeader(t *testing.T) {
	t.Parallel()
	c := testcluster.StartWith(t, 3, testcluster.Options{NonVoters: 2, Heartbeat: 800 * time.Millisecond})
	old := c.Leader()
	var voters, rest []*testcluster.Node
	for _, n := range c.Followers() {
		if n.Name[0] == 'n' {
			voters = append(voters, n)
		} else {
			rest = append(rest, n)
		}
	}
	for _, v := range voters {
		c.Net.CutBoth(old.Name, v.Name)
		for _, x := range rest {
			c.Net.CutBoth(x.Name, v.Name)
		}
	}
	reads := 0
	for old.Status().State == "leader" {
		ctx, cancel := ctxFor(50 * time.Millisecond)
		if _, err := old.View(ctx, state.Linearizable); err == nil {
			t.Fatal("a leader without any other voter answered a linearizable read")
		}
		cancel()
		reads++
	}
	if reads < 2 {
		t.Errorf("only %d reads were tried before the lease ended", reads)
	}
	leader := newLeader(t, c, voters...)
	revoke(t, leader, "k2")
	ctx, cancel := ctxFor(100 * time.Millisecond)
	defer cancel()
	if v, err := old.View(ctx, state.Linearizable); err == nil && !revoked(v, "k2") {
		t.Error("I2: the old leader answers without the revocation")
	}
	c.Net.Heal()
	sees(t, old, "k2")
	c.EqualChecksums()
}

// TestK3LateAnswersNeverConfirm: answers to questions that were asked before a
// read began prove nothing for it (R2).
func TestK3LateAnswersNeverConfirm(t *testing.T) {
	t.Parallel()
	for range seeds(2) {
		c := testcluster.Start(t, 3)
		old, others := c.Leader(), c.Followers()
		for _, o := range others {
			c.Net.HoldAnswers(old.Name, o.Name) // they hear old, it doesn't hear them
			c.Net.Cut(o.Name, old.Name)
		}
		early := reading(t, old) // its questions arrive, the answers are held
		revoke(t, newLeader(t, c, others...), "k3")
		late := reading(t, old)
		pending(t, late, "the leader hears nobody")
		c.Net.Heal()
		<-early // began before the revocation: anything goes
		if r := <-late; r.err == nil && !revoked(r.view, "k3") {
			t.Error("I2: late answers confirmed a deposed leader")
		}
		sees(t, old, "k3")
	}
}

// TestK4NewLeaderWaitsForItsTermStart: a new leader whose state is behind its log
// answers nothing until it has applied its own first command (R3).
func TestK4NewLeaderWaitsForItsTermStart(t *testing.T) {
	t.Parallel()
	slow := newGate()
	c := testcluster.StartWith(t, 3, testcluster.Options{BeforeApply: func(node string, _ uint64) {
		if node == "n2" {
			slow.pass()
		}
	}})
	t.Cleanup(slow.open)
	n2 := c.Nodes()[1]
	if c.Leader() == n2 {
		if err := n2.TransferLeader(within(t, 10*time.Second), "n1"); err != nil {
			t.Fatal(err)
		}
	}
	slow.close()
	revoke(t, c.Leader(), "k4")
	if err := c.Leader().TransferLeader(within(t, 10*time.Second), "n2"); err != nil {
		t.Fatal(err)
	}
	c.Await("n2 leads", func() bool { return n2.Status().State == "leader" })
	here, there := reading(t, n2), reading(t, c.Nodes()[2])
	pending(t, here, "the leader's state is behind its log")
	pending(t, there, "the leader's state is behind its log")
	slow.open()
	for _, got := range []<-chan read{here, there} {
		if r := <-got; r.err != nil || !revoked(r.view, "k4") {
			t.Errorf("I2: a read at a new leader: error %v, or without the revocation", r.err)
		}
	}
	c.EqualChecksums()
}

// TestK5ReadWaitsForTheStateItself: not for the index that raft calls applied,
// which moves when entries are queued.
func TestK5ReadWaitsForTheStateItself(t *testing.T) {
	t.Parallel()
	slow := newGate()
	c := testcluster.StartWith(t, 3, testcluster.Options{BeforeApply: func(node string, _ uint64) {
		if node == "n3" {
			slow.pass()
		}
	}})
	t.Cleanup(slow.open)
	n3 := c.Nodes()[2]
	if c.Leader() == n3 {
		if err := n3.TransferLeader(within(t, 10*time.Second), "n1"); err != nil {
			t.Fatal(err)
		}
	}
	slow.close()
	fill(t, c.Leader(), "k5", 20)
	got := reading(t, n3)
	pending(t, got, "the state is behind")
	slow.open()
	if r := <-got; r.err != nil || !revoked(r.view, "k5-19") {
		t.Errorf("I2: a read at a slow follower: error %v, or without the revocation", r.err)
	}
}

// TestK6ReadsAnswerOnAnIdleCluster: the last entries are configurations and
// no-ops, which the state never sees.
func TestK6ReadsAnswerOnAnIdleCluster(t *testing.T) {
	t.Parallel()
	c := testcluster.StartWith(t, 1, testcluster.Options{NonVoters: 1})
	c.Join("n9", true) // becomes a voter: a configuration is the last entry
	c.AwaitVoters(2)
	for _, n := range c.Live() {
		began := time.Now()
		if _, err := n.View(within(t, 2*time.Second), state.Linearizable); err != nil {
			t.Errorf("%s after a configuration entry: %v (after %s)", n.Name, err, time.Since(began))
		}
	}
}

// TestN1IsolatedLeaderRefuses: writes within their bound; local state goes on to
// the staleness bound and then says so; after the partition all is one again.
func TestN1IsolatedLeaderRefuses(t *testing.T) {
	t.Parallel()
	c := testcluster.StartWith(t, 3, testcluster.Options{Staleness: time.Second, Write: 1500 * time.Millisecond})
	old, others := c.Leader(), c.Followers()
	c.Net.Isolate(old.Name)
	if _, err := old.View(within(t, time.Second), state.Local); err != nil {
		t.Errorf("local state right after the partition: %v", err)
	}
	began := time.Now()
	_, err := old.Propose(within(t, 10*time.Second), revocation("minority"))
	if !errors.Is(err, command.ErrUnavailable) && !errors.Is(err, command.ErrOutcomeUnknown) {
		t.Errorf("a write at an isolated leader: %v", err)
	}
	if took := time.Since(began); took > 2500*time.Millisecond {
		t.Errorf("the refusal took %s", took)
	}
	c.Await("the state to be called stale", func() bool {
		_, err := old.View(t.Context(), state.Local)
		return errors.Is(err, cluster.ErrStale)
	})
	if old.Status().Healthy {
		t.Error("I7: an isolated node calls itself ready")
	}
	revoke(t, newLeader(t, c, others...), "majority")
	c.Net.Heal()
	sees(t, old, "majority")
	c.EqualChecksums()
}

// TestN3OneWayLoss: a leader that is not heard steps down though it hears, and a
// follower that hears nobody raises no term.
func TestN3OneWayLoss(t *testing.T) {
	t.Parallel()
	// A second, so that a busy machine moves no term by itself.
	c := testcluster.StartWith(t, 3, testcluster.Options{Heartbeat: time.Second})
	old, others := c.Leader(), c.Followers()
	c.Net.Mute(old.Name)
	leader := newLeader(t, c, others...)
	revoke(t, leader, "n3")
	c.Await("the old leader to step down", func() bool { return old.Status().State != "leader" })
	c.Net.Heal()
	sees(t, old, "n3")

	leader = c.Leader()
	deaf := c.Followers()[0]
	term := leader.Status().Term
	for _, n := range c.Live() {
		if n != deaf {
			c.Net.Cut(n.Name, deaf.Name)
		}
	}
	c.Await("the deaf one to miss its leader", func() bool { return deaf.Status().LastContact > 3000 })
	revoke(t, leader, "n3-deaf")
	c.Net.Heal()
	sees(t, deaf, "n3-deaf")
	if now := c.Leader().Status().Term; now != term {
		t.Errorf("a deaf follower moved the term from %d to %d", term, now)
	}
	c.EqualChecksums()
}
