package adminapi

import (
	"encoding/json"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// rotateTime bounds a rotation: it makes an RSA key where one is asked for.
const rotateTime = 15 * time.Second

func (a *api) keyEndpoints() []endpoint {
	return []endpoint{
		{method: "GET", path: "/admin/v1/keys", tenanted: true, offersStale: true, query: []string{"limit", "cursor"}, serve: a.listKeys},
		{method: "POST", path: "/admin/v1/keys/rotate", tenanted: true, keyed: true, timeout: rotateTime, serve: a.rotateKey},
	}
}

// keyLine is one signing key, its public part alone.
type keyLine struct {
	KID       string          `json:"kid"`
	Alg       string          `json:"alg"`
	State     string          `json:"state"` // next, active, retired, revoked
	CreatedAt int64           `json:"created_at"`
	ActiveAt  int64           `json:"active_at,omitempty"`  // signs from then on
	RetiresAt int64           `json:"retires_at,omitempty"` // signs no more since then
	GoneAt    int64           `json:"gone_at,omitempty"`    // is published no more from then on
	JWK       json.RawMessage `json:"jwk,omitempty"`        // as published; absent when it is not
}

func (a *api) listKeys(r *request) error {
	set, err := a.Signing.JWKS(r.view, r.tenant)
	if err != nil {
		return err
	}
	var published struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(set, &published); err != nil {
		return err
	}
	public := map[string]json.RawMessage{}
	for _, k := range published.Keys {
		var named struct{ KID string }
		if err := json.Unmarshal(k, &named); err != nil {
			return err
		}
		public[named.KID] = k
	}
	var lines []keyLine
	for _, k := range r.view.SigningKeys(r.tenant) {
		lines = append(lines, keyLine{
			KID: k.GetId(), Alg: k.GetAlg(), State: k.GetStatus(), CreatedAt: seconds(k.GetCreatedAt()), ActiveAt: seconds(k.GetSignsFrom()),
			RetiresAt: seconds(k.GetRetiredAt()), GoneAt: seconds(k.GetGoneAt()), JWK: public[k.GetId()],
		})
	}
	p, err := pageOf(a, r, "keys", lines, func(l *keyLine) string { return l.KID })
	if err != nil {
		return err
	}
	return r.json(fasthttp.StatusOK, p)
}

// rotateKey lets the next key sign: a planned one once every cache has it, an
// emergency at once, with every token of the old key refused.
func (a *api) rotateKey(r *request) error {
	var in struct {
		Alg       string `json:"alg"`
		Emergency bool   `json:"emergency"`
	}
	if r.hasBody() {
		if err := httpapi.DecodeJSON(r.RequestCtx, &in); err != nil {
			return err
		}
	}
	if !r.who.operator {
		return oauth.InsufficientScope.With("to rotate a signing key takes an admin token")
	}
	if in.Alg == "" {
		t, _ := r.view.Tenant(r.tenant)
		if in.Alg = t.GetSettings().GetSigningAlg(); in.Alg == "" {
			in.Alg = tokens.DefaultAlg
		}
	}
	done, err := a.keys.Rotate(r.ctx, r.tenant, in.Alg, in.Emergency)
	if err != nil {
		return err
	}
	if done.Active { // a retry under its Idempotency-Key names the key that the first call made
		if err := a.fresh(r); err != nil {
			return err
		}
		for _, k := range r.view.SigningKeys(r.tenant) {
			if k.GetAlg() == in.Alg && k.GetStatus() == "active" {
				done.KeyID, done.SignsFrom = k.GetId(), k.GetSignsFrom()
			}
		}
	}
	return r.json(fasthttp.StatusOK, struct {
		KID       string `json:"kid"`
		Alg       string `json:"alg"`
		Active    bool   `json:"active"`
		SignsFrom int64  `json:"signs_from"` // ahead: published so far, signs from then on
		Seq       uint64 `json:"seq,omitempty"`
	}{done.KeyID, in.Alg, done.Active, seconds(done.SignsFrom), done.Seq})
}
