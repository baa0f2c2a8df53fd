package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// newRoot builds the tree of commands.
func newRoot(io console, d deps) *cobra.Command {
	root := &cobra.Command{
		Use:   "keyraft",
		Short: "A clustered OAuth 2 token service",
		Long: `Keyraft is a clustered OAuth 2 token service: it issues tokens from any node,
takes them back, and has every gateway refuse them a moment later.

Start with 'keyraft server --dev'. Commands that talk to a cluster take
--addr, --token and --cacert, or KEYRAFT_ADDR, KEYRAFT_TOKEN and KEYRAFT_CACERT.`,
		Example:                    "  keyraft server --dev\n  keyraft operator status --output json",
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		RunE:                       groupRun,
	}
	root.SetIn(io.In)
	root.SetOut(io.Out) // before the completion command is made: it keeps the writer
	root.SetErr(io.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usagef("%v", err) })
	dial := newDialer(io)
	root.AddCommand(
		newServer(io, d.RunServer),
		newGateway(io, dial, d.RunGateway),
		newOperator(io, dial, d),
		newClient(io, dial), newUser(io, dial), newScope(io, dial), newRole(io, dial), newGroup(io, dial), newTenant(dial), newTrustedIssuer(io, dial),
		newToken(io, dial),
		newBench(io),
		newConfig(io),
		newVersion(io),
	)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	wrapForeign(root)
	return root
}

// group builds a command that only holds others.
func group(use, short, example string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, RunE: groupRun, SuggestionsMinimumDistance: 2}
	cmd.AddCommand(children...)
	return cmd
}

// groupRun prints the help of a command that does nothing by itself, and refuses
// an argument that is none of its commands (cobra would show help and succeed).
func groupRun(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	text := "there is no command " + cmd.CommandPath() + " " + args[0]
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usagef("%s", text)
}

// wrapForeign completes the commands that cobra brings: examples, and argument
// errors that count as usage errors.
func wrapForeign(root *cobra.Command) {
	root.Args = cobra.ArbitraryArgs // groupRun judges them
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "completion":
			cmd.Example = "  keyraft completion bash > /etc/bash_completion.d/keyraft"
			cmd.RunE = groupRun
			cmd.Args = cobra.ArbitraryArgs
			for _, shell := range cmd.Commands() {
				shell.Example = "  keyraft completion " + shell.Name()
				shell.Args = named()
			}
		case "help":
			cmd.Example = "  keyraft help operator"
		}
	}
}

// named wants exactly the arguments whose names are given; a name in brackets
// may be left out.
func named(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > len(names) {
			if len(names) == 0 {
				return usagef("%s takes no argument, but got %q", cmd.CommandPath(), args[0])
			}
			return usagef("%s takes %s, but got %q too", cmd.CommandPath(), strings.Join(names, " "), args[len(names)])
		}
		for i, name := range names {
			if strings.HasPrefix(name, "[") {
				break
			}
			if i >= len(args) || args[i] == "" {
				return usagef("%s is missing: %s %s", name, cmd.CommandPath(), strings.Join(names, " "))
			}
		}
		return nil
	}
}
