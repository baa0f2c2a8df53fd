package cluster_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/keyraft/keyraft/cluster"
	"github.com/keyraft/keyraft/cluster/peer"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/internal/testcluster"
)

func envelope(t *testing.T, c command.Command) []byte {
	t.Helper()
	e, err := command.Encode(c, command.Key{1}, [8]byte{}, false)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func revokeClient(id string) *command.Revoke {
	return &command.Revoke{Tenant: "default", TargetKind: "client", Target: id, ExpiresAt: 4_000_000_000}
}

// TestABatchDecidedBeforeARestoreIsGone: a follower that has not heard of the
// restore yet forwards what it decided on the old state (R11).
func TestABatchDecidedBeforeARestoreIsGone(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 1)
	leader := c.Any()
	ctx := t.Context()
	var backup bytes.Buffer
	if _, err := leader.Backup(ctx, &backup); err != nil {
		t.Fatal(err)
	}
	before := leader.FSM().View().Epoch()
	restored, err := leader.Restore(ctx, &backup, false)
	if err != nil {
		t.Fatal(err)
	}
	send := func(epoch uint64, target string) *peer.Outcome {
		return leader.TakeForwarded(ctx, "n2", &peer.Batch{Id: 7, Count: 1, Epoch: epoch, Envelopes: envelope(t, revokeClient(target))})
	}
	if o := send(before, "old"); o.GetCode() != cluster.CodeGone || o.GetId() != 7 {
		t.Errorf("decided at epoch %d, sent at %d: code %d", before, restored.Epoch, o.GetCode())
	}
	if o := send(restored.Epoch, "new"); o.GetCode() != cluster.CodeDone || len(o.GetResults()) != command.ResultSize {
		t.Errorf("decided at the present epoch: code %d, %d bytes of results", o.GetCode(), len(o.GetResults()))
	}
	if o := send(0, "unknown"); o.GetCode() != cluster.CodeDone {
		t.Errorf("decided by a node that knows no epoch yet: code %d", o.GetCode())
	}
}

func TestCLU06ALeaderTakesOnlyWhatNodesPropose(t *testing.T) {
	t.Parallel()
	one := envelope(t, revokeClient("c"))
	for name, b := range map[string]*peer.Batch{
		"nothing":               {},
		"fewer than it says":    {Count: 2, Envelopes: one},
		"more than it says":     {Count: 1, Envelopes: append(bytes.Clone(one), one...)},
		"a cut envelope":        {Count: 1, Envelopes: one[:len(one)-1]},
		"the leader's own kind": {Count: 1, Envelopes: envelope(t, &command.TermStart{})},
		"the cluster's clock":   {Count: 1, Envelopes: envelope(t, &command.ClockAdvance{To: 1})},
		"a second bootstrap":    {Count: 1, Envelopes: envelope(t, &command.Bootstrap{})},
	} {
		if err := cluster.Forwardable(b); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if err := cluster.Forwardable(&peer.Batch{Count: 1, Envelopes: one}); err != nil {
		t.Errorf("an honest batch: %v", err)
	}
}

func TestAFollowerTakesNoBatch(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 3)
	f := c.Followers()[0]
	o := f.TakeForwarded(context.Background(), "n9", &peer.Batch{Id: 1, Count: 1, Envelopes: envelope(t, revokeClient("c"))})
	if o.GetCode() != cluster.CodeNotDone {
		t.Errorf("code %d: a forwarded batch is never forwarded on", o.GetCode())
	}
}
