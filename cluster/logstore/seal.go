package logstore

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// A sealed entry's Extensions are sealBytes long: sealMagic, then the CRC32C
// (Castagnoli) of the entry, big-endian. The leader seals; the seal travels to the
// followers with the entry, so a bit that flips anywhere on the way is seen. Another
// form gets another magic byte.
const (
	sealMagic = 0xC1
	sealBytes = 5
)

var (
	errSealForm = errors.New("the entry has extensions that are not a checksum of this release")
	errSealSum  = errors.New("the entry does not match its checksum: memory or disk flipped a bit")
	errUnsealed = errors.New("the stored entry has no checksum")
)

// checksum covers index, term and type (17 bytes, big-endian) and the data.
func checksum(l *raft.Log) uint32 {
	var head [17]byte
	binary.BigEndian.PutUint64(head[0:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	table := crc32.MakeTable(crc32.Castagnoli) // shared, made once by the library
	return crc32.Update(crc32.Update(0, table, head[:]), table, l.Data)
}

// seal puts the checksum on an entry that has none and checks the one that it has.
func seal(l *raft.Log) error {
	if len(l.Extensions) > 0 {
		return check(l)
	}
	l.Extensions = binary.BigEndian.AppendUint32([]byte{sealMagic}, checksum(l))
	return nil
}

// check refuses an entry that is not what was sealed.
func check(l *raft.Log) error {
	switch {
	case len(l.Extensions) == 0:
		return errUnsealed
	case len(l.Extensions) != sealBytes || l.Extensions[0] != sealMagic:
		return errSealForm
	case binary.BigEndian.Uint32(l.Extensions[1:]) != checksum(l):
		return errSealSum
	}
	return nil
}
