package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/keyraft/keyraft/internal/config"
	"github.com/keyraft/keyraft/internal/seal"
)

// Files of the data folder that belong to the program rather than to a room.
const (
	sealKeyFile  = "seal.key"   // the sealing key, where the operator configured none
	devFile      = "dev.json"   // what --dev keeps for its user
	placeFile    = "place.json" // node id and the ports that were free last time
	identityFile = "node.json"  // package cluster's: who the node is
	adminFile    = "admin.seal" // the first admin token, sealed, until the ready line has shown it
)

// place is where this node was last: so that a port that was picked stays, and
// the other nodes find it again.
type place struct {
	NodeID        string `json:"node_id"`
	ClusterAddr   string `json:"cluster_addr,omitempty"`
	GossipAddr    string `json:"gossip_addr,omitempty"`
	GatewayGossip string `json:"gateway_gossip_addr,omitempty"`
}

func readJSON(path string, into any) error {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	return nil
}

// writePrivate writes a file of mode 0600 whole or not at all, and synced with
// its name: what it holds may be nowhere else.
func writePrivate(path string, data []byte) error {
	temp, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func writeJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writePrivate(path, append(raw, '\n'))
}

// loadPlace reads where the node was, and names a node that has no name yet. A name
// that was made is kept at once: the certificate holds it before the node is ready.
func loadPlace(cfg *config.Config) (*place, error) {
	p := &place{}
	if err := readJSON(filepath.Join(cfg.Data, placeFile), p); err != nil {
		return nil, err
	}
	if p.NodeID == "" { // a folder of before the name was kept at once
		if err := readJSON(filepath.Join(cfg.Data, identityFile), p); err != nil {
			return nil, err
		}
	}
	switch {
	case cfg.NodeID != "" && p.NodeID != "" && p.NodeID != cfg.NodeID:
		return nil, config.NewError("node_id", fmt.Sprintf("is %q, but the data folder %s belongs to node %q", cfg.NodeID, cfg.Data, p.NodeID), "give that id, or another data_dir")
	case cfg.NodeID != "":
		p.NodeID = cfg.NodeID
	case p.NodeID == "":
		random := make([]byte, 4)
		if _, err := rand.Read(random); err != nil {
			return nil, err
		}
		p.NodeID = "node-" + hex.EncodeToString(random)
		if err := writeJSON(filepath.Join(cfg.Data, placeFile), p); err != nil {
			return nil, fmt.Errorf("keep this node's id: %w", err)
		}
	}
	cfg.NodeID = p.NodeID
	return p, nil
}

// portFree refuses an address on which something else listens, before the folder
// holds anything or a join token is used up. udp: gossip needs both.
func portFree(key, addr string, udp bool) error {
	if addr == "" {
		return nil
	}
	const fix = "stop what listens there, or choose another address (port 0 picks a free one)"
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return config.NewError(key, err.Error(), fix)
	}
	defer func() { _ = l.Close() }()
	if !udp {
		return nil
	}
	p, err := net.ListenPacket("udp", addr)
	if err != nil {
		return config.NewError(key, err.Error(), fix)
	}
	return p.Close()
}

// samePort turns port 0 into the port of last time, if that is still free.
func samePort(want, last string) string {
	host, port, err := net.SplitHostPort(want)
	if err != nil || port != "0" || last == "" {
		return want
	}
	_, lastPort, err := net.SplitHostPort(last)
	if err != nil {
		return want
	}
	again := net.JoinHostPort(host, lastPort)
	l, err := net.Listen("tcp", again)
	if err != nil {
		return want
	}
	_ = l.Close()
	return again
}

// sealingKeys finds the keys that protect secrets at rest. share is what a
// joining node without keys of its own is given; empty where an operator
// configured them. Both are empty for a node that is about to join without any.
func sealingKeys(ctx context.Context, cfg *config.Config, log *slog.Logger) (keys *seal.Keyring, share string, err error) {
	source := seal.Source{File: cfg.Seal.KeyFile, Env: cfg.Seal.KeyEnv, Exec: cfg.Seal.KeyExec, Warn: func(text string) { log.Warn(text) }}
	if source.File != "" || source.Env != "" || len(source.Exec) > 0 {
		if keys, err = source.Load(ctx); err != nil {
			key := "seal.key_exec"
			switch {
			case source.File != "":
				key = "seal.key_file"
			case source.Env != "":
				key = "seal.key_env"
			}
			return nil, "", config.NewError(key, "gives no sealing key: "+err.Error(), "it must give one 32-byte key a line, in base64 or hex")
		}
		return keys, "", nil
	}
	path := filepath.Join(cfg.Data, sealKeyFile)
	raw, err := os.ReadFile(path)
	switch {
	case err == nil:
		keys, err = seal.ParseKeyring(raw)
		return keys, string(raw), err
	case !errors.Is(err, os.ErrNotExist):
		return nil, "", fmt.Errorf("read the sealing key: %w", err)
	case hasState(cfg.Data):
		return nil, "", fmt.Errorf("the data folder %s holds a node's state, but its sealing key %s is missing: put it back, or configure seal.key_file, seal.key_env or seal.key_exec", cfg.Data, path)
	case cfg.Join != "":
		return nil, "", nil
	}
	text := "# Keyraft sealing key: whoever has it and the data folder has every secret. Keep a copy apart.\n" + seal.Generate().Encode() + "\n"
	if err := writePrivate(path, []byte(text)); err != nil {
		return nil, "", fmt.Errorf("keep the sealing key: %w", err)
	}
	keys, err = seal.ParseKeyring([]byte(text))
	return keys, text, err
}

// hasState tells whether a node lives in the folder.
func hasState(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, identityFile))
	return err == nil
}

// credentials are what the first node of a cluster hands its user.
type credentials struct {
	AdminToken        string `json:"admin_token,omitempty"`
	ClientID          string `json:"client_id,omitempty"`
	ClientSecret      string `json:"client_secret,omitempty"`
	GatewayID         string `json:"gateway_id,omitempty"`
	GatewayCredential string `json:"gateway_credential,omitempty"`
	GossipKey         string `json:"gossip_key,omitempty"`
}

// adminLabel is the label under which the first admin token is sealed.
const adminLabel = "first-admin-token"

// keepAdminToken keeps a token that was made and that no file of the operator's
// holds, sealed, until it has been shown. Without it, a first start that ends
// early would leave a cluster to which nobody has a token.
func keepAdminToken(dir string, keys *seal.Keyring, token string) error {
	sealed, err := keys.Seal(adminLabel, []byte(token))
	if err != nil {
		return err
	}
	return writePrivate(filepath.Join(dir, adminFile), sealed)
}

// keptAdminToken is what keepAdminToken kept; "" when there is nothing.
func keptAdminToken(dir string, keys *seal.Keyring) (string, error) {
	sealed, err := os.ReadFile(filepath.Join(dir, adminFile))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	token, err := keys.Open(adminLabel, sealed)
	if err != nil {
		return "", fmt.Errorf("open the admin token that was not shown yet: %w", err)
	}
	return string(token), nil
}

// firstAdminToken reads the operator's token from its file, or makes one and writes
// it there.
func firstAdminToken(cfg *config.Config, kept string, log *slog.Logger) (token string, err error) {
	if cfg.AdminTokenFile == "" {
		if kept != "" {
			return kept, nil
		}
		return seal.NewSecret().Reveal(), nil
	}
	raw, err := os.ReadFile(cfg.AdminTokenFile)
	if errors.Is(err, os.ErrNotExist) {
		token = kept
		if token == "" {
			token = seal.NewSecret().Reveal()
		}
		if err := writePrivate(cfg.AdminTokenFile, []byte(token+"\n")); err != nil {
			return "", config.NewError("admin_token_file", "can't be written: "+err.Error(), "name a file in a folder that this user may write")
		}
		return token, nil
	}
	if err != nil {
		return "", config.NewError("admin_token_file", "can't be read: "+err.Error(), "make it readable, or remove it so that a token is made")
	}
	token = strings.TrimSpace(string(raw))
	if token == "" { // made beforehand, to be filled
		token = seal.NewSecret().Reveal()
		if err := os.WriteFile(cfg.AdminTokenFile, []byte(token+"\n"), 0o600); err != nil {
			return "", config.NewError("admin_token_file", "can't be written: "+err.Error(), "make it writable, or put a token into it")
		}
		return token, nil
	}
	if len(token) < 8 || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", config.NewError("admin_token_file", "holds no usable token", "write one line of at least 8 visible ASCII characters, better 43 random ones, or remove the file so that a token is made")
	}
	if info, err := os.Stat(cfg.AdminTokenFile); err == nil && info.Mode().Perm()&0o077 != 0 {
		log.Warn("others on this machine can read or change the admin token: chmod 600 the file", "file", cfg.AdminTokenFile)
	}
	if len(token) < 22 {
		log.Warn("the admin token is short enough to be guessed: use one of 22 characters or more outside of tests")
	}
	return token, nil
}
