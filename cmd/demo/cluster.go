package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// stopBound is how long one process may take to stop: contract of the program.
const stopBound = 15 * time.Second

// cluster is what the demo starts.
type cluster struct {
	o      options
	s      *screen
	data   string // absolute
	http   *http.Client
	nodes  []*node
	edge   *proc.Process
	front  proc.API // of the gateway
	client proc.Client
	admin  string
	died   chan string // name of a process that ended by itself

	mu       sync.Mutex
	expected map[*proc.Process]bool // ends that are meant
}

// node is one member.
type node struct {
	proc.API
	name  string
	port  int // of its API, 0 before the first start when the usual one is taken
	proc  *proc.Process
	ready proc.Ready
}

func newCluster(o options, s *screen) (*cluster, error) {
	data, err := filepath.Abs(o.data)
	if err != nil {
		return nil, err
	}
	c := &cluster{o: o, s: s, data: data, http: proc.NewHTTP(), died: make(chan string, 8), expected: map[*proc.Process]bool{}}
	if entries, err := os.ReadDir(data); err == nil && len(entries) > 0 && !c.found() {
		return nil, fmt.Errorf("%s holds something that is no cluster of this demo; remove it, or name another folder with -data", data)
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	for i, port := range []int{9763, 9773, 9783} {
		n := &node{name: "n" + strconv.Itoa(i+1), port: free(port)}
		n.HTTP = c.http
		c.nodes = append(c.nodes, n)
	}
	return c, nil
}

// found tells whether the folder holds a cluster of an earlier run.
func (c *cluster) found() bool {
	_, err := os.Stat(filepath.Join(c.data, "n1", "node.json"))
	return err == nil
}

// free is the port if nothing listens on it, else 0.
func free(port int) int {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return 0
	}
	_ = l.Close()
	return port
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func (c *cluster) log(name string) string { return filepath.Join(c.data, "log", name+".log") }

func (c *cluster) start(name string, args ...string) (*proc.Process, error) {
	p, err := proc.Start(proc.Spec{Bin: c.o.bin, Args: args, Log: c.log(name)})
	if err != nil {
		return nil, err
	}
	go func() {
		<-p.Ended()
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.expected[p] {
			select {
			case c.died <- name:
			default:
			}
		}
	}()
	return p, nil
}

// expect marks an end as meant.
func (c *cluster) expect(p *proc.Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expected[p] = true
}

func (c *cluster) launch(n *node, extra ...string) error {
	args := append([]string{"server", "--dev", "--node-id", n.name, "--data-dir", filepath.Join(c.data, n.name), "--api-addr", local(n.port)}, extra...)
	var err error
	n.proc, err = c.start(n.name, args...)
	return err
}

func (c *cluster) await(ctx context.Context, n *node) error {
	r, err := n.proc.Ready(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	_, port, err := net.SplitHostPort(r.APIAddr)
	if err != nil {
		return fmt.Errorf("%s names the address %q: %w", n.name, r.APIAddr, err)
	}
	if n.port, err = strconv.Atoi(port); err != nil {
		return err
	}
	n.ready, n.Base = r, r.URL
	if r.AdminToken != "" {
		c.admin, c.client = r.AdminToken, proc.Client{ID: r.ClientID, Secret: r.ClientSecret}
	}
	return nil
}

// run starts the first node, then lets the others in by a token each; a folder
// of an earlier run is started as it stands.
func (c *cluster) run(ctx context.Context) error {
	if c.found() {
		return c.resume(ctx)
	}
	begun := time.Now()
	first := c.nodes[0]
	if err := c.launch(first, "--bootstrap"); err != nil {
		return err
	}
	if err := c.await(ctx, first); err != nil {
		return err
	}
	first.Token = c.admin
	c.s.step("n1 makes a cluster, "+first.Base, took(time.Since(begun)))
	for _, n := range c.nodes[1:] {
		begun = time.Now()
		token, err := first.JoinToken(ctx, "voter", "10m")
		if err != nil {
			return fmt.Errorf("make a join token: %w", err)
		}
		if err := c.launch(n, "--join", first.Base, "--join-token", token); err != nil {
			return err
		}
		if err := c.await(ctx, n); err != nil {
			return err
		}
		n.Token = c.admin
		c.s.step(n.name+" joins by a single-use token, "+n.Base, took(time.Since(begun)))
	}
	return c.awaitVoters(ctx, begun)
}

func (c *cluster) resume(ctx context.Context) error {
	begun := time.Now()
	for _, n := range c.nodes {
		if err := c.launch(n); err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		if err := c.await(ctx, n); err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		n.Token = c.admin
		c.s.step(n.name+" goes on with its data, "+n.Base, took(time.Since(begun)))
	}
	return c.awaitVoters(ctx, begun)
}

func (c *cluster) awaitVoters(ctx context.Context, begun time.Time) error {
	err := until(ctx, "three voters", func(ctx context.Context) error {
		members, err := c.nodes[0].Members(ctx)
		if err != nil {
			return err
		}
		voters := 0
		for _, m := range members {
			if m.Suffrage == "voter" && m.State == "ready" {
				voters++
			}
		}
		if voters != len(c.nodes) {
			return fmt.Errorf("%d of %d nodes vote", voters, len(c.nodes))
		}
		return nil
	})
	if err == nil {
		c.s.step("all three vote: any one may fail now", took(time.Since(begun)))
	}
	return err
}

// gateway starts the reference gateway on all nodes.
func (c *cluster) gateway(ctx context.Context) error {
	begun := time.Now()
	file := filepath.Join(c.data, "edge.credential")
	if _, err := os.Stat(file); err != nil { // an earlier run's is good still
		made, err := c.nodes[0].RegisterGateway(ctx, "edge")
		if err != nil {
			return fmt.Errorf("register the gateway: %w", err)
		}
		if err := os.WriteFile(file, []byte(made.Credential+"\n"), 0o600); err != nil {
			return err
		}
	}
	var urls []string
	for _, n := range c.nodes {
		urls = append(urls, n.Base)
	}
	var err error
	c.edge, err = c.start("gateway", "gateway", "--name", "edge", "--nodes", strings.Join(urls, ","),
		"--credential-file", file, "--listen", local(free(9768)), "--max-staleness", "5s")
	if err != nil {
		return err
	}
	r, err := c.edge.Ready(ctx)
	if err != nil {
		return fmt.Errorf("the gateway: %w", err)
	}
	c.front = proc.API{Base: "http://" + r.Listen, HTTP: c.http}
	err = until(ctx, "the gateway in sync", func(ctx context.Context) error {
		return c.front.Call(ctx, http.MethodGet, "/readyz", nil, nil)
	})
	if err == nil {
		c.s.step("the gateway is in sync, "+c.front.Base, took(time.Since(begun)))
	}
	return err
}

// until asks again and again, until ok says nothing against it or ctx ends.
func until(ctx context.Context, what string, ok func(context.Context) error) error {
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := ok(try)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s: %w", what, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop ends what runs, gateway first, then the nodes all at once.
func (c *cluster) stop() error {
	var errs []error
	end := func(name string, p *proc.Process) error {
		if p == nil {
			return nil
		}
		select {
		case <-p.Ended():
			return nil // killed by the story, or told already
		default:
		}
		c.expect(p)
		if code := p.Terminate(stopBound); code != 0 {
			return fmt.Errorf("%s ended with exit code %d; its log is %s", name, code, c.log(name))
		}
		return nil
	}
	c.http.CloseIdleConnections()
	errs = append(errs, end("gateway", c.edge))
	results := make([]error, len(c.nodes))
	var all sync.WaitGroup
	for i, n := range c.nodes {
		all.Go(func() { results[i] = end(n.name, n.proc) })
	}
	all.Wait()
	return errors.Join(append(errs, results...)...)
}

// logs shows the ends of the logs on standard error: why the story does not hold.
func (c *cluster) logs() {
	parts := map[string]*proc.Process{"gateway": c.edge}
	for _, n := range c.nodes {
		parts[n.name] = n.proc
	}
	for name, p := range parts {
		if p != nil {
			fmt.Fprintf(os.Stderr, "--- end of the log of %s\n%s\n", name, p.Tail(15))
		}
	}
}

// clean removes the folder, unless it is to be kept.
func (c *cluster) clean(keep bool) error {
	if keep {
		c.s.note("data and logs are kept in " + c.data)
		return nil
	}
	return os.RemoveAll(c.data)
}
