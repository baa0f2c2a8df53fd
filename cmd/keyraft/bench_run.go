package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/keyraft/keyraft/internal/bench"
)

// run prepares, measures, and shows and writes what was measured.
func (r *benchRun) run(ctx context.Context) error {
	page, err := newPendingFile(r.report)
	if err != nil {
		return err
	}
	defer page.discard()
	if err := r.prepare(ctx); err != nil {
		return err
	}
	begun := time.Now()
	result, err := r.measure(ctx)
	if err != nil {
		return err
	}
	if err := r.show(result, begun); err != nil {
		return err
	}
	if page != nil {
		if err := r.page(result, begun).Write(page.File); err != nil {
			return fmt.Errorf("write %s: %w", r.report, err)
		}
		if err := page.keep(); err != nil {
			return err
		}
	}
	return verdict(ctx, result)
}

// verdict is the exit code: a partial run failed, and one in which nothing succeeded.
func verdict(ctx context.Context, r *bench.Result) error {
	switch {
	case r.Partial != "" && ctx.Err() != nil:
		return ctx.Err()
	case r.Partial != "":
		return errors.New("the run is partial: " + r.Partial + "; look at the server, and run it again")
	case r.OK() == 0:
		return errors.New("nothing succeeded; the errors above say why")
	}
	return nil
}

// measure opens the connections and runs the load, with a line that says how it goes.
func (r *benchRun) measure(ctx context.Context) (*bench.Result, error) {
	pace := r.nodes[0].pace
	pace.delay /= 2
	pr := startProgress(r.io.Err, r.io.Redraw, r.workload+" at "+r.addresses(), 0, pace)
	defer pr.end()
	if r.tokens > 0 {
		pr.say(fmt.Sprintf("%d tokens are issued before the run", r.tokens))
	}
	workers, err := r.target.Workers(ctx, len(r.load.Workers), r.mix, r.tokens)
	if err != nil {
		return nil, misuse(ctx, err)
	}
	pr.say("warming up")
	r.load.Ops, r.load.Workers = bench.Ops(r.issues), workers
	failed := uint64(0)
	r.load.Progress = func(p bench.Point) {
		failed += p.Failed
		wanted := ""
		if r.load.Rate > 0 {
			wanted = " of " + bench.FormatRate(r.load.Rate)
		}
		pr.say(fmt.Sprintf("%s of %s measured, %s/s%s, p50 %s, p99 %s, %d failed", p.At.Round(time.Second), r.load.Duration,
			bench.FormatRate(float64(p.OK)/p.Length.Seconds()), wanted, bench.FormatDuration(p.P50), bench.FormatDuration(p.P99), failed))
	}
	return bench.Run(ctx, r.load)
}

// benchOp is a line of the table.
type benchOp struct {
	Op     string `json:"operation"`
	OK     string `json:"ok"`
	Rate   string `json:"rate"`
	P50    string `json:"p50"`
	P90    string `json:"p90"`
	P99    string `json:"p99"`
	P999   string `json:"p999"`
	Max    string `json:"max"`
	Failed string `json:"failed"`
}

func newBenchOp(name string, ok, failed uint64, rate float64, h *bench.Histogram) benchOp {
	return benchOp{
		Op: name, OK: strconv.FormatUint(ok, 10), Failed: strconv.FormatUint(failed, 10), Rate: bench.FormatRate(rate),
		P50: bench.FormatDuration(h.At(50)), P90: bench.FormatDuration(h.At(90)), P99: bench.FormatDuration(h.At(99)),
		P999: bench.FormatDuration(h.At(99.9)), Max: bench.FormatDuration(h.Max()),
	}
}

// show prints the tables, or one JSON object.
func (r *benchRun) show(res *bench.Result, begun time.Time) error {
	if r.out.json {
		return r.out.value(r.document(res, begun))
	}
	if err := r.out.write(fmt.Sprintf("%s at %s: %s\n\n", r.workload, r.addresses(), r.said())); err != nil {
		return err
	}
	var ops []any
	for _, o := range res.Ops {
		ops = append(ops, newBenchOp(o.Name, o.OK, o.Failed(), o.Rate, o.Latency))
	}
	if len(res.Ops) > 1 {
		ops = append(ops, newBenchOp("all", res.OK(), res.Failed(), res.Rate, res.All))
	}
	if err := r.rows(ops, []column{
		{"OPERATION", "operation", nil}, {"SUCCEEDED", "ok", nil}, {"A SECOND", "rate", nil}, {"P50", "p50", nil}, {"P90", "p90", nil},
		{"P99", "p99", nil}, {"P99.9", "p999", nil}, {"MAX", "max", nil}, {"FAILED", "failed", nil},
	}, "nothing was done"); err != nil {
		return err
	}
	var failures []any
	for _, f := range res.Failures() {
		failures = append(failures, map[string]string{"operation": f.Op, "kind": f.Kind, "count": strconv.FormatUint(f.Count, 10), "share": f.Percent()})
	}
	if len(failures) > 0 {
		if err := r.out.write("\n"); err != nil {
			return err
		}
		if err := r.rows(failures, []column{{"OPERATION", "operation", nil}, {"ERROR", "kind", nil}, {"COUNT", "count", nil}, {"SHARE", "share", nil}}, ""); err != nil {
			return err
		}
	}
	text := "\n"
	if res.Wanted > 0 {
		text += fmt.Sprintf("Rate: %s of %s a second.\n", bench.FormatRate(res.Rate), bench.FormatRate(res.Wanted))
	}
	for _, remark := range res.Remarks(len(r.load.Workers)) {
		text += remark + "\n"
	}
	if res.Partial != "" {
		text += fmt.Sprintf("PARTIAL: %s; this was measured in %s of %s.\n", res.Partial, res.Elapsed.Round(100*time.Millisecond), r.load.Duration)
	}
	return r.out.write(text)
}

// rows prints a table of values that encode as objects.
func (r *benchRun) rows(values []any, columns []column, none string) error {
	items := make([]json.RawMessage, len(values))
	for i, v := range values {
		var err error
		if items[i], err = json.Marshal(v); err != nil {
			return fmt.Errorf("encode the result: %w", err)
		}
	}
	return r.out.table(items, columns, none)
}

// benchPoint is a stretch of time in the JSON form.
type benchPoint struct {
	At     float64 `json:"at_s"`
	OK     uint64  `json:"ok"`
	Failed uint64  `json:"failed"`
	P50    float64 `json:"p50_us"`
	P99    float64 `json:"p99_us"`
	Max    float64 `json:"max_us"`
}

// benchDocument is the JSON form of a run.
type benchDocument struct {
	Workload    string           `json:"workload"`
	Addresses   []string         `json:"addresses"`
	Begun       time.Time        `json:"begun"`
	Version     string           `json:"version"`
	Generator   string           `json:"generator"`
	Connections int              `json:"connections"`
	Wanted      float64          `json:"wanted_rate"` // 0: as fast as it goes
	Rate        float64          `json:"rate"`
	Warmup      float64          `json:"warmup_s"`
	Duration    float64          `json:"duration_s"`
	Elapsed     float64          `json:"elapsed_s"`
	Partial     bool             `json:"partial"`
	Reason      string           `json:"partial_reason,omitempty"`
	OK          uint64           `json:"ok"`
	Failed      uint64           `json:"failed"`
	Operations  []bench.Op       `json:"operations"`
	Latency     *bench.Histogram `json:"latency_us"`
	Queued      uint64           `json:"queued"`
	Unsent      uint64           `json:"unsent"`
	Late        *bench.Histogram `json:"generator_late_us"`
	Points      []benchPoint     `json:"points"`
}

func (r *benchRun) document(res *bench.Result, begun time.Time) benchDocument {
	us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	d := benchDocument{
		Workload: r.workload, Addresses: r.target.Servers, Begun: begun.UTC(), Version: readVersion().Version, Generator: bench.Machine(),
		Connections: len(r.load.Workers), Wanted: res.Wanted, Rate: res.Rate,
		Warmup: r.load.Warmup.Seconds(), Duration: r.load.Duration.Seconds(), Elapsed: res.Elapsed.Seconds(),
		Partial: res.Partial != "", Reason: res.Partial, OK: res.OK(), Failed: res.Failed(),
		Operations: res.Ops, Latency: res.All, Queued: res.Queued, Unsent: res.Unsent, Late: res.Late, Points: []benchPoint{},
	}
	if d.Operations == nil {
		d.Operations = []bench.Op{}
	}
	for _, p := range res.Points {
		d.Points = append(d.Points, benchPoint{p.At.Seconds(), p.OK, p.Failed, us(p.P50), us(p.P99), us(p.Max)})
	}
	return d
}

func (r *benchRun) page(res *bench.Result, begun time.Time) bench.Report {
	return bench.Report{
		Title: "keyraft bench: " + r.workload,
		Facts: []bench.Fact{
			{Name: "Server", Value: r.addresses()}, {Name: "Load", Value: r.said()},
			{Name: "When", Value: begun.UTC().Format("2006-01-02 15:04:05 UTC")},
			{Name: "Generator", Value: "keyraft " + readVersion().Version + ", " + bench.Machine()},
		},
		Notes: res.Remarks(len(r.load.Workers)), Result: res,
	}
}

// pendingFile gets its name once it is whole.
type pendingFile struct {
	*os.File
	path string
}

// newPendingFile makes a file beside path, nil for no path. That it can't is known
// before the run, not after it.
func newPendingFile(path string) (*pendingFile, error) {
	if path == "" {
		return nil, nil
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, usagef("%s is a folder; name a file, such as %s", path, filepath.Join(path, "bench.html"))
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".keyraft-*")
	if err != nil {
		return nil, usagef("%s can't be written (%v); name a file in a folder that is there", path, err)
	}
	return &pendingFile{f, path}, nil
}

// keep gives the file its name; anybody may read it, for it holds no secret.
func (p *pendingFile) keep() error {
	err := p.Chmod(0o644)
	if closeErr := p.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(p.Name(), p.path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", p.path, err)
	}
	return nil
}

// discard removes what was not kept.
func (p *pendingFile) discard() {
	if p != nil {
		_ = p.Close() // kept already, when all went well
		_ = os.Remove(p.Name())
	}
}
