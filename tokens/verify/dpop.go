package verify

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
)

// ErrProof is wrapped by every refusal of a DPoP proof.
var ErrProof = errors.New("the DPoP proof is not good")

const (
	// MaxProof bounds a proof's text, in bytes: one by an RSA key of 8192 bits has half.
	MaxProof = 8 << 10
	// ProofAge is how far a proof's iat may lie from now, either way, in seconds.
	ProofAge = 60

	maxProofID = 128 // bytes of jti: what is remembered of it is paid for by us
)

// ProofAlgs are the algorithms that proofs may be signed with.
func ProofAlgs() []string { return Algs() }

// Proof is a DPoP proof whose signature is that of the key in it (RFC 9449 §4.2). What
// it was made for is for Check to say. Strings share the proof's memory.
type Proof struct {
	Thumbprint string // of its key: jkt (§6.1)
	JTI        string
	Method     string // htm
	URL        string // htu, as sent
	Token      string // ath; "" when missing
	Nonce      string // "" when missing
	IssuedAt   int64  // iat, seconds

	expires, notBefore int64
}

// ParseProof reads a proof and checks its form, its key and its signature (RFC 9449
// §4.3, points 2 to 7). Every error wraps ErrProof and holds no part of it.
func ParseProof(text string) (*Proof, error) {
	if len(text) > MaxProof {
		return nil, fmt.Errorf("%w: it is longer than %d bytes", ErrProof, MaxProof)
	}
	header, payload, t, err := unpack(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProof, err)
	}
	var names [32]string
	var key jwk
	s := scanner{text: header, names: names[:0]}
	if !s.whole(func() bool { return s.proofHeader(&t.Header, &key) }) {
		return nil, fmt.Errorf("%w: header: %s", ErrProof, s.why)
	}
	p := new(Proof)
	s = scanner{text: payload, names: names[:0]}
	if !s.whole(func() bool { return s.proof(p) }) {
		return nil, fmt.Errorf("%w: payload: %s", ErrProof, s.why)
	}
	if key.alg != "" && key.alg != t.Header.Alg {
		return nil, fmt.Errorf("%w: alg of its jwk is another than its own", ErrProof)
	}
	key.alg = t.Header.Alg
	k, ours, err := key.key()
	if err != nil {
		return nil, fmt.Errorf("%w: jwk: %w", ErrProof, err)
	}
	if !ours || !t.verify(k) {
		return nil, fmt.Errorf("%w: it is not signed by the key in it, which must be EC, Ed25519 or RSA and fit its alg", ErrProof)
	}
	if p.Thumbprint, err = Thumbprint(k.Public); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProof, err)
	}
	return p, nil
}

// proofHeader reads typ, alg and the public key of a proof.
func (s *scanner) proofHeader(h *Header, key *jwk) bool {
	o, ok := s.beginObject()
	found := false
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
		case "jwk":
			found = true
			ok = s.jwk(key)
		case "crit":
			return s.fail("crit is present, and no extension is supported (RFC 7515 §4.1.11)")
		case "b64":
			return s.fail("b64 is not allowed in a JWT (RFC 7797 §7)")
		default:
			ok = s.properCase(name, headerNames) && s.skip()
		}
	}
	switch {
	case !ok:
		return false
	case !sameType(h.Type, "dpop+jwt"):
		return s.fail("typ must be dpop+jwt")
	case !knownAlg(h.Alg):
		return s.fail("its alg is missing or not accepted here; use " + algNames)
	case !found:
		return s.fail("jwk, the public key, is missing")
	}
	return true
}

var proofNames = []string{"jti", "htm", "htu", "iat", "ath", "nonce", "exp", "nbf"}

// proof reads the payload of a proof.
func (s *scanner) proof(p *Proof) bool {
	o, ok := s.beginObject()
	for ok {
		var name string
		var more bool
		if name, more, ok = s.member(&o); !ok || !more {
			break
		}
		switch name {
		case "jti":
			ok = s.nonEmpty(&p.JTI)
		case "htm":
			ok = s.nonEmpty(&p.Method)
		case "htu":
			ok = s.nonEmpty(&p.URL)
		case "ath":
			ok = s.nonEmpty(&p.Token)
		case "nonce":
			ok = s.nonEmpty(&p.Nonce)
		case "iat":
			ok = s.instant(&p.IssuedAt)
		case "exp":
			ok = s.instant(&p.expires)
		case "nbf":
			ok = s.instant(&p.notBefore)
		default:
			ok = s.properCase(name, proofNames) && s.skip()
		}
	}
	switch {
	case !ok:
		return false
	case p.JTI == "" || p.Method == "" || p.URL == "" || p.IssuedAt == 0:
		return s.fail("jti, htm, htu and iat must be there")
	case len(p.JTI) > maxProofID:
		return s.fail("jti is longer than 128 bytes")
	}
	return true
}

// ProofExpect is the request that a proof must have been made for.
type ProofExpect struct {
	Method string // as it came: case matters (RFC 9110 §9.1)
	URL    string // http or https; a query is not looked at
	Token  string // the access token that comes with it; "" where none does
	Now    int64  // seconds
}

// Check tells whether the proof was made for this request, a moment ago (RFC 9449 §4.3,
// points 8, 9, 11 and 12). Whether it was used before is for Replays to say, and
// what its nonce is worth for the nonce's giver.
func (p *Proof) Check(e ProofExpect) error {
	if p.Method != e.Method {
		return fmt.Errorf("%w: htm must be %q", ErrProof, e.Method)
	}
	if !sameURL(p.URL, e.URL) {
		return fmt.Errorf("%w: htu must be the URL that the request is for, as the issuer's metadata writes it, without query", ErrProof)
	}
	switch {
	case p.IssuedAt < e.Now-ProofAge:
		return fmt.Errorf("%w: iat is more than %d seconds ago; make a new one for each request, and compare the clocks", ErrProof, ProofAge)
	case p.IssuedAt > e.Now+ProofAge || p.notBefore > e.Now+ProofAge:
		return fmt.Errorf("%w: iat lies more than %d seconds ahead; compare the clocks", ErrProof, ProofAge)
	case p.expires != 0 && e.Now >= p.expires+ProofAge:
		return fmt.Errorf("%w: it has expired", ErrProof)
	}
	if e.Token == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(e.Token))
	if subtle.ConstantTimeCompare([]byte(encoding.EncodeToString(sum[:])), []byte(p.Token)) != 1 {
		return fmt.Errorf("%w: ath must be the SHA-256 of the access token, as base64url", ErrProof)
	}
	return nil
}

// ProofID stands for a proof among those that were used: of its key, its jti and its
// htu. The text won't do, for an ECDSA signature has two spellings.
type ProofID [16]byte

// ID is the proof's.
func (p *Proof) ID() ProofID {
	h := sha256.New()
	for _, part := range [...]string{p.Thumbprint, p.JTI, p.URL} { // none holds a control character
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	var sum [sha256.Size]byte
	return ProofID(h.Sum(sum[:0])[:len(ProofID{})])
}

// KeepUntil is how long the proof must be remembered, in seconds: as long as it may be
// taken, and the skew of a clock more.
func (p *Proof) KeepUntil() int64 { return p.IssuedAt + 2*ProofAge }

// sameURL compares as RFC 9449 §4.3 asks: scheme and host in any case, default ports
// left out or not, query and fragment dropped (RFC 3986 §6.2.2.1, §6.2.3). Everything
// else is compared byte by byte: no percent-encoding is undone, no slash added.
func sameURL(a, b string) bool {
	schemeA, hostA, pathA, okA := splitURL(a)
	schemeB, hostB, pathB, okB := splitURL(b)
	return okA && okB && schemeA == schemeB && strings.EqualFold(hostA, hostB) && pathA == pathB
}

func splitURL(text string) (scheme, host, path string, ok bool) {
	if end := strings.IndexAny(text, "?#"); end >= 0 {
		text = text[:end]
	}
	given, rest, found := strings.Cut(text, "://")
	var port string
	switch {
	case !found:
		return "", "", "", false
	case strings.EqualFold(given, "https"):
		scheme, port = "https", ":443"
	case strings.EqualFold(given, "http"):
		scheme, port = "http", ":80"
	default:
		return "", "", "", false
	}
	host, path = rest, "/"
	if slash := strings.IndexByte(rest, '/'); slash >= 0 {
		host, path = rest[:slash], rest[slash:]
	}
	host = strings.TrimSuffix(host, port)
	for i := range len(host) {
		if host[i] >= 0x80 || host[i] == '@' { // no user, and no letter that folds to ASCII
			return "", "", "", false
		}
	}
	return scheme, host, path, host != ""
}
