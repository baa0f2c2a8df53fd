package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

// TestBars: well-formed whatever is in it, and a value that is none has no bar.
func TestBars(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Bars{
		"nothing": {Title: "nothing"},
		"all of it": {
			Title: `a <b> & "c"`, X: "µs", Mark: 1, MarkName: "floor",
			Bars: []Bar{{Name: "<one>", Value: 10}, {Name: "two", Value: 20, Loud: true}, {Name: "none", Value: math.NaN()}, {Name: "less", Value: -1}},
		},
	} {
		text := c.SVG()
		d := xml.NewDecoder(strings.NewReader(text))
		bars := 0
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v:\n%s", name, err, text)
			}
			if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
				bars++
			}
		}
		if want := min(2, len(c.Bars)); bars != want || strings.Contains(text, "NaN") {
			t.Errorf("%s: %d bars, want %d:\n%s", name, bars, want, text)
		}
	}
}
