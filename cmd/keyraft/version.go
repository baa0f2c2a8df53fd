package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// newVersion builds "keyraft version".
func newVersion(io console) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this binary",
		Example: "  keyraft version\n  keyraft version --output json",
		Args:    named(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := newPrinter(cmd, io.Out)
			if err != nil {
				return err
			}
			v := readVersion()
			if out.json {
				return out.value(v)
			}
			line := "keyraft " + v.Version
			if v.Commit != "" {
				line += " (" + v.Commit + ")"
			}
			return out.write(line + ", " + v.Go + " " + v.Platform + "\n")
		},
	}
	addOutput(cmd)
	return cmd
}

// version is what the build knows of itself.
type version struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// buildVersion is set by the linker (Makefile) and never changed.
var buildVersion string

func readVersion() version {
	v := version{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	if buildVersion != "" {
		v.Version = buildVersion
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
