package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"reflect"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/keyraft/keyraft/gateway/wire"
)

func events(n int) []wire.Event {
	all := make([]wire.Event, n)
	for i := range all {
		all[i] = wire.Event{Seq: uint64(2*i + 1), Tenant: "default", Issuer: "https://sts.example", Kind: "token", Target: fmt.Sprintf("jti-%d", i), IssuedBefore: int64(i), ExpiresAt: 1800000000}
		if i%7 == 3 {
			all[i].DecidedAfter, all[i].IssuedAfter = uint64(i), int64(i)
		}
	}
	return all
}

func each(all []wire.Event) iter.Seq2[wire.Event, error] {
	return func(yield func(wire.Event, error) bool) {
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func encode(t testing.TB, head uint64, all []wire.Event) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := wire.EncodeSnapshot(&b, "c1", 3, head, each(all)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func decode(r io.Reader) (all []wire.Event, s wire.Snapshot, err error) {
	s, err = wire.DecodeSnapshot(r, func(e *wire.Event) error {
		all = append(all, *e)
		return nil
	})
	return all, s, err
}

func TestSnapshotComesBackAsItWas(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 5000} {
		want := events(n)
		got, s, err := decode(bytes.NewReader(encode(t, 1<<40, want)))
		if err != nil {
			t.Fatalf("%d items: %v", n, err)
		}
		if s != (wire.Snapshot{Cluster: "c1", Epoch: 3, Head: 1 << 40, Count: uint64(n)}) {
			t.Errorf("%d items: %+v", n, s)
		}
		if n > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%d items came back changed", n)
		}
	}
}

// TestDamagedSnapshotIsRefused: cut at every byte, and every byte flipped.
func TestDamagedSnapshotIsRefused(t *testing.T) {
	t.Parallel()
	whole := encode(t, 100, events(20))
	for n := range whole {
		if _, _, err := decode(bytes.NewReader(whole[:n])); !errors.Is(err, wire.ErrInvalid) {
			t.Errorf("cut at %d of %d: %v", n, len(whole), err)
		}
		for _, bit := range []byte{1, 0x80} {
			flipped := bytes.Clone(whole)
			flipped[n] ^= bit
			got, s, err := decode(bytes.NewReader(flipped))
			// A bit that the compression does not use may turn without harm: then
			// everything must have come through as it was.
			if err == nil && (s.Head != 100 || s.Cluster != "c1" || !reflect.DeepEqual(got, events(20))) {
				t.Errorf("byte %d flipped by %#x changes what is read", n, bit)
			}
		}
	}
	if _, _, err := decode(bytes.NewReader(append(bytes.Clone(whole), 0))); !errors.Is(err, wire.ErrInvalid) {
		t.Errorf("a byte after the end: %v", err)
	}
	if _, _, err := decode(bytes.NewReader(append(bytes.Clone(whole), whole...))); !errors.Is(err, wire.ErrInvalid) {
		t.Errorf("two snapshots in one: %v", err)
	}
}

// TestUncompressedDamageIsRefused turns each byte below the compression, where
// only our own checks stand.
func TestUncompressedDamageIsRefused(t *testing.T) {
	t.Parallel()
	z, err := zstd.NewReader(bytes.NewReader(encode(t, 100, events(5))))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	press, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = press.Close() }()
	for n := range plain {
		damaged := bytes.Clone(plain)
		damaged[n] ^= 1
		if _, _, err := decode(bytes.NewReader(press.EncodeAll(damaged, nil))); !errors.Is(err, wire.ErrInvalid) {
			t.Errorf("byte %d of %d turned: %v", n, len(plain), err)
		}
		if _, _, err := decode(bytes.NewReader(press.EncodeAll(plain[:n], nil))); !errors.Is(err, wire.ErrInvalid) {
			t.Errorf("cut at %d of %d: %v", n, len(plain), err)
		}
	}
}

// TestBombIsRefused: a frame whose window or length is far beyond the bound.
func TestBombIsRefused(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithWindowSize(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 80 {
		if _, err := z.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := decode(&b); !errors.Is(err, wire.ErrInvalid) {
		t.Errorf("gave %v", err)
	}
}

func TestEncodeSnapshotRefuses(t *testing.T) {
	t.Parallel()
	bad := errors.New("the store failed")
	tests := []struct {
		name  string
		items iter.Seq2[wire.Event, error]
	}{
		{"items out of order", each([]wire.Event{{Seq: 2, Kind: "token"}, {Seq: 1, Kind: "token"}})},
		{"an item above the head", each([]wire.Event{{Seq: 11, Kind: "token"}})},
		{"an item beyond the limits", each([]wire.Event{{Seq: 1}})},
		{"an error of the store", func(yield func(wire.Event, error) bool) {
			_ = yield(wire.Event{Seq: 1, Kind: "token"}, nil) && yield(wire.Event{}, bad)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			if err := wire.EncodeSnapshot(&b, "c1", 1, 10, tt.items); err == nil {
				t.Fatal("written")
			}
			if _, _, err := decode(&b); !errors.Is(err, wire.ErrInvalid) {
				t.Errorf("what was written before the error is read as whole: %v", err)
			}
		})
	}
}

func FuzzDecodeSnapshot(f *testing.F) {
	f.Add(encode(f, 100, events(3)), false)
	f.Add([]byte("KRSNAP\x01\x00\x02c1"), true)
	f.Fuzz(func(t *testing.T, in []byte, press bool) {
		if press { // so that the fuzzer also gets below the compression
			z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
			if err != nil {
				t.Fatal(err)
			}
			in = z.EncodeAll(in, nil)
			_ = z.Close()
		}
		var last uint64
		s, err := wire.DecodeSnapshot(bytes.NewReader(in), func(e *wire.Event) error {
			if e.Seq <= last {
				t.Fatal("items out of order")
			}
			last = e.Seq
			return nil
		})
		if err != nil && !errors.Is(err, wire.ErrInvalid) {
			t.Fatalf("another error: %v", err)
		}
		if err == nil && last > s.Head {
			t.Fatal("an item above the head")
		}
	})
}
