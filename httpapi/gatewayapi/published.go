package gatewayapi

import (
	"encoding/json"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/tokens"
)

// issuer is one issuer of GET /gateway/v1/jwks.
type issuer struct {
	Tenant        string          `json:"tenant"`
	Issuer        string          `json:"issuer"`
	FormerIssuers []string        `json:"former_issuers"` // the same keys sign for them
	JWKS          json.RawMessage `json:"jwks"`
}

// jwks answers GET /gateway/v1/jwks: every issuer whose tokens the gateway may meet.
func (a *api) jwks(c *fasthttp.RequestCtx, _ *state.View) error {
	who, v, err := a.published(c)
	if err != nil {
		return err
	}
	cluster, _ := v.Cluster()
	answer := struct {
		Cluster string   `json:"cluster"`
		Epoch   uint64   `json:"epoch"`
		Head    uint64   `json:"head"`
		Issuers []issuer `json:"issuers"`
	}{cluster.GetId(), v.Epoch(), v.Head(), []issuer{}}
	for _, t := range v.Tenants() {
		// A tenant whose first keys are yet to be made has no tokens, and a set without
		// keys is nothing that a gateway takes.
		if !who.sees(t.GetId()) || len(v.SigningKeys(t.GetId())) == 0 {
			continue
		}
		set, err := a.Signing.JWKS(v, t.GetId())
		if err != nil {
			return err
		}
		answer.Issuers = append(answer.Issuers, issuer{
			t.GetId(), tokens.IssuerOf(cluster, t.GetId()), formerIssuers(cluster, t.GetId()), set,
		})
	}
	return httpapi.JSON(c, fasthttp.StatusOK, answer)
}

// formerIssuers are the names that a tenant's issuer had before; tokens under them
// live on until they expire.
func formerIssuers(cluster *state.Cluster, tenant string) []string {
	names := make([]string, 0, len(cluster.GetFormerIssuers()))
	for _, base := range cluster.GetFormerIssuers() {
		names = append(names, tokens.IssuerOf(&state.Cluster{Issuer: base}, tenant))
	}
	return names
}

// members answers GET /gateway/v1/members: where else a gateway may poll.
func (a *api) members(c *fasthttp.RequestCtx, _ *state.View) error {
	_, v, err := a.published(c)
	if err != nil {
		return err
	}
	type node struct {
		ID         string `json:"id"`
		APIAddr    string `json:"api_addr"`
		GossipAddr string `json:"gossip_addr"` // of the gateways' pool; "": none
		Voter      bool   `json:"voter"`
	}
	cluster, _ := v.Cluster()
	answer := struct {
		Cluster string `json:"cluster"`
		Items   []node `json:"items"`
	}{cluster.GetId(), []node{}}
	for _, n := range v.Nodes() {
		if !n.GetRemoved() {
			answer.Items = append(answer.Items, node{n.GetId(), n.GetApiAddr(), n.GetGatewayGossipAddr(), !n.GetNonVoter()})
		}
	}
	return httpapi.JSON(c, fasthttp.StatusOK, answer)
}

// keyManager is one item of GET /gateway/v1/key-managers.
type keyManager struct {
	Tenant        string   `json:"tenant"`
	Name          string   `json:"name"`
	Type          string   `json:"type"`
	Issuer        string   `json:"issuer"`
	FormerIssuers []string `json:"former_issuers"`
	Enabled       bool     `json:"enabled"`
}

// keyManagers answers GET /gateway/v1/key-managers: the built-in one of each tenant.
func (a *api) keyManagers(c *fasthttp.RequestCtx, _ *state.View) error {
	who, v, err := a.published(c)
	if err != nil {
		return err
	}
	cluster, _ := v.Cluster()
	items := []keyManager{}
	for _, t := range v.Tenants() {
		if who.sees(t.GetId()) {
			items = append(items, keyManager{
				t.GetId(), tokens.ResidentKeyManager, tokens.ResidentKeyManager, tokens.IssuerOf(cluster, t.GetId()),
				formerIssuers(cluster, t.GetId()), !t.GetDisabled(),
			})
		}
	}
	return list(c, v, items)
}

// apis answers GET /gateway/v1/apis. This version of the state holds none: an API is
// what the gateway itself is configured with.
func (a *api) apis(c *fasthttp.RequestCtx, _ *state.View) error {
	_, v, err := a.published(c)
	if err != nil {
		return err
	}
	return list(c, v, []struct{}{})
}

func list[T any](c *fasthttp.RequestCtx, v *state.View, items []T) error {
	return httpapi.JSON(c, fasthttp.StatusOK, struct {
		Epoch uint64 `json:"epoch"`
		Head  uint64 `json:"head"`
		Items []T    `json:"items"`
	}{v.Epoch(), v.Head(), items})
}
