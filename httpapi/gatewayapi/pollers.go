package gatewayapi

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// How long a gateway that has gone silent is remembered.
const (
	// defaultBound is the silence after which one that doesn't say its own bound is
	// no longer waited for: the SDK's own preset.
	defaultBound = 10 * time.Second
	// keptUnsaid is for one that doesn't say how it fails: perhaps somebody's curl.
	keptUnsaid = time.Minute
	keptClosed = time.Hour // so that a list still shows it
	keptOpen   = 24 * time.Hour
	// maxInstances bounds the instances of one gateway; the longest silent one goes.
	maxInstances = 4096
)

// PollersConfig has no optional fields but the last two.
type PollersConfig struct {
	View  func(ctx context.Context, f state.Freshness) (*state.View, error)
	Nodes func() []string // ids of all members, this node's among them
	// Ask puts a question of topic TopicPollers to one node, this one included.
	Ask func(ctx context.Context, node, topic string, body []byte) ([]byte, error)
	// Staleness is how long a node serves its gateways without a leader; 0: 5 s.
	Staleness time.Duration
	Clock     func() time.Time // nil: time.Now
}

// Pollers are the gateway instances that poll this node. Run keeps them tidy; Answer
// is what the other nodes ask. Safe for concurrent use.
type Pollers struct {
	cfg PollersConfig

	mu        sync.Mutex
	known     map[instanceKey]*poller
	held      map[string]*group // by credential's hash
	moved     chan struct{}     // closed at each acknowledgement and arrival of a new one
	heard     map[string]*heard // by node
	snapshots int
}

type instanceKey struct{ gateway, instance string }

// poller is one gateway instance as this node has seen it.
type poller struct {
	addr        string
	tenants     []string
	epoch, head uint64
	acked       bool      // head was good in epoch
	headAt      time.Time // when it first reported that head
	seen        time.Time // when its last poll arrived
	ended       time.Time // when its last poll was answered
	active      int       // polls under way
	failOpen    bool
	declared    bool
	bound       time.Duration
}

// group counts the long-polls of one credential.
type group struct {
	who     *caller
	waiting int
	ended   chan struct{} // closed when the credential was taken back
}

// NewPollers checks its configuration.
func NewPollers(cfg PollersConfig) (*Pollers, error) {
	if cfg.View == nil || cfg.Nodes == nil || cfg.Ask == nil {
		return nil, errors.New("gatewayapi: PollersConfig needs View, Nodes and Ask")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Staleness == 0 {
		cfg.Staleness = 5 * time.Second
	}
	return &Pollers{
		cfg: cfg, known: make(map[instanceKey]*poller), held: make(map[string]*group),
		moved: make(chan struct{}), heard: make(map[string]*heard),
	}, nil
}

// visit is one poll under way; nil for one that doesn't count.
type visit struct {
	pollers *Pollers
	poller  *poller
}

// arrived notes a poll.
func (p *Pollers) arrived(who *caller, q *question, addr string) *visit {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, key := p.cfg.Clock(), instanceKey{who.gateway, q.instance}
	x := p.known[key]
	if x == nil {
		p.makeRoom(who.gateway)
		x = &poller{headAt: now}
		p.known[key] = x
		p.wake()
	}
	x.addr, x.tenants, x.seen = addr, who.tenants, now
	x.failOpen, x.declared, x.bound = q.failOpen, q.declared, q.bound
	x.active++
	return &visit{p, x}
}

// makeRoom forgets the longest silent instance of a gateway that has too many.
func (p *Pollers) makeRoom(gateway string) {
	count := 0
	var oldest instanceKey
	var since time.Time
	for key, x := range p.known {
		if key.gateway != gateway {
			continue
		}
		count++
		if x.active == 0 && (since.IsZero() || x.seen.Before(since)) {
			oldest, since = key, x.seen
		}
	}
	if count >= maxInstances && !since.IsZero() { // else all of them have a poll under way
		delete(p.known, oldest)
	}
}

// acknowledged notes that the gateway knows everything up to q.since of v's epoch.
func (t *visit) acknowledged(v *state.View, q *question) {
	if t == nil {
		return
	}
	p, x := t.pollers, t.poller
	p.mu.Lock()
	defer p.mu.Unlock()
	if x.acked && x.epoch == v.Epoch() && x.head == q.since {
		return
	}
	x.acked, x.epoch, x.head, x.headAt = true, v.Epoch(), q.since, p.cfg.Clock()
	p.wake()
}

func (t *visit) done() {
	if t == nil {
		return
	}
	t.pollers.mu.Lock()
	defer t.pollers.mu.Unlock()
	t.poller.active--
	t.poller.ended = t.pollers.cfg.Clock()
}

// wake tells who waits for acknowledgements. The caller holds mu.
func (p *Pollers) wake() {
	close(p.moved)
	p.moved = make(chan struct{})
}

// hold is one waiting long-poll.
type hold struct {
	pollers *Pollers
	group   *group
	ended   <-chan struct{}
}

// hold counts a long-poll that begins to wait; one too many is refused (GW-04).
func (p *Pollers) hold(who *caller, most int) (*hold, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.held[string(who.credential)]
	if g == nil {
		g = &group{who: who, ended: make(chan struct{})}
		p.held[string(who.credential)] = g
	}
	if g.waiting >= most {
		return nil, oauth.Code("too_many_requests").Withf("this credential has %d long-polls open already; one for each gateway process is enough", most).
			WithStatus(429).WithRetryAfter(1)
	}
	g.waiting++
	return &hold{p, g, g.ended}, nil
}

func (h *hold) release() {
	p := h.pollers
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.group.waiting--; h.group.waiting == 0 && p.held[string(h.group.who.credential)] == h.group {
		delete(p.held, string(h.group.who.credential))
	}
}

func (p *Pollers) beginSnapshot() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.snapshots >= maxSnapshots {
		return false
	}
	p.snapshots++
	return true
}

func (p *Pollers) endSnapshot() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.snapshots--
}

// tidyEvery is how soon a credential that was taken back ends its long-polls, well
// within the five seconds of G12; the other nodes are asked as often.
const tidyEvery = time.Second

// meetEvery is how often nodes are asked until each has answered once.
const meetEvery = 50 * time.Millisecond

// Run ends the long-polls of credentials that were taken back, forgets who has been
// silent long enough, and keeps up with what the other nodes' gateways have reported.
// It returns when ctx ends.
func (p *Pollers) Run(ctx context.Context) {
	for {
		if v, err := p.cfg.View(ctx, state.Stale); err == nil {
			p.tidy(v)
		}
		p.askAll(ctx) // what was heard of a node counts when it dies
		pause := tidyEvery
		if p.unheard() {
			pause = meetEvery
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// unheard tells whether some node has never answered: one that has just joined, and
// would leave every receipt open if it died now.
func (p *Pollers) unheard() bool {
	nodes := p.cfg.Nodes()
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(nodes) == 0 || slices.ContainsFunc(nodes, func(node string) bool {
		h := p.heard[node]
		return h == nil || h.report == nil
	})
}

func (p *Pollers) tidy(v *state.View) {
	nodes := p.cfg.Nodes()
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, g := range p.held {
		if _, err := g.who.on(v); err != nil {
			close(g.ended)
			delete(p.held, id)
		}
	}
	now := p.cfg.Clock()
	for key, x := range p.known {
		if x.active > 0 {
			continue
		}
		kept := keptClosed
		switch {
		case !x.declared:
			kept = keptUnsaid
		case x.failOpen:
			kept = keptOpen
		}
		if _, ok := v.Gateway(key.gateway); key.gateway != "" && !ok || now.Sub(x.ended) > max(kept, x.bound) {
			delete(p.known, key)
		}
	}
	for id := range p.heard {
		if !slices.Contains(nodes, id) {
			delete(p.heard, id)
		}
	}
}
