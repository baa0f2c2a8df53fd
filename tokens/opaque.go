package tokens

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
)

// The form of an opaque access token: the prefix, and in base64url its expiry
// minute (4 bytes), 256 random bits, and a tag over both. All sizes in bytes.
const (
	opaquePrefix = "kr1_"
	minuteSize   = 4
	randomSize   = 32
	tagSize      = 8
	bodySize     = minuteSize + randomSize
	opaqueSize   = bodySize + tagSize
	opaqueLength = len(opaquePrefix) + (opaqueSize*8+5)/6

	// opaqueTagLabel keeps the tag of an access token from being good for another
	// kind of opaque value.
	opaqueTagLabel = "opaque access token"
)

// Opaque issues opaque access tokens: one committed row each.
type Opaque struct {
	minter  *Minter
	shared  *ClusterKeys
	propose command.Propose
}

// NewOpaque makes the issuer of opaque tokens; their ids and issuer are the
// minter's.
func NewOpaque(minter *Minter, shared *ClusterKeys, propose command.Propose) (*Opaque, error) {
	if minter == nil || shared == nil || propose == nil {
		return nil, errors.New("tokens: opaque tokens need the minter, the cluster keys and a way to propose")
	}
	return &Opaque{minter, shared, propose}, nil
}

// proposal is all that the proposal of one token points to, in one allocation.
type proposal struct {
	command  command.IssueOpaque
	token    state.OpaqueToken
	hash     [32]byte
	audience [2]string
}

// AppendToken makes a token for claims that were decided on v for this client and
// tenant, waits until its row is committed, and appends the token to dst. The error
// is command.Stale or command.EpochChanged, wrapped, when client, tenant or epoch
// changed meanwhile: the caller decides once more.
func (o *Opaque) AppendToken(ctx context.Context, dst []byte, v *state.View, t *state.Tenant, client *state.Client, c *Claims) ([]byte, error) {
	set, err := o.minter.keys.of(v, c.Tenant)
	if err != nil {
		return dst, err
	}
	tagKey, _, err := o.shared.Newest(v, KeyTag)
	if err != nil {
		return dst, err
	}
	hashKey, _, err := o.shared.Newest(v, KeyHash)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	dst = appendOpaque(dst, tagKey, state.Minute(c.Expires))
	id := o.minter.NextID()
	grant := c.Grant
	if grant == "" {
		grant = id
	}
	p := &proposal{hash: seal.Hash(hashKey, dst[start:])}
	p.token = state.OpaqueToken{
		Tenant: c.Tenant, Id: id, ClientId: c.ClientID, Subject: c.Subject, Scope: c.Scope,
		Audience: append(p.audience[:0], c.Audience...), IssuedAt: c.IssuedAt, ExpiresAt: c.Expires,
		Epoch: v.Epoch(), Head: v.Head(), Grant: grant, Root: c.Root, RootClient: c.RootClient, Application: c.Application, Issuer: set.issuer,
		Jkt: c.JKT, X5T: c.X5T, AuthTime: c.AuthTime, Acr: c.ACR, Amr: c.AMR, Act: c.Act, Details: c.Details, UserinfoClaims: c.Userinfo,
		Claims: appendObject(nil, c.Extra),
	}
	p.command = command.IssueOpaque{
		Hash: p.hash[:], Token: &p.token, ClientGeneration: client.GetGeneration(), TenantGeneration: t.GetGeneration(),
	}
	result, err := o.propose(ctx, &p.command)
	if err != nil {
		return dst[:start], fmt.Errorf("issue an opaque token: %w", err)
	}
	if result.Reject == command.AlreadyExpired {
		return dst[:start], oauth.TemporarilyUnavailable.With("this node's clock is behind the cluster's by more than the token lives; try another node").WithRetryAfter(1)
	}
	if err := refused(result.Reject); err != nil {
		return dst[:start], fmt.Errorf("issue an opaque token: %w", err)
	}
	return dst, nil
}

func appendOpaque(dst []byte, tagKey *seal.Key, minute uint64) []byte {
	var raw [opaqueSize]byte
	binary.BigEndian.PutUint32(raw[:], uint32(minute)) // good for 8000 years
	rand.Read(raw[minuteSize:bodySize])                // never fails: crypto/rand ends the process instead
	tag := seal.Tag(tagKey, opaqueTagLabel, raw[:bodySize])
	copy(raw[bodySize:], tag[:])
	return encodeOpaque(dst, &raw)
}

func encodeOpaque(dst []byte, raw *[opaqueSize]byte) []byte {
	return base64.RawURLEncoding.AppendEncode(append(dst, opaquePrefix...), raw[:])
}

// IsOpaque tells whether a token has the length and prefix of an opaque one.
func IsOpaque(token string) bool {
	return len(token) == opaqueLength && token[:len(opaquePrefix)] == opaquePrefix
}

// parseOpaque reads a token strictly: exact length, the base64url alphabet, no
// unused bits set, so that one token has one spelling (TOK-22). The tag is not
// checked.
func parseOpaque(token string) (raw [opaqueSize]byte, ok bool) {
	if !IsOpaque(token) {
		return raw, false
	}
	text := token[len(opaquePrefix):]
	for i := range len(text) { // the decoder would skip line breaks
		if text[i] == '\n' || text[i] == '\r' {
			return raw, false
		}
	}
	var buf [opaqueSize + 3]byte
	n, err := base64.RawURLEncoding.Strict().Decode(buf[:], []byte(text))
	if err != nil || n != opaqueSize {
		return raw, false
	}
	return [opaqueSize]byte(buf[:opaqueSize]), true
}

// opaqueMinute is the expiry minute of a token whose tag is ours; false for a
// malformed or forged one, without a look at any table of tokens.
func opaqueMinute(keys *ClusterKeys, v *state.View, token string) (minute uint64, ok bool, err error) {
	raw, ok := parseOpaque(token)
	if !ok {
		return 0, false, nil
	}
	ok = false
	err = keys.Each(v, KeyTag, func(_ uint32, key *seal.Key) bool {
		tag := seal.Tag(key, opaqueTagLabel, raw[:bodySize])
		ok = subtle.ConstantTimeCompare(tag[:], raw[bodySize:]) == 1
		return !ok
	})
	return uint64(binary.BigEndian.Uint32(raw[:])), ok, err
}
