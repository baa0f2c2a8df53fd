package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
)

// credential is the gateway's bearer token, read again when a node refuses it,
// so that a new one is taken without a restart (G12).
type credential struct {
	mu     sync.Mutex
	source func(context.Context) (string, error) // nil: none is used (mutual TLS)
	value  string
}

const maxCredential = 4096 // bytes

func newCredential(cfg *Config) (*credential, error) {
	c := &credential{source: cfg.Credential}
	if cfg.CredentialFile != "" {
		file := cfg.CredentialFile
		c.source = func(context.Context) (string, error) { return readCredential(file) }
		if _, err := readCredential(file); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func readCredential(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("gateway: open the credential file: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxCredential+2))
	if err != nil {
		return "", fmt.Errorf("gateway: read the credential file: %w", err)
	}
	value := strings.TrimSpace(string(b))
	if err := checkCredential(value); err != nil {
		return "", fmt.Errorf("gateway: credential file %s: %w", file, err)
	}
	return value, nil
}

func checkCredential(value string) error {
	if value == "" || len(value) > maxCredential {
		return fmt.Errorf("it must hold one credential of at most %d bytes", maxCredential)
	}
	for i := range len(value) {
		if value[i] <= ' ' || value[i] > '~' {
			return errors.New("it must hold one line of visible ASCII")
		}
	}
	return nil
}

// get is the present value; it asks the source the first time.
func (c *credential) get(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.value == "" && c.source != nil {
		return c.value, c.load(ctx)
	}
	return c.value, nil
}

// renew asks the source again after refused was refused, and says whether there
// is another one now.
func (c *credential) renew(ctx context.Context, refused string) (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.source == nil || c.value != refused {
		return c.value != refused, nil
	}
	err = c.load(ctx)
	return err == nil && c.value != refused, err
}

func (c *credential) load(ctx context.Context) error {
	value, err := c.source(ctx)
	if err != nil {
		return err
	}
	if err := checkCredential(value); err != nil {
		return fmt.Errorf("gateway credential: %w", err)
	}
	c.value = value
	return nil
}

// String hides the value; so do LogValue and MarshalJSON.
func (c *credential) String() string { return "REDACTED" }

// LogValue hides the value.
func (c *credential) LogValue() slog.Value { return slog.StringValue("REDACTED") }

// MarshalJSON hides the value.
func (c *credential) MarshalJSON() ([]byte, error) { return []byte(`"REDACTED"`), nil }
