package testcluster_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyraft/keyraft/cluster"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/internal/testcluster"
)

// registries hold the series of each node of a cluster.
type registries struct {
	mu sync.Mutex
	by map[string]*prometheus.Registry
}

func (r *registries) of(node string) prometheus.Registerer {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.by[node] = prometheus.NewRegistry()
	return r.by[node]
}

// value is a number of a node, or the sum of a histogram; label is the value of
// the only label, if there is one.
func (r *registries) value(t *testing.T, node, name, label string) float64 {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	return value(t, r.by[node], name, label)
}

func value(t *testing.T, from prometheus.Gatherer, name, label string) float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != name || label != "" && (len(m.GetLabel()) != 1 || m.GetLabel()[0].GetValue() != label) {
				continue
			}
			switch {
			case m.GetCounter() != nil:
				return m.GetCounter().GetValue()
			case m.GetHistogram() != nil:
				return m.GetHistogram().GetSampleSum()
			}
			return m.GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no series %s of %q", name, label)
	return 0
}

// TestMetricsOfWrites: entries and their commands are counted at the leader; a
// write that ends at its time limit is counted by what is known of its outcome; a
// backup and a failing job of the leader are counted too.
func TestMetricsOfWrites(t *testing.T) {
	t.Parallel()
	r := &registries{by: map[string]*prometheus.Registry{}}
	job := cluster.Job{Name: "broken", Every: time.Millisecond, Run: func(context.Context) error { return errors.New("broken") }}
	c := testcluster.StartWith(t, 3, testcluster.Options{Metrics: r.of, Write: 500 * time.Millisecond, Jobs: []cluster.Job{job}})
	leader, other := c.Leader(), c.Followers()[0]
	before := r.value(t, leader.Name, "keyraft_raft_entry_commands", "")
	revoke := &command.Revoke{Tenant: tenant, TargetKind: "client", Target: "m", ExpiresAt: time.Now().Unix() + 600}
	if _, err := leader.Propose(t.Context(), revoke); err != nil {
		t.Fatal(err)
	}
	if got := r.value(t, leader.Name, "keyraft_raft_entry_commands", ""); got < before+1 {
		t.Errorf("%v commands after a write, %v before", got, before)
	}
	if _, err := other.Backup(t.Context(), io.Discard); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Backup(t.Context(), broken{}); err == nil {
		t.Fatal("a backup into a broken pipe succeeds")
	}
	for result, want := range map[string]float64{"ok": 1, "failed": 1} {
		if got := r.value(t, other.Name, "keyraft_backups_total", result); got != want {
			t.Errorf("%v backups %s, want %v", got, result, want)
		}
	}
	c.Await("the failing job to be counted", func() bool { return r.value(t, leader.Name, "keyraft_leader_job_failures_total", "broken") > 1 })
	if got := r.value(t, leader.Name, "keyraft_leader_job_failures_total", "expire"); got != 0 {
		t.Errorf("%v failures of a job that works", got)
	}
	for _, n := range c.Nodes() {
		if n != other {
			n.Kill()
		}
	}
	if _, err := other.Propose(t.Context(), revoke); err == nil {
		t.Fatal("a write without a majority succeeds")
	}
	if got := r.value(t, other.Name, "keyraft_writes_given_up_total", "not_done") + r.value(t, other.Name, "keyraft_writes_given_up_total", "unknown"); got != 1 {
		t.Errorf("%v writes given up, want 1", got)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestMetricsOfMembership: a voter says that it is one and how many there are; a
// node that only serves counts in no quorum.
func TestMetricsOfMembership(t *testing.T) {
	t.Parallel()
	c := testcluster.StartWith(t, 3, testcluster.Options{NonVoters: 1})
	leaders := 0.0
	for _, n := range c.Nodes() {
		reg := prometheus.NewRegistry()
		reg.MustRegister(n.Collector())
		want := 1.0
		if n.Name == "x1" {
			want = 0
		}
		c.Await("the number of voters at "+n.Name, func() bool { return value(t, reg, "keyraft_voters", "") == 3 })
		if got := value(t, reg, "keyraft_voter", ""); got != want {
			t.Errorf("%s: keyraft_voter is %v, want %v", n.Name, got, want)
		}
		if got := value(t, reg, "keyraft_raft_term", ""); got < 1 {
			t.Errorf("%s: term %v", n.Name, got)
		}
		leaders += value(t, reg, "keyraft_leader", "")
		if life := time.Until(n.CertificateExpires()); life < 80*24*time.Hour || life > 91*24*time.Hour {
			t.Errorf("%s: its certificate ends in %s", n.Name, life)
		}
	}
	if leaders != 1 {
		t.Errorf("%v leaders", leaders)
	}
	var backup bytes.Buffer
	if _, err := c.Any().Backup(t.Context(), &backup); err != nil || backup.Len() == 0 {
		t.Errorf("a backup of a node whose metrics nobody collects: %d bytes, %v", backup.Len(), err)
	}
}
