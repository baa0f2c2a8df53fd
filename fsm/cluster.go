package fsm

import (
	"bytes"
	"fmt"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// bootstrap makes the cluster, once.
func (s step) bootstrap(c *command.Bootstrap) (command.Result, error) {
	if _, ok := s.Cluster(); ok {
		return reject(command.Exists)
	}
	if !bootable(c) {
		return reject(command.Invalid)
	}
	s.SetEpoch(1)
	s.SetLevel(1)
	s.PutCluster(c.GetCluster())
	t := c.GetTenant()
	t.Generation, t.LongestLifetime = s.index, max(t.GetLongestLifetime(), t.GetSettings().GetAccessTokenLifetime())
	s.PutTenant(t)
	for _, k := range c.GetKeys() {
		s.PutClusterKey(k)
	}
	s.PutNode(c.GetNode())
	s.PutAdminToken([32]byte(c.GetAdminToken()), &state.AdminToken{Id: "bootstrap", CreatedAt: s.now})
	return command.Result{Generation: s.index}, nil
}

// bootable tells whether c names all that a cluster begins with.
func bootable(c *command.Bootstrap) bool {
	t, id := c.GetTenant(), c.GetCluster().GetId()
	if id == "" || len(id) > maxClusterID || t.GetId() == "" || c.GetNode().GetId() == "" ||
		!keyable(t.GetId(), c.GetNode().GetId(), c.GetCluster().GetIssuer()) || len(c.GetAdminToken()) != 32 ||
		!lifetimes(t.GetLongestLifetime(), t.GetSettings().GetAccessTokenLifetime()) {
		return false
	}
	for _, k := range c.GetKeys() {
		if k.GetName() == "" || k.GetVersion() == 0 || !keyable(k.GetName()) {
			return false
		}
	}
	return true
}

// clockAdvance moves cluster time further than one entry may (R14).
func (s step) clockAdvance(c *command.ClockAdvance) (command.Result, error) {
	if c.GetTo() > maxClock {
		return reject(command.Invalid)
	}
	if c.GetTo() <= s.now {
		return reject(command.Stale)
	}
	s.SetClock(c.GetTo())
	return command.Result{}, nil
}

// setFeatureLevel raises the level. One that this binary doesn't understand
// halts it, where a newer binary goes on: to refuse would be a different answer.
func (s step) setFeatureLevel(c *command.SetFeatureLevel) (command.Result, error) {
	if c.GetLevel() > command.Level {
		return command.Result{}, fmt.Errorf("the cluster goes to feature level %d, this binary understands %d: start a newer one", c.GetLevel(), command.Level)
	}
	if uint64(c.GetLevel()) < s.Counters().Level {
		return reject(command.Invalid)
	}
	s.SetLevel(c.GetLevel())
	return command.Result{}, nil
}

// formerIssuers bounds how many earlier issuer names are remembered.
const formerIssuers = 8

// setIssuer changes the issuer of the cluster; tokens under the former names
// stay known. A name that an operator fixed is moved only by another fixed one.
func (s step) setIssuer(c *command.SetIssuer) (command.Result, error) {
	if c.GetIssuer() == "" || !keyable(c.GetIssuer()) {
		return reject(command.Invalid)
	}
	old, ok := s.Cluster()
	if !ok {
		return reject(command.NotFound)
	}
	if old.GetIssuer() == c.GetIssuer() && old.GetIssuerFixed() == c.GetFixed() {
		return command.Result{}, nil
	}
	if old.GetIssuerFixed() && !c.GetFixed() {
		return reject(command.Conflict)
	}
	next := cloneOf(old)
	next.Issuer, next.IssuerFixed = c.GetIssuer(), c.GetFixed()
	next.FormerIssuers = nil
	for _, name := range append([]string{old.GetIssuer()}, old.GetFormerIssuers()...) {
		if name != "" && name != c.GetIssuer() && len(next.GetFormerIssuers()) < formerIssuers {
			next.FormerIssuers = append(next.FormerIssuers, name)
		}
	}
	s.PutCluster(next)
	for _, t := range s.Tenants() {
		s.keysChanged(t.GetId())
	}
	return command.Result{}, nil
}

func (s step) putTenant(c *command.PutTenant) (command.Result, error) {
	t := c.GetTenant()
	set := t.GetSettings()
	if t.GetId() == "" || !keyable(t.GetId()) || !lifetimes(t.GetLongestLifetime(), set.GetAccessTokenLifetime(), set.GetUserAccessTokenLifetime(), set.GetRefreshTokenLifetime(),
		set.GetRefreshIdleLifetime(), set.GetIdTokenLifetime(), set.GetRefreshGrace()) {
		return reject(command.Invalid)
	}
	old, ok := s.Tenant(t.GetId())
	switch {
	case c.GetExpect() == 0 && ok:
		return reject(command.Exists)
	case c.GetExpect() != 0 && !ok:
		return reject(command.NotFound)
	case ok && old.GetGeneration() != c.GetExpect():
		return reject(command.Stale)
	}
	t.Generation = s.index
	t.LongestLifetime = max(t.GetLongestLifetime(), set.GetAccessTokenLifetime(), set.GetUserAccessTokenLifetime(), old.GetLongestLifetime())
	s.PutTenant(t)
	return command.Result{Generation: s.index}, nil
}

// putClusterKey adds a version of a shared key, or changes the status of one.
func (s step) putClusterKey(c *command.PutClusterKey) (command.Result, error) {
	k := c.GetKey()
	if k.GetName() == "" || k.GetVersion() == 0 || !keyable(k.GetName()) {
		return reject(command.Invalid)
	}
	exists := false
	for _, old := range s.ClusterKeys(k.GetName()) {
		if old.GetVersion() != k.GetVersion() {
			continue
		}
		exists = true
		if !c.GetNewVersion() && !bytes.Equal(old.GetPublicPart(), k.GetPublicPart()) {
			return reject(command.Conflict) // a version keeps its key; only status and seal change
		}
	}
	if c.GetNewVersion() == exists {
		if exists {
			return reject(command.Exists)
		}
		return reject(command.NotFound)
	}
	s.PutClusterKey(k)
	return command.Result{Generation: s.index}, nil
}

func (s step) putJoinToken(c *command.PutJoinToken) (command.Result, error) {
	if len(c.GetHash()) != 32 || c.GetToken() == nil {
		return reject(command.Invalid)
	}
	if c.GetToken().GetExpiresAt() <= s.now {
		return reject(command.AlreadyExpired)
	}
	if _, ok := s.JoinToken([32]byte(c.GetHash())); ok {
		return reject(command.Exists)
	}
	s.PutJoinToken([32]byte(c.GetHash()), c.GetToken())
	return command.Result{}, nil
}

// join uses a join token up and enters the node. The same key pair may try
// again with the same token, since its answer may have been lost (M3).
func (s step) join(c *command.Join) (command.Result, error) {
	n := c.GetNode()
	if len(c.GetHash()) != 32 || n.GetId() == "" || !keyable(n.GetId()) || len(n.GetPublicKey()) != 32 {
		return reject(command.Invalid)
	}
	t, ok := s.JoinToken([32]byte(c.GetHash()))
	switch {
	case !ok:
		return reject(command.NotFound)
	case t.GetExpiresAt() <= s.now:
		return reject(command.AlreadyExpired)
	case t.GetUsedBy() != "" && (t.GetUsedBy() != n.GetId() || !bytes.Equal(t.GetPublicKey(), n.GetPublicKey())):
		return reject(command.AlreadyUsed)
	case t.GetNonVoter() && !n.GetNonVoter():
		return reject(command.Conflict)
	}
	old, ok := s.Node(n.GetId())
	switch {
	case ok && !old.GetRemoved() && !bytes.Equal(old.GetPublicKey(), n.GetPublicKey()):
		return reject(command.Exists)
	case ok && old.GetRemoved() && t.GetUsedBy() != "":
		return reject(command.AlreadyUsed) // removed since: coming back takes another token
	}
	used := cloneOf(t)
	used.UsedBy, used.PublicKey = n.GetId(), n.GetPublicKey()
	s.PutJoinToken([32]byte(c.GetHash()), used)
	n.Removed, n.RemovedAt, n.JoinedAt = false, 0, s.now
	s.PutNode(n)
	return command.Result{Generation: s.index}, nil
}

// putNode changes a member's addresses, suffrage or level; it neither adds nor
// brings back one.
func (s step) putNode(c *command.PutNode) (command.Result, error) {
	n := c.GetNode()
	if !keyable(n.GetId()) {
		return reject(command.Invalid)
	}
	old, ok := s.Node(n.GetId())
	switch {
	case !ok:
		return reject(command.NotFound)
	case old.GetRemoved():
		return reject(command.Disabled)
	case !bytes.Equal(old.GetPublicKey(), n.GetPublicKey()):
		return reject(command.Conflict)
	}
	n.Removed, n.RemovedAt, n.JoinedAt = false, 0, old.GetJoinedAt()
	s.PutNode(n)
	return command.Result{Generation: s.index}, nil
}

func (s step) removeNode(c *command.RemoveNode) (command.Result, error) {
	if !keyable(c.GetId()) {
		return reject(command.Invalid)
	}
	old, ok := s.Node(c.GetId())
	if !ok {
		return reject(command.NotFound)
	}
	if old.GetRemoved() {
		return command.Result{}, nil
	}
	n := cloneOf(old)
	n.Removed, n.RemovedAt = true, s.now
	s.PutNode(n)
	return command.Result{Generation: s.index}, nil
}

func (s step) putGateway(c *command.PutGateway) (command.Result, error) {
	g := c.GetGateway()
	if g.GetId() == "" || !keyable(g.GetId()) || len(g.GetCredential()) != 32 {
		return reject(command.Invalid)
	}
	old, _ := s.Gateway(g.GetId())
	if other, ok := s.GatewayByCredential([32]byte(g.GetCredential())); ok && other.GetId() != g.GetId() {
		return reject(command.Conflict)
	}
	g.Generation = s.index
	s.PutGateway(old, g)
	return command.Result{Generation: s.index}, nil
}

func (s step) deleteGateway(c *command.DeleteGateway) (command.Result, error) {
	if !keyable(c.GetId()) {
		return reject(command.Invalid)
	}
	g, ok := s.Gateway(c.GetId())
	if !ok {
		return reject(command.NotFound)
	}
	s.DeleteGateway(g)
	return command.Result{}, nil
}

func (s step) putAdminToken(c *command.PutAdminToken) (command.Result, error) {
	if len(c.GetHash()) != 32 || c.GetToken().GetId() == "" {
		return reject(command.Invalid)
	}
	s.PutAdminToken([32]byte(c.GetHash()), c.GetToken())
	return command.Result{}, nil
}

// expireLimit bounds the rows that one command takes from the queue, so that
// Apply never stands still over it.
const expireLimit = 4096

func (s step) expire(c *command.Expire) (command.Result, error) {
	limit := int(min(c.GetLimit(), expireLimit))
	n, err := s.Expire(min(c.GetUpTo(), s.now), limit)
	return command.Result{Generation: uint64(n)}, err
}
