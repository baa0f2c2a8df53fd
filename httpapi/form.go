package httpapi

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/internal/oauth"
)

// maxParameters bounds the parameters of one form or query (HTT-10). A token
// exchange with a list of resources stays far below.
const maxParameters = 256

// Values are the decoded parameters of a form or a query: one string of name, NUL,
// value, NUL. That is one allocation for all of them, it may be kept, and the few
// parameters of a request are found faster by looking along it than by a map. The
// zero value is empty.
type Values struct{ text string }

// Get is the value of a parameter; "" when it is absent or empty, which the protocol
// does not tell apart (RFC 6749 §3.2).
func (v Values) Get(name string) string {
	for rest := v.text; rest != ""; {
		var have, value string
		have, value, rest = cutPair(rest)
		if have == name {
			return value
		}
	}
	return ""
}

// All are the values of a parameter that may repeat, in order, without empty ones.
func (v Values) All(name string) []string {
	var all []string
	for rest := v.text; rest != ""; {
		var have, value string
		have, value, rest = cutPair(rest)
		if have == name && value != "" {
			all = append(all, value)
		}
	}
	return all
}

// Has says whether a parameter is there with a value that is not empty.
func (v Values) Has(name string) bool { return v.Get(name) != "" }

func cutPair(text string) (name, value, rest string) {
	name, rest, _ = strings.Cut(text, "\x00")
	value, rest, _ = strings.Cut(rest, "\x00")
	return name, value, rest
}

// Form decodes a body of application/x-www-form-urlencoded, strictly: no other type
// or charset than UTF-8, no malformed escape, no NUL, no control character but TAB,
// no invalid UTF-8, no parameter twice but resource and audience (RFC 6749 §3.2, RFC
// 8707 §2, RFC 8693 §2.1), no query beside it. The error is invalid_request.
func Form(c *fasthttp.RequestCtx) (Values, error) {
	if err := formOnly(c); err != nil {
		return Values{}, err
	}
	return parseValues(c.PostBody())
}

// formOnly refuses another type of body, and a query beside it.
func formOnly(c *fasthttp.RequestCtx) error {
	if !formType(c.Request.Header.ContentType()) {
		return oauth.InvalidRequest.With("the body must be of the type application/x-www-form-urlencoded, in UTF-8")
	}
	if len(queryOf(c)) != 0 {
		return oauth.InvalidRequest.With("parameters belong in the body, not in the query")
	}
	return nil
}

// Query decodes the query of the request by the same rules as Form. The error is
// invalid_request.
func Query(c *fasthttp.RequestCtx) (Values, error) { return parseValues(queryOf(c)) }

// Entry decodes a request with which a client sends a browser here, by the rules of Query
// or, for a POST, of Form. Whoever made it may have to be told that a parameter came twice,
// where the others say (RFC 6749 §4.1.2.1): such a one has no value then, and its name is
// given.
func Entry(c *fasthttp.RequestCtx) (v Values, twice []string, err error) {
	raw := queryOf(c)
	if c.IsPost() {
		if err := formOnly(c); err != nil {
			return Values{}, nil, err
		}
		raw = c.PostBody()
	}
	if v, err = parse(raw, &twice); len(twice) > 0 && err == nil {
		v = v.without(twice)
	}
	return v, twice, err
}

// without is v without all values of some parameters.
func (v Values) without(names []string) Values {
	var b strings.Builder
	for rest := v.text; rest != ""; {
		var name, value string
		name, value, rest = cutPair(rest)
		if !slices.Contains(names, name) {
			b.WriteString(name + "\x00" + value + "\x00")
		}
	}
	return Values{b.String()}
}

// queryOf is the raw query, without the question mark.
func queryOf(c *fasthttp.RequestCtx) []byte {
	if r := of(c); r != nil {
		return r.query
	}
	return nil
}

func formType(value []byte) bool {
	media, params, found := bytes.Cut(value, []byte(";"))
	return is(trim(media), "application/x-www-form-urlencoded") && (!found || isUTF8(params))
}

// isUTF8 accepts the one parameter charset=utf-8, quoted or not.
func isUTF8(params []byte) bool {
	name, value, _ := bytes.Cut(trim(params), []byte("="))
	if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
		value = value[1 : len(value)-1]
	}
	return is(name, "charset") && is(value, "utf-8")
}

// parseValues is the strict decoder. Empty items ("a=1&&b=2") are passed over.
func parseValues(raw []byte) (Values, error) { return parse(raw, nil) }

// parse is parseValues; a parameter that may not repeat and does is noted in twice, if that
// is there, and refused else.
func parse(raw []byte, twice *[]string) (Values, error) {
	if len(raw) == 0 {
		return Values{}, nil
	}
	out := make([]byte, 0, len(raw)+2) // decoding only shrinks; one "=" may be missing
	count := 0
	for len(raw) > 0 {
		item := raw
		if i := bytes.IndexByte(raw, '&'); i >= 0 {
			item, raw = raw[:i], raw[i+1:]
		} else {
			raw = nil
		}
		if len(item) == 0 {
			continue
		}
		if count++; count > maxParameters {
			return Values{}, oauth.InvalidRequest.Withf("more than %d parameters", maxParameters)
		}
		name, value, _ := bytes.Cut(item, []byte("="))
		if len(name) == 0 {
			return Values{}, oauth.InvalidRequest.With("a parameter without a name")
		}
		at := len(out)
		var ok bool
		if out, ok = appendDecoded(out, name); ok {
			if repeated(out[:at], out[at:len(out)-1]) && twice != nil {
				*twice = append(*twice, string(out[at:len(out)-1]))
			} else if repeated(out[:at], out[at:len(out)-1]) {
				return Values{}, oauth.InvalidRequest.Withf("the parameter %s is repeated", bounded(out[at:len(out)-1]))
			}
			out, ok = appendDecoded(out, value)
		}
		if !ok {
			return Values{}, oauth.InvalidRequest.With("a parameter holds a malformed percent escape, a control character or bytes that are not UTF-8")
		}
	}
	// The bytes are ours and not changed from here on: no second copy.
	return Values{unsafe.String(unsafe.SliceData(out), len(out))}, nil
}

// appendDecoded decodes one name or value and ends it with NUL.
func appendDecoded(dst, src []byte) ([]byte, bool) {
	at, ascii := len(dst), true
	for i := 0; i < len(src); i++ {
		if n := plainPrefix(src[i:]); n > 0 {
			dst = append(dst, src[i:i+n]...)
			if i += n; i == len(src) {
				break
			}
		}
		b := src[i]
		switch {
		case b == '+':
			b = ' '
		case b == '%':
			if len(src) < i+3 || !hexByte(src[i+1]) || !hexByte(src[i+2]) {
				return dst, false
			}
			b = unhex(src[i+1])<<4 | unhex(src[i+2])
			if b < ' ' && b != '\t' || b == 0x7f {
				return dst, false
			}
			ascii = ascii && b < utf8.RuneSelf
			i += 2
		case b < ' ' || b >= 0x7f: // must have been encoded
			return dst, false
		}
		dst = append(dst, b)
	}
	if !ascii && !utf8.Valid(dst[at:]) {
		return dst, false
	}
	return append(dst, 0), true
}

// plainPrefix is how many bytes at the start stand for themselves, but for up to seven:
// it looks at eight at once, since a token is some hundred such bytes.
func plainPrefix(src []byte) (n int) {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	holds := func(word uint64, b byte) uint64 { // a high bit for a byte that is b
		word ^= ones * uint64(b)
		return (word - ones) &^ word & highs
	}
	for ; len(src)-n >= 8; n += 8 {
		w := binary.LittleEndian.Uint64(src[n:])
		below := (w - ones*' ') &^ w & highs
		if w&highs|below|holds(w, '+')|holds(w, '%')|holds(w, 0x7f) != 0 {
			break
		}
	}
	return n
}

// repeated says whether name stands among the pairs already decoded and may not.
func repeated(pairs, name []byte) bool {
	if string(name) == "resource" || string(name) == "audience" {
		return false
	}
	for len(pairs) > 0 {
		end := bytes.IndexByte(pairs, 0)
		if string(pairs[:end]) == string(name) {
			return true
		}
		pairs = pairs[end+1:]
		pairs = pairs[bytes.IndexByte(pairs, 0)+1:]
	}
	return false
}

// bounded quotes a parameter's name in an error without letting the answer grow.
func bounded(name []byte) string {
	if len(name) > 40 {
		name = name[:40]
	}
	return string(name)
}
