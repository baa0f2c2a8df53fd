package verify

import (
	"crypto/hmac"
	"crypto/sha256"
)

// HS256 is HMAC with SHA-256 (RFC 7518 §3.2). No Key has it and Parse refuses it, so
// that no public key is ever taken for a secret.
const HS256 = "HS256"

// ParseMAC is Parse for what a client signs with a secret that it shares with us: HS256
// and nothing else.
func ParseMAC(token string) (*Token, error) {
	return parse(token, func(alg string) bool { return alg == HS256 })
}

// VerifyMAC checks the signature of a token from ParseMAC, in constant time.
func (t *Token) VerifyMAC(secret []byte) bool {
	if t.Header.Alg != HS256 || len(secret) == 0 {
		return false
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(t.signed))
	return hmac.Equal(mac.Sum(nil), t.signature)
}
