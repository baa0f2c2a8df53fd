//go:build !linux

package bench

import (
	"context"
	"time"
)

type realClock struct{ begun time.Time }

func newClock() (clock, error) { return realClock{time.Now()}, nil }

func (c realClock) now() time.Duration { return time.Since(c.begun) }

func (c realClock) sleep(_ context.Context, until time.Duration) { time.Sleep(until - c.now()) }

func (c realClock) close() {}
