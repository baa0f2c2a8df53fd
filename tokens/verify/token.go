// Package verify parses and checks JWTs: the same code in nodes and in gateways,
// so both give the same verdict on every token.
//
// A token goes through Parse (form only), KeySet.Lookup, Token.Verify (signature)
// and Token.Check (type, issuer, audience, times); then Covers or Targets tell
// what can have revoked it. Nothing of a Token may be believed before Verify.
//
// The parser is strict so that one token has one spelling: compact form only,
// base64url without padding, line breaks or stray tail bits, valid UTF-8, no
// duplicate members at any depth (compared after unescaping), none that differ
// from a registered name by case only, no crit and no b64. Dates are whole
// seconds: RFC 7519 allows fractions, but no date of ours has one, and two ways to
// round it would be two verdicts. Key material in a header (jwk, jku, x5u, x5c) is
// never used, but for the jwk of a DPoP proof, which is what such a proof is about. ECDSA signatures still have two spellings (s and n−s), so neither a
// token's text nor its hash is its identity: jti is.
//
// Units: instants and spans are seconds, sizes bytes. Errors wrap one of the Err
// values and hold no part of a token. A KeySet is immutable and safe for
// concurrent use; a Token belongs to one goroutine until Check has returned.
//
// A proof of possession (RFC 9449) goes through ParseProof and Proof.Check, and then
// Replays, which remembers those that were used.
//
// Sources: RFC 7515, 7517, 7518, 7519, 7638, 8037, 8705, 8725, 9068, 9449, 9864.
package verify

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// What a token is refused for. Callers turn them into the code of their endpoint.
var (
	ErrMalformed  = errors.New("the token is malformed")
	ErrSignature  = errors.New("the token's signature does not verify")
	ErrUnknownKey = errors.New("the token's key is unknown")
	ErrExpired    = errors.New("the token has expired")
	ErrNotYet     = errors.New("the token is not valid yet")
	ErrLifetime   = errors.New("the token lives longer than is accepted")
	ErrIssuer     = errors.New("the token is of another issuer")
	ErrAudience   = errors.New("the token is for another audience")
	ErrType       = errors.New("the token is of another type")
)

// MaxSize bounds a token's text. It is checked before anything is decoded.
const MaxSize = 16 << 10

// usualSize is what a decoded header and payload rarely exceed; up to there Parse
// decodes on the stack.
const usualSize = 1536

// encoding refuses stray tail bits; checkText has refused what it would skip.
var encoding = base64.RawURLEncoding.Strict()

// Token is a parsed compact JWS (RFC 7515 §7.1). Its claims are hearsay until
// Verify has returned nil.
type Token struct {
	Header Header
	Claims Claims

	signed    string // header "." payload, as sent: what the signature covers
	signature []byte
}

// Header holds what is read of the JOSE header. All else in it is checked for form
// and ignored.
type Header struct {
	Alg         string // one that this package verifies
	Type        string // typ, as sent; "" when missing
	KeyID       string // kid; "" when missing
	ContentType string // cty; "" when missing
}

// Parse reads a compact JWS and checks its form, not its signature. Every error
// wraps ErrMalformed.
func Parse(token string) (*Token, error) { return parse(token, knownAlg) }

func parse(token string, accepts func(alg string) bool) (*Token, error) {
	header, payload, t, err := unpack(token)
	if err != nil {
		return nil, err
	}
	var names [32]string
	s := scanner{text: header, names: names[:0]}
	if !s.whole(func() bool { return s.header(&t.Header, accepts) }) {
		return nil, fmt.Errorf("%w: header: %s", ErrMalformed, s.why)
	}
	s = scanner{text: payload, names: names[:0]}
	if !s.whole(func() bool { return s.claims(&t.Claims) }) {
		return nil, fmt.Errorf("%w: payload: %s", ErrMalformed, s.why)
	}
	t.Claims.Type, t.Claims.Alg, t.Claims.KeyID = t.Header.Type, t.Header.Alg, t.Header.KeyID
	t.Claims.Raw = payload
	return t, nil
}

// unpack decodes the three parts of a compact JWS; header and payload are unread JSON.
func unpack(token string) (header, payload string, t *Token, err error) {
	dot1, dot2, err := checkText(token)
	if err != nil {
		return "", "", nil, err
	}
	if header, payload, err = decode(token[:dot1], token[dot1+1:dot2]); err != nil {
		return "", "", nil, err
	}
	t = &Token{signed: token[:dot2], signature: make([]byte, encoding.DecodedLen(len(token)-dot2-1))}
	if _, err := encoding.Decode(t.signature, []byte(token[dot2+1:])); err != nil {
		return "", "", nil, fmt.Errorf("%w: the signature is not strict base64url", ErrMalformed)
	}
	return header, payload, t, nil
}

// checkText finds the two dots and refuses, byte by byte, what is not in the
// base64url alphabet, before any decoder sees it.
func checkText(token string) (dot1, dot2 int, err error) {
	if len(token) > MaxSize {
		return 0, 0, fmt.Errorf("%w: it is longer than %d bytes", ErrMalformed, MaxSize)
	}
	dot1, dot2 = -1, -1
	for i := range len(token) {
		switch c := token[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		case c != '.':
			return 0, 0, fmt.Errorf("%w: byte %d is not of the base64url alphabet; send the compact form without spaces", ErrMalformed, i)
		case dot1 < 0:
			dot1 = i
		case dot2 < 0:
			dot2 = i
		default:
			return 0, 0, fmt.Errorf("%w: it has more than three parts; send a signed token in compact form", ErrMalformed)
		}
	}
	switch {
	case dot2 < 0:
		return 0, 0, fmt.Errorf("%w: it has fewer than three parts; send a signed token in compact form", ErrMalformed)
	case dot1 == 0 || dot2 == dot1+1 || dot2 == len(token)-1:
		return 0, 0, fmt.Errorf("%w: one of its three parts is empty; unsigned tokens are not accepted", ErrMalformed)
	}
	return dot1, dot2, nil
}

// decode returns header and payload, halves of one string.
func decode(header, payload string) (string, string, error) {
	var stack [usualSize]byte
	buf := stack[:0]
	if encoding.DecodedLen(len(header)+len(payload)) > usualSize {
		buf = make([]byte, 0, encoding.DecodedLen(len(header))+encoding.DecodedLen(len(payload)))
	}
	buf, err := encoding.AppendDecode(buf, []byte(header))
	if err != nil {
		return "", "", fmt.Errorf("%w: the header is not strict base64url", ErrMalformed)
	}
	cut := len(buf)
	if buf, err = encoding.AppendDecode(buf, []byte(payload)); err != nil {
		return "", "", fmt.Errorf("%w: the payload is not strict base64url", ErrMalformed)
	}
	all := string(buf)
	return all[:cut], all[cut:], nil
}

// header reads the JOSE header.
func (s *scanner) header(h *Header, accepts func(alg string) bool) bool {
	o, ok := s.beginObject()
	for ok {
		var name string
		var more bool
		if name, more, ok = s.member(&o); !ok || !more {
			break
		}
		switch name {
		case "alg":
			ok = s.nonEmpty(&h.Alg)
		case "typ":
			ok = s.plain(&h.Type)
		case "kid":
			ok = s.plain(&h.KeyID)
		case "cty":
			ok = s.plain(&h.ContentType)
		case "crit":
			return s.fail("crit is present, and no extension is supported (RFC 7515 §4.1.11)")
		case "b64":
			return s.fail("b64 is not allowed in a JWT (RFC 7797 §7)")
		default:
			ok = s.properCase(name, headerNames) && s.skip()
		}
	}
	if ok && !accepts(h.Alg) {
		return s.fail("its alg is missing or not accepted here; use " + algNames)
	}
	return ok
}

// headerNames and claimNames are the registered names of which no variant in
// another case is taken: a decoder that folds case would read it as the real one.
var (
	headerNames = []string{"alg", "typ", "kid", "cty", "crit", "b64", "jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "enc", "zip"}
	claimNames  = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "cnf", "azp", "act", "may_act", "nonce"}
)

// properCase refuses a name that equals one of names but for its case.
func (s *scanner) properCase(name string, names []string) bool {
	for i := range len(name) {
		if c := name[i]; c >= 0x80 || 'A' <= c && c <= 'Z' {
			for _, known := range names {
				if name != known && strings.EqualFold(name, known) {
					return s.fail("a member differs from a registered name only by case")
				}
			}
			break
		}
	}
	return true
}
