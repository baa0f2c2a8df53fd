package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strconv"
	"time"
)

//go:embed report.html
var reportPage string

// Fact is one line of what a report says about how it was made.
type Fact struct{ Name, Value string }

// Report is a run as a page: one file, plots as SVG in it, no script, nothing loaded
// from elsewhere.
type Report struct {
	Title  string
	Facts  []Fact
	Notes  []string // what a reader has to know to understand the figures
	Result *Result
}

// Write writes the page.
func (r Report) Write(w io.Writer) error {
	page, err := template.New("report").Funcs(template.FuncMap{"duration": FormatDuration, "rate": FormatRate}).Parse(reportPage)
	if err != nil {
		return err
	}
	return page.Execute(w, r)
}

// FormatRate shows a rate with as many decimals as it deserves.
func FormatRate(v float64) string {
	if v < 100 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// Failure is how often one operation failed in one way.
type Failure struct {
	Op    string  `json:"operation"`
	Kind  string  `json:"kind"`
	Count uint64  `json:"count"`
	Share float64 `json:"share"` // of all that were to be done, of all operations
}

// Failures lists all failures, the most frequent first.
func (r *Result) Failures() (out []Failure) {
	all := float64(r.OK() + r.Failed())
	for _, o := range r.Ops {
		for kind, n := range o.Errors {
			out = append(out, Failure{o.Name, kind, n, float64(n) / all})
		}
	}
	slices.SortFunc(out, func(a, b Failure) int {
		switch {
		case a.Count != b.Count && a.Count > b.Count:
			return -1
		case a.Count != b.Count:
			return 1
		case a.Op+a.Kind < b.Op+b.Kind:
			return -1
		}
		return 1
	})
	return out
}

// Percent is the share in words.
func (f Failure) Percent() string {
	if f.Share > 0 && f.Share < 0.0001 {
		return "< 0.01 %"
	}
	return strconv.FormatFloat(f.Share*100, 'f', 2, 64) + " %"
}

// Plots are the plots of a report: rate and latency over time, and the latency that a
// share of all operations stays below.
func (r Report) Plots() []template.HTML {
	var at, ok, failed, wanted, p50, p99, top []float64
	for _, p := range r.Result.Points {
		s := p.Length.Seconds()
		at = append(at, p.At.Seconds())
		ok, failed = append(ok, float64(p.OK)/s), append(failed, float64(p.Failed)/s)
		wanted = append(wanted, r.Result.Wanted)
		p50, p99, top = append(p50, us(p.P50)), append(p99, us(p.P99)), append(top, us(p.Max))
	}
	rates := []Line{{"succeeded", at, ok}, {"failed", at, failed}}
	if r.Result.Wanted > 0 {
		rates = append(rates, Line{"wanted", at, wanted})
	}
	shares := Plot{
		Title: "Latency that a share of all operations stays within", X: "share of the operations", Y: "latency", LogX: true, LogY: true,
		FormatX: func(v float64) string { return strconv.FormatFloat(100-100/v, 'f', -1, 64) + " %" }, FormatY: FormatMicroseconds,
	}
	for _, o := range r.Result.Ops {
		shares.Lines = append(shares.Lines, distribution(o.Name, o.Latency))
	}
	plots := []Plot{
		{Title: "Operations a second", X: "seconds", Y: "a second", Lines: rates},
		{Title: "Latency over time", X: "seconds", Y: "latency", LogY: true, FormatY: FormatMicroseconds,
			Lines: []Line{{"p50", at, p50}, {"p99", at, p99}, {"max", at, top}}},
		shares,
	}
	var out []template.HTML
	for _, p := range plots {
		out = append(out, template.HTML(p.SVG())) // every text in it is escaped there
	}
	return out
}

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// distribution has 1/(1-share) as x: each step of ten is one more nine.
func distribution(name string, h *Histogram) Line {
	l := Line{Name: name}
	if h.Count() == 0 {
		return l
	}
	nines := math.Log10(max(10, float64(h.Count())))
	for step := 0.0; step <= nines+1e-9; step += 0.05 {
		x := math.Pow(10, step)
		l.X = append(l.X, x)
		l.Y = append(l.Y, us(h.At(100-100/x)))
	}
	return l
}

// Sizes is the memory and CPU time of the server's process in words, empty when it
// was not read.
func (r Report) Sizes() string {
	u := r.Result.Usage
	if u == nil {
		return ""
	}
	return fmt.Sprintf("%s of CPU time an operation, %.0f MiB resident at the end, %.0f MiB at most", FormatDuration(u.PerOp()), float64(u.RSS)/(1<<20), float64(u.Peak)/(1<<20))
}

// Remarks say what a reader should know of this run, one sentence each: what its
// latencies count, and what in the generator rather than in the server may have
// limited it.
func (r *Result) Remarks(connections int) (out []string) {
	if r.Wanted > 0 {
		out = append(out, "A latency counts from the moment at which the operation was to begin, so it holds the time for which it waited for a free connection.")
	} else {
		out = append(out, fmt.Sprintf("Each of the %d connections asks again as soon as it has its answer, so a slow answer also means fewer questions; give a rate to learn what a latency is under a load that does not wait.", connections))
	}
	out = append(out, "Timeouts and what was never sent count with the time that they had waited. Refusals and broken connections are counted and have no latency.")
	all := float64(r.OK() + r.Failed())
	if r.Wanted > 0 && all > 0 && float64(r.Queued)/all > 0.01 {
		out = append(out, fmt.Sprintf("%.0f %% of the operations were due before one of the %d connections was free. Either the server is at its limit at this rate, or it needs more connections.", 100*float64(r.Queued)/all, connections))
	}
	if r.Unsent > 0 {
		out = append(out, fmt.Sprintf("%d operations were due and could not be sent before the end: this rate is more than was served.", r.Unsent))
	}
	if late := r.Late.At(99); late > time.Millisecond && late > r.All.At(50)/10 {
		out = append(out, fmt.Sprintf("The generator itself began 1 %% of its operations more than %s late: this machine is busy, and the latencies are too long by as much.", FormatDuration(late)))
	}
	return out
}
