package peers

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// run runs a program to its end. The error holds the end of what it printed. When
// ctx ends it is asked to stop, so that a script can stop what it started.
func run(ctx context.Context, dir string, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		const most = 2000
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out[max(0, len(out)-most):]))
	}
	return nil
}

// install copies files from one folder into another and runs fetch there, unless
// an earlier install of the same files came to its end.
func install(from, to string, names []string, fetch func() error) error {
	var all []byte
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return fmt.Errorf("read its file (is the source folder the one in the repository?): %w", err)
		}
		all = append(append(all, text...), 0)
		if err := os.MkdirAll(to, 0o750); err != nil {
			return fmt.Errorf("make its folder: %w", err)
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o600); err != nil {
			return err
		}
	}
	return once(filepath.Join(to, "installed"), all, fetch)
}

// once runs do unless the stamp file says that it succeeded for this very input.
func once(stamp string, input []byte, do func() error) error {
	if old, err := os.ReadFile(stamp); err == nil && bytes.Equal(old, input) {
		return nil
	}
	if err := os.Remove(stamp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return os.WriteFile(stamp, input, 0o600)
}

// unzip unpacks an archive into a folder, without the archive's one top folder.
// Names that would leave the folder are refused.
func unzip(archive, to string) error {
	r, err := zip.OpenReader(archive)
	if err != nil {
		return fmt.Errorf("open %s: %w", archive, err)
	}
	defer func() { _ = r.Close() }() // only read
	for _, f := range r.File {
		_, name, _ := strings.Cut(f.Name, "/")
		if name == "" || strings.HasSuffix(name, "/") {
			continue
		}
		if !filepath.IsLocal(name) {
			return fmt.Errorf("%s holds the name %q, which would leave its folder", archive, f.Name)
		}
		if err := unzipFile(f, filepath.Join(to, name)); err != nil {
			return fmt.Errorf("unpack %q: %w", f.Name, err)
		}
	}
	return nil
}

func unzipFile(f *zip.File, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
		return err
	}
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, f.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
