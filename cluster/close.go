package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Close drains: it hands leadership over, stops raft, flushes and closes the
// stores. It waits at most for ctx; a second call waits for the first.
func (n *Node) Close(ctx context.Context) error {
	n.closing.Do(func() {
		go func() {
			defer close(n.ended)
			n.drain(ctx)
			n.closed = n.release()
		}()
	})
	select {
	case <-n.ended:
		return n.closed
	case <-ctx.Done():
		return fmt.Errorf("the node did not stop in time: %w", context.Cause(ctx))
	}
}

func (n *Node) drain(ctx context.Context) {
	if voters, err := n.voters(); err == nil && len(voters) > 1 && n.isLeader() {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if err := n.transfer(ctx, ""); err != nil {
			n.log.Warn("leadership could not be handed over before the stop", "error", err)
		}
	}
	n.pools.leave()
}

// Kill stops the node as a crash would: nothing is handed over or flushed.
func (n *Node) Kill() {
	n.closing.Do(func() {
		defer close(n.ended)
		_ = n.mux.Close()
		n.cancel()
		n.shutdown()
		_ = n.fsm.Kill()
		n.closed = n.release()
	})
	<-n.ended
}

func (n *Node) shutdown() raft.Future {
	if n.stopping == nil {
		n.stopping = n.raft.Shutdown()
	}
	return n.stopping
}

// release closes whatever is open, in the reverse order. With a broken disk the
// log is closed before raft's end is waited for: raft may be held in a write.
func (n *Node) release() error {
	n.cancel()
	n.spawning.Lock()
	n.stopped = true
	n.spawning.Unlock()
	var errs []error
	switch {
	case n.raft != nil:
		stopping := n.shutdown()
		if n.latch.Err() != nil {
			errs = append(errs, n.store.Close())
		}
		errs = append(errs, stopping.Error())
	case n.transport != nil:
		errs = append(errs, n.transport.Close())
	}
	if n.peers != nil {
		n.peers.close()
	}
	if n.grpc != nil {
		n.grpc.Stop()
	}
	n.pools.close()
	if n.mux != nil {
		errs = append(errs, n.mux.Close())
	}
	n.wg.Wait()
	if n.fsm != nil {
		errs = append(errs, n.fsm.Close())
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	return errors.Join(errs...)
}
