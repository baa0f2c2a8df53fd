package peers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// zitadel is the example server of zitadel/oidc, built from the module zitadel
// beside this file.
func zitadel() *Peer {
	const token = "/oauth/token"
	return &Peer{
		Name:       "zitadel-oidc",
		Version:    "3.51.17",
		Workloads:  []Workload{JWTES256, Opaque, Introspect},
		Warmup:     time.Second,
		programs:   []string{"go", "taskset"},
		startLimit: time.Minute,
		prepare: func(ctx context.Context, f Folders) error {
			bin, err := zitadelBin(f)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(bin), 0o750); err != nil {
				return fmt.Errorf("make its folder: %w", err)
			}
			// Go's own cache keeps this quick; the caller's flags are for another module.
			return run(ctx, filepath.Join(f.Source, "zitadel"), []string{"GOFLAGS=-buildvcs=false", "GOWORK=off", "CGO_ENABLED=0"},
				"go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, ".")
		},
		command: func(f Folders, pinned bool) (proc.Spec, error) {
			bin, err := zitadelBin(f)
			if err != nil {
				return proc.Spec{}, err
			}
			env := []string{"GOGC=100", "GOMEMLIMIT=off", "GODEBUG="} // the defaults, whatever the caller's are
			if pinned {
				env = append(env, "GOMAXPROCS=1")
			}
			return proc.Spec{Bin: bin, Env: env}, nil
		},
		ready: readyLine,
		issue: map[Workload]issue{
			JWTES256: {path: token, client: "bench-jwt"},
			Opaque:   {path: token, client: "bench-opaque"},
		},
		introspect: introspect{path: "/oauth/introspect", token: Opaque, basic: true},
	}
}

// zitadelBin is absolute: the build runs in another folder.
func zitadelBin(f Folders) (string, error) {
	return filepath.Abs(filepath.Join(f.Cache, "zitadel-oidc", "server"))
}
