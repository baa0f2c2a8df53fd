package cluster

import (
	"context"
	"testing"
)

func TestAGathererPassesOnWhatThePollerFinds(t *testing.T) {
	t.Parallel()
	g, err := newGatherer()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { g.run(); close(ended) }()
	for range 3 {
		g.wait(t.Context())
	}
	if _, err := g.to.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	<-g.polled // what was written came through, and nothing was left by the waits before
	g.close()
	<-ended
	g.wait(t.Context()) // a closed one holds nobody up
}

func TestAGathererEndsWithItsContext(t *testing.T) {
	t.Parallel()
	g, err := newGatherer()
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.wait(ctx) // nobody runs it
}
