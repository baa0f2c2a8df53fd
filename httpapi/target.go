package httpapi

import (
	"bytes"
	"unicode/utf8"
)

// splitTarget is the gate on the raw request target: origin form only, no dot
// segment, no doubled slash, no backslash, no fragment, nothing but visible ASCII.
// Both parts are slices of target. Percent signs in the path are checked here and
// decoded nowhere but in a {name} segment.
func splitTarget(target []byte, limit int) (path, query []byte, v verdict) {
	if len(target) > limit {
		return nil, nil, verdict{status: 414, detail: "the request target is too long"}
	}
	if len(target) == 0 || target[0] != '/' {
		return nil, nil, verdict{status: 400, detail: "the request target must be a path that starts with a slash"}
	}
	path = target
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		path, query = target[:i], target[i+1:]
	}
	for _, b := range query {
		if b <= ' ' || b >= 0x7f || b == '#' {
			return nil, nil, verdict{status: 400, detail: "the query holds a character that must be percent-encoded"}
		}
	}
	return path, query, checkPath(path)
}

func checkPath(path []byte) verdict {
	for i := 0; i < len(path); i++ {
		switch b := path[i]; {
		case b == '/':
			if v := checkSegmentStart(path[i+1:]); v.status != 0 {
				return v
			}
		case b == '%':
			if v := checkEscape(path[i:]); v.status != 0 {
				return v
			}
			i += 2
		case !pathByte(b):
			return verdict{status: 400, detail: "the path holds a character that is not allowed there"}
		}
	}
	return verdict{}
}

// checkSegmentStart looks at what follows a slash: another slash and the segments
// "." and ".." are refused.
func checkSegmentStart(rest []byte) verdict {
	if len(rest) == 0 || rest[0] != '/' && rest[0] != '.' {
		return verdict{}
	}
	if rest[0] == '/' {
		return verdict{status: 400, detail: "a doubled slash in the path"}
	}
	n := 1
	if len(rest) > 1 && rest[1] == '.' {
		n = 2
	}
	if len(rest) == n || rest[n] == '/' {
		return verdict{status: 400, detail: "a dot segment in the path"}
	}
	return verdict{}
}

// checkEscape looks at one %XX: well formed, and of a byte that may be encoded.
// Unreserved characters have no business there (RFC 3986 §2.3), a separator, a
// percent sign or a control would mean another path to whoever decodes it.
func checkEscape(at []byte) verdict {
	if len(at) < 3 || !hexByte(at[1]) || !hexByte(at[2]) {
		return verdict{status: 400, detail: "a percent sign in the path without two hex digits"}
	}
	b := unhex(at[1])<<4 | unhex(at[2])
	if b < ' ' || b == 0x7f || b == '/' || b == '\\' || b == '%' || unreserved(b) {
		return verdict{status: 400, detail: "a character is percent-encoded in the path that must not be"}
	}
	return verdict{}
}

// pathByte is RFC 3986 pchar without ";" (path parameters, which we do not have) and
// without "%".
func pathByte(b byte) bool {
	if unreserved(b) {
		return true
	}
	switch b {
	case '!', '$', '&', '\'', '(', ')', '*', '+', ',', '=', ':', '@':
		return true
	}
	return false
}

func unreserved(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' ||
		b == '-' || b == '.' || b == '_' || b == '~'
}

func unhex(b byte) byte {
	switch {
	case b >= '0' && b <= '9':
		return b - '0'
	default:
		return b | 0x20 - 'a' + 10
	}
}

// decodeSegment decodes a {name} segment that checkPath let pass, once. ok is false
// when the result is no UTF-8.
func decodeSegment(segment []byte) (s string, ok bool) {
	if bytes.IndexByte(segment, '%') < 0 {
		return string(segment), true
	}
	out := make([]byte, 0, len(segment))
	for i := 0; i < len(segment); i++ {
		b := segment[i]
		if b == '%' {
			b = unhex(segment[i+1])<<4 | unhex(segment[i+2])
			i += 2
		}
		out = append(out, b)
	}
	return string(out), utf8.Valid(out)
}

// segmentIsUTF8 says whether decodeSegment will succeed. Only an escape can make it
// fail: everything else in a path is ASCII.
func segmentIsUTF8(segment []byte) bool {
	if bytes.IndexByte(segment, '%') < 0 {
		return true
	}
	_, ok := decodeSegment(segment)
	return ok
}
