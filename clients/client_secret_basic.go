package clients

import (
	"bytes"
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"github.com/keyraft/keyraft/internal/oauth"
)

// maxHeader bounds the Basic header that is decoded, in bytes: id and secret, every
// byte percent-encoded, in base64.
const maxHeader = 4096

// claimBasic reads client_secret_basic (RFC 6749 §2.3.1): id and secret, each
// form-encoded, then joined and encoded as RFC 7617 says. A client_id beside it must
// be the same one.
func (r *Request) claimBasic() claim {
	c := claim{method: oauth.AuthSecretBasic}
	id, secret, ok := ParseBasic(r.Authorization)
	if !ok || r.ID != "" && r.ID != id {
		c.broken = true
		return c
	}
	c.id, c.secret = id, secret
	return c
}

// ParseBasic reads a whole Authorization header of the scheme Basic, strictly: standard base64 with padding
// and no stray bits, one colon at least, each part form-decoded exactly once into
// UTF-8 without control characters, an id that is not empty.
func ParseBasic(header []byte) (id, secret string, ok bool) {
	scheme, text, found := bytes.Cut(header, []byte(" "))
	if !found || !bytes.EqualFold(scheme, []byte("Basic")) || len(text) > maxHeader || bytes.ContainsAny(text, "\r\n") {
		return "", "", false
	}
	var stack [256]byte // most headers fit
	raw, err := base64.StdEncoding.Strict().AppendDecode(stack[:0], text)
	if err != nil {
		return "", "", false
	}
	id, secret, found = strings.Cut(string(raw), ":")
	if !found {
		return "", "", false
	}
	if id, ok = formDecode(id); !ok || id == "" {
		return "", "", false
	}
	secret, ok = formDecode(secret)
	return id, secret, ok
}

// formDecode decodes application/x-www-form-urlencoded text once. It does not
// allocate where there is nothing to decode. Bytes that should have been encoded are
// taken as they are, as many clients send them.
func formDecode(s string) (string, bool) {
	if strings.ContainsAny(s, "%+") {
		out := make([]byte, 0, len(s))
		for i := 0; i < len(s); i++ {
			b := s[i]
			switch b {
			case '+':
				b = ' '
			case '%':
				if i+2 >= len(s) {
					return "", false
				}
				hi, lo := unhex(s[i+1]), unhex(s[i+2])
				if hi < 0 || lo < 0 {
					return "", false
				}
				b = byte(hi<<4 | lo)
				i += 2
			}
			out = append(out, b)
		}
		s = string(out)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return "", false
		}
	}
	return s, utf8.ValidString(s)
}

func unhex(b byte) int {
	switch {
	case '0' <= b && b <= '9':
		return int(b - '0')
	case 'a' <= b|0x20 && b|0x20 <= 'f':
		return int(b|0x20-'a') + 10
	}
	return -1
}
