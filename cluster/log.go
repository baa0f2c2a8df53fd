package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/hashicorp/go-hclog"
)

// raftLogger gives raft's log lines to slog.
func raftLogger(to *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Info, Output: io.Discard})
	l.RegisterSink(sink{to})
	return l
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
