package gatewayapi

import (
	"context"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
)

// revocations answers GET /gateway/v1/revocations: the events after since that decide
// about a token of ours, revocations and changes of keys.
func (a *api) revocations(c *fasthttp.RequestCtx, _ *state.View) error {
	return a.poll(c, revocationKinds+","+keysKind, true)
}

// events answers GET /gateway/v1/events: the same log, every kind. It acknowledges
// nothing: a receipt counts polls of the revocations alone.
func (a *api) events(c *fasthttp.RequestCtx, _ *state.View) error {
	return a.poll(c, "", false)
}

func (a *api) poll(c *fasthttp.RequestCtx, kinds string, acknowledges bool) error {
	who, err := a.enter(c)
	if err != nil {
		return err
	}
	q, err := parseQuestion(c)
	if err != nil {
		return err
	}
	acknowledges = acknowledges && q.acknowledges() && (q.instance != "" || q.wait > 0)
	if q.kinds == "" {
		q.kinds = kinds
	}
	var visit *visit
	if acknowledges {
		visit = a.Pollers.arrived(who, q, c.RemoteIP().String())
		defer visit.done()
	}
	body, err := a.answer(httpapi.Context(c), who, q, visit)
	if err != nil {
		return err
	}
	c.SetStatusCode(fasthttp.StatusOK)
	c.SetContentType(wire.TypeJSON)
	if q.proto {
		c.SetContentType(wire.TypeProto)
	}
	c.Response.SetBodyRaw(body) // shared by all who wait for the same; nobody writes to it
	return nil
}

// answer waits for something to tell and encodes it. A restore takes the store away
// from under a view that was looked at before: then it looks once more.
func (a *api) answer(ctx context.Context, who *caller, q *question, visit *visit) ([]byte, error) {
	v, err := a.await(ctx, who, q, visit)
	for again := true; err == nil; again = false {
		var now *caller
		if now, err = who.on(v); err != nil {
			return nil, err
		}
		body, failed := a.delta(ctx, v, now, q)
		if failed == nil {
			return body, nil
		}
		newer, refused := a.look(context.WithoutCancel(ctx), q)
		if refused != nil {
			return nil, refused
		}
		if !again || newer == v {
			return nil, failed
		}
		v = newer
	}
	return nil, err
}

// await returns a proven view that has something for the asker, or the newest one
// when the time is over. It ends early when the credential is taken back.
func (a *api) await(ctx context.Context, who *caller, q *question, visit *visit) (*state.View, error) {
	moved := a.HeadMoved() // before the look, so that no move is missed
	v, err := a.look(ctx, q)
	if err != nil {
		return nil, err
	}
	visit.acknowledged(v, q)
	if v.Head() > q.since || q.wait <= 0 {
		return v, nil
	}
	hold, err := a.Pollers.hold(who, a.MaxPolls)
	if err != nil {
		return nil, err
	}
	defer hold.release()
	timer := time.NewTimer(q.wait)
	defer timer.Stop()
	for {
		over := false
		select {
		case <-moved:
		case <-timer.C:
			over = true
		case <-ctx.Done(): // the server stops: the answer is as good as at the wait's end
			over, ctx = true, context.WithoutCancel(ctx)
		case <-hold.ended:
			return nil, errCredential
		}
		moved = a.HeadMoved()
		if v, err = a.look(ctx, q); err != nil {
			return nil, err
		}
		if over || v.Head() > q.since {
			return v, nil
		}
	}
}

// look is a proven view from which q can be answered, or the refusal by name.
func (a *api) look(ctx context.Context, q *question) (*state.View, error) {
	v, err := a.proven(ctx)
	if err != nil {
		return nil, a.refuse(ctx, fasthttp.StatusConflict, wire.Behind, "this node can't prove that its state is fresh; ask another node")
	}
	if v.Head() < q.since || q.hasEpoch && v.Epoch() < q.epoch {
		// Only a read index tells an asker that is ahead from a node that is behind.
		if v, err = a.fresh(ctx); err != nil {
			return nil, a.refuse(ctx, fasthttp.StatusConflict, wire.Behind, "this node has seen less of the log than the asker; ask another node")
		}
	}
	switch {
	case q.hasEpoch && v.Epoch() != q.epoch:
		return nil, refusal(v, fasthttp.StatusConflict, wire.Epoch, "the log was replaced by a restore; load the snapshot and go on from its head")
	case v.Head() < q.since:
		return nil, refusal(v, fasthttp.StatusConflict, wire.Ahead, "since lies above the head of the log; load the snapshot and go on from its head")
	case q.since < v.Counters().Floor:
		return nil, refusal(v, fasthttp.StatusGone, wire.Compacted, "the log does not reach back to since; load the snapshot and go on from its head")
	}
	return v, nil
}

// refuse is refusal with whatever this node has applied.
func (a *api) refuse(ctx context.Context, status int, code, detail string) error {
	v, err := a.View(ctx, state.Stale)
	if err != nil {
		return oauth.TemporarilyUnavailable.With(detail).WithRetryAfter(1)
	}
	return refusal(v, status, code, detail)
}

// snapshotPath is where a gateway goes from a position that the log doesn't have.
const snapshotPath = "/gateway/v1/revocations/snapshot"

func refusal(v *state.View, status int, code, detail string) error {
	field := "since"
	if code == wire.Epoch {
		field = "epoch"
	}
	members := map[string]any{"epoch": v.Epoch(), "head": v.Head()}
	if code != wire.Behind {
		members["snapshot"] = snapshotPath
	}
	return httpapi.ProblemWith(status, code, field, detail, members)
}
