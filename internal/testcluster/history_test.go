package testcluster_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/keyraft/keyraft/cluster"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/testcluster"
)

// What clients do to a key. Each key is a thing that is made once: a revocation
// may be made again, a one-time value or a client may not.
const (
	opRevoke = iota
	opConsume
	opCreate
	opRead
)

type input struct {
	op  int
	key string
}

// What they are told.
const (
	gotDone    = iota // it is there, made by this operation (for a revocation: or before)
	gotRefused        // another operation made it
	gotUnknown        // may be made now, later, or never
	gotFound          // a read: it is there
	gotNothing        // a read: it is not
)

var outcomes = [...]string{"done", "refused", "unknown", "found", "nothing"}

// model is one key: is it there?
var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		byKey := map[string]int{}
		for _, o := range history {
			key := o.Input.(input).key
			i, ok := byKey[key]
			if !ok {
				i = len(parts)
				byKey[key] = i
				parts = append(parts, nil)
			}
			parts[i] = append(parts[i], o)
		}
		return parts
	},
	Init: func() any { return false },
	Step: func(s, in, out any) (bool, any) {
		there := s.(bool)
		switch out.(int) {
		case gotDone:
			return !there || in.(input).op == opRevoke, true
		case gotRefused, gotFound:
			return there, there
		case gotNothing:
			return !there, there
		default:
			return true, true
		}
	},
	DescribeOperation: func(in, out any) string {
		return fmt.Sprintf("%s %s: %s", [...]string{"revoke", "consume", "create", "read"}[in.(input).op], in.(input).key, outcomes[out.(int)])
	},
}

// history records what clients did and were told.
type history struct {
	began time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
	seqs  map[uint64]string // of acknowledged revocations
}

func (h *history) now() int64 { return time.Since(h.began).Nanoseconds() }

// do carries out one operation at a node.
func (h *history) do(t *testing.T, client int, n *cluster.Node, in input) {
	ctx, cancel := ctxFor(6 * time.Second)
	defer cancel()
	call := h.now()
	if in.op == opRead {
		v, err := n.View(ctx, state.Linearizable)
		if err == nil {
			h.add(client, in, call, h.now(), h.found(v, in.key))
		}
		return
	}
	r, err := n.Propose(ctx, commandOf(in))
	switch {
	case errors.Is(err, command.ErrOutcomeUnknown):
		h.add(client, in, call, int64(time.Hour), gotUnknown)
	case errors.Is(err, command.ErrUnavailable): // nothing was done: a read that finds it has no explanation
	case err != nil:
		t.Errorf("a write failed with %v", err)
	case r.Reject == command.Accepted:
		h.add(client, in, call, h.now(), gotDone)
		if in.op == opRevoke {
			h.seq(t, r.Seq, in.key)
		}
	case r.Reject == command.AlreadyUsed, r.Reject == command.Exists:
		h.add(client, in, call, h.now(), gotRefused)
	default:
		t.Errorf("%v was refused: %v", in, r.Reject)
	}
}

func commandOf(in input) command.Command {
	switch in.op {
	case opRevoke:
		return revocation(in.key)
	case opConsume:
		return &command.Consume{Tenant: tenant, ValueKind: "code", Id: in.key, ExpiresAt: time.Now().Unix() + 3600}
	default:
		return &command.PutClient{Client: &state.Client{Tenant: tenant, Id: in.key}}
	}
}

func (h *history) found(v *state.View, key string) int {
	_, client := v.Client(tenant, key)
	if client || revoked(v, key) {
		return gotFound
	}
	return gotNothing
}

func (h *history) add(client int, in input, call, ret int64, out int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: ret})
}

// seq checks I5: two events never have one number. The same target may keep its.
func (h *history) seq(t *testing.T, seq uint64, key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if other, ok := h.seqs[seq]; ok && other != key {
		t.Errorf("I5: seq %d names %s and %s", seq, other, key)
	}
	h.seqs[seq] = key
}

// trouble does something bad to the cluster, and repairs it after a while.
func trouble(c *testcluster.Cluster, random *rand.Rand) (what string) {
	nodes := c.Nodes()
	victim := nodes[random.IntN(len(nodes))]
	if random.IntN(3) > 0 { // mostly the leader
		for _, n := range nodes {
			if r := n.Running(); r != nil && r.Status().State == "leader" {
				victim = n
			}
		}
	}
	pause := time.Duration(200+random.IntN(900)) * time.Millisecond
	switch random.IntN(5) {
	case 0, 1:
		what = "kill " + victim.Name
		victim.Kill()
		time.Sleep(pause)
		victim.Restart()
	case 2:
		what = "isolate " + victim.Name
		c.Net.Isolate(victim.Name)
		time.Sleep(pause)
		c.Net.Heal()
	case 3:
		what = "freeze " + victim.Name
		c.Net.Freeze(victim.Name)
		time.Sleep(pause)
		c.Net.Heal()
	case 4:
		what = "mute " + victim.Name
		c.Net.Mute(victim.Name)
		time.Sleep(pause)
		c.Net.Heal()
	}
	time.Sleep(time.Duration(random.IntN(600)) * time.Millisecond)
	return what
}

// TestHistoriesAreLinearizable records what clients of all nodes are told while
// leaders are killed, restarted, cut off and frozen, and has porcupine look for an
// order that explains it (I1, I2, I3); chains and tables are equal then (I4).
func TestHistoriesAreLinearizable(t *testing.T) {
	t.Parallel()
	for seed := range seeds(1) {
		if !oneHistory(t, uint64(seed)) {
			return
		}
	}
}

const (
	historyTime = 10 * time.Second
	clients     = 6
	// newKeysEvery is how often the clients turn to other keys: few operations a
	// key, so that the search is short.
	newKeysEvery = 400 * time.Millisecond
)

func oneHistory(t *testing.T, seed uint64) bool {
	t.Helper()
	c := testcluster.Start(t, 3)
	h := &history{began: time.Now(), seqs: map[uint64]string{}}
	var wg sync.WaitGroup
	for client := range clients {
		random := rand.New(rand.NewPCG(seed, uint64(client)))
		wg.Go(func() {
			for time.Since(h.began) < historyTime {
				h.one(t, c, client, random)
			}
		})
	}
	random := rand.New(rand.NewPCG(seed, 99))
	var troubles []string
	for time.Since(h.began) < historyTime {
		troubles = append(troubles, trouble(c, random))
	}
	wg.Wait()
	c.AwaitVoters(3)
	c.EqualChecksums()
	h.kept(t, c)
	h.check(t, seed)
	done := 0
	for _, o := range h.ops {
		if o.Output.(int) == gotDone {
			done++
		}
	}
	t.Logf("seed %d: %d operations, %d writes acknowledged, %d keys of revocations, troubles: %v", seed, len(h.ops), done, len(h.seqs), troubles)
	if done == 0 {
		t.Error("no write was acknowledged")
	}
	return !t.Failed()
}

func (h *history) one(t *testing.T, c *testcluster.Cluster, client int, random *rand.Rand) {
	nodes := c.Nodes()
	n := nodes[random.IntN(len(nodes))].Running()
	if n == nil {
		time.Sleep(time.Millisecond)
		return
	}
	op := random.IntN(3)
	key := fmt.Sprintf("%d-%d-%d", op, int(time.Since(h.began)/newKeysEvery), random.IntN(8))
	if random.IntN(2) == 0 && op != opConsume { // a consumed value can only be asked for by consuming
		op = opRead
	}
	h.do(t, client, n, input{op, key})
	time.Sleep(time.Duration(random.IntN(4)) * time.Millisecond)
}

// kept checks I1 and I3 directly: what was acknowledged is there on every node,
// and nothing was made twice.
func (h *history) kept(t *testing.T, c *testcluster.Cluster) {
	t.Helper()
	made := map[string]int{}
	for _, o := range h.ops {
		in := o.Input.(input)
		if o.Output.(int) != gotDone {
			continue
		}
		if in.op != opRevoke {
			if made[in.key]++; made[in.key] > 1 {
				t.Errorf("I3: %s was made %d times", in.key, made[in.key])
			}
		}
		for _, n := range c.Live() {
			if in.op != opConsume && h.found(n.FSM().View(), in.key) != gotFound {
				t.Errorf("I1: %s lost %s", n.Name, in.key)
			}
		}
	}
}

func (h *history) check(t *testing.T, seed uint64) {
	t.Helper()
	result, info := porcupine.CheckOperationsVerbose(model, h.ops, 30*time.Second)
	if result == porcupine.Ok {
		return
	}
	path := filepath.Join(os.TempDir(), fmt.Sprintf("keyraft-history-%d.html", seed))
	t.Errorf("seed %d: the history of %d operations is %s (see %s: %v)", seed, len(h.ops), result, path, porcupine.VisualizePath(model, info, path))
}
