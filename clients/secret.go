package clients

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
)

// maxSecrets is how many secrets of a client are live at once.
const maxSecrets = 2

// hasSecret tells whether clients of this method authenticate by a secret.
func hasSecret(method string) bool {
	switch oauth.AuthMethod(method) {
	case oauth.AuthSecretBasic, oauth.AuthSecretPost, oauth.AuthSecretJWT:
		return true
	}
	return false
}

// maker makes the random parts of one call: derived from the caller's
// Idempotency-Key and the hash key, so that a retry makes the same ones, or random.
type maker struct {
	hash    *seal.Key
	version uint32
	key     command.Key
	derived bool
}

func (k Keys) maker(ctx context.Context, v *state.View) (maker, error) {
	hash, version, err := k.Newest(v)
	if err != nil {
		return maker{}, err
	}
	key, _, derived := command.KeyFrom(ctx)
	return maker{hash, version, key, derived}, nil
}

// bytes gives 256 bits for one use. HMAC under the cluster key is what keeps a
// derived value secret, however easy the Idempotency-Key is to guess.
func (m maker) bytes(use string) [32]byte {
	if !m.derived {
		return seal.Generate()
	}
	mac := hmac.New(sha256.New, m.hash[:])
	mac.Write([]byte("keyraft derived " + use + "\x00"))
	mac.Write(m.key[:])
	return [32]byte(mac.Sum(nil))
}

func (m maker) id() string {
	b := m.bytes("client id")
	return "c" + base64.RawURLEncoding.EncodeToString(b[:12]) // begins with a letter whatever the bytes
}

// secret makes a secret and its row.
func (m maker) secret(now time.Time) (string, *state.SecretHash) {
	b := m.bytes("client secret")
	text := base64.RawURLEncoding.EncodeToString(b[:])
	name := m.bytes("client secret id")
	hash := seal.Hash(m.hash, []byte(text))
	return text, &state.SecretHash{
		Id: base64.RawURLEncoding.EncodeToString(name[:6]), Hash: hash[:], KeyVersion: m.version, CreatedAt: now.UnixMilli(),
	}
}

// holds tells whether c has the secret, live or not. For a retry under an
// Idempotency-Key: what it would hand out must be what the first call stored.
func (k Keys) holds(v *state.View, c *state.Client, secret string) (bool, error) {
	for _, s := range c.GetSecrets() {
		key, err := k.Version(v, s.GetKeyVersion())
		if err != nil {
			return false, err
		}
		hash := seal.Hash(key, []byte(secret))
		if subtle.ConstantTimeCompare(hash[:], s.GetHash()) == 1 {
			return true, nil
		}
	}
	return false, nil
}

// check compares a presented secret with the live ones of c, at the same cost for
// every client, a missing one (nil) and a client with none included (TOK-11): two
// hashes, two comparisons, no early end. It does not allocate.
func (k Keys) check(v *state.View, c *state.Client, secret string, now int64) (bool, error) {
	if len(secret) > maxSecret {
		return false, nil
	}
	newest, _, err := k.Newest(v)
	if err != nil {
		return false, err
	}
	var buf [maxSecret]byte
	given := buf[:copy(buf[:], secret)]
	digest := sha256.Sum256(given)
	var none [32]byte
	match := 0
	for i := range maxSecrets {
		key, stored, live := newest, none[:], 0
		if secrets := c.GetSecrets(); i < len(secrets) && len(secrets[i].GetHash()) == len(none) {
			s := secrets[i]
			if key, err = k.Version(v, s.GetKeyVersion()); err != nil {
				return false, fmt.Errorf("check a client secret: %w", err)
			}
			stored = s.GetHash()
			if s.GetExpiresAt() == 0 || now < s.GetExpiresAt() {
				live = 1
			}
		}
		hash := seal.HashDigest(key, &digest)
		match |= subtle.ConstantTimeCompare(hash[:], stored) & live
	}
	return match == 1 && secret != "", nil
}

// maxSecret bounds what is hashed for a stranger; our own have 43 bytes.
const maxSecret = 128
