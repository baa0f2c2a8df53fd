// Command demo shows Keyraft at work on one machine: it starts three nodes and the
// reference gateway, tells the story of a token (issued, accepted, revoked, refused)
// with its timings, kills the leader and shows that the story goes on. Then the
// cluster keeps running for whoever wants to play, until Ctrl-C. `make cluster`
// runs it.
//
// Every line of the story is checked as it is told. Exit codes: 0 the story holds
// and everything was stopped, 1 a step does not hold, 2 a usage error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/term"
)

func main() { os.Exit(run()) }

// options are the flags.
type options struct {
	bin, data  string
	once, keep bool
}

func run() int {
	var o options
	flag.StringVar(&o.bin, "bin", "bin/keyraft", "the keyraft program")
	flag.StringVar(&o.data, "data", filepath.Join("build", "cluster"), "folder for data and logs of the cluster")
	flag.BoolVar(&o.once, "once", false, "stop after the story, for CI")
	flag.BoolVar(&o.keep, "keep", false, "keep the folder; the next run goes on with it")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "demo: it takes no argument, but got %q; see -help\n", flag.Arg(0))
		return 2
	}
	if _, err := os.Stat(o.bin); err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v; build it with 'make build', or name it with -bin\n", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	colour := term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == ""
	if err := show(ctx, o, newScreen(os.Stdout, colour)); err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		return 1
	}
	return 0
}

// show is the whole run: start, story, play, stop.
func show(ctx context.Context, o options, s *screen) (err error) {
	c, err := newCluster(o, s)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			c.logs()
		}
		err = errors.Join(err, c.stop(), c.clean(o.keep))
	}()
	story, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := c.tell(story); err != nil {
		if ctx.Err() != nil {
			s.line("")
			if o.once {
				return errors.New("interrupted before the story was told")
			}
			s.note("interrupted")
			return nil
		}
		return err
	}
	if o.once {
		s.note("the story holds")
		return nil
	}
	c.play(s)
	for {
		select {
		case <-ctx.Done():
			s.line("")
			return nil
		case name := <-c.Died: // by whoever plays, most likely
			s.note(name + " has ended; its log is " + c.Log(name))
		}
	}
}
