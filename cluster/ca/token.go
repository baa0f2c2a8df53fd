package ca

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
)

const (
	tokenPrefix = "krj1_"
	// The body is secret, fingerprint, address and a checksum over the three.
	tokenFixed  = 32 + 32
	checkLength = 4
	maxAddr     = 255
)

// Secret is the part of a join token that is proof of the invitation. Print,
// log and JSON forms hide it.
type Secret [32]byte

// String hides the secret.
func (Secret) String() string { return "[hidden]" }

// Format hides the secret under every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue hides the secret in structured logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON hides the secret.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"[hidden]"`), nil }

// JoinToken invites one node. Encode gives the text that an operator carries;
// every other form of it hides the secret.
type JoinToken struct {
	Secret      Secret
	Fingerprint [32]byte // of the authority: by it the joiner knows the cluster
	Addr        string   // host:port of a node's cluster port, at most 255 bytes
}

// NewJoinToken makes a token with 256 random bits.
func NewJoinToken(fingerprint [32]byte, addr string) (JoinToken, error) {
	if err := validAddr(addr); err != nil {
		return JoinToken{}, err
	}
	t := JoinToken{Fingerprint: fingerprint, Addr: addr}
	if _, err := rand.Read(t.Secret[:]); err != nil {
		return JoinToken{}, fmt.Errorf("make a join token: %w", err)
	}
	return t, nil
}

// Encode is the token in clear: "krj1_" and base64url. It ends in a checksum,
// so that a token that was cut or mistyped is told apart from one that is not
// known, before anything is dialled.
func (t JoinToken) Encode() string {
	body := make([]byte, 0, tokenFixed+len(t.Addr)+checkLength)
	body = append(body, t.Secret[:]...)
	body = append(body, t.Fingerprint[:]...)
	body = append(body, t.Addr...)
	sum := sha256.Sum256(body)
	body = append(body, sum[:checkLength]...)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(body)
}

// ParseJoinToken reads what Encode wrote, and nothing else: one token has one
// spelling. Its errors never quote the text.
func ParseJoinToken(text string) (JoinToken, error) {
	encoded, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return JoinToken{}, fmt.Errorf("this is no join token: it does not begin with %s", tokenPrefix)
	}
	if len(encoded) > base64.RawURLEncoding.EncodedLen(tokenFixed+maxAddr+checkLength) {
		return JoinToken{}, errors.New("the join token is too long; copy it again")
	}
	if strings.ContainsAny(encoded, "\r\n") { // which the decoder would pass over
		return JoinToken{}, errors.New("the join token is broken by a line end; copy it again as one line")
	}
	body, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return JoinToken{}, errors.New("the join token has characters that do not belong to it; copy it again")
	}
	if len(body) < tokenFixed+checkLength {
		return JoinToken{}, errors.New("the join token is cut short; copy it again")
	}
	body, check := body[:len(body)-checkLength], body[len(body)-checkLength:]
	if sum := sha256.Sum256(body); string(sum[:checkLength]) != string(check) {
		return JoinToken{}, errors.New("the join token is damaged: its checksum differs; copy it again")
	}
	t := JoinToken{Secret: Secret(body[:32]), Fingerprint: [32]byte(body[32:tokenFixed]), Addr: string(body[tokenFixed:])}
	if err := validAddr(t.Addr); err != nil {
		return JoinToken{}, err
	}
	return t, nil
}

// validAddr accepts host:port with a port that can be dialled.
func validAddr(addr string) error {
	if len(addr) > maxAddr {
		return fmt.Errorf("the join token's address has %d bytes, at most %d are allowed", len(addr), maxAddr)
	}
	for _, c := range []byte(addr) {
		if c <= ' ' || c > '~' {
			return errors.New("the join token's address has a character that no address has")
		}
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return errors.New("the join token's address is not host:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("the join token's address has no port from 1 to 65535")
	}
	return nil
}

// String names the address and hides the secret.
func (t JoinToken) String() string { return "join token for " + t.Addr + " (secret hidden)" }

// Format hides the secret under every verb.
func (t JoinToken) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(t.String())) }

// LogValue hides the secret in structured logs.
func (t JoinToken) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalJSON hides the secret.
func (JoinToken) MarshalJSON() ([]byte, error) { return []byte(`"[hidden]"`), nil }
