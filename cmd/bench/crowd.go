package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/keyraft/keyraft/fsm"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// crowd registers many clients at a node at once. By its API that takes minutes for a
// million; instead the state machine itself registers them, in this process and in a
// copy of the node's state, and an operator's restore brings that back.
func (v *served) crowd(ctx context.Context, dir string, clients int) (err error) {
	dir, err = os.MkdirTemp(dir, "crowd-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	saved, grown := filepath.Join(dir, "saved"), filepath.Join(dir, "grown")
	if err := v.save(ctx, saved); err != nil {
		return fmt.Errorf("save a snapshot: %w", err)
	}
	begun := time.Now()
	if err := grow(ctx, dir, saved, grown, clients); err != nil {
		return err
	}
	made := time.Now()
	defer func() {
		fmt.Fprintf(os.Stderr, "a snapshot with %d clients: made in %s, restored in %s\n", clients, made.Sub(begun).Round(time.Millisecond), time.Since(made).Round(time.Millisecond))
	}()
	if err := v.restore(ctx, grown); err != nil {
		return fmt.Errorf("restore the snapshot: %w", err)
	}
	return nil
}

// save writes a node's snapshot into a file.
func (v *served) save(ctx context.Context, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(v.snapshot(ctx, http.MethodGet, nil, f), f.Close())
}

// restore puts the node back to the snapshot in a file.
func (v *served) restore(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	return v.snapshot(ctx, http.MethodPost, f, io.Discard)
}

func (v *served) snapshot(ctx context.Context, method string, body io.Reader, into io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, method, v.ready.URL+"/admin/v1/cluster/snapshot", body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+v.ready.AdminToken)
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode/100 != 2 {
		text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return errors.Join(fmt.Errorf("status %d: %s", resp.StatusCode, text), err)
	}
	_, err = io.Copy(into, resp.Body)
	return err
}

// grow makes, of one snapshot, another with so many clients more. dir is for the state
// meanwhile.
func grow(ctx context.Context, dir, from, to string, clients int) (err error) {
	var halted error
	f, err := fsm.Open(fsm.Config{Dir: filepath.Join(dir, "state"), Halt: func(err error) { halted = err }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Kill(), halted) }() // its folder is removed anyway
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Restore(in), in.Close()); err != nil {
		return err
	}
	tenants := f.View().Tenants()
	if len(tenants) == 0 {
		return errors.New("the snapshot has no tenant")
	}
	const batch = 256 // commands an entry
	for at := 0; at < clients; at += batch {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := register(f, tenants[0].GetId(), at, min(at+batch, clients)); err != nil {
			return errors.Join(err, halted)
		}
	}
	return snapshotTo(f, to)
}

// register applies an entry with the clients from at up to end.
func register(f *fsm.FSM, tenant string, at, end int) error {
	v := f.View()
	entry := command.AppendHeader(nil, command.Header{Stamp: v.Clock(), Epoch: v.Epoch()}, end-at)
	for i := at; i < end; i++ {
		hash := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))) // of a secret that nobody has
		c, err := command.Encode(&command.PutClient{Client: &state.Client{
			Tenant: tenant, Id: fmt.Sprintf("bench-%08d", i), Name: fmt.Sprintf("Client %d", i), AuthMethod: "client_secret_basic",
			Secrets: []*state.SecretHash{{Id: "s1", Hash: hash[:], KeyVersion: 1, CreatedAt: v.Clock()}},
			Scopes:  []string{"read", "write"}, GrantTypes: []string{"client_credentials"}, CreatedAt: v.Clock(), UpdatedAt: v.Clock(),
		}}, command.Key(hash[:16]), [8]byte{}, false)
		if err != nil {
			return err
		}
		entry = append(entry, c...)
	}
	results := f.Apply(v.Index()+1, v.Applied().Term, entry)
	if len(results) != end-at {
		return errors.New("the state machine halted")
	}
	for i, r := range results {
		if r.Reject != command.Accepted {
			return fmt.Errorf("client %d was refused: %v", at+i, r.Reject)
		}
	}
	return nil
}

func snapshotTo(f *fsm.FSM, path string) error {
	s, err := f.Snapshot(f.View().Clock())
	if err != nil {
		return err
	}
	defer s.Release()
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = s.WriteTo(out)
	return errors.Join(err, out.Close())
}
