package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// tell tells the story. An error is a line of it that does not hold.
func (c *cluster) tell(ctx context.Context) error {
	c.s.title("Keyraft: three nodes and a gateway on this machine", "data and logs in "+c.Dir)
	c.s.line("     " + c.s.paint(bold, "The cluster"))
	for _, part := range []func(context.Context) error{c.Run, c.gateway, c.token, c.death} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	c.s.line("")
	return nil
}

// token: issued, accepted, revoked, refused.
func (c *cluster) token(ctx context.Context) error {
	leader, rest, err := c.leader(ctx, c.Nodes)
	if err != nil {
		return err
	}
	c.s.chapter("A token is issued, by any node")
	// The first request of a process pays for its connections; the second tells.
	if _, err := rest[0].Issue(ctx, c.Client, "read"); err != nil {
		return fmt.Errorf("issue a token: %w", err)
	}
	begun := time.Now()
	token, err := rest[0].Issue(ctx, c.Client, "read")
	if err != nil {
		return fmt.Errorf("issue a token: %w", err)
	}
	c.s.step(rest[0].Name+", a follower, issues a JWT; nothing is written for it", took(time.Since(begun)))
	if err := c.verdict(ctx, token, http.StatusNoContent, ""); err != nil {
		return err
	}
	v, err := c.front.Validate(ctx, token)
	if err != nil {
		return err
	}
	c.s.step("the gateway accepts it, without asking anybody", took(v.Elapsed))

	c.s.chapter("It is revoked, and every gateway refuses it")
	at := rest[1]
	begun = time.Now()
	first := c.firstRefusal(ctx, token, begun)
	r, err := at.Revoke(ctx, map[string]any{"token": token}, 5*time.Second)
	if err != nil {
		return fmt.Errorf("revoke it at %s: %w", at.Name, err)
	}
	whole := time.Since(begun)
	if err := c.verdict(ctx, token, http.StatusUnauthorized, "revoked"); err != nil {
		return fmt.Errorf("after its receipt %w", err)
	}
	if !r.Complete || len(r.Receipt) == 0 {
		return fmt.Errorf("the receipt is not complete: %+v", r)
	}
	refused := <-first
	if refused.err != nil {
		return refused.err
	}
	c.s.step(fmt.Sprintf("revoked at %s, a follower; %s, the leader, made it number %d", at.Name, leader.Name, r.Seq), "")
	c.s.step("the gateway refuses it from then on: 401 revoked", took(refused.after))
	for _, g := range r.Receipt {
		c.s.step("the gateway has said so: "+g.Gateway, took(time.Duration(g.MS*float64(time.Millisecond))))
	}
	c.s.step("the caller has its receipt", took(whole))
	for _, n := range c.Nodes {
		if active, err := n.Active(ctx, c.Client, token); err != nil || active {
			return fmt.Errorf("%s calls it active: %v, %v", n.Name, active, err)
		}
	}
	c.s.step("all three nodes say: not active", "")
	return nil
}

type refusal struct {
	after time.Duration
	err   error
}

// firstRefusal asks the gateway without a pause, until it refuses.
func (c *cluster) firstRefusal(ctx context.Context, token string, begun time.Time) <-chan refusal {
	out := make(chan refusal, 1)
	go func() {
		for {
			v, err := c.front.Validate(ctx, token)
			if err != nil || v.Status != http.StatusNoContent {
				out <- refusal{time.Since(begun), err}
				return
			}
		}
	}()
	return out
}

// verdict asks the gateway and compares.
func (c *cluster) verdict(ctx context.Context, token string, status int, reason string) error {
	v, err := c.front.Validate(ctx, token)
	if err == nil && (v.Status != status || v.Reason != reason) {
		err = fmt.Errorf("the gateway says %d %q, not %d %q", v.Status, v.Reason, status, reason)
	}
	return err
}

// leader waits for the node that leads, among these.
func (c *cluster) leader(ctx context.Context, among []*proc.Node) (leader *proc.Node, rest []*proc.Node, err error) {
	err = proc.Until(ctx, "a leader", func(ctx context.Context) error {
		leader, rest = nil, nil
		for _, n := range among {
			if s, err := n.Status(ctx); err == nil && s.State == "leader" && s.LeaderID == n.Name {
				leader = n
				continue
			}
			rest = append(rest, n)
		}
		if leader == nil {
			return errors.New("no node leads")
		}
		return nil
	})
	return leader, rest, err
}

// death: the leader is killed, and the story goes on.
func (c *cluster) death(ctx context.Context) error {
	leader, rest, err := c.leader(ctx, c.Nodes)
	if err != nil {
		return err
	}
	revoked, err := rest[0].Issue(ctx, c.Client, "read")
	if err != nil {
		return err
	}
	if r, err := rest[0].Revoke(ctx, map[string]any{"token": revoked}, 5*time.Second); err != nil || !r.Complete {
		return fmt.Errorf("revoke a token: %+v, %w", r, err)
	}
	c.s.chapter("The leader dies, and nobody notices")
	load := c.load(ctx, rest)
	c.Expect(leader.Proc)
	leader.Proc.Kill()
	begun := time.Now()
	c.s.deed("SIGKILL to " + leader.Name + ", the leader, while tokens are issued at the others")
	next, _, err := c.leader(ctx, rest)
	if err != nil {
		load.end()
		return err
	}
	elected := time.Since(begun)
	made, err := next.CreateClient(ctx, map[string]any{"client_name": "made after the kill"})
	written := time.Since(begun)
	issued, failed := load.end()
	if err != nil {
		return fmt.Errorf("write after the kill: %w", err)
	}
	if failed > 0 || issued == 0 {
		return fmt.Errorf("%d tokens were issued meanwhile and %d refused: %s", issued, failed, load.said())
	}
	c.s.step(fmt.Sprintf("%s and %s issued %d tokens meanwhile, none failed", rest[0].Name, rest[1].Name, issued), "")
	c.s.step(next.Name+" leads now", took(elected))
	c.s.step("a write is taken again: client "+short(made.ID), took(written))
	if err := c.verdict(ctx, revoked, http.StatusUnauthorized, "revoked"); err != nil {
		return err
	}
	c.s.step("the gateway refuses what was revoked, still", "")
	if err := c.revokeAgain(ctx, rest); err != nil {
		return err
	}
	return c.back(ctx, leader)
}

// revokeAgain shows that a revocation arrives with one node gone.
func (c *cluster) revokeAgain(ctx context.Context, rest []*proc.Node) error {
	token, err := rest[1].Issue(ctx, c.Client, "read")
	if err != nil {
		return err
	}
	if err := c.verdict(ctx, token, http.StatusNoContent, ""); err != nil {
		return err
	}
	begun := time.Now()
	if r, err := rest[0].Revoke(ctx, map[string]any{"token": token}, 5*time.Second); err != nil || !r.Complete {
		return fmt.Errorf("revoke a token with one node gone: %+v, %w", r, err)
	}
	if err := c.verdict(ctx, token, http.StatusUnauthorized, "revoked"); err != nil {
		return err
	}
	c.s.step("a new revocation reaches the gateway, with its receipt", took(time.Since(begun)))
	return nil
}

// back starts the killed node on what the kill left, and compares all three.
func (c *cluster) back(ctx context.Context, n *proc.Node) error {
	begun := time.Now()
	if err := c.Launch(n); err != nil {
		return err
	}
	if err := c.Await(ctx, n); err != nil {
		return err
	}
	sum, err := c.EqualChecksums(ctx)
	if err != nil {
		return err
	}
	c.s.step(n.Name+" is back on its data; all three have checksum "+short(sum.Checksum), took(time.Since(begun)))
	return nil
}

func short(text string) string {
	if len(text) > 12 {
		return text[:12] + "…"
	}
	return text
}

// load asks some nodes for tokens without a pause.
type load struct {
	stop           context.CancelFunc
	wg             sync.WaitGroup
	issued, failed atomic.Int64
	mu             sync.Mutex
	first          error
}

func (c *cluster) load(ctx context.Context, nodes []*proc.Node) *load {
	ctx, stop := context.WithCancel(ctx)
	l := &load{stop: stop}
	for _, n := range nodes {
		for range 2 {
			l.wg.Go(func() {
				for ctx.Err() == nil {
					_, err := n.Issue(ctx, c.Client, "read")
					switch {
					case err == nil:
						l.issued.Add(1)
					case ctx.Err() == nil:
						l.fail(err)
					}
				}
			})
		}
	}
	return l
}

func (l *load) fail(err error) {
	l.failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = err
	}
}

// end stops asking and counts.
func (l *load) end() (issued, failed int64) {
	l.stop()
	l.wg.Wait()
	return l.issued.Load(), l.failed.Load()
}

// said is the first refusal.
func (l *load) said() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// play says what one can do now.
func (c *cluster) play(s *screen) {
	s.line("  " + s.paint(bold, "It is yours now.") + " In another terminal:\n")
	at := c.Nodes[1].Base
	for _, command := range []string{
		"export KEYRAFT_ADDR=" + at + " KEYRAFT_TOKEN=" + c.Admin,
		"export KEYRAFT_CLIENT_ID=" + c.Client.ID + " KEYRAFT_CLIENT_SECRET=" + c.Client.Secret,
		"TOKEN=$(" + c.o.bin + " token issue)",
		"curl -i -H \"Authorization: Bearer $TOKEN\" " + c.front.Base + "/validate",
		c.o.bin + " token revoke \"$TOKEN\" --wait gateways",
		c.o.bin + " operator members",
		fmt.Sprintf("kill -9 %d   # %s; 'operator members' tells who leads", c.Nodes[2].Proc.PID(), c.Nodes[2].Name),
	} {
		s.line("    " + s.paint(cyan, command))
	}
	s.line("")
	for _, n := range c.Nodes {
		s.note(fmt.Sprintf("%-8s %s   log %s", n.Name, n.Base, c.Log(n.Name)))
	}
	s.note(fmt.Sprintf("%-8s %s   log %s", "gateway", c.front.Base, c.Log("gateway")))
	s.line("")
	s.note("Ctrl-C stops everything" + map[bool]string{false: " and removes " + c.Dir, true: ""}[c.o.keep])
}
