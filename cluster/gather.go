package cluster

import (
	"context"
	"fmt"
	"os"
	"runtime"
)

// gatherer lets a request that has reached this machine share the entry that is
// about to form. A scheduler whose threads are all busy looks at the network only
// when it has nothing else to do, so callers that were answered by one entry would
// come back in the next but one, and every sync would serve a part of them. It is no
// timer: it waits for what is there, not for what may come.
type gatherer struct {
	from, to *os.File
	polled   chan struct{} // one for each byte that the network poller has found
}

func newGatherer() (*gatherer, error) {
	from, to, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make the pipe of the proposals: %w", err)
	}
	return &gatherer{from: from, to: to, polled: make(chan struct{}, 1)}, nil
}

// run passes on what comes through the pipe until close.
func (g *gatherer) run() {
	var b [1]byte
	for {
		if _, err := g.from.Read(b[:]); err != nil {
			return
		}
		g.polled <- struct{}{}
	}
}

// wait returns when the runtime has looked at the network once, and who was found
// there has run.
func (g *gatherer) wait(ctx context.Context) {
	if _, err := g.to.Write([]byte{0}); err != nil {
		return // closed: the node stops
	}
	select {
	case <-g.polled:
	case <-ctx.Done():
		return
	}
	runtime.Gosched()
}

func (g *gatherer) close() {
	_ = g.to.Close()
	_ = g.from.Close()
}
