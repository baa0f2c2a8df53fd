package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyraft/keyraft/cluster/gossip"
	"github.com/keyraft/keyraft/cluster/member"
	"github.com/keyraft/keyraft/cluster/peer"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// announceEvery is how often a node makes sure that the cluster has its
// addresses right.
const announceEvery = 5 * time.Second

// announce makes the leader enter this node, and keeps its row true.
func (n *Node) announce(ctx context.Context) {
	for ctx.Err() == nil {
		moved := n.leadership.changed()
		wait := announceEvery
		if err := n.announceOnce(ctx); err != nil && ctx.Err() == nil {
			var refused *member.RefusedError
			if errors.As(err, &refused) {
				n.log.Warn("the leader refuses this node", "reason", refused.Reason)
			} else {
				wait = 100 * time.Millisecond
			}
		}
		select {
		case <-ctx.Done():
		case <-moved:
		case <-time.After(wait):
		}
	}
}

// announceOnce needs a leader only where something is not as it should be.
func (n *Node) announceOnce(ctx context.Context) error {
	if n.removed.Load() {
		return nil
	}
	s, err := n.serverOf(n.id.NodeID)
	if err != nil {
		return err
	}
	addr := n.mux.Addr().String()
	if s == nil || string(s.Address) != addr {
		if err := n.enterCluster(ctx, addr); err != nil {
			return err
		}
	}
	row, ok := n.fsm.View().Node(n.id.NodeID)
	if !ok {
		return errors.New("this node's row has not arrived yet")
	}
	want := cloneNode(row)
	want.ApiAddr, want.ClusterAddr = n.cfg.APIAddr, addr
	want.GossipAddr, want.GatewayGossipAddr = n.pools.addrs()
	want.FeatureLevel, want.Version = command.Level, n.cfg.Version
	if sameNode(row, want) {
		return nil
	}
	r, err := n.Propose(ctx, &command.PutNode{Node: want})
	if err != nil {
		return err
	}
	return r.Err()
}

func sameNode(a, b *state.Node) bool {
	return a.GetApiAddr() == b.GetApiAddr() && a.GetClusterAddr() == b.GetClusterAddr() && a.GetGossipAddr() == b.GetGossipAddr() &&
		a.GetGatewayGossipAddr() == b.GetGatewayGossipAddr() && a.GetFeatureLevel() == b.GetFeatureLevel() && a.GetVersion() == b.GetVersion()
}

// enterCluster asks for this node's place in the configuration. A node that has
// just joined, or that has moved, hears of no leader: then any member passes it on.
func (n *Node) enterCluster(ctx context.Context, addr string) error {
	if id, _ := n.leader(); id != "" {
		return n.change(ctx, &peer.ChangeRequest{Kind: "enter", NodeId: n.id.NodeID, Address: addr})
	}
	err := command.ErrUnavailable
	for id, at := range n.others() {
		if err = n.introduce(ctx, id, at, addr); err == nil {
			return nil
		}
	}
	return err
}

func (n *Node) introduce(ctx context.Context, via, at, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, changeTime/2)
	defer cancel()
	client, err := n.peers.client(via, at)
	if err != nil {
		return err
	}
	a, err := client.Change(ctx, &peer.ChangeRequest{Kind: "introduce", NodeId: n.id.NodeID, Address: addr})
	if err != nil {
		return err
	}
	if a.GetCode() != 0 {
		return fmt.Errorf("entering the cluster: %s", a.GetReason())
	}
	return nil
}

// others are where the other members may be, by id: by the state, by raft's
// configuration (all that a node knows that was killed before it flushed), and who
// let this node in.
func (n *Node) others() map[string]string {
	out := map[string]string{}
	if n.id.IntroducerID != "" {
		out[n.id.IntroducerID] = n.id.IntroducerAddr
	}
	servers, _ := n.servers() // raft has stopped: the state is all there is
	for _, s := range servers {
		out[string(s.ID)] = string(s.Address)
	}
	for _, row := range n.fsm.View().Nodes() {
		switch {
		case row.GetRemoved():
			delete(out, row.GetId())
		case row.GetClusterAddr() != "":
			out[row.GetId()] = row.GetClusterAddr()
		}
	}
	delete(out, n.id.NodeID)
	return out
}

// gossipLoop starts the pools once the state holds their keys, and tells them
// when the head moves.
func (n *Node) gossipLoop(ctx context.Context) {
	for ctx.Err() == nil {
		moved := n.HeadMoved()
		wait := 200 * time.Millisecond
		if n.startPools() {
			wait = time.Minute
		}
		n.pools.announce()
		select {
		case <-ctx.Done():
		case <-moved:
		case <-time.After(wait):
		}
	}
}

// startPools brings up what is configured; true when nothing is missing.
func (n *Node) startPools() bool {
	n.pools.mu.Lock()
	defer n.pools.mu.Unlock()
	ok := true
	start := func(pool **gossip.Pool, bind, key string, rejoin func() []string) {
		if *pool != nil || bind == "" || n.ctx.Err() != nil {
			return
		}
		keys, err := n.gossipKeys(key)
		if err == nil && len(keys) == 0 {
			ok = false // not here yet
			return
		}
		if err == nil {
			*pool, err = gossip.Start(gossip.Config{
				Label: n.id.ClusterID, Name: n.id.NodeID, BindAddr: bind, Keys: keys, Info: n.info,
				OnHead: n.hearHead, Logger: n.log, Rejoin: rejoin,
			})
		}
		if err != nil {
			ok = false
			if n.repeats.due("gossip/"+key, err.Error(), time.Now()) {
				n.log.Warn("gossip could not be started; trying again", "pool", key, "error", err)
			}
		}
	}
	start(&n.pools.nodes, n.cfg.GossipAddr, keyGossip, n.nodeGossipAddrs)
	start(&n.pools.gateways, n.cfg.GatewayGossipAddr, keyGatewayGossip, n.gatewayGossipAddrs)
	return ok
}

// hearHead takes a head from gossip as the hint that it is (R16): a proof asks
// the leader at once instead of at its next turn.
func (n *Node) hearHead(epoch, head uint64) {
	if v := n.fsm.View(); epoch < v.Epoch() || epoch == v.Epoch() && head <= v.Head() {
		return
	}
	ctx, cancel := context.WithTimeout(n.ctx, proofTime)
	defer cancel()
	_ = n.prove(ctx)
}

// gossipKeys are a pool's keys, the one that seals first.
func (n *Node) gossipKeys(name string) ([][]byte, error) {
	rows := n.fsm.View().ClusterKeys(name)
	var out [][]byte
	for i := len(rows) - 1; i >= 0; i-- {
		if rows[i].GetStatus() == gossipGone {
			continue
		}
		plain, err := n.keys.Open(keyLabel(name, rows[i].GetVersion()), rows[i].GetSealed())
		if err != nil {
			return nil, err
		}
		if rows[i].GetStatus() == gossipActive {
			out = append([][]byte{plain}, out...)
		} else {
			out = append(out, plain)
		}
	}
	return out, nil
}

// GatewayGossipKey is the key of the gateways' pool, for a gateway's credential.
func (n *Node) GatewayGossipKey() ([]byte, error) {
	keys, err := n.gossipKeys(keyGatewayGossip)
	if err != nil || len(keys) == 0 {
		return nil, errors.Join(err, errors.New("this node's state holds no gossip key for gateways yet"))
	}
	return keys[0], nil
}

func (n *Node) info() member.Info {
	v := n.fsm.View()
	return member.Info{
		ID: n.id.NodeID, Kind: member.KindNode, APIAddr: n.cfg.APIAddr, ClusterAddr: n.mux.Addr().String(),
		Level: command.Level, Epoch: v.Epoch(), Head: v.Head(),
	}
}

func (n *Node) nodeGossipAddrs() []string { return n.gossipAddrs((*state.Node).GetGossipAddr) }
func (n *Node) gatewayGossipAddrs() []string {
	return n.gossipAddrs((*state.Node).GetGatewayGossipAddr)
}

func (n *Node) gossipAddrs(of func(*state.Node) string) (out []string) {
	for _, r := range n.fsm.View().Nodes() {
		if a := of(r); a != "" && r.GetId() != n.id.NodeID && !r.GetRemoved() {
			out = append(out, a)
		}
	}
	return out
}

func (p *pools) addrs() (nodes, gateways string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nodes != nil {
		nodes = p.nodes.Addr()
	}
	if p.gateways != nil {
		gateways = p.gateways.Addr()
	}
	return nodes, gateways
}

func (p *pools) each(do func(*gossip.Pool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pool := range []*gossip.Pool{p.nodes, p.gateways} {
		if pool != nil {
			do(pool)
		}
	}
}

func (p *pools) announce() { p.each((*gossip.Pool).Announce) }

func (p *pools) leave() { p.each(func(g *gossip.Pool) { _ = g.Leave(2 * time.Second) }) }

func (p *pools) close() { p.each(func(g *gossip.Pool) { _ = g.Close() }) }

// GossipAddrs are the addresses of this node's pools; empty where there is none.
func (n *Node) GossipAddrs() (nodes, gateways string) { return n.pools.addrs() }
