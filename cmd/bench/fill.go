package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/e2e/proc"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/storage"
	"github.com/keyraft/keyraft/tokens"
)

const (
	snapshotPath = "/admin/v1/cluster/snapshot"
	octets       = "application/octet-stream"
	fillTenant   = "default"
	// entryBytes keeps an entry below command.MaxEntry, whatever its last command is.
	entryBytes = command.MaxEntry - command.MaxCommand
)

// filled is a client that fill made, with its secret.
type filled struct{ id, secret string }

// String hides the secret.
func (f filled) String() string { return f.id }

// fill puts many rows into a node's state, much faster than through its API: its
// snapshot is taken, the state machine applies the commands to it in this process,
// and the node restores what came of that. Then the node is started again, so that
// its memory is that of a node that serves, not of one that restored. made says
// what to put in.
func (s *stage) fill(ctx context.Context, v *served, made func(*state.View) (iter.Seq[command.Command], error)) (err error) {
	scratch, err := os.MkdirTemp(s.dir, "fill-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	var steps []string
	since := time.Now()
	step := func(name string) {
		steps = append(steps, name+" "+time.Since(since).Round(10*time.Millisecond).String())
		since = time.Now()
	}
	var halted error
	f, err := fsm.Open(fsm.Config{
		Dir: filepath.Join(scratch, "state"), Logger: slog.New(slog.DiscardHandler), Halt: func(e error) { halted = e },
		Storage: storage.Options{CacheBytes: 64 << 20, MemTableBytes: 64 << 20}, // nobody but us: it may take what it likes
	})
	if err != nil {
		return err
	}
	closed := sync.OnceValue(f.Close)
	defer func() { err = errors.Join(err, closed()) }()
	if err := v.takeState(ctx, f.Restore); err != nil {
		return fmt.Errorf("copy the node's state: %w", err)
	}
	step("copied in")
	commands, err := made(f.View())
	if err != nil {
		return err
	}
	if err := apply(ctx, f, commands); err != nil {
		return errors.Join(err, halted)
	}
	step("applied in")
	file, err := os.Create(filepath.Join(scratch, "filled"))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // removed with its folder
	if err := write(f, file); err != nil {
		return errors.Join(err, halted)
	}
	step("written in")
	if err := errors.Join(closed(), os.RemoveAll(filepath.Join(scratch, "state"))); err != nil {
		return err
	}
	if err := v.giveState(ctx, file); err != nil {
		return fmt.Errorf("restore what was made: %w", err)
	}
	step("restored in")
	if err := s.restart(ctx, v); err != nil {
		return err
	}
	step("started again in")
	fmt.Fprintln(os.Stderr, "  filled:", strings.Join(steps, ", "))
	return nil
}

// apply applies commands in entries as large as they may be.
func apply(ctx context.Context, f *fsm.FSM, commands iter.Seq[command.Command]) error {
	var body []byte
	count := 0
	flush := func() error {
		if count == 0 {
			return ctx.Err()
		}
		v := f.View()
		entry := command.AppendHeader(nil, command.Header{Stamp: time.Now().UnixMilli(), Epoch: v.Epoch()}, count)
		results := f.Apply(v.Index()+1, v.Applied().Term, append(entry, body...))
		if len(results) != count {
			return errors.New("the state machine halted")
		}
		for _, r := range results {
			if err := r.Err(); err != nil {
				return err
			}
		}
		body, count = body[:0], 0
		return ctx.Err()
	}
	for c := range commands {
		var key command.Key
		_, _ = rand.Read(key[:]) // never fails (crypto/rand)
		envelope, err := command.Encode(c, key, [8]byte{}, false)
		if err != nil {
			return err
		}
		body = append(body, envelope...)
		if count++; count == command.MaxCommands || len(body) > entryBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// write streams the state and leaves file at its beginning.
func write(f *fsm.FSM, file *os.File) error {
	snapshot, err := f.Snapshot(time.Now().UnixMilli())
	if err != nil {
		return err
	}
	defer snapshot.Release()
	out := bufio.NewWriterSize(file, 1<<20)
	_, err = snapshot.WriteTo(out)
	if err := errors.Join(err, out.Flush()); err != nil {
		return err
	}
	_, err = file.Seek(0, io.SeekStart)
	return err
}

// askState sends a request about the node's snapshot. A large one takes minutes.
func (v *served) askState(ctx context.Context, method string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, v.ready.URL+snapshotPath, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+v.ready.AdminToken)
	if body != nil {
		req.Header.Set("Content-Type", octets)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // what came says enough
		_ = resp.Body.Close()
		return nil, &proc.Refused{Status: resp.StatusCode, Body: string(text)}
	}
	return resp, nil
}

// takeState hands the node's snapshot to read.
func (v *served) takeState(ctx context.Context, read func(io.Reader) error) error {
	resp, err := v.askState(ctx, http.MethodGet, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	return read(resp.Body)
}

// giveState has the node restore what is in file.
func (v *served) giveState(ctx context.Context, file io.Reader) error {
	resp, err := v.askState(ctx, http.MethodPost, io.NopCloser(file)) // the node's to close is not ours
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	var said map[string]any
	return json.NewDecoder(resp.Body).Decode(&said)
}

// node starts a node that is a cluster of its own, with a folder of its own, and more
// arguments.
func (s *stage) node(ctx context.Context, name string, args ...string) (*served, error) {
	return s.start(ctx, name, s.o.bin, append([]string{"server", "--dev", "--api-addr", "127.0.0.1:0", "--data-dir", filepath.Join(s.dir, name), "--log-level", "warn"}, args...)...)
}

// restart stops a node and starts it again on its data.
func (s *stage) restart(ctx context.Context, v *served, args ...string) error {
	if code := v.proc.Terminate(stopBound); code != 0 {
		return fmt.Errorf("the node ended with %d; see %s", code, v.proc.Log())
	}
	again, err := s.node(ctx, filepath.Base(v.ready.DataDir), args...)
	if err != nil {
		return err
	}
	*v = *again
	s.servers[filepath.Base(v.ready.DataDir)] = v
	return nil
}

// clientsLike gives n clients like the one with that id, and remembers some of them,
// spread over all. ring opens the keys of the node's data folder.
func clientsLike(v *state.View, ring *seal.Keyring, like string, from, n int, keep int) (iter.Seq[command.Command], []filled, error) {
	template, ok := v.Client(fillTenant, like)
	if !ok {
		return nil, nil, fmt.Errorf("there is no client %s to make others like", like)
	}
	key, version, err := tokens.NewClusterKeys(ring).Newest(v, tokens.KeyHash)
	if err != nil {
		return nil, nil, err
	}
	every := max(1, n/max(1, keep))
	var kept []filled
	secrets := map[int]string{}
	for i := 0; i < n && len(kept) < keep; i += every {
		secrets[i] = rand.Text()
		kept = append(kept, filled{fmt.Sprintf("fill-%09d", from+i), secrets[i]})
	}
	return func(yield func(command.Command) bool) {
		for i := range n {
			c := proto.CloneOf(template)
			c.Id, c.Name, c.Generation = fmt.Sprintf("fill-%09d", from+i), fmt.Sprintf("client %d", from+i), 0
			secret, ok := secrets[i]
			if !ok {
				secret = rand.Text()
			}
			hash := seal.Hash(key, []byte(secret))
			c.Secrets = []*state.SecretHash{{Id: base64.RawURLEncoding.EncodeToString(hash[:6]), Hash: hash[:], KeyVersion: version}}
			if !yield(&command.PutClient{Client: c}) {
				return
			}
		}
	}, kept, nil
}

// randomRevocations gives n revocations of single tokens that live for a day.
func randomRevocations(n int, now time.Time) iter.Seq[command.Command] {
	return func(yield func(command.Command) bool) {
		for range n {
			var id [16]byte
			_, _ = rand.Read(id[:]) // never fails (crypto/rand)
			if !yield(&command.Revoke{Tenant: fillTenant, TargetKind: "token", Target: base64.RawURLEncoding.EncodeToString(id[:]), ExpiresAt: now.Add(24 * time.Hour).Unix()}) {
				return
			}
		}
	}
}

// keyring reads the sealing key that --dev made in the node's folder.
func (v *served) keyring() (*seal.Keyring, error) {
	text, err := os.ReadFile(filepath.Join(v.ready.DataDir, "seal.key"))
	if err != nil {
		return nil, err
	}
	return seal.ParseKeyring(text)
}
