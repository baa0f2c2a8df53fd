package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/keyraft/keyraft/internal/bench"
	"github.com/keyraft/keyraft/internal/e2e/proc"
)

const (
	readyBound = 30 * time.Second
	stopBound  = 20 * time.Second
)

// stage is where the rows are run: the cores, and the servers that were started.
type stage struct {
	o          options
	dir        string // of this run, gone at its end
	pinned     bool
	serverCore int
	ownCore    int
	servers    map[string]*served
	rows       []bench.Row
	ends       []func()          // what else is stopped at the end
	leftOut    map[string]string // rows that can't be run here, and why
}

// served is a server under load.
type served struct {
	proc   *proc.Process
	ready  proc.Ready
	client proc.Client
}

func newStage(o options) (*stage, error) {
	cores, err := bench.Cores()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.data, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.data, "bench-")
	if err != nil {
		return nil, err
	}
	s := &stage{o: o, dir: dir, servers: map[string]*served{}, leftOut: map[string]string{}}
	// One core alone can't be shared without each taking the other's time.
	if s.pinned = len(cores) > 1; s.pinned {
		s.serverCore, s.ownCore = cores[0], cores[1]
		self := bench.Process{PID: os.Getpid()}
		if err := self.Pin(s.ownCore); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %v; going on without\n", err)
			s.pinned = false
		}
		runtime.GOMAXPROCS(1)
	}
	return s, nil
}

// stop ends the servers and removes their data.
func (s *stage) stop() error {
	for _, v := range s.servers {
		v.proc.Terminate(stopBound)
	}
	for _, end := range s.ends {
		end()
	}
	return os.RemoveAll(s.dir)
}

// pin puts a process on the servers' core.
func (s *stage) pin(pid int) error {
	if !s.pinned {
		return nil
	}
	return (&bench.Process{PID: pid}).Pin(s.serverCore)
}

// start starts a server and waits until it serves.
func (s *stage) start(ctx context.Context, name, bin string, args ...string) (*served, error) {
	p, err := proc.Start(proc.Spec{Bin: bin, Args: args, Log: filepath.Join(s.dir, name+".log"), Env: []string{"GOMAXPROCS=1"}})
	if err != nil {
		return nil, err
	}
	v := &served{proc: p}
	s.servers[name] = v
	if err := s.pin(p.PID()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyBound)
	defer cancel()
	if v.ready, err = p.Ready(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	v.client = proc.Client{ID: v.ready.ClientID, Secret: v.ready.ClientSecret}
	return v, nil
}

// keyraft starts a node that is a cluster of its own.
func (s *stage) keyraft(ctx context.Context) (*served, error) { return s.alone(ctx, "keyraft") }

// alone is keyraft, of a name.
func (s *stage) alone(ctx context.Context, name string) (*served, error) {
	if v := s.servers[name]; v != nil {
		return v, nil
	}
	return s.start(ctx, name, s.o.bin, "server", "--dev", "--api-addr", "127.0.0.1:0", "--data-dir", filepath.Join(s.dir, name), "--log-level", "warn")
}

// ceiling starts the reference program with one kind of token.
func (s *stage) ceiling(ctx context.Context, alg, format string) (*served, error) {
	name := "ceiling-" + alg + "-" + format
	if v := s.servers[name]; v != nil {
		return v, nil
	}
	return s.start(ctx, name, s.o.ceiling, "-alg", alg, "-format", format)
}

// client registers a client at the node.
func (v *served) register(ctx context.Context, members map[string]any) (proc.Client, error) {
	api := proc.API{Base: v.ready.URL, Token: v.ready.AdminToken, HTTP: proc.NewHTTP()}
	defer api.HTTP.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, readyBound)
	defer cancel()
	return api.CreateClient(ctx, members)
}

// load is what a row puts on a server.
type load struct {
	server      *served
	others      []*served // nodes of the same cluster: their CPU time counts too
	spread      bool      // connections take turns over them all
	client      proc.Client
	token       string // path of the token endpoint; empty: the usual one
	mix         bench.Mix
	tokens      int
	connections int
}

// urls are those that the load goes to.
func (l load) urls() []string {
	urls := []string{l.server.ready.URL}
	for _, o := range l.others {
		if l.spread {
			urls = append(urls, o.ready.URL)
		}
	}
	return urls
}

// process is whose CPU time is read.
func (l load) process() *bench.Process {
	p := &bench.Process{PID: l.server.proc.PID()}
	for _, o := range l.others {
		p.With = append(p.With, o.proc.PID())
	}
	return p
}

// put runs a load once.
func (s *stage) put(ctx context.Context, l load) (bench.Figures, error) {
	if l.connections == 0 {
		l.connections = s.o.connections
	}
	target := bench.Target{
		Servers: l.urls(), Token: l.token,
		Client: bench.Credentials{ID: l.client.ID, Secret: l.client.Secret, Form: true},
	}
	if l.token == "" { // the node's own clients use the header
		target.Client.Form = false
	}
	workers, err := target.Workers(ctx, l.connections, l.mix, l.tokens)
	if err != nil {
		return nil, err
	}
	r, err := succeeded(bench.Run(ctx, bench.Load{
		Ops: bench.Ops("issue"), Workers: workers, Warmup: s.o.warmup, Duration: s.o.long, Server: l.process(),
	}))
	if err != nil {
		return nil, err
	}
	return r.Figures(), nil
}

// succeeded takes a run for an error unless all of it succeeded. What an open load was late
// for at its end was never asked.
func succeeded(r *bench.Result, err error) (*bench.Result, error) {
	switch {
	case err != nil:
		return nil, err
	case r.Partial != "":
		return nil, errors.New(r.Partial)
	case r.Failed() > r.Unsent:
		return nil, fmt.Errorf("%d operations failed: %+v", r.Failed(), r.Failures())
	case r.OK() == 0:
		return nil, errors.New("nothing was done")
	}
	return r, nil
}

// sign has the reference program make signatures on the servers' core.
func (s *stage) sign(ctx context.Context, alg string) (bench.Figures, error) {
	out, _, err := s.once(ctx, s.o.ceiling, "-sign", "-alg", alg, "-for", (s.o.long / 4).String())
	if err != nil {
		return nil, err
	}
	var f bench.Figures
	return f, json.Unmarshal(out, &f)
}

// once runs a program to its end on the servers' core. It says what CPU time it took.
func (s *stage) once(ctx context.Context, bin string, args ...string) ([]byte, time.Duration, error) {
	return s.onceOn(ctx, []int{s.serverCore}, bin, args...)
}

// onceOn is once on these cores. Its temporary files are on the disk that is measured.
func (s *stage) onceOn(ctx context.Context, cores []int, bin string, args ...string) ([]byte, time.Duration, error) {
	path, err := filepath.Abs(bin)
	if err != nil {
		return nil, 0, err
	}
	temp, err := filepath.Abs(s.dir)
	if err != nil {
		return nil, 0, err
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(len(cores)), "TMPDIR="+temp)
	if err := cmd.Start(); err != nil {
		return nil, 0, err
	}
	var pinned error
	if s.pinned {
		pinned = (&bench.Process{PID: cmd.Process.Pid}).Pin(cores...)
	}
	if err := cmd.Wait(); err != nil {
		return nil, 0, fmt.Errorf("%s: %w: %s%s", bin, err, errs.String(), out.String())
	}
	return out.Bytes(), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), pinned
}

// benchmark prepares a row that is a benchmark of a package's test program, on the
// servers' core.
func (s *stage) benchmark(pkg, name string, args ...string) func(context.Context) (runner, error) {
	return func(context.Context) (runner, error) {
		return func(ctx context.Context) (bench.Figures, error) {
			return s.goBenchmark(ctx, []int{s.serverCore}, s.o.long/2, pkg, name, args...)
		}, nil
	}
}

// benchmarkLine is the line of a benchmark in fields, nil when there is none.
func benchmarkLine(out []byte, name string) [][]byte {
	for line := range bytes.Lines(out) {
		fields := bytes.Fields(line)
		if len(fields) >= 4 && (string(fields[0]) == name || bytes.HasPrefix(fields[0], []byte(name+"-"))) {
			return fields
		}
	}
	return nil
}

// goBenchmark runs one benchmark for so long. Its own ns/op are by the clock on the
// wall; the CPU time is steady on a busy machine too: what the benchmark says, else
// that of its whole process.
func (s *stage) goBenchmark(ctx context.Context, cores []int, long time.Duration, pkg, name string, args ...string) (bench.Figures, error) {
	args = append([]string{"-test.run", "^$", "-test.bench", "^" + name + "$", "-test.benchtime", long.String()}, args...)
	out, used, err := s.onceOn(ctx, cores, s.o.test(pkg), args...)
	if err != nil {
		return nil, err
	}
	said, times, err := readBenchmark(out, name)
	if err != nil {
		return nil, err
	}
	f := bench.Figures{"cpu_us": float64(used) / float64(time.Microsecond) / times}
	if ns, ok := said["cpu-ns/op"]; ok {
		f["cpu_us"] = ns / 1000
	}
	for unit, figure := range map[string]string{"allocs/op": "allocs", "ns/row": "wall_ns_row", "B/row": "row_bytes", "B/revocation": "each_bytes", "p50-us": "p50_us", "p99-us": "p99_us"} {
		if v, ok := said[unit]; ok {
			f[figure] = v
		}
	}
	return f, nil
}

// readBenchmark reads "BenchmarkX  123  456 ns/op  7 B/op  8 allocs/op": how often it
// was done, and what else it says by its unit.
func readBenchmark(out []byte, name string) (said map[string]float64, times float64, err error) {
	fields := benchmarkLine(out, name)
	if fields == nil {
		return nil, 0, fmt.Errorf("%s printed no figure", name)
	}
	n, err := strconv.ParseUint(string(fields[1]), 10, 62)
	if err != nil || n == 0 {
		return nil, 0, fmt.Errorf("%s: %q is no number of times", name, fields[1])
	}
	said = map[string]float64{}
	for i := 2; i+1 < len(fields); i += 2 {
		if said[string(fields[i+1])], err = strconv.ParseFloat(string(fields[i]), 64); err != nil {
			return nil, 0, fmt.Errorf("%s: %q is no number of %s", name, fields[i], fields[i+1])
		}
	}
	return said, float64(n), nil
}
