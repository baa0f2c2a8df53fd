package cluster

import (
	"context"

	"github.com/keyraft/keyraft/cluster/peer"
)

// TakeForwarded hands the leader a batch as another node's stream does.
func (n *Node) TakeForwarded(ctx context.Context, from string, b *peer.Batch) *peer.Outcome {
	return n.takeForwarded(ctx, from, b)
}

// The outcomes of a batch.
const (
	CodeDone    = codeDone
	CodeNotDone = codeNotDone
	CodeGone    = codeGone
)

// Forwardable tells whether the leader takes a batch at all.
var Forwardable = forwardable
