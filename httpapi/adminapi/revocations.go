package adminapi

import (
	"context"
	"errors"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// The time that a receipt may take.
const (
	defaultReceipt = 5 * time.Second
	maxReceipt     = 60 * time.Second
)

func (a *api) revocationEndpoints() []endpoint {
	return []endpoint{
		{method: "POST", path: "/admin/v1/revocations", tenanted: true, keyed: true, query: []string{"wait", "timeout"}, timeout: a.WriteTimeout + maxReceipt + 2*time.Second, serve: a.revoke},
		{method: "POST", path: "/admin/v1/explain", tenanted: true, serve: a.explain},
	}
}

// confirmation is one line of a receipt.
type confirmation struct {
	Gateway  string `json:"gateway"`
	Instance string `json:"instance,omitempty"`
	Head     uint64 `json:"head"`
	MS       *int64 `json:"ms"` // null: not confirmed
	OK       bool   `json:"ok"`
}

type revoked struct {
	tokens.Revoked
	Receipt  *[]confirmation `json:"receipt,omitempty"`
	Complete *bool           `json:"complete,omitempty"`
}

// revoke answers POST /admin/v1/revocations. It is done when it is committed and
// applied here; ?wait=gateways adds which gateways refuse by now.
func (a *api) revoke(r *request) error {
	wait, timeout, err := r.receiptAsked()
	if err != nil {
		return err
	}
	target := new(tokens.Target)
	if err := httpapi.DecodeJSON(r.RequestCtx, target); err != nil {
		return err
	}
	if err := target.Check(); err != nil {
		return err
	}
	if err := a.mayRevoke(r, target); err != nil {
		return err
	}
	began := time.Now()
	ctx, cancel := context.WithDeadline(r.ctx, r.Time().Add(a.WriteTimeout)) // the rest of the time is the receipt's
	defer cancel()
	done, err := a.take(ctx, r, target)
	if err != nil {
		return err
	}
	answer := revoked{Revoked: done}
	if wait {
		lines, complete := a.Gateways.Receipt(r.ctx, Revocation{Tenant: r.tenant, Epoch: done.Epoch, Seq: done.Seq, At: began}, timeout)
		receipt := make([]confirmation, 0, len(lines))
		for _, l := range lines {
			c := confirmation{Gateway: l.Gateway, Instance: l.Instance, Head: l.Head, OK: l.OK}
			if c.Gateway == "" { // an operator's poll in --dev has only the name it gave itself
				c.Gateway = l.Instance
			}
			if l.OK {
				c.MS = &l.MS
			}
			receipt = append(receipt, c)
		}
		answer.Receipt, answer.Complete = &receipt, &complete
	}
	return r.json(fasthttp.StatusOK, answer)
}

// take revokes. The state refuses that of a key which still signs, since somebody must
// sign: then its successor takes over at once, the old one refused in the same step, so
// that what to do when a key has leaked is one call (Y9). To revoke is tried first, for
// an Idempotency-Key that was used before, and last, for the answer to be kept.
func (a *api) take(ctx context.Context, r *request, t *tokens.Target) (tokens.Revoked, error) {
	k, ok := r.view.SigningKey(r.tenant, t.KeyID)
	signs := t.KeyID != "" && ok && k.GetStatus() == "active"
	if signs && t.IssuedBefore != 0 {
		return tokens.Revoked{}, invalid("issued_before", "a key that still signs is revoked whole; leave it out")
	}
	done, err := a.Revoker.RevokeTarget(ctx, r.view, r.tenant, t)
	if !signs || !errors.Is(err, oauth.InvalidRequest) {
		return done, err
	}
	if _, err := a.keys.Rotate(ctx, r.tenant, k.GetAlg(), true); err != nil {
		return tokens.Revoked{}, err
	}
	if err := a.fresh(r); err != nil {
		return tokens.Revoked{}, err
	}
	return a.Revoker.RevokeTarget(ctx, r.view, r.tenant, t)
}

func (r *request) receiptAsked() (wait bool, timeout time.Duration, err error) {
	switch r.query.Get("wait") {
	case "":
		return false, 0, nil
	case "gateways":
	default:
		return false, 0, invalid("wait", "gateways, or leave it out")
	}
	timeout = defaultReceipt
	if text := r.query.Get("timeout"); text != "" {
		if timeout, err = parseDuration("timeout", text); err != nil {
			return false, 0, err
		}
	}
	return true, min(max(timeout, time.Millisecond), maxReceipt), nil
}

// mayRevoke looks at what the state alone can tell. A client or key that is not there
// is most likely mistyped; one that was deleted is revoked already.
func (a *api) mayRevoke(r *request, t *tokens.Target) error {
	if t.KeyID != "" {
		if !r.who.operator {
			return oauth.InsufficientScope.With("to revoke a signing key takes an admin token")
		}
		if _, ok := r.view.SigningKey(r.tenant, t.KeyID); !ok {
			return httpapi.Problem(fasthttp.StatusNotFound, "not_found", "key_id", "the tenant has no such signing key")
		}
	}
	if t.ClientID != "" {
		if _, ok := r.view.Client(r.tenant, t.ClientID); !ok {
			return httpapi.Problem(fasthttp.StatusNotFound, "not_found", "client_id", "the tenant has no such client; the tokens of a deleted one are revoked already")
		}
	}
	return nil
}
