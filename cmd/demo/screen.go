package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// width is the column in which figures end.
const width = 72

// screen writes the story. It is used by one goroutine.
type screen struct {
	w      io.Writer
	colour bool
	act    int
}

func newScreen(w io.Writer, colour bool) *screen { return &screen{w: w, colour: colour} }

// The escapes that are used (ECMA-48 §8.3.117).
const (
	bold, dim, red, green, yellow, cyan = "1", "2", "31", "32", "33", "36"
)

func (s *screen) paint(how, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + how + "m" + text + "\x1b[0m"
}

func (s *screen) line(text string) { _, _ = fmt.Fprintln(s.w, text) } // nobody looks any more, if it fails

// title opens the show.
func (s *screen) title(text, below string) {
	s.line("\n  " + s.paint(bold, text))
	s.line("  " + s.paint(dim, below) + "\n")
}

// chapter opens a part of the story.
func (s *screen) chapter(text string) {
	s.act++
	s.line(fmt.Sprintf("\n  %s  %s", s.paint(cyan, fmt.Sprint(s.act)), s.paint(bold, text)))
}

// step is one line that holds, with a figure at its end.
func (s *screen) step(text, figure string) {
	pad := max(2, width-6-utf8.RuneCountInString(text)-utf8.RuneCountInString(figure))
	s.line("     " + s.paint(green, "✓") + " " + text + strings.Repeat(" ", pad) + s.paint(yellow, figure))
}

// deed is one line that says what is done to the cluster.
func (s *screen) deed(text string) { s.line("     " + s.paint(red, "✗") + " " + s.paint(bold, text)) }

// note is a line beside the story.
func (s *screen) note(text string) { s.line("  " + s.paint(dim, text)) }

// took writes a duration with three figures at most.
func took(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.2f ms", d.Seconds()*1e3)
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}
