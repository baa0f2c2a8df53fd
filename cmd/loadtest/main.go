// Command loadtest runs the k6 scripts of the folder loadtest against three nodes that
// it starts on this machine, or against a cluster that runs (-addr), and writes one
// HTML page and one JSON file about them. `make loadtest` runs it.
//
// Each script runs short, unless RATE, DURATION and the like are set: they reach the
// scripts as they are. Credentials travel by the environment, never on a command line.
//
// Exit codes: 0 every threshold holds; 1 a threshold does not hold, or a run broke; 2 a
// usage error, a server that can't be reached, or a credential that is wrong or has
// expired. Whatever was measured until then is written all the same, marked as partial.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// options are the flags.
type options struct {
	bin, k6, scripts, data, html, json, addr, only string
	keep                                           bool
}

// The exit codes.
const (
	exitHeld   = 0
	exitBroken = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	var o options
	flags := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.StringVar(&o.bin, "bin", "bin/keyraft", "the keyraft program")
	flags.StringVar(&o.k6, "k6", "bin/k6", "the k6 program")
	flags.StringVar(&o.scripts, "scripts", "loadtest", "folder of the k6 scripts")
	flags.StringVar(&o.data, "data", filepath.Join("build", "loadtest"), "folder for data and logs of the cluster and for what k6 writes")
	flags.StringVar(&o.html, "html", filepath.Join("build", "loadtest.html"), "the page to write")
	flags.StringVar(&o.json, "json", filepath.Join("build", "loadtest.json"), "the figures to write")
	flags.StringVar(&o.addr, "addr", "", "URLs of the nodes of a cluster that runs, with a comma between them; its credential is KEYRAFT_TOKEN, or KEYRAFT_CLIENT_ID and KEYRAFT_CLIENT_SECRET")
	flags.StringVar(&o.only, "only", "", "run only these scripts, with a comma between them: "+strings.Join(names(), ","))
	flags.BoolVar(&o.keep, "keep", false, "keep the cluster's folder")
	if err := flags.Parse(args); err != nil {
		return exitUsage
	}
	chosen, err := o.check(flags.Args())
	if err != nil {
		_, _ = fmt.Fprintf(errs, "loadtest: %v\n", err)
		return exitUsage
	}
	code, err := o.measure(ctx, chosen, out)
	if err != nil {
		_, _ = fmt.Fprintf(errs, "loadtest: %v\n", err)
	}
	return code
}

// check refuses what can't work, before anything is started.
func (o *options) check(args []string) ([]script, error) {
	if len(args) > 0 {
		return nil, fmt.Errorf("it takes no argument, but got %q; see -help", args[0])
	}
	chosen := scripts()
	if o.only != "" {
		chosen = nil
		for name := range strings.SplitSeq(o.only, ",") {
			at := slices.IndexFunc(scripts(), func(s script) bool { return s.name == name })
			if at < 0 {
				return nil, fmt.Errorf("there is no script %q; choose from %s", name, strings.Join(names(), ", "))
			}
			chosen = append(chosen, scripts()[at])
		}
	}
	programs := map[string]string{o.k6: "make bin/k6"}
	if o.addr == "" {
		programs[o.bin] = "make build"
	}
	for path, how := range programs {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("%w; build it with '%s'", err, how)
		}
	}
	for _, s := range chosen {
		if _, err := os.Stat(o.file(s)); err != nil {
			return nil, fmt.Errorf("%w; name the folder with -scripts", err)
		}
	}
	return chosen, nil
}

func (o *options) file(s script) string { return filepath.Join(o.scripts, s.name+".js") }

// measure runs the scripts one after the other and writes the report, whatever came.
func (o *options) measure(ctx context.Context, chosen []script, out io.Writer) (code int, err error) {
	if err := o.clear(); err != nil {
		return exitUsage, err
	}
	nodes, err := proc.NewCluster(o.bin, o.data, 0, 0, 0)
	if err != nil {
		return exitBroken, err
	}
	if err := os.WriteFile(filepath.Join(o.data, marker), nil, 0o600); err != nil {
		return exitBroken, err
	}
	r := newReport(o)
	defer func() {
		wrong := r.write(o)
		if wrong == nil {
			_, _ = fmt.Fprintf(out, "\nThe report is %s, its figures are in %s.\n", o.html, o.json)
		}
		if err = errors.Join(err, wrong); err != nil && code == exitHeld {
			code = exitBroken
		}
	}()
	if o.addr == "" {
		nodes.Step = func(text string, d time.Duration) {
			_, _ = fmt.Fprintf(out, "  %s (%s)\n", text, d.Round(time.Millisecond))
		}
		defer func() { err = errors.Join(err, o.stop(nodes, err != nil)) }()
		if err := start(ctx, nodes); err != nil {
			r.Partial, r.Reason = true, "the cluster did not start"
			return exitBroken, err
		}
	}
	code, err = o.each(ctx, chosen, nodes, r, out)
	if o.addr == "" && code != exitUsage && err == nil {
		err = compare(ctx, nodes, r, out)
	}
	return code, err
}

// marker says that a folder is ours to clear.
const marker = ".keyraft-loadtest"

// clear removes what an earlier run left in the folder, and nothing that is not of one.
func (o *options) clear() error {
	entries, err := os.ReadDir(o.data)
	if os.IsNotExist(err) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(o.data, marker)); err != nil {
		return fmt.Errorf("%s holds something that is of no earlier run; remove it, or name another folder with -data", o.data)
	}
	return os.RemoveAll(o.data)
}

// start runs the nodes within a bound.
func start(ctx context.Context, nodes *proc.Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return nodes.Run(ctx)
}

// each runs the scripts. A cluster that is out of reach or a credential that is not
// taken ends it: the next script would say the same.
func (o *options) each(ctx context.Context, chosen []script, nodes *proc.Cluster, r *report, out io.Writer) (int, error) {
	code := exitHeld
	var failed []error
	for _, s := range chosen {
		got := o.k6Run(ctx, s, nodes)
		r.Scripts = append(r.Scripts, got)
		_, _ = io.WriteString(out, got.text)
		switch got.Outcome {
		case held:
			continue
		case refused:
			r.Partial, r.Reason = true, got.Reason
			return exitUsage, errors.New(got.Reason)
		case interrupted:
			r.Partial, r.Reason = true, "interrupted"
			return exitBroken, errors.New("interrupted; the report has what was measured until then")
		}
		r.Partial = r.Partial || got.Partial
		code = exitBroken
		failed = append(failed, fmt.Errorf("%s: %s", s.name, got.Reason))
		if died := ended(nodes); died != "" {
			r.Partial, r.Reason = true, died+" died"
			return code, errors.Join(append(failed, fmt.Errorf("the node %s has died; its log is %s", died, nodes.Log(died)))...)
		}
	}
	return code, errors.Join(failed...)
}

// ended names a node that has ended by itself.
func ended(nodes *proc.Cluster) string {
	select {
	case name := <-nodes.Died:
		return name
	default:
		return ""
	}
}

// compare holds the nodes against each other after the load (I4).
func compare(ctx context.Context, nodes *proc.Cluster, r *report, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	sum, err := nodes.EqualChecksums(ctx)
	if err != nil {
		return fmt.Errorf("after the load the nodes differ: %w", err)
	}
	r.Checksum, r.Index = sum.Checksum, sum.AppliedIndex
	_, _ = fmt.Fprintf(out, "\nAfter the load all nodes have checksum %.12s… at entry %d.\n", sum.Checksum, sum.AppliedIndex)
	return nil
}

// stop ends the nodes and removes their data; what k6 wrote stays. After a failure
// the logs stay too.
func (o *options) stop(nodes *proc.Cluster, failed bool) error {
	err := nodes.Stop()
	if failed || err != nil || o.keep {
		return err
	}
	for _, n := range nodes.Nodes {
		err = errors.Join(err, os.RemoveAll(filepath.Join(nodes.Dir, n.Name)))
	}
	return err
}
