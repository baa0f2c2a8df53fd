package gossip

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/memberlist"
)

// keyLength is AES-256; memberlist would take less.
const keyLength = 32

// keys changes memberlist's keyring. Its readers share the slice that holds
// the keys, and memberlist's RemoveKey moves what is behind the removed key in
// place, so remove first brings that key to the end, where nothing moves.
type keys struct {
	mu   *sync.Mutex
	ring *memberlist.Keyring
}

func newKeys(all [][]byte) (keys, error) {
	if len(all) == 0 {
		return keys{}, errors.New("gossip: there is no key; gossip is never sent in clear")
	}
	copied := make([][]byte, len(all))
	for i, key := range all {
		if len(key) != keyLength {
			return keys{}, fmt.Errorf("gossip: key %d has %d bytes, want %d", i+1, len(key), keyLength)
		}
		copied[i] = bytes.Clone(key)
	}
	ring, err := memberlist.NewKeyring(copied, copied[0])
	if err != nil {
		return keys{}, fmt.Errorf("gossip: %w", err)
	}
	return keys{mu: new(sync.Mutex), ring: ring}, nil
}

// InstallKey makes this member open what is sealed with key. A rotation
// installs a key at every member before any uses it.
func (p *Pool) InstallKey(key []byte) error {
	if len(key) != keyLength {
		return fmt.Errorf("gossip: the key has %d bytes, want %d", len(key), keyLength)
	}
	p.keys.mu.Lock()
	defer p.keys.mu.Unlock()
	return p.keys.ring.AddKey(bytes.Clone(key))
}

// UseKey makes this member seal with key, which must be installed.
func (p *Pool) UseKey(key []byte) error {
	p.keys.mu.Lock()
	defer p.keys.mu.Unlock()
	if err := p.keys.ring.UseKey(key); err != nil {
		return fmt.Errorf("gossip: key %s is not installed here; install it at every member first", KeyID(key))
	}
	return nil
}

// RemoveKey makes this member forget key, once every member uses another. A key
// that is not here is no error; the one in use can't be removed.
func (p *Pool) RemoveKey(key []byte) error {
	p.keys.mu.Lock()
	defer p.keys.mu.Unlock()
	ring := p.keys.ring
	all := ring.GetKeys()
	if !slices.ContainsFunc(all, func(k []byte) bool { return bytes.Equal(k, key) }) {
		return nil
	}
	if bytes.Equal(all[0], key) {
		return fmt.Errorf("gossip: key %s is in use here; use another one first", KeyID(key))
	}
	// UseKey moves a key to the front. With two keys, the usual case, the loop
	// does nothing; with more, one packet may go out under an older key.
	if last := len(all) - 1; !bytes.Equal(all[last], key) {
		for _, other := range all[1:] {
			if !bytes.Equal(other, key) {
				if err := ring.UseKey(other); err != nil {
					return err
				}
			}
		}
		if err := ring.UseKey(all[0]); err != nil {
			return err
		}
	}
	return ring.RemoveKey(key)
}

// KeyIDs names the keys of this member without showing them, the one that
// seals first: a rotation goes on when all members report the same.
func (p *Pool) KeyIDs() []string {
	p.keys.mu.Lock()
	defer p.keys.mu.Unlock()
	var ids []string
	for _, key := range p.keys.ring.GetKeys() {
		ids = append(ids, KeyID(key))
	}
	return ids
}

// KeyID is the beginning of a hash: enough to tell keys apart, useless to open.
func KeyID(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}
