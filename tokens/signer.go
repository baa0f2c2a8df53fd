package tokens

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

// accessTokenType is the typ of RFC 9068 §2.1.
const accessTokenType = "at+jwt"

// signer is an unsealed key with the header that it writes: immutable. It hides
// itself by having no exported part and no String.
type signer struct {
	header []byte // base64url of an access token's JOSE header, with the dot behind it
	id     string // kid

	// One of them is set.
	ec  *ecdsa.PrivateKey
	ed  ed25519.PrivateKey
	rsa *rsa.PrivateKey
	pss bool
}

func newSigner(row *state.SigningKey, private crypto.Signer) (*signer, error) {
	s := &signer{id: row.GetId(), pss: row.GetAlg() == verify.PS256}
	switch k := private.(type) {
	case *ecdsa.PrivateKey:
		s.ec = k
	case ed25519.PrivateKey:
		s.ed = k
	case *rsa.PrivateKey:
		k.Precompute()
		s.rsa = k
	default:
		return nil, fmt.Errorf("signing key %s is of a type that can't sign tokens: rotate it", row.GetId())
	}
	header := appendString([]byte(`{"typ":"`+accessTokenType+`","alg":"`+row.GetAlg()+`","kid":`), row.GetId())
	s.header = base64.RawURLEncoding.AppendEncode(nil, append(header, '}'))
	s.header = append(s.header, '.')
	return s, nil
}

// appendBehind signs dst[start:end] and appends the signature's base64url.
func (s *signer) appendBehind(ctx context.Context, l *lane, dst []byte, start, end int) ([]byte, error) {
	if s.ed != nil {
		return base64.RawURLEncoding.AppendEncode(dst, ed25519.Sign(s.ed, dst[start:end])), nil
	}
	digest := sha256.Sum256(dst[start:end])
	if s.ec != nil {
		return s.appendECDSA(dst, digest)
	}
	sig, err := l.sign(ctx, s, digest)
	if err != nil {
		return dst, err
	}
	return base64.RawURLEncoding.AppendEncode(dst, sig), nil
}

// appendECDSA signs deterministically (RFC 6979, FIPS 186-5 §6.3): no entropy to
// fail, and an eighth less work than the randomised form.
func (s *signer) appendECDSA(dst []byte, digest [32]byte) ([]byte, error) {
	der, err := s.ec.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return dst, fmt.Errorf("sign with ES256: %w", err)
	}
	var raw [64]byte
	if !rawECDSA(&raw, der) {
		return dst, errors.New("sign with ES256: the library's signature has an unknown form")
	}
	return base64.RawURLEncoding.AppendEncode(dst, raw[:]), nil
}

// rawECDSA turns SEQUENCE{INTEGER r, INTEGER s} into r‖s of fixed width (RFC 7518
// §3.4) without big numbers. P-256's parts are below 128 bytes, so each length is
// one byte.
func rawECDSA(raw *[64]byte, der []byte) bool {
	if len(der) < 8 || der[0] != 0x30 || int(der[1]) != len(der)-2 {
		return false
	}
	rest := der[2:]
	for part := range 2 {
		if len(rest) < 3 || rest[0] != 2 || int(rest[1]) > len(rest)-2 {
			return false
		}
		n := rest[2 : 2+int(rest[1])]
		rest = rest[2+len(n):]
		for len(n) > 0 && n[0] == 0 {
			n = n[1:]
		}
		if len(n) == 0 || len(n) > 32 {
			return false
		}
		copy(raw[32*part+32-len(n):], n)
	}
	return len(rest) == 0
}

// lane bounds RSA signatures, which cost thirty times an ECDSA one: half of the
// processors at most, a short queue, then a refusal at once, so that other tokens
// stay quick.
type lane struct {
	slots   chan struct{} // one a running signature
	line    chan struct{} // one a running or waiting one
	refused atomic.Uint64
}

// laneQueue is how many wait for one slot: some 64 ms of work.
const laneQueue = 64

func newLane() *lane {
	slots := max(1, runtime.GOMAXPROCS(0)/2)
	return &lane{slots: make(chan struct{}, slots), line: make(chan struct{}, slots*(1+laneQueue))}
}

func (l *lane) sign(ctx context.Context, s *signer, digest [32]byte) ([]byte, error) {
	select {
	case l.line <- struct{}{}:
		defer func() { <-l.line }()
	default:
		l.refused.Add(1)
		return nil, oauth.TemporarilyUnavailable.With("too many RSA signatures are wanted; try again, or register the client for ES256").WithRetryAfter(1)
	}
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for an RSA signature: %w", ctx.Err())
	}
	var sig []byte
	var err error
	if s.pss {
		sig, err = rsa.SignPSS(rand.Reader, s.rsa, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	} else {
		sig, err = rsa.SignPKCS1v15(nil, s.rsa, crypto.SHA256, digest[:])
	}
	if err != nil {
		return nil, fmt.Errorf("sign with RSA: %w", err)
	}
	return sig, nil
}
