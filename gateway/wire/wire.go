// Package wire is what nodes and gateways say to each other: the delta of the
// event log in JSON and protobuf, the snapshot stream of the live revocations,
// the document of verification keys, and the refusals of a poll.
//
// Nodes write and gateways read it, so every parser here is strict: it takes a
// whole, well-formed answer within the limits below or returns an error, never
// a part of one. A parser ignores members and fields that it does not know, so
// that a newer node may add some.
//
// Units: instants are seconds since 1970 UTC, seq and head are positions in the
// event log, epoch is the number that grows when history was replaced (restore).
//
// Errors: every parse error wraps ErrInvalid and says what is wrong; none holds
// a value that was received.
//
// All functions are safe for concurrent use; the values are not.
package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Limits of one answer. They bound what a hostile or broken node can make a
// gateway keep (GW-05); a node cuts its answers below them with Truncated.
const (
	MaxItems      = 65536     // events in one delta
	MaxDeltaBytes = 16 << 20  // one delta, either form
	MaxText       = 2048      // bytes of issuer or target
	MaxName       = 256       // bytes of tenant, kind or cluster
	MaxData       = 256 << 10 // bytes of an event's data
	MaxIssuers    = 4096      // issuers in one key document
	MaxKeysBytes  = 16 << 20  // one key document
	MaxRefusal    = 64 << 10  // one refusal
	MaxMembers    = 1024      // nodes in one list
	MaxMembersDoc = 1 << 20   // bytes of one list of nodes
)

// Media types of the answers.
const (
	TypeProto    = "application/x-protobuf"
	TypeJSON     = "application/json"
	TypeSnapshot = "application/vnd.keyraft.revocations"
)

// Headers of every request of a gateway: what it does when its head grows old, so
// that a receipt can tell a silent gateway which refuses by now from one that
// does not. A node takes a request without them for one that fails open.
const (
	HeaderFailMode = "X-Keyraft-Fail-Mode" // "closed" or "open"
	HeaderBound    = "X-Keyraft-Bound-Ms"  // oldest head that may decide, milliseconds
)

// HeaderClock comes with a snapshot: the cluster's clock then, seconds since 1970.
// Revocations that had ended by it may be missing, so a gateway whose own clock is
// behind must not take a token that ended two minutes before it.
const HeaderClock = "X-Keyraft-Clock"

// KindKeys is the event that says: the verification keys of this issuer are now
// those in Data (a JWKS). With empty Data it only says that they changed.
const KindKeys = "keys"

// ErrInvalid is wrapped by every error of a parser: the answer is to be dropped
// whole and another node asked.
var ErrInvalid = errors.New("invalid answer")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}

// Event is one entry of the event log as gateways see it. IssuedBefore 0 means
// no such bound; ExpiresAt 0 means that it is never dropped. With IssuedAfter not
// 0 it is a window (a restore's): it means only tokens that were decided above
// the head DecidedAfter, or issued after IssuedAfter.
type Event struct {
	Seq                     uint64
	Tenant                  string
	Issuer                  string
	Kind                    string
	Target                  string
	IssuedBefore, ExpiresAt int64
	DecidedAfter            uint64
	IssuedAfter             int64
	Data                    []byte // JSON, for kinds that carry more
}

// Delta answers a poll: the events after the poll's since, in strictly rising
// order. Truncated says that more follow at once; the next since is then the
// last item's seq, else Head. Cluster is the cluster's id.
type Delta struct {
	Cluster     string
	Epoch, Head uint64
	Truncated   bool
	Items       []Event
}

// Next is the since of the poll that follows this answer.
func (d *Delta) Next() uint64 {
	if d.Truncated && len(d.Items) > 0 {
		return d.Items[len(d.Items)-1].Seq
	}
	return d.Head
}

// Check says whether the delta keeps the rules of this package: the encoders
// expect it, the parsers enforce it.
func (d *Delta) Check() error {
	if len(d.Items) > MaxItems {
		return invalid("%d items, at most %d are allowed", len(d.Items), MaxItems)
	}
	if err := checkText("cluster", d.Cluster, MaxName); err != nil {
		return err
	}
	if d.Truncated && len(d.Items) == 0 {
		return invalid("truncated without items would never come to an end")
	}
	var last uint64
	for i := range d.Items {
		e := &d.Items[i]
		if err := e.Check(); err != nil {
			return fmt.Errorf("item %d: %w", i, err)
		}
		if e.Seq <= last {
			return invalid("item %d: seq does not rise", i)
		}
		last = e.Seq
	}
	if last > d.Head {
		return invalid("head lies below the last item")
	}
	return nil
}

// Check says whether one event keeps the limits.
func (e *Event) Check() error {
	if e.Seq == 0 {
		return invalid("seq is zero or missing")
	}
	if e.Kind == "" {
		return invalid("kind is missing")
	}
	if e.IssuedBefore < 0 || e.ExpiresAt < 0 || e.IssuedAfter < 0 {
		return invalid("negative time")
	}
	for _, t := range [...]struct {
		name, value string
		max         int
	}{{"tenant", e.Tenant, MaxName}, {"kind", e.Kind, MaxName}, {"issuer", e.Issuer, MaxText}, {"target", e.Target, MaxText}} {
		if err := checkText(t.name, t.value, t.max); err != nil {
			return err
		}
	}
	if len(e.Data) > MaxData {
		return invalid("data of %d bytes, at most %d are allowed", len(e.Data), MaxData)
	}
	if len(e.Data) > 0 && (!utf8.Valid(e.Data) || !json.Valid(e.Data)) {
		return invalid("data is not JSON")
	}
	return nil
}

func checkText(name, value string, limit int) error {
	if len(value) > limit {
		return invalid("%s of %d bytes, at most %d are allowed", name, len(value), limit)
	}
	if !utf8.ValidString(value) {
		return invalid("%s is not UTF-8", name)
	}
	return nil
}
