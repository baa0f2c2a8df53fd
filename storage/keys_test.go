package storage

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestKeyPartsCannotForgeABoundary(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.StringN(0, 8, -1), 0, 4)
		a, b := parts.Draw(t, "a"), parts.Draw(t, "b")
		if same := slices.Equal(a, b); bytes.Equal(Key(1, a...), Key(1, b...)) != same {
			t.Fatalf("keys of %q and %q: equal keys and equal parts must go together", a, b)
		}
		if a0, b0 := Key(1, a...), Key(2, a...); bytes.Compare(a0, b0) >= 0 {
			t.Fatalf("table 1 must lie before table 2")
		}
	})
}

func TestKeyRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, n, tail := rapid.String().Draw(t, "s"), rapid.Uint64().Draw(t, "n"), rapid.SliceOf(rapid.Byte()).Draw(t, "tail")
		b := append(AppendUint64(AppendString(nil, s), n), tail...)
		gotS, rest, ok := CutString(b)
		if !ok || gotS != s {
			t.Fatalf("CutString = %q, %v; want %q", gotS, ok, s)
		}
		gotN, rest, ok := CutUint64(rest)
		if !ok || gotN != n || !bytes.Equal(rest, tail) {
			t.Fatalf("CutUint64 = %d, %x, %v; want %d, %x", gotN, rest, ok, n, tail)
		}
	})
}

func TestNumbersOrderAsTheirKeys(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
		if got := bytes.Compare(AppendUint64(nil, a), AppendUint64(nil, b)); (got < 0) != (a < b) || (got == 0) != (a == b) {
			t.Fatalf("keys of %d and %d compare as %d", a, b, got)
		}
	})
}

func TestPrefixEndIsTheLeastUpperBound(t *testing.T) {
	t.Parallel()
	bytesOf := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0xFE, 0xFF}), 0, 4)
	rapid.Check(t, func(t *rapid.T) {
		prefix, key := bytesOf.Draw(t, "prefix"), bytesOf.Draw(t, "key")
		before := bytes.Clone(prefix)
		end := PrefixEnd(prefix)
		if !bytes.Equal(before, prefix) {
			t.Fatal("the prefix was changed")
		}
		inside := bytes.Compare(key, prefix) >= 0 && (end == nil || bytes.Compare(key, end) < 0)
		if inside != bytes.HasPrefix(key, prefix) {
			t.Fatalf("prefix %x, end %x: key %x is inside: %v", prefix, end, key, inside)
		}
	})
}

func TestAPartThatDoesNotFitIsRefusedLoudly(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("a part of 65,536 bytes was taken; its length would have wrapped to 0")
		}
	}()
	AppendString(nil, strings.Repeat("x", 1<<16))
}

func FuzzCutString(f *testing.F) {
	for _, seed := range [][]byte{nil, {0}, {0, 0}, {0, 2, 'a'}, {0, 1, 'a', 'b'}, {0xFF, 0xFF}, AppendString(nil, "client")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, rest, ok := CutString(b)
		if !ok && (s != "" || !bytes.Equal(rest, b)) {
			t.Fatalf("a refusal of %x gave %q and %x", b, s, rest)
		}
		if ok && !bytes.Equal(append(AppendString(nil, s), rest...), b) {
			t.Fatalf("%x was cut into %q and %x, which do not make it up", b, s, rest)
		}
	})
}

func FuzzCutUint64(f *testing.F) {
	for _, seed := range [][]byte{nil, {1, 2, 3, 4, 5, 6, 7}, {1, 2, 3, 4, 5, 6, 7, 8}, AppendUint64(nil, 1<<63)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, rest, ok := CutUint64(b)
		if ok != (len(b) >= 8) {
			t.Fatalf("%x: ok is %v", b, ok)
		}
		if ok && !bytes.Equal(append(AppendUint64(nil, n), rest...), b) {
			t.Fatalf("%x was cut into %d and %x, which do not make it up", b, n, rest)
		}
	})
}
