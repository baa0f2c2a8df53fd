package command

import (
	"encoding/binary"
	"fmt"
)

// Reject is a decision of Apply against a command, equal on every node. It is an
// error value; Accepted is none.
type Reject uint8

// The decisions. Numbers are on the wire between nodes and in kept results:
// they only grow.
const (
	Accepted       Reject = 0
	Exists         Reject = 1  // what should be new is there
	NotFound       Reject = 2  // what should be there is not
	Stale          Reject = 3  // decided on a generation that has changed since
	AlreadyExpired Reject = 4  // its time was over when it was applied
	AlreadyUsed    Reject = 5  // a one-time value, used before
	KeyReused      Reject = 6  // an idempotency key with another body
	EpochChanged   Reject = 7  // decided before a restore
	Disabled       Reject = 8  // client or tenant is disabled
	Invalid        Reject = 9  // breaks a rule of the state
	NotReady       Reject = 10 // no such key, or too early
	Conflict       Reject = 11 // belongs to another
	InGrace        Reject = 12 // a refresh token whose successor is in its family's row
)

var rejectText = [...]string{
	"accepted", "already exists", "not found", "changed in the meantime", "already expired", "already used",
	"the idempotency key was used for another request", "the cluster was restored in the meantime",
	"disabled", "not allowed", "not ready", "belongs to another",
	"rotated a moment ago",
}

// Error implements error.
func (r Reject) Error() string {
	if int(r) < len(rejectText) {
		return rejectText[r]
	}
	return fmt.Sprintf("rejected (%d)", uint8(r))
}

// Result is what Apply answers to one command.
type Result struct {
	Reject     Reject
	Seq        uint64 // of the event, for commands that make one
	Generation uint64 // of the row after it
	Index      uint64 // of the Raft entry
	Head       uint64 // after the entry's command
	Epoch      uint64
}

// Err is the Reject as an error, or nil.
func (r Result) Err() error {
	if r.Reject == Accepted {
		return nil
	}
	return r.Reject
}

// ResultSize is the size of an encoded Result in bytes.
const ResultSize = 1 + 5*8

// Append encodes r at the end of dst.
func (r Result) Append(dst []byte) []byte {
	dst = append(dst, byte(r.Reject))
	for _, n := range [...]uint64{r.Seq, r.Generation, r.Index, r.Head, r.Epoch} {
		dst = binary.BigEndian.AppendUint64(dst, n)
	}
	return dst
}

// ParseResult reads what Append wrote.
func ParseResult(data []byte) (Result, error) {
	if len(data) != ResultSize {
		return Result{}, fmt.Errorf("%w: a result of %d bytes", ErrEntry, len(data))
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(data[1+8*i:]) }
	return Result{Reject: Reject(data[0]), Seq: n(0), Generation: n(1), Index: n(2), Head: n(3), Epoch: n(4)}, nil
}
