package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestOutcomeOfExitCode(t *testing.T) {
	tests := []struct {
		name string
		code int
		want outcome
	}{
		{"all thresholds hold", 0, held},
		{"a threshold was crossed", 99, crossed},
		{"the script ended the run: no server or no good credential", 108, refused},
		{"a signal ended it", 105, interrupted},
		{"a broken option", 104, broken},
		{"an exception in the script", 107, broken},
		{"setup took too long", 100, broken},
		{"a panic of k6", 109, broken},
		{"killed", -1, broken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := outcomeOf(tt.code); got != tt.want {
				t.Errorf("exit code %d is %q, want %q", tt.code, got, tt.want)
			}
		})
	}
}

func TestReadLog(t *testing.T) {
	tests := []struct {
		name, log, reason string
		warnings          int
	}{
		{name: "nothing was said"},
		{
			name:   "the script's own line is the reason, without its position",
			log:    `{"level":"error","msg":"test aborted: keyraft: no node answers at default (file:///x/lib/keyraft.js:5:56(9))"}`,
			reason: "no node answers",
		},
		{
			name:   "before the run has begun",
			log:    `{"level":"error","msg":"could not initialize 'a.js': could not load JS test 'file:///a.js': test aborted: keyraft: RATE=x must be a number at file:///a.js:2:31(27)"}`,
			reason: "RATE=x must be a number",
		},
		{
			name:   "it wins over what was said before and after",
			log:    "{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"test aborted: keyraft: mine\"}\n{\"level\":\"error\",\"msg\":\"thresholds were crossed\"}",
			reason: "mine",
		},
		{
			name:   "an exception is cut to its first line",
			log:    `{"level":"error","msg":"TypeError: x is undefined\n\tat default (file:///a.js:1:1(1))\n"}`,
			reason: "TypeError: x is undefined",
		},
		{
			name: "warnings of the script are kept, lines that are no JSON are passed over",
			log:  "hello\n{\"level\":\"warning\",\"msg\":\"jwt at n1: 503\",\"source\":\"console\"}\n{\"level\":\"error\",\"msg\":\"could not remove x\",\"source\":\"console\"}\n{", warnings: 2,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := readLog([]byte(tt.log))
			if got.reason != tt.reason {
				t.Errorf("reason %q, want %q", got.reason, tt.reason)
			}
			if len(got.warnings) != tt.warnings {
				t.Errorf("warnings %q, want %d", got.warnings, tt.warnings)
			}
		})
	}
}

// files are what k6 wrote for a run of spike.js that held.
const files = "testdata/spike"

func TestCollectReadsWhatK6Wrote(t *testing.T) {
	r := collect("spike", 0, files)
	if r.Outcome != held || r.Partial || r.Reason != "" {
		t.Fatalf("outcome %q, partial %t, reason %q", r.Outcome, r.Partial, r.Reason)
	}
	var names []string
	for _, row := range r.Rows {
		names = append(names, row.Name)
		if row.Count == 0 || row.PerSecond <= 0 || row.Percentiles["p50"] <= 0 || row.Percentiles["max"] < row.Percentiles["p99"] {
			t.Errorf("row without figures: %+v", row)
		}
	}
	if want := []string{"fill", "introspect", "jwt", "before", "spike", "after"}; !slices.Equal(names, want) {
		t.Errorf("rows %q, want %q", names, want)
	}
	if before, spike := r.Rows[3], r.Rows[4]; before.PerSecond < 20 || before.PerSecond > 30 || spike.PerSecond < 100 {
		t.Errorf("a phase's rate is over its own time: before %.1f, spike %.1f", before.PerSecond, spike.PerSecond)
	}
	if r.Checked() != 427 || r.Wrong() != 0 || r.Held() != len(r.Thresholds) || r.Held() != 10 {
		t.Errorf("checked %d, wrong %d, %d of %d thresholds", r.Checked(), r.Wrong(), r.Held(), len(r.Thresholds))
	}
	if n := len(r.Series.Seconds); n < 8 || len(r.Series.P95) != n || slices.Max(r.Series.PerSecond) < 100 || slices.Max(r.Series.P95) <= 0 {
		t.Errorf("the series is %+v", r.Series)
	}
}

func TestCollectOfRunsThatFailed(t *testing.T) {
	t.Run("thresholds and wrong answers are named", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "spike")
		text := `{"name":"spike","title":"A spike","planned_s":9,"ran_s":9,"metrics":{"checks":{"type":"rate","values":{"rate":0.5},"thresholds":{"rate>=1":{"ok":false}}},
			"keyraft_error_unavailable":{"type":"counter","values":{"count":7}},"dropped_iterations":{"type":"counter","values":{"count":3}}},
			"root_group":{"checks":[{"name":"a revoked token is not active","passes":1,"fails":2}]}}`
		write(t, dir+".json", text)
		r := collect("spike", 99, dir)
		if r.Outcome != crossed || r.Partial || !strings.Contains(r.Reason, "checks rate>=1") || !strings.Contains(r.Reason, "2 of 3 times not true: a revoked token is not active") {
			t.Errorf("outcome %q, partial %t, reason %q", r.Outcome, r.Partial, r.Reason)
		}
		if r.Errors["unavailable"] != 7 || r.Dropped != 3 {
			t.Errorf("errors %v, dropped %d", r.Errors, r.Dropped)
		}
	})
	t.Run("a good exit code without a summary is no success", func(t *testing.T) {
		if r := collect("spike", 0, filepath.Join(t.TempDir(), "none")); r.Outcome != broken || !r.Partial || r.Reason == "" {
			t.Errorf("outcome %q, partial %t, reason %q", r.Outcome, r.Partial, r.Reason)
		}
	})
	t.Run("the summary of another script is none", func(t *testing.T) {
		if r := collect("soak", 0, files); r.Outcome != broken || !r.Partial {
			t.Errorf("outcome %q, partial %t", r.Outcome, r.Partial)
		}
	})
	t.Run("a run that was ended keeps its figures and is partial", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "spike")
		raw, err := os.ReadFile(files + ".json")
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir+".json", string(raw))
		write(t, dir+".log", `{"level":"error","msg":"test aborted: keyraft: no node answers any more"}`)
		r := collect("spike", 108, dir)
		if r.Outcome != refused || !r.Partial || r.Reason != "no node answers any more" || len(r.Rows) != 6 {
			t.Errorf("outcome %q, partial %t, reason %q, %d rows", r.Outcome, r.Partial, r.Reason, len(r.Rows))
		}
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// outside is what a page could load something with.
var outside = regexp.MustCompile(`(?i)<[^>]*\s(src|href)\s*=|@import|url\(|<script|<link|<iframe`)

func TestPageStandsAloneAndTrustsNobody(t *testing.T) {
	r := collect("spike", 0, files)
	r.Warnings = []string{`<script src="//evil.example">`}
	r.Rows[0].Name = `"/><script>x</script>`
	r.Reason = "<img onerror=x>"
	r.Errors = map[string]uint64{"timeout": 3, "unavailable": 12}
	whole := &report{Target: "<b>", Partial: true, Reason: "no node answers", Scripts: []*result{r, {Name: "soak", Title: "Soak", Outcome: broken}}}
	page, err := whole.render()
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	if found := outside.FindString(strings.ReplaceAll(text, `href="#`, "")); found != "" {
		t.Errorf("the page refers to something outside: %q", found)
	}
	for _, want := range []string{"Partial: no node answers", "12 unavailable", "&lt;img onerror=x&gt;", "latency by percentile", "requests a second", "p95 of answers", "A spike"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if n := strings.Count(text, "<svg"); n != 3 || strings.Count(text, "</svg>") != n || strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
		t.Errorf("%d plots, want 3 of numbers", n)
	}
}

func TestPlotsOfLittle(t *testing.T) {
	if got := line("x", nil, nil, rate); got != "" {
		t.Errorf("a plot of nothing: %q", got)
	}
	if got := tails([]row{{Name: "poll", Percentiles: map[string]float64{"p50": 1}}}); got != "" {
		t.Errorf("what waits on purpose has a plot: %q", got)
	}
	one := string(line("x", []float64{1}, []float64{0}, rate))
	if !strings.Contains(one, "<circle") || strings.Contains(one, "NaN") {
		t.Errorf("one point is a dot, got %q", one)
	}
}

func FuzzParseSummary(f *testing.F) {
	raw, err := os.ReadFile(files + ".json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"name":"spike","metrics":{"http_req_duration{op:x}":{"values":null}}}`))
	f.Add([]byte(`{"name":"spike","planned_s":0,"metrics":{"http_req_duration{phase:x}":{},"http_reqs{phase:x}":{"values":{"count":1e300}}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := &result{Name: "spike"}
		if r.parse(raw) != nil {
			return
		}
		whole := &report{Scripts: []*result{r}}
		if _, err := whole.render(); err != nil {
			t.Errorf("what was parsed can't be shown: %v", err)
		}
		if _, err := json.Marshal(whole); err != nil {
			t.Errorf("what was parsed can't be written: %v", err)
		}
	})
}

func FuzzReadSeries(f *testing.F) {
	raw, err := os.ReadFile(files + ".ndjson")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("{\"event\":\"metric\",\"data\":{\"time\":{\"type\":\"gauge\"}}}\n{\"event\":\"snapshot\",\"data\":[[]]}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := readSeries(raw)
		if len(s.Seconds) != len(s.P95) || len(s.Seconds) != len(s.PerSecond) {
			t.Errorf("columns of different lengths: %+v", s)
		}
		line("x", s.Seconds, s.PerSecond, rate)
	})
}

func FuzzReadLog(f *testing.F) {
	f.Add([]byte(`{"level":"error","msg":"test aborted: keyraft: x at file:///a:1"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if got := readLog(raw); strings.Contains(got.reason, "\n") || len(got.warnings) > maxWarnings {
			t.Errorf("reason %q, %d warnings", got.reason, len(got.warnings))
		}
	})
}

func TestUsageErrorsExitWithTwo(t *testing.T) {
	here := t.TempDir()
	write(t, filepath.Join(here, "program"), "")
	program := filepath.Join(here, "program")
	scripts := filepath.Join("..", "..", "loadtest")
	tests := []struct {
		name string
		args []string
		says string
	}{
		{"an argument", []string{"now"}, "takes no argument"},
		{"a flag that is none", []string{"-fast"}, "-fast"},
		{"a script that is none", []string{"-only", "jwt"}, "choose from client-credentials-jwt"},
		{"k6 was not built", []string{"-bin", program, "-k6", filepath.Join(here, "k6")}, "make bin/k6"},
		{"keyraft was not built", []string{"-bin", filepath.Join(here, "keyraft"), "-k6", program}, "make build"},
		{"a folder that holds other things", []string{"-bin", program, "-k6", program, "-scripts", scripts, "-data", here}, "-data"},
		{"the scripts are elsewhere", []string{"-bin", program, "-k6", program, "-scripts", here}, "-scripts"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := run(t.Context(), tt.args, &out, &errs); code != exitUsage || !strings.Contains(errs.String(), tt.says) {
				t.Errorf("exit code %d, said %q, want 2 and %q", code, errs.String(), tt.says)
			}
			if _, err := os.Stat(program); err != nil {
				t.Errorf("it removed what is not its own: %v", err)
			}
		})
	}
}
