package gatewayapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// TopicPollers is the question of one node to another: which gateways poll you, and
// how far is each. The node answers it with Pollers.Answer.
const TopicPollers = "gateways"

const (
	maxInquiry = 4 << 10 // bytes of a question
	maxReport  = 8 << 20 // bytes of an answer
	// maxHold bounds how long a node holds an answer back until all have acknowledged.
	maxHold  = 2 * time.Second
	askLimit = time.Second // beyond that, until a node counts as not answering
)

// inquiry is the question. With a seq the answer waits until every live gateway of the
// asked node has acknowledged it, or until wait_ms are over.
type inquiry struct {
	Tenant string `json:"tenant,omitempty"`
	Epoch  uint64 `json:"epoch,omitempty"`
	Seq    uint64 `json:"seq,omitempty"`
	WaitMS int64  `json:"wait_ms,omitempty"`
	// Of names nodes that the asker can't reach: the answer says what was heard of them.
	Of []string `json:"of,omitempty"`
}

// report is the answer.
type report struct {
	Items []sighting `json:"items"`
	Heard []hearsay  `json:"heard,omitempty"`
}

// hearsay is what a node that can be asked has heard of one that can't, directly from
// it: a link may be cut that no other node's goes over, and the gateways behind it live.
type hearsay struct {
	Node  string     `json:"node"`
	AgeMS int64      `json:"age_ms"`
	Items []sighting `json:"items"`
}

// sighting is one gateway instance as one node has seen it. Ages are milliseconds at
// the moment of the answer, so that no two clocks are compared.
type sighting struct {
	Gateway  string   `json:"gateway"`
	Instance string   `json:"instance"`
	Addr     string   `json:"addr"`
	Tenants  []string `json:"tenants,omitempty"`
	Epoch    uint64   `json:"epoch"`
	Head     uint64   `json:"head"`
	Acked    bool     `json:"acked"`
	HeadMS   int64    `json:"head_ms"`  // since it first reported that head
	SeenMS   int64    `json:"seen_ms"`  // since its last poll arrived
	QuietMS  int64    `json:"quiet_ms"` // since it last had a poll here; 0 while one waits
	FailOpen bool     `json:"fail_open"`
	Declared bool     `json:"declared"`
	BoundMS  int64    `json:"bound_ms"`

	// slack is how much of the ages may be wrong: a node that can't be asked goes on
	// serving its gateways until its own proof of freshness is too old.
	slack int64
}

func (s *sighting) sees(tenant string) bool {
	return tenant == "" || len(s.Tenants) == 0 || slices.Contains(s.Tenants, tenant)
}

// has tells whether the instance knows everything up to the seq of the inquiry. What
// a later epoch holds includes it: a restore carries revocations over.
func (s *sighting) has(q *inquiry) bool {
	return s.Acked && (s.Epoch > q.Epoch || s.Epoch == q.Epoch && s.Head >= q.Seq)
}

// live tells whether the instance may let tokens pass by what it knows: one that
// fails closed refuses them by itself when its last poll is older than its bound.
func (s *sighting) live() bool {
	if s.FailOpen {
		return s.QuietMS-s.slack <= defaultBound.Milliseconds()
	}
	return s.SeenMS-s.slack <= s.BoundMS
}

// instance is what a sighting says to whoever asks about gateways.
func (s *sighting) instance() Instance {
	return Instance{
		Gateway: s.Gateway, Instance: s.Instance, Addr: s.Addr,
		Epoch: s.Epoch, Head: s.Head, HeadMS: s.HeadMS, SeenMS: s.SeenMS,
		FailOpen: s.FailOpen, Live: s.live(),
	}
}

// expected tells whether a receipt waits for the instance.
func (s *sighting) expected(q *inquiry) bool { return s.sees(q.Tenant) && s.live() }

// Answer is the handler of TopicPollers.
func (p *Pollers) Answer(ctx context.Context, _ string, body []byte) ([]byte, error) {
	q, err := parseInquiry(body)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(min(time.Duration(q.WaitMS)*time.Millisecond, maxHold))
	defer timer.Stop()
	for {
		r, moved := p.here()
		done := q.Seq == 0 || !slices.ContainsFunc(r.Items, func(s sighting) bool { return s.expected(q) && !s.has(q) })
		if !done {
			select {
			case <-moved:
				continue
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		r.Heard = p.heardOf(q.Of)
		return json.Marshal(r)
	}
}

// heardOf is what this node has heard from these nodes themselves, as long as they
// answer it.
func (p *Pollers) heardOf(nodes []string) (out []hearsay) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, node := range nodes {
		if h := p.heard[node]; h != nil && h.report != nil && h.trouble.IsZero() {
			out = append(out, hearsay{node, p.cfg.Clock().Sub(h.began).Milliseconds(), h.report.Items})
		}
	}
	return out
}

// troubled are the nodes that don't answer now.
func (p *Pollers) troubled() (nodes []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for node, h := range p.heard {
		if !h.trouble.IsZero() {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// listen takes in hearsay of nodes that still don't answer, where it is newer than
// what is known. The caller holds mu; began is when it was asked for.
func (p *Pollers) listen(heard []hearsay, began time.Time) {
	for _, x := range heard {
		h, at := p.heard[x.Node], began.Add(-time.Duration(x.AgeMS)*time.Millisecond)
		if h != nil && !h.trouble.IsZero() && at.After(h.at) {
			h.report, h.at = &report{Items: x.Items}, at
		}
	}
}

func parseInquiry(body []byte) (*inquiry, error) {
	q := new(inquiry)
	if len(body) > maxInquiry {
		return nil, errors.New("the question about gateways is too long")
	}
	if err := json.Unmarshal(body, q); err != nil || q.WaitMS < 0 {
		return nil, errors.New("the question about gateways is not well-formed")
	}
	return q, nil
}

// here is this node's own report, and what tells that it has changed.
func (p *Pollers) here() (*report, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Clock()
	r := &report{Items: make([]sighting, 0, len(p.known))}
	for key, x := range p.known {
		s := sighting{
			Gateway: key.gateway, Instance: key.instance, Addr: x.addr, Tenants: x.tenants,
			Epoch: x.epoch, Head: x.head, Acked: x.acked, HeadMS: now.Sub(x.headAt).Milliseconds(), SeenMS: now.Sub(x.seen).Milliseconds(),
			FailOpen: x.failOpen, Declared: x.declared, BoundMS: x.bound.Milliseconds(),
		}
		if x.active == 0 {
			s.QuietMS = now.Sub(x.ended).Milliseconds()
		}
		r.Items = append(r.Items, s)
	}
	return r, p.moved
}

// heard is what this node knows of another one's gateways.
type heard struct {
	report  *report   // the newest, perhaps by way of another node; nil: none yet
	began   time.Time // when the node itself was asked for it
	at      time.Time // when it came
	trouble time.Time // since when it does not answer; zero: it does
}

// ask puts the question to one node and keeps the answer.
func (p *Pollers) ask(ctx context.Context, node string, q *inquiry) error {
	body, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("ask about gateways: %w", err)
	}
	began := p.cfg.Clock()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(q.WaitMS)*time.Millisecond+askLimit)
	defer cancel()
	raw, err := p.cfg.Ask(ctx, node, TopicPollers, body)
	var r *report
	if err == nil {
		r, err = parseReport(raw)
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err() // nobody waits any more: it says nothing of the node
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.heard[node]
	if h == nil {
		h = new(heard)
		p.heard[node] = h
	}
	now := p.cfg.Clock()
	if err != nil {
		if h.trouble.IsZero() {
			h.trouble = now
		}
		return err
	}
	if !began.Before(h.began) { // an answer that was overtaken by a later one says less
		h.report, h.began, h.at, h.trouble = r, began, now, time.Time{}
	}
	p.listen(r.Heard, began)
	r.Heard = nil
	return nil
}

func parseReport(raw []byte) (*report, error) {
	r := new(report)
	if len(raw) > maxReport {
		return nil, errors.New("the report about gateways is too long")
	}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, errors.New("the report about gateways is not well-formed")
	}
	return r, nil
}

// askAll asks every node once, all at the same time.
func (p *Pollers) askAll(ctx context.Context) {
	q := &inquiry{Of: p.troubled()}
	var wg sync.WaitGroup
	for _, node := range p.cfg.Nodes() {
		wg.Go(func() { _ = p.ask(ctx, node, q) }) // kept in heard
	}
	wg.Wait()
}

// everywhere puts all reports together: of an instance that several nodes have seen,
// what the one says where it polled last. blind tells that some node does not answer,
// and that a gateway of it may still let tokens pass that nobody here knows of.
func (p *Pollers) everywhere(nodes []string) (all []sighting, blind bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Clock()
	newest := make(map[instanceKey]int)
	for _, node := range nodes {
		h := p.heard[node]
		if h == nil {
			blind = true
			continue
		}
		if h.report == nil { // it never answered since this node's start
			blind = blind || now.Sub(h.trouble) < defaultBound+p.cfg.Staleness
			continue
		}
		age := now.Sub(h.at).Milliseconds()
		for _, s := range h.report.Items {
			s.HeadMS, s.SeenMS = s.HeadMS+age, s.SeenMS+age
			if s.QuietMS > 0 || !h.trouble.IsZero() {
				s.QuietMS += age
			}
			if !h.trouble.IsZero() {
				s.slack = min(age, p.cfg.Staleness.Milliseconds())
			}
			key := instanceKey{s.Gateway, s.Instance}
			i, twice := newest[key]
			switch {
			case !twice:
				newest[key] = len(all)
				all = append(all, s)
			case s.SeenMS < all[i].SeenMS:
				all[i] = s
			}
		}
	}
	slices.SortFunc(all, func(a, b sighting) int {
		if a.Gateway != b.Gateway {
			return compare(a.Gateway, b.Gateway)
		}
		return compare(a.Instance, b.Instance)
	})
	return all, blind
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// ReportedHead is the highest head that a gateway has acknowledged at any node: a
// restore gives seqs above it (R15).
func (p *Pollers) ReportedHead(ctx context.Context) uint64 {
	nodes := p.cfg.Nodes()
	p.askAll(ctx)
	all, _ := p.everywhere(nodes)
	var head uint64
	for _, s := range all {
		head = max(head, s.Head)
	}
	return head
}
