package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// result is one script's run, as the report shows it. Times are milliseconds unless
// the name says otherwise.
type result struct {
	Name       string            `json:"name"`
	Title      string            `json:"title"`
	Outcome    outcome           `json:"outcome"`
	Reason     string            `json:"reason,omitempty"`
	Partial    bool              `json:"partial"`
	PlannedS   float64           `json:"planned_s"`
	RanS       float64           `json:"ran_s"`
	Parameters map[string]any    `json:"parameters,omitempty"`
	Rows       []row             `json:"requests"`
	Checks     []checked         `json:"checks"`
	Thresholds []threshold       `json:"thresholds"`
	Figures    []figure          `json:"figures,omitempty"`
	Errors     map[string]uint64 `json:"errors,omitempty"`
	Dropped    uint64            `json:"dropped"` // not sent: every virtual user was waiting
	Warnings   []string          `json:"warnings,omitempty"`
	Series     series            `json:"series"`

	text string // k6's own table
}

// row is one kind of request, or one phase of the run.
type row struct {
	Name        string             `json:"name"`
	Phase       bool               `json:"phase,omitempty"`
	Count       uint64             `json:"count"`
	PerSecond   float64            `json:"per_second"`
	FailedRate  float64            `json:"failed_rate"`
	Percentiles map[string]float64 `json:"ms"` // p50, p75, p90, p95, p99, p99.9, max
}

// checked is one statement about answers.
type checked struct {
	Name   string `json:"name"`
	Passes uint64 `json:"passes"`
	Fails  uint64 `json:"fails"`
}

// threshold is one rule of k6.
type threshold struct {
	Metric string `json:"metric"`
	Rule   string `json:"rule"`
	OK     bool   `json:"ok"`
}

// figure is a metric of ours that is no request.
type figure struct {
	Name   string             `json:"name"`
	Values map[string]float64 `json:"values"`
}

// summary is the file that loadtest/lib/summary.js writes.
type summary struct {
	Name       string             `json:"name"`
	Title      string             `json:"title"`
	Partial    bool               `json:"partial"`
	PlannedS   float64            `json:"planned_s"`
	RanS       float64            `json:"ran_s"`
	Parameters map[string]any     `json:"parameters"`
	Phases     map[string]float64 `json:"phases"` // seconds
	Metrics    map[string]metric  `json:"metrics"`
	RootGroup  struct {
		Checks []checked `json:"checks"`
	} `json:"root_group"`
}

type metric struct {
	Type       string             `json:"type"`
	Values     map[string]float64 `json:"values"`
	Thresholds map[string]struct {
		OK bool `json:"ok"`
	} `json:"thresholds"`
}

// percentiles are those that a row keeps, by k6's name.
func percentiles() []string {
	return []string{"p(50)", "p(75)", "p(90)", "p(95)", "p(99)", "p(99.9)", "max"}
}

// short is k6's name without parentheses.
func short(name string) string { return strings.NewReplacer("(", "", ")", "").Replace(name) }

// parse fills in what k6 measured. It refuses a file that is no summary of a script.
func (r *result) parse(raw []byte) error {
	var s summary
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("read the summary: %w", err)
	}
	if s.Name != r.Name || s.Metrics == nil {
		return errors.New("the summary is of another script, or of none")
	}
	r.Title, r.Partial, r.PlannedS, r.RanS, r.Parameters = s.Title, s.Partial, s.PlannedS, s.RanS, s.Parameters
	r.Checks = s.RootGroup.Checks
	r.Errors = map[string]uint64{}
	for _, name := range sorted(s.Metrics) {
		m := s.Metrics[name]
		for _, rule := range sorted(m.Thresholds) {
			r.Thresholds = append(r.Thresholds, threshold{name, rule, m.Thresholds[rule].OK})
		}
		if tag, ok := strings.CutPrefix(name, "http_req_duration{"); ok {
			r.row(&s, strings.TrimSuffix(tag, "}"), m)
			continue
		}
		if kind, ok := strings.CutPrefix(name, "keyraft_error_"); ok {
			r.Errors[kind] = uint64(m.Values["count"])
		} else if name == "dropped_iterations" {
			r.Dropped = uint64(m.Values["count"])
		} else if strings.HasPrefix(name, "keyraft_") && m.Type != "rate" {
			r.Figures = append(r.Figures, figure{strings.TrimPrefix(name, "keyraft_"), named(m.Values)})
		}
	}
	slices.SortStableFunc(r.Rows, func(a, b row) int { return order(a) - order(b) })
	return nil
}

// order puts requests before phases, and phases into the order of time.
func order(r row) int {
	return 1 + slices.Index([]string{"before", "spike", "after", "first", "middle", "last"}, r.Name)
}

// row adds what one tag of http_req_duration stands for.
func (r *result) row(s *summary, tag string, m metric) {
	kind, name, ok := strings.Cut(tag, ":")
	count := s.Metrics["http_reqs{"+tag+"}"].Values["count"]
	if !ok || count == 0 {
		return
	}
	seconds := s.RanS
	if share := s.Phases[name] / s.PlannedS; kind == "phase" && share > 0 {
		seconds *= share
	}
	out := row{Name: name, Phase: kind == "phase", Count: uint64(count), FailedRate: s.Metrics["http_req_failed{"+tag+"}"].Values["rate"], Percentiles: map[string]float64{}}
	if seconds > 0 {
		out.PerSecond = count / seconds
	}
	for _, p := range percentiles() {
		out.Percentiles[short(p)] = m.Values[p]
	}
	r.Rows = append(r.Rows, out)
}

func named(values map[string]float64) map[string]float64 {
	out := map[string]float64{}
	for name, v := range values {
		out[short(name)] = v
	}
	return out
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// failing are the thresholds that do not hold.
func (r *result) failing() (out []string) {
	for _, t := range r.Thresholds {
		if !t.OK {
			out = append(out, t.Metric+" "+t.Rule)
		}
	}
	for _, c := range r.Checks {
		if c.Fails > 0 {
			out = append(out, fmt.Sprintf("%d of %d times not true: %s", c.Fails, c.Fails+c.Passes, c.Name))
		}
	}
	return out
}

// series is the run over time, one point a second.
type series struct {
	Seconds   []float64 `json:"s,omitempty"`
	PerSecond []float64 `json:"per_second,omitempty"`
	P95       []float64 `json:"p95_ms,omitempty"` // of answers; what waits on purpose is left out
}

// readSeries reads the recording of k6's dashboard: events, one JSON document a line.
// A snapshot holds the values of one second as arrays, in the order of the names of
// all metrics known by then. What can't be read is passed over: the plots are an
// extra, the figures come from the summary.
func readSeries(record []byte) (out series) {
	var names []string
	known := map[string]string{} // type
	columns := map[string][]string{}
	var begun float64
	for line := range bytes.Lines(record) {
		var e struct {
			Event string          `json:"event"`
			Data  json.RawMessage `json:"data"`
		}
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		switch e.Event {
		case "param":
			var p struct {
				Aggregates map[string][]string `json:"aggregates"`
			}
			if json.Unmarshal(e.Data, &p) == nil {
				columns = p.Aggregates
			}
		case "metric":
			var fresh map[string]struct{ Type string }
			if json.Unmarshal(e.Data, &fresh) != nil {
				continue
			}
			for name, m := range fresh {
				known[name] = m.Type
			}
			names = sorted(known)
		case "snapshot":
			var values [][]float64
			if json.Unmarshal(e.Data, &values) != nil || len(values) != len(names) {
				continue
			}
			at := func(name, column string) float64 {
				i, j := slices.Index(names, name), slices.Index(columns[known[name]], column)
				if i < 0 || j < 0 || j >= len(values[i]) {
					return 0
				}
				return values[i][j]
			}
			now := at("time", "value")
			if begun == 0 {
				begun = now - 1000
			}
			out.Seconds = append(out.Seconds, (now-begun)/1000)
			out.PerSecond = append(out.PerSecond, at("http_reqs", "rate"))
			out.P95 = append(out.P95, at("keyraft_answer_ms", "p(95)"))
		}
	}
	return out
}
