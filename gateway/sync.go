package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/tokens/verify"
)

const (
	sweepEvery = time.Minute
	// The cache file is written when the head has moved, but for at most a fiftieth
	// of the time, and at least once a minute.
	saveEvery  = time.Second
	saveRest   = 50
	saveAtMost = time.Minute
	hintPause  = 200 * time.Millisecond // between two polls that gossip asked for
	hintTrust  = 2 * time.Second        // a head that gossip names and the node does not: try another node
	hintMove   = 10 * time.Second       // between two moves for that reason
	reloadRest = time.Minute            // between two snapshots because the clock was set back
)

var (
	errBehind  = errors.New("the node has seen less of the log than this gateway")
	errHostile = errors.New("the answer can't be true")
	errFull    = errors.New("more live revocations than MaxRevocations; raise it, nothing more is taken in until then")
)

// syncer keeps the copy in step with the cluster, in the manner of Pomerium's
// databroker syncer: two states (load all, follow), progress in two numbers
// (epoch, since), one pause. It alone writes the view's head and set.
type syncer struct {
	g           *Gateway
	loaded      bool   // since can be resumed from
	epoch       uint64 // of since
	since       uint64 // everything up to here is in the set
	known       bool   // an epoch is known
	kick        chan hint
	ask         chan string // a node to ask for the others
	lastHint    time.Duration
	wanted      hint
	wantedSince time.Duration
	lastMove    time.Duration
	saved       time.Duration // when the cache file was written last
	saving      time.Duration // how long that took
	savedHead   uint64
	reloaded    time.Duration // when a snapshot was loaded because the clock was set back
}

// hint is a head that gossip named. It is never trusted, only asked for.
type hint struct{ epoch, head uint64 }

// Run keeps the copy in sync until ctx ends, and returns nil then. It may be
// called once. It writes the cache file when it ends.
func (g *Gateway) Run(ctx context.Context) error {
	if g.running.Swap(true) {
		return errors.New("gateway: Run was called before; make another Gateway")
	}
	v := g.view.Load()
	s := &syncer{g: g, kick: make(chan hint, 1), ask: make(chan string, 1)}
	if g.cached.Load() {
		s.loaded, s.known, s.epoch, s.since = true, true, v.epoch, v.head
	}
	stop := g.startGossip(ctx, s)
	defer stop()
	unlearn := g.startMembers(ctx, s.ask)
	defer unlearn()
	defer g.client.http.CloseIdleConnections()
	for ctx.Err() == nil {
		url, wait := g.nodes.pick()
		if url == "" {
			s.pause(ctx, wait)
			continue
		}
		if g.nodes.follow(url) {
			g.counts.switches.Add(1)
		}
		err := s.follow(ctx, url)
		if ctx.Err() != nil {
			break
		}
		g.nodes.failed(url, err.Error())
		g.trouble(url, err)
	}
	g.nodes.follow("")
	return s.save()
}

// trouble makes the reason known: once in the log as long as it stays the same.
func (g *Gateway) trouble(node string, err error) {
	text := node + ": " + err.Error()
	if old := g.problem.Swap(&text); old == nil || *old != text {
		g.cfg.Logger.Warn("a node can't be followed; trying the next one", "node", node, "error", err)
	}
}

func (s *syncer) pause(ctx context.Context, wait time.Duration) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// polled is the end of one poll.
type polled struct {
	probe        bool
	epoch, since uint64 // as asked
	answer       *answer
	err          error
}

// polls are the two polls under way at one node: a long one brings news at once,
// a short one every 700 ms proves that the node is alive, the head fresh and the
// credential good. Both carry the same answers.
type polls struct {
	s       *syncer
	node    string
	results chan polled // room for both: a send never waits
	running int
	probing bool // the short one is under way
	waiting bool // the long one is
}

// start asks; the goroutine ends with ctx, and drain waits for it.
func (p *polls) start(ctx context.Context, probe bool) {
	s, wait, already := p.s, pollWait, &p.waiting
	if probe {
		wait, already = 0, &p.probing
	}
	if *already {
		return
	}
	*already = true
	p.running++
	epoch, since, known := s.epoch, s.since, s.known
	s.g.counts.polls.Add(1)
	go func() {
		a, err := s.g.client.poll(ctx, s.g.cfg.Clock, p.node, epoch, since, known, wait)
		p.results <- polled{probe, epoch, since, a, err}
	}()
}

// ended takes an answer in and asks anew where that is due.
func (p *polls) ended(ctx context.Context, r polled) error {
	p.running--
	if r.probe {
		p.probing = false
	} else {
		p.waiting = false
	}
	more, err := p.s.take(ctx, p.node, r)
	if err != nil {
		return err
	}
	if !r.probe && (p.s.since != r.since || p.s.epoch != r.epoch || p.s.g.waited(r.answer)) {
		p.start(ctx, false) // else the node doesn't let it wait: the next tick is soon enough
	}
	if more {
		p.start(ctx, true)
	}
	return nil
}

// waited says that an answer was long enough on its way to have been waited for.
func (g *Gateway) waited(a *answer) bool {
	return g.cfg.Clock.elapsed(a.sent, g.cfg.Clock.Now()) >= g.cfg.pace.probe
}

func (p *polls) drain() {
	for ; p.running > 0; p.running-- {
		<-p.results
	}
}

// follow stays with one node until it fails, and says why it did. All answers
// are taken in here, one after the other.
func (s *syncer) follow(ctx context.Context, node string) error {
	ctx, cancel := context.WithCancel(ctx)
	p := &polls{s: s, node: node, results: make(chan polled, 2)}
	defer p.drain()
	defer cancel()
	var epoch, head uint64 // that the node must have seen
	if s.known && s.g.confirmed.Load() {
		epoch, head = s.epoch, s.since
	}
	if err := s.hello(ctx, node, epoch, head); err != nil {
		return err
	}
	if !s.loaded {
		if err := s.load(ctx, node); err != nil {
			return err
		}
	}
	s.askMembers(node)
	p.start(ctx, true)
	p.start(ctx, false)
	tick := time.NewTicker(s.g.cfg.pace.probe)
	defer tick.Stop()
	upkeep := time.NewTicker(sweepEvery)
	defer upkeep.Stop()
	members := time.NewTicker(membersEvery)
	defer members.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-p.results:
			if err := p.ended(ctx, r); err != nil {
				return err
			}
		case <-tick.C:
			if err := s.better(); err != nil {
				return err
			}
			if err := s.afterSetBack(ctx, node); err != nil {
				return err
			}
			p.start(ctx, true)
			p.start(ctx, false)
		case h := <-s.kick:
			if s.worth(h) {
				p.start(ctx, true)
			}
		case <-members.C:
			s.askMembers(node)
		case <-upkeep.C:
			s.upkeep()
		}
	}
}

// hello fetches the keys as of (epoch, head) or later, and with them learns which
// cluster this node is of.
func (s *syncer) hello(ctx context.Context, node string, epoch, head uint64) error {
	doc, err := s.g.client.keys(ctx, s.g.cfg.Clock, node)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if err := s.pin(doc.Cluster, node); err != nil {
		return err
	}
	if doc.Epoch < epoch || doc.Epoch == epoch && doc.Head < head {
		return errBehind
	}
	return s.g.setKeys(doc)
}

// keysAt is hello in the middle of something: the cluster must stay the same.
func (s *syncer) keysAt(ctx context.Context, node string, epoch, head uint64) error {
	before := s.g.pinned()
	if err := s.hello(ctx, node, epoch, head); err != nil {
		return err
	}
	if s.g.pinned() != before {
		return fmt.Errorf("%w: its key document is of another cluster", errHostile)
	}
	return nil
}

// pin holds a node's cluster id against the one that is known. Two clusters are
// never merged (G10); a cache file of another cluster is dropped whole (G6).
func (s *syncer) pin(cluster, node string) error {
	g := s.g
	known := g.pinned()
	switch {
	case known == cluster:
		return nil
	case known == "":
		g.cluster.Store(&cluster)
		g.cfg.Logger.Info("first contact", "cluster", cluster, "node", node)
		return nil
	case g.cfg.Cluster == "" && !g.confirmed.Load():
		g.cfg.Logger.Error("the cache file is of another cluster; it is dropped", "cache_cluster", known, "cluster", cluster, "node", node)
		g.forget()
		g.cluster.Store(&cluster)
		s.loaded, s.known, s.epoch, s.since = false, false, 0, 0
		return nil
	}
	g.cfg.Logger.Error("a node of another cluster; nothing is taken from it", "cluster", known, "other", cluster, "node", node)
	return fmt.Errorf("the node is of cluster %q, this gateway belongs to %q: correct the list of nodes", cluster, known)
}

// take deals with the end of one poll. more says that the answer was cut and the
// rest is to be asked for at once.
func (s *syncer) take(ctx context.Context, node string, r polled) (more bool, err error) {
	if r.err != nil {
		return false, r.err
	}
	if s.known && r.epoch != s.epoch {
		return false, nil // asked before the epoch changed; the next poll asks again
	}
	if r.answer.refused != nil {
		return false, s.refused(ctx, node, r)
	}
	d, err := parseDelta(r.answer)
	if err == nil {
		err = s.plausible(d, r)
	}
	if err != nil {
		if !errors.Is(err, errBehind) {
			s.g.counts.badAnswers.Add(1)
		}
		return false, err
	}
	if d.Epoch != s.epoch {
		return false, s.load(ctx, node)
	}
	if at := s.g.needsKeys(d, s.since); at > 0 {
		if err := s.keysAt(ctx, node, d.Epoch, at); err != nil {
			return false, err
		}
	}
	if err := s.g.apply(d, &s.since); err != nil {
		return false, err
	}
	if !d.Truncated {
		s.g.proved(r.answer.sent)
		s.g.nodes.well(node)
		s.g.problem.Store(nil)
	}
	return d.Truncated, nil
}

// plausible refuses a page that can't be true, before anything of it is taken.
func (s *syncer) plausible(d *wire.Delta, r polled) error {
	switch {
	case d.Cluster != "" && d.Cluster != s.g.pinned():
		return fmt.Errorf("%w: it is of another cluster", errHostile)
	case s.known && d.Epoch < s.epoch:
		return errBehind
	case d.Epoch == s.epoch && d.Head < r.since:
		return fmt.Errorf("%w: its head lies below what was asked for", errHostile)
	case d.Epoch == s.epoch && len(d.Items) > 0 && d.Items[0].Seq <= r.since:
		return fmt.Errorf("%w: it holds events from before what was asked for", errHostile)
	}
	return nil
}

// refused deals with a 409 or 410. None of them moves the head.
func (s *syncer) refused(ctx context.Context, node string, r polled) error {
	f := r.answer.refused
	confirmed := s.g.confirmed.Load()
	switch f.Code {
	case wire.Compacted:
		if r.since < s.since {
			return nil // an old question; the next poll asks from further on
		}
		return s.load(ctx, node)
	case wire.Epoch:
		if f.Epoch > s.epoch || !confirmed {
			return s.reload(ctx, node, confirmed)
		}
		return errBehind
	case wire.Ahead:
		if !confirmed { // the cache file is from a future that the cluster does not know
			return s.reload(ctx, node, false)
		}
	case wire.Behind:
		return errBehind
	}
	return refusalError(f)
}

// reload starts from the node's snapshot. What the cache file alone said about
// the position is given up; the revocations are kept.
func (s *syncer) reload(ctx context.Context, node string, confirmed bool) error {
	if !confirmed {
		s.g.cfg.Logger.Warn("the cache file's position is not one of this cluster's; loading the snapshot", "epoch", s.epoch, "head", s.since)
		s.g.rewind()
		s.loaded, s.known, s.epoch, s.since = false, false, 0, 0
	}
	return s.load(ctx, node)
}

// load takes in a snapshot: all or nothing. What was known before is kept until
// it expires, of whatever epoch: a restore forgets revocations, a gateway does
// not. Until it is published the old view goes on refusing (G5).
func (s *syncer) load(ctx context.Context, node string) error {
	g := s.g
	set, count := newRevset(), 0
	var more []verify.Revocation
	at, made, err := g.client.snapshot(ctx, g.cfg.Clock, node, func(e *wire.Event) error {
		if !revocable(e.Kind) {
			return nil
		}
		if count++; count > g.cfg.MaxRevocations {
			return errFull
		}
		g.view.Load().keys.named(e)
		if e.IssuedAfter == 0 {
			set.add(&g.cache.hash, e)
			return nil
		}
		if more = append(more, revocationOf(e)); len(more) > maxWindows {
			return errWindows
		}
		return nil
	})
	if err != nil {
		g.counts.badAnswers.Add(1)
		return fmt.Errorf("snapshot: %w", err)
	}
	if at.Cluster != g.pinned() {
		g.counts.badAnswers.Add(1)
		return fmt.Errorf("snapshot: %w: it is of another cluster", errHostile)
	}
	if s.known && (at.Epoch < s.epoch || at.Epoch == s.epoch && at.Head < s.since) {
		return errBehind
	}
	// A change of keys in what was skipped has no event here.
	if err := s.keysAt(ctx, node, at.Epoch, at.Head); err != nil {
		return err
	}
	if err := g.install(at, made, set, more); err != nil {
		return err
	}
	g.counts.snapshots.Add(1)
	s.loaded, s.known, s.epoch, s.since = true, true, at.Epoch, at.Head
	g.cfg.Logger.Info("snapshot installed", "node", node, "epoch", at.Epoch, "head", at.Head, "revocations", count)
	g.told()
	return nil
}

// afterSetBack loads a snapshot when the clock was set back: what was swept while it
// was ahead is on the nodes still.
func (s *syncer) afterSetBack(ctx context.Context, node string) error {
	now := s.g.cfg.Clock.Boot()
	if !s.g.setBack() || s.reloaded != 0 && now-s.reloaded < reloadRest {
		return nil
	}
	s.reloaded = now
	s.g.cfg.Logger.Warn("this machine's clock was set back; loading the snapshot, since revocations may have been dropped early")
	return s.load(ctx, node)
}

// worth says whether a head named by gossip is worth a poll now: it lies ahead,
// and the last such poll was long enough ago. A forged one costs five polls a
// second at most (G8).
func (s *syncer) worth(h hint) bool {
	now := s.g.cfg.Clock.Boot()
	if !s.ahead(h) {
		return false
	}
	if !s.ahead(s.wanted) {
		s.wanted, s.wantedSince = h, now
	}
	if now-s.lastHint < hintPause {
		return false
	}
	s.lastHint = now
	s.g.counts.hints.Add(1)
	return true
}

func (s *syncer) ahead(h hint) bool {
	return h.epoch > s.epoch || h.epoch == s.epoch && h.head > s.since
}

// better leaves a node that has not come up with a head that gossip named, at
// most once in ten seconds: the name may be forged.
func (s *syncer) better() error {
	now := s.g.cfg.Clock.Boot()
	if !s.ahead(s.wanted) || now-s.wantedSince < hintTrust || now-s.lastMove < hintMove {
		return nil
	}
	s.lastMove, s.wanted = now, hint{}
	return errors.New("gossip names a head that this node has not seen")
}

func (s *syncer) upkeep() {
	s.g.sweep()
	if s.g.cfg.Clock.Boot()-s.saved >= min(max(saveEvery, saveRest*s.saving), saveAtMost) {
		if err := s.save(); err != nil {
			s.g.cfg.Logger.Error("the cache file can't be written; after a restart the gateway loads a snapshot", "error", err)
		}
	}
}

// save writes the cache file when the head has moved.
func (s *syncer) save() error {
	v := s.g.view.Load()
	if s.g.cfg.CacheFile == "" || !s.g.confirmed.Load() || v.head == s.savedHead {
		return nil
	}
	begun := s.g.cfg.Clock.Boot()
	if err := s.g.toFile(v); err != nil {
		return err
	}
	s.saved, s.savedHead = s.g.cfg.Clock.Boot(), v.head
	s.saving = s.saved - begun
	return nil
}
