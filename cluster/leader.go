package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/keyraft/keyraft/fsm/command"
)

// Job is work that the leader alone does: Run is called every Every while this
// node leads and its term has started, and its context ends with the leadership.
// An error is logged and the job runs again at its next turn.
type Job struct {
	Name  string
	Every time.Duration
	Run   func(ctx context.Context) error
}

// startTime bounds how long a new leader may take to commit its first command (R3).
const startTime = 10 * time.Second

// lead runs the leader's work whenever this node leads. raft's own channel
// always holds the newest state, so a slow job never blocks raft (K21).
func (n *Node) lead(ctx context.Context) {
	var stop context.CancelFunc
	var done chan struct{}
	end := func() {
		if stop != nil {
			stop()
			<-done
			stop = nil
		}
	}
	defer end()
	begin := func() {
		work, cancel := context.WithCancel(ctx)
		stop, done = cancel, make(chan struct{})
		go func(done chan struct{}) {
			defer close(done)
			n.leaderWork(work)
		}(done)
	}
	if n.isLeader() {
		begin()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case leads := <-n.raft.LeaderCh():
			end()
			if leads {
				begin()
			}
		}
	}
}

// leaderWork starts the term, finishes a bootstrap, then runs the jobs.
func (n *Node) leaderWork(ctx context.Context) {
	term, err := n.startTerm(ctx)
	for err != nil && ctx.Err() == nil {
		n.log.Error("this leader can't commit its first command; handing over", "error", err)
		n.stepDown(ctx)
		term, err = n.startTerm(ctx)
	}
	if err != nil {
		return
	}
	n.log.Info("leading", "term", term)
	n.failedStarts.Store(0)
	for err = n.finishBootstrap(ctx); err != nil; err = n.finishBootstrap(ctx) {
		n.log.Error("the cluster could not be made; trying again", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
	var jobs sync.WaitGroup
	defer jobs.Wait()
	for _, j := range n.jobs() {
		jobs.Go(func() { n.runJob(ctx, j) })
	}
}

func (n *Node) runJob(ctx context.Context, j Job) {
	for {
		err := n.tryJob(ctx, j)
		text := ""
		if err != nil && ctx.Err() == nil {
			n.metrics.jobFailures.WithLabelValues(j.Name).Inc()
			text = err.Error()
		}
		if n.repeats.due("job/"+j.Name, text, time.Now()) {
			n.log.Warn("leader job failed; it runs again", "job", j.Name, "in", j.Every.String(), "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(j.Every):
		}
	}
}

// tryJob turns a panic of a job into an error: the node goes on (P8).
func (n *Node) tryJob(ctx context.Context, j Job) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return j.Run(ctx)
}

// startTerm commits TermStart: an index of this term that the FSM sees (R2, R3).
func (n *Node) startTerm(ctx context.Context) (uint64, error) {
	begun := time.Now()
	deadline := begun.Add(startTime)
	for {
		term := n.raft.CurrentTerm()
		err := n.tryStart(ctx, term)
		if err == nil && n.raft.CurrentTerm() == term && n.isLeader() {
			n.leadership.start(term)
			return term, nil
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if time.Now().After(deadline) {
			return 0, err
		}
		if errors.Is(err, raft.ErrLeadershipTransferInProgress) && time.Now().After(begun.Add(2*n.cfg.ElectionTimeout)) {
			n.cfg.Fatal(errTransferStuck)
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(retryPause):
		}
	}
}

func (n *Node) tryStart(ctx context.Context, term uint64) error {
	if err := n.advanceClock(ctx, term); err != nil {
		return err
	}
	return n.proposeAsLeader(&command.TermStart{
		Node: n.id.NodeID, Term: term, Clock: n.cfg.Now().UnixMilli(), FeatureLevel: command.Level,
	})
}

// clockAgree is how close the clocks of a majority must be to one that moves
// cluster time further than an entry may (R14).
const clockAgree = 5 * time.Second

// advanceClock moves cluster time to this leader's clock when that is further
// ahead than one entry may go, as after days off, if a majority of the voters
// has about the same time.
func (n *Node) advanceClock(ctx context.Context, term uint64) error {
	cluster, now := n.fsm.View().Clock(), n.cfg.Now().UnixMilli()
	if cluster == 0 || now-cluster < 50_000 {
		return nil
	}
	voters, err := n.voters()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, roundTime)
	defer cancel()
	clocks, err := n.askVoters(ctx, voters, term)
	if err != nil {
		return err
	}
	slices.Sort(clocks)
	if median := clocks[len(clocks)/2]; time.Duration(abs(median-now))*time.Millisecond > clockAgree {
		return fmt.Errorf("this node's clock is %d ms away from the voters' median: set the clocks right", now-median)
	}
	return n.proposeAsLeader(&command.ClockAdvance{To: now, Voters: clocks})
}

func abs(x int64) int64 { return max(x, -x) }

// proposeAsLeader puts one command into the log past the batcher, for what must
// come before the term has started.
func (n *Node) proposeAsLeader(c command.Command) error {
	envelope, err := command.Encode(c, command.Key{}, [8]byte{}, false)
	if err != nil {
		return err
	}
	u := newUnit("", 0, 1, envelope)
	f := n.raft.Apply(n.batcher.entry([]*unit{u}, n.fsm.View().Epoch()), enqueueWait)
	done := make(chan error, 1)
	go awaitFuture(f, done) // at its shutdown raft may never answer
	select {
	case err := <-done:
		if err != nil {
			return err
		}
	case <-n.ctx.Done():
		return errStopped
	}
	results, _ := f.Response().([]command.Result)
	if len(results) != 1 {
		return errUnknown
	}
	return results[0].Err()
}

// stepDown hands leadership over, since the library has no call to give it up
// (R3). A lone voter goes on refusing writes; twice in a row ends the process.
func (n *Node) stepDown(ctx context.Context) {
	if voters, err := n.voters(); err == nil && len(voters) == 1 {
		return
	}
	if n.failedStarts.Add(1) > 1 {
		n.cfg.Fatal(errors.New("this node was elected twice and could not commit either time: look at its disk; another node takes over"))
		return
	}
	if err := n.transfer(ctx, ""); err != nil {
		n.log.Warn("leadership could not be handed over", "error", err)
	}
}

// jobs are the leader's duties: for the cluster itself, and those it was given.
func (n *Node) jobs() []Job {
	return append([]Job{
		{Name: "expire", Every: 10 * time.Second, Run: n.expireJob},
		{Name: "promote", Every: 100 * time.Millisecond, Run: n.promoteJob},
		{Name: "settle", Every: 2 * time.Second, Run: n.settleJob},
		{Name: "gossip-keys", Every: time.Second, Run: n.gossipKeyJob},
	}, n.cfg.Jobs...)
}

// expireRows bounds one command of the expiry job.
const expireRows = 2048

// expireJob removes what has ended. An idle cluster with nothing due writes nothing.
func (n *Node) expireJob(ctx context.Context) error {
	for {
		now := n.cfg.Now().UnixMilli()
		due, any, err := n.fsm.View().DueMinute()
		if err != nil || !any || due > uint64(now)/60_000 {
			return err
		}
		r, err := n.Propose(ctx, &command.Expire{UpTo: now, Limit: expireRows})
		if err != nil {
			return err
		}
		if r.Generation < expireRows {
			return nil
		}
	}
}

// transfer hands leadership to a node, or to the best healthy voter. A transfer
// that doesn't end cleanly may leave the library refusing every write for ever
// (hashicorp/raft #696), so the node then proves that it still can (R12).
func (n *Node) transfer(ctx context.Context, to string) error {
	target, err := n.transferTarget(ctx, to)
	if err != nil {
		return err
	}
	f := n.raft.LeadershipTransferToServer(target.ID, target.Address)
	done := make(chan error, 1)
	go awaitFuture(f, done)
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		return nil
	}
	n.spawn(n.proveWrites)
	return fmt.Errorf("hand leadership to %s: %w", target.ID, err)
}

// awaitFuture hands on what became of a transfer or an entry. raft v1.8.0 never
// answers one that still lies in a channel of its own when it is shut down, and
// gives no way to take it back: this goroutine then ends with the process, which is
// on its way out.
func awaitFuture(f raft.Future, done chan<- error) { done <- f.Error() }

// errTransferStuck is what a transfer may leave behind that ran into a step-down:
// the library then refuses every write of this node, in later terms too.
var errTransferStuck = errors.New("a leadership transfer never ended and blocks every write: the node must be started again")

// proveWrites ends the process when raft still says "transfer in progress" two
// election timeouts after a transfer that failed (R12).
func (n *Node) proveWrites() {
	deadline := time.Now().Add(2 * n.cfg.ElectionTimeout)
	for n.ctx.Err() == nil && n.isLeader() {
		err := n.proposeAsLeader(&command.TermStart{Node: n.id.NodeID, Term: n.raft.CurrentTerm(), Clock: n.cfg.Now().UnixMilli(), FeatureLevel: command.Level})
		if !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			return
		}
		if time.Now().After(deadline) {
			n.cfg.Fatal(errTransferStuck)
			return
		}
		select {
		case <-n.ctx.Done():
		case <-time.After(retryPause):
		}
	}
}
