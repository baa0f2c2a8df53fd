package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// report is the whole run: the page and the JSON file are made of it.
type report struct {
	Begun    time.Time `json:"begun"`
	Machine  string    `json:"machine"`
	Keyraft  string    `json:"keyraft"`
	K6       string    `json:"k6"`
	Target   string    `json:"target"`
	Partial  bool      `json:"partial"`
	Reason   string    `json:"reason,omitempty"` // why it is partial
	Checksum string    `json:"checksum,omitempty"`
	Index    uint64    `json:"applied_index,omitempty"`
	Scripts  []*result `json:"scripts"`
}

//go:embed report.html
var page string

func newReport(o *options) *report {
	r := &report{
		Begun: time.Now().UTC().Truncate(time.Second), Machine: machine(),
		Keyraft: version(o.bin), K6: version(o.k6), Target: "three nodes on this machine, one disk, started with --dev", Scripts: []*result{},
	}
	if o.addr != "" {
		r.Keyraft, r.Target = "", o.addr
	}
	return r
}

// version is the first line of what a program says of itself.
func version(program string) string {
	path, err := filepath.Abs(program)
	if err != nil {
		return ""
	}
	out, err := exec.Command(path, "version").Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

// machine names the hardware, as far as the system tells.
func machine() string {
	name := runtime.GOARCH
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(info), "model name"); ok {
			line, _, _ := strings.Cut(rest, "\n")
			name = strings.TrimSpace(strings.TrimLeft(line, "\t :"))
		}
	}
	return fmt.Sprintf("%s, %d logical cores, %s; nodes and k6 share it", name, runtime.NumCPU(), runtime.GOOS)
}

// write makes both files.
func (r *report) write(o *options) error {
	figures, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	view, err := r.render()
	if err != nil {
		return err
	}
	return errors.Join(save(o.json, append(figures, '\n')), save(o.html, view))
}

func save(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

// render makes the page. It needs nothing from anywhere else: style and plots are in
// it.
func (r *report) render() ([]byte, error) {
	t, err := template.New("report").Funcs(template.FuncMap{
		"ms": ms, "rate": rate, "percent": percent, "kinds": sorted[uint64],
		"rates": func(s series) template.HTML { return line("requests a second", s.Seconds, s.PerSecond, rate) },
		"p95s":  func(s series) template.HTML { return line("p95 of answers, ms", s.Seconds, s.P95, ms) },
		"tails": tails,
		"rule":  func(t threshold) string { return t.Metric + " " + t.Rule },
		"value": value,
	}).Parse(page)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, r)
	return out.Bytes(), err
}

// Held counts the thresholds that hold.
func (r *result) Held() (n int) {
	for _, t := range r.Thresholds {
		if t.OK {
			n++
		}
	}
	return n
}

// Wrong counts the answers that were not true.
func (r *result) Wrong() (n uint64) {
	for _, c := range r.Checks {
		n += c.Fails
	}
	return n
}

// Checked counts the answers that were looked at.
func (r *result) Checked() (n uint64) {
	for _, c := range r.Checks {
		n += c.Fails + c.Passes
	}
	return n
}

// ms writes milliseconds with three figures at most.
func ms(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// rate writes requests a second.
func rate(v float64) string {
	if v > 0 && v < 10 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func percent(v float64) string {
	if v == 0 {
		return "0"
	}
	return fmt.Sprintf("%.2f %%", 100*v)
}

// value shows a figure: a gauge, a count, or the percentiles of a time.
func value(f figure) string {
	if v, ok := f.Values["p99"]; ok {
		return fmt.Sprintf("p50 %s · p95 %s · p99 %s · max %s", ms(f.Values["p50"]), ms(f.Values["p95"]), ms(v), ms(f.Values["max"]))
	}
	if v, ok := f.Values["count"]; ok {
		return fmt.Sprintf("%.0f", v)
	}
	return ms(f.Values["value"])
}
