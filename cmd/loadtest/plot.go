package main

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// Size of a plot and of the room around it for its labels.
const (
	plotWidth, plotHeight                 = 320.0, 150.0
	plotLeft, plotRight, plotTop, plotLow = 46.0, 10.0, 22.0, 22.0
)

// svg collects one plot. Everything that it writes is a number or a label of ours, or
// is escaped.
type svg struct{ strings.Builder }

// newSVG begins a plot with some room below its axis.
func newSVG(title string, below float64) *svg {
	s := &svg{}
	s.printf(`<svg viewBox="0 0 %.0f %.0f" role="img" aria-label="%s"><text x="%.0f" y="13" class="t">%s</text>`,
		plotWidth, plotHeight+below, template.HTMLEscapeString(title), plotLeft, template.HTMLEscapeString(title))
	return s
}

func (s *svg) printf(format string, args ...any) { _, _ = fmt.Fprintf(&s.Builder, format, args...) } // a builder takes all

func (s *svg) done() template.HTML {
	s.printf("</svg>")
	return template.HTML(s.String())
}

// label writes a text of the axes.
func (s *svg) label(x, y float64, anchor, text string) {
	s.printf(`<text x="%.1f" y="%.1f" class="l" text-anchor="%s">%s</text>`, x, y, anchor, template.HTMLEscapeString(text))
}

// grid is one horizontal line with its value.
func (s *svg) grid(y float64, text string) {
	s.printf(`<line x1="%.0f" x2="%.0f" y1="%.1f" y2="%.1f" class="g"/>`, plotLeft, plotWidth-plotRight, y, y)
	s.label(plotLeft-5, y+3, "end", text)
}

// path draws points as a line; one point is a dot.
func (s *svg) path(xs, ys []float64, colour int) {
	if len(xs) == 1 {
		s.printf(`<circle cx="%.1f" cy="%.1f" r="2.5" class="c%d dot"/>`, xs[0], ys[0], colour)
		return
	}
	s.printf(`<polyline class="c%d" points="`, colour)
	for i := range xs {
		s.printf("%.1f,%.1f ", xs[i], ys[i])
	}
	s.printf(`"/>`)
}

func across(share float64) float64 { return plotLeft + share*(plotWidth-plotLeft-plotRight) }
func up(share float64) float64     { return plotHeight - plotLow - share*(plotHeight-plotLow-plotTop) }

// line plots values over seconds; the axis begins at 0.
func line(title string, seconds, values []float64, format func(float64) string) template.HTML {
	if len(seconds) == 0 || len(seconds) != len(values) {
		return ""
	}
	s := newSVG(title, 0)
	top := nice(greatest(values))
	last := math.Max(seconds[len(seconds)-1], 1)
	for _, share := range []float64{0, 0.5, 1} {
		s.grid(up(share), format(share*top))
	}
	s.label(across(0), plotHeight-6, "start", "0 s")
	s.label(across(1), plotHeight-6, "end", fmt.Sprintf("%.0f s", last))
	var xs, ys []float64
	for i := range seconds {
		xs, ys = append(xs, across(seconds[i]/last)), append(ys, up(values[i]/top))
	}
	s.path(xs, ys, 1)
	return s.done()
}

// colours is how many classes the page has for lines.
const colours = 6

// tails plots latency by percentile, one line a kind of request, on a logarithmic
// axis. What waits on purpose is left out: its time says nothing of the server.
func tails(rows []row) template.HTML {
	var shown []row
	low, high := math.Inf(1), math.Inf(-1)
	for _, r := range rows {
		if r.Phase || r.Name == "poll" || r.Name == "events" || r.Name == "receipt" || len(shown) == colours {
			continue
		}
		shown = append(shown, r)
		for _, p := range percentiles() {
			if v := r.Percentiles[short(p)]; v > 0 {
				low, high = math.Min(low, v), math.Max(high, v)
			}
		}
	}
	if len(shown) == 0 || math.IsInf(low, 0) {
		return ""
	}
	s := newSVG("latency by percentile, ms", 14)
	from, to := math.Floor(math.Log10(low)), math.Max(math.Ceil(math.Log10(high)), math.Floor(math.Log10(low))+1)
	height := func(v float64) float64 { return up((math.Log10(math.Max(v, math.Pow(10, from))) - from) / (to - from)) }
	for decade := from; decade <= to; decade++ {
		s.grid(height(math.Pow(10, decade)), fmt.Sprintf("%g", math.Pow(10, decade)))
	}
	ps := percentiles()
	for i, p := range ps {
		s.label(across(float64(i)/float64(len(ps)-1)), plotHeight-6, "middle", strings.TrimPrefix(short(p), "p"))
	}
	beside := plotLeft
	for i, r := range shown {
		var xs, ys []float64
		for j, p := range ps {
			xs, ys = append(xs, across(float64(j)/float64(len(ps)-1))), append(ys, height(r.Percentiles[short(p)]))
		}
		s.path(xs, ys, i+1)
		s.printf(`<text x="%.0f" y="%.0f" class="k c%d">%s</text>`, beside, plotHeight+8, i+1, template.HTMLEscapeString(r.Name))
		beside += 10 + 5*float64(len(r.Name)) // about as wide as 9 px letters are
	}
	return s.done()
}

func greatest(values []float64) (out float64) {
	for _, v := range values {
		out = math.Max(out, v)
	}
	return out
}

// nice is the next number of 1, 2, 5 by powers of ten.
func nice(v float64) float64 {
	if v <= 0 {
		return 1
	}
	decade := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 2, 5, 10} {
		if v <= step*decade {
			return step * decade
		}
	}
	return 10 * decade
}
