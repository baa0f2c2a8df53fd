package peers

import (
	"context"
	"path/filepath"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// oidcProvider is node oidc-provider, with server.mjs beside this file.
func oidcProvider() *Peer {
	const client, token = "bench", "/token"
	return &Peer{
		Name:       "oidc-provider",
		Version:    "9.13.3",
		Workloads:  []Workload{JWTES256, JWTRS256, Opaque, Introspect},
		Warmup:     5 * time.Second,
		programs:   []string{"node", "npm", "taskset"},
		startLimit: time.Minute,
		prepare: func(ctx context.Context, f Folders) error {
			from, to := filepath.Join(f.Source, "oidc-provider"), filepath.Join(f.Cache, "oidc-provider")
			names := []string{"package.json", "package-lock.json", "server.mjs"}
			return install(from, to, names, func() error {
				return run(ctx, to, nil, "npm", "ci", "--omit=dev", "--engine-strict", "--ignore-scripts", "--no-audit", "--no-fund")
			})
		},
		command: func(f Folders, _ bool) (proc.Spec, error) {
			return proc.Spec{
				Bin:  "node",
				Args: []string{"server.mjs"},
				Dir:  filepath.Join(f.Cache, "oidc-provider"),
				// Whatever the caller's environment says: no debug output, no options.
				Env: []string{"NODE_ENV=production", "NODE_OPTIONS=", "DEBUG="},
			}, nil
		},
		ready: readyLine,
		issue: map[Workload]issue{
			JWTES256: {path: token, client: client, resource: "urn:keyraft:bench:es256"},
			JWTRS256: {path: token, client: client, resource: "urn:keyraft:bench:rs256"},
			Opaque:   {path: token, client: client},
		},
		introspect: introspect{path: "/token/introspection", token: Opaque},
	}
}
