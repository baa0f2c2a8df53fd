// Command keyraft is the whole of Keyraft in one binary: a node of the cluster
// (server), the reference gateway (gateway) and the command line for operators.
//
// The commands that talk to a cluster are plain clients of its HTTP API. They
// print tables for people and, with --output json, the server's own answer.
// Results go to standard output; progress, questions and errors to standard
// error, an error as one line that says what to do next. Exit codes: 0 done,
// 1 failed, 2 a usage or configuration error.
//
// A command is a function that returns a *cobra.Command and is given what it
// needs; there are no package variables. wire.go puts the rooms together.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/keyraft/keyraft/internal/config"
)

func main() { os.Exit(start()) }

// start runs one invocation under the process's signals: the first SIGINT or
// SIGTERM cancels the context, a second one ends the process at once.
func start() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // gives the signals their default effect back
	return run(ctx, os.Args[1:], console{
		In:       os.Stdin,
		Out:      os.Stdout,
		Err:      os.Stderr,
		Env:      os.LookupEnv,
		Environ:  os.Environ(),
		Ask:      term.IsTerminal(int(os.Stdin.Fd())),
		Redraw:   term.IsTerminal(int(os.Stderr.Fd())),
		Patience: 10 * time.Second,
	}, wire())
}

// console is what a command may touch of the process that runs it.
type console struct {
	In       io.Reader
	Out      io.Writer
	Err      io.Writer
	Env      func(name string) (string, bool)
	Environ  []string      // "NAME=value", for config check
	Ask      bool          // In is a terminal: questions can be asked
	Redraw   bool          // Err is a terminal: a progress line may be drawn over
	Patience time.Duration // how long a client command goes on asking a cluster that answers 503
}

// deps are the parts of the program that commands start. A nil one makes its
// command answer that this build has no such part.
type deps struct {
	// RunServer runs a node until ctx ends, and returns when it has stopped.
	// settings say where each value came from: settings.Locate adds that to a
	// config.NewError. An error that is a *config.Error gives exit code 2.
	RunServer func(ctx context.Context, cfg config.Config, settings config.Settings, io console) error
	// RunGateway runs the reference gateway likewise.
	RunGateway func(ctx context.Context, cfg config.Gateway, settings config.Settings, io console) error
	// InspectSnapshot reads a whole snapshot stream, checks it and returns its
	// header, which must encode as a JSON object.
	InspectSnapshot func(r io.Reader) (any, error)
	// RescueSnapshot writes a snapshot of what the data folder of a stopped node
	// holds and returns what it found, which must encode as a JSON object. scratch is
	// an empty folder for its copy.
	RescueSnapshot func(dir, scratch string, to io.Writer) (any, error)
}

// run is the program without the process: it returns the exit code.
func run(ctx context.Context, args []string, io console, d deps) int {
	root := newRoot(io, d)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	var quiet silentError
	switch {
	case errors.As(err, &quiet):
		return int(quiet)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		_, _ = fmt.Fprintln(io.Err, "keyraft: interrupted") // nowhere left to report a failing standard error
		return 1
	}
	code := exitCode(err)
	line := err.Error()
	if code == 2 && !isConfigError(err) {
		line += " (see '" + cmd.CommandPath() + " --help')"
	}
	_, _ = fmt.Fprintln(io.Err, "keyraft: "+oneLine(line))
	return code
}

// silentError is an exit code whose reason was printed already.
type silentError int

func (e silentError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usageError is a mistake in how a command was called: exit code 2.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// exitCode tells usage and configuration errors from failures.
func exitCode(err error) int {
	var usage *usageError
	if errors.As(err, &usage) || isConfigError(err) {
		return 2
	}
	return 1
}

func isConfigError(err error) bool {
	var one *config.Error
	var many config.Errors
	return errors.As(err, &one) || errors.As(err, &many)
}
