package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// cluster is what the demo starts: three nodes and a gateway.
type cluster struct {
	*proc.Cluster
	o     options
	s     *screen
	edge  *proc.Process
	front proc.API // of the gateway
}

func newCluster(o options, s *screen) (*cluster, error) {
	nodes, err := proc.NewCluster(o.bin, o.data, 9763, 9773, 9783)
	if err != nil {
		return nil, err
	}
	nodes.Step = func(text string, d time.Duration) { s.step(text, took(d)) }
	return &cluster{Cluster: nodes, o: o, s: s}, nil
}

// gateway starts the reference gateway on all nodes.
func (c *cluster) gateway(ctx context.Context) error {
	begun := time.Now()
	file := filepath.Join(c.Dir, "edge.credential")
	if _, err := os.Stat(file); err != nil { // an earlier run's is good still
		made, err := c.Nodes[0].RegisterGateway(ctx, "edge")
		if err != nil {
			return fmt.Errorf("register the gateway: %w", err)
		}
		if err := os.WriteFile(file, []byte(made.Credential+"\n"), 0o600); err != nil {
			return err
		}
	}
	var urls []string
	for _, n := range c.Nodes {
		urls = append(urls, n.Base)
	}
	var err error
	c.edge, err = c.Start("gateway", "gateway", "--name", "edge", "--nodes", strings.Join(urls, ","),
		"--credential-file", file, "--listen", proc.Local(proc.Free(9768)), "--max-staleness", "5s")
	if err != nil {
		return err
	}
	r, err := c.edge.Ready(ctx)
	if err != nil {
		return fmt.Errorf("the gateway: %w", err)
	}
	c.front = proc.API{Base: "http://" + r.Listen, HTTP: c.HTTP}
	err = proc.Until(ctx, "the gateway in sync", func(ctx context.Context) error {
		return c.front.Call(ctx, http.MethodGet, "/readyz", nil, nil)
	})
	if err == nil {
		c.s.step("the gateway is in sync, "+c.front.Base, took(time.Since(begun)))
	}
	return err
}

// stop ends what runs, gateway first, then the nodes.
func (c *cluster) stop() error { return errors.Join(c.End("gateway", c.edge), c.Stop()) }

// logs shows the ends of the logs on standard error: why the story does not hold.
func (c *cluster) logs() {
	if c.edge != nil {
		fmt.Fprint(os.Stderr, c.edge.Titled("gateway"))
	}
	fmt.Fprint(os.Stderr, c.Tails())
}

// clean removes the folder, unless it is to be kept.
func (c *cluster) clean(keep bool) error {
	if keep {
		c.s.note("data and logs are kept in " + c.Dir)
		return nil
	}
	return os.RemoveAll(c.Dir)
}
