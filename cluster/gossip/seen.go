package gossip

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/memberlist"

	"github.com/keyraft/keyraft/cluster/member"
)

// maxMembers bounds what a holder of the key can make everyone remember.
const maxMembers = 1 << 14

// place is a position in the event log.
type place struct{ epoch, head uint64 }

func (a place) beyond(b place) bool {
	return a.epoch > b.epoch || a.epoch == b.epoch && a.head > b.head
}

// note is something for the log.
type note struct {
	message string
	args    []any
}

// seen is all of memberlist's delegates. Each is called inside memberlist's
// locks: it copies under mu, which is held for nothing else, and returns.
// Lock order: memberlist's, then mu.
type seen struct {
	meta  atomic.Pointer[[]byte] // what NodeMeta gives; always short enough
	heard chan struct{}          // capacity 1: nudges merge
	notes chan note              // when full, notes are dropped

	mu    sync.Mutex
	nodes map[string]node
	best  place // furthest heard since the last take
}

// node is a copy of one of memberlist's that is alive.
type node struct {
	addr     string
	info     member.Info
	readable bool
}

func newSeen(meta []byte) *seen {
	s := &seen{heard: make(chan struct{}, 1), notes: make(chan note, 64), nodes: make(map[string]node)}
	s.meta.Store(&meta)
	return s
}

// setMeta says whether the record has changed.
func (s *seen) setMeta(meta []byte) bool {
	if bytes.Equal(*s.meta.Load(), meta) {
		return false
	}
	s.meta.Store(&meta)
	return true
}

func (s *seen) take() place {
	s.mu.Lock()
	defer s.mu.Unlock()
	best := s.best
	s.best = place{}
	return best
}

func (s *seen) members() []member.Info {
	s.mu.Lock()
	all := make([]member.Info, 0, len(s.nodes))
	for _, n := range s.nodes {
		if n.readable {
			all = append(all, n.info)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b member.Info) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Instance, b.Instance))
	})
	return all
}

func (s *seen) address(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[name].addr
}

func (s *seen) addresses() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]bool, len(s.nodes))
	for _, n := range s.nodes {
		all[n.addr] = true
	}
	return all
}

func (s *seen) note(message string, args ...any) {
	select {
	case s.notes <- note{message, args}:
	default:
	}
}

// NodeMeta is memberlist.Delegate: this member's record.
func (s *seen) NodeMeta(limit int) []byte {
	meta := *s.meta.Load()
	if len(meta) > limit { // can't be: MaxEncoded is below memberlist's limit
		return nil
	}
	return bytes.Clone(meta)
}

// NotifyMsg is memberlist.Delegate: this package sends no messages of its own.
func (*seen) NotifyMsg([]byte) {}

// GetBroadcasts is memberlist.Delegate; as NotifyMsg.
func (*seen) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState is memberlist.Delegate; as NotifyMsg.
func (*seen) LocalState(bool) []byte { return nil }

// MergeRemoteState is memberlist.Delegate; as NotifyMsg.
func (*seen) MergeRemoteState([]byte, bool) {}

// NotifyAlive is memberlist.AliveDelegate: it keeps out, before memberlist
// stores them, records that no member of ours makes, and members beyond the
// bound.
func (s *seen) NotifyAlive(n *memberlist.Node) error {
	if len(n.Meta) > member.MaxEncoded {
		return fmt.Errorf("its record has %d bytes, at most %d are allowed", len(n.Meta), member.MaxEncoded)
	}
	if len(n.Name) > maxName {
		return errors.New("its name is too long")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.nodes[n.Name]; !ok && len(s.nodes) >= maxMembers {
		return fmt.Errorf("the pool has %d members, which is the limit", len(s.nodes))
	}
	return nil
}

// NotifyJoin is memberlist.EventDelegate.
func (s *seen) NotifyJoin(n *memberlist.Node) { s.keep(n) }

// NotifyUpdate is memberlist.EventDelegate.
func (s *seen) NotifyUpdate(n *memberlist.Node) { s.keep(n) }

// NotifyLeave is memberlist.EventDelegate: left, or found dead.
func (s *seen) NotifyLeave(n *memberlist.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.nodes, n.Name)
}

// NotifyConflict is memberlist.ConflictDelegate: two members use one name. The
// one that was there first stays in the pool; the other still polls and serves.
func (s *seen) NotifyConflict(existing, other *memberlist.Node) {
	s.note("two members use one name in gossip; give one of them another id",
		"name", existing.Name, "addr", existing.Address(), "other_addr", other.Address())
}

func (s *seen) keep(n *memberlist.Node) {
	info, err := member.Decode(n.Meta)
	if err != nil {
		s.note("a member's record in gossip can't be read", "name", n.Name, "addr", n.Address(), "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[n.Name] = node{addr: n.Address(), info: info, readable: err == nil}
	if err != nil {
		return
	}
	if p := (place{info.Epoch, info.Head}); p.beyond(s.best) {
		s.best = p
		nudge(s.heard)
	}
}
