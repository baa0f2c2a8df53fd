package testcluster_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/testcluster"
)

// TestY5CertificateIsRenewed: with a third of its life left a node gets a new
// certificate by itself, its peers take it, and so does its next start.
func TestY5CertificateIsRenewed(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	c := testcluster.StartWith(t, 3, testcluster.Options{Now: func(string) time.Time {
		return time.Now().Add(time.Duration(ahead.Load()))
	}})
	serials := func() map[string]string {
		out := map[string]string{}
		for _, n := range c.Any().FSM().View().Nodes() {
			out[n.GetId()] = n.GetSerial()
		}
		return out
	}
	before := serials()
	ahead.Store(int64(61 * 24 * time.Hour)) // of 90 days
	for _, n := range c.Nodes() {
		n.Stop()
		n.Restart() // looks at its certificate at once
	}
	c.AwaitVoters(3)
	c.Await("new serials", func() bool {
		for id, serial := range serials() {
			if serial == before[id] {
				return false
			}
		}
		return true
	})
	for _, n := range c.Nodes() {
		n.Stop()
		n.Restart()
	}
	c.AwaitVoters(3)
	c.EqualChecksums()
}
