package httpapi

import (
	"bytes"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/internal/oauth"
)

// maxHeaders bounds the header lines of a request. Browsers send about 20, proxies
// add about 10.
const maxHeaders = 100

// verdict is what the gate says: the zero value lets the request pass.
type verdict struct {
	status int        // HTTP status of the refusal; 0 passes
	detail string     // a constant sentence: never a part of the request
	sound  bool       // the framing is not in doubt: the connection may go on
	code   oauth.Code // of the protocol; "": that of the status
}

// facts is what the gate saw on the way, for the steps that follow.
type facts struct {
	encoded   bool // Content-Encoding other than identity
	expects   bool // an expectation that we do not know
	chunked   bool
	length    bool // Content-Length is there
	requestID []byte
	seen      uint16
}

// Headers that may come once only: for some the framing or the identity depends on
// which of two is read, for the rest a second one has no meaning.
const (
	onceHost uint16 = 1 << iota
	onceLength
	onceTransfer
	onceType
	onceAuthorization
	onceDPoP
	onceExpect
	onceEncoding
	onceRequestID
	onceIdempotency
)

// checkHeaders is the gate on method, version and the raw header bytes, which are
// exactly what came over the wire. It is stricter than RFC 9112 wherever being
// lenient has led two parsers to disagree: no folded lines, no bare CR or LF, no
// underscore in a name (a proxy may turn it into a dash), only the coding
// "chunked", never beside a length. Allocates nothing.
func checkHeaders(h *fasthttp.RequestHeader, f *facts) verdict {
	if v := checkLine(h); v.status != 0 {
		return v
	}
	lines := 0
	for rest := h.RawHeaders(); len(rest) > 0; lines++ {
		end := bytes.IndexByte(rest, '\n')
		if end < 1 || rest[end-1] != '\r' {
			return verdict{status: 400, detail: "a header line does not end in CRLF"}
		}
		line := rest[:end-1]
		rest = rest[end+1:]
		if len(line) == 0 {
			if len(rest) != 0 {
				return verdict{status: 400, detail: "an empty line inside the headers"}
			}
			continue
		}
		if lines >= maxHeaders {
			return verdict{status: 431, detail: "too many headers"}
		}
		if v := checkHeaderLine(line, f); v.status != 0 {
			return v
		}
	}
	if f.seen&onceHost == 0 {
		return verdict{status: 400, detail: "the Host header is missing"}
	}
	if f.chunked && f.length {
		return verdict{status: 400, detail: "Content-Length and Transfer-Encoding in one request"}
	}
	if f.chunked && string(h.Protocol()) != "HTTP/1.1" {
		return verdict{status: 400, detail: "Transfer-Encoding needs HTTP/1.1"}
	}
	return verdict{}
}

// checkLine looks at version and method. CONNECT and TRACE are refused everywhere:
// the one makes a proxy, the other reflects credentials.
func checkLine(h *fasthttp.RequestHeader) verdict {
	if p := h.Protocol(); string(p) != "HTTP/1.1" && string(p) != "HTTP/1.0" {
		return verdict{status: 400, detail: "unsupported HTTP version; use HTTP/1.1"}
	}
	m := h.Method()
	switch string(m) {
	case "GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS":
		return verdict{}
	case "CONNECT", "TRACE":
		return verdict{status: 405, detail: "CONNECT and TRACE are not served"}
	}
	if len(m) > 32 {
		return verdict{status: 400, detail: "the method is too long"}
	}
	for _, b := range m {
		if b < 'A' || b > 'Z' {
			return verdict{status: 400, detail: "the method must be upper-case letters"}
		}
	}
	return verdict{} // the router answers 404 or 405 with Allow
}

// checkHeaderLine looks at one line without its CRLF.
func checkHeaderLine(line []byte, f *facts) verdict {
	if line[0] == ' ' || line[0] == '\t' {
		return verdict{status: 400, detail: "a folded header line"}
	}
	colon := bytes.IndexByte(line, ':')
	if colon < 1 {
		return verdict{status: 400, detail: "a header line without a name"}
	}
	name, value := line[:colon], line[colon+1:]
	for _, b := range name {
		if !nameByte(b) {
			return verdict{status: 400, detail: "a header name may hold letters, digits and dashes"}
		}
	}
	for _, b := range value {
		if b < ' ' && b != '\t' || b == 0x7f { // a bare CR and NUL among them
			return verdict{status: 400, detail: "a control character in a header"}
		}
	}
	return checkKnown(name, value, f)
}

// nameByte is RFC 9110 tchar without the underscore, see checkHeaders.
func nameByte(b byte) bool {
	switch {
	case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '-':
		return true
	}
	switch b {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '.', '^', '`', '|', '~':
		return true
	}
	return false
}

// checkKnown handles the headers that the gate has rules for. value is raw, white
// space included.
func checkKnown(name, value []byte, f *facts) verdict {
	var once uint16
	var v verdict
	switch len(name) {
	case 4:
		switch {
		case is(name, "host"):
			once, v = onceHost, checkHost(trim(value))
		case is(name, "dpop"):
			once = onceDPoP
		}
	case 6:
		if is(name, "expect") {
			once = onceExpect
			f.expects = !is(trim(value), "100-continue")
		}
	case 12:
		switch {
		case is(name, "content-type"):
			once = onceType
		case is(name, "x-request-id"):
			if f.requestID = trim(value); f.seen&onceRequestID != 0 {
				f.requestID = nil // whose is it? we make our own
			}
			f.seen |= onceRequestID
		}
	case 13:
		if is(name, "authorization") {
			once = onceAuthorization
		}
	case 14:
		if is(name, "content-length") {
			once, f.length, v = onceLength, true, checkLength(value)
		}
	case 15:
		if is(name, "idempotency-key") {
			once = onceIdempotency
		}
	case 16:
		if is(name, "content-encoding") {
			once = onceEncoding
			f.encoded = !is(trim(value), "identity")
		}
	case 17:
		if is(name, "transfer-encoding") {
			once, f.chunked = onceTransfer, true
			if string(oneSpace(value)) != "chunked" {
				v = verdict{status: 400, detail: "the only Transfer-Encoding is chunked"}
			}
		}
	}
	if once&f.seen != 0 {
		twice := verdict{status: 400, detail: "a header that may come only once came twice (Host, Content-Length, Transfer-Encoding, Content-Type, Content-Encoding, Authorization, DPoP, Expect, Idempotency-Key)"}
		if once == onceDPoP {
			twice.code = oauth.InvalidDPoPProof // RFC 9449 §4.3, point 1
		}
		return twice
	}
	f.seen |= once
	return v
}

// is compares a header name or token, ASCII letters without case. want is lower case.
func is(b []byte, want string) bool {
	if len(b) != len(want) {
		return false
	}
	for i := range len(b) {
		c := b[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != want[i] {
			return false
		}
	}
	return true
}

// trim removes optional white space (RFC 9110 §5.6.3).
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// oneSpace removes the one space that usually follows the colon. For the framing
// headers no other white space is tolerated.
func oneSpace(b []byte) []byte {
	if len(b) > 0 && b[0] == ' ' {
		return b[1:]
	}
	return b
}

// checkLength accepts 1 to 15 digits and nothing else: no sign, no list, no value
// that could wrap.
func checkLength(value []byte) verdict {
	digits := oneSpace(value)
	if len(digits) == 0 || len(digits) > 15 {
		return verdict{status: 400, detail: "Content-Length must be 1 to 15 digits"}
	}
	for _, b := range digits {
		if b < '0' || b > '9' {
			return verdict{status: 400, detail: "Content-Length must be digits only"}
		}
	}
	return verdict{}
}

// checkHost accepts a name or an address with an optional port: no list, no user, no
// path (RFC 9112 §3.2).
func checkHost(host []byte) verdict {
	bad := verdict{status: 400, detail: "the Host header must be one host with an optional port"}
	if len(host) == 0 || len(host) > 255+6 {
		return bad
	}
	name := host
	if host[0] == '[' { // an IPv6 address
		end := bytes.IndexByte(host, ']')
		if end < 3 {
			return bad
		}
		for _, b := range host[1:end] {
			if b != ':' && b != '.' && !hexByte(b) {
				return bad
			}
		}
		rest := host[end+1:]
		if len(rest) == 0 {
			return verdict{}
		}
		if rest[0] != ':' || !portBytes(rest[1:]) {
			return bad
		}
		return verdict{}
	}
	if colon := bytes.IndexByte(host, ':'); colon >= 0 {
		name = host[:colon]
		if !portBytes(host[colon+1:]) {
			return bad
		}
	}
	if len(name) == 0 {
		return bad
	}
	for _, b := range name {
		if b != '-' && b != '.' && b != '_' && !(b >= '0' && b <= '9') && !(b|0x20 >= 'a' && b|0x20 <= 'z') {
			return bad
		}
	}
	return verdict{}
}

func portBytes(b []byte) bool {
	if len(b) == 0 || len(b) > 5 {
		return false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

func hexByte(b byte) bool {
	return b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'f'
}
