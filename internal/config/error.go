package config

import (
	"fmt"
	"strings"
)

// Error is one mistake in the configuration, as one line: where it stands, the
// key, what is wrong and what to write instead. It never holds a secret. The
// command line answers it with exit code 2.
type Error struct {
	Where   string // "keyraft.yaml:12", "environment KEYRAFT_ISSUER", "flag --issuer"; empty for a default
	Key     string // "raft.heartbeat_timeout"; empty when the file can't be read at all
	Problem string
	Fix     string

	beside []string // other keys of the rule: where Key has only its default, the first of these that was set tells the place
}

// NewError makes an Error for what only shows at start, such as a file that a
// setting names and that is not there. Pass it through Settings.Locate to add
// where the setting was made.
func NewError(key, problem, fix string) *Error {
	return &Error{Key: key, Problem: problem, Fix: fix}
}

// Error is the one line.
func (e *Error) Error() string {
	var b strings.Builder
	for _, part := range []string{e.Where, e.Key} {
		if part != "" {
			b.WriteString(part + ": ")
		}
	}
	b.WriteString(e.Problem)
	if e.Fix != "" {
		b.WriteString("; " + e.Fix)
	}
	return b.String()
}

// Errors are all mistakes of one configuration, in the order of the file.
type Errors []*Error

// Error shows the first mistake and names the keys of the others.
func (e Errors) Error() string {
	switch len(e) {
	case 0:
		return "no error"
	case 1:
		return e[0].Error()
	}
	const most = 5
	var keys []string
	for _, one := range e[1:] {
		if len(keys) == most {
			keys = append(keys, "…")
			break
		}
		keys = append(keys, one.Key)
	}
	return fmt.Sprintf("%v (also wrong: %s; 'keyraft config check' tells all)", e[0], strings.Join(keys, ", "))
}

// Unwrap gives errors.As each mistake.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

// nearest returns the candidate closest to word, or "" when none is close
// enough to be a slip of the finger.
func nearest(word string, candidates []string) string {
	if len(word) > 80 { // no key is; keeps a hostile file from costing time
		return ""
	}
	best, limit := "", max(2, len(word)/3)+1
	for _, c := range candidates {
		if d := distance(word, c); d < limit {
			best, limit = c, d
		}
	}
	return best
}

// distance is the Levenshtein distance between two keys, bytewise.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
