package testcluster_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyraft/keyraft/cluster"
	"github.com/keyraft/keyraft/cluster/ca"
	"github.com/keyraft/keyraft/cluster/member"
	"github.com/keyraft/keyraft/cluster/transport"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/internal/testcluster"
)

// load writes at some live node until it is stopped, and counts.
func load(t *testing.T, c *testcluster.Cluster) (stop func() []string) {
	t.Helper()
	end := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	var acked []string
	for w := range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-end:
					return
				default:
				}
				nodes := c.Nodes()
				node := nodes[(w+i)%len(nodes)].Running()
				if node == nil {
					continue
				}
				ctx, cancel := ctxFor(5 * time.Second)
				id := fmt.Sprintf("load-%d-%d", w, i)
				r, err := node.Propose(ctx, revocation(id))
				cancel()
				if err == nil && r.Err() == nil {
					mu.Lock()
					acked = append(acked, id)
					mu.Unlock()
				}
			}
		})
	}
	return func() []string {
		close(end)
		wg.Wait()
		return acked
	}
}

// kept checks that every acknowledged write is there on every node.
func kept(t *testing.T, c *testcluster.Cluster, acked []string) {
	t.Helper()
	if len(acked) == 0 {
		t.Error("no write was acknowledged")
	}
	c.EqualChecksums()
	for _, n := range c.Live() {
		v := n.FSM().View()
		for _, id := range acked {
			if !revoked(v, id) {
				t.Errorf("I1: %s lost %s", n.Name, id)
			}
		}
	}
}

// TestM1JoinsUnderLoad: nodes come and go under load by snapshot, as non-voters
// first; no acknowledged write is lost.
func TestM1JoinsUnderLoad(t *testing.T) {
	t.Parallel()
	c := testcluster.StartWith(t, 1, short)
	stop := load(t, c)
	for i := range 3 {
		name := fmt.Sprintf("m%d", i)
		snapshot(t, c.Leader()) // the log is cut: only a snapshot lets one in
		c.Join(name, true)
		c.AwaitVoters(i + 2)
	}
	for _, name := range []string{"m0", "n1"} { // n1 may lead
		if err := c.Any().Remove(within(t, 15*time.Second), name, false); err != nil {
			t.Errorf("remove %s: %v", name, err)
		}
		for _, n := range c.Live() {
			if n.Name == name {
				n.Kill()
			}
		}
	}
	kept(t, c, stop())
}

// joinMessage speaks the join exchange as another binary would.
func joinMessage(t *testing.T, token ca.JoinToken, csr []byte, node string) (refusal string) {
	t.Helper()
	conn, err := transport.DialJoin(within(t, 10*time.Second), token.Addr, token.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	raw, err := json.Marshal(map[string]any{
		"secret": token.Secret[:], "csr": csr, "node_id": node, "non_voter": false, "feature_level": command.Level, "version": "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...)); err != nil {
		t.Fatal(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		t.Fatal(err)
	}
	raw = make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(conn, raw); err != nil {
		t.Fatal(err)
	}
	var a struct {
		Error string
		Cert  []byte `json:"certificate"`
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		t.Fatal(err)
	}
	if (a.Error == "") != (len(a.Cert) > 0) {
		t.Fatalf("an answer with error %q and a certificate of %d bytes", a.Error, len(a.Cert))
	}
	return a.Error
}

func request(t *testing.T, node string) []byte {
	t.Helper()
	_, csr, err := ca.NewRequest(node)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// TestM3JoinIsIdempotentForOneKeyPair: an answer that was lost is asked for
// again, at another leader too; the token is of no use to anybody else.
func TestM3JoinIsIdempotentForOneKeyPair(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 3)
	token, err := ca.ParseJoinToken(c.Followers()[0].JoinTokenText(false))
	if err != nil {
		t.Fatal(err)
	}
	csr := request(t, "m3")
	if refusal := joinMessage(t, token, csr, "m3"); refusal != "" {
		t.Fatal(refusal)
	}
	c.Leader().Kill() // before it told the joiner
	c.Leader()
	if refusal := joinMessage(t, token, csr, "m3"); refusal != "" {
		t.Errorf("the same key pair again: %s", refusal)
	}
	for name, node := range map[string]string{"another key pair": "m3", "another node": "m4"} {
		if refusal := joinMessage(t, token, request(t, node), node); !strings.Contains(refusal, "used already") {
			t.Errorf("I3: %s: %q", name, refusal)
		}
	}
}

// TestT7JoinTokenOnce: of two nodes that use one token at once one gets in, and
// none after the cluster's clock has passed its end.
func TestT7JoinTokenOnce(t *testing.T) {
	t.Parallel()
	var ahead clock
	c := testcluster.StartWith(t, 1, testcluster.Options{Now: func(string) time.Time { return ahead.now() }})
	n1 := c.Nodes()[0]
	token, err := ca.ParseJoinToken(n1.JoinTokenText(false))
	if err != nil {
		t.Fatal(err)
	}
	refusals := make(chan string, 8)
	for i := range cap(refusals) {
		name := fmt.Sprintf("t%d", i)
		csr := request(t, name)
		go func() { refusals <- joinMessage(t, token, csr, name) }()
	}
	in := 0
	for range cap(refusals) {
		if r := <-refusals; r == "" {
			in++
		} else if !strings.Contains(r, "used already") {
			t.Errorf("refused with %q", r)
		}
	}
	if in != 1 {
		t.Errorf("I3: one token let %d nodes in", in)
	}

	text, _, err := n1.JoinToken(within(t, 5*time.Second), 20*time.Second, false)
	if err != nil {
		t.Fatal(err)
	}
	if token, err = ca.ParseJoinToken(text); err != nil {
		t.Fatal(err)
	}
	ahead.add(30 * time.Second)
	revoke(t, n1, "t7") // an entry moves the cluster's clock
	if refusal := joinMessage(t, token, request(t, "late"), "late"); !strings.Contains(refusal, "has expired") {
		t.Errorf("after its end: %q", refusal)
	}
}

type clock struct {
	mu sync.Mutex
	by time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.by)
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by += d
}

// TestJoinRefusals: each says what to do.
func TestJoinRefusals(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 1)
	other := testcluster.Start(t, 1)
	mine, err := ca.ParseJoinToken(c.Nodes()[0].JoinTokenText(false))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := ca.ParseJoinToken(other.Nodes()[0].JoinTokenText(false))
	if err != nil {
		t.Fatal(err)
	}
	unknown := mine
	unknown.Secret = theirs.Secret
	elsewhere := theirs
	elsewhere.Addr = mine.Addr
	for name, test := range map[string]struct {
		token ca.JoinToken
		node  string
		want  string
	}{
		"a secret of another cluster": {unknown, "r1", "unknown to this cluster"},
		"a token of another cluster":  {elsewhere, "r2", "fingerprint"},
		"a node id that a member has": {mine, "n1", `"n1" is taken`},
	} {
		_, err := c.TryJoin(test.node, test.token.Encode(), nil)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wrong, err := seal.NewKeyring(seal.Generate())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.TryJoin("r3", mine.Encode(), func(cfg *cluster.Config) { cfg.Keyring = wrong }); err == nil ||
		!strings.Contains(err.Error(), "the joining node seals under key "+wrong.KeyID()+", this cluster under ") {
		t.Errorf("another sealing key: %v", err)
	}
}

// TestWrongSealingKeyAtStart names the keys by their ids, and changes nothing.
func TestWrongSealingKeyAtStart(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 1)
	n := c.Nodes()[0]
	right := n.Keyring()
	n.Stop()
	wrong, err := seal.NewKeyring(seal.Generate())
	if err != nil {
		t.Fatal(err)
	}
	err = n.TryRestartWith(func(cfg *cluster.Config) { cfg.Keyring = wrong })
	if err == nil {
		t.Fatal("it started")
	}
	for _, id := range append(right.KeyIDs(), wrong.KeyIDs()...) {
		if !strings.Contains(err.Error(), id) {
			t.Errorf("the error doesn't name key %s: %v", id, err)
		}
	}
	n.Restart()
	n.AwaitReady()
}

// TestM4RemovedNodeStaysOut: with its old data and certificate, whether it has
// heard of its removal or not, until it joins anew from an empty folder.
func TestM4RemovedNodeStaysOut(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]bool{"it has heard": false, "it was cut off": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testcluster.Start(t, 4)
			leader, x := c.Leader(), c.Followers()[0]
			if away {
				c.Net.Isolate(x.Name)
			}
			if err := leader.Remove(within(t, 15*time.Second), x.Name, false); err != nil {
				t.Fatal(err)
			}
			if !away {
				select {
				case <-x.Gone:
				case <-time.After(5 * time.Second):
					t.Error("the node was not told")
				}
				if err := x.Ready(); !errors.Is(err, cluster.ErrRemoved) {
					t.Errorf("K35: it calls itself %v", err)
				}
			}
			x.Kill()
			c.Net.Heal()
			term := leader.Status().Term
			err := x.TryRestart()
			if !away {
				if !errors.Is(err, cluster.ErrRemoved) {
					t.Errorf("its start with old data: %v", err)
				}
			} else {
				if err != nil {
					t.Fatal(err)
				}
				refusedEverywhere(t, c, x)
				x.Kill()
			}
			revoke(t, leader, "m4")
			if now := leader.Status(); now.Term != term || now.State != "leader" {
				t.Errorf("the leader was disturbed: %+v", now)
			}
			again, err := c.TryJoin(x.Name, c.Token(false), nil)
			if err != nil {
				t.Fatalf("joining anew: %v", err)
			}
			again.AwaitReady()
			sees(t, again, "m4")
			if away { // the old one with the id of a member
				again.Kill()
				switch err := x.TryRestart(); {
				case errors.Is(err, cluster.ErrRemoved): // it has heard meanwhile, and kept that
				case err != nil:
					t.Fatal(err)
				default:
					refusedEverywhere(t, c, x)
				}
			}
		})
	}
}

// TestARemovedNodeKeepsThatItWasTold: a node that hears of its removal from another, for it
// was cut off from the log, knows it at its next start, with nobody in reach.
func TestARemovedNodeKeepsThatItWasTold(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 4)
	leader, x := c.Leader(), c.Followers()[0]
	c.Net.Isolate(x.Name)
	if err := leader.Remove(within(t, 15*time.Second), x.Name, false); err != nil {
		t.Fatal(err)
	}
	c.Net.Heal() // its certificate is refused: the log does not reach it any more
	select {
	case <-x.Gone:
	case <-time.After(20 * time.Second):
		t.Fatal("the node was not told")
	}
	x.Kill()
	c.Net.Isolate(x.Name)
	if err := x.TryRestart(); !errors.Is(err, cluster.ErrRemoved) {
		t.Errorf("its next start: %v", err)
	}
}

// refusedEverywhere: no member answers x, and it does not serve.
func refusedEverywhere(t *testing.T, c *testcluster.Cluster, x *testcluster.Node) {
	t.Helper()
	until := time.Now().Add(time.Second)
	for time.Now().Before(until) {
		for _, n := range c.Live() {
			if n.Name == x.Name {
				continue
			}
			ctx, cancel := ctxFor(200 * time.Millisecond)
			_, err := x.Ask(ctx, n.Name, "anything", nil)
			cancel()
			if err == nil || strings.Contains(err.Error(), "unknown to this node") {
				t.Fatalf("%s answers a removed node: %v", n.Name, err)
			}
		}
		if x.Ready() == nil {
			t.Fatal("a removed node calls itself ready")
		}
	}
}

// TestM8LaggingNodeIsNotPromoted.
func TestM8LaggingNodeIsNotPromoted(t *testing.T) {
	t.Parallel()
	var disk faults
	c := testcluster.StartWith(t, 1, testcluster.Options{NonVoters: 1, LogFault: disk.at})
	leader, x := c.Nodes()[0], c.Nodes()[1]
	hang := make(chan struct{})
	disk.set(x.Name, func(op string) error { <-hang; return nil })
	fill(t, leader, "m8", 1100)
	var refused *member.RefusedError
	if err := leader.Promote(within(t, 5*time.Second), x.Name); !errors.As(err, &refused) || !strings.Contains(refused.Reason, "entries behind") {
		t.Errorf("promoting a node that is behind: %v", err)
	}
	disk.set("", nil)
	close(hang)
	sees(t, x, "m8-1099")
	if err := leader.Promote(within(t, 5*time.Second), x.Name); err != nil {
		t.Errorf("promoting it after it caught up: %v", err)
	}
	c.AwaitVoters(2)
	c.EqualChecksums()
}

// TestQuorumIsNotRemoved: a removal after which no majority answers is refused.
func TestQuorumIsNotRemoved(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, 3)
	leader, down, up := c.Leader(), c.Followers()[0], c.Followers()[1]
	down.Kill()
	var refused *member.RefusedError
	if err := leader.Remove(within(t, 10*time.Second), up.Name, false); !errors.As(err, &refused) || refused.Code != "quorum" {
		t.Errorf("removing the second of three with one down: %v", err)
	}
	refused = nil
	if err := leader.Remove(within(t, 10*time.Second), leader.Name, false); !errors.As(err, &refused) || refused.Code != "quorum" {
		t.Errorf("removing the leader with one of three down: %v", err)
	}
	if c.Leader() != leader {
		t.Error("leadership moved for a removal that was refused")
	}
	if err := leader.Remove(within(t, 10*time.Second), down.Name, false); err != nil {
		t.Errorf("removing the one that is down: %v", err)
	}
	revoke(t, up, "quorum")
}
