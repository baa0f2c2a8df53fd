package cluster_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/keyraft/keyraft/cluster"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/seal"
)

// TestFoundingGoesOnWhereItBroke: a first start that ends after it has made its
// log and before it has written the first configuration is not the last one.
func TestFoundingGoesOnWhereItBroke(t *testing.T) {
	t.Parallel()
	keys, err := seal.NewKeyring(seal.Generate())
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cfg := cluster.Config{
		DataDir: t.TempDir(), NodeID: "n1", BindAddr: taken.Addr().String(), Keyring: keys,
		Bootstrap: &command.Bootstrap{
			Cluster: &state.Cluster{Issuer: "https://keyraft.test"}, Tenant: &state.Tenant{Id: "default", Settings: &state.TenantSettings{}},
			AdminToken: make([]byte, 32),
		},
		Logger: slog.New(slog.DiscardHandler), Fatal: func(err error) { t.Errorf("the node halted: %v", err) },
	}
	if _, err := cluster.Start(ctx, cfg); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("a start on a port in use: %v", err)
	}
	cfg.BindAddr, cfg.Bootstrap = "127.0.0.1:0", nil // as a program starts a folder that holds a node
	n, err := cluster.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.AwaitReady(ctx); err != nil {
		t.Errorf("the second start: %v", err)
	}
	if err := n.Close(ctx); err != nil {
		t.Error(err)
	}
}
