package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/keyraft/keyraft/internal/bench"
	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// trio is three voters, processes of their own that share the servers' core. All rows
// that need a cluster take turns with it.
type trio struct {
	s           *stage
	c           *proc.Cluster // nil: not started yet
	opaque, jwt proc.Client
}

// start starts the nodes, the first time.
func (t *trio) start(ctx context.Context) error {
	if t.c != nil {
		return nil
	}
	var err error
	if t.c, err = proc.NewCluster(t.s.o.bin, filepath.Join(t.s.dir, "three"), 0, 0, 0); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*readyBound)
	defer cancel()
	err = t.c.Run(ctx)
	for _, n := range t.c.Nodes {
		if n.Proc != nil { // what was started is ended, whatever became of the rest
			err = errors.Join(err, t.settle(n))
		}
	}
	if err != nil {
		return fmt.Errorf("start three nodes: %w", err)
	}
	if t.opaque, err = t.c.Nodes[0].CreateClient(ctx, opaqueClient("three")); err != nil {
		return err
	}
	t.jwt, err = t.c.Nodes[0].CreateClient(ctx, map[string]any{"client_name": "three-jwt", "access_token_signed_response_alg": "ES256", "access_token_lifetime": 3600})
	return err
}

// settle puts a node's process on the servers' core and among those that are ended.
func (t *trio) settle(n *proc.Node) error {
	t.s.servers["three-"+n.Name] = &served{proc: n.Proc, ready: n.Ready}
	return t.s.pin(n.Proc.PID())
}

// served is a node as rows know servers.
func (t *trio) served(nodes ...*proc.Node) (out []*served) {
	for _, n := range nodes {
		out = append(out, t.s.servers["three-"+n.Name])
	}
	return out
}

// roles waits until all nodes are healthy and name one leader.
func (t *trio) roles(ctx context.Context) (leader *proc.Node, followers []*proc.Node, err error) {
	ctx, cancel := context.WithTimeout(ctx, readyBound)
	defer cancel()
	err = proc.Until(ctx, "three nodes with one leader", func(ctx context.Context) error {
		leader, followers = nil, nil
		var id string
		for _, n := range t.c.Nodes {
			s, err := n.Status(ctx)
			switch {
			case err != nil:
				return fmt.Errorf("%s: %w", n.Name, err)
			case !s.Healthy || s.LeaderID == "":
				return fmt.Errorf("%s is not healthy, or knows no leader", n.Name)
			case id != "" && id != s.LeaderID:
				return errors.New("they name two leaders")
			}
			if id = s.LeaderID; s.NodeID == s.LeaderID {
				leader = n
			} else {
				followers = append(followers, n)
			}
		}
		if leader == nil {
			return fmt.Errorf("they name %s, which is none of them", id)
		}
		return nil
	})
	return leader, followers, err
}

// whom a row asks first.
type whom bool

const (
	leads   whom = true
	follows whom = false
)

// order is the nodes, with the one that is asked in front.
func (t *trio) order(ctx context.Context, first whom) ([]*proc.Node, error) {
	leader, followers, err := t.roles(ctx)
	if err != nil {
		return nil, err
	}
	if first == leads {
		return append([]*proc.Node{leader}, followers...), nil
	}
	return append(followers, leader), nil
}

// mostElections is how often a row is run again because of one.
const mostElections = 3

// steadily runs a row with the node that is asked in front, and once more when there was
// an election meanwhile: on a machine that is busy with something else, three nodes on
// one core have some, and what a row gave then is no figure of anything. "elections"
// says how many there were.
func (t *trio) steadily(ctx context.Context, first whom, run func(nodes []*proc.Node) (bench.Figures, error)) (bench.Figures, error) {
	for elections := uint64(0); ; {
		nodes, err := t.order(ctx, first)
		if err != nil {
			return nil, err
		}
		before, err := nodes[0].Status(ctx)
		if err != nil {
			return nil, err
		}
		f, failed := run(nodes)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if _, err := t.order(ctx, first); err != nil { // they agree again
			return nil, errors.Join(failed, err)
		}
		after, err := nodes[0].Status(ctx)
		if err != nil {
			return nil, errors.Join(failed, err)
		}
		elections += after.Term - before.Term
		if after.Term == before.Term || elections >= mostElections {
			if failed == nil {
				f["elections"] = float64(elections)
			}
			return f, failed
		}
		fmt.Fprintf(os.Stderr, "bench: %d elections while it ran; again\n", after.Term-before.Term)
	}
}

// put runs a load once. The CPU time is that of all three nodes.
func (t *trio) put(ctx context.Context, l load, first whom) (bench.Figures, error) {
	return t.steadily(ctx, first, func(nodes []*proc.Node) (bench.Figures, error) {
		l.server, l.others = t.served(nodes[0])[0], t.served(nodes[1:]...)
		return t.s.put(ctx, l)
	})
}

// introspect asks one node about tokens. "rounds" is the read-index rounds of that node
// for one answer; a follower's is a question to the leader, who has a round for it.
func (t *trio) introspect(ctx context.Context, first whom) (bench.Figures, error) {
	return t.steadily(ctx, first, func(nodes []*proc.Node) (bench.Figures, error) {
		asked := nodes[0]
		before, err := scrape(ctx, asked)
		if err != nil {
			return nil, err
		}
		f, err := t.s.put(ctx, load{
			server: t.served(asked)[0], others: t.served(nodes[1:]...),
			client: t.opaque, mix: bench.Mix{Introspect: 1}, tokens: 1000,
		})
		if err != nil {
			return nil, err
		}
		after, err := scrape(ctx, asked)
		if err != nil {
			return nil, err
		}
		const rounds = "keyraft_read_index_rounds_total"
		answers := `keyraft_http_requests_total{method="POST",route="/oauth2/introspect",status="200"}`
		n := after[answers] - before[answers]
		if n <= 0 || after[rounds] <= before[rounds] {
			return nil, fmt.Errorf("%s counted %v introspections and %v rounds", asked.Name, n, after[rounds]-before[rounds])
		}
		f["rounds"] = (after[rounds] - before[rounds]) / n
		return f, nil
	})
}
