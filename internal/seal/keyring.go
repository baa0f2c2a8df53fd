package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// ErrSealed is wrapped by every error of Open and Check: the value was not sealed
// under this keyring and label, or was changed since.
var ErrSealed = errors.New("sealed value refused")

const (
	// maxKeys bounds a keyring: the current key and those of past rotations.
	maxKeys = 16
	// maxKeyText bounds a key file and what a hook may print.
	maxKeyText = 64 << 10
	// sealedV1: version 1 | key id 8 | nonce 24 | ciphertext and 16-byte tag.
	sealedV1   = 1
	headerSize = 1 + len(keyID{})
	tagSize    = 16
	checkLabel = "keyraft/check-value"
	checkText  = "keyraft sealing key check"
)

// Keyring seals with its first key and opens with all of them, so a rotation puts
// the new key in front and keeps the old one until nothing is sealed under it. It
// is immutable and safe for concurrent use.
type Keyring struct {
	keys []ringKey
}

type ringKey struct {
	id  keyID
	box *xaes
}

// NewKeyring makes a keyring of at least one key, the sealing key first.
func NewKeyring(keys ...Key) (*Keyring, error) {
	if len(keys) == 0 {
		return nil, errors.New("the keyring holds no key; give one 32-byte key a line")
	}
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("the keyring holds %d keys, at most %d are allowed; remove keys that no longer seal anything", len(keys), maxKeys)
	}
	r := &Keyring{keys: make([]ringKey, 0, len(keys))}
	for i := range keys {
		if keys[i] == (Key{}) {
			return nil, fmt.Errorf("sealing key %d is all zeros; make one with 32 random bytes", i+1)
		}
		id := keys[i].id()
		if r.find(id) != nil {
			return nil, fmt.Errorf("sealing key %s stands in the keyring twice; remove one of the lines", id)
		}
		box, err := newXAES(&keys[i])
		if err != nil {
			return nil, fmt.Errorf("prepare sealing key %s: %w", id, err)
		}
		r.keys = append(r.keys, ringKey{id, box})
	}
	return r, nil
}

// ParseKeyring reads a key file: one 32-byte key a line in base64 (either
// alphabet, padded or not) or hex, sealing key first; blank lines and lines that
// begin with # are skipped.
func ParseKeyring(text []byte) (*Keyring, error) {
	if len(text) > maxKeyText {
		return nil, fmt.Errorf("the sealing key text is larger than %d bytes; give one 32-byte key a line", maxKeyText)
	}
	var keys []Key
	n := 0
	for line := range bytes.Lines(text) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		k, ok := parseKey(string(line))
		if !ok {
			return nil, fmt.Errorf("line %d of the sealing key text is not a 32-byte key in base64 or hex", n)
		}
		if keys = append(keys, k); len(keys) > maxKeys {
			break // NewKeyring says why
		}
	}
	return NewKeyring(keys...)
}

// parseKey tells the encodings apart by length: 64 is hex, 43 or 44 base64.
func parseKey(s string) (k Key, ok bool) {
	var raw []byte
	var err error
	if strings.Contains(s, "\r") { // the base64 decoder would skip it
		return k, false
	}
	if len(s) == hex.EncodedLen(len(k)) {
		raw, err = hex.DecodeString(s)
	} else {
		if len(s) == 44 {
			s = strings.TrimSuffix(s, "=")
		}
		enc := base64.RawStdEncoding
		if strings.ContainsAny(s, "-_") {
			enc = base64.RawURLEncoding
		}
		raw, err = enc.Strict().DecodeString(s)
	}
	if err != nil || len(raw) != len(k) {
		return k, false
	}
	return Key(raw), true
}

// KeyID names the key that seals, in hex. It is public.
func (r *Keyring) KeyID() string { return r.keys[0].id.String() }

// KeyIDs names all keys, the sealing one first.
func (r *Keyring) KeyIDs() []string {
	ids := make([]string, len(r.keys))
	for i := range r.keys {
		ids[i] = r.keys[i].id.String()
	}
	return ids
}

// Seal encrypts plain for one use, which label names (table and row, say); Open
// needs the same label. The result is 49 bytes longer than plain.
func (r *Keyring) Seal(label string, plain []byte) ([]byte, error) {
	k := &r.keys[0]
	out := make([]byte, headerSize+nonceSize, headerSize+nonceSize+len(plain)+tagSize)
	out[0] = sealedV1
	copy(out[1:], k.id[:])
	nonce := out[headerSize:]
	rand.Read(nonce) // never fails: crypto/rand ends the process instead
	return k.box.seal(out, nonce, plain, associated(out[:headerSize], label))
}

// Open decrypts what Seal made under the same label with any key of the ring.
// Every error wraps ErrSealed and says which keys are at hand.
func (r *Keyring) Open(label string, sealed []byte) ([]byte, error) {
	if len(sealed) < headerSize+nonceSize+tagSize {
		return nil, fmt.Errorf("%w: %d bytes are too short for a sealed value; the data is damaged", ErrSealed, len(sealed))
	}
	if sealed[0] != sealedV1 {
		return nil, fmt.Errorf("%w: form %d is unknown; the data is damaged or was written by a newer version", ErrSealed, sealed[0])
	}
	id := keyID(sealed[1:headerSize])
	k := r.find(id)
	if k == nil {
		return nil, fmt.Errorf("%w: sealed under key %s, this node has %s; give the right --seal-key-file", ErrSealed, id, strings.Join(r.KeyIDs(), ", "))
	}
	nonce, box := sealed[headerSize:headerSize+nonceSize], sealed[headerSize+nonceSize:]
	plain, err := k.box.open(nonce, box, associated(sealed[:headerSize], label))
	if err != nil {
		return nil, fmt.Errorf("%w: key %s is right but the value was changed or belongs to another use", ErrSealed, id)
	}
	return plain, nil
}

// CheckValue returns a public value by which another node, or this one at its
// next start, tells at once whether it has the right sealing key.
func (r *Keyring) CheckValue() []byte {
	v, err := r.Seal(checkLabel, []byte(checkText))
	if err != nil {
		panic("seal: AES refused a 32-byte key: " + err.Error()) // NewKeyring has used the same key
	}
	return v
}

// Check tells whether this keyring opens what the keyring that made value sealed.
func (r *Keyring) Check(value []byte) error {
	plain, err := r.Open(checkLabel, value)
	if err != nil {
		return err
	}
	if string(plain) != checkText {
		return fmt.Errorf("%w: the check value holds another text; it was written by a newer version", ErrSealed)
	}
	return nil
}

// KeyIDOf names the key under which a value was sealed; "unknown" when it is no
// sealed value.
func KeyIDOf(sealed []byte) string {
	if len(sealed) < headerSize || sealed[0] != sealedV1 {
		return "unknown"
	}
	return keyID(sealed[1:headerSize]).String()
}

func (r *Keyring) find(id keyID) *ringKey {
	for i := range r.keys {
		if r.keys[i].id == id {
			return &r.keys[i]
		}
	}
	return nil
}

// associated joins header and label; the header's length is fixed, so no label
// can pass for another.
func associated(header []byte, label string) []byte {
	return append(append(make([]byte, 0, len(header)+len(label)), header...), label...)
}

// String names the keys by id.
func (r *Keyring) String() string { return "keyring " + strings.Join(r.KeyIDs(), ", ") }

// Format hides the keys from every verb of fmt.
func (r *Keyring) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, r.String()) }

// LogValue names the keys by id.
func (r *Keyring) LogValue() slog.Value { return slog.StringValue(r.String()) }
