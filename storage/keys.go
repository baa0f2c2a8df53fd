package storage

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Key builds the key of a row: the table's byte, then each part with its length
// in front, so that no part can forge a boundary. Keys of one table with equal
// first parts are neighbours. A part over 65,535 bytes is a programmer's mistake
// (inputs are bounded far below at the edge) and panics.
func Key(table byte, parts ...string) []byte {
	n := 1
	for _, p := range parts {
		n += 2 + len(p)
	}
	key := append(make([]byte, 0, n), table)
	for _, p := range parts {
		key = AppendString(key, p)
	}
	return key
}

// AppendString appends s as a key part: two bytes of length, big-endian, then the
// bytes. Parts order by length first, then by bytes.
func AppendString(dst []byte, s string) []byte {
	if len(s) > math.MaxUint16 {
		panic(fmt.Sprintf("storage: a key part of %d bytes; at most %d fit", len(s), math.MaxUint16))
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

// AppendUint64 appends n as eight bytes, big-endian: keys order as their numbers.
func AppendUint64(dst []byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(dst, n)
}

// CutString takes one part that AppendString wrote off the front of b. ok is false
// when b does not hold a whole part; then rest is b.
func CutString(b []byte) (s string, rest []byte, ok bool) {
	if len(b) < 2 {
		return "", b, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return "", b, false
	}
	return string(b[2 : 2+n]), b[2+n:], true
}

// CutUint64 takes one number that AppendUint64 wrote off the front of b. ok is
// false when b is shorter than eight bytes; then rest is b.
func CutUint64(b []byte) (n uint64, rest []byte, ok bool) {
	if len(b) < 8 {
		return 0, b, false
	}
	return binary.BigEndian.Uint64(b), b[8:], true
}

// PrefixEnd returns the least key above all that start with prefix, for use as
// the upper bound of a Scan; nil (no bound) when there is none, that is when
// prefix is empty or all 0xFF.
func PrefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xFF {
			end := append(make([]byte, 0, i+1), prefix[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}
