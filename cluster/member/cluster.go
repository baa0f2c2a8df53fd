package member

// Status is what a node knows of itself and of the cluster.
type Status struct {
	NodeID       string `json:"node_id"`
	State        string `json:"state"`
	LeaderID     string `json:"leader_id"`
	Term         uint64 `json:"term"`
	AppliedIndex uint64 `json:"applied_index"`
	CommitIndex  uint64 `json:"commit_index"`
	LastIndex    uint64 `json:"last_index"`
	Head         uint64 `json:"revocation_head"`
	Epoch        uint64 `json:"epoch"`
	FeatureLevel uint64 `json:"feature_level"`
	Healthy      bool   `json:"healthy"`
	Reason       string `json:"reason,omitempty"`
	ClusterID    string `json:"cluster_id"`
	Version      string `json:"version"`
	Queued       int    `json:"queued_writes"`
	ClockMillis  int64  `json:"clock_ms"` // the node's own
	LastContact  int64  `json:"last_contact_ms"`
	Chain        string `json:"chain"` // hex: equal on nodes at one applied index (I4)
}

// Node is one member as the cluster sees it.
type Node struct {
	ID           string `json:"id"`
	Role         string `json:"role"`     // leader, follower, or unknown when it doesn't answer
	Suffrage     string `json:"suffrage"` // voter, nonvoter
	State        string `json:"state"`    // ready, not_ready, unreachable, removed, joining
	Reason       string `json:"reason,omitempty"`
	APIAddr      string `json:"api_addr"`
	ClusterAddr  string `json:"cluster_addr"`
	GossipAddr   string `json:"gossip_addr"`
	AppliedIndex uint64 `json:"applied_index"`
	LastContact  int64  `json:"last_contact_ms"`
	Version      string `json:"version"`
	FeatureLevel uint32 `json:"feature_level"`
	Head         uint64 `json:"revocation_head"`
	Epoch        uint64 `json:"epoch"`
	ClockOffset  int64  `json:"clock_offset_ms"`
}

// Restored says what a restore made.
type Restored struct {
	Epoch uint64 `json:"epoch"`
	Index uint64 `json:"index"`
	Head  uint64 `json:"revocation_head"`
}

// RefusedError is a change of the cluster that is not done, with the HTTP status
// and the code that the admin API answers.
type RefusedError struct {
	Status int
	Code   string
	Reason string
}

// Error implements error: the reason says what to do.
func (e *RefusedError) Error() string { return e.Reason }
