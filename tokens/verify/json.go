package verify

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	maxDepth   = 16  // of objects and arrays; deeper nesting has no use in a token
	maxMembers = 128 // of one object; keeps the search for duplicates below a few signatures
)

// scanner reads JSON (RFC 8259) without building anything: strings are slices of
// the text unless they hold escapes. Methods return false after noting why; the
// note never quotes the text.
type scanner struct {
	text  string
	at    int
	depth int
	names []string // members of all open objects, outermost first
	why   string
}

// list is an object or array that is being read.
type list struct {
	base int // where its names begin in scanner.names
	n    int // members or elements so far
}

// fail notes the first reason and returns false.
func (s *scanner) fail(why string) bool {
	if s.why == "" {
		s.why = why
	}
	return false
}

// whole checks that read takes all of a text that is valid UTF-8.
func (s *scanner) whole(read func() bool) bool {
	if !utf8.ValidString(s.text) {
		return s.fail("it is not UTF-8")
	}
	if !read() {
		return s.fail("it is not the JSON object that was expected")
	}
	s.space()
	return s.at == len(s.text) || s.fail("bytes follow the JSON object")
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// peek returns the next byte that is not space, 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.at == len(s.text) {
		return 0
	}
	return s.text[s.at]
}

func (s *scanner) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.at++
	return true
}

func (s *scanner) beginObject() (list, bool) { return s.begin('{', "a JSON object was expected") }
func (s *scanner) beginArray() (list, bool)  { return s.begin('[', "a JSON array was expected") }

func (s *scanner) begin(open byte, want string) (list, bool) {
	if !s.take(open) {
		return list{}, s.fail(want)
	}
	if s.depth == maxDepth {
		return list{}, s.fail("it is nested too deeply")
	}
	s.depth++
	return list{base: len(s.names)}, true
}

// step goes past the comma or the closing byte; more is false at the end.
func (s *scanner) step(l *list, closing byte) (more, ok bool) {
	if s.take(closing) {
		s.depth--
		s.names = s.names[:l.base]
		return false, true
	}
	if l.n > 0 && !s.take(',') {
		return false, s.fail("a comma or a closing bracket is missing")
	}
	l.n++
	return true, true
}

// member reads the next name of an object, up to its value. When more is false the
// object has ended.
func (s *scanner) member(l *list) (name string, more, ok bool) {
	if more, ok = s.step(l, '}'); !ok || !more {
		return "", more, ok
	}
	if l.n > maxMembers {
		return "", false, s.fail("an object has too many members")
	}
	if name, ok = s.str(); !ok {
		return "", false, false
	}
	for _, earlier := range s.names[l.base:] {
		if earlier == name {
			return "", false, s.fail("an object has two members of one name")
		}
	}
	s.names = append(s.names, name)
	if !s.take(':') {
		return "", false, s.fail("a colon is missing")
	}
	return name, true, true
}

// element stands before the next element of an array. When more is false the array
// has ended.
func (s *scanner) element(l *list) (more, ok bool) { return s.step(l, ']') }

// skip reads any value and drops it.
func (s *scanner) skip() bool {
	switch c := s.peek(); {
	case c == '"':
		_, ok := s.str()
		return ok
	case c == '{':
		l, ok := s.beginObject()
		for ; ok; ok = s.skip() {
			_, more, good := s.member(&l)
			if !good || !more {
				return good
			}
		}
		return false
	case c == '[':
		l, ok := s.beginArray()
		for ; ok; ok = s.skip() {
			more, good := s.element(&l)
			if !good || !more {
				return good
			}
		}
		return false
	case c == '-' || '0' <= c && c <= '9':
		_, ok := s.number()
		return ok
	}
	for _, word := range [...]string{"true", "false", "null"} {
		if strings.HasPrefix(s.text[s.at:], word) {
			s.at += len(word)
			return true
		}
	}
	return s.fail("a JSON value was expected")
}

// str reads a string. It allocates only for one with escapes.
func (s *scanner) str() (string, bool) {
	if !s.take('"') {
		return "", s.fail("a string was expected")
	}
	for start := s.at; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return s.text[start : s.at-1], true
		case c == '\\':
			return s.unescape(start)
		case c < 0x20:
			return "", s.fail("a string holds a control character")
		}
	}
	return "", s.fail("a string does not end")
}

// unescape reads the rest of a string that began at start and has its first
// backslash here.
func (s *scanner) unescape(start int) (string, bool) {
	out := []byte(s.text[start:s.at])
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		switch {
		case c == '"':
			return string(out), true
		case c < 0x20:
			return "", s.fail("a string holds a control character")
		case c != '\\':
			out = append(out, c)
			continue
		}
		r, ok := s.escape()
		if !ok {
			return "", s.fail("a string holds a bad escape")
		}
		out = utf8.AppendRune(out, r)
	}
	return "", s.fail("a string does not end")
}

// escape reads what follows a backslash. Half a surrogate pair is refused: decoders
// that replace it would make one text of many.
func (s *scanner) escape() (rune, bool) {
	if s.at == len(s.text) {
		return 0, false
	}
	c := s.text[s.at]
	s.at++
	if c != 'u' {
		const from, to = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
		i := strings.IndexByte(from, c)
		if i < 0 {
			return 0, false
		}
		return rune(to[i]), true
	}
	high, ok := s.hex4()
	if !ok || !utf16.IsSurrogate(high) {
		return high, ok
	}
	if !strings.HasPrefix(s.text[s.at:], `\u`) {
		return 0, false
	}
	s.at += 2
	low, ok := s.hex4()
	r := utf16.DecodeRune(high, low)
	return r, ok && r != utf8.RuneError
}

func (s *scanner) hex4() (r rune, ok bool) {
	if len(s.text)-s.at < 4 {
		return 0, false
	}
	for _, c := range []byte(s.text[s.at : s.at+4]) {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	s.at += 4
	return r, true
}

// number reads a number that a float64 can hold and returns its text.
func (s *scanner) number() (string, bool) {
	s.space()
	start := s.at
	if s.at < len(s.text) && s.text[s.at] == '-' {
		s.at++
	}
	whole := s.digits()
	ok := whole == 1 || whole > 1 && s.text[s.at-whole] != '0'
	if ok && s.at < len(s.text) && s.text[s.at] == '.' {
		s.at++
		ok = s.digits() > 0
	}
	if ok && s.at < len(s.text) && s.text[s.at]|0x20 == 'e' {
		s.at++
		if s.at < len(s.text) && (s.text[s.at] == '+' || s.text[s.at] == '-') {
			s.at++
		}
		ok = s.digits() > 0
	}
	n := s.text[start:s.at]
	if !ok {
		return "", s.fail("a number is badly written")
	}
	if len(n) > 15 || strings.ContainsAny(n, "eE") { // shorter ones always fit
		if f, err := strconv.ParseFloat(n, 64); err != nil || math.IsInf(f, 0) || len(n) > 64 {
			return "", s.fail("a number is out of range")
		}
	}
	return n, true
}

func (s *scanner) digits() int {
	start := s.at
	for s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at - start
}

// plain reads a string without control characters: an id, a name or a URI.
func (s *scanner) plain(to *string) (ok bool) {
	if *to, ok = s.str(); !ok {
		return false
	}
	for i := range len(*to) {
		if c := (*to)[i]; c < 0x20 || c == 0x7f {
			return s.fail("a registered member holds a control character")
		}
	}
	return true
}

// nonEmpty reads a plain string of at least one byte.
func (s *scanner) nonEmpty(to *string) bool {
	return s.plain(to) && (*to != "" || s.fail("a registered member is empty"))
}

// own reads one of our private members. Another issuer may use the name for
// anything else, so a value that is not a plain string counts as none.
func (s *scanner) own(to *string) bool {
	if s.peek() != '"' {
		return s.skip()
	}
	return s.plain(to)
}
