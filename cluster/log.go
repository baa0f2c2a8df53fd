package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// raftLogger gives raft's log lines to slog.
func raftLogger(to *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Info, Output: io.Discard})
	l.RegisterSink(sink{to})
	return l
}

// repeatEvery is how often a trouble that goes on unchanged is told again.
const repeatEvery = time.Minute

// repeats keeps what is tried again and again from filling the log with one line.
type repeats struct {
	mu   sync.Mutex
	last map[string]told // by what is tried
}

type told struct {
	text string
	at   time.Time
}

// due tells whether text is worth a line: it is new for what, or the last one was
// a while ago. "" forgets: the trouble is over.
func (r *repeats) due(what, text string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, ok := r.last[what]
	switch {
	case text == "":
		delete(r.last, what)
		return false
	case ok && last.text == text && now.Sub(last.at) < repeatEvery:
		return false
	}
	if r.last == nil {
		r.last = map[string]told{}
	}
	r.last[what] = told{text: text, at: now}
	return true
}

// sink is an hclog.SinkAdapter.
type sink struct{ to *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s sink) Accept(name string, level hclog.Level, msg string, args ...any) {
	at := slog.LevelDebug
	switch {
	case level >= hclog.Error:
		at = slog.LevelError
	case level == hclog.Warn:
		at = slog.LevelWarn
	case level == hclog.Info:
		at = slog.LevelInfo
	}
	for i, a := range args {
		switch a := a.(type) {
		case hclog.Format:
			if form, ok := a[0].(string); ok {
				args[i] = fmt.Sprintf(form, a[1:]...)
			}
		case fmt.Stringer:
			args[i] = a.String()
		}
		if err, ok := a.(error); ok && errors.Is(err, net.ErrClosed) {
			at = slog.LevelDebug // a stream that this node closed itself
		}
	}
	s.to.Log(context.Background(), at, name+": "+msg, args...)
}
