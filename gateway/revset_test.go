package gateway

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyraft/keyraft/tokens/verify"
)

func testHasher() *hasher {
	h := new(hasher)
	for i := range h.key {
		h.key[i] = byte(i * 7)
	}
	return h
}

// TestRevsetIsTheUnion: against a plain list, any mix of insertions and sweeps
// answers as "any live revocation covers it".
func TestRevsetIsTheUnion(t *testing.T) {
	t.Parallel()
	h := testHasher()
	rapid.Check(t, func(t *rapid.T) {
		set, now := newRevset(), int64(600)
		var model []record
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			if rapid.IntRange(0, 30).Draw(t, "sweep") == 0 {
				now += 60 * rapid.Int64Range(0, 5).Draw(t, "minutes")
				set.sweep(now)
				continue
			}
			id := h.target("t", "", "token", fmt.Sprint(rapid.IntRange(0, 40).Draw(t, "target")))
			r := newRecord(id, rapid.Uint64Range(1, 50).Draw(t, "seq"), rapid.Int64Range(0, 5).Draw(t, "before"), now+rapid.Int64Range(60, 900).Draw(t, "life"))
			set.insert(r)
			model = append(model, r)
		}
		for n := range 40 {
			id := h.target("t", "", "token", fmt.Sprint(n))
			for head := uint64(0); head < 50; head += 7 {
				for iat := range int64(6) {
					c := &verify.Claims{JTI: "x", Own: true, Head: head, IssuedAt: iat}
					must, may := false, false
					for _, r := range model {
						if r.id == id && head < r.seq && (r.issuedBefore == 0 || iat <= int64(r.issuedBefore)) {
							may = true
							must = must || !r.expired(now)
						}
					}
					got := set.covers(id, &target{kind: verify.KindToken, value: "x"}, c)
					if must && !got || got && !may {
						t.Fatalf("target %d, head %d, iat %d: %v, want %v", n, head, iat, got, must)
					}
				}
			}
		}
	})
}

func TestRecordNarrowsToRefuseMore(t *testing.T) {
	t.Parallel()
	far := newRecord(digest{}, 1, math.MaxInt64, math.MaxInt64)
	if far.issuedBefore != math.MaxUint32 || far.expires != 0 {
		t.Errorf("times beyond 32 bits: %+v; want the last bound and no end", far)
	}
	r := newRecord(digest{}, 1, 0, 601)
	if r.expired(601) || !r.expired(660) {
		t.Errorf("an end at 601 s: expired(601) %v, expired(660) %v", r.expired(601), r.expired(660))
	}
}

func TestTargetPartsDoNotRun(t *testing.T) {
	t.Parallel()
	h := testHasher()
	seen := make(map[digest]string)
	for _, p := range [][4]string{{"ab", "c", "d", "e"}, {"a", "bc", "d", "e"}, {"ab", "", "cd", "e"}, {"", "abc", "d", "e"}, {"ab", "c", "", "de"}, {"ab", "c", "de", ""}} {
		id := h.target(p[0], p[1], p[2], p[3])
		if other, twice := seen[id]; twice {
			t.Errorf("%q and %q have one digest", p, other)
		}
		seen[id] = fmt.Sprint(p)
	}
}

// TestASweepHidesNothingFromASearch: between two looks of one search the table is
// built anew, without the first record of the target, and the second is found all
// the same. (It was the n-th of whatever table was there, so the second became the
// first and was passed over, and the token counted as looked up.)
func TestASweepHidesNothingFromASearch(t *testing.T) {
	t.Parallel()
	h, set := testHasher(), newRevset()
	id := h.target("t", "", "client", "c")
	set.insert(newRecord(id, 1, 0, 60))     // every token decided before 1, soon over
	set.insert(newRecord(id, 2, 100, 6000)) // and those issued until 100
	of := set.search(id)
	if r, ok := of.next(); !ok || r.seq != 1 {
		t.Fatalf("first %+v, %v", r, ok)
	}
	set.sweep(1200)
	if r, ok := of.next(); !ok || r.seq != 2 {
		t.Errorf("second %+v, %v: a live revocation was passed over", r, ok)
	}
	if r, ok := of.next(); ok {
		t.Errorf("third %+v", r)
	}
}

// TestReadersBesideTheWriter: once a head is published, everything at or below
// it is found, while the tables grow and are swept under the readers.
func TestReadersBesideTheWriter(t *testing.T) {
	t.Parallel()
	h, set := testHasher(), newRevset()
	var head atomic.Uint64
	ids := make([]digest, 60_000)
	for i := range ids {
		ids[i] = h.target("t", "", "token", fmt.Sprint(i))
	}
	var wg sync.WaitGroup
	for reader := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(reader)))
			for {
				at := head.Load()
				if at == uint64(len(ids)) {
					return
				}
				if at == 0 {
					runtime.Gosched()
					continue
				}
				n := rng.Uint64N(at)
				of := set.search(ids[n])
				if r, ok := of.next(); !ok || r.seq != n+1 {
					t.Errorf("at head %d the revocation %d is not there", at, n+1)
					return
				}
			}
		})
	}
	for i, id := range ids {
		set.insert(newRecord(id, uint64(i+1), 0, 0))
		if i%3 == 0 {
			set.insert(newRecord(h.target("t", "", "token", fmt.Sprint("gone", i)), uint64(i+1), 0, 60))
		}
		if i%10_000 == 9_999 {
			set.sweep(100_000)
		}
		head.Store(uint64(i + 1))
	}
	wg.Wait()
	set.sweep(100_000)
	if got := set.len(); got < len(ids) || got > len(ids)*9/8 {
		t.Errorf("%d records after the sweep, want about %d", got, len(ids))
	}
}

// TestRevocationMemory is F9: at most 64 bytes each at any fill.
func TestRevocationMemory(t *testing.T) {
	var worst float64
	set, before := newRevset(), heap()
	rng := rand.New(rand.NewPCG(1, 2))
	for n := 1; n <= 1_000_000; n++ {
		set.insert(record{id: digest{rng.Uint64(), rng.Uint64()}, seq: uint64(n)})
		if n >= 200_000 && n%100_000 == 0 {
			each := float64(heap()-before) / float64(n)
			worst = max(worst, each)
		}
	}
	t.Logf("worst of nine fills from 200 thousand to 1 million: %.1f bytes a revocation", worst)
	if worst > 64 {
		t.Errorf("%.1f bytes a revocation, want 64 at most", worst)
	}
	runtime.KeepAlive(set)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkRevocationBytes says what a live revocation takes of the heap, beside a
// million of them.
func BenchmarkRevocationBytes(b *testing.B) {
	each := 0.0
	for b.Loop() {
		before := heap()
		set, _ := million()
		each = float64(heap()-before) / float64(set.len())
		runtime.KeepAlive(set)
	}
	b.ReportMetric(each, "B/revocation")
}

func million() (*revset, []digest) {
	set, ids := newRevset(), make([]digest, 1_000_000)
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range ids {
		ids[n] = digest{rng.Uint64(), rng.Uint64()}
		set.insert(record{id: ids[n], seq: uint64(n + 1)})
	}
	return set, ids
}

func BenchmarkSetMissAMillion(b *testing.B) {
	set, _ := million()
	rng := rand.New(rand.NewPCG(3, 4))
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		of := set.search(digest{rng.Uint64(), rng.Uint64()})
		if _, ok := of.next(); ok {
			b.Fatal("found")
		}
	}
}

func BenchmarkSetHitAMillion(b *testing.B) {
	set, ids := million()
	rng := rand.New(rand.NewPCG(3, 4))
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		of := set.search(ids[rng.IntN(len(ids))])
		if _, ok := of.next(); !ok {
			b.Fatal("missed")
		}
	}
}

func BenchmarkTargetDigest(b *testing.B) {
	h := testHasher()
	b.ReportAllocs()
	for b.Loop() {
		h.target("default", "https://sts.example", "token", "n1-1f2e3d4c5b6a7988-1234567")
	}
}
