package gatewayapi

import (
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/internal/oauth"
)

// snapshotTime bounds one snapshot stream, and maxSnapshots how many run at once: each
// holds the store's files as they were at its start.
const (
	snapshotTime = 10 * time.Minute
	maxSnapshots = 16
)

// snapshot answers GET /gateway/v1/revocations/snapshot: all live revocations that the
// gateway may see, as wire's stream. It is whole at the head that it names.
func (a *api) snapshot(c *fasthttp.RequestCtx, _ *state.View) error {
	who, v, err := a.published(c)
	if err != nil {
		return err
	}
	c.SetStatusCode(fasthttp.StatusOK)
	c.SetContentType(wire.TypeSnapshot)
	if c.IsHead() {
		return nil
	}
	if !a.Pollers.beginSnapshot() {
		return oauth.Code("too_many_requests").With("too many snapshots are being sent; try again shortly, or another node").
			WithStatus(fasthttp.StatusTooManyRequests).WithRetryAfter(2)
	}
	log, err := v.Log() // not v: what it misses may have been replaced in the meantime
	if err != nil {
		a.Pollers.endSnapshot()
		return oauth.TemporarilyUnavailable.With("the state was replaced a moment ago, or this node stops; try again").WithRetryAfter(1)
	}
	c.Response.Header.Set(wire.HeaderClock, strconv.FormatInt(log.Clock/1000, 10))
	cluster, _ := v.Cluster()
	out, in := io.Pipe()
	body := &streamed{PipeReader: out, done: make(chan struct{})}
	go func() { // ends when the stream does, or when Close takes the reader away
		defer close(body.done)
		defer a.Pollers.endSnapshot()
		defer log.Close()
		_ = in.CloseWithError(wire.EncodeSnapshot(in, cluster.GetId(), log.Epoch, log.Head, live(log, who)))
	}()
	c.SetBodyStream(body, -1)
	return nil
}

// streamed is the reading end of a stream that is written beside; the server closes
// it when the answer was sent or broke off.
type streamed struct {
	*io.PipeReader
	done chan struct{}
}

// Close ends the writer and waits for its end.
func (s *streamed) Close() error {
	err := s.PipeReader.Close()
	<-s.done
	return err
}

// live are the revocations of a log that who may see.
func live(log *state.Log, who *caller) iter.Seq2[wire.Event, error] {
	const kinds = "," + revocationKinds + ","
	return func(yield func(wire.Event, error) bool) {
		more := true
		err := log.After(0, func(e *state.Event) bool {
			if who.sees(e.GetTenant()) && strings.Contains(kinds, ","+e.GetKind()+",") {
				more = yield(eventOf(e), nil)
			}
			return more
		})
		if err != nil && more {
			yield(wire.Event{}, err)
		}
	}
}
