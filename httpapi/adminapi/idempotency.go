package adminapi

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/tokens"
)

// maxKey bounds an Idempotency-Key, in bytes. A short one is as safe: what is derived
// from it is so by HMAC under a key of the cluster, and callers don't meet in it.
const maxKey = 255

// useKey makes the proposal of the request go under its Idempotency-Key. The key's
// scope is tenant, principal, method, path and the header's value; another body under
// it is refused by the state.
func (r *request) useKey(e *endpoint) error {
	const name = "Idempotency-Key"
	if len(r.Request.Header.PeekAll(name)) == 0 {
		return nil
	}
	value := string(r.Request.Header.Peek(name))
	visible := strings.Trim(value, "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~") == ""
	if value == "" || len(value) > maxKey || !visible {
		return invalid(name, "1 to 255 visible ASCII characters; a random UUID is good")
	}
	if !e.keyed {
		return nil
	}
	path, _, _ := strings.Cut(string(r.Request.Header.RequestURI()), "?")
	key := digest(r.tenant, r.who.id, e.method, path, value)
	body := digest(string(r.PostBody()))
	r.ctx = command.WithKey(r.ctx, command.Key(key[:16]), [8]byte(body[:8]))
	return nil
}

// digest hashes parts so that none can pass for another.
func digest(parts ...string) [32]byte {
	h := sha256.New()
	for _, p := range parts {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(p)))
		h.Write(size[:])
		h.Write([]byte(p))
	}
	return [32]byte(h.Sum(nil))
}

// apart gives each kind of proposal under one Idempotency-Key a key of its own: a call
// that makes several would else get the first one's kept answer for the second.
func apart(propose command.Propose) command.Propose {
	return func(ctx context.Context, c command.Command) (command.Result, error) {
		if key, body, ok := command.KeyFrom(ctx); ok {
			var kind [2]byte
			binary.BigEndian.PutUint16(kind[:], uint16(c.Kind()))
			own := digest(string(key[:]), string(kind[:]))
			ctx = command.WithKey(ctx, command.Key(own[:16]), body)
		}
		return propose(ctx, c)
	}
}

// made is a secret of one request: derived from its Idempotency-Key and the cluster's
// hash key, so that a retry makes the same one and nothing is kept, or random. The
// hash is what is stored.
func (a *api) made(ctx context.Context, v *state.View, use string) (secret seal.Secret, hash [32]byte, err error) {
	key, _, err := a.Shared.Newest(v, tokens.KeyHash)
	if err != nil {
		return "", hash, err
	}
	secret = seal.NewSecret()
	if k, _, ok := command.KeyFrom(ctx); ok {
		mac := hmac.New(sha256.New, key[:])
		mac.Write([]byte("keyraft admin " + use + "\x00"))
		mac.Write(k[:])
		secret = seal.Secret(base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
	}
	return secret, seal.Hash(key, []byte(secret.Reveal())), nil
}

// created answers a POST that made something.
func (r *request) created(at string, v any) error {
	r.Response.Header.Set(fasthttp.HeaderLocation, at)
	return r.json(fasthttp.StatusCreated, v)
}
