package gateway

import (
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// nodes is which node to ask: a random order, so that gateways spread, the
// fewest failures first, each failed one left alone for a while.
type nodes struct {
	mu      sync.Mutex
	clock   Clock
	list    []*node
	current string
}

type node struct {
	url    string
	told   source // that name it besides the configuration
	listed bool   // in the configuration
	fails  int
	until  time.Duration // boot time before which it is left alone
	why    string
}

// source is who named a node: one bit each.
type source uint8

const (
	byGossip source = 1 << iota
	byMembers
)

const (
	firstPause = 50 * time.Millisecond
	maxPause   = 5 * time.Second
	maxNodes   = 64
)

func newNodes(urls []string, clock Clock) *nodes {
	n := &nodes{clock: clock}
	for _, u := range urls {
		n.list = append(n.list, &node{url: strings.TrimRight(u, "/"), listed: true})
	}
	rand.Shuffle(len(n.list), func(i, j int) { n.list[i], n.list[j] = n.list[j], n.list[i] })
	return n
}

// pick gives the node to follow next, or how long to wait until one may be tried.
func (n *nodes) pick() (url string, wait time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.clock.Boot()
	wait = maxPause
	var best *node
	for _, x := range n.list {
		if x.until > now {
			wait = min(wait, x.until-now)
			continue
		}
		if best == nil || x.fails < best.fails {
			best = x
		}
	}
	if best == nil {
		return "", wait
	}
	return best.url, 0
}

// follow says which node is being followed, none when empty.
func (n *nodes) follow(url string) (changed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	changed = url != "" && url != n.current
	n.current = url
	return changed
}

// well says that a node answered as it should.
func (n *nodes) well(url string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range n.list {
		if x.url == url {
			x.fails, x.until, x.why = 0, 0, ""
		}
	}
}

// failed leaves a node alone for a time that doubles with each failure in a row,
// from 50 ms to 5 s, less up to a half by chance.
func (n *nodes) failed(url, why string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range n.list {
		if x.url == url {
			pause := min(firstPause<<min(x.fails, 10), maxPause)
			x.fails++
			x.until = n.clock.Boot() + pause - rand.N(pause/2)
			x.why = why
		}
	}
}

// order lists up to limit nodes for a single question, the followed one first.
func (n *nodes) order(limit int) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	urls := make([]string, 0, limit)
	if n.current != "" {
		urls = append(urls, n.current)
	}
	for fails := 0; fails < 2 && len(urls) < limit; fails++ { // healthy ones first
		for _, x := range n.list {
			if len(urls) < limit && x.url != n.current && (x.fails > 0) == (fails > 0) {
				urls = append(urls, x.url)
			}
		}
	}
	return urls
}

// hint takes in the nodes that a source names now and lets go of those that no
// source names any more. Configured ones stay.
func (n *nodes) hint(by source, urls []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	named := make(map[string]bool, len(urls))
	for _, u := range urls {
		named[strings.TrimRight(u, "/")] = true
	}
	kept := n.list[:0]
	for _, x := range n.list {
		x.told &^= by
		if named[x.url] {
			x.told |= by
		}
		if x.listed || x.told != 0 || x.url == n.current {
			kept = append(kept, x)
		}
		delete(named, x.url)
	}
	clear(n.list[len(kept):])
	n.list = kept
	for u := range named {
		if len(n.list) < maxNodes {
			n.list = append(n.list, &node{url: u, told: by})
		}
	}
}

func (n *nodes) status() (current string, all []NodeStatus) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range n.list {
		all = append(all, NodeStatus{
			URL: x.url, Following: x.url == n.current, Failures: x.fails, Problem: x.why,
			FromGossip: !x.listed && x.told&byGossip != 0, FromMembers: !x.listed && x.told&byMembers != 0,
		})
	}
	return n.current, all
}
