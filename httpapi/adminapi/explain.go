package adminapi

import (
	"errors"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/keymanagers/match"
	"github.com/keyraft/keyraft/tokens"
	"github.com/keyraft/keyraft/tokens/verify"
)

// explanation is why a gateway would take or refuse a token now.
type explanation struct {
	Accepted     bool   `json:"accepted"`
	Rule         string `json:"rule"`        // the check that decided
	KeyManager   string `json:"key_manager"` // whose token it is; "" when nobody's
	Reason       string `json:"reason"`      // the gateway's word for the refusal; "" when accepted
	Detail       string `json:"detail"`
	Seq          uint64 `json:"seq,omitempty"` // of the revocation that covers it
	AppliedIndex uint64 `json:"applied_index"`
}

func (e explanation) refused(rule, reason, detail string) explanation {
	e.Rule, e.Reason, e.Detail = rule, reason, detail
	return e
}

// explain answers POST /admin/v1/explain, by the rules of a gateway, on a
// linearizable view.
func (a *api) explain(r *request) error {
	var in struct {
		Token string `json:"token"`
		API   string `json:"api"`
	}
	if err := httpapi.DecodeJSON(r.RequestCtx, &in); err != nil {
		return err
	}
	if in.Token == "" {
		return invalid("token", "send the access token that is in question")
	}
	var answer explanation
	var err error
	start := explanation{AppliedIndex: r.view.Index()}
	if tokens.IsOpaque(in.Token) {
		answer, err = a.explainOpaque(r, start, in.Token, in.API)
	} else {
		answer, err = a.explainJWT(r, start, in.Token, in.API)
	}
	if err != nil {
		return err
	}
	return r.json(fasthttp.StatusOK, answer)
}

func (a *api) explainOpaque(r *request, e explanation, token, api string) (explanation, error) {
	if api != "" { // this version of the state holds no API
		return e.refused("api", string(match.UnknownAPI), "no API of this name is registered"), nil
	}
	s, ok, err := a.Introspector.Authenticate(r.view, token)
	if err != nil {
		return e, err
	}
	if !ok || s.Tenant != r.tenant {
		return e.refused("introspection", "inactive", "the opaque token is unknown, expired or revoked, or its client is disabled"), nil
	}
	e.Accepted, e.Rule, e.KeyManager, e.Detail = true, "introspection", match.Resident, "the opaque token is active"
	return e, nil
}

func (a *api) explainJWT(r *request, e explanation, token, api string) (explanation, error) {
	t, err := verify.Parse(token)
	if err != nil {
		return e.refused("form", "malformed", "it is neither a signed JWT in compact form nor an opaque token of this server"), nil
	}
	table, err := residents(r.view, r.tenant)
	if err != nil {
		return e, err
	}
	manager, _, verdict := table.Decide(t.Claims.Issuer, api)
	switch verdict {
	case match.Allowed:
	case match.UnknownAPI:
		return e.refused("api", string(verdict), "no API of this name is registered"), nil
	default:
		return e.refused("issuer", string(verdict), "no enabled key manager of this tenant has this issuer"), nil
	}
	e.KeyManager = manager.Name
	set, err := a.Signing.JWKS(r.view, r.tenant)
	if err != nil {
		return e, err
	}
	keys, err := verify.ParseJWKS(set)
	if err != nil {
		return e, err
	}
	var key *verify.Key
	for i := range keys {
		if keys[i].ID == t.Header.KeyID && t.Header.KeyID != "" {
			key = &keys[i]
		}
	}
	if key == nil {
		if k, ok := r.view.SigningKey(r.tenant, t.Header.KeyID); ok && k.GetStatus() == "revoked" {
			return e.refused("signing_key", "revoked", "the key that signed it was revoked"), nil
		}
		return e.refused("signing_key", "unknown_key", "no published key of the issuer has this kid"), nil
	}
	if t.Verify(*key) != nil {
		return e.refused("signature", "bad_signature", "the signature is not that of the key"), nil
	}
	now := max(a.Now().Unix(), r.view.Clock()/1000)
	if err := t.Check(verify.Expect{Type: "at+jwt", Issuer: t.Claims.Issuer, Own: true, Now: now}); err != nil {
		return e.refused("claims", reasonOf(err), err.Error()), nil
	}
	if kind, seq, hit := covering(r.view, r.tenant, &t.Claims); hit {
		e.Seq = seq
		return e.refused("revocation "+kind, "revoked", "it was decided before the revocation of that "+kind), nil
	}
	e.Accepted, e.Rule, e.Detail = true, "issuer", "its issuer is the built-in key manager's, and no check refuses it"
	return e, nil
}

// residents is the match table of one tenant: its built-in key manager, under its
// issuer of now and those of before.
func residents(v *state.View, tenant string) (*match.Table, error) {
	cluster, _ := v.Cluster()
	t, _ := v.Tenant(tenant)
	var managers []match.Manager
	for _, base := range append([]string{cluster.GetIssuer()}, cluster.GetFormerIssuers()...) {
		managers = append(managers, match.Manager{
			Tenant: tenant, Name: match.Resident, Issuer: tokens.IssuerOf(&state.Cluster{Issuer: base}, tenant), Own: true, Disabled: t.GetDisabled(),
		})
	}
	return match.New(managers, nil)
}

// reasonOf is the gateway's word for a claim that does not hold.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, verify.ErrExpired):
		return "expired"
	case errors.Is(err, verify.ErrNotYet):
		return "not_yet_valid"
	case errors.Is(err, verify.ErrType):
		return "wrong_type"
	case errors.Is(err, verify.ErrAudience):
		return "wrong_audience"
	}
	return "malformed"
}

// covering finds the revocation that covers a token of ours. What a key's revocation
// covers does not depend on the head: whoever has the key writes any head.
func covering(v *state.View, tenant string, c *verify.Claims) (kind string, seq uint64, hit bool) {
	verify.Targets(c, func(k, target string) bool {
		head := c.Head
		switch k {
		case verify.KindKey:
			head = 0
		case verify.KindKeyManager:
			target = tokens.ResidentKeyManager
		}
		seq, hit = v.Revoked(tenant, "", k, target, head, c.IssuedAt)
		kind = k
		return !hit
	})
	return kind, seq, hit
}
