package logstore

import (
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// BenchmarkBareApply is raft alone over this package's stores, one command of 200
// bytes at a time: what a write of the product is held against. The voters talk over
// TCP on loopback and share the disk and the process.
func BenchmarkBareApply(b *testing.B) {
	for _, voters := range []int{1, 3} {
		b.Run(fmt.Sprintf("voters=%d", voters), func(b *testing.B) {
			leader := startBare(b, voters)
			command := make([]byte, 200)
			_, _ = rand.Read(command)
			var took []time.Duration
			for b.Loop() {
				begun := time.Now()
				if err := leader.Apply(command, 0).Error(); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begun))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2])/float64(time.Microsecond), "p50-us")
			b.ReportMetric(float64(took[len(took)*99/100])/float64(time.Microsecond), "p99-us")
		})
	}
}

// startBare starts voters and returns the one that leads.
func startBare(b *testing.B, voters int) *raft.Raft {
	b.Helper()
	var members raft.Configuration
	var transports []raft.Transport
	for i := range voters {
		trans, err := raft.NewTCPTransportWithLogger("127.0.0.1:0", nil, voters, time.Second, hclog.NewNullLogger())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			trans.CloseStreams() // the other ends of these go on otherwise
			_ = trans.Close()
		})
		transports = append(transports, trans)
		members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(fmt.Sprint(i)), Address: trans.LocalAddr()})
	}
	leads := make(chan *raft.Raft, voters)
	for i, trans := range transports {
		r := startVoter(b, raft.ServerID(fmt.Sprint(i)), trans, members)
		go func() {
			select {
			case <-r.LeaderCh(): // true comes first
				leads <- r
			case <-b.Context().Done():
			}
		}()
	}
	leader := <-leads
	if err := leader.Barrier(0).Error(); err != nil {
		b.Fatal(err)
	}
	return leader
}

func startVoter(b *testing.B, id raft.ServerID, trans raft.Transport, members raft.Configuration) *raft.Raft {
	b.Helper()
	dir := b.TempDir()
	store, err := Open(dir+"/raft.db", Options{Fatal: func(err error) { b.Error(err) }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	files, err := NewSnapshots(dir, 1, Options{Fatal: func(err error) { b.Error(err) }})
	if err != nil {
		b.Fatal(err)
	}
	c := raft.DefaultConfig()
	c.LocalID, c.Logger, c.NoLegacyTelemetry = id, hclog.NewNullLogger(), true
	c.SnapshotThreshold, c.SnapshotInterval = 1<<62, 24*time.Hour // as the product's: by bytes, elsewhere
	c.CommitTimeout = 10 * time.Millisecond
	if err := raft.BootstrapCluster(c, store.Log(), store.Stable(), files, trans, members); err != nil {
		b.Fatal(err)
	}
	r, err := raft.NewRaft(c, nothing{}, store.Log(), store.Stable(), files, trans)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Shutdown().Error() })
	return r
}

// nothing is an FSM that keeps nothing.
type nothing struct{ raft.FSM }

func (nothing) Apply(*raft.Log) any { return nil }
