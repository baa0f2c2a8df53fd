package bench

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
	"time"
)

// Plot is a line chart. Points with a value that is no number, or not above zero on a
// logarithmic axis, break their line.
type Plot struct {
	Title      string
	X, Y       string // what the axes show
	LogX, LogY bool
	FormatX    func(float64) string // of the ticks; nil: plain numbers
	FormatY    func(float64) string
	Lines      []Line
}

// Line is one line of a plot. X and Y have the same length.
type Line struct {
	Name string
	X, Y []float64
}

// Size of a plot and what its frame leaves free, in its own units.
const (
	plotWidth, plotHeight                    = 720, 300
	plotLeft, plotRight, plotTop, plotBottom = 76, 16, 34, 58
)

// plotColours are told apart by people who see no red or no green, on white and on
// black (after Okabe and Ito).
func plotColours() []string {
	return []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"}
}

// SVG draws the plot. The result stands by itself, in a page or in a file, and has no
// script.
func (p Plot) SVG() string {
	x, y := newAxis(p.LogX, !p.LogX), newAxis(p.LogY, !p.LogY)
	for _, l := range p.Lines {
		for i := range l.X {
			if x.shows(l.X[i]) && y.shows(l.Y[i]) {
				x.add(l.X[i])
				y.add(l.Y[i])
			}
		}
	}
	x.settle(false)
	y.settle(true)
	var b strings.Builder
	put := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format, args...) } // into memory
	put(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" font-family="system-ui, sans-serif" font-size="12">`, plotWidth, plotHeight)
	put("<title>%s</title>\n", html.EscapeString(p.Title))
	put(`<style>text { fill: #333 } .g { stroke: #ccc } .f { stroke: #666; fill: none } .l { fill: none; stroke-width: 1.8; stroke-linejoin: round } ` +
		`@media (prefers-color-scheme: dark) { text { fill: #ddd } .g { stroke: #444 } .f { stroke: #999 } }</style>` + "\n")
	put(`<text x="%d" y="16" font-weight="600">%s</text>`+"\n", plotLeft, html.EscapeString(p.Title))
	p.grid(put, x, y)
	colours := plotColours()
	at := plotLeft
	for i, l := range p.Lines {
		colour := colours[i%len(colours)]
		if d := path(l, x, y); d != "" {
			put(`<path class="l" stroke="%s" d="%s"/>`+"\n", colour, d)
		}
		put(`<rect x="%d" y="%d" width="12" height="3" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n",
			at, plotHeight-14, colour, at+16, plotHeight-9, html.EscapeString(l.Name))
		at += 34 + 7*len([]rune(l.Name))
	}
	put("</svg>\n")
	return b.String()
}

// grid draws frame, ticks and what the axes show.
func (p Plot) grid(put func(string, ...any), x, y *axis) {
	right, bottom := plotWidth-plotRight, plotHeight-plotBottom
	for _, v := range y.ticks() {
		at := y.at(v, bottom, plotTop)
		put(`<line class="g" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			plotLeft, at, right, at, plotLeft-6, at+4, html.EscapeString(formatted(p.FormatY, v)))
	}
	for _, v := range x.ticks() {
		at := x.at(v, plotLeft, right)
		put(`<line class="g" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			at, plotTop, at, bottom, at, bottom+15, html.EscapeString(formatted(p.FormatX, v)))
	}
	put(`<rect class="f" x="%d" y="%d" width="%d" height="%d"/>`+"\n", plotLeft, plotTop, right-plotLeft, bottom-plotTop)
	put(`<text x="%d" y="%d" text-anchor="end">%s</text>`, right, bottom+29, html.EscapeString(p.X))
	put(`<text x="14" y="%d" text-anchor="middle" transform="rotate(-90 14 %d)">%s</text>`+"\n", (plotTop+bottom)/2, (plotTop+bottom)/2, html.EscapeString(p.Y))
}

func formatted(format func(float64) string, v float64) string {
	if format == nil {
		return strconv.FormatFloat(v, 'g', 6, 64)
	}
	return format(v)
}

// path is the line as SVG wants it.
func path(l Line, x, y *axis) string {
	var b strings.Builder
	command := 'M'
	for i := range l.X {
		if !x.shows(l.X[i]) || !y.shows(l.Y[i]) {
			command = 'M'
			continue
		}
		_, _ = fmt.Fprintf(&b, "%c%.1f %.1f", command, x.at(l.X[i], plotLeft, plotWidth-plotRight), y.at(l.Y[i], plotHeight-plotBottom, plotTop)) // into memory
		command = 'L'
	}
	return b.String()
}

// axis maps values to places.
type axis struct {
	log      bool
	min, max float64
}

func newAxis(log, zero bool) *axis {
	a := &axis{log: log, min: math.Inf(1), max: math.Inf(-1)}
	if zero {
		a.min, a.max = 0, 0
	}
	return a
}

func (a *axis) shows(v float64) bool {
	return !math.IsNaN(v) && !math.IsInf(v, 0) && (!a.log || v > 0)
}

func (a *axis) add(v float64) { a.min, a.max = min(a.min, v), max(a.max, v) }

// settle makes a range of what was added; room leaves some above.
func (a *axis) settle(room bool) {
	switch {
	case a.min > a.max: // nothing was added
		a.min, a.max = 1, 10
	case a.log && room:
		low, high := math.Floor(math.Log10(a.min)+1e-9), math.Ceil(math.Log10(a.max)-1e-9)
		a.min, a.max = math.Pow(10, low), math.Pow(10, max(high, low+1))
	case room:
		a.max *= 1.08
	}
	if a.min >= a.max {
		a.max = a.min + 1
	}
}

func (a *axis) at(v float64, from, to int) float64 {
	share := (v - a.min) / (a.max - a.min)
	if a.log {
		share = math.Log(v/a.min) / math.Log(a.max/a.min)
	}
	return float64(from) + share*float64(to-from)
}

// ticks are round values, and no negative zero, within the range, at most about eight.
func (a *axis) ticks() (out []float64) {
	if a.log {
		every := max(1, int(math.Ceil(math.Log10(a.max/a.min)/8)))
		for e := int(math.Ceil(math.Log10(a.min) - 1e-9)); float64(e) <= math.Log10(a.max)+1e-9; e += every {
			out = append(out, math.Pow(10, float64(e)))
		}
		return out
	}
	step := math.Pow(10, math.Floor(math.Log10((a.max-a.min)/5)))
	for _, more := range []float64{2, 2.5, 2} {
		if (a.max-a.min)/step <= 8 {
			break
		}
		step *= more
	}
	for i := math.Ceil(a.min/step-1e-9) + 0; i*step <= a.max*(1+1e-9); i++ {
		out = append(out, i*step)
	}
	return out
}

// FormatMicroseconds shows microseconds as people say them: 250 µs, 1.5 ms, 12 s.
func FormatMicroseconds(us float64) string {
	return FormatDuration(time.Duration(us * float64(time.Microsecond)))
}

// FormatDuration shows a duration with three digits: 250 µs, 1.53 ms, 12 s.
func FormatDuration(d time.Duration) string {
	unit, name := time.Microsecond, " µs"
	switch {
	case d >= time.Second:
		unit, name = time.Second, " s"
	case d >= time.Millisecond:
		unit, name = time.Millisecond, " ms"
	}
	v := float64(d) / float64(unit)
	decimals := 0
	switch {
	case v < 10:
		decimals = 2
	case v < 100:
		decimals = 1
	}
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	if decimals > 0 {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text + name
}
