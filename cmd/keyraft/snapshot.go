package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

const snapshotPath = clusterPath + "/snapshot"

// errNoInspect is the answer of a build that was given no reader of snapshots.
var errNoInspect = errors.New("this build can't read snapshots; use a released binary")

func newSnapshotSave(dial dialer, inspect func(io.Reader) (any, error)) *cobra.Command {
	return &cobra.Command{
		Use:   "save FILE",
		Short: "Save the state of the cluster into a file, checked before it gets its name",
		Long: `Save the state of the cluster into a file of mode 0600. The stream is checked
before the file gets its name, so a file that is there is whole. Keys in it are
sealed: to restore it, the cluster's sealing key is needed.`,
		Example: "  keyraft operator snapshot save cluster-$(date +%F).snap",
		Args:    named("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			size, err := api.saveSnapshot(cmd.Context(), args[0], inspect)
			if err != nil {
				return err
			}
			if api.out.json {
				return api.out.value(map[string]any{"file": args[0], "bytes": size})
			}
			return api.out.write(fmt.Sprintf("saved %s (%s)\n", args[0], humanBytes(size)))
		},
	}
}

// saveSnapshot writes the stream to a temporary file beside path, checks it and
// renames it.
func (a *api) saveSnapshot(ctx context.Context, path string, inspect func(io.Reader) (any, error)) (size int64, err error) {
	if inspect == nil {
		return 0, errNoInspect
	}
	resp, alive, stop, err := a.stream(ctx, request{method: http.MethodGet, path: snapshotPath}, nil, -1)
	if err != nil {
		return 0, err
	}
	defer stop()
	defer func() { _ = resp.Body.Close() }() // only read
	pr := startProgress(a.io.Err, a.io.Redraw, "saving "+path, resp.ContentLength, a.pace)
	err = writeWhole(path, func(f *os.File) error {
		size, err = io.Copy(f, pr.reader(resp.Body, alive))
		pr.end()
		if err != nil {
			return fmt.Errorf("save %s: the stream broke off after %s (%w); nothing was kept, try again", path, humanBytes(size), err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("read %s again: %w", path, err)
		}
		if err := checked(a.io, a.pace, f, path, size, inspect); err != nil {
			return fmt.Errorf("what %s sent is no whole snapshot (%w); nothing was kept, try again", a.node, err)
		}
		return nil
	})
	return size, err
}

// writeWhole makes a file of mode 0600 that is whole when it has its name.
func writeWhole(path string, fill func(f *os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".keyraft-snapshot-*")
	if err != nil {
		return fmt.Errorf("make a file beside %s: %w", path, err)
	}
	defer func() {
		_ = f.Close()           // closed before, when all went well
		_ = os.Remove(f.Name()) // renamed then
	}()
	if err := fill(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// checked reads a whole snapshot through inspect, with a progress line.
func checked(c console, p pace, r io.Reader, path string, size int64, inspect func(io.Reader) (any, error)) error {
	pr := startProgress(c.Err, c.Redraw, "checking "+path, size, p)
	defer pr.end()
	_, err := inspect(pr.reader(r, func() {}))
	return err
}

// syncDir makes a rename in dir last through a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	defer func() { _ = d.Close() }() // only synced
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

func newSnapshotRestore(io console, dial dialer, inspect func(io.Reader) (any, error)) *cobra.Command {
	var ask question
	var foreign bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put the cluster back to a saved state",
		Long: `Put the cluster back to a saved state. The file is checked here and again by the
node; then all nodes take it, all or nothing. Whatever was written since is lost,
the epoch changes, and gateways fetch everything anew.`,
		Example: "  keyraft operator snapshot restore cluster.snap\n  keyraft operator snapshot restore cluster.snap --yes",
		Args:    named("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			return api.restoreSnapshot(cmd.Context(), io, args[0], ask, foreign, inspect)
		},
	}
	cmd.Flags().BoolVar(&foreign, "foreign", false, "let a snapshot of another cluster in; its sealing key must be among this one's")
	ask.add(cmd)
	return cmd
}

func (a *api) restoreSnapshot(ctx context.Context, c console, path string, ask question, foreign bool, inspect func(io.Reader) (any, error)) error {
	if inspect == nil {
		return errNoInspect
	}
	f, err := os.Open(path)
	if err != nil {
		return usagef("%v; name a snapshot file", err)
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	size := info.Size()
	if err := checked(a.io, a.pace, f, path, size, inspect); err != nil {
		return fmt.Errorf("%s can't be restored: %w; nothing was sent, use another file", path, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read %s again: %w", path, err)
	}
	if err := ask.confirm(c, says("Restoring "+path+" puts the whole cluster at "+a.node+" back to that state: whatever was written since is lost, and every node and gateway loads it anew.")); err != nil {
		return err
	}
	pr := startProgress(a.io.Err, a.io.Redraw, "restoring "+path, size, a.pace)
	at := snapshotPath
	if foreign {
		at += "?foreign=true"
	}
	resp, _, stop, err := a.stream(ctx, request{method: http.MethodPost, path: at}, func(alive func()) io.Reader { return pr.reader(f, alive) }, size)
	pr.end()
	if err != nil {
		return err
	}
	defer stop()
	defer func() { _ = resp.Body.Close() }() // only read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w; look at 'keyraft operator status'", a.node, err)
	}
	if answer = bytes.TrimSpace(answer); !json.Valid(answer) {
		answer = nil
	}
	return a.done(answer, "restored "+path)
}

// stream sends a request whose body or answer is a snapshot. It lasts as long as
// something moves: alive tells that it does. stop frees it. A status that is not
// 2xx is an error.
func (a *api) stream(ctx context.Context, r request, body func(alive func()) io.Reader, size int64) (resp *http.Response, alive, stop func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(idleTimeout, func() {
		cancel(fmt.Errorf("nothing moved for %s", idleTimeout))
	})
	alive = func() { timer.Reset(idleTimeout) }
	stop = func() { timer.Stop(); cancel(nil) }
	var reader io.Reader
	if body != nil {
		// A node may take its time after the last byte: it verifies and commits.
		reader = body(func() { timer.Reset(callTimeout) })
	}
	req, err := a.newRequest(ctx, r, reader)
	if err != nil {
		stop()
		return nil, nil, nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/octet-stream")
		req.ContentLength = size
	} else {
		req.Header.Set("Accept", "application/octet-stream, application/problem+json")
	}
	resp, err = a.http.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
			err = cause
		}
		stop()
		return nil, nil, nil, a.unreachable(err)
	}
	if resp.StatusCode/100 != 2 {
		answer, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20)) // what came of it is shown
		_ = resp.Body.Close()
		stop()
		return nil, nil, nil, a.refusal(r, resp, answer)
	}
	return resp, alive, stop, nil
}

func newSnapshotInspect(c console, inspect func(io.Reader) (any, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "inspect FILE",
		Short:   "Check a snapshot file and show its header; asks no node",
		Example: "  keyraft operator snapshot inspect cluster.snap\n  keyraft operator snapshot inspect cluster.snap --output json",
		Args:    named("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := newPrinter(cmd, c.Out)
			if err != nil {
				return err
			}
			if inspect == nil {
				return errNoInspect
			}
			f, err := os.Open(args[0])
			if err != nil {
				return usagef("%v; name a snapshot file", err)
			}
			defer func() { _ = f.Close() }() // only read
			pr := startProgress(c.Err, c.Redraw, "reading "+args[0], 0, usualPace())
			header, err := inspect(pr.reader(f, func() {}))
			pr.end()
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			text, err := json.Marshal(header)
			if err != nil {
				return fmt.Errorf("encode the header: %w", err)
			}
			return out.object(text)
		},
	}
	return cmd
}
