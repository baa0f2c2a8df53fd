package cluster

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyraft/keyraft/cluster/peer"
	"github.com/keyraft/keyraft/fsm/command"
)

// roundTime bounds one round of the voters.
const roundTime = 2 * time.Second

// reader shares rounds: whoever comes while one runs waits for the next, so one
// round serves all that wait (R2; docs/adr/0001).
type reader struct {
	node *Node

	mu      sync.Mutex
	next    *round // that whoever asks now waits for; nil: nobody does
	waiting int    // for it
	running bool
}

// round is one question to the voters, whose answer all share that wait for it.
type round struct {
	done chan struct{} // closed when result is set
	readResult
}

type readResult struct {
	index uint64
	sent  time.Duration // on progress's clock, before the question left
	err   error
}

// ask asks for an index of the FSM that holds every write acknowledged before the
// call, and for when the round that proved it began. It is answered within two
// rounds' time, whatever happens.
func (r *reader) ask() (*round, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.running && !r.node.spawn(r.rounds) {
		return nil, errStopped
	}
	r.running = true
	if r.next == nil {
		r.next = &round{done: make(chan struct{})}
	}
	r.waiting++
	return r.next, nil
}

// index is the answer to ask, or the end of ctx.
func (r *reader) index(ctx context.Context) (readResult, error) {
	mine, err := r.ask()
	if err != nil {
		return readResult{}, err
	}
	select {
	case <-mine.done:
		return mine.readResult, mine.err
	case <-ctx.Done():
		return readResult{}, context.Cause(ctx)
	}
}

// rounds runs while anybody waits.
func (r *reader) rounds() {
	for {
		runtime.Gosched() // whoever is about to ask shares this round
		r.mu.Lock()
		now, waiting := r.next, r.waiting
		r.next, r.waiting = nil, 0
		if now == nil {
			r.running = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		now.readResult = r.round()
		r.node.metrics.readRounds.Inc()
		r.node.metrics.reads.Add(float64(waiting))
		close(now.done)
	}
}

func (r *reader) round() readResult {
	ctx, cancel := context.WithTimeout(r.node.ctx, roundTime)
	defer cancel()
	sent := r.node.progress.since()
	index, err := r.node.readIndex(ctx)
	return readResult{index: index, sent: sent, err: err}
}

// readIndex is one round: here when this node leads, at the leader otherwise.
func (n *Node) readIndex(ctx context.Context) (uint64, error) {
	if n.isLeader() {
		return n.confirmLead(ctx)
	}
	id, addr := n.leader()
	if id == "" {
		return 0, command.ErrUnavailable
	}
	client, err := n.peers.client(id, addr)
	if err != nil {
		return 0, err
	}
	ctx, cancel := n.whileLeading(ctx, id)
	defer cancel()
	mine := n.fsm.View().Epoch()
	got, err := client.ReadIndex(ctx, &peer.ReadIndexRequest{})
	if err != nil {
		return 0, fmt.Errorf("ask the leader %s for a read index: %w", id, err)
	}
	if mine > got.GetEpoch() && got.GetEpoch() != 0 {
		err := n.deadBranch(mine, got.GetEpoch())
		n.cfg.Fatal(err)
		return 0, err
	}
	return got.GetIndex(), nil
}

// deadBranch says that this node was leading a restore when it lost the majority:
// it holds an epoch that the cluster never took, and nothing leads back from it
// (K11). A started leader's state holds everything that was ever committed.
func (n *Node) deadBranch(mine, leaders uint64) error {
	return n.quarantine("it holds epoch %d of a restore that the cluster did not take; the cluster is at epoch %d", mine, leaders)
}

// confirmLead takes the FSM's applied index, then makes sure that a majority of
// the voters was still in this leader's term after that. A later leader would
// need one of them in a later term first, so none has committed anything yet.
func (n *Node) confirmLead(ctx context.Context) (uint64, error) {
	if !n.leads(ctx) {
		return 0, command.ErrUnavailable
	}
	term, ok := n.started()
	if !ok {
		return 0, command.ErrUnavailable
	}
	index := n.fsm.View().Index()
	voters, err := n.voters()
	if err != nil {
		return 0, err
	}
	if _, err := n.askVoters(ctx, voters, term); err != nil {
		return 0, err
	}
	if now, ok := n.started(); !ok || now != term {
		return 0, command.ErrUnavailable
	}
	return index, nil
}

// voters are the voting members of the newest configuration.
func (n *Node) voters() ([]raft.Server, error) {
	f := n.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, err
	}
	var out []raft.Server
	for _, s := range f.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			out = append(out, s)
		}
	}
	return out, nil
}

var errNoMajority = errors.New("no majority of the voters confirmed the leader in time")

// askVoters asks every other voter for its term and returns their clocks when a
// majority, this node among them, is at exactly term. Non-voters don't count (R18).
func (n *Node) askVoters(ctx context.Context, voters []raft.Server, term uint64) ([]int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	need := len(voters)/2 + 1
	clocks := make([]int64, 0, len(voters))
	answers := make(chan *peer.ConfirmAnswer, len(voters))
	asked := 0
	for _, v := range voters {
		if string(v.ID) == n.id.NodeID {
			clocks = append(clocks, n.cfg.Now().UnixMilli())
			continue
		}
		asked++
		go func() { answers <- n.confirm(ctx, v, term) }()
	}
	for range asked {
		if len(clocks) >= need {
			break
		}
		select {
		case a := <-answers:
			if a != nil && a.GetTerm() == term {
				clocks = append(clocks, a.GetClock())
			}
		case <-ctx.Done():
			return nil, errNoMajority
		}
	}
	if len(clocks) < need {
		return nil, errNoMajority
	}
	return clocks, nil
}

// confirm asks one voter; nil when it doesn't answer this very question.
func (n *Node) confirm(ctx context.Context, v raft.Server, term uint64) *peer.ConfirmAnswer {
	client, err := n.peers.client(string(v.ID), string(v.Address))
	if err != nil {
		return nil
	}
	nonce := n.nonce.Add(1)
	got, err := client.Confirm(ctx, &peer.ConfirmRequest{Nonce: nonce, Term: term})
	if err != nil || got.GetNonce() != nonce {
		return nil
	}
	return got
}

// Confirm implements peer.PeerServer: the term is read after the question came in.
func (s *server) Confirm(_ context.Context, q *peer.ConfirmRequest) (*peer.ConfirmAnswer, error) {
	return &peer.ConfirmAnswer{
		Nonce: q.GetNonce(), Term: s.node.raft.CurrentTerm(), Clock: s.node.cfg.Now().UnixMilli(),
	}, nil
}

// ReadIndex implements peer.PeerServer at the leader.
func (s *server) ReadIndex(ctx context.Context, _ *peer.ReadIndexRequest) (*peer.ReadIndexAnswer, error) {
	if !s.node.isLeader() {
		return nil, status.Error(codes.FailedPrecondition, "not the leader")
	}
	got, err := s.node.reader.index(ctx)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &peer.ReadIndexAnswer{Index: got.index, Epoch: s.node.fsm.View().Epoch()}, nil
}
