package seal

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

// TestHashKnown holds the stored form still: a released row must be found again.
func TestHashKnown(t *testing.T) {
	t.Parallel()
	key := Key{}
	for i := range key {
		key[i] = byte(i)
	}
	const want = "da915088d7848851099b542b92c46973d32ee0fb47d02180e1fc6ee5187bfeee"
	if got := Hash(&key, []byte("kr1_secret")); hex.EncodeToString(got[:]) != want {
		t.Errorf("Hash changed: %x, want %s", got, want)
	}
	other := key
	other[31]++
	if Hash(&key, []byte("a")) == Hash(&other, []byte("a")) || Hash(&key, []byte("a")) == Hash(&key, []byte("b")) {
		t.Error("another key or another secret gives the same hash")
	}
}

// TestTagIsHMAC compares the hand-built HMAC with the library's.
func TestTagIsHMAC(t *testing.T) {
	t.Parallel()
	for _, label := range []string{"", "opaque", strings.Repeat("l", 300)} {
		for n := range 400 {
			key, data := Generate(), bytes.Repeat([]byte{byte(n)}, n)
			mac := hmac.New(sha256.New, key[:])
			mac.Write(binary.BigEndian.AppendUint16(nil, uint16(len(label))))
			mac.Write([]byte(label))
			mac.Write(data)
			if got := Tag(&key, label, data); !bytes.Equal(got[:], mac.Sum(nil)[:8]) {
				t.Fatalf("label of %d, data of %d bytes: tag %x, want %x", len(label), n, got, mac.Sum(nil)[:8])
			}
		}
	}
	key := Generate()
	if Tag(&key, "ab", []byte("c")) == Tag(&key, "a", []byte("bc")) {
		t.Error("label and data can trade bytes")
	}
}

func TestHashAndTagDoNotAllocate(t *testing.T) {
	key, data := Generate(), make([]byte, 43)
	var sum byte
	if n := testing.AllocsPerRun(100, func() {
		h, g := Hash(&key, data), Tag(&key, "opaque", data)
		sum += h[0] + g[0]
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkHash(b *testing.B) {
	key, data := Generate(), make([]byte, 43)
	b.ReportAllocs()
	for b.Loop() {
		Hash(&key, data)
	}
}

func BenchmarkTag(b *testing.B) {
	key, data := Generate(), make([]byte, 36)
	b.ReportAllocs()
	for b.Loop() {
		Tag(&key, "opaque", data)
	}
}

func BenchmarkSealOpen(b *testing.B) {
	r, err := NewKeyring(Generate())
	if err != nil {
		b.Fatal(err)
	}
	plain := make([]byte, 300)
	b.ReportAllocs()
	for b.Loop() {
		s, err := r.Seal("label", plain)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.Open("label", s); err != nil {
			b.Fatal(err)
		}
	}
}
