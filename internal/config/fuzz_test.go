package config

import (
	"errors"
	"strings"
	"testing"
)

// FuzzYAML feeds the file parser: no panic, every error on one line with the
// file's name, and what is accepted is accepted by the setting's own parser too.
func FuzzYAML(f *testing.F) {
	for _, seed := range []string{
		Example(), GatewayExample(), "", "#", "---\n", "null", "a: b\n", "dev: true\ndev: true\n", "raft: {a: [b, {c: d}]}",
		"a: &a [*a]\n", "<<: {dev: true}\n", "? [a]\n: b\n", "join_token: {a: b}\n", "- - -\n", "\xff\xfe", "a: !!float x\n", "dev: yes\n--- \ndev: no\n",
		"outbound_allow: [a, ~]\n", "staleness_bound: 1e9\n", "\"\\x00\": 1\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s := serverSchema()
		values, errs := parseYAML("f.yaml", text, s)
		for _, e := range errs {
			if line := e.Error(); !strings.HasPrefix(line, "f.yaml") || strings.ContainsAny(line, "\n\r\x1b") {
				t.Errorf("error %q", line)
			}
		}
		for _, st := range s.settings {
			v, ok := values[st.Key]
			if !ok || st.Type == "secret" || st.Type == "list" {
				continue
			}
			if _, err := st.parse(format(v.value)); err != nil {
				t.Errorf("%s: %q was read and can't be read again: %v", st.Key, format(v.value), err)
			}
		}
	})
}

// FuzzUnits: what is read is written so that it reads the same.
func FuzzUnits(f *testing.F) {
	for _, seed := range []string{"64KiB", "1.5h", "10m", "5", "", "1 GiB", "999999999999999999TiB", "-0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if b, err := ParseBytes(text); err == nil {
			if again, err := ParseBytes(b.String()); err != nil || again != b {
				t.Errorf("%q is %d, then %d, %v", text, b, again, err)
			}
		}
		if d, err := ParseDuration(text); err == nil {
			if again, err := ParseDuration(formatDuration(d)); err != nil || again != d {
				t.Errorf("%q is %v, then %v, %v", text, d, again, err)
			}
		}
	})
}

// TestProblemsHideSecrets: whatever is wrong with a secret, its text is not told.
func TestProblemsHideSecrets(t *testing.T) {
	t.Parallel()
	refused := errors.New("is too short; make a new one")
	problem, fix := quoteProblem(setting{Field: Field{Type: "secret"}}, "hunter2", refused)
	if problem != "is too short" || fix != "make a new one" {
		t.Errorf("problem %q, fix %q", problem, fix)
	}
	if problem, _ = quoteProblem(setting{Field: Field{Type: "string"}}, "hunter2", refused); problem != `"hunter2" is too short` {
		t.Errorf("problem %q of what is no secret", problem)
	}
}
