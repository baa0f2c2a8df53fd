package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/config"
)

// broken is a standard output that nobody reads any more.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// firstLine hands on the first line that is written.
type firstLine chan []byte

func (f firstLine) Write(p []byte) (int, error) {
	select {
	case f <- bytes.Clone(p):
	default:
	}
	return len(p), nil
}

func nodeConfig(t *testing.T, flags map[string]string) config.Config {
	t.Helper()
	all := map[string]string{
		"bootstrap": "true", "issuer": "https://login.example.com", "log-level": "error", "api-addr": "127.0.0.1:0",
		"cluster-addr": "127.0.0.1:0", "gossip-addr": "127.0.0.1:0",
	}
	for k, v := range flags {
		all[k] = v
	}
	cfg, _, err := config.Load(config.Sources{Flags: all})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// readyLine runs a node until it is ready, and stops it again after use.
func readyLine(t *testing.T, cfg config.Config, use func(ready map[string]any)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	out, ended := make(firstLine, 1), make(chan error, 1)
	go func() { ended <- runServer(ctx, cfg, nil, console{Out: out, Err: io.Discard}) }()
	var line []byte
	select {
	case line = <-out:
	case err := <-ended:
		t.Fatalf("the node ended: %v", err)
	}
	var ready map[string]any
	if err := json.Unmarshal(line, &ready); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	use(ready)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the node's end: %v", err)
	}
}

// TestAdminTokenOutlivesAStartThatFailed: a first start that ends before its ready
// line was read must not leave a cluster to which nobody has the token. It lies
// sealed in the folder until it was shown, and no longer (I6).
func TestAdminTokenOutlivesAStartThatFailed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := nodeConfig(t, map[string]string{"data-dir": dir})
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := runServer(ctx, cfg, nil, console{Out: broken{}, Err: io.Discard}); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("a start whose ready line nobody reads: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, adminFile)); err != nil {
		t.Fatalf("the token is not kept: %v", err)
	}
	readyLine(t, cfg, func(ready map[string]any) {
		token, _ := ready["admin_token"].(string)
		if token == "" {
			t.Fatalf("the second start shows no admin token: %v", ready)
		}
		if raw, err := os.ReadFile(filepath.Join(dir, adminFile)); err == nil && bytes.Contains(raw, []byte(token)) {
			t.Error("I6: the token lies in clear text in the data folder")
		}
		url, _ := ready["url"].(string)
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/admin/v1/clients", nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Authorization", "Bearer "+token)
		a, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		_ = a.Body.Close()
		if a.StatusCode != http.StatusOK {
			t.Errorf("the cluster answers %s to its admin token", a.Status)
		}
	})
	if _, err := os.Stat(filepath.Join(dir, adminFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a token that was shown is still kept: %v", err)
	}
	readyLine(t, cfg, func(ready map[string]any) {
		if ready["admin_token"] != nil {
			t.Error("the token was shown twice")
		}
	})
}

// TestAPortInUseChangesNothing: whichever it is, the start is refused with the key
// before the folder holds a node or a join token is used up.
func TestAPortInUseChangesNothing(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for _, key := range []string{"api", "cluster", "gossip", "gateway-gossip", "ops"} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			err := runServer(t.Context(), nodeConfig(t, map[string]string{"data-dir": dir, key + "-addr": l.Addr().String()}), nil, console{Out: broken{}, Err: io.Discard})
			var mistake *config.Error
			if !errors.As(err, &mistake) || mistake.Key != strings.ReplaceAll(key, "-", "_")+"_addr" || !strings.Contains(mistake.Problem, "in use") {
				t.Errorf("%v", err)
			}
			if hasState(dir) {
				t.Error("the folder holds a node")
			}
		})
	}
}

// TestANameIsMadeOnce: the node's certificate holds the name that was made for it,
// so a start that failed must not be followed by one under another name.
func TestANameIsMadeOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := config.Config{Data: dir}, config.Config{Data: dir}
	for _, cfg := range []*config.Config{&first, &second} {
		if _, err := loadPlace(cfg); err != nil {
			t.Fatal(err)
		}
	}
	if first.NodeID == "" || first.NodeID != second.NodeID {
		t.Errorf("the node is called %q, then %q", first.NodeID, second.NodeID)
	}
}
