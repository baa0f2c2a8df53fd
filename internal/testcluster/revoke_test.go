package testcluster_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/testcluster"
)

// TestRevokeOnFollowerSurvivesLeader checks I1 and I2: a revocation that a
// follower acknowledged is seen by every linearizable read after the leader dies.
func TestRevokeOnFollowerSurvivesLeader(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()

	asked, other := c.Followers()[0], c.Followers()[1]
	r, err := asked.Propose(ctx, &command.Revoke{Tenant: "default", TargetKind: "client", Target: "c1", ExpiresAt: math.MaxInt32})
	if err != nil || r.Err() != nil {
		t.Fatalf("propose at a follower: %v %v", err, r.Err())
	}
	c.Leader().Kill() // no hand-over, no flush

	var v *state.View
	c.Await("a linearizable view at the survivor", func() bool {
		v, err = other.View(ctx, state.Linearizable)
		return err == nil
	})
	if _, revoked := v.Revoked("default", "", "client", "c1", 0, 0); !revoked {
		t.Error("an acknowledged revocation is gone")
	}
	c.EqualChecksums()
}
