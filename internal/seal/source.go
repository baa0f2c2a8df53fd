package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

const (
	// hookTime bounds an Exec hook: a KMS answers within seconds or is down.
	hookTime = 10 * time.Second
	// hookDrain is what a killed hook's children get to let go of its output.
	hookDrain = time.Second
)

// Source says where the operator keeps the sealing key: exactly one of File, Env
// and Exec. All three give the text that ParseKeyring reads.
type Source struct {
	File string            // path of a key file; refused when group or others may write it
	Env  string            // name of an environment variable
	Exec []string          // program and arguments that print the text; 10 s, 64 KiB, no shell
	Warn func(text string) // told when group or others may read File; nil: nobody is told
}

// Load reads the keyring. It waits for a hook at most 10 seconds, and no longer
// than ctx. What a hook writes to its standard error is dropped: it may hold a key.
func (s Source) Load(ctx context.Context) (*Keyring, error) {
	given := 0
	for _, is := range []bool{s.File != "", s.Env != "", len(s.Exec) > 0} {
		if is {
			given++
		}
	}
	if given != 1 {
		return nil, fmt.Errorf("%d sources of the sealing key are given; give exactly one of a file, an environment variable and a command", given)
	}
	switch {
	case s.File != "":
		return s.loadFile()
	case s.Env != "":
		return s.loadEnv()
	default:
		return s.loadExec(ctx)
	}
}

func (s Source) loadFile() (*Keyring, error) {
	// Asked before the opening too: opening a named pipe would wait for a writer.
	info, err := os.Stat(s.File)
	if err != nil {
		return nil, fmt.Errorf("sealing key file: %w; create it or correct --seal-key-file", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("sealing key file %q is not a regular file; use a command for keys from elsewhere", s.File)
	}
	f, err := os.Open(s.File)
	if err != nil {
		return nil, fmt.Errorf("sealing key file: %w; let this process's user read it", err)
	}
	defer func() { _ = f.Close() }()
	if info, err = f.Stat(); err != nil {
		return nil, fmt.Errorf("sealing key file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return nil, fmt.Errorf("sealing key file %q may be written by others (mode %04o); run chmod 600 on it", s.File, mode)
	} else if mode&0o044 != 0 && s.Warn != nil {
		s.Warn(fmt.Sprintf("sealing key file %q may be read by others (mode %04o); run chmod 600 on it", s.File, mode))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyText+1))
	if err != nil {
		return nil, fmt.Errorf("sealing key file: %w", err)
	}
	return named(fmt.Sprintf("sealing key file %q", s.File), text)
}

func (s Source) loadEnv() (*Keyring, error) {
	text, ok := os.LookupEnv(s.Env)
	if !ok {
		return nil, fmt.Errorf("environment variable %s, which should hold the sealing key, is not set", s.Env)
	}
	return named("environment variable "+s.Env, []byte(text))
}

func (s Source) loadExec(parent context.Context) (*Keyring, error) {
	ctx, cancel := context.WithTimeout(parent, hookTime)
	defer cancel()
	out := &bounded{full: cancel}
	cmd := exec.CommandContext(ctx, s.Exec[0], s.Exec[1:]...)
	cmd.Stdout = out
	cmd.WaitDelay = hookDrain
	err := cmd.Run()
	switch {
	case out.over:
		return nil, fmt.Errorf("sealing key command %q printed more than %d bytes; it must print one 32-byte key a line", s.Exec[0], maxKeyText)
	case parent.Err() != nil:
		return nil, fmt.Errorf("sealing key command %q was given up: %w", s.Exec[0], parent.Err())
	case ctx.Err() != nil:
		return nil, fmt.Errorf("sealing key command %q took longer than %s; run it by hand to see why", s.Exec[0], hookTime)
	case err != nil:
		return nil, fmt.Errorf("sealing key command %q: %w; run it by hand to see why", s.Exec[0], err)
	}
	return named(fmt.Sprintf("sealing key command %q", s.Exec[0]), out.buf.Bytes())
}

func named(source string, text []byte) (*Keyring, error) {
	r, err := ParseKeyring(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	return r, nil
}

// bounded takes up to maxKeyText bytes and stops the command at the first more.
type bounded struct {
	buf  bytes.Buffer
	over bool
	full context.CancelFunc
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.buf.Len()+len(p) > maxKeyText {
		b.over = true
		b.full()
		return 0, errors.New("too much output")
	}
	return b.buf.Write(p)
}
