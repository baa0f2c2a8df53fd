package e2e

import (
	"slices"
	"strings"
	"testing"
)

// metricNames are the names of series that a PromQL expression reads, in their
// order. It knows the language well enough to tell them from functions, keywords,
// labels, durations and texts; what it can't read it leaves to promtool.
func metricNames(expr string) []string {
	var names []string
	labels := false // the next parenthesis holds labels
	for i := 0; i < len(expr); {
		c := expr[i]
		switch {
		case c == '"' || c == '\'' || c == '`':
			i = afterText(expr, i)
		case c == '{':
			i = after(expr, i, '}')
		case c == '[':
			i = after(expr, i, ']')
		case c == '(' && labels:
			i, labels = after(expr, i, ')'), false
		case c == '#':
			i = after(expr, i, '\n')
		case c >= '0' && c <= '9': // a number or a duration
			for i < len(expr) && (wordByte(expr[i]) || expr[i] == '.') {
				i++
			}
		case wordByte(c):
			begin := i
			for i < len(expr) && wordByte(expr[i]) {
				i++
			}
			word := expr[begin:i]
			called := strings.HasPrefix(strings.TrimLeft(expr[i:], " \n\t"), "(")
			switch strings.ToLower(word) {
			case "by", "without", "on", "ignoring", "group_left", "group_right":
				labels = called
			case "and", "or", "unless", "offset", "bool", "inf", "nan", "atan2", "start", "end":
			default:
				if !called && !aggregates(word, expr[i:]) {
					names = append(names, word)
				}
			}
		default:
			i++
		}
	}
	return names
}

// aggregates tells an operator whose labels stand before what it reads: sum by (a) (b).
func aggregates(word, rest string) bool {
	next, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	next, _, _ = strings.Cut(strings.ToLower(next), "(")
	return (next == "by" || next == "without") && !strings.ContainsAny(word, "_:")
}

func wordByte(c byte) bool {
	return c == '_' || c == ':' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// after is the place behind the next closing byte, which no text hides.
func after(expr string, i int, closing byte) int {
	for i++; i < len(expr); {
		switch expr[i] {
		case '"', '\'', '`':
			i = afterText(expr, i)
		case closing:
			return i + 1
		default:
			i++
		}
	}
	return i
}

func afterText(expr string, i int) int {
	quote := expr[i]
	for i++; i < len(expr); i++ {
		if expr[i] == '\\' && quote != '`' {
			i++
		} else if expr[i] == quote {
			return i + 1
		}
	}
	return len(expr)
}

func TestMetricNames(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, expr, want string }{
		{"a name", "up", "up"},
		{"labels are none", `up{job="a_b", instance=~"x{2}"} == 0`, "up"},
		{"functions and ranges are none", "rate(a_total[5m]) > 0.5e3", "a_total"},
		{"labels of an aggregation in front", "sum by (cluster, le) (rate(b_bucket[5m]))", "b_bucket"},
		{"and behind", "sum(c) without (job) / on(d) group_left(e) f", "c f"},
		{"operators and modifiers", "a and b or c unless d offset 50h", "a b c d"},
		{"recorded names", "cluster:a:sum{x='y'} <= floor(max(b) / 2)", "cluster:a:sum b"},
		{"over lines, with a comment", "a # not b\n  + bool c", "a c"},
		{"capitals", "SUM BY (job) (a) AND Inf", "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := metricNames(tt.expr); !slices.Equal(got, strings.Fields(tt.want)) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzMetricNames(f *testing.F) {
	for _, seed := range []string{`sum by (a) (rate(b{c="d\""}[5m]))`, "a{", "'", "sum by (", "#", "1e", "a:b offset -5m @ end()"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		for _, name := range metricNames(expr) {
			if name == "" || !strings.Contains(expr, name) {
				t.Errorf("%q is no part of %q", name, expr)
			}
		}
	})
}
