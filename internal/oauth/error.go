package oauth

import "strings"

// maxDescription bounds error_description, in bytes: it may quote what a client
// sent (a scope, a grant type), and an answer must not grow with the question.
const maxDescription = 400

// Error is a refusal in the protocol's words. It is immutable: the With methods
// return copies. errors.Is(err, code) holds for its code.
type Error struct {
	code        Code
	description string
	challenge   string
	field       string
	status      int
	retryAfter  int
}

// Error is code and description, for logs.
func (e *Error) Error() string {
	if e.description == "" {
		return string(e.code)
	}
	return string(e.code) + ": " + e.description
}

// Unwrap is the code, so that errors.Is finds it.
func (e *Error) Unwrap() error { return e.code }

// Code is the value of the member "error".
func (e *Error) Code() Code { return e.code }

// Description is the value of the member "error_description"; "" leaves it out.
func (e *Error) Description() string { return e.description }

// Status is the HTTP status of the answer: what WithStatus set, else the code's.
func (e *Error) Status() int {
	if e.status != 0 {
		return e.status
	}
	return e.code.status()
}

// RetryAfter is the value of Retry-After in seconds; 0 leaves the header out.
func (e *Error) RetryAfter() int { return e.retryAfter }

// Challenge is the value of WWW-Authenticate; "" leaves the choice to the edge.
func (e *Error) Challenge() string { return e.challenge }

// Field is the member or parameter that is wrong; "" names none. A problem document
// tells it, RFC 6749's answer has no place for it.
func (e *Error) Field() string { return e.field }

// WithField returns a copy that names a member or parameter, one of ours.
func (e *Error) WithField(name string) *Error {
	c := *e
	c.field = name
	return &c
}

// WithStatus returns a copy that is answered with this HTTP status. A value that
// is no error status is ignored.
func (e *Error) WithStatus(status int) *Error {
	c := *e
	if status >= 400 && status <= 599 {
		c.status = status
	}
	return &c
}

// WithRetryAfter returns a copy that tells the client to come again after so many
// seconds; a negative number counts as 0.
func (e *Error) WithRetryAfter(seconds int) *Error {
	c := *e
	c.retryAfter = max(seconds, 0)
	return &c
}

// WithChallenge returns a copy with this value of WWW-Authenticate, such as
// `DPoP error="use_dpop_nonce"`. Bytes that could split a header are dropped.
func (e *Error) WithChallenge(challenge string) *Error {
	c := *e
	c.challenge = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, challenge)
	return &c
}

// clean keeps the characters that RFC 6749 §5.2 allows in error_description:
// printable ASCII without the double quote and the backslash.
func clean(s string) string {
	if len(s) > maxDescription {
		s = s[:maxDescription]
	}
	for i := range len(s) {
		if b := s[i]; b < ' ' || b > '~' || b == '"' || b == '\\' {
			return cleanSlow(s)
		}
	}
	return s
}

func cleanSlow(s string) string {
	out := make([]byte, 0, len(s))
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			out = append(out, '\'')
		case r < ' ' || r > '~':
			out = append(out, '?')
		default:
			out = append(out, byte(r))
		}
	}
	return string(out)
}
