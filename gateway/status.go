package gateway

import "time"

// Status is what the gateway says about itself.
type Status struct {
	Cluster  string   `json:"cluster"` // empty before the first contact
	Instance string   `json:"instance"`
	State    State    `json:"state"`
	FailMode FailMode `json:"fail_mode"`
	// Refusing says that every token is refused now, whatever it is.
	Refusing bool   `json:"refusing"`
	Epoch    uint64 `json:"epoch"`
	Head     uint64 `json:"head"`
	// HeadAgeMS is how long ago the head was last proved, -1 for never;
	// MaxStalenessMS the bound of it.
	HeadAgeMS      int64 `json:"head_age_ms"`
	MaxStalenessMS int64 `json:"max_staleness_ms"`
	// BoundTokens says what becomes of tokens with cnf (RFC 8705, 9449): "checked",
	// they pass with the proof of what they are bound to.
	BoundTokens   string       `json:"bound_tokens"`
	FromCacheFile bool         `json:"from_cache_file"` // what is here came from the file and no node has confirmed it
	Node          string       `json:"node"`            // that is being followed
	Nodes         []NodeStatus `json:"nodes"`
	Problem       string       `json:"problem,omitempty"` // what keeps the sync from going on
	Counts        Counts       `json:"counts"`
}

// State is where the gateway stands.
type State string

// The states. In Starting and Stale the fail mode decides.
const (
	Starting State = "starting" // no contact yet
	Synced   State = "synced"
	StaleNow State = "stale"
)

// NodeStatus is one node as this gateway sees it.
type NodeStatus struct {
	URL         string `json:"url"`
	Following   bool   `json:"following"`
	FromGossip  bool   `json:"from_gossip,omitempty"`
	FromMembers bool   `json:"from_members,omitempty"` // named by a node
	Failures    int    `json:"failures"`               // in a row
	Problem     string `json:"problem,omitempty"`
}

// Counts are numbers since the start, but for the first five.
type Counts struct {
	Revocations    int               `json:"revocations"`
	Issuers        int               `json:"issuers"`
	Keys           int               `json:"keys"`
	CachedTokens   int64             `json:"cached_tokens"`
	CacheBytes     int64             `json:"cache_bytes"`
	Accepted       uint64            `json:"accepted"`
	AcceptedStale  uint64            `json:"looked_at_while_stale"` // with FailOpen: decided without a fresh head
	CacheMisses    uint64            `json:"cache_misses"`
	Refused        map[Reason]uint64 `json:"refused"`
	Polls          uint64            `json:"polls"`
	Deltas         uint64            `json:"deltas"`
	Snapshots      uint64            `json:"snapshots"`
	BadAnswers     uint64            `json:"bad_answers"`
	NodeSwitches   uint64            `json:"node_switches"`
	GossipPolls    uint64            `json:"gossip_polls"`
	KeyRefreshes   uint64            `json:"key_refreshes"`
	Introspections uint64            `json:"introspections"`
}

// Status is a picture of this moment.
func (g *Gateway) Status() Status {
	v, proof, now := g.view.Load(), g.proof.Load(), g.cfg.Clock.Now()
	s := Status{
		Cluster: g.pinned(), Instance: g.cfg.Instance, State: Starting, FailMode: g.cfg.FailMode,
		Epoch: v.epoch, Head: v.head, HeadAgeMS: -1, MaxStalenessMS: g.cfg.MaxStaleness.Milliseconds(),
		BoundTokens:   "checked",
		FromCacheFile: g.cached.Load() && !g.confirmed.Load(),
	}
	if proof != nil {
		age := g.cfg.Clock.elapsed(*proof, now)
		s.HeadAgeMS = age.Milliseconds()
		s.State = Synced
		if age > g.cfg.MaxStaleness {
			s.State = StaleNow
		}
	}
	s.Refusing = s.State != Synced && g.cfg.FailMode == FailClosed
	s.Node, s.Nodes = g.nodes.status()
	if p := g.problem.Load(); p != nil {
		s.Problem = *p
	}
	s.Counts = g.countsNow(v)
	return s
}

func (g *Gateway) countsNow(v *view) Counts {
	c := &g.counts
	out := Counts{
		Revocations: v.set.len() + v.windows.len(), Issuers: len(v.keys.issuers), Keys: v.keys.len(),
		CachedTokens: g.cache.entries.Load(), CacheBytes: g.cache.bytes.Load(),
		Accepted: c.accepted.Load(), AcceptedStale: c.open.Load(), CacheMisses: c.misses.Load(),
		Refused: make(map[Reason]uint64), Polls: c.polls.Load(), Deltas: c.pages.Load(), Snapshots: c.snapshots.Load(),
		BadAnswers: c.badAnswers.Load(), NodeSwitches: c.switches.Load(), GossipPolls: c.hints.Load(),
		KeyRefreshes: c.keyRefreshes.Load(), Introspections: c.introspections.Load(),
	}
	for reason, n := range c.refused {
		out.Refused[reason] = n.Load()
	}
	return out
}

// Fresh says whether tokens are decided by a head within the bound right now.
func (g *Gateway) Fresh() bool {
	proof := g.proof.Load()
	return proof != nil && g.cfg.Clock.within(*proof, g.cfg.Clock.Now(), g.cfg.MaxStaleness)
}

// HeadAge is how long ago the head was last proved; false before the first time.
func (g *Gateway) HeadAge() (time.Duration, bool) {
	proof := g.proof.Load()
	if proof == nil {
		return 0, false
	}
	return g.cfg.Clock.elapsed(*proof, g.cfg.Clock.Now()), true
}
