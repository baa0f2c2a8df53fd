package bench

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// sample is a result with something of everything.
func sampleResult() *Result {
	jwt, revoke, all := NewHistogram(), NewHistogram(), NewHistogram()
	for i := range 10_000 {
		jwt.Record(time.Duration(200+i/10) * time.Microsecond)
	}
	for i := range 50 {
		revoke.Record(time.Duration(3+i) * time.Millisecond)
	}
	all.Merge(jwt)
	all.Merge(revoke)
	return &Result{
		Wanted: 1000, Rate: 987.5, Elapsed: 10 * time.Second, All: all, Late: NewHistogram(), Queued: 4000, Unsent: 17,
		Ops: []Op{
			{Name: "jwt", OK: 10_000, Rate: 982.5, Latency: jwt},
			{Name: "revoke", OK: 50, Rate: 5, Latency: revoke, Errors: map[string]uint64{"503 temporarily_unavailable": 12, KindTimeout: 3}},
		},
		Points: []Point{
			{At: time.Second, Length: time.Second, OK: 990, P50: 300 * time.Microsecond, P99: 2 * time.Millisecond, Max: 9 * time.Millisecond},
			{At: 2 * time.Second, Length: time.Second, Failed: 15}, // no latency: the line breaks
			{At: 3 * time.Second, Length: time.Second, OK: 1010, P50: 310 * time.Microsecond, P99: 3 * time.Millisecond, Max: 40 * time.Millisecond},
		},
		Usage:   &Usage{CPU: time.Second, RSS: 100 << 20, Peak: 200 << 20, Ops: 10_050},
		Partial: "interrupted",
	}
}

// wellFormed checks that each element of a page is closed where it must be.
func wellFormed(t *testing.T, page []byte) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(page))
	d.Entity = xml.HTMLEntity
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
	}
}

// TestReport: a whole page of HTML that needs nothing else, with the figures in it;
// what comes from outside is text.
func TestReport(t *testing.T) {
	t.Parallel()
	var page bytes.Buffer
	r := Report{
		Title: `load <of> "x"`, Result: sampleResult(), Notes: sampleResult().Remarks(64),
		Facts: []Fact{{"Server", "http://127.0.0.1:9763/<script>alert(1)</script>"}},
	}
	r.Result.Ops[0].Name = `<img src=x onerror="x">`
	if err := r.Write(&page); err != nil {
		t.Fatal(err)
	}
	wellFormed(t, page.Bytes())
	root, err := html.Parse(bytes.NewReader(page.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		seen[n.Data]++
		for _, a := range n.Attr {
			if a.Key == "src" || a.Key == "href" || strings.HasPrefix(a.Key, "on") {
				t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
			}
		}
	}
	if seen["svg"] != 3 || seen["table"] != 2 || seen["script"] != 0 || seen["img"] != 0 || seen["title"] != 4 {
		t.Errorf("elements %v", seen)
	}
	for _, want := range []string{
		"Partial run:", "interrupted", "988 a second of 1000 wanted", "<td>10000</td>", "<td>50</td>", "<td>" + FormatDuration(r.Result.Ops[0].Latency.At(50)) + "</td>", "503 temporarily_unavailable", "<td>12</td>", "0.12 %",
		"99.5 µs of CPU time an operation, 100 MiB resident at the end, 200 MiB at most", "17 operations were due", "40 % of the operations were due before one of the 64",
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
}

// TestReportOfNothing: a run that was stopped at once is a page too.
func TestReportOfNothing(t *testing.T) {
	t.Parallel()
	var page bytes.Buffer
	if err := (Report{Title: "x", Result: &Result{All: NewHistogram(), Late: NewHistogram()}}).Write(&page); err != nil {
		t.Fatal(err)
	}
	wellFormed(t, page.Bytes())
	if !strings.Contains(page.String(), "Nothing was done.") || strings.Contains(page.String(), "NaN") {
		t.Error(page.String())
	}
}

// TestPlotLeavesOutWhatIsNoNumber and stays within its frame.
func TestPlotLeavesOutWhatIsNoNumber(t *testing.T) {
	t.Parallel()
	p := Plot{Title: "a & b", X: "<x>", LogY: true, Lines: []Line{{"one", []float64{0, 1, 2, 3, 4, 5}, []float64{1, math.NaN(), 0, math.Inf(1), 100, 10}}}}
	svg := p.SVG()
	wellFormed(t, []byte(svg))
	if !strings.Contains(svg, `d="M76.0 242.0M578.4 34.0L704.0 138.0"`) {
		t.Error(svg)
	}
	for _, bad := range []string{"NaN", "Inf", "<x>", "-0<"} {
		if strings.Contains(svg, bad) {
			t.Errorf("%q in %s", bad, svg)
		}
	}
}

func TestTicksAreFewAndRound(t *testing.T) {
	t.Parallel()
	for _, top := range []float64{0.7, 1, 3, 30, 97, 500, 1234, 1e6, 7e9} {
		a := newAxis(false, true)
		a.add(top)
		a.settle(true)
		got := a.ticks()
		if len(got) < 3 || len(got) > 9 || got[0] != 0 || math.Signbit(got[0]) || got[len(got)-1] > top*1.1 {
			t.Errorf("up to %v: %v", top, got)
		}
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0 µs", 1500: "1.5 µs", 250 * time.Microsecond: "250 µs", 1530 * time.Microsecond: "1.53 ms", 45_610 * time.Microsecond: "45.6 ms", 12 * time.Second: "12 s", time.Hour: "3600 s",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("%d ns is %q, want %q", d, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0.0", 12.34: "12.3", 999.6: "1000", 18601.2: "18601"} {
		if got := FormatRate(v); got != want {
			t.Errorf("%v is %q, want %q", v, got, want)
		}
	}
	text, err := json.Marshal(sampleResult().Ops[0])
	if err != nil || !strings.Contains(string(text), `"latency_us":{"count":10000,"mean":`) || !strings.Contains(string(text), `"p50":6`) {
		t.Errorf("%s, %v", text, err)
	}
}
