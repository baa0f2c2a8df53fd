package grants

import (
	"fmt"
	"regexp"
	"regexp/syntax"
)

const (
	// maxPattern bounds a pattern, in bytes.
	maxPattern = 200
	// maxProgram bounds what a pattern is compiled to, in instructions: a{1000}b{1000}
	// is short and costs much (ADM-11).
	maxProgram = 1000
)

// ScopePattern compiles one of a tenant's scope_patterns: RE2, matched against whole
// scopes. The error says what to write instead.
func ScopePattern(text string) (*regexp.Regexp, error) {
	if text == "" || len(text) > maxPattern {
		return nil, fmt.Errorf("a pattern has 1 to %d bytes", maxPattern)
	}
	if _, err := syntax.Parse(text, syntax.Perl); err != nil { // alone first: "a)|(b" must not become whole by what stands round it
		return nil, fmt.Errorf("it is no RE2 pattern: %w", err)
	}
	tree, err := syntax.Parse(`\A(?:`+text+`)\z`, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("it is no RE2 pattern: %w", err)
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, fmt.Errorf("it is no RE2 pattern: %w", err)
	}
	if len(program.Inst) > maxProgram {
		return nil, fmt.Errorf("it compiles to more than %d steps; write it with fewer repetitions", maxProgram)
	}
	return regexp.Compile(`\A(?:` + text + `)\z`)
}
