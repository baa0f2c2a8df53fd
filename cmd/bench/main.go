// Command bench makes the project's own table of figures: what Keyraft takes for a
// request, beside limits that were measured in the same run on the same core. `make
// bench` runs it.
//
// The servers run as processes of their own on one core, the load comes from another;
// all rows are run in turn, several rounds of them, so that whatever disturbs the
// machine for a while disturbs all. A figure is the median, and its ratio to the limit
// is the median of the ratios of each round. CPU time is the server process's own,
// user and system, per request.
//
// It prints a table and writes build/bench.json. Exit codes: 0 measured, whatever the
// figures; 1 it could not be measured, or with -strict, a floor does not hold; 2 a
// usage error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

func main() { os.Exit(run()) }

// options are the flags.
type options struct {
	bin, ceiling      string // programs
	tests             string // folder of test programs
	data, out         string
	rounds            int
	long, warmup      time.Duration
	connections       int
	only              *regexp.Regexp
	strict, small     bool
	peers             string // none, some, all
	scale             string // file of the curves
	doc, from, readme string // the page, what it is made of, and who else gets a table
}

func run() int {
	var o options
	var only string
	flag.StringVar(&o.bin, "bin", filepath.Join("bin", "keyraft"), "the keyraft program")
	flag.StringVar(&o.ceiling, "ceiling", filepath.Join("bin", "ceiling"), "the reference program, internal/bench/ceiling")
	flag.StringVar(&o.tests, "tests", "bin", "folder of the packages' test programs, for what has no HTTP around it")
	flag.StringVar(&o.data, "data", "build", "folder below which the servers' data lies, on the disk that is measured")
	flag.StringVar(&o.out, "out", filepath.Join("build", "bench.json"), "file for the figures")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds")
	flag.DurationVar(&o.long, "for", 2*time.Second, "how long a row takes in each round")
	flag.DurationVar(&o.warmup, "warmup", 300*time.Millisecond, "the same load before, not measured")
	flag.IntVar(&o.connections, "connections", 64, "connections of rows that do not say otherwise")
	flag.StringVar(&only, "only", "", "regular expression: run these rows and the limits that they need")
	flag.BoolVar(&o.small, "small", false, "for function, not for figures: short warm-ups, and few of what a row has many of")
	flag.StringVar(&o.peers, "peers", "some", "the other servers (docs/peers.md): none; some, without Keycloak, which takes minutes; all")
	flag.StringVar(&o.scale, "scale", "", "file of the scale curves: they are measured, in about ten minutes, instead of the table; with -doc they are read")
	flag.StringVar(&o.doc, "doc", "", "write this page, with its plots beside it, from the figures that were measured before; measure nothing")
	flag.StringVar(&o.from, "from", filepath.Join("build", "bench.json"), "with -doc: the figures")
	flag.StringVar(&o.readme, "readme", "README.md", "with -doc: the file that gets the short table between its marks; empty: none")
	flag.BoolVar(&o.strict, "strict", false, "exit with 1 when a floor does not hold")
	flag.Parse()
	var err error
	if o.only, err = regexp.Compile(only); err != nil || flag.NArg() > 0 || o.rounds < 1 || o.long < 50*time.Millisecond || o.warmup < 0 || o.connections < 1 ||
		o.peers != "none" && o.peers != "some" && o.peers != "all" {
		fmt.Fprintf(os.Stderr, "bench: %v; see -help\n", errors.Join(err, errors.New("the flags make no run")))
		return 2
	}
	if o.doc != "" {
		return code(publish(o))
	}
	for _, program := range []string{o.bin, o.ceiling, o.test("tokens"), o.test("logstore"), o.test("gateway"), o.test("fsm")} {
		if _, err := os.Stat(program); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %v; run 'make bench', which builds it\n", err)
			return 2
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if o.scale != "" {
		return code(scale(ctx, o))
	}
	below, err := measure(ctx, o)
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		return 1
	}
	if below > 0 && o.strict {
		return 1
	}
	return 0
}

// code is the exit code, and says why it is not 0.
func code(err error) int {
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

// test is the test program of a package.
func (o options) test(pkg string) string { return filepath.Join(o.tests, pkg+".test") }

// measure is the whole run. It says how many figures are below their floor.
func measure(ctx context.Context, o options) (below int, err error) {
	s, err := newStage(o)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	table, err := s.rounds(ctx)
	if table == nil || len(table.Rounds) == 0 {
		return 0, err
	}
	partial := ""
	if err != nil {
		partial = err.Error() // what was measured until then is worth its table
	}
	d := s.document(table, partial)
	return d.below(), errors.Join(err, d.print(os.Stdout), d.save(o.out))
}
