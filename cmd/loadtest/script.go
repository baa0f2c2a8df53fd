package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// script is one of the folder, with the parameters of a short run. A parameter that
// is set in the environment wins.
type script struct {
	name  string
	short map[string]string
}

// scripts are all, in the order in which they run. Together about a minute.
func scripts() []script {
	return []script{
		{"client-credentials-jwt", map[string]string{"DURATION": "6s", "RATE": "100", "VUS": "10"}},
		{"client-credentials-opaque", map[string]string{"DURATION": "6s", "RATE": "50", "VUS": "10"}},
		{"login", map[string]string{"DURATION": "6s", "RATE": "4", "VUS": "10", "USERS": "4"}},
		{"introspection", map[string]string{"DURATION": "6s", "RATE": "100", "VUS": "10", "TOKENS": "5"}},
		{"gateways", map[string]string{"DURATION": "6s", "RATE": "3", "VUS": "5", "GATEWAYS": "30", "WAIT": "5s"}},
		{"mixed-day", map[string]string{"DURATION": "12s", "RATE": "60", "VUS": "5", "GATEWAYS": "5", "TOKENS": "5"}},
		{"spike", map[string]string{"DURATION": "9s", "RATE": "20", "SPIKE": "5", "VUS": "10", "TOKENS": "5"}},
		{"soak", map[string]string{"DURATION": "6s", "RATE": "40", "VUS": "10", "GATEWAYS": "5", "TOKENS": "5"}},
	}
}

func names() (out []string) {
	for _, s := range scripts() {
		out = append(out, s.name)
	}
	return out
}

// outcome is how a run of k6 ended.
type outcome string

const (
	held        outcome = "held"        // every threshold
	crossed     outcome = "crossed"     // a threshold does not hold
	refused     outcome = "refused"     // no server, or no good credential
	interrupted outcome = "interrupted" // by a signal
	broken      outcome = "broken"      // the script or k6 itself
)

// outcomeOf reads k6's exit code (its errext/exitcodes).
func outcomeOf(code int) outcome {
	switch code {
	case 0:
		return held
	case 99: // ThresholdsHaveFailed
		return crossed
	case 108: // ScriptAborted: loadtest/lib/keyraft.js calls test.abort for this alone
		return refused
	case 105: // ExternalAbort
		return interrupted
	}
	return broken
}

// settle bounds what k6 does after a signal: teardown and summary.
const settle = 30 * time.Second

// k6Run runs one script and reads what it left.
func (o *options) k6Run(ctx context.Context, s script, nodes *proc.Cluster) *result {
	files := filepath.Join(nodes.Dir, "k6", s.name)
	summary, record := files+".json", files+".ndjson"
	k6, err := proc.Start(proc.Spec{
		Bin:  o.k6,
		Args: []string{"run", "--quiet", "--no-color", "--log-format", "json", "--address", "", o.file(s)},
		Env:  append(o.environment(s, nodes), "SUMMARY="+summary, "K6_WEB_DASHBOARD_RECORD="+record),
		Log:  files + ".log",
	})
	if err != nil {
		return &result{Name: s.name, Title: s.name, Outcome: broken, Reason: err.Error(), Partial: true}
	}
	select {
	case <-k6.Ended():
	case <-ctx.Done():
		_ = k6.Signal(syscall.SIGINT) // it may have ended just now
	}
	code, err := k6.Wait(settle)
	if err != nil {
		k6.Kill()
		code = -1
	}
	if ctx.Err() != nil && outcomeOf(code) == broken {
		code = 105 // a signal so early that k6 did not take it for one yet
	}
	return collect(s.name, code, files)
}

// environment is what k6 gets besides this process's own. It calls nobody but the
// nodes: no usage report, no extension that it would have to download.
func (o *options) environment(s script, nodes *proc.Cluster) []string {
	env := []string{
		"K6_NO_USAGE_REPORT=true", "K6_AUTO_EXTENSION_RESOLUTION=false",
		"K6_WEB_DASHBOARD=true", "K6_WEB_DASHBOARD_PORT=-1", "K6_WEB_DASHBOARD_PERIOD=1s", "K6_WEB_DASHBOARD_OPEN=false",
	}
	for name, value := range s.short {
		if os.Getenv(name) == "" {
			env = append(env, name+"="+value)
		}
	}
	if o.addr != "" {
		return append(env, "KEYRAFT_ADDR="+o.addr)
	}
	var urls []string
	for _, n := range nodes.Nodes {
		urls = append(urls, n.Base)
	}
	return append(env, "KEYRAFT_ADDR="+strings.Join(urls, ","), "KEYRAFT_TOKEN="+nodes.Admin)
}

// collect makes a result of k6's exit code and the files that it wrote.
func collect(name string, code int, files string) *result {
	r := &result{Name: name, Title: name, Outcome: outcomeOf(code)}
	text, _ := os.ReadFile(files + ".log.out") // none: it printed nothing
	r.text = string(text)
	log, _ := os.ReadFile(files + ".log")
	said := readLog(log)
	r.Warnings = said.warnings
	raw, err := os.ReadFile(files + ".json")
	if err == nil {
		err = r.parse(raw)
	}
	if err != nil { // k6 ended before there was anything to sum up
		r.Partial = true
		if r.Outcome == held || r.Outcome == crossed {
			r.Outcome = broken
			said.reason = fmt.Sprintf("k6 left no summary: %v", err)
		}
	}
	if record, err := os.ReadFile(files + ".ndjson"); err == nil {
		r.Series = readSeries(record)
	}
	r.Partial = r.Partial || r.Outcome == refused || r.Outcome == interrupted || r.Outcome == broken
	switch r.Outcome {
	case held:
	case crossed:
		r.Reason = "does not hold: " + strings.Join(r.failing(), "; ")
	default:
		r.Reason = said.reason
		if r.Reason == "" {
			r.Reason = fmt.Sprintf("k6 ended with exit code %d and did not say why; its log is %s", code, files+".log")
		}
	}
	return r
}

// said is what k6 logged.
type said struct {
	reason   string   // of the end
	warnings []string // the first few
}

// position is where a script was when it ended the run; nobody wants to read it.
var position = regexp.MustCompile(` at (\S+ \()?file://.*$`)

// maxWarnings is how many are kept: each virtual user may write three.
const maxWarnings = 20

// readLog reads k6's log, one JSON document a line. Lines that are none are passed over.
func readLog(log []byte) (s said) {
	lines := bufio.NewScanner(strings.NewReader(string(log)))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct{ Level, Msg, Source string }
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		msg := strings.TrimSpace(line.Msg)
		if _, ours, ok := strings.Cut(msg, "test aborted: keyraft: "); ok {
			s.reason = position.ReplaceAllString(strings.SplitN(ours, "\n", 2)[0], "")
			continue
		}
		switch {
		case line.Source == "console" && len(s.warnings) < maxWarnings:
			s.warnings = append(s.warnings, msg)
		case line.Level == "error" && s.reason == "":
			s.reason = position.ReplaceAllString(strings.SplitN(msg, "\n", 2)[0], "")
		}
	}
	return s
}
