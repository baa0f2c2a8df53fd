package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyraft/keyraft/cluster/peer"
	"github.com/keyraft/keyraft/cluster/transport"
	"github.com/keyraft/keyraft/fsm/command"
)

// Bounds of one forwarded batch. Several are under way at once: while the
// leader commits one, the next forms.
const (
	forwardCommands = 512
	forwardBytes    = 384 << 10
	forwardInFlight = 8
)

// forwarder carries this node's proposals to the leader, on one stream.
type forwarder struct {
	node  *Node
	queue *queue
}

func newForwarder(n *Node) *forwarder { return &forwarder{node: n, queue: newQueue()} }

// run keeps a stream to whoever leads, and refuses what waits when nobody does.
func (f *forwarder) run(ctx context.Context) {
	for ctx.Err() == nil {
		changed := f.node.leadership.changed()
		id, addr := f.node.leader()
		if id == "" || id == f.node.id.NodeID {
			f.idle(ctx, changed)
			continue
		}
		if err := f.serve(ctx, id, addr); err != nil && ctx.Err() == nil {
			f.node.log.Debug("the stream to the leader ended", "leader", id, "error", err)
			f.pause(ctx, changed)
		}
	}
	f.drop()
}

// idle refuses what comes until leadership moves; the callers try again.
func (f *forwarder) idle(ctx context.Context, changed <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			return
		case <-f.queue.wake:
			f.drop()
		}
	}
}

func (f *forwarder) pause(ctx context.Context, changed <-chan struct{}) {
	f.drop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-time.After(retryPause):
	}
}

func (f *forwarder) drop() {
	f.queue.refuse(errNotDone)
}

// serve runs one stream until it breaks or leadership moves.
func (f *forwarder) serve(ctx context.Context, id, addr string) error {
	ctx, cancel := f.node.whileLeading(ctx, id) // a Send to a hung leader ends with its leadership
	defer cancel()
	client, err := f.node.peers.client(id, addr)
	if err != nil {
		return err
	}
	stream, err := client.Forward(ctx)
	if err != nil {
		return err
	}
	s := &forwardStream{waiting: map[uint64][]*unit{}, slots: make(chan struct{}, forwardInFlight)}
	broken := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer s.abandon()
	wg.Go(func() { broken <- s.receive(stream.Recv) })
	for {
		select {
		case err := <-broken:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-f.queue.wake:
		}
		select {
		case s.slots <- struct{}{}:
		case err := <-broken:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
		epoch := f.node.fsm.View().Epoch()
		units := current(f.queue.pull(forwardCommands, forwardBytes), epoch)
		if len(units) == 0 {
			<-s.slots
			continue
		}
		if err := stream.Send(s.batch(units, epoch)); err != nil {
			return err
		}
	}
}

// forwardStream knows which units wait for which batch's outcome.
type forwardStream struct {
	mu      sync.Mutex
	next    uint64
	waiting map[uint64][]*unit
	slots   chan struct{}
}

// batch puts units into one message. It names the epoch of what they were
// decided on, if any of them knows it, so that a leader which was restored in
// between takes none of them.
func (s *forwardStream) batch(units []*unit, epoch uint64) *peer.Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	b := &peer.Batch{Id: s.next}
	for _, u := range units {
		if u.epoch != 0 {
			b.Epoch = epoch
		}
		b.Count += uint32(u.count)
		b.Envelopes = append(b.Envelopes, u.envelopes...)
	}
	s.waiting[b.Id] = units
	return b
}

func (s *forwardStream) receive(next func() (*peer.Outcome, error)) error {
	for {
		o, err := next()
		if err != nil {
			return err
		}
		s.mu.Lock()
		units := s.waiting[o.GetId()]
		delete(s.waiting, o.GetId())
		s.mu.Unlock()
		if units == nil {
			return fmt.Errorf("the leader answered batch %d, which was never sent", o.GetId())
		}
		if err := deliver(units, o); err != nil {
			return err
		}
		<-s.slots
	}
}

// deliver gives each unit its part of an outcome.
func deliver(units []*unit, o *peer.Outcome) error {
	switch o.GetCode() {
	case codeDone:
	case codeNotDone:
		settle(units, outcome{err: errNotDone})
		return nil
	case codeGone:
		settle(units, outcome{err: errGone})
		return nil
	default:
		settle(units, outcome{err: errUnknown})
		return nil
	}
	raw := o.GetResults()
	for i, u := range units {
		results := make([]command.Result, 0, u.count)
		for range u.count {
			if len(raw) < command.ResultSize {
				settle(units[i:], outcome{err: errUnknown})
				return errors.New("the leader's answer is too short")
			}
			r, err := command.ParseResult(raw[:command.ResultSize])
			if err != nil {
				settle(units[i:], outcome{err: errUnknown})
				return err
			}
			results, raw = append(results, r), raw[command.ResultSize:]
		}
		u.done <- outcome{results: results}
	}
	return nil
}

// abandon settles what was sent and not answered: its outcome is unknown (R11).
func (s *forwardStream) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, units := range s.waiting {
		settle(units, outcome{err: errUnknown})
		delete(s.waiting, id)
	}
}

const (
	codeDone uint32 = iota
	codeNotDone
	codeUnknown
	codeGone
)

// Forward implements peer.PeerServer at the leader. A node may forward only
// kinds that nodes propose; who it is comes from its certificate alone.
func (s *server) Forward(stream peer.Peer_ForwardServer) error {
	from, err := transport.PeerIdentity(stream.Context())
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	ctx, cancel := context.WithCancel(stream.Context())
	var sending sync.Mutex
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	slots := make(chan struct{}, 2*forwardInFlight)
	for {
		b, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := forwardable(b); err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		wg.Go(func() {
			defer func() { <-slots }()
			o := s.node.takeForwarded(ctx, from.NodeID, b)
			sending.Lock()
			defer sending.Unlock()
			_ = stream.Send(o) // a broken stream ends Recv too
		})
	}
}

// takeForwarded proposes another node's batch here, without forwarding it on.
func (n *Node) takeForwarded(ctx context.Context, from string, b *peer.Batch) *peer.Outcome {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.WriteTimeout)
	defer cancel()
	o := &peer.Outcome{Id: b.GetId()}
	if !n.isLeader() {
		o.Code, o.Reason = codeNotDone, "not the leader"
		return o
	}
	out := n.batcher.submit(ctx, newUnit("node/"+from, b.GetEpoch(), int(b.GetCount()), b.GetEnvelopes()))
	switch {
	case out.err == nil:
		for _, r := range out.results {
			o.Results = r.Append(o.Results)
		}
	case errors.Is(out.err, errNotDone):
		o.Code = codeNotDone
	case errors.Is(out.err, errGone):
		o.Code = codeGone
	default:
		o.Code = codeUnknown
	}
	return o
}

// forwardable refuses a batch that no honest node sends (CLU-06, CLU-07): it
// would halt every node when it is applied.
func forwardable(b *peer.Batch) error {
	rest := b.GetEnvelopes()
	count := uint32(0)
	for len(rest) > 0 {
		e, after, err := command.CutEnvelope(rest)
		if err != nil {
			return err
		}
		switch e.Kind {
		case command.KindBootstrap, command.KindTermStart, command.KindClockAdvance:
			return fmt.Errorf("a node can't forward command kind %d", e.Kind)
		}
		if _, err := e.Decode(); err != nil {
			return err
		}
		rest = after
		count++
	}
	if count == 0 || count != b.GetCount() || count > command.MaxCommands {
		return fmt.Errorf("the batch says %d commands and holds %d", b.GetCount(), count)
	}
	return nil
}
