package state

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/keyraft/keyraft/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB) *storage.DB {
	t.Helper()
	db, err := storage.Open(t.TempDir(), storage.Options{MemTableBytes: 256 << 10, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.CloseDirty() })
	return db
}

func load(t testing.TB, db *storage.DB) *View {
	t.Helper()
	v, err := Load(db)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// change commits what fn writes as the entry behind v.
func change(t testing.TB, v *View, fn func(b *Batch)) *View {
	t.Helper()
	b := NewBatch(v)
	defer b.Close()
	fn(b)
	next, err := b.Commit(v.Index()+1, 1)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// TestABatchIsSeenByItselfFirst: reads of a batch see its writes, other views
// don't, a given-up batch leaves nothing.
func TestABatchIsSeenByItselfFirst(t *testing.T) {
	t.Parallel()
	db := open(t)
	v := load(t, db)
	b := NewBatch(v)
	b.PutTenant(&Tenant{Id: "t"})
	b.PutConsumed("t", "code", "x", &Consumed{ExpiresAt: 60})
	if _, ok := b.Tenant("t"); !ok {
		t.Error("the batch doesn't see its tenant")
	}
	if c, err := b.Consumed("t", "code", "x"); err != nil || c == nil {
		t.Errorf("the batch doesn't see its consumed value: %v", err)
	}
	if _, ok := v.Tenant("t"); ok {
		t.Error("the view before it sees the tenant")
	}
	b.Close()
	if err := v.CheckMemory(); err != nil {
		t.Errorf("a batch that was given up left something: %v", err)
	}
	next := change(t, v, func(b *Batch) { b.PutTenant(&Tenant{Id: "t"}) })
	if err := next.CheckMemory(); err != nil {
		t.Error(err)
	}
	if err := v.CheckMemory(); err == nil {
		t.Error("CheckMemory finds no difference between a view and a store that went on")
	}
}

// TestTheChainTellsChangesApart: other rows, another order or another history
// give another chain; the same give the same.
func TestTheChainTellsChangesApart(t *testing.T) {
	t.Parallel()
	put := func(ids ...string) func(*Batch) {
		return func(b *Batch) {
			for _, id := range ids {
				b.PutTenant(&Tenant{Id: id})
			}
		}
	}
	seen := map[[32]byte]string{}
	for _, changes := range [][]func(*Batch){
		{put("a", "b")}, {put("b", "a")}, {put("a"), put("b")}, {put("a")}, {put("a"), put()},
		{put("a"), func(b *Batch) { b.DeleteClient("a", "b") }}, {func(b *Batch) { b.SetClock(5) }},
		{func(b *Batch) { b.SkipTo(5) }}, {func(b *Batch) { b.CountClamp() }},
	} {
		var sums [2][32]byte
		for i := range sums {
			v := load(t, open(t))
			for _, c := range changes {
				v = change(t, v, c)
			}
			sums[i] = v.Applied().Chain
		}
		if sums[0] != sums[1] {
			t.Error("equal changes give different chains")
		}
		if other, ok := seen[sums[0]]; ok {
			t.Errorf("changes %d have the chain of %s", len(seen), other)
		}
		seen[sums[0]] = fmt.Sprint(len(seen))
	}
}

func TestPagesOfClients(t *testing.T) {
	t.Parallel()
	v := change(t, load(t, open(t)), func(b *Batch) {
		for _, id := range []string{"b", "a", "aa", "c", "ba"} {
			b.PutClient(&Client{Tenant: "t", Id: id})
			b.PutClient(&Client{Tenant: "t2", Id: id})
			b.PutClient(&Client{Tenant: "", Id: id})
		}
	})
	var got []string
	for after := ""; ; {
		page := v.Clients("t", after, 2)
		if len(page) == 0 {
			break
		}
		for _, c := range page {
			if c.GetTenant() != "t" {
				t.Errorf("a client of tenant %q", c.GetTenant())
			}
			got, after = append(got, c.GetId()), c.GetId()
		}
	}
	if want := []string{"a", "b", "c", "aa", "ba"}; !slices.Equal(got, want) {
		t.Errorf("clients %q, want %q", got, want)
	}
	if c := v.Clients("t", "bb", 9); len(c) != 0 {
		t.Errorf("after a name between: %v", c)
	}
	if c := v.Clients("none", "", 9); len(c) != 0 {
		t.Errorf("of another tenant: %v", c)
	}
}

func TestMinuteIsTheFirstThatIsWholeBehind(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[int64]uint64{-1: 0, 0: 0, 1: 1, 59: 1, 60: 1, 61: 2, 1<<63 - 1: (1<<63 - 1 + 59) / 60} {
		if got := Minute(seconds); got != want {
			t.Errorf("Minute(%d) = %d, want %d", seconds, got, want)
		}
	}
	for ms, want := range map[int64]int64{0: 0, 1: 1, 999: 1, 1000: 1, 1001: 2, 1<<63 - 1: (1<<63-1)/1000 + 1} {
		if got := wholeSeconds(ms); got != want {
			t.Errorf("wholeSeconds(%d) = %d, want %d", ms, got, want)
		}
	}
}

func TestFreshness(t *testing.T) {
	t.Parallel()
	if since, ok := Monotonic(7).Since(); !ok || since != 7 {
		t.Errorf("monotonic since %d, %v", since, ok)
	}
	if _, ok := Local.Since(); ok || Local.IsLinearizable() || Local.IsStale() || !Linearizable.IsLinearizable() || !Stale.IsStale() {
		t.Error("the promises are mixed up")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(tableRevocations, Revocation{Seq: 1, IssuedBefore: 2, ExpiresAt: 3}.encode(), []byte("\x00\x01t\x00\x00\x00\x01k\x00\x01x\x00\x01a"))
	f.Add(tableClients, encode(&Client{Id: "a", Secrets: []*SecretHash{{Id: "s"}}}), []byte("\x00\x01t"))
	f.Add(tableMeta, Applied{Index: 1}.encode(), []byte{})
	f.Add(tableMeta, Counters{Clock: 1}.encode(), []byte{})
	f.Fuzz(func(t *testing.T, table byte, value, rest []byte) {
		if row, err := decodeInMemory(append([]byte{table}, rest...), value); err == nil {
			switch r := row.(type) {
			case Revocation:
				if !bytes.Equal(r.encode(), value) {
					t.Errorf("%+v is written otherwise than it was read", r)
				}
				_, _ = eventOf(rest, r)
			case interface{ GetId() string }:
				_ = r.GetId()
			}
		}
		if a, err := decodeApplied(value); err == nil && !bytes.Equal(a.encode(), value) {
			t.Errorf("%+v is written otherwise than it was read", a)
		}
		if c, err := decodeCounters(value); err == nil && !bytes.Equal(c.encode(), value[:countersSize]) {
			t.Errorf("%+v is written otherwise than it was read", c)
		}
		for tbl := tableMeta; tbl <= lastTable; tbl++ {
			_, _ = endOf(tbl, value)
		}
	})
}

// FuzzLoad: a store with one strange row opens or says that it is damaged.
func FuzzLoad(f *testing.F) {
	f.Add([]byte{tableClients, 0, 1, 'a'}, []byte("x"))
	f.Add([]byte{tableGatewaysByCred}, []byte("x"))
	f.Add(keyApplied, Applied{Index: 3}.encode())
	f.Add(keyApplied, []byte{})
	db := open(f)
	f.Fuzz(func(t *testing.T, key, value []byte) {
		b := db.NewBatch()
		b.DeleteRange([]byte{0}, []byte{0xff})
		b.Set(key, value)
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		b.Close()
		v, err := Load(db)
		if err != nil {
			return
		}
		_ = v.Clients("a", "", 5)
		_ = v.SigningKeys("")
		_ = v.Revocations(func(*Event) {})
		_, _ = v.GatewayByCredential([32]byte{})
		v.AdminTokens(func([32]byte, *AdminToken) {})
		_, _, _ = v.DueMinute()
		_ = v.CheckMemory()
	})
}
