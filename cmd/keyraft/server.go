package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyraft/keyraft/internal/config"
)

// settingFlags are flags made from the fields of a configuration struct. They
// keep the text as it was given: internal/config reads and judges it, so that a
// flag, a variable and the file obey the same rules.
type settingFlags struct {
	given map[string]string // by Field.Flag
	file  string            // --config
	env   string            // variable in place of --config
}

// addSettings gives cmd one flag a field, and --config. Flags of the sections
// that are rarely touched work but do not crowd the help.
func addSettings(cmd *cobra.Command, fields []config.Field, configEnv string) *settingFlags {
	s := &settingFlags{given: map[string]string{}, env: configEnv}
	cmd.Flags().StringVar(&s.file, "config", "", "YAML file with settings ("+configEnv+"); see 'keyraft config example'")
	for _, f := range fields {
		help := strings.TrimSuffix(f.Help, ".")
		if f.Default != "" {
			help += " (default " + f.Default + ")"
		}
		cmd.Flags().Var(&settingFlag{field: f, given: s.given}, f.Flag, help)
		flag := cmd.Flags().Lookup(f.Flag)
		if f.Type == "bool" {
			flag.NoOptDefVal = "true"
		}
		switch f.Section() {
		case "", "tls", "seal":
		default:
			flag.Hidden = true
		}
	}
	return s
}

// sources says where the settings of this call are to be looked for.
func (s *settingFlags) sources(io console) config.Sources {
	file := s.file
	if file == "" && io.Env != nil {
		file, _ = io.Env(s.env)
	}
	return config.Sources{File: file, Env: io.Env, Flags: s.given}
}

// settingFlag is one flag (pflag.Value).
type settingFlag struct {
	field config.Field
	given map[string]string
}

func (f *settingFlag) String() string {
	if f.field.Type == "secret" {
		return ""
	}
	return f.given[f.field.Flag]
}

// Set keeps the text; a list that is given twice grows.
func (f *settingFlag) Set(text string) error {
	if before, ok := f.given[f.field.Flag]; ok && f.field.Type == "list" {
		text = before + "," + text
	}
	f.given[f.field.Flag] = text
	return nil
}

// Type is the word for the value in the help.
func (f *settingFlag) Type() string {
	if f.field.Type == "secret" {
		return "string"
	}
	return f.field.Type
}

// newServer builds "keyraft server".
func newServer(io console, runServer func(context.Context, config.Config, config.Settings, console) error) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run a node",
		Long: `Run a node of a cluster until SIGTERM or SIGINT: it then drains, hands leadership
over and exits with 0. A second signal ends it at once.

Every setting is a flag, a variable KEYRAFT_... and a key of the YAML file, in this
order of precedence. The rarer ones (tokens, keys, limits, storage, raft) are flags
too, though not listed here: see 'keyraft config example' or docs/configuration.md.`,
		Example: `  keyraft server --dev
  keyraft server --bootstrap --config /etc/keyraft/keyraft.yaml
  keyraft server --join https://node1.example.com:9443 --join-token "$TOKEN" --config /etc/keyraft/keyraft.yaml`,
		Args: named(),
	}
	settings := addSettings(cmd, config.ServerFields(), "KEYRAFT_CONFIG")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, decided, err := config.Load(settings.sources(io))
		if err != nil {
			return err
		}
		if runServer == nil {
			return errors.New("this build has no server; use a released binary")
		}
		return decided.Locate(runServer(cmd.Context(), cfg, decided, io))
	}
	return cmd
}
