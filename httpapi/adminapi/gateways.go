package adminapi

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
)

const gatewaysPath = "/admin/v1/gateways"

func (a *api) gatewayEndpoints() []endpoint {
	return []endpoint{
		{method: "POST", path: gatewaysPath, keyed: true, serve: a.createGateway},
		{method: "GET", path: gatewaysPath, offersStale: true, query: []string{"limit", "cursor"}, serve: a.listGateways},
		{method: "DELETE", path: gatewaysPath + "/{id}", keyed: true, serve: a.deleteGateway},
	}
}

const (
	maxGatewayName    = 64
	maxGatewayTenants = 1000
)

// createGateway registers a gateway. Its credential is shown once: only a keyed hash
// of it is stored.
func (a *api) createGateway(r *request) error {
	var in struct {
		Name    string   `json:"name"`
		Tenants []string `json:"tenants"`
	}
	if err := httpapi.DecodeJSON(r.RequestCtx, &in); err != nil {
		return err
	}
	if err := r.checkGateway(in.Name, in.Tenants); err != nil {
		return err
	}
	suffix, _, err := a.made(r.ctx, r.view, "gateway id")
	if err != nil {
		return err
	}
	short := digest(suffix.Reveal())
	id := in.Name + "-" + hex.EncodeToString(short[:4])
	for _, g := range r.view.Gateways() {
		if g.GetName() == in.Name && g.GetId() != id {
			return conflict("exists", "name", "a gateway of this name is registered as "+g.GetId()+"; choose another name, or delete that one")
		}
	}
	credential, hash, err := a.made(r.ctx, r.view, "gateway credential")
	if err != nil {
		return err
	}
	gossip, err := a.Cluster.GatewayGossipKey()
	if err != nil {
		return err
	}
	result, err := a.Propose(r.ctx, &command.PutGateway{Gateway: &state.Gateway{
		Id: id, Name: in.Name, Tenants: in.Tenants, Credential: hash[:], CreatedAt: a.Now().UnixMilli(),
	}})
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return err
	}
	if err := a.fresh(r); err != nil { // what this answer hands out must be what the state holds
		return err
	}
	row, ok := r.view.Gateway(id)
	if !ok || !bytes.Equal(row.GetCredential(), hash[:]) {
		return conflict("gone", "Idempotency-Key", "the gateway that this key made is there no more; register one under a new key")
	}
	if err := a.firstOfItsName(r, row); err != nil {
		return err
	}
	return r.created(gatewaysPath+"/"+id, struct {
		ID         string `json:"id"`
		Name       string `json:"name"`
		Credential string `json:"credential"`
		GossipKey  string `json:"gossip_key"`
	}{id, in.Name, credential.Reveal(), base64.StdEncoding.EncodeToString(gossip)})
}

// firstOfItsName takes g back when another gateway got the name at the same moment, for
// the state doesn't know that names are unique. Of several the first one stays: each
// looks after its own commit, so every later one sees it.
func (a *api) firstOfItsName(r *request, g *state.Gateway) error {
	for _, other := range r.view.Gateways() {
		first := other.GetGeneration() < g.GetGeneration() || other.GetGeneration() == g.GetGeneration() && other.GetId() < g.GetId()
		if other.GetName() != g.GetName() || !first {
			continue
		}
		if _, err := apart(a.Propose)(r.ctx, &command.DeleteGateway{Id: g.GetId()}); err != nil {
			return err
		}
		return conflict("exists", "name", "a gateway of this name was registered at the same moment as "+other.GetId()+"; choose another name, or delete that one")
	}
	return nil
}

func (r *request) checkGateway(name string, tenants []string) error {
	if name == "" || len(name) > maxGatewayName-9 ||
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
		return invalid("name", "1 to 55 letters, digits, '-', '_' and '.'")
	}
	if len(tenants) > maxGatewayTenants {
		return invalid("tenants", "at most 1000; leave it out for all")
	}
	for i, t := range tenants {
		if _, ok := r.view.Tenant(t); !ok {
			return invalid("tenants", "one of them does not exist")
		}
		if slices.Contains(tenants[:i], t) {
			return invalid("tenants", "one of them is there twice")
		}
	}
	return nil
}

// gatewayLine is one gateway process of a list, or a registered gateway that none has
// been seen of: then the ages are -1.
type gatewayLine struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Instance   string   `json:"instance"`
	Tenants    []string `json:"tenants"`
	Addr       string   `json:"addr"`
	Head       uint64   `json:"head"`
	HeadAgeMS  int64    `json:"head_age_ms"` // since its head was last known to be the newest
	Epoch      uint64   `json:"epoch"`
	LastSeenMS int64    `json:"last_seen_ms"`
	Live       bool     `json:"live"`
	FailMode   string   `json:"fail_mode,omitempty"`
	CreatedAt  int64    `json:"created_at,omitempty"`
}

func (l *gatewayLine) place() string { return l.ID + "\x00" + l.Instance }

func (a *api) listGateways(r *request) error {
	seen := a.Gateways.Instances(r.ctx)
	var lines []gatewayLine
	for _, g := range r.view.Gateways() {
		line := gatewayLine{
			ID: g.GetId(), Name: g.GetName(), Tenants: append([]string{}, g.GetTenants()...),
			HeadAgeMS: -1, LastSeenMS: -1, CreatedAt: seconds(g.GetCreatedAt()),
		}
		before := len(lines)
		for _, s := range seen {
			if s.Gateway == g.GetId() {
				lines = append(lines, line.with(r.view, &s))
			}
		}
		if len(lines) == before {
			lines = append(lines, line)
		}
	}
	for _, s := range seen {
		if s.Gateway == "" {
			line := gatewayLine{ID: s.Instance, Tenants: []string{}}
			lines = append(lines, line.with(r.view, &s))
		}
	}
	p, err := pageOf(a, r, "gateways", lines, (*gatewayLine).place)
	if err != nil {
		return err
	}
	return r.json(fasthttp.StatusOK, p)
}

func (l gatewayLine) with(v *state.View, s *Instance) gatewayLine {
	l.Instance, l.Addr, l.Head, l.Epoch = s.Instance, s.Addr, s.Head, s.Epoch
	l.LastSeenMS, l.Live, l.FailMode = s.SeenMS, s.Live, "closed"
	if s.FailOpen {
		l.FailMode = "open"
	}
	l.HeadAgeMS = s.HeadMS
	if s.Epoch == v.Epoch() && s.Head >= v.Head() {
		l.HeadAgeMS = s.SeenMS
	}
	return l
}

// deleteGateway ends a gateway's credential; no receipt waits for it any more. A name
// that only one gateway has serves as well as its id.
func (a *api) deleteGateway(r *request) error {
	id := httpapi.Param(r.RequestCtx, "id")
	if _, ok := r.view.Gateway(id); !ok {
		for _, g := range r.view.Gateways() {
			if g.GetName() == id {
				id = g.GetId()
				break // names are unique
			}
		}
	}
	result, err := a.Propose(r.ctx, &command.DeleteGateway{Id: id})
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return err
	}
	r.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}
