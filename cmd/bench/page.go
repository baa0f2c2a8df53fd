package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/keyraft/keyraft/internal/bench"
)

//go:embed performance.md.tmpl
var pageText string

// The README's table lies between these.
const (
	tableBegins = "<!-- bench -->"
	tableEnds   = "<!-- /bench -->"
)

// page is what docs/performance.md is made of: the two files of figures, nothing else.
type page struct {
	Bench  *document
	Curves *curves // nil: not measured
	dir    string  // of the plots, beside the page
}

// publish writes the page, its plots and the README's table. A run that is not worth
// publishing, short, partial or of some rows, goes beside its figures instead.
func publish(o options) error {
	p := page{Bench: &document{}, dir: strings.TrimSuffix(filepath.Base(o.doc), filepath.Ext(o.doc))}
	if err := readFigures(o.from, p.Bench); err != nil {
		return fmt.Errorf("%w; measure first: make bench", err)
	}
	if o.scale != "" {
		p.Curves = &curves{}
		if err := readFigures(o.scale, p.Curves); errors.Is(err, os.ErrNotExist) {
			p.Curves = nil
		} else if err != nil {
			return err
		}
	}
	at, readme := o.doc, o.readme
	if why := p.Bench.unpublished(); why != "" {
		at, readme = filepath.Join(filepath.Dir(o.from), filepath.Base(o.doc)), ""
		fmt.Printf("%s: the page goes to %s; %s stays as it is\n", why, at, o.doc)
	} else if p.Curves != nil && p.Curves.Small {
		fmt.Printf("%s is of a short run: the page goes without; measure it with make scale\n", o.scale)
		p.Curves = nil
	}
	files, err := p.files()
	if err != nil {
		return err
	}
	with := ""
	if readme != "" { // looked at before anything is written
		text, err := os.ReadFile(readme)
		if err != nil {
			return err
		}
		if with, err = between(string(text), p.short()); err != nil {
			return fmt.Errorf("%s: %w", readme, err)
		}
	}
	if err := writeAll(filepath.Dir(at), filepath.Base(at), files); err != nil || readme == "" {
		return err
	}
	return os.WriteFile(readme, []byte(with), 0o644)
}

// readFigures reads a file of figures.
func readFigures(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// unpublished says why the figures are not for the docs; empty: they are.
func (d *document) unpublished() string {
	switch {
	case d.Small:
		return "a short run, for function"
	case d.Partial != "":
		return "a partial run"
	case d.Only != "":
		return "a run of some rows"
	}
	return ""
}

// between puts a table between the marks of a text.
func between(text, table string) (string, error) {
	before, rest, found := strings.Cut(text, tableBegins)
	_, after, ends := strings.Cut(rest, tableEnds)
	if !found || !ends {
		return "", fmt.Errorf("has no %s and %s to put the table between", tableBegins, tableEnds)
	}
	return before + tableBegins + "\n" + table + tableEnds + after, nil
}

// writeAll writes the page, "" in files, and its plots, and removes older plots.
func writeAll(dir, name string, files map[string]string) error {
	plots := filepath.Join(dir, strings.TrimSuffix(name, filepath.Ext(name)))
	old, err := filepath.Glob(filepath.Join(plots, "*.svg"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return err
	}
	for file, text := range files {
		at := filepath.Join(plots, file)
		if file == "" {
			at = filepath.Join(dir, name)
		}
		if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// files makes everything: the page under "", the plots under their names.
func (p page) files() (map[string]string, error) {
	out := map[string]string{"floors.svg": p.floors().SVG()}
	contests := p.contests()
	for _, c := range contests {
		out[c.File] = c.SVG()
	}
	sweeps := p.sweeps()
	for _, s := range sweeps {
		for _, plot := range s.plots {
			out[plot.file] = plot.SVG()
		}
	}
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]any{
		"Bench": p.Bench, "Curves": p.Curves, "Dir": p.dir, "Connections": p.connections(), "Table": p.table(), "Failing": p.failing(),
		"Goals": p.goals(), "Peers": p.peers(), "Contests": contests, "RS256": p.rs256(), "Rows": p.rows(), "Sweeps": sweeps, "Model": p.model(),
	})
	out[""] = b.String()
	return out, err
}

func (p page) connections() string {
	if p.Bench.Connections == 0 {
		return ""
	}
	return fmt.Sprintf("%d keep-alive connections; %d where many commits are to share a sync. Each row takes %s a round, after a warm-up.", p.Bench.Connections, crowd, p.Bench.Long)
}

// Left lists what was left out, without what a program printed.
func (d *document) Left() (out []string) {
	for name := range d.LeftOut {
		out = append(out, "`"+name+"`")
	}
	slices.Sort(out)
	return out
}

// cells is a row of a table in Markdown.
func cells(texts ...string) string {
	for i := range texts {
		texts[i] = strings.ReplaceAll(texts[i], "|", `\|`)
	}
	return "| " + strings.Join(texts, " | ") + " |\n"
}

// head is the head of such a table; a column whose name ends with ":" is of numbers.
func head(names ...string) string {
	under := make([]string, len(names))
	for i, name := range names {
		under[i] = "---"
		if strings.HasSuffix(name, ":") {
			names[i], under[i] = strings.TrimSuffix(name, ":"), "---:"
		}
	}
	return cells(names...) + strings.ReplaceAll(cells(under...), " ", "")
}

// table is the whole one.
func (p page) table() string {
	var b strings.Builder
	b.WriteString(head("figure", "what", "value:", "min–max:", "unit", "limit", "is:", "ratio:", "floor:", "holds"))
	for _, r := range p.Bench.Results {
		floor, holds := "", ""
		if r.Floor > 0 {
			floor, holds = short(r.Floor), map[bool]string{true: "yes", false: "**no**"}[r.OK]
		}
		b.WriteString(cells("`"+r.Name+"`", meaning(r.Name), grouped(r.Value), grouped(r.Min)+"–"+grouped(r.Max), r.Unit, r.Limit, grouped(r.LimitValue), short(r.Ratio), floor, holds))
	}
	return b.String()
}

// failing says which floors do not hold.
func (p page) failing() string {
	var names []string
	floors := 0
	for _, r := range p.Bench.Results {
		if r.Floor > 0 {
			floors++
		}
		if !r.OK {
			names = append(names, fmt.Sprintf("`%s` (%s of %s)", r.Name, short(r.Ratio), short(r.Floor)))
		}
	}
	switch {
	case floors == 0:
		return "No figure with a floor was measured."
	case len(names) == 0:
		return fmt.Sprintf("All %d floors hold.", floors)
	}
	return fmt.Sprintf("%d of %d floors hold. Not these: %s.", floors-len(names), floors, strings.Join(names, ", "))
}

// rows is what the figures were made of.
func (p page) rows() string {
	var b strings.Builder
	b.WriteString(head("row", "a second:", "µs CPU:", "p50:", "p99:", "memory MiB:"))
	for _, r := range p.Bench.Rows {
		get := func(name string, format func(float64) string) string {
			if v, ok := r.Figures[name]; ok && v.N > 0 {
				return format(v.Median)
			}
			return ""
		}
		b.WriteString(cells("`"+r.Name+"`", get("rate", grouped), get("cpu_us", short), get("p50_us", bench.FormatMicroseconds), get("p99_us", bench.FormatMicroseconds), get("rss_bytes", mebi)))
	}
	return b.String()
}

func mebi(v float64) string { return strconv.FormatFloat(v/(1<<20), 'f', 0, 64) }

// grouped writes three digits of small numbers, and thousands of large ones apart.
func grouped(v float64) string {
	text := short(v)
	whole, fraction, _ := strings.Cut(text, ".")
	if math.Abs(v) < 10_000 || fraction != "" || strings.ContainsAny(text, "eN") {
		return text
	}
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	return whole
}

// result finds a figure.
func (p page) result(name string) (result, bool) {
	i := slices.IndexFunc(p.Bench.Results, func(r result) bool { return r.Name == name })
	if i < 0 {
		return result{}, false
	}
	return p.Bench.Results[i], true
}

// of finds a figure of a row.
func (p page) of(name, figure string) (float64, bool) {
	i := slices.IndexFunc(p.Bench.Rows, func(r row) bool { return r.Name == name })
	if i < 0 {
		return 0, false
	}
	v := p.Bench.Rows[i].Figures[figure]
	return v.Median, v.N > 0
}

// floors shows each ratio over its floor.
func (p page) floors() bench.Bars {
	const most = 4
	c := bench.Bars{Title: "Ratio ÷ floor", X: "1 or more: the floor holds", Mark: 1, MarkName: "floor", Format: func(v float64) string {
		if v >= most {
			return "4 or more"
		}
		return short(v)
	}}
	for _, r := range p.Bench.Results {
		if r.Floor > 0 {
			c.Bars = append(c.Bars, bench.Bar{Name: r.Name, Value: min(most, r.Ratio/r.Floor), Loud: !r.OK})
		}
	}
	return c
}

// duel is a plot of one kind of request: Keyraft, its limits and the others.
type duel struct {
	bench.Bars
	File string
}

func (p page) contests() (out []duel) {
	titles := map[string]string{"es256": "ES256 token", "rs256": "RS256 token", "opaque": "opaque token, committed (Keyraft alone commits it)", "introspect": "introspection of a live token"}
	for _, c := range contests() {
		d := duel{Bars: bench.Bars{Title: titles[c.suffix] + ": CPU time of a request", X: "µs; less is better", Format: short}, File: "contest_" + c.suffix + ".svg"}
		for _, row := range []string{"bare", "ceiling_" + c.suffix, c.row, "peer_zitadel_" + c.suffix, "peer_oidc_provider_" + c.suffix, "peer_keycloak_" + c.suffix} {
			if v, ok := p.of(row, "cpu_us"); ok {
				d.Bars.Bars = append(d.Bars.Bars, bench.Bar{Name: row, Value: v, Loud: row == c.row})
			}
		}
		if len(d.Bars.Bars) > 0 {
			out = append(out, d)
		}
	}
	return out
}

// peers compares, a line a request and server.
func (p page) peers() string {
	var b strings.Builder
	b.WriteString(head("request", "server", "µs CPU:", "a core-second:", "p99:", "memory MiB:", "÷ Keyraft:", "floor:"))
	any := false
	for _, c := range contests() {
		for _, row := range []string{c.row, "peer_oidc_provider_" + c.suffix, "peer_zitadel_" + c.suffix, "peer_keycloak_" + c.suffix} {
			cpu, ok := p.of(row, "cpu_us")
			if !ok {
				continue
			}
			p99, _ := p.of(row, "p99_us")
			rss, _ := p.of(row, "rss_bytes")
			server, ratio, floor := "**Keyraft**", "1", ""
			if row != c.row {
				any = true
				server = map[byte]string{'o': "oidc-provider (Node)", 'z': "zitadel/oidc example (Go)", 'k': "Keycloak (Java)"}[row[len("peer_")]]
				r, ok := p.result(row)
				if ratio = ""; ok {
					ratio = short(r.Ratio)
				}
				if r.Floor > 0 {
					floor = short(r.Floor)
				}
			}
			b.WriteString(cells(c.suffix, server, short(cpu), grouped(math.Round(1e6/cpu)), bench.FormatMicroseconds(p99), mebi(rss), ratio, floor))
		}
	}
	if !any {
		return "No other server was measured in this run: they need node with npm, and Go; see [peers.md](peers.md)."
	}
	return b.String()
}

// rs256 says by how much.
func (p page) rs256() string {
	r, ok := p.result("peer_oidc_provider_rs256")
	if !ok || r.Ratio <= 0 {
		return "It was not measured against another server in this run."
	}
	ours := "takes"
	if r.Ratio > 1 {
		ours = "here took"
	}
	return fmt.Sprintf("An RS256 token %s Keyraft %s µs of CPU time, and oidc-provider %s µs: Keyraft serves %s x as many a core.", ours, short(r.LimitValue), short(r.Value), short(r.Ratio))
}

// short is the README's table.
func (p page) short() string {
	var b strings.Builder
	b.WriteString(head("what", "measured:", "limit", "share of it:"))
	for _, name := range headlines() {
		r, ok := p.result(name)
		if !ok {
			continue
		}
		value := grouped(r.Value) + " " + r.Unit
		if r.Unit == "µs CPU" && !strings.HasPrefix(name, "peer_") {
			value += ", " + grouped(math.Round(1e6/r.Value)) + " a core-second"
		}
		share := short(r.Ratio)
		if strings.HasPrefix(name, "peer_") {
			share += " x"
		}
		b.WriteString(cells(meaning(name), value, r.Limit+", "+grouped(r.LimitValue), share))
	}
	return fmt.Sprintf("%s\n*Bare* is an HTTP answer that nothing was done for, *sig* one signature, *sync* one write to disk, the *ceiling* a program without a cluster; the peers keep their tokens in memory. %s, commit %s, median of %d rounds, one core for the server. [All figures, how to repeat them, and where Keyraft loses](docs/performance.md).\n",
		b.String(), p.Bench.Machine, p.Bench.Commit, p.Bench.Rounds)
}
