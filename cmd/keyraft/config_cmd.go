package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/keyraft/keyraft/internal/config"
)

// newConfig builds "keyraft config": looking at settings without starting
// anything.
func newConfig(io console) *cobra.Command {
	cmd := group("config", "Check, show and explain settings", "  keyraft config check keyraft.yaml",
		newConfigCheck(io), newConfigExample(io), newConfigShow(io), newConfigReference(io))
	addOutput(cmd)
	return cmd
}

// loadSettings reads the settings of a node or of a gateway, and their warnings.
func loadSettings(gateway bool, s config.Sources) (config.Settings, []string, error) {
	if gateway {
		_, settings, err := config.LoadGateway(s)
		return settings, nil, err
	}
	cfg, settings, err := config.Load(s)
	return settings, cfg.Warnings(), err
}

// pick chooses the flags' sources for a node, or file and environment alone for
// a gateway, whose flags would have the same names.
func pick(settings *settingFlags, gateway bool, io console) (config.Sources, error) {
	s := settings.sources(io)
	if !gateway {
		return s, nil
	}
	for flag := range settings.given {
		return s, usagef("--%s is a flag of the node; with --gateway give a file or KEYRAFT_GATEWAY_... variables", flag)
	}
	s.Flags = nil
	if settings.file == "" && io.Env != nil {
		s.File, _ = io.Env("KEYRAFT_GATEWAY_CONFIG")
	}
	return s, nil
}

func newConfigCheck(io console) *cobra.Command {
	var gateway bool
	cmd := &cobra.Command{
		Use:     "check [FILE]",
		Short:   "Report every mistake in file, environment and flags; exit code 2 if there is one",
		Example: "  keyraft config check keyraft.yaml\n  keyraft config check --gateway gateway.yaml",
		Args:    named("[FILE]"),
	}
	settings := addSettings(cmd, config.ServerFields(), "KEYRAFT_CONFIG")
	cmd.Flags().BoolVar(&gateway, "gateway", false, "the file is a gateway's")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			settings.file = args[0]
		}
		sources, err := pick(settings, gateway, io)
		if err != nil {
			return err
		}
		out, err := newPrinter(cmd, io.Out)
		if err != nil {
			return err
		}
		_, warnings, err := loadSettings(gateway, sources)
		return reportCheck(io, out, sources.File, append(warnings, config.UnknownEnv(io.Environ)...), err)
	}
	return cmd
}

// reportCheck prints one line a mistake, then one a warning.
func reportCheck(io console, out printer, file string, warnings []string, err error) error {
	var mistakes config.Errors
	if err != nil && !errors.As(err, &mistakes) {
		return err
	}
	if out.json {
		type mistake struct {
			Where   string `json:"where,omitempty"`
			Key     string `json:"key,omitempty"`
			Problem string `json:"problem"`
			Fix     string `json:"fix,omitempty"`
		}
		list := make([]mistake, len(mistakes))
		for i, m := range mistakes {
			list[i] = mistake{m.Where, m.Key, m.Problem, m.Fix}
		}
		if warnings == nil {
			warnings = []string{}
		}
		if err := out.value(map[string]any{"ok": len(list) == 0, "errors": list, "warnings": warnings}); err != nil {
			return err
		}
	} else {
		for _, m := range mistakes {
			_, _ = fmt.Fprintln(io.Err, "keyraft: "+oneLine(m.Error())) // the exit code tells as well
		}
		for _, w := range warnings {
			_, _ = fmt.Fprintln(io.Err, "keyraft: warning: "+oneLine(w))
		}
	}
	switch {
	case len(mistakes) > 0:
		return silentError(2)
	case out.json:
		return nil
	case file == "":
		return out.write("ok: environment and flags (no file was named)\n")
	}
	return out.write("ok: " + oneLine(file) + "\n")
}

func newConfigExample(io console) *cobra.Command {
	var gateway bool
	cmd := &cobra.Command{
		Use:     "example",
		Short:   "Print a commented configuration file with every setting",
		Example: "  keyraft config example > keyraft.yaml\n  keyraft config example --gateway > gateway.yaml",
		Args:    named(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := newPrinter(cmd, io.Out)
			if err != nil {
				return err
			}
			text, fields := config.Example(), config.ServerFields()
			if gateway {
				text, fields = config.GatewayExample(), config.GatewayFields()
			}
			if out.json {
				return out.value(map[string]any{"settings": describe(fields)})
			}
			return out.write(text)
		},
	}
	cmd.Flags().BoolVar(&gateway, "gateway", false, "that of a gateway")
	return cmd
}

// described is a setting as JSON.
type described struct {
	Key     string   `json:"key"`
	Flag    string   `json:"flag"`
	Env     string   `json:"env"`
	Type    string   `json:"type"`
	Default string   `json:"default"`
	OneOf   []string `json:"one_of,omitempty"`
	Min     string   `json:"min,omitempty"`
	Max     string   `json:"max,omitempty"`
	Help    string   `json:"help"`
}

func describe(fields []config.Field) []described {
	out := make([]described, len(fields))
	for i, f := range fields {
		out[i] = described{f.Key, "--" + f.Flag, f.Env, f.Type, f.Default, f.OneOf, f.Min, f.Max, f.Help}
	}
	return out
}

func newConfigShow(io console) *cobra.Command {
	var gateway, origin bool
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Show the settings that a start with the same flags would use; secrets are hidden",
		Example: "  keyraft config show --origin --config keyraft.yaml\n  KEYRAFT_LOG_LEVEL=debug keyraft config show --origin",
		Args:    named(),
	}
	settings := addSettings(cmd, config.ServerFields(), "KEYRAFT_CONFIG")
	cmd.Flags().BoolVar(&gateway, "gateway", false, "those of a gateway")
	cmd.Flags().BoolVar(&origin, "origin", false, "say which source each value came from")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		sources, err := pick(settings, gateway, io)
		if err != nil {
			return err
		}
		out, err := newPrinter(cmd, io.Out)
		if err != nil {
			return err
		}
		decided, _, err := loadSettings(gateway, sources)
		if err != nil {
			return err
		}
		return showSettings(out, decided, origin)
	}
	return cmd
}

func showSettings(out printer, settings config.Settings, origin bool) error {
	if out.json {
		type shown struct {
			Key    string        `json:"key"`
			Value  string        `json:"value"`
			Origin config.Origin `json:"origin,omitempty"`
			Where  string        `json:"where,omitempty"`
		}
		list := make([]shown, len(settings))
		for i, s := range settings {
			list[i] = shown{Key: s.Key, Value: s.Value}
			if origin {
				list[i].Origin, list[i].Where = s.Origin, s.Where
			}
		}
		return out.value(map[string]any{"items": list})
	}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, s := range settings {
		value := oneLine(s.Value)
		if value == "" {
			value = "-"
		}
		if origin {
			_, _ = fmt.Fprintf(t, "%s\t%s\t%s\n", s.Key, value, oneLine(s.Where)) // into memory
		} else {
			_, _ = fmt.Fprintf(t, "%s\t%s\n", s.Key, value)
		}
	}
	_ = t.Flush()
	return out.write(b.String())
}

func newConfigReference(io console) *cobra.Command {
	return &cobra.Command{
		Use:     "reference",
		Short:   "Print the reference page of all settings (Markdown)",
		Example: "  keyraft config reference > docs/configuration.md",
		Args:    named(),
		Hidden:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := newPrinter(cmd, io.Out)
			if err != nil {
				return err
			}
			if out.json {
				return out.value(map[string]any{"server": describe(config.ServerFields()), "gateway": describe(config.GatewayFields())})
			}
			return out.write(config.Reference())
		},
	}
}
