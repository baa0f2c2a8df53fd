// Package seal keeps secrets at rest and out of sight: sealing under the
// operator's keyring, keyed hashes and tags of generated secrets, argon2id for
// what people choose, and value types that hide themselves when printed.
//
// Sealing is XAES-256-GCM (AES-256-GCM with a 192-bit random nonce, C2SP), so
// one key may seal any number of values that a cluster can make. What is stored
// of a generated secret is HighwayHash-256, under a key, over SHA-256.
//
// Errors name key ids and line numbers, never a key, a secret or a part of one.
// Keyring and Passwords are safe for concurrent use; everything else is a value.
//
// Sources: NIST SP 800-38D, C2SP XAES-256-GCM, RFC 2104, RFC 9106, the PHC string
// format.
package seal

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
)

// hidden stands in place of every secret that is printed, logged or marshalled.
const hidden = "[hidden]"

// Key is a 256-bit secret key. However it is printed, it hides itself; Encode is
// the only way to its text.
type Key [32]byte

// Generate returns a new random key from the operating system's source.
func Generate() Key {
	var k Key
	rand.Read(k[:]) // never fails: crypto/rand ends the process instead
	return k
}

// Encode returns the key as a line of a key file: standard base64. The caller
// writes it to a file of mode 0600 and nowhere else.
func (k Key) Encode() string { return base64.StdEncoding.EncodeToString(k[:]) }

// id names a key without telling anything of it: 8 bytes of an HMAC under it.
func (k *Key) id() (id keyID) {
	mac := hmac.New(sha256.New, k[:])
	mac.Write([]byte("keyraft sealing key id"))
	copy(id[:], mac.Sum(nil))
	return id
}

// String hides the key.
func (Key) String() string { return hidden }

// Format hides the key from every verb of fmt, %x and %d included.
func (Key) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, hidden) }

// LogValue hides the key from slog.
func (Key) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalJSON hides the key from encoders.
func (Key) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// Secret is a secret text (a generated client secret, a token) on its way to its
// holder. It hides itself; Reveal gives the text.
type Secret string

// NewSecret returns a secret of 256 random bits in base64url: 43 characters.
func NewSecret() Secret {
	k := Generate()
	return Secret(base64.RawURLEncoding.EncodeToString(k[:]))
}

// Reveal returns the text itself, for the one answer that hands it out.
func (s Secret) Reveal() string { return string(s) }

// String hides the secret.
func (Secret) String() string { return hidden }

// Format hides the secret from every verb of fmt.
func (Secret) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, hidden) }

// LogValue hides the secret from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalJSON hides the secret from encoders.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// keyID is the public name of a sealing key.
type keyID [8]byte

func (id keyID) String() string { return hex.EncodeToString(id[:]) }
