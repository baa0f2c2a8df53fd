package gatewayapi

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/tokens"
)

// deltaKey names one encoded delta: whoever asks the same gets the same bytes.
type deltaKey struct {
	epoch, since, head uint64
	tenants, kinds     string
	proto              bool
}

// keptDeltas and keptBytes bound the encoded deltas that are kept for who comes next.
const (
	keptDeltas = 64
	keptBytes  = 16 << 20
)

// deltas are the last encoded deltas. The first asker encodes, the others wait for it.
type deltas struct {
	mu    sync.Mutex
	bytes int
	byKey map[deltaKey]*encoded
	order []deltaKey // oldest first
}

type encoded struct {
	done chan struct{}
	body []byte
	err  error
}

func newDeltas() *deltas { return &deltas{byKey: make(map[deltaKey]*encoded)} }

// get returns the delta under key, made by build if nobody has.
func (d *deltas) get(ctx context.Context, key deltaKey, build func() ([]byte, error)) ([]byte, error) {
	d.mu.Lock()
	have := d.byKey[key]
	if have != nil {
		d.mu.Unlock()
		select {
		case <-have.done:
			return have.body, have.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	mine := &encoded{done: make(chan struct{}), err: errUnfinished}
	d.byKey[key] = mine
	d.mu.Unlock()
	defer func() { // even if build panics, nobody waits for ever
		d.keep(key, mine)
		close(mine.done)
	}()
	mine.body, mine.err = build()
	return mine.body, mine.err
}

var errUnfinished = errors.New("the delta could not be made")

// keep holds a finished delta for who comes next, in place of the oldest ones.
func (d *deltas) keep(key deltaKey, e *encoded) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.err != nil || len(e.body) > keptBytes/4 {
		delete(d.byKey, key)
		return
	}
	d.order = append(d.order, key)
	d.bytes += len(e.body)
	for len(d.order) > keptDeltas || d.bytes > keptBytes {
		d.bytes -= len(d.byKey[d.order[0]].body)
		delete(d.byKey, d.order[0])
		d.order = d.order[1:]
	}
}

// delta is the encoded answer to q for who on v.
func (a *api) delta(ctx context.Context, v *state.View, who *caller, q *question) ([]byte, error) {
	key := deltaKey{v.Epoch(), q.since, v.Head(), strings.Join(who.tenants, "\x00"), q.kinds, q.proto}
	return a.deltas.get(ctx, key, func() ([]byte, error) {
		d, err := a.collect(v, who, q)
		if err != nil {
			return nil, err
		}
		if q.proto {
			return d.AppendProto(nil), nil
		}
		return d.AppendJSON(nil), nil
	})
}

// collect reads the events after q.since that who may see. What it returns may be
// newer than v, but is of its epoch.
func (a *api) collect(v *state.View, who *caller, q *question) (*wire.Delta, error) {
	cluster, _ := v.Cluster()
	d := &wire.Delta{Cluster: cluster.GetId(), Epoch: v.Epoch(), Head: v.Head()}
	if v.Head() == q.since {
		return d, nil
	}
	size := 0
	epoch, head, err := v.Changes(q.since, func(e *state.Event) bool {
		if !who.sees(e.GetTenant()) || q.kinds != "" && !strings.Contains(","+q.kinds+",", ","+e.GetKind()+",") {
			return true
		}
		if len(d.Items) == a.PageItems || size > a.PageBytes {
			d.Truncated = true
			return false
		}
		item := eventOf(e)
		if item.Issuer == "" && !q.proto {
			item.Issuer = tokens.IssuerOf(cluster, item.Tenant)
		}
		d.Items = append(d.Items, item)
		size += 160 + len(item.Tenant) + len(item.Issuer) + len(item.Target) + len(item.Data)
		return true
	})
	if err != nil {
		return nil, err
	}
	d.Epoch, d.Head = epoch, head
	return d, d.Check()
}

func eventOf(e *state.Event) wire.Event {
	return wire.Event{
		Seq: e.GetSeq(), Tenant: e.GetTenant(), Issuer: e.GetIssuer(), Kind: e.GetKind(), Target: e.GetTarget(),
		IssuedBefore: e.GetIssuedBefore(), ExpiresAt: e.GetExpiresAt(), DecidedAfter: e.GetDecidedAfter(), IssuedAfter: e.GetIssuedAfter(),
		Data: e.GetData(),
	}
}
