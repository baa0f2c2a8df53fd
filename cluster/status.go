package cluster

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/keyraft/keyraft/cluster/member"
	"github.com/keyraft/keyraft/cluster/peer"
	"github.com/keyraft/keyraft/fsm/command"
)

// statusTime bounds one question to another node.
const statusTime = time.Second

// Status tells this node's own state; it needs no leader.
func (n *Node) Status() member.Status {
	v := n.fsm.View()
	leader, _ := n.leader()
	s := member.Status{
		NodeID: n.id.NodeID, State: stateName(n.raft.State()), LeaderID: leader, Term: n.raft.CurrentTerm(),
		AppliedIndex: v.Index(), CommitIndex: n.raft.CommitIndex(), LastIndex: n.raft.LastIndex(),
		Head: v.Head(), Epoch: v.Epoch(), FeatureLevel: v.Counters().Level, ClusterID: n.id.ClusterID,
		Version: n.cfg.Version, Queued: n.batcher.queue.depth() + n.forward.queue.depth(),
		ClockMillis: n.cfg.Now().UnixMilli(), LastContact: n.lastContact(),
		Chain: fmt.Sprintf("%x", v.Applied().Chain),
	}
	err := n.Ready()
	s.Healthy = err == nil
	if err != nil {
		s.Reason = err.Error()
	}
	return s
}

func stateName(s raft.RaftState) string {
	switch s {
	case raft.Leader:
		return "leader"
	case raft.Follower:
		return "follower"
	case raft.Candidate:
		return "candidate"
	default:
		return "shutdown"
	}
}

// lastContact is milliseconds since this node heard of the leader; 0 at the
// leader, -1 when it never did.
func (n *Node) lastContact() int64 {
	if n.isLeader() {
		return 0
	}
	at := n.raft.LastContact()
	if at.IsZero() {
		return -1
	}
	return time.Since(at).Milliseconds()
}

// Status implements peer.PeerServer.
func (s *server) Status(context.Context, *peer.StatusRequest) (*peer.StatusAnswer, error) {
	v := s.node.fsm.View()
	chain := v.Applied().Chain
	got := s.node.Status()
	return &peer.StatusAnswer{
		NodeId: got.NodeID, State: got.State, Term: got.Term, AppliedIndex: got.AppliedIndex, CommitIndex: got.CommitIndex,
		LastIndex: got.LastIndex, Head: got.Head, Epoch: got.Epoch, FeatureLevel: command.Level, Version: got.Version,
		Ready: got.Healthy, Reason: got.Reason, Clock: got.ClockMillis, Chain: chain[:], LastContactMs: got.LastContact,
	}, nil
}

// askStatus asks one member, which may be this node.
func (n *Node) askStatus(ctx context.Context, id string) (*peer.StatusAnswer, error) {
	if id == n.id.NodeID {
		return (&server{node: n}).Status(ctx, nil)
	}
	addr, err := n.addrOf(id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	client, err := n.peers.client(id, addr)
	if err != nil {
		return nil, err
	}
	return client.Status(ctx, &peer.StatusRequest{})
}

// addrOf is a member's cluster address: raft's configuration first, since only
// that is sure to be newest.
func (n *Node) addrOf(id string) (string, error) {
	s, err := n.serverOf(id)
	if err != nil {
		return "", err
	}
	if s != nil {
		return string(s.Address), nil
	}
	row, ok := n.fsm.View().Node(id)
	if !ok || row.GetRemoved() {
		return "", fmt.Errorf("node %q is no member", id)
	}
	return row.GetClusterAddr(), nil
}

// Members asks every member for its state, at most a second each and all at
// once. It works without a leader, from what this node knows.
func (n *Node) Members(ctx context.Context) ([]member.Node, error) {
	servers, err := n.servers()
	if err != nil {
		return nil, err
	}
	suffrage, addr := map[string]string{}, map[string]string{}
	for _, s := range servers {
		suffrage[string(s.ID)], addr[string(s.ID)] = "nonvoter", string(s.Address)
		if s.Suffrage == raft.Voter {
			suffrage[string(s.ID)] = "voter"
		}
	}
	rows := n.fsm.View().Nodes()
	out := make([]member.Node, 0, len(rows))
	for _, r := range rows {
		if r.GetRemoved() {
			continue
		}
		m := member.Node{
			ID: r.GetId(), Role: "unknown", Suffrage: suffrage[r.GetId()], State: "unreachable", APIAddr: r.GetApiAddr(),
			ClusterAddr: cmp.Or(r.GetClusterAddr(), addr[r.GetId()]), GossipAddr: r.GetGossipAddr(), LastContact: -1, Version: r.GetVersion(),
		}
		if m.Suffrage == "" {
			m.Suffrage, m.State = "nonvoter", "joining"
		}
		out = append(out, m)
	}
	var wg sync.WaitGroup
	for i := range out {
		wg.Go(func() { n.fill(ctx, &out[i]) })
	}
	wg.Wait()
	return out, nil
}

func (n *Node) fill(ctx context.Context, m *member.Node) {
	s, err := n.askStatus(ctx, m.ID)
	if err != nil {
		return
	}
	m.Role, m.AppliedIndex, m.LastContact = s.GetState(), s.GetAppliedIndex(), s.GetLastContactMs()
	m.Version, m.FeatureLevel, m.Head, m.Epoch = s.GetVersion(), s.GetFeatureLevel(), s.GetHead(), s.GetEpoch()
	m.ClockOffset = s.GetClock() - n.cfg.Now().UnixMilli()
	m.State, m.Reason = "ready", s.GetReason()
	if !s.GetReady() {
		m.State = "not_ready"
	}
}

// Votes tells whether this node counts in the quorum, and whether it should: one
// that joined as a voter does once it has caught up.
func (n *Node) Votes() (votes, should bool) {
	s, err := n.serverOf(n.id.NodeID)
	if err != nil {
		return false, false
	}
	row, ok := n.fsm.View().Node(n.id.NodeID)
	return s != nil && s.Suffrage == raft.Voter, ok && !row.GetNonVoter()
}
