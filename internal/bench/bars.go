package bench

import (
	"fmt"
	"html"
	"strings"
)

// Bars is a chart of lying bars: one value each, from zero.
type Bars struct {
	Title  string
	X      string               // what the axis shows
	Format func(float64) string // of values and ticks; nil: plain numbers
	Bars   []Bar
	// Mark, when above zero, is a line across all bars, such as a floor.
	Mark     float64
	MarkName string
}

// Bar is one bar. A value that is no number, or below zero, has none.
type Bar struct {
	Name  string
	Value float64
	Loud  bool // in the other colour: the one that the chart is about
}

const (
	barsLeft, barsRight, barsTop, barsBottom, barHeight = 284, 84, 46, 40, 24
)

// SVG draws the chart, as Plot.SVG does.
func (c Bars) SVG() string {
	x := newAxis(false, true)
	for _, bar := range c.Bars {
		if x.shows(bar.Value) && bar.Value >= 0 {
			x.add(bar.Value)
		}
	}
	x.add(max(0, c.Mark))
	x.settle(true)
	bottom := barsTop + barHeight*len(c.Bars)
	right := plotWidth - barsRight
	var b strings.Builder
	put := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format, args...) } // into memory
	put(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" font-family="system-ui, sans-serif" font-size="12">`, plotWidth, bottom+barsBottom)
	put("<title>%s</title>\n", html.EscapeString(c.Title))
	put(`<style>text { fill: #333 } .g { stroke: #ccc } .f { stroke: #666; fill: none } ` +
		`@media (prefers-color-scheme: dark) { text { fill: #ddd } .g { stroke: #444 } .f { stroke: #999 } }</style>` + "\n")
	put(`<text x="8" y="16" font-weight="600">%s</text>`+"\n", html.EscapeString(c.Title))
	for _, v := range x.ticks() {
		at := x.at(v, barsLeft, right)
		put(`<line class="g" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			at, barsTop, at, bottom, at, bottom+15, html.EscapeString(formatted(c.Format, v)))
	}
	colours := plotColours()
	for i, bar := range c.Bars {
		at := barsTop + i*barHeight
		put(`<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", barsLeft-8, at+16, html.EscapeString(bar.Name))
		if !x.shows(bar.Value) || bar.Value < 0 {
			continue
		}
		colour := colours[0]
		if bar.Loud {
			colour = colours[1]
		}
		end := x.at(bar.Value, barsLeft, right)
		put(`<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/><text x="%.1f" y="%d">%s</text>`+"\n",
			barsLeft, at+4, end-barsLeft, barHeight-8, colour, end+6, at+16, html.EscapeString(formatted(c.Format, bar.Value)))
	}
	if c.Mark > 0 {
		at := x.at(c.Mark, barsLeft, right)
		put(`<line class="f" x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke-dasharray="4 3"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			at, barsTop-4, at, bottom, at, barsTop-7, html.EscapeString(c.MarkName))
	}
	put(`<line class="f" x1="%d" y1="%d" x2="%d" y2="%d"/><text x="%d" y="%d" text-anchor="end">%s</text>`+"\n</svg>\n",
		barsLeft, barsTop, barsLeft, bottom, right, bottom+31, html.EscapeString(c.X))
	return b.String()
}
