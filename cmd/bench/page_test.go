package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/internal/bench"
)

// measured is a run in which every row gave the same figures.
func measured() *document {
	s := &stage{o: options{peers: "all", only: regexp.MustCompile(""), connections: 64}}
	one := round{}
	for _, m := range s.makers() {
		one[m.row] = maps.Clone(clusterSeen)
		maps.Copy(one[m.row], bench.Figures{"cpu_us": 50, "rate": 20_000, "p50_us": 800, "p99_us": 4000, "rss_bytes": 64 << 20})
	}
	table := &bench.Table{Rounds: []map[string]bench.Figures{one, one}}
	for name := range one {
		table.Rows = append(table.Rows, name)
	}
	d := s.document(table, "")
	d.Machine, d.Commit = "2 cores of a machine | linux", "abc1234"
	return &d
}

// grew is a run of every curve.
func grew() *curves {
	c := &curves{Machine: "the same", Commit: "abc1234"}
	for _, w := range (&stage{}).sweeps() {
		_, _, columns := describe(w.name)
		one := curve{Name: w.name, Skipped: "no time"}
		for _, n := range w.sizes {
			f := bench.Figures{"gateway_bytes": float64(n) * 40}
			for _, col := range columns {
				f[col.figure] = 10 + float64(n)*100
			}
			one.Points = append(one.Points, point{n, f})
		}
		c.Curves = append(c.Curves, one)
	}
	return c
}

// TestPage: each figure, curve and goal is on it, each plot that it names is there and
// well-formed, and the same files give the same page.
func TestPage(t *testing.T) {
	t.Parallel()
	p := page{Bench: measured(), Curves: grew(), dir: "performance"}
	files, err := p.files()
	if err != nil {
		t.Fatal(err)
	}
	text := files[""]
	for _, r := range p.Bench.Results {
		if meaning(r.Name) == "" {
			t.Errorf("%s has no meaning in words", r.Name)
		}
		if !strings.Contains(text, "| `"+r.Name+"` |") {
			t.Errorf("%s is not on the page", r.Name)
		}
	}
	for _, want := range []string{
		`2 cores of a machine`, "abc1234", "make bench", "| F15 |", "## Live revocations", "Larger sizes are missing: no time.", "oidc-provider (Node)", "Keycloak (Java)",
		"A client takes 100 bytes of a node's memory, so 86,000,000 fit into 8 GiB", "10,000,000", "busy cores",
		"| ES256 token by client credentials, whole request | 50 | 50 | 84 | 3 |", "64 keep-alive connections",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	if strings.Contains(text, "<no value>") || strings.Contains(text, "NaN") || strings.Contains(text, "%!") {
		t.Error("the page has a hole")
	}
	named := map[string]bool{"": true}
	for _, m := range regexp.MustCompile(`\]\(performance/([^)]*)\)`).FindAllStringSubmatch(text, -1) {
		named[m[1]] = true
		wellFormed(t, m[1], files[m[1]])
	}
	for name := range files {
		if !named[name] {
			t.Errorf("nothing shows %s", name)
		}
	}
	again, err := p.files()
	if err != nil || again[""] != text {
		t.Errorf("the same figures gave another page (%v)", err)
	}
}

func wellFormed(t *testing.T, name, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	for elements := 0; ; elements++ {
		_, err := d.Token()
		if errors.Is(err, io.EOF) && elements > 0 {
			return
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
	}
}

// TestPageOfLess: what was not measured is said, not shown as zero.
func TestPageOfLess(t *testing.T) {
	t.Parallel()
	d := measured()
	d.Results, d.Rows, d.LeftOut = d.Results[:1], nil, map[string]string{"peer_oidc_provider_es256": "left out: no npm in /some/path"}
	d.Results[0].OK, d.Results[0].Ratio = false, 0.5
	files, err := page{Bench: d, dir: "x"}.files()
	if err != nil {
		t.Fatal(err)
	}
	text := files[""]
	for _, want := range []string{"Not measured yet: `make scale`", "No other server was measured", "Left out on this machine: `peer_oidc_provider_es256`.", "0 of 1 floors hold. Not these: `jwt_client_credentials_es256` (0.5 of 0.6)", "**does not hold**", "not measured |"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	if strings.Contains(text, "/some/path") {
		t.Error("what a program printed is on the page")
	}
}

// TestPublish: a whole run goes into the docs and the README, a run of some rows or for
// function does not.
func TestPublish(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := options{doc: filepath.Join(dir, "docs", "performance.md"), from: filepath.Join(dir, "build", "bench.json"), readme: filepath.Join(dir, "README.md"), scale: filepath.Join(dir, "build", "scale.json")}
	readme := "before\n" + tableBegins + "\nold\n" + tableEnds + "\nafter\n"
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return string(text)
	}
	put := func(change func(*document)) {
		t.Helper()
		d := measured()
		change(d)
		if err := d.save(o.from); err != nil {
			t.Fatal(err)
		}
	}
	write(o.readme, readme)
	for _, change := range []func(*document){
		func(d *document) { d.Small = true }, func(d *document) { d.Only = "jwt" }, func(d *document) { d.Partial = "interrupted" },
	} {
		put(change)
		if err := publish(o); err != nil {
			t.Fatal(err)
		}
		if read(o.doc) != "" || read(o.readme) != readme || read(filepath.Join(dir, "build", "performance.md")) == "" {
			t.Error("a run that is not for publishing was published, or left no page")
		}
	}
	put(func(*document) {})
	plot := filepath.Join(dir, "docs", "performance", "old.svg")
	if err := os.MkdirAll(filepath.Dir(plot), 0o700); err != nil {
		t.Fatal(err)
	}
	write(plot, "old")
	if err := publish(o); err != nil {
		t.Fatal(err)
	}
	got := read(o.readme)
	if read(o.doc) == "" || read(plot) != "" || read(filepath.Join(filepath.Dir(plot), "floors.svg")) == "" ||
		!strings.HasPrefix(got, "before\n"+tableBegins+"\n| what |") || !strings.HasSuffix(got, tableEnds+"\nafter\n") || strings.Contains(got, "old") {
		t.Errorf("the page, its plots or the README are not as they should be:\n%s", got)
	}
	if err := publish(o); err != nil || read(o.readme) != got {
		t.Errorf("the second time changes something (%v)", err)
	}

	c := grew()
	c.Small = true
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	write(o.scale, string(text))
	if err := publish(o); err != nil || !strings.Contains(read(o.doc), "Not measured yet") {
		t.Errorf("curves of a short run were published (%v)", err)
	}
	if err := os.Remove(o.scale); err != nil {
		t.Fatal(err)
	}
	write(o.readme, "no marks")
	if err := publish(o); err == nil || !strings.Contains(err.Error(), tableBegins) {
		t.Errorf("no marks: %v", err)
	}
	o.from = filepath.Join(dir, "nothing")
	if err := publish(o); err == nil || !strings.Contains(err.Error(), "make bench") {
		t.Errorf("no figures: %v", err)
	}
}
