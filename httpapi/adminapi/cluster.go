package adminapi

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/cluster/member"
	"github.com/keyraft/keyraft/httpapi"
)

const clusterPath = "/admin/v1/cluster"

// changeTime bounds a change of the members: a removal may have to hand leadership
// over first, and lets the node hear of it.
const changeTime = 45 * time.Second

func (a *api) clusterEndpoints() []endpoint {
	return []endpoint{
		{method: "GET", path: clusterPath + "/status", stale: true, serve: a.status},
		{method: "GET", path: clusterPath + "/members", stale: true, query: []string{"limit", "cursor"}, serve: a.listMembers},
		{method: "POST", path: clusterPath + "/members", keyed: true, serve: a.admitMember},
		{method: "DELETE", path: clusterPath + "/members/{id}", query: []string{"force"}, timeout: changeTime, serve: a.removeMember},
		{method: "POST", path: clusterPath + "/members/{id}/promote", timeout: changeTime, serve: a.promoteMember},
		{method: "POST", path: clusterPath + "/transfer-leader", timeout: changeTime, serve: a.transferLeader},
		{method: "POST", path: clusterPath + "/join-tokens", keyed: true, serve: a.makeJoinToken},
		{method: "GET", path: clusterPath + "/checksum", stale: true, timeout: time.Minute, serve: a.checksum},
		{method: "POST", path: clusterPath + "/gossip-keys/rotate", timeout: changeTime, serve: a.rotateGossipKeys},
	}
}

func (a *api) status(r *request) error { return r.json(fasthttp.StatusOK, a.Cluster.Status()) }

func (a *api) listMembers(r *request) error {
	all, err := a.Cluster.Members(r.ctx)
	if err != nil {
		return err
	}
	p, err := pageOf(a, r, "members", all, func(n *member.Node) string { return n.ID })
	if err != nil {
		return err
	}
	return r.json(fasthttp.StatusOK, p)
}

func (a *api) checksum(r *request) error {
	index, sum, err := a.Cluster.Checksum()
	if err != nil {
		return err
	}
	return r.json(fasthttp.StatusOK, struct {
		AppliedIndex uint64 `json:"applied_index"`
		Checksum     string `json:"checksum"`
	}{index, hex.EncodeToString(sum[:])})
}

func (a *api) removeMember(r *request) error {
	force, err := r.flag("force")
	if err != nil {
		return err
	}
	if err := a.Cluster.Remove(r.ctx, httpapi.Param(r.RequestCtx, "id"), force); err != nil {
		return err
	}
	r.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

func (a *api) promoteMember(r *request) error {
	if err := a.Cluster.Promote(r.ctx, httpapi.Param(r.RequestCtx, "id")); err != nil {
		return err
	}
	return r.json(fasthttp.StatusOK, struct{}{})
}

func (a *api) transferLeader(r *request) error {
	var in struct {
		ID string `json:"id"`
	}
	if r.hasBody() {
		if err := httpapi.DecodeJSON(r.RequestCtx, &in); err != nil {
			return err
		}
	}
	if err := a.Cluster.Transfer(r.ctx, in.ID); err != nil {
		return err
	}
	return r.json(fasthttp.StatusOK, struct{}{})
}

// The life of a join token.
const (
	defaultJoin = 10 * time.Minute
	maxJoin     = 24 * time.Hour
)

// joinToken is the answer of the two calls that let a node in.
type joinToken struct {
	Token     string `json:"token"`
	ExpiresAt int64  `json:"expires_at"`
	Command   string `json:"command"`
}

func (a *api) makeJoinToken(r *request) error {
	var in struct {
		TTL      json.RawMessage `json:"ttl"`
		Suffrage string          `json:"suffrage"`
	}
	if r.hasBody() {
		if err := httpapi.DecodeJSON(r.RequestCtx, &in); err != nil {
			return err
		}
	}
	return a.letIn(r, "", in.Suffrage, in.TTL)
}

// admitMember answers POST /admin/v1/cluster/members. A node joins by itself, over the
// node port and with a key of its own: what an operator can do for it here is to make
// the token that lets it in, and the command to start it with.
func (a *api) admitMember(r *request) error {
	var in struct {
		NodeID   string          `json:"node_id"`
		Suffrage string          `json:"suffrage"`
		TTL      json.RawMessage `json:"ttl"`
	}
	if err := httpapi.DecodeJSON(r.RequestCtx, &in); err != nil {
		return err
	}
	if !nodeName(in.NodeID) {
		return invalid("node_id", "1 to 64 of a-z, 0-9 and hyphen")
	}
	if n, ok := r.view.Node(in.NodeID); ok && !n.GetRemoved() {
		return conflict("exists", "node_id", "a node of this id is a member; choose another id, or remove that one first")
	}
	return a.letIn(r, in.NodeID, in.Suffrage, in.TTL)
}

// nodeName tells whether a node may be named so: it stands in the node's certificate.
func nodeName(id string) bool {
	return id != "" && len(id) <= 64 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func (a *api) letIn(r *request, nodeID, suffrage string, rawTTL json.RawMessage) error {
	ttl, err := duration("ttl", rawTTL, defaultJoin)
	if err != nil {
		return err
	}
	if ttl < time.Second || ttl > maxJoin {
		return invalid("ttl", "from a second to 24 hours")
	}
	if suffrage != "" && suffrage != "voter" && suffrage != "nonvoter" {
		return invalid("suffrage", "voter or nonvoter")
	}
	token, expires, err := a.Cluster.JoinToken(r.ctx, ttl, suffrage == "nonvoter")
	if err != nil {
		return err
	}
	here, _ := r.view.Node(a.Cluster.Status().NodeID)
	command := "keyraft server --join " + here.GetApiAddr() + " --join-token " + token
	if nodeID != "" {
		command += " --node-id " + nodeID
	}
	if suffrage == "nonvoter" {
		command += " --non-voter"
	}
	return r.json(fasthttp.StatusCreated, joinToken{token, expires.Unix(), command})
}

func (a *api) rotateGossipKeys(r *request) error {
	var in struct {
		Pool string `json:"pool"`
	}
	if r.hasBody() {
		if err := httpapi.DecodeJSON(r.RequestCtx, &in); err != nil {
			return err
		}
	}
	pools := []string{"nodes", "gateways"}
	switch in.Pool {
	case "":
	case "nodes", "gateways":
		pools = []string{in.Pool}
	default:
		return invalid("pool", "nodes or gateways; leave it out for both")
	}
	for _, p := range pools {
		if err := a.Cluster.RotateGossipKey(r.ctx, p); err != nil {
			return err
		}
	}
	return r.json(fasthttp.StatusOK, struct {
		Rotated []string `json:"rotated"`
	}{pools})
}
