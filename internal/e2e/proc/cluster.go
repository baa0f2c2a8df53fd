package proc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// stopBound is how long one process may take to stop: contract of the program.
const stopBound = 15 * time.Second

// Cluster is nodes on loopback that keep their data and logs in one folder, started
// with --dev, and whatever else is started beside them.
type Cluster struct {
	Bin, Dir string // Dir is absolute
	Nodes    []*Node
	HTTP     *http.Client
	Admin    string // admin token; known once the first node has run
	Client   Client // confidential, may do client_credentials
	// Step is told of each thing that holds, and how long it took.
	Step func(text string, took time.Duration)
	// Died gets the name of each process that ended by itself.
	Died chan string

	mu       sync.Mutex
	expected map[*Process]bool // ends that are meant
}

// String names the cluster without its credentials.
func (c *Cluster) String() string { return fmt.Sprintf("%d nodes in %s", len(c.Nodes), c.Dir) }

// Node is one member, over all its starts.
type Node struct {
	API
	Name  string
	Port  int // of its API, 0 before the first start when the usual one is taken
	Proc  *Process
	Ready Ready
}

// NewCluster makes a cluster of one node a port, n1, n2 and so on, and starts nothing.
// A port that is taken, or 0, stands for a free one.
func NewCluster(bin, dir string, ports ...int) (*Cluster, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		Bin: bin, Dir: dir, HTTP: NewHTTP(), Step: func(string, time.Duration) {},
		Died: make(chan string, 8), expected: map[*Process]bool{},
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 && !c.found() {
		return nil, fmt.Errorf("%s holds something that is no cluster of an earlier run; remove it, or name another folder with -data", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for i, port := range ports {
		n := &Node{Name: "n" + strconv.Itoa(i+1), Port: Free(port)}
		n.HTTP = c.HTTP
		c.Nodes = append(c.Nodes, n)
	}
	return c, nil
}

// found tells whether the folder holds a cluster of an earlier run.
func (c *Cluster) found() bool {
	_, err := os.Stat(filepath.Join(c.Dir, "n1", "node.json"))
	return err == nil
}

// Free is the port if nothing listens on it, else 0.
func Free(port int) int {
	l, err := net.Listen("tcp", Local(port))
	if err != nil {
		return 0
	}
	_ = l.Close()
	return port
}

// Local is the address of a port on loopback.
func Local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Log is the log file of a process of the cluster.
func (c *Cluster) Log(name string) string { return filepath.Join(c.Dir, "log", name+".log") }

// Start starts the program with these arguments, under a name for its log.
func (c *Cluster) Start(name string, args ...string) (*Process, error) {
	// What a developer's shell may set must not reach the program.
	p, err := Start(Spec{Bin: c.Bin, Args: args, Log: c.Log(name), Env: []string{"KEYRAFT_ADDR=", "KEYRAFT_TOKEN="}})
	if err != nil {
		return nil, err
	}
	go func() {
		<-p.Ended()
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.expected[p] {
			select {
			case c.Died <- name:
			default:
			}
		}
	}()
	return p, nil
}

// Expect marks the end of a process as meant.
func (c *Cluster) Expect(p *Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expected[p] = true
}

// Launch starts a node and does not wait.
func (c *Cluster) Launch(n *Node, extra ...string) error {
	args := append([]string{"server", "--dev", "--node-id", n.Name, "--data-dir", filepath.Join(c.Dir, n.Name), "--api-addr", Local(n.Port)}, extra...)
	var err error
	n.Proc, err = c.Start(n.Name, args...)
	return err
}

// Await waits until a node serves.
func (c *Cluster) Await(ctx context.Context, n *Node) error {
	r, err := n.Proc.Ready(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	_, port, err := net.SplitHostPort(r.APIAddr)
	if err != nil {
		return fmt.Errorf("%s names the address %q: %w", n.Name, r.APIAddr, err)
	}
	if n.Port, err = strconv.Atoi(port); err != nil {
		return err
	}
	n.Ready, n.Base = r, r.URL
	if r.AdminToken != "" {
		c.Admin, c.Client = r.AdminToken, Client{ID: r.ClientID, Secret: r.ClientSecret}
	}
	n.Token = c.Admin
	return nil
}

// Run starts the first node, then lets the others in by a token each, and waits until
// all vote. A folder of an earlier run is started as it stands.
func (c *Cluster) Run(ctx context.Context) error {
	if c.found() {
		return c.resume(ctx)
	}
	begun := time.Now()
	first := c.Nodes[0]
	if err := c.Launch(first, "--bootstrap"); err != nil {
		return err
	}
	if err := c.Await(ctx, first); err != nil {
		return err
	}
	c.Step("n1 makes a cluster, "+first.Base, time.Since(begun))
	for _, n := range c.Nodes[1:] {
		begun = time.Now()
		token, err := first.JoinToken(ctx, "voter", "10m")
		if err != nil {
			return fmt.Errorf("make a join token: %w", err)
		}
		if err := c.Launch(n, "--join", first.Base, "--join-token", token); err != nil {
			return err
		}
		if err := c.Await(ctx, n); err != nil {
			return err
		}
		c.Step(n.Name+" joins by a single-use token, "+n.Base, time.Since(begun))
	}
	return c.awaitVoters(ctx, begun)
}

func (c *Cluster) resume(ctx context.Context) error {
	begun := time.Now()
	for _, n := range c.Nodes {
		if err := c.Launch(n); err != nil {
			return err
		}
	}
	for _, n := range c.Nodes {
		if err := c.Await(ctx, n); err != nil {
			return err
		}
	}
	for _, n := range c.Nodes {
		n.Token = c.Admin // whoever was ready before the one that knows it
		c.Step(n.Name+" goes on with its data, "+n.Base, time.Since(begun))
	}
	return c.awaitVoters(ctx, begun)
}

func (c *Cluster) awaitVoters(ctx context.Context, begun time.Time) error {
	err := Until(ctx, fmt.Sprintf("%d voters", len(c.Nodes)), func(ctx context.Context) error {
		members, err := c.Nodes[0].Members(ctx)
		if err != nil {
			return err
		}
		voters := 0
		for _, m := range members {
			if m.Suffrage == "voter" && m.State == "ready" {
				voters++
			}
		}
		if voters != len(c.Nodes) {
			return fmt.Errorf("%d of %d nodes vote", voters, len(c.Nodes))
		}
		return nil
	})
	if err == nil {
		c.Step(fmt.Sprintf("all %d vote: any one may fail now", len(c.Nodes)), time.Since(begun))
	}
	return err
}

// EqualChecksums is EqualChecksums of all nodes.
func (c *Cluster) EqualChecksums(ctx context.Context) (Checksum, error) {
	var apis []API
	for _, n := range c.Nodes {
		apis = append(apis, n.API)
	}
	return EqualChecksums(ctx, apis...)
}

// EqualChecksums waits until all nodes have applied the same entries, and returns the
// checksum of all tables, which must be one (I4).
func EqualChecksums(ctx context.Context, nodes ...API) (Checksum, error) {
	var sums []Checksum
	err := Until(ctx, "one applied index at all nodes", func(ctx context.Context) error {
		sums = sums[:0]
		for _, n := range nodes {
			s, err := n.Checksum(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", n, err)
			}
			if sums = append(sums, s); s.AppliedIndex != sums[0].AppliedIndex {
				return fmt.Errorf("%s is at %d, %s at %d", n, s.AppliedIndex, nodes[0], sums[0].AppliedIndex)
			}
		}
		return nil
	})
	if err != nil {
		return Checksum{}, err
	}
	for i, s := range sums {
		if s.Checksum == "" || s != sums[0] {
			return Checksum{}, fmt.Errorf("at index %d %s has checksum %q and %s has %q", s.AppliedIndex, nodes[i], s.Checksum, nodes[0], sums[0].Checksum)
		}
	}
	return sums[0], nil
}

// Until asks again and again, until ok says nothing against it or ctx ends.
func Until(ctx context.Context, what string, ok func(context.Context) error) error {
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

// End asks one process to stop and waits for it. One that has ended before, or was
// never started, is fine.
func (c *Cluster) End(name string, p *Process) error {
	if p == nil {
		return nil
	}
	select {
	case <-p.Ended():
		return nil // killed by whoever runs the cluster, or told by Died
	default:
	}
	c.Expect(p)
	if code := p.Terminate(stopBound); code != 0 {
		return fmt.Errorf("%s ended with exit code %d; its log is %s", name, code, c.Log(name))
	}
	return nil
}

// Stop ends the nodes, all at once.
func (c *Cluster) Stop() error {
	c.HTTP.CloseIdleConnections()
	results := make([]error, len(c.Nodes))
	var all sync.WaitGroup
	for i, n := range c.Nodes {
		all.Go(func() { results[i] = c.End(n.Name, n.Proc) })
	}
	all.Wait()
	return errors.Join(results...)
}

// Tails is the end of the log of each node that was started, for whoever asks why
// something does not hold.
func (c *Cluster) Tails() string {
	var out string
	for _, n := range c.Nodes {
		if n.Proc != nil {
			out += n.Proc.Titled(n.Name)
		}
	}
	return out
}
