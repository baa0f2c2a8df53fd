package state

// Freshness is what a reader asks of a View. The table of promises is in
// docs/architecture.md, "Reads".
type Freshness struct {
	level freshness
	since uint64
}

type freshness uint8

const (
	local freshness = iota
	stale
	monotonic
	linearizable
)

// The promises a route can ask for.
var (
	// Local is state proved fresh within the node's staleness bound.
	Local = Freshness{level: local}
	// Stale is whatever this node has applied (?consistency=stale).
	Stale = Freshness{level: stale}
	// Linearizable holds every write acknowledged before the read began (R2).
	Linearizable = Freshness{level: linearizable}
)

// Monotonic asks for a head that is not below since: what a gateway has seen.
func Monotonic(since uint64) Freshness { return Freshness{level: monotonic, since: since} }

// IsLinearizable reports whether f asks for a read index.
func (f Freshness) IsLinearizable() bool { return f.level == linearizable }

// IsStale reports whether f asks for no promise at all.
func (f Freshness) IsStale() bool { return f.level == stale }

// Since is the head that a Monotonic read must have reached; ok tells whether f is one.
func (f Freshness) Since() (head uint64, ok bool) { return f.since, f.level == monotonic }
