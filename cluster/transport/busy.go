package transport

import (
	"bytes"
	"time"

	"github.com/hashicorp/raft"
)

// install is a snapshot that raft's main loop is installing.
type install struct {
	term   uint64
	leader []byte
}

// lookAgain is how often a heartbeat that waits for the main loop looks whether
// the loop has begun to install a snapshot.
const lookAgain = 10 * time.Millisecond

// Consumer is where raft takes its messages from.
func (t *RaftTransport) Consumer() <-chan raft.RPC { return t.out }

// Close ends the transport and the stream layer. Safe to call again.
func (t *RaftTransport) Close() error {
	t.closing.Do(func() { close(t.done) })
	err := t.NetworkTransport.Close()
	t.wg.Wait()
	return err
}

// pump hands messages on. A message that must wait does so by itself, so that no
// connection waits for another; each has at most one under way.
func (t *RaftTransport) pump() {
	in := t.NetworkTransport.Consumer()
	for {
		select {
		case <-t.done:
			return
		case rpc := <-in:
			if _, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok {
				t.wg.Go(func() { t.watch(rpc) })
				continue
			}
			select {
			case t.out <- rpc:
			default:
				t.wg.Go(func() { t.wait(rpc) })
			}
		}
	}
}

// wait hands a message to the main loop when that has time, or answers it if it is
// a heartbeat of the leader whose snapshot the loop is installing.
func (t *RaftTransport) wait(rpc raft.RPC) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		if q, ok := rpc.Command.(*raft.AppendEntriesRequest); ok && t.installing.Load().isFrom(q) {
			rpc.Respond(&raft.AppendEntriesResponse{
				RPCHeader: raft.RPCHeader{ProtocolVersion: q.ProtocolVersion}, Term: q.Term, Success: true,
			}, nil)
			return
		}
		select {
		case t.out <- rpc:
			return
		case <-tick.C:
		case <-t.done:
			rpc.Respond(nil, raft.ErrTransportShutdown)
			return
		}
	}
}

// isFrom tells whether q is a heartbeat of the leader and term of the snapshot.
func (i *install) isFrom(q *raft.AppendEntriesRequest) bool {
	return i != nil && q.Term == i.term && bytes.Equal(q.Addr, i.leader) &&
		len(q.Entries) == 0 && q.PrevLogEntry == 0 && q.PrevLogTerm == 0 && q.LeaderCommitIndex == 0
}

// watch hands a snapshot to the main loop and knows until it is answered that the
// loop is busy with it.
func (t *RaftTransport) watch(rpc raft.RPC) {
	q := rpc.Command.(*raft.InstallSnapshotRequest)
	answered := make(chan raft.RPCResponse, 1)
	inner := raft.RPC{Command: rpc.Command, Reader: rpc.Reader, RespChan: answered}
	select {
	case t.out <- inner:
	case <-t.done:
		rpc.Respond(nil, raft.ErrTransportShutdown)
		return
	}
	mine := &install{term: q.Term, leader: bytes.Clone(q.Addr)}
	t.installing.Store(mine)
	select {
	case a := <-answered:
		t.installing.CompareAndSwap(mine, nil)
		rpc.RespChan <- a
	case <-t.done:
		t.installing.CompareAndSwap(mine, nil)
		rpc.Respond(nil, raft.ErrTransportShutdown)
	}
}
