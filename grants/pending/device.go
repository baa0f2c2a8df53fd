package pending

import (
	"context"
	"fmt"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

const deviceCodePrefix = "krd1_"

// maxDraws bounds how often a user code that another device waits by is drawn anew. Two
// at once are so rare that more than one draw is a broken random source.
const maxDraws = 8

// StartDevice makes the request of d, which says who asks for what, and gives the code
// that the device polls with. It fills in user code, end and interval. Errors: slow_down
// (429) for an address that asks without end, invalid_client.
func (r *Requests) StartDevice(ctx context.Context, v *state.View, d *state.DeviceRequest) (string, error) {
	if r.starts.Add(r.cfg.Now(), "", d.GetAddress()) > maxStarts {
		return "", tooManyStarts()
	}
	code, hash, err := r.newSecret(v, deviceCodePrefix)
	if err != nil {
		return "", err
	}
	d.ExpiresAt, d.Interval = r.now(v)+DeviceLifetime, Interval
	for range maxDraws {
		d.UserCode = newUserCode()
		result, err := r.cfg.Propose(ctx, &command.StartDevice{Hash: hash, Request: d})
		if err != nil {
			return "", fmt.Errorf("make a device request: %w", err)
		}
		if result.Reject != command.Conflict {
			return code, started("device", result.Reject)
		}
	}
	return "", fmt.Errorf("make a device request: %w", command.Conflict)
}

// Device finds a request by its device code, and what it is kept under; nil for none.
func (r *Requests) Device(v *state.View, tenant, code string) (d *state.DeviceRequest, hash []byte, err error) {
	found, err := r.find(v, deviceCodePrefix, code, func(h []byte) (err error) {
		d, err = v.Device(tenant, h)
		hash = h
		return err
	})
	if err != nil || !found {
		return nil, nil, err
	}
	return d, hash, nil
}

// PollDevice answers a poll of a request that waits: authorization_pending, or slow_down
// where it came too soon (RFC 8628 §3.5).
func (r *Requests) PollDevice(ctx context.Context, d *state.DeviceRequest, hash []byte) error {
	return r.poll(ctx, string(hash), d.GetPolledBy(), d.GetInterval(), d.GetExpiresAt(), &command.PollDevice{
		Tenant: d.GetTenant(), Hash: hash, Node: r.cfg.Node,
	}, &command.PollDevice{Tenant: d.GetTenant(), Hash: hash, Node: r.cfg.Node, Quick: true})
}

// DeviceByUserCode finds what waits under a code that a user who is signed in has typed.
// Each look counts: so many of one user, and so many wrong ones of one address and of one
// tenant, within ten minutes, over all nodes but for the address (TOK-41). code is
// canonical. Errors: ErrUnknown, ErrTooMany.
func (r *Requests) DeviceByUserCode(ctx context.Context, tenant, code, user, address string) (*state.DeviceRequest, []byte, error) {
	if r.wrong.Count(r.cfg.Now(), "", address) >= maxWrong {
		return nil, nil, ErrTooMany
	}
	if err := r.mayLook(ctx, tenant, user); err != nil {
		return nil, nil, err
	}
	v, err := r.cfg.View(ctx, state.Linearizable)
	if err != nil {
		return nil, nil, err
	}
	hash, err := v.DeviceByUserCode(tenant, code)
	var d *state.DeviceRequest
	if err == nil {
		d, err = v.Device(tenant, hash)
	}
	if err != nil && !r.cfg.Absent(err) {
		return nil, nil, err
	}
	if err != nil || r.Overdue(v, d.GetExpiresAt(), d.GetEpoch()) {
		r.wrong.Add(r.cfg.Now(), "", address)
		if err := r.attempt(ctx, tenant, everybody, maxWrongOfTenant); err != nil {
			return nil, nil, err
		}
		return nil, nil, ErrUnknown
	}
	return d, hash, nil
}

// DeviceOf is a request that still waits, by what it is kept under; nil for none.
func (r *Requests) DeviceOf(v *state.View, tenant string, hash []byte) (*state.DeviceRequest, error) {
	d, err := v.Device(tenant, hash)
	if r.cfg.Absent(err) {
		return nil, nil
	}
	if err != nil || d.GetStatus() != state.StatusPending || r.Overdue(v, d.GetExpiresAt(), d.GetEpoch()) {
		return nil, err
	}
	return d, nil
}

// DecideDevice keeps what a user says: yes with an authorization, no with nil.
func (r *Requests) DecideDevice(ctx context.Context, tenant string, hash []byte, a *state.Authorization) error {
	result, err := r.cfg.Propose(ctx, &command.DecideDevice{Tenant: tenant, Hash: hash, Authorization: a})
	return decided("device", result, err)
}

func tooManyStarts() error {
	return oauth.SlowDown.With("too many requests were begun from this address; wait a minute").WithStatus(429).WithRetryAfter(60)
}
