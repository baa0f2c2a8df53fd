package tokens

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/seal"
)

// The form of a refresh token: the prefix, and in base64url its family (16 bytes),
// its number in the family (4), 256 random bits, and a tag over all of it. Sizes in
// bytes.
const (
	refreshPrefix = "krr1_"
	familySize    = 16
	refreshBody   = familySize + 4 + randomSize
	refreshSize   = refreshBody + tagSize
	refreshLength = len(refreshPrefix) + (refreshSize*8+5)/6

	refreshTagLabel  = "refresh token"
	successorLabel   = "successor of a refresh token"
	successorKeyText = "keyraft refresh successor"
)

// RefreshTokens makes and reads refresh tokens. What is stored of one is its keyed
// hash, in its family's row. Safe for concurrent use.
type RefreshTokens struct{ shared *ClusterKeys }

// NewRefreshTokens makes them over the cluster's keys.
func NewRefreshTokens(shared *ClusterKeys) *RefreshTokens { return &RefreshTokens{shared} }

// NewGrantID makes the id of a grant: 128 random bits in base64url. It is the gid of
// the grant's tokens and the name of its family.
func NewGrantID() string {
	var id [familySize]byte
	rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// Append makes the token of that number in a family, appends it to dst, and gives the
// hash that is stored of it.
func (r *RefreshTokens) Append(dst []byte, v *state.View, family string, number uint64) ([]byte, [32]byte, error) {
	var raw [refreshSize]byte
	n, err := base64.RawURLEncoding.Strict().Decode(raw[:], []byte(family))
	if err != nil || n != familySize {
		return dst, [32]byte{}, fmt.Errorf("%q is no id of a grant that can be refreshed", family)
	}
	tagKey, _, err1 := r.shared.Newest(v, KeyTag)
	hashKey, _, err2 := r.shared.Newest(v, KeyHash)
	if err1 != nil || err2 != nil {
		return dst, [32]byte{}, fmt.Errorf("make a refresh token: %w", firstOf(err1, err2))
	}
	binary.BigEndian.PutUint32(raw[familySize:], uint32(number)) // for the eye of a support engineer; the hash decides
	rand.Read(raw[familySize+4 : refreshBody])
	tag := seal.Tag(tagKey, refreshTagLabel, raw[:refreshBody])
	copy(raw[refreshBody:], tag[:])
	start := len(dst)
	dst = base64.RawURLEncoding.AppendEncode(append(dst, refreshPrefix...), raw[:])
	return dst, seal.Hash(hashKey, dst[start:]), nil
}

// IsRefresh tells whether a token has the length and prefix of a refresh token.
func IsRefresh(token string) bool {
	return len(token) == refreshLength && strings.HasPrefix(token, refreshPrefix)
}

// Family names the family of a token whose tag is ours; false for a malformed or
// forged one, without a look at any table (TOK-22).
func (r *RefreshTokens) Family(v *state.View, token string) (string, bool, error) {
	if !IsRefresh(token) || strings.ContainsAny(token, "\r\n") { // which the decoder would skip
		return "", false, nil
	}
	var raw [refreshSize + 3]byte
	n, err := base64.RawURLEncoding.Strict().Decode(raw[:], []byte(token[len(refreshPrefix):]))
	if err != nil || n != refreshSize {
		return "", false, nil
	}
	genuine := false
	err = r.shared.Each(v, KeyTag, func(_ uint32, key *seal.Key) bool {
		tag := seal.Tag(key, refreshTagLabel, raw[:refreshBody])
		genuine = subtle.ConstantTimeCompare(tag[:], raw[refreshBody:refreshSize]) == 1
		return !genuine
	})
	return base64.RawURLEncoding.EncodeToString(raw[:familySize]), genuine, err
}

// Hash is what is stored of a token that belongs to f: under the version of the hash
// key with which f knows it, or under the newest when f knows it not at all.
func (r *RefreshTokens) Hash(v *state.View, f *state.RefreshFamily, token string) (hash [32]byte, err error) {
	first := true
	err = r.shared.Each(v, KeyHash, func(_ uint32, key *seal.Key) bool {
		h := seal.Hash(key, []byte(token))
		known := subtle.ConstantTimeCompare(h[:], f.GetHash())|subtle.ConstantTimeCompare(h[:], f.GetPrevious()) == 1
		if first || known {
			hash, first = h, false
		}
		return !known
	})
	return hash, err
}

// SealSuccessor seals the next token under one that its holder alone can show.
func SealSuccessor(presented string, next []byte) ([]byte, error) {
	box, err := successorBox(presented)
	if err != nil {
		return nil, err
	}
	return box.Append(nil, successorLabel, next)
}

// OpenSuccessor gives the holder of the token before its successor again.
func OpenSuccessor(presented string, sealed []byte) ([]byte, error) {
	box, err := successorBox(presented)
	if err != nil {
		return nil, err
	}
	return box.Open(successorLabel, sealed)
}

func successorBox(presented string) (*seal.Box, error) {
	mac := hmac.New(sha256.New, []byte(presented))
	mac.Write([]byte(successorKeyText))
	key := seal.Key(mac.Sum(nil))
	return seal.NewBox(&key)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Boxes seals values that leave the cluster and come back, under the newest version of
// one shared key; older versions still open. Safe for concurrent use.
type Boxes struct {
	shared *ClusterKeys
	key    string
}

// NewBoxes makes the boxes of a shared key (KeyCode, KeyNonce).
func NewBoxes(shared *ClusterKeys, key string) *Boxes { return &Boxes{shared, key} }

// Seal seals plain under a label and gives it as base64url.
func (b *Boxes) Seal(v *state.View, label string, plain []byte) (string, error) {
	key, _, err := b.shared.Newest(v, b.key)
	if err != nil {
		return "", err
	}
	box, err := seal.NewBox(key)
	if err != nil {
		return "", err
	}
	sealed, err := box.Append(nil, label, plain)
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

// Open gives back what Seal made; false for anything else, however it differs: one
// value has one spelling (TOK-22).
func (b *Boxes) Open(v *state.View, label, value string) (plain []byte, ok bool, err error) {
	if strings.ContainsAny(value, "\r\n") {
		return nil, false, nil
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err != nil {
		return nil, false, nil
	}
	err = b.shared.Each(v, b.key, func(_ uint32, key *seal.Key) bool {
		box, boxErr := seal.NewBox(key)
		if boxErr != nil {
			return false
		}
		if opened, openErr := box.Open(label, sealed); openErr == nil {
			plain, ok = opened, true
		}
		return !ok
	})
	return plain, ok, err
}
