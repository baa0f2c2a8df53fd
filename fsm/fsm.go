// Package fsm is the replicated state machine: Apply changes the state by one
// Raft entry, Snapshot and Restore carry it whole, View lets everyone read it.
//
// Apply is a function of the state and the entry's bytes alone: no clock, no
// randomness, no map order, no network, no float. A refusal is a Result, equal
// on every node; an error inside means that this node's store is broken, and
// then the node halts. An unknown kind or version halts it before anything of
// that entry is applied.
//
// The package knows no raft type; package cluster adapts it.
//
// Concurrency: Apply, Restore and Snapshot are called by one goroutine at a time
// (raft's); View, Wait-free, by any.
package fsm

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/storage"
)

// Config says where the state lives and who is told of it.
type Config struct {
	Dir     string          // folder of the state; made when missing
	Storage storage.Options // its Latch is shared with the node's other durable stores
	// Halt is called once, with a sentence for the operator, when this node must
	// not go on: a damaged store, an unknown command. It should end the process.
	Halt func(error)
	// Observe is told the position after each entry and after a restore, in
	// order. It must not block.
	Observe func(v *state.View)
	Logger  *slog.Logger
}

// FSM is the state machine of one node.
type FSM struct {
	cfg  Config
	view atomic.Pointer[state.View]

	life sync.Mutex // Restore, Close and Kill, one after another; taken before mu
	swap func(dir, name string) error

	mu       sync.Mutex // guards db
	db       *storage.DB
	replayed uint64 // entries up to here may come again after Open (R7)
	halted   atomic.Bool
}

// Open opens the state in cfg.Dir, or makes an empty one, and builds the memory
// views. It removes what an interrupted restore left behind.
func Open(cfg Config) (*FSM, error) {
	if cfg.Halt == nil || cfg.Logger == nil {
		return nil, errors.New("fsm: Halt and Logger must be given")
	}
	if cfg.Observe == nil {
		cfg.Observe = func(*state.View) {}
	}
	f := &FSM{cfg: cfg, swap: setCurrent}
	if f.cfg.Storage.Latch == nil {
		f.cfg.Storage.Latch = storage.NewLatch(f.halt)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state folder: %w", err)
	}
	name, err := current(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if err := sweep(cfg.Dir, name); err != nil {
		return nil, err
	}
	f.db, err = storage.Open(filepath.Join(cfg.Dir, name), f.cfg.Storage)
	if err != nil {
		return nil, fmt.Errorf("open the state: %w", err)
	}
	v, err := state.Load(f.db)
	if err == nil && v.Counters().Level > command.Level {
		err = fmt.Errorf("the state has feature level %d, this binary understands %d: start a newer one", v.Counters().Level, command.Level)
	}
	if err != nil {
		return nil, errors.Join(err, f.db.CloseDirty())
	}
	f.view.Store(v)
	f.replayed = v.Index()
	return f, nil
}

// View is the newest state. It is immutable and safe for concurrent use.
func (f *FSM) View() *state.View { return f.view.Load() }

// Stats are the numbers of the store, for metrics.
func (f *FSM) Stats() storage.Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.db.Stats()
}

// Flush makes everything applied so far durable and waits for it.
func (f *FSM) Flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.db.Flush()
}

// Close flushes and closes the store. Reads of the store after it give
// storage.ErrClosed; what is in memory stays readable.
func (f *FSM) Close() error {
	f.life.Lock()
	defer f.life.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.halted.Load() {
		return f.db.CloseDirty()
	}
	return f.db.Close()
}

// Kill closes the store as a crash would: nothing is flushed.
func (f *FSM) Kill() error {
	f.life.Lock()
	defer f.life.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.db.CloseDirty()
}

func (f *FSM) halt(err error) {
	if f.halted.CompareAndSwap(false, true) {
		f.cfg.Halt(err)
	}
}

// Apply changes the state by one Raft entry and answers each of its commands.
// An index that was applied before is skipped while the log is replayed after a
// start, and halts the node at any other time (R7). After a halt it answers nil.
func (f *FSM) Apply(index, term uint64, entry []byte) []command.Result {
	if f.halted.Load() {
		return nil
	}
	v := f.view.Load()
	if index <= v.Index() {
		if index > f.replayed {
			f.halt(fmt.Errorf("entry %d came twice: the log and the state disagree; restore this node from a peer", index))
		}
		return nil
	}
	next, results, err := apply(v, index, term, entry)
	if err != nil {
		f.halt(fmt.Errorf("entry %d can't be applied: %w", index, err))
		return nil
	}
	f.view.Store(next)
	f.cfg.Observe(next)
	return results
}

// step is what one command of an entry may see besides its payload.
type step struct {
	*state.Batch
	index uint64
	now   int64 // cluster time, milliseconds
	key   command.Key
}

func apply(v *state.View, index, term uint64, entry []byte) (*state.View, []command.Result, error) {
	header, envelopes, err := command.ParseEntry(entry)
	if err != nil {
		return nil, nil, err
	}
	commands := make([]command.Command, len(envelopes))
	for i, e := range envelopes {
		if commands[i], err = e.Decode(); err != nil {
			return nil, nil, err
		}
	}
	b := state.NewBatch(v)
	defer b.Close()
	b.Expect(len(entry) + len(entry)/2)
	advance(b, header)
	s := step{Batch: b, index: index}
	results := make([]command.Result, len(commands))
	for i, c := range commands {
		s.key, s.now = envelopes[i].Key, b.Clock() // ClockAdvance counts at once
		if results[i], err = s.one(header, envelopes[i], c); err != nil {
			return nil, nil, fmt.Errorf("command %d of kind %d: %w", i, envelopes[i].Kind, err)
		}
		results[i].Index, results[i].Head, results[i].Epoch = index, b.Head(), b.Epoch()
	}
	next, err := b.Commit(index, term)
	return next, results, err
}

// maxStep bounds how far one entry moves the cluster clock beyond the time that
// passed for its leader (R14), in milliseconds.
const maxStep = 60_000

// maxClock is the end of the year 9999, in milliseconds: no honest clock shows
// more, and sums with it stay far from overflowing.
const maxClock = 253_402_300_799_999

// advance moves cluster time to the entry's stamp: never back, and not further
// than the leader's own elapsed time allows.
func advance(b *state.Batch, h command.Header) {
	clock := b.Clock()
	now := min(h.Stamp, maxClock)
	if limit := clock + maxStep + int64(min(h.Elapsed, 1<<40)); clock != 0 && now > limit {
		now = limit
		b.CountClamp()
	}
	b.SetClock(now)
}

// one runs one command: a kept answer first, the epoch next, then its kind.
func (s step) one(h command.Header, e command.Envelope, c command.Command) (command.Result, error) {
	if e.Remember {
		kept, err := s.Answered(e.Key)
		if err != nil {
			return command.Result{}, err
		}
		if kept != nil {
			if string(kept.GetBody()) != string(e.Body[:]) {
				return command.Result{Reject: command.KeyReused}, nil
			}
			return command.ParseResult(kept.GetResult())
		}
	}
	if epoch := s.Epoch(); epoch != h.Epoch && e.Kind != command.KindTermStart && e.Kind != command.KindClockAdvance {
		return command.Result{Reject: command.EpochChanged}, nil
	}
	r, err := s.run(c)
	if err != nil || r.Reject != command.Accepted || !e.Remember {
		return r, err
	}
	s.PutAnswered(e.Key, &state.Answered{
		Body: append([]byte(nil), e.Body[:]...), Result: r.Append(nil), ExpiresAt: s.now + command.AnsweredFor.Milliseconds(),
	})
	return r, nil
}

func (s step) run(c command.Command) (command.Result, error) {
	switch c := c.(type) {
	case *command.Bootstrap:
		return s.bootstrap(c)
	case *command.TermStart:
		return command.Result{}, nil // its meaning is that it was applied (R3)
	case *command.ClockAdvance:
		return s.clockAdvance(c)
	case *command.SetFeatureLevel:
		return s.setFeatureLevel(c)
	case *command.SetIssuer:
		return s.setIssuer(c)
	case *command.PutTenant:
		return s.putTenant(c)
	case *command.PutClient:
		return s.putClient(c)
	case *command.DeleteClient:
		return s.deleteClient(c)
	case *command.IssueOpaque:
		return s.issueOpaque(c)
	case *command.Revoke:
		return s.revoke(c)
	case *command.Consume:
		return s.consume(c)
	case *command.PutSigningKey:
		return s.putSigningKey(c)
	case *command.RotateSigningKey:
		return s.rotateSigningKey(c)
	case *command.DropSigningKey:
		return s.dropSigningKey(c)
	case *command.PutClusterKey:
		return s.putClusterKey(c)
	case *command.PutJoinToken:
		return s.putJoinToken(c)
	case *command.Join:
		return s.join(c)
	case *command.PutNode:
		return s.putNode(c)
	case *command.RemoveNode:
		return s.removeNode(c)
	case *command.PutGateway:
		return s.putGateway(c)
	case *command.DeleteGateway:
		return s.deleteGateway(c)
	case *command.PutAdminToken:
		return s.putAdminToken(c)
	case *command.Expire:
		return s.expire(c)
	case *command.PutUser:
		return s.putUser(c)
	case *command.DeleteUser:
		return s.deleteUser(c)
	case *command.RecordAttempt:
		return s.recordAttempt(c)
	case *command.PutRole:
		return s.putRole(c)
	case *command.DeleteRole:
		return s.deleteRole(c)
	case *command.PutGroup:
		return s.putGroup(c)
	case *command.DeleteGroup:
		return s.deleteGroup(c)
	case *command.PutScope:
		return s.putScope(c)
	case *command.DeleteScope:
		return s.deleteScope(c)
	case *command.PutSession:
		return s.putSession(c)
	case *command.EndSession:
		return s.endSession(c)
	case *command.PutConsent:
		return s.putConsent(c)
	case *command.DeleteConsent:
		return s.deleteConsent(c)
	case *command.PutCredential:
		return s.putCredential(c)
	case *command.DeleteCredential:
		return s.deleteCredential(c)
	case *command.UseCredential:
		return s.useCredential(c)
	case *command.Redeem:
		return s.redeem(c)
	case *command.RotateRefresh:
		return s.rotateRefresh(c)
	case *command.EndGrant:
		return s.endGrantCommand(c)
	case *command.StartDevice:
		return s.startDevice(c)
	case *command.DecideDevice:
		return s.decideDevice(c)
	case *command.PollDevice:
		return s.pollDevice(c)
	case *command.StartBackchannel:
		return s.startBackchannel(c)
	case *command.DecideBackchannel:
		return s.decideBackchannel(c)
	case *command.PollBackchannel:
		return s.pollBackchannel(c)
	case *command.PutTrustedIssuer:
		return s.putTrustedIssuer(c)
	case *command.DeleteTrustedIssuer:
		return s.deleteTrustedIssuer(c)
	case *command.PutInitialAccessToken:
		return s.putInitialAccessToken(c)
	case *command.RegisterClient:
		return s.registerClient(c)
	case *command.DeleteInitialAccessToken:
		return s.deleteInitialAccessToken(c)
	case *command.UseClient:
		return s.useClient(c)
	default:
		return command.Result{}, fmt.Errorf("no rule for kind %d", c.Kind())
	}
}

func reject(r command.Reject) (command.Result, error) { return command.Result{Reject: r}, nil }
