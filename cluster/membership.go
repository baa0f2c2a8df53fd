package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyraft/keyraft/cluster/member"
	"github.com/keyraft/keyraft/cluster/peer"
	"github.com/keyraft/keyraft/cluster/transport"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// changeTime bounds one change of the configuration.
const changeTime = 10 * time.Second

// Lags and waits of autopilot (M1, M8): a node votes once its log is this close
// and it has stayed so.
const (
	maxTrailing = 1000
	stableFor   = 300 * time.Millisecond
)

func refuse(status int, code, format string, args ...any) error {
	return &member.RefusedError{Status: status, Code: code, Reason: fmt.Sprintf(format, args...)}
}

// change asks the leader for one change, here or over the cluster port.
func (n *Node) change(ctx context.Context, q *peer.ChangeRequest) error {
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	for {
		moved := n.leadership.changed()
		err := n.changeOnce(ctx, q)
		if q.GetKind() == "remove" && q.GetNodeId() == n.id.NodeID && n.removed.Load() {
			return nil // the leader's answer no longer reaches this node
		}
		if !errors.Is(err, command.ErrUnavailable) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-moved:
		case <-time.After(retryPause):
		}
	}
}

func (n *Node) changeOnce(ctx context.Context, q *peer.ChangeRequest) error {
	if n.isLeader() {
		if !n.leads(ctx) {
			return command.ErrUnavailable
		}
		return n.changeHere(ctx, q)
	}
	id, addr := n.leader()
	if id == "" {
		return command.ErrUnavailable
	}
	client, err := n.peers.client(id, addr)
	if err != nil {
		return err
	}
	a, err := client.Change(ctx, q)
	if err != nil {
		return fmt.Errorf("%w: %v", command.ErrUnavailable, err)
	}
	switch a.GetCode() {
	case 0:
		return nil
	case http.StatusServiceUnavailable:
		return command.ErrUnavailable
	default:
		return &member.RefusedError{Status: int(a.GetCode()), Code: a.GetMachineCode(), Reason: a.GetReason()}
	}
}

// Change implements peer.PeerServer at the leader.
func (s *server) Change(ctx context.Context, q *peer.ChangeRequest) (*peer.ChangeAnswer, error) {
	n := s.node
	from, err := transport.PeerIdentity(ctx)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	err = command.ErrUnavailable
	switch {
	case q.GetKind() == "introduce" && from.NodeID == q.GetNodeId():
		err = n.change(ctx, &peer.ChangeRequest{Kind: "enter", NodeId: q.GetNodeId(), Address: q.GetAddress()})
	case n.isLeader() && n.leads(ctx):
		err = n.changeHere(ctx, q)
	}
	var refused *member.RefusedError
	switch {
	case err == nil:
		return &peer.ChangeAnswer{}, nil
	case errors.As(err, &refused):
		return &peer.ChangeAnswer{Code: uint32(refused.Status), Reason: refused.Reason, MachineCode: refused.Code}, nil
	default:
		return &peer.ChangeAnswer{Code: http.StatusServiceUnavailable, Reason: err.Error()}, nil
	}
}

func (n *Node) changeHere(ctx context.Context, q *peer.ChangeRequest) error {
	switch q.GetKind() {
	case "enter":
		return n.enter(q)
	case "remove":
		return n.removeHere(ctx, q.GetNodeId(), q.GetForce())
	case "promote":
		return n.promoteHere(ctx, q.GetNodeId())
	case "transfer":
		if q.GetNodeId() == n.id.NodeID {
			return nil // it leads already; perhaps the answer to an earlier request was lost
		}
		return n.transfer(ctx, q.GetNodeId())
	default:
		return refuse(http.StatusBadRequest, "unknown_change", "unknown change %q", q.GetKind())
	}
}

// enter puts a node into raft's configuration, as a non-voter first, or moves
// the address of one that is there.
func (n *Node) enter(q *peer.ChangeRequest) error {
	v := n.fsm.View()
	if _, ok := v.Cluster(); !ok {
		return command.ErrUnavailable // the first command is still to come
	}
	row, ok := v.Node(q.GetNodeId())
	if !ok || row.GetRemoved() {
		return refuse(http.StatusForbidden, "removed", "node %s is no member of this cluster: it needs a new join token", q.GetNodeId())
	}
	have, err := n.serverOf(q.GetNodeId())
	if err != nil {
		return err
	}
	if have != nil && string(have.Address) == q.GetAddress() {
		return nil
	}
	id, addr := raft.ServerID(q.GetNodeId()), raft.ServerAddress(q.GetAddress())
	if have != nil && have.Suffrage == raft.Voter {
		return unavailable(n.raft.AddVoter(id, addr, 0, changeTime).Error())
	}
	return unavailable(n.raft.AddNonvoter(id, addr, 0, changeTime).Error())
}

func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %v", command.ErrUnavailable, err)
}

func (n *Node) servers() ([]raft.Server, error) {
	f := n.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, err
	}
	return f.Configuration().Servers, nil
}

func (n *Node) serverOf(id string) (*raft.Server, error) {
	all, err := n.servers()
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if string(s.ID) == id {
			return &s, nil
		}
	}
	return nil, nil
}

// Remove takes a node out of the cluster for good. A removal that would leave too
// few reachable voters is refused without force, and then nothing has changed: the
// leader hands over only when its own removal may go on.
func (n *Node) Remove(ctx context.Context, id string, force bool) error {
	row, ok := n.fsm.View().Node(id)
	if !ok || row.GetRemoved() {
		return refuse(http.StatusNotFound, "not_found", "there is no node %q; keyraft operator members lists them", id)
	}
	q := &peer.ChangeRequest{Kind: "remove", NodeId: id, Force: force}
	err := n.change(ctx, q)
	var refused *member.RefusedError
	if !errors.As(err, &refused) || refused.Code != leadsItself {
		return err
	}
	if err := n.change(ctx, &peer.ChangeRequest{Kind: "transfer"}); err != nil {
		return err
	}
	if err := n.awaitOtherLeader(ctx, id); err != nil {
		return err
	}
	return n.change(ctx, q)
}

// leadsItself is the code of a refusal to remove the leader by itself.
const leadsItself = "leader"

func (n *Node) awaitOtherLeader(ctx context.Context, old string) error {
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	for {
		moved := n.leadership.changed()
		if id, _ := n.leader(); id != "" && id != old {
			return nil
		}
		select {
		case <-ctx.Done():
			return command.ErrUnavailable
		case <-moved:
		case <-time.After(retryPause):
		}
	}
}

// removeHere first tells the node, by its row, which it applies like everyone,
// then takes it out of the configuration.
func (n *Node) removeHere(ctx context.Context, id string, force bool) error {
	if err := n.quorumWithout(ctx, id); err != nil && !force {
		return err
	}
	if id == n.id.NodeID {
		return refuse(http.StatusConflict, leadsItself, "node %s leads; leadership is handed over first, try again", id)
	}
	// Once it is removed no new connection to it is let through: open one now, by
	// which it is asked whether it has heard.
	_, _ = n.askStatus(ctx, id)
	r, err := n.Propose(ctx, &command.RemoveNode{Id: id})
	if err != nil {
		return err
	}
	if r.Reject == command.NotFound {
		return refuse(http.StatusNotFound, "not_found", "there is no node %q", id)
	}
	n.letHear(ctx, id, r.Index)
	err = n.raft.RemoveServer(raft.ServerID(id), 0, changeTime).Error()
	n.peers.forget(id)
	n.mux.Recheck()
	return unavailable(err)
}

// letHear waits a moment for the removed node to apply its removal, so that it
// can say so; a node that is away is removed all the same.
func (n *Node) letHear(ctx context.Context, id string, index uint64) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if s, err := n.askStatus(ctx, id); err != nil || s.GetAppliedIndex() >= index {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// quorumWithout refuses a removal after which the voters in reach are no majority.
func (n *Node) quorumWithout(ctx context.Context, id string) error {
	servers, err := n.servers()
	if err != nil {
		return err
	}
	voters, alive, isVoter := 0, 0, false
	for _, s := range servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		if string(s.ID) == id {
			isVoter = true
			continue
		}
		voters++
		if _, err := n.askStatus(ctx, string(s.ID)); err == nil || string(s.ID) == n.id.NodeID {
			alive++
		}
	}
	if isVoter && alive < voters/2+1 {
		return refuse(http.StatusConflict, "quorum",
			"removing %s would leave %d voters, of which %d answer: no majority. Bring one back first, or force it", id, voters, alive)
	}
	return nil
}

// Promote makes a non-voter a voter, once it has caught up.
func (n *Node) Promote(ctx context.Context, id string) error {
	return n.change(ctx, &peer.ChangeRequest{Kind: "promote", NodeId: id})
}

func (n *Node) promoteHere(ctx context.Context, id string) error {
	row, ok := n.fsm.View().Node(id)
	if !ok || row.GetRemoved() {
		return refuse(http.StatusNotFound, "not_found", "there is no node %q", id)
	}
	have, err := n.serverOf(id)
	if err != nil {
		return err
	}
	if have == nil {
		return refuse(http.StatusConflict, "not_entered", "node %s has not reported to the leader yet; start it", id)
	}
	if have.Suffrage == raft.Voter && !row.GetNonVoter() {
		return nil
	}
	if err := errors.Join(n.caughtUp(ctx, id), n.votersFollow(ctx, id)); err != nil {
		return refuse(http.StatusConflict, "behind", "%s", err)
	}
	if row.GetNonVoter() {
		next := cloneNode(row)
		next.NonVoter = false
		if r, err := n.Propose(ctx, &command.PutNode{Node: next}); err != nil || r.Err() != nil {
			return errors.Join(err, r.Err())
		}
	}
	return n.makeVoter(ctx, *have)
}

func (n *Node) makeVoter(ctx context.Context, s raft.Server) error {
	if err := n.votersFollow(ctx, string(s.ID)); err != nil {
		return refuse(http.StatusConflict, "behind", "%s", err)
	}
	return unavailable(n.raft.AddVoter(s.ID, s.Address, 0, changeTime).Error())
}

// votersFollow makes sure that no voter which is in reach lags while another one
// is made. raft v1.8.0 gives no vote to a candidate that the voter's own
// configuration doesn't know as a voter: were this leader lost when it and the new
// voter alone had the change, a majority would run and never elect anybody. What
// stays open is the moment between this look and the change's arrival.
func (n *Node) votersFollow(ctx context.Context, but string) error {
	voters, err := n.voters()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	last := n.raft.LastIndex() // what it may hang on is not committed
	for _, v := range voters {
		for id := string(v.ID); id != n.id.NodeID && id != but; {
			s, err := n.askStatus(ctx, id)
			if err != nil && ctx.Err() == nil || s.GetLastIndex() >= last {
				break // it is away, or it follows
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("voter %s is in reach and does not follow: another one is made when it does", id)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

func (n *Node) caughtUp(ctx context.Context, id string) error {
	s, err := n.askStatus(ctx, id)
	if err != nil {
		return fmt.Errorf("node %s doesn't answer: %w", id, err)
	}
	if commit := n.raft.CommitIndex(); s.GetLastIndex()+maxTrailing < commit {
		return fmt.Errorf("node %s is %d entries behind; at most %d are allowed", id, commit-s.GetLastIndex(), maxTrailing)
	}
	return nil
}

// promoteJob lets nodes that joined as voters vote, one at a time, when they
// have caught up and stayed healthy.
func (n *Node) promoteJob(ctx context.Context) error {
	servers, err := n.servers()
	if err != nil {
		return err
	}
	v := n.fsm.View()
	for _, s := range servers {
		row, ok := v.Node(string(s.ID))
		if s.Suffrage == raft.Voter || !ok || row.GetNonVoter() || row.GetRemoved() {
			continue
		}
		if err := n.caughtUp(ctx, string(s.ID)); err != nil {
			n.healthySince.Delete(s.ID)
			continue
		}
		since, _ := n.healthySince.LoadOrStore(s.ID, n.progress.since())
		if n.progress.since()-since.(time.Duration) < stableFor {
			continue
		}
		if err := n.makeVoter(ctx, s); err != nil {
			return err
		}
		n.healthySince.Delete(s.ID)
		n.log.Info("a node votes now", "node", string(s.ID))
		return nil
	}
	return nil
}

// settleJob finishes removals that were interrupted: a node whose row says
// removed leaves the configuration.
func (n *Node) settleJob(context.Context) error {
	servers, err := n.servers()
	if err != nil {
		return err
	}
	v := n.fsm.View()
	for _, s := range servers {
		if row, ok := v.Node(string(s.ID)); ok && row.GetRemoved() && string(s.ID) != n.id.NodeID {
			if err := n.raft.RemoveServer(s.ID, 0, changeTime).Error(); err != nil {
				return err
			}
		}
	}
	n.mux.Recheck()
	return nil
}

// TransferLeader hands leadership to a node, or to the best voter when id is empty.
func (n *Node) TransferLeader(ctx context.Context, id string) error {
	return n.change(ctx, &peer.ChangeRequest{Kind: "transfer", NodeId: id})
}

// transferTarget picks a healthy voter (K16): the named one, or the one whose
// log is longest.
func (n *Node) transferTarget(ctx context.Context, id string) (*raft.Server, error) {
	voters, err := n.voters()
	if err != nil {
		return nil, err
	}
	var best *raft.Server
	var longest uint64
	for _, v := range voters {
		if string(v.ID) == n.id.NodeID || id != "" && string(v.ID) != id {
			continue
		}
		s, err := n.askStatus(ctx, string(v.ID))
		if err == nil && s.GetLastIndex()+maxTrailing >= n.raft.CommitIndex() && s.GetLastIndex() >= longest {
			best, longest = &v, s.GetLastIndex()
		}
	}
	if best == nil {
		if id != "" {
			return nil, refuse(http.StatusConflict, "no_target", "%s can't lead: it must be another voter that answers and has caught up", id)
		}
		return nil, refuse(http.StatusConflict, "no_target", "there is no other healthy voter to lead")
	}
	return best, nil
}

func cloneNode(r *state.Node) *state.Node {
	return &state.Node{
		Id: r.GetId(), ApiAddr: r.GetApiAddr(), ClusterAddr: r.GetClusterAddr(), GossipAddr: r.GetGossipAddr(),
		GatewayGossipAddr: r.GetGatewayGossipAddr(), NonVoter: r.GetNonVoter(), Generation: r.GetGeneration(),
		PublicKey: r.GetPublicKey(), Serial: r.GetSerial(), PreviousSerial: r.GetPreviousSerial(), JoinedAt: r.GetJoinedAt(),
		FeatureLevel: r.GetFeatureLevel(), Version: r.GetVersion(),
	}
}
