// Package member holds what one member of a cluster tells the others by gossip.
// Values only. What Info says is not trusted (rule R16), no network, no lock.
package member

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The two kinds of member.
const (
	KindNode    = "node"
	KindGateway = "gateway"
)

const (
	// MaxEncoded is the longest encoded form: below 200 bytes, far below the
	// 512 at which memberlist panics, and small enough that a head is never
	// crowded out of a packet.
	MaxEncoded = 199
	maxID      = 64
	version    = 1
	fixed      = 1 + 1 + 4 + 3*8 // version, kind, level, epoch, head, instance
)

// Info is what a member says of itself. Every field is a hint: a head is only a
// reason to ask, an address only a place to try.
type Info struct {
	ID          string // node or gateway id, 1 to 64 bytes
	Kind        string // KindNode or KindGateway
	APIAddr     string // host:port or URL of its API; may be empty
	ClusterAddr string // host:port of its cluster port; empty for a gateway
	Level       uint32 // highest feature level that it understands
	Epoch, Head uint64 // how far it is in the event log
	Instance    uint64 // random number of this start, so that a restart is seen
}

// Newer says whether i is further in the event log than epoch and head.
func (i Info) Newer(epoch, head uint64) bool {
	return i.Epoch > epoch || i.Epoch == epoch && i.Head > head
}

// Encode gives the fixed binary form: version, kind, level, epoch, head,
// instance (big endian), then id, API address and cluster address, each with a
// length byte. It refuses what would be longer than MaxEncoded and what Decode
// would refuse.
func (i Info) Encode() ([]byte, error) {
	var kind byte
	switch i.Kind {
	case KindNode:
		kind = 1
	case KindGateway:
		kind = 2
	default:
		return nil, fmt.Errorf("member kind %q is not known; use %q or %q", i.Kind, KindNode, KindGateway)
	}
	if n := fixed + 3 + len(i.ID) + len(i.APIAddr) + len(i.ClusterAddr); n > MaxEncoded {
		return nil, fmt.Errorf("member record has %d bytes, at most %d are allowed; use shorter addresses or a shorter id", n, MaxEncoded)
	}
	if err := i.check(); err != nil {
		return nil, err
	}
	b := make([]byte, 0, MaxEncoded)
	b = append(b, version, kind)
	b = binary.BigEndian.AppendUint32(b, i.Level)
	b = binary.BigEndian.AppendUint64(b, i.Epoch)
	b = binary.BigEndian.AppendUint64(b, i.Head)
	b = binary.BigEndian.AppendUint64(b, i.Instance)
	for _, s := range []string{i.ID, i.APIAddr, i.ClusterAddr} {
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	return b, nil
}

// Decode reads what Encode wrote, and nothing else. The result shares no memory
// with b.
func Decode(b []byte) (Info, error) {
	if len(b) > MaxEncoded {
		return Info{}, fmt.Errorf("member record has %d bytes, at most %d are allowed", len(b), MaxEncoded)
	}
	if len(b) < fixed+3 {
		return Info{}, errors.New("member record is cut short")
	}
	if b[0] != version {
		return Info{}, fmt.Errorf("member record has version %d, this program reads %d", b[0], version)
	}
	var i Info
	switch b[1] {
	case 1:
		i.Kind = KindNode
	case 2:
		i.Kind = KindGateway
	default:
		return Info{}, fmt.Errorf("member record has kind %d, which is not known", b[1])
	}
	i.Level = binary.BigEndian.Uint32(b[2:])
	i.Epoch = binary.BigEndian.Uint64(b[6:])
	i.Head = binary.BigEndian.Uint64(b[14:])
	i.Instance = binary.BigEndian.Uint64(b[22:])
	b = b[fixed:]
	for _, s := range []*string{&i.ID, &i.APIAddr, &i.ClusterAddr} {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return Info{}, errors.New("member record is cut short")
		}
		*s, b = string(b[1:1+int(b[0])]), b[1+int(b[0]):]
	}
	if len(b) != 0 {
		return Info{}, errors.New("member record has bytes after its end")
	}
	if err := i.check(); err != nil {
		return Info{}, err
	}
	return i, nil
}

// check keeps out what could break a log line or a terminal.
func (i Info) check() error {
	if i.ID == "" || len(i.ID) > maxID {
		return fmt.Errorf("member id has %d bytes, want 1 to %d", len(i.ID), maxID)
	}
	for _, s := range []string{i.ID, i.APIAddr, i.ClusterAddr} {
		for _, c := range []byte(s) {
			if c <= ' ' || c > '~' {
				return errors.New("member record has a character that no id or address has")
			}
		}
	}
	return nil
}
