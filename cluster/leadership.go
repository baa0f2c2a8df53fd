package cluster

import (
	"context"
	"sync"

	"github.com/hashicorp/raft"
)

// leadership is what this node knows of who leads, and a signal when it moves.
type leadership struct {
	mu      sync.Mutex
	id      string
	addr    string
	started uint64        // term whose TermStart this node committed as leader (R3)
	signal  chan struct{} // closed at the next move
}

func newLeadership() *leadership { return &leadership{signal: make(chan struct{})} }

// changed is closed when the leader, or what it may do, changes next.
func (l *leadership) changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.signal
}

func (l *leadership) set(id, addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id == id && l.addr == addr {
		return
	}
	l.id, l.addr = id, addr
	l.move()
}

func (l *leadership) start(term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.started = term
	l.move()
}

func (l *leadership) startedTerm() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.started
}

func (l *leadership) move() {
	close(l.signal)
	l.signal = make(chan struct{})
}

// leader is who leads, as this node knows; empty when nobody does.
func (n *Node) leader() (id, addr string) {
	a, i := n.raft.LeaderWithID()
	return string(i), string(a)
}

// whileLeading is ctx, ended when another node than id leads as far as this one
// knows: a question to a leader that hangs must not outlive its leadership. The
// caller calls cancel.
func (n *Node) whileLeading(ctx context.Context, id string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	watched := n.spawn(func() {
		for {
			changed := n.leadership.changed()
			if now, _ := n.leader(); now != id {
				cancel()
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
	if !watched {
		cancel()
	}
	return ctx, cancel
}

// isLeader reports whether this node is raft's leader, started or not.
func (n *Node) isLeader() bool { return n.raft.State() == raft.Leader }

// started reports whether this node leads and has committed this term's
// TermStart: only then may it propose for others and answer read indexes (R3).
func (n *Node) started() (term uint64, ok bool) {
	term = n.raft.CurrentTerm()
	return term, n.isLeader() && n.leadership.startedTerm() == term
}

// leads waits, while this node is raft's leader, until its term has started.
func (n *Node) leads(ctx context.Context) bool {
	for {
		changed := n.leadership.changed()
		if _, ok := n.started(); ok {
			return true
		}
		if !n.isLeader() {
			return false
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// watchLeader copies raft's observations of the leader into leadership, so that
// nobody who waits for it blocks raft (K21).
func (n *Node) watchLeader(ctx context.Context) {
	seen := make(chan raft.Observation, 16)
	observer := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	})
	n.raft.RegisterObserver(observer)
	defer n.raft.DeregisterObserver(observer)
	for {
		n.leadership.set(n.leader())
		select {
		case <-ctx.Done():
			return
		case <-seen:
		}
	}
}
