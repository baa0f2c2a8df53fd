package pending

import (
	"context"
	"fmt"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

const authReqPrefix = "krb1_"

// maxListed bounds how many requests a user is shown: the state lets no more wait.
const maxListed = 16

// StartBackchannel makes the request of b, which says who asks whom for what and how long
// it may wait, and gives the auth_req_id. It fills in id, end and interval. Errors:
// access_denied where the user has too many open ones, invalid_client.
func (r *Requests) StartBackchannel(ctx context.Context, v *state.View, b *state.BackchannelRequest, life int64) (string, error) {
	secret, hash, err := r.newSecret(v, authReqPrefix)
	if err != nil {
		return "", err
	}
	b.Id, b.ExpiresAt, b.Interval = tokens.NewGrantID(), r.now(v)+life, Interval
	result, err := r.cfg.Propose(ctx, &command.StartBackchannel{Hash: hash, Request: b})
	if err != nil {
		return "", fmt.Errorf("make a CIBA request: %w", err)
	}
	if result.Reject == command.NotReady {
		return "", oauth.AccessDenied.With("too many requests wait for this user already; wait until they are decided or over").WithStatus(403)
	}
	return secret, started("CIBA", result.Reject)
}

// Backchannel finds a request by its auth_req_id, and what it is kept under; nil for none.
func (r *Requests) Backchannel(v *state.View, tenant, id string) (b *state.BackchannelRequest, hash []byte, err error) {
	found, err := r.find(v, authReqPrefix, id, func(h []byte) (err error) {
		b, err = v.Backchannel(tenant, h)
		hash = h
		return err
	})
	if err != nil || !found {
		return nil, nil, err
	}
	return b, hash, nil
}

// PollBackchannel is PollDevice of a CIBA request (CIBA §11).
func (r *Requests) PollBackchannel(ctx context.Context, b *state.BackchannelRequest, hash []byte) error {
	return r.poll(ctx, string(hash), b.GetPolledBy(), b.GetInterval(), b.GetExpiresAt(), &command.PollBackchannel{
		Tenant: b.GetTenant(), Hash: hash, Node: r.cfg.Node,
	}, &command.PollBackchannel{Tenant: b.GetTenant(), Hash: hash, Node: r.cfg.Node, Quick: true})
}

// WaitingFor lists what waits for a user.
func (r *Requests) WaitingFor(v *state.View, tenant, user string) ([]*state.BackchannelRequest, error) {
	ids, err := v.BackchannelsOf(tenant, user, "", maxListed)
	if err != nil {
		return nil, err
	}
	var out []*state.BackchannelRequest
	for _, id := range ids {
		b, _, err := r.BackchannelOf(v, tenant, user, id)
		if err != nil {
			return nil, err
		}
		if b != nil {
			out = append(out, b)
		}
	}
	return out, nil
}

// BackchannelOf is one that waits for a user, and what it is kept under; nil for none.
func (r *Requests) BackchannelOf(v *state.View, tenant, user, id string) (*state.BackchannelRequest, []byte, error) {
	b, hash, err := v.BackchannelOf(tenant, user, id)
	if r.cfg.Absent(err) {
		return nil, nil, nil
	}
	if err != nil || r.Overdue(v, b.GetExpiresAt(), b.GetEpoch()) {
		return nil, nil, err
	}
	return b, hash, nil
}

// DecideBackchannel keeps what its user says: yes with an authorization, no with nil.
func (r *Requests) DecideBackchannel(ctx context.Context, tenant, user string, hash []byte, a *state.Authorization) error {
	result, err := r.cfg.Propose(ctx, &command.DecideBackchannel{Tenant: tenant, User: user, Hash: hash, Authorization: a})
	return decided("CIBA", result, err)
}
