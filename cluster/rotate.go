package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/keyraft/keyraft/cluster/gossip"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/seal"
)

// The life of a gossip key (Y6): next is installed everywhere before any node
// seals with it; active seals; retired still opens until nobody seals with it;
// gone is forgotten. The gateways' pool keeps its retired key until the next
// rotation, since gateways get theirs from an operator.
const (
	gossipNext    = "next"
	gossipActive  = "active"
	gossipRetired = "retired"
	gossipGone    = "gone"
)

// topicGossipKeys asks a node which keys its pools hold.
const topicGossipKeys = "gossip-keys"

// heldKeys answers it: key ids by pool, the one that seals first.
type heldKeys map[string][]string

// RotateGossipKey makes a new key for a pool ("nodes" or "gateways"). The leader
// installs it everywhere, then lets it seal, then forgets the old one.
func (n *Node) RotateGossipKey(ctx context.Context, pool string) (version uint32, err error) {
	name, ok := map[string]string{"nodes": keyGossip, "gateways": keyGatewayGossip}[pool]
	if !ok {
		return 0, refuse(http.StatusBadRequest, "invalid", "pool must be nodes or gateways")
	}
	for _, k := range n.fsm.View().ClusterKeys(name) {
		if k.GetStatus() == gossipNext {
			return 0, refuse(http.StatusConflict, "rotation_running", "version %d is still being installed at every node; wait for it", k.GetVersion())
		}
		version = max(version, k.GetVersion())
	}
	version++
	fresh := seal.Generate()
	sealed, err := n.keys.Seal(keyLabel(name, version), fresh[:])
	if err != nil {
		return 0, err
	}
	r, err := n.Propose(ctx, &command.PutClusterKey{NewVersion: true, Key: &state.ClusterKey{
		Name: name, Version: version, Sealed: sealed, Status: gossipNext, CreatedAt: n.cfg.Now().UnixMilli(),
	}})
	if err != nil {
		return 0, err
	}
	return version, r.Err()
}

// keepGossipKeys makes this node's pools hold what the state says.
func (n *Node) keepGossipKeys(ctx context.Context) {
	for ctx.Err() == nil {
		n.pools.mu.Lock()
		pools := map[string]*gossip.Pool{keyGossip: n.pools.nodes, keyGatewayGossip: n.pools.gateways}
		n.pools.mu.Unlock()
		for name, pool := range pools {
			if pool == nil {
				continue
			}
			err := n.installKeys(pool, name)
			if err != nil && n.repeats.due("keys/"+name, err.Error(), time.Now()) {
				n.log.Warn("gossip keys could not be brought up to date; trying again", "pool", name, "error", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (n *Node) installKeys(pool *gossip.Pool, name string) error {
	rows := n.fsm.View().ClusterKeys(name)
	for _, pass := range []func(*state.ClusterKey, []byte) error{
		func(k *state.ClusterKey, key []byte) error { // open with all first
			if k.GetStatus() == gossipGone {
				return nil
			}
			return pool.InstallKey(key)
		},
		func(k *state.ClusterKey, key []byte) error {
			if k.GetStatus() == gossipActive {
				return pool.UseKey(key)
			}
			return nil
		},
		func(k *state.ClusterKey, key []byte) error {
			if k.GetStatus() == gossipGone {
				return pool.RemoveKey(key)
			}
			return nil
		},
	} {
		for _, k := range rows {
			key, err := n.keys.Open(keyLabel(name, k.GetVersion()), k.GetSealed())
			if err != nil {
				return err
			}
			if err := pass(k, key); err != nil {
				return err
			}
		}
	}
	return nil
}

// held tells which keys this node's pools hold.
func (n *Node) held() heldKeys {
	n.pools.mu.Lock()
	defer n.pools.mu.Unlock()
	out := heldKeys{}
	if n.pools.nodes != nil {
		out[keyGossip] = n.pools.nodes.KeyIDs()
	}
	if n.pools.gateways != nil {
		out[keyGatewayGossip] = n.pools.gateways.KeyIDs()
	}
	return out
}

// gossipKeyJob takes a rotation one step further when every member is ready for
// it. A member that is away holds it up, and the log says who.
func (n *Node) gossipKeyJob(ctx context.Context) error {
	v := n.fsm.View()
	for _, name := range []string{keyGossip, keyGatewayGossip} {
		rows := v.ClusterKeys(name)
		at := func(status string) *state.ClusterKey {
			i := slices.IndexFunc(rows, func(k *state.ClusterKey) bool { return k.GetStatus() == status })
			if i < 0 {
				return nil
			}
			return rows[i]
		}
		next, active, retired := at(gossipNext), at(gossipActive), at(gossipRetired)
		switch {
		case next != nil && retired != nil: // only one old key at a time
			if err := n.setKeyStatus(ctx, retired, gossipGone); err != nil {
				return err
			}
		case next != nil:
			if err := n.everyoneHolds(ctx, name, next, false); err != nil {
				return err
			}
			// The newer of two active ones seals, so there is always one that does.
			if err := n.setKeyStatus(ctx, next, gossipActive); err != nil {
				return err
			}
			if active != nil {
				if err := n.setKeyStatus(ctx, active, gossipRetired); err != nil {
					return err
				}
			}
		case active != nil && retired != nil && name == keyGossip:
			if err := n.everyoneHolds(ctx, name, active, true); err != nil {
				return err
			}
			if err := n.setKeyStatus(ctx, retired, gossipGone); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *Node) setKeyStatus(ctx context.Context, k *state.ClusterKey, status string) error {
	r, err := n.Propose(ctx, &command.PutClusterKey{Key: &state.ClusterKey{
		Name: k.GetName(), Version: k.GetVersion(), Sealed: k.GetSealed(), PublicPart: k.GetPublicPart(), Status: status, CreatedAt: k.GetCreatedAt(),
	}})
	if err != nil {
		return err
	}
	return r.Err()
}

// everyoneHolds checks that every member has the key in its pool, and seals
// with it where first says so.
func (n *Node) everyoneHolds(ctx context.Context, name string, k *state.ClusterKey, first bool) error {
	plain, err := n.keys.Open(keyLabel(name, k.GetVersion()), k.GetSealed())
	if err != nil {
		return err
	}
	want := gossip.KeyID(plain)
	var missing []string
	for _, id := range n.NodeIDs() {
		ask, cancel := context.WithTimeout(ctx, statusTime)
		raw, err := n.Ask(ask, id, topicGossipKeys, nil)
		cancel()
		var held heldKeys
		if err == nil {
			err = json.Unmarshal(raw, &held)
		}
		keys, runs := held[name]
		if err != nil || runs && (!slices.Contains(keys, want) || first && keys[0] != want) {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the rotation of the %s key waits for %s", name, strings.Join(missing, ", "))
	}
	return nil
}

// ownTopics are the questions that this room answers itself.
func (n *Node) ownTopic(name string) Topic {
	if name == topicGossipKeys {
		return func(context.Context, string, []byte) ([]byte, error) { return json.Marshal(n.held()) }
	}
	return n.cfg.Topics[name]
}
