package main

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// progress says on standard error what takes so long. Nothing shows in the first
// two seconds; then a terminal gets one line that is drawn over, anything else a
// line now and then.
type progress struct {
	what  string
	total int64 // bytes to come; 0 when unknown or when nothing is counted
	done  atomic.Int64
	word  atomic.Pointer[string] // how it goes, when bytes don't tell
	quit  chan struct{}
	ended chan struct{}
}

// pace is how often a progress line shows.
type pace struct{ delay, redraw, repeat time.Duration }

func usualPace() pace {
	return pace{delay: 2 * time.Second, redraw: 250 * time.Millisecond, repeat: 5 * time.Second}
}

// startProgress starts the line; end must be called and waits for its last words.
func startProgress(w io.Writer, redraw bool, what string, total int64, p pace) *progress {
	pr := &progress{what: what, total: total, quit: make(chan struct{}), ended: make(chan struct{})}
	go pr.run(w, redraw, p)
	return pr
}

func (pr *progress) end() {
	close(pr.quit)
	<-pr.ended
}

func (pr *progress) run(w io.Writer, redraw bool, p pace) {
	defer close(pr.ended)
	begun := time.Now()
	timer := time.NewTimer(p.delay)
	defer timer.Stop()
	shown := false
	for {
		select {
		case <-pr.quit:
			if shown && redraw {
				_, _ = io.WriteString(w, "\r\x1b[K") // a progress line that fails to show harms nothing
			}
			return
		case <-timer.C:
			line := pr.line(time.Since(begun))
			if redraw {
				_, _ = io.WriteString(w, "\r\x1b[K"+line)
				timer.Reset(p.redraw)
			} else {
				_, _ = io.WriteString(w, line+"\n")
				timer.Reset(p.repeat)
			}
			shown = true
		}
	}
}

func (pr *progress) line(since time.Duration) string {
	line := fmt.Sprintf("keyraft: %s, %s", pr.what, since.Round(time.Second))
	done := pr.done.Load()
	switch {
	case done > 0 && pr.total > 0:
		line += fmt.Sprintf(", %s of %s (%d %%)", humanBytes(done), humanBytes(pr.total), min(100, done*100/pr.total))
	case done > 0:
		line += ", " + humanBytes(done)
	}
	if word := pr.word.Load(); word != nil {
		line += ", " + *word
	}
	return line
}

// say sets how it goes, in a few words.
func (pr *progress) say(word string) { pr.word.Store(&word) }

// reader counts what is read through it.
func (pr *progress) reader(r io.Reader, alive func()) io.Reader {
	return countingReader{r, pr, alive}
}

type countingReader struct {
	r     io.Reader
	pr    *progress
	alive func() // called at each read: something moves
}

func (c countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.pr.done.Add(int64(n))
	c.alive()
	return n, err
}

// humanBytes writes a size with one decimal: "3.4 MiB".
func humanBytes(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}
