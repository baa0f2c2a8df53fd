package httpapi

import (
	"bytes"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of a JSON document beside its size.
const (
	maxJSONDepth   = 32
	maxJSONMembers = 4096 // of all objects together
	maxJSONName    = 128  // bytes of a member's name, as written
)

// walker checks a JSON document byte by byte, alongside the Go type that it is meant
// for, before encoding/json sees it: that decoder lets duplicate members, members in
// another letter case, lone surrogates and invalid UTF-8 pass.
type walker struct {
	in      []byte
	at      int
	depth   int
	members int
	path    []string // where we are, for the error
}

func (w *walker) document(t reflect.Type) error {
	if !utf8.Valid(w.in) {
		return badJSON("", "the body is not valid UTF-8")
	}
	if bytes.HasPrefix(w.in, []byte("\xef\xbb\xbf")) {
		return badJSON("", "the body starts with a byte order mark; leave it out")
	}
	if err := w.value(t); err != nil {
		return err
	}
	if w.space(); w.at != len(w.in) {
		return badJSON("", "something follows the JSON document")
	}
	return nil
}

func (w *walker) fail(detail string) error {
	var field strings.Builder
	for _, p := range w.path {
		if field.Len() > 0 && !strings.HasPrefix(p, "[") {
			field.WriteByte('.')
		}
		field.WriteString(p)
	}
	return badJSON(field.String(), detail)
}

func (w *walker) syntax() error { return w.fail("the body is not well-formed JSON") }

func (w *walker) space() {
	for w.at < len(w.in) {
		switch w.in[w.at] {
		case ' ', '\t', '\r', '\n':
			w.at++
		default:
			return
		}
	}
}

// peek is the next byte after white space; 0 at the end.
func (w *walker) peek() byte {
	if w.space(); w.at < len(w.in) {
		return w.in[w.at]
	}
	return 0
}

func (w *walker) value(t reflect.Type) error {
	switch b := w.peek(); {
	case b == '{':
		return w.nested(t, w.object)
	case b == '[':
		return w.nested(t, w.array)
	case b == '"':
		_, err := w.text()
		return err
	case b == '-' || b >= '0' && b <= '9':
		return w.number()
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(w.in[w.at:], []byte(word)) {
			w.at += len(word)
			return nil
		}
	}
	return w.syntax()
}

func (w *walker) nested(t reflect.Type, walk func(reflect.Type) error) error {
	if w.depth++; w.depth > maxJSONDepth {
		return w.fail("the body is nested too deeply")
	}
	defer func() { w.depth-- }()
	w.at++ // the bracket
	return walk(t)
}

func (w *walker) object(t reflect.Type) error {
	fields := fieldsOf(t)
	seen := make(map[string]bool)
	if w.peek() == '}' {
		w.at++
		return nil
	}
	for {
		if w.peek() != '"' {
			return w.syntax()
		}
		name, err := w.text()
		if err != nil {
			return err
		}
		w.path = append(w.path, name)
		if err := w.member(t, fields, seen, name); err != nil {
			return err
		}
		w.path = w.path[:len(w.path)-1]
		switch w.peek() {
		case ',':
			w.at++
		case '}':
			w.at++
			return nil
		default:
			return w.syntax()
		}
	}
}

// member checks the name that was just read, and its value.
func (w *walker) member(t reflect.Type, fields map[string]reflect.Type, seen map[string]bool, name string) error {
	if w.members++; w.members > maxJSONMembers {
		return w.fail("the body has too many members")
	}
	if len(name) > maxJSONName {
		w.path = w.path[:len(w.path)-1] // an answer must not grow with the question
		return w.fail("the name of a member is too long")
	}
	folded := strings.ToLower(name)
	if seen[folded] {
		return w.fail("the member comes twice")
	}
	seen[folded] = true
	child := elementOf(t, reflect.Map)
	if fields != nil {
		var known bool
		if child, known = fields[name]; !known {
			return w.fail("there is no such member here; names are exact, letter case too")
		}
	}
	if w.peek() != ':' {
		return w.syntax()
	}
	w.at++
	return w.value(child)
}

func (w *walker) array(t reflect.Type) error {
	child := elementOf(t, reflect.Slice, reflect.Array)
	if w.peek() == ']' {
		w.at++
		return nil
	}
	for i := 0; ; i++ {
		w.path = append(w.path, "["+strconv.Itoa(i)+"]")
		if err := w.value(child); err != nil {
			return err
		}
		w.path = w.path[:len(w.path)-1]
		switch w.peek() {
		case ',':
			w.at++
		case ']':
			w.at++
			return nil
		default:
			return w.syntax()
		}
	}
}

// text reads a string that starts here and gives it decoded.
func (w *walker) text() (string, error) {
	w.at++ // the quote
	var out []byte
	for w.at < len(w.in) {
		b := w.in[w.at]
		switch {
		case b == '"':
			w.at++
			return string(out), nil
		case b < ' ':
			return "", w.fail("a control character in a string must be escaped")
		case b != '\\':
			out = append(out, b)
			w.at++
			continue
		}
		r, err := w.escape()
		if err != nil {
			return "", err
		}
		out = utf8.AppendRune(out, r)
	}
	return "", w.syntax()
}

// escape reads one escape, a surrogate pair as one.
func (w *walker) escape() (rune, error) {
	if w.at+1 >= len(w.in) {
		return 0, w.syntax()
	}
	b := w.in[w.at+1]
	if b != 'u' {
		i := strings.IndexByte(`"\/bfnrt`, b)
		if i < 0 {
			return 0, w.syntax()
		}
		w.at += 2
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	r, ok := w.unit()
	if !ok {
		return 0, w.syntax()
	}
	if r == 0 {
		return 0, w.fail("a string holds a NUL")
	}
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if bytes.HasPrefix(w.in[w.at:], []byte(`\u`)) {
		if low, ok := w.unit(); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return pair, nil
			}
		}
	}
	return 0, w.fail("a string holds half of a surrogate pair")
}

// unit reads one \uXXXX.
func (w *walker) unit() (rune, bool) {
	if w.at+6 > len(w.in) {
		return 0, false
	}
	var r rune
	for _, b := range w.in[w.at+2 : w.at+6] {
		if !hexByte(b) {
			return 0, false
		}
		r = r<<4 | rune(unhex(b))
	}
	w.at += 6
	return r, true
}

// number reads a number of RFC 8259 §6 and checks that no reader can misread it.
func (w *walker) number() error {
	start := w.at
	if w.in[w.at] == '-' {
		w.at++
	}
	digits := w.at
	if w.digits() == 0 || w.in[digits] == '0' && w.at-digits > 1 {
		return w.syntax()
	}
	whole := true
	if w.at < len(w.in) && w.in[w.at] == '.' {
		w.at++
		whole = false
		if w.digits() == 0 {
			return w.syntax()
		}
	}
	if w.at < len(w.in) && w.in[w.at]|0x20 == 'e' {
		w.at++
		whole = false
		if w.at < len(w.in) && (w.in[w.at] == '+' || w.in[w.at] == '-') {
			w.at++
		}
		if w.digits() == 0 {
			return w.syntax()
		}
	}
	text := string(w.in[start:w.at])
	if whole {
		const safe = 1<<53 - 1 // RFC 7493 §2.2
		if n, err := strconv.ParseInt(text, 10, 64); err != nil || n > safe || n < -safe {
			return w.fail("the number is too large to be exact; send it as a string or a smaller one")
		}
		return nil
	}
	if f, err := strconv.ParseFloat(text, 64); err != nil || math.IsInf(f, 0) {
		return w.fail("the number is too large")
	}
	return nil
}

func (w *walker) digits() int {
	start := w.at
	for w.at < len(w.in) && w.in[w.at] >= '0' && w.in[w.at] <= '9' {
		w.at++
	}
	return w.at - start
}
