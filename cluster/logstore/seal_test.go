package logstore

import (
	"bytes"
	"testing"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

func TestEverySingleBitCounts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := raft.Log{
			Index: rapid.Uint64().Draw(t, "index"), Term: rapid.Uint64().Draw(t, "term"),
			Type: raft.LogType(rapid.Byte().Draw(t, "type")), Data: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data"),
		}
		if err := check(&l); err == nil {
			t.Fatal("an entry without a checksum passed")
		}
		if err := seal(&l); err != nil {
			t.Fatal(err)
		}
		if err := check(&l); err != nil {
			t.Fatalf("a sealed entry: %v", err)
		}
		bit := rapid.IntRange(0, 17*8+len(l.Data)*8+sealBytes*8-1).Draw(t, "bit")
		flip(&l, bit)
		if err := check(&l); err == nil {
			t.Fatalf("bit %d flipped and nobody saw it", bit)
		}
	})
}

// flip flips one bit of index, term, type, extensions or data.
func flip(l *raft.Log, bit int) {
	l.Data, l.Extensions = bytes.Clone(l.Data), bytes.Clone(l.Extensions)
	switch at := bit / 8; {
	case at < 8:
		l.Index ^= 1 << bit
	case at < 16:
		l.Term ^= 1 << (bit - 64)
	case at < 17:
		l.Type ^= 1 << (bit - 128)
	case at < 17+sealBytes:
		l.Extensions[at-17] ^= 1 << (bit % 8)
	default:
		l.Data[at-17-sealBytes] ^= 1 << (bit % 8)
	}
}

// TestSealGolden fixes the form: entries of released nodes must stay readable (I8).
func TestSealGolden(t *testing.T) {
	t.Parallel()
	l := raft.Log{Index: 3, Term: 2, Type: raft.LogCommand, Data: []byte("keyraft")}
	if err := seal(&l); err != nil {
		t.Fatal(err)
	}
	if want := []byte{0xC1, 0x46, 0xAA, 0x12, 0xF8}; !bytes.Equal(l.Extensions, want) {
		t.Errorf("extensions %#v, want %#v", l.Extensions, want)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(uint64(1), uint64(1), byte(0), []byte("data"), []byte(nil))
	f.Add(uint64(1), uint64(1), byte(0), []byte("data"), []byte{sealMagic, 0, 0, 0, 0})
	f.Add(uint64(1), uint64(1), byte(5), []byte(nil), []byte{sealMagic})
	f.Fuzz(func(t *testing.T, index, term uint64, typ byte, data, extensions []byte) {
		l := raft.Log{Index: index, Term: term, Type: raft.LogType(typ), Data: data}
		if err := seal(&l); err != nil {
			t.Fatal(err)
		}
		right := l.Extensions
		l.Extensions = extensions
		if (check(&l) == nil) != bytes.Equal(extensions, right) {
			t.Fatalf("extensions %x, right ones %x: %v", extensions, right, check(&l))
		}
	})
}
