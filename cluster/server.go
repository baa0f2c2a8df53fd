package cluster

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyraft/keyraft/cluster/ca"
	"github.com/keyraft/keyraft/cluster/peer"
	"github.com/keyraft/keyraft/cluster/transport"
	"github.com/keyraft/keyraft/fsm/state"
)

// server answers the other nodes. Who asks comes from the certificate alone.
type server struct {
	peer.UnsafePeerServer // not the unimplemented one: a method that is missing here is an error of the compiler
	node                  *Node
}

// Topic answers one kind of question that nodes put to each other, such as what
// a node's gateways have reported. from is the asking node's id. Safe for
// concurrent use; ctx has a bound.
type Topic func(ctx context.Context, from string, body []byte) ([]byte, error)

// Ask implements peer.PeerServer.
func (s *server) Ask(ctx context.Context, q *peer.AskRequest) (*peer.AskAnswer, error) {
	from, err := transport.PeerIdentity(ctx)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	topic := s.node.ownTopic(q.GetTopic())
	if topic == nil {
		return nil, status.Errorf(codes.Unimplemented, "topic %q is unknown to this node", q.GetTopic())
	}
	body, err := topic(ctx, from.NodeID, q.GetBody())
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &peer.AskAnswer{Body: body}, nil
}

// Ask puts a question to one node; to itself it is a plain call.
func (n *Node) Ask(ctx context.Context, id, topic string, body []byte) ([]byte, error) {
	if id == n.id.NodeID {
		answer := n.ownTopic(topic)
		if answer == nil {
			return nil, fmt.Errorf("topic %q is unknown", topic)
		}
		return answer(ctx, id, body)
	}
	addr, err := n.addrOf(id)
	if err != nil {
		return nil, err
	}
	client, err := n.peers.client(id, addr)
	if err != nil {
		return nil, err
	}
	a, err := client.Ask(ctx, &peer.AskRequest{Topic: topic, Body: body})
	if err != nil {
		return nil, fmt.Errorf("ask node %s: %w", id, err)
	}
	return a.GetBody(), nil
}

// NodeIDs are the ids of all members, this one among them.
func (n *Node) NodeIDs() []string {
	var out []string
	for _, r := range n.fsm.View().Nodes() {
		if !r.GetRemoved() {
			out = append(out, r.GetId())
		}
	}
	return out
}

// checkPeer is the second check of a peer (R17): its certificate is this
// cluster's already. It must be of this recovery generation and belong to a
// member that was not removed, by serial, so that a removed node stays out when
// its id was given anew. A node whose state doesn't hold the cluster yet, or is
// not fresh, has only the certificate to go by for whom it doesn't know: without
// them it could never catch up. Fresh again, it looks anew (Recheck).
func (n *Node) checkPeer(id ca.Identity) error {
	if id.Generation != n.id.Generation {
		return fmt.Errorf("it is of recovery generation %d, this cluster is at %d: it must join again", id.Generation, n.id.Generation)
	}
	v := n.fsm.View()
	if _, ok := v.Cluster(); !ok {
		return nil
	}
	row, ok := v.Node(id.NodeID)
	if (!ok || !holds(row, id.Serial)) && (v.Index() < n.joinedAt.Load() || n.Fresh() != nil) {
		return nil // it may have joined, or joined again, since this state: the leader may be one of them
	}
	switch {
	case !ok:
		return errors.New("it is no member of this cluster")
	case !holds(row, id.Serial):
		return errors.New("its certificate is not the one that this member has now")
	case row.GetRemoved():
		return errors.New("it was removed from this cluster; it needs a new join token and an empty data folder")
	}
	return nil
}

// holds tells whether a certificate is a member's present one, or the one before
// it was renewed.
func holds(row *state.Node, serial string) bool {
	return serial != "" && (row.GetSerial() == serial || row.GetPreviousSerial() == serial)
}
