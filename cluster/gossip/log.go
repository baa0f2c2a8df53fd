package gossip

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// bridge turns memberlist's lines into records of slog. Strangers can cause
// lines (a packet with another label, another key), so there is a limit.
type bridge struct {
	logger  *slog.Logger
	limit   *rate.Limiter
	dropped atomic.Int64
}

func newBridge(l *slog.Logger) *bridge {
	return &bridge{logger: l, limit: rate.NewLimiter(5, 50)}
}

// Write takes one line of the form "[WARN] memberlist: text". It never fails.
func (b *bridge) Write(line []byte) (int, error) {
	text := strings.TrimRight(string(line), "\n")
	level := slog.LevelInfo
	if rest, ok := strings.CutPrefix(text, "["); ok {
		if name, after, ok := strings.Cut(rest, "] "); ok {
			level, text = levelOf(name), after
		}
	}
	ctx := context.Background()
	if !b.logger.Enabled(ctx, level) {
		return len(line), nil
	}
	if !b.limit.Allow() {
		b.dropped.Add(1)
		return len(line), nil
	}
	var args []any
	if n := b.dropped.Swap(0); n > 0 {
		args = []any{"lines_dropped", n}
	}
	b.logger.Log(ctx, level, strings.TrimPrefix(text, "memberlist: "), args...)
	return len(line), nil
}

// levelOf: memberlist's errors are those of its network, never of this node.
func levelOf(name string) slog.Level {
	switch name {
	case "DEBUG":
		return slog.LevelDebug
	case "WARN", "ERR", "ERROR":
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}
