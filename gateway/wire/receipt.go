package wire

import "time"

// Instance is one gateway process, as the nodes have seen it last.
type Instance struct {
	Gateway  string // id of the registered gateway; "" for an operator in --dev
	Instance string // the name that the process gave itself; may be empty
	Addr     string
	Epoch    uint64
	Head     uint64
	HeadMS   int64 // since it first reported that head
	SeenMS   int64 // since its last poll arrived
	FailOpen bool
	Live     bool // it has polled within its bound
}

// Revocation is what a receipt is for.
type Revocation struct {
	Tenant     string
	Epoch, Seq uint64
	At         time.Time // when it was asked for
}

// Confirmation says whether one gateway instance refuses what was revoked.
type Confirmation struct {
	Gateway  string
	Instance string
	Head     uint64 // that it has reported
	MS       int64  // from Revocation.At until it reported; -1 when it has not
	OK       bool
}
