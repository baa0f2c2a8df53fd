package state

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// model is what the tree is held against: rows in a sorted slice.
type model []string

func (m model) find(key string) (int, bool) {
	return slices.BinarySearchFunc(m, key, func(row, key string) int { return strings.Compare(rowKey(row), key) })
}

func (m model) put(key, value string) model {
	row := makeRow([]byte(key), []byte(value))
	if i, ok := m.find(key); ok {
		out := slices.Clone(m)
		out[i] = row
		return out
	} else {
		return slices.Insert(slices.Clone(m), i, row)
	}
}

func (m model) remove(key string) model {
	if i, ok := m.find(key); ok {
		return slices.Delete(slices.Clone(m), i, i+1)
	}
	return m
}

func (t rows) all() (out []string) {
	t.from(nil, func(row string) bool { out = append(out, row); return true })
	return out
}

// check holds every reading of the tree against the model, and its shape against
// what get relies on.
func check(t *testing.T, what string, tree rows, m model) {
	t.Helper()
	if got := tree.all(); !slices.Equal(got, m) {
		t.Fatalf("%s: %d rows, want %d", what, len(got), len(m))
	}
	for i, row := range m {
		if got, ok := tree.get([]byte(rowKey(row))); !ok || got != row {
			t.Fatalf("%s: row %d is not found", what, i)
		}
		if _, ok := tree.get([]byte(rowKey(row) + "\x00")); ok {
			t.Fatalf("%s: a key behind row %d is found", what, i)
		}
	}
	if tree.root != nil {
		shape(t, what, tree.root, depth(tree.root))
	}
}

func depth(n *node) int {
	if n.kids == nil {
		return 0
	}
	return 1 + depth(n.kids[0])
}

func shape(t *testing.T, what string, n *node, want int) {
	t.Helper()
	if n.size() == 0 || n.size() > fanout || len(n.least) != len(n.kids) || n.rows != nil && n.kids != nil {
		t.Fatalf("%s: a node of %d rows and %d kids", what, len(n.rows), len(n.kids))
	}
	if d := depth(n); d != want {
		t.Fatalf("%s: leaves at depth %d and %d", what, d, want)
	}
	for _, kid := range n.kids {
		shape(t, what, kid, want-1)
	}
}

// TestRowsAgainstAModel: puts and removals at random, in order and backwards, in
// changes of one and of many; every earlier version stays what it was.
func TestRowsAgainstAModel(t *testing.T) {
	t.Parallel()
	type version struct {
		tree rows
		m    model
	}
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 1))
		var tree rows
		var m model
		var kept []version
		next := 0
		for step := range 600 {
			change := &owner{}
			for range 1 + r.IntN(1+r.IntN(60)) {
				key := fmt.Sprintf("%05d", r.IntN(3000))
				switch mode := (step / 100) % 3; {
				case mode == 1 && r.IntN(4) > 0: // mostly removals
					if len(m) > 0 && r.IntN(8) > 0 {
						key = rowKey(m[r.IntN(len(m))])
					}
					tree, m = tree.remove(change, []byte(key)), m.remove(key)
					continue
				case mode == 2: // in order
					key, next = fmt.Sprintf("%05d", next), next+1
				}
				value := strings.Repeat("v", r.IntN(20))
				tree, m = tree.put(change, []byte(key), makeRow([]byte(key), []byte(value))), m.put(key, value)
			}
			if step%60 == 0 {
				kept = append(kept, version{tree, m})
			}
		}
		kept = append(kept, version{tree, m})
		for i, v := range kept {
			check(t, fmt.Sprintf("seed %d, version %d", seed, i), v.tree, v.m)
		}
		for _, row := range m {
			tree = tree.remove(&owner{}, []byte(rowKey(row)))
		}
		if tree.root != nil {
			t.Fatalf("seed %d: something is left when all is removed", seed)
		}
	}
}

func TestRowsInOrderFillTheirNodes(t *testing.T) {
	t.Parallel()
	var tree rows
	change := &owner{}
	const n = fanout * fanout * 3
	for i := range n {
		key := fmt.Appendf(nil, "%08d", i)
		tree = tree.put(change, key, makeRow(key, nil))
	}
	leaves := 0
	var count func(*node)
	count = func(n *node) {
		if n.kids == nil {
			leaves++
		}
		for _, kid := range n.kids {
			count(kid)
		}
	}
	count(tree.root)
	if leaves != n/fanout {
		t.Errorf("%d rows in order stand in %d leaves, want %d", n, leaves, n/fanout)
	}
}

func TestRowsFromAndPrefix(t *testing.T) {
	t.Parallel()
	var tree rows
	for _, key := range []string{"a", "ab", "abc", "b", "ba", "c"} {
		tree = tree.put(&owner{}, []byte(key), makeRow([]byte(key), []byte(key+"!")))
	}
	list := func(walk func(fn func(string) bool), limit int) string {
		var out []string
		walk(func(row string) bool {
			out = append(out, rowValue(row))
			return len(out) != limit
		})
		return strings.Join(out, " ")
	}
	for want, got := range map[string]string{
		"a! ab! abc! b! ba! c!": list(func(fn func(string) bool) { tree.from(nil, fn) }, 0),
		"abc! b!":               list(func(fn func(string) bool) { tree.from([]byte("abb"), fn) }, 2),
		"ab! abc!":              list(func(fn func(string) bool) { tree.prefixed([]byte("ab"), fn) }, 0),
		"":                      list(func(fn func(string) bool) { tree.from([]byte("d"), fn) }, 0),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if _, ok := (rows{}).get([]byte("a")); ok {
		t.Error("an empty tree holds a row")
	}
}

// TestTheRowBehind: wherever the leaves end, the next key is found from the place of
// the one before it, there or not.
func TestTheRowBehind(t *testing.T) {
	t.Parallel()
	for mask := range 4 { // which of each pair is there
		var tree rows
		for i := range 3 * fanout {
			for c, class := range []string{"a", "b"} {
				if mask>>c&1 == 1 || i%3 == c {
					key := fmt.Appendf(nil, "%05d%s", i, class)
					tree = tree.put(&owner{}, key, makeRow(key, []byte(class)))
				}
			}
		}
		for i := range 3*fanout + 1 {
			first, next := fmt.Appendf(nil, "%05da", i), fmt.Appendf(nil, "%05db", i)
			leaf, at, found := tree.place(first)
			got, ok := tree.behind(leaf, at, found, next)
			want, there := tree.get(next)
			if ok != there || ok && got != want {
				t.Fatalf("mask %d, pair %d: found %v, want %v", mask, i, ok, there)
			}
		}
	}
	var none rows
	leaf, at, found := none.place([]byte("a"))
	if _, ok := none.behind(leaf, at, found, []byte("b")); ok {
		t.Error("an empty tree holds a row")
	}
}

func TestLookingUpARowAllocatesNothing(t *testing.T) {
	tree := rows{}
	for i := range 5000 {
		key := fmt.Appendf(nil, "%05d", i)
		tree = tree.put(&owner{}, key, makeRow(key, bytes.Repeat([]byte{'v'}, 40)))
	}
	key := []byte("02500")
	if n := testing.AllocsPerRun(100, func() { tree.get(key) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestClientsThatShareASlotTakeTurns: the decoded clients are kept by slots, and a
// view gets the record of its own row, whatever another put there.
func TestClientsThatShareASlotTakeTurns(t *testing.T) {
	t.Parallel()
	cache := &clientCache{}
	byslot := map[uint32]string{}
	var a, b string
	for i := 0; b == ""; i++ {
		key := fmt.Sprint("client ", i)
		if other, ok := byslot[slotOf(key)]; ok {
			a, b = other, key
		}
		byslot[slotOf(key)] = key
	}
	rowOf := func(key string, generation uint64) string {
		return makeRow([]byte(key), encode(&Client{Id: key, Generation: generation}))
	}
	old, now, other := rowOf(a, 1), rowOf(a, 2), rowOf(b, 3)
	for range 3 {
		for row, want := range map[string]uint64{old: 1, now: 2, other: 3} {
			if c := cache.client(row); c.GetGeneration() != want || c.GetId() != rowKey(row) {
				t.Errorf("got generation %d of %q, want %d of %q", c.GetGeneration(), c.GetId(), want, rowKey(row))
			}
		}
	}
	if first, again := cache.client(now), cache.client(now); first != again {
		t.Error("a client that was just decoded is decoded again")
	}
}

// TestCheckMemoryFindsRowsThatPart: each way in which the rows that are held encoded
// can part from the store is told (R20, S11).
func TestCheckMemoryFindsRowsThatPart(t *testing.T) {
	t.Parallel()
	put := func(t rows, o *owner, key, value string) rows {
		return t.put(o, []byte(key), makeRow([]byte(key), []byte(value)))
	}
	o := &owner{}
	store := put(put(rows{}, o, "a", "1"), o, "b", "2")
	for name, memory := range map[string]rows{
		"one too few":     put(rows{}, &owner{}, "a", "1"),
		"none":            {},
		"one too many":    put(store, &owner{}, "c", "3"),
		"another value":   put(store, &owner{}, "b", "3"),
		"another key":     put(put(rows{}, &owner{}, "a", "1"), &owner{}, "bb", "2"),
		"the first gone":  store.remove(&owner{}, []byte("a")),
		"key and value":   put(put(rows{}, &owner{}, "a", "1"), &owner{}, "b2", ""),
		"before the rest": put(store, &owner{}, "0", ""),
	} {
		if memory.same(store) == nil {
			t.Errorf("%s: nothing is told", name)
		}
	}
	if err := store.same(store); err != nil {
		t.Error(err)
	}
}

// TestChangedRows: between two trees of one history every new or other row with the
// prefix is told, and most of a large tree is passed over.
func TestChangedRows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		key := func(n int) []byte { return fmt.Appendf(nil, "%c%04d", 'a'+n%3, n) }
		change := func(tree rows, n int, label string) rows {
			o := &owner{}
			for range n {
				k := key(rapid.IntRange(0, 900).Draw(rt, label))
				if rapid.IntRange(0, 3).Draw(rt, "remove") == 0 {
					tree = tree.remove(o, k)
				} else {
					tree = tree.put(o, k, makeRow(k, []byte{rapid.Byte().Draw(rt, "value")}))
				}
			}
			return tree
		}
		o, full := &owner{}, rows{}
		for n := range rapid.IntRange(0, 900).Draw(rt, "rows") {
			full = full.put(o, key(n), makeRow(key(n), nil))
		}
		old := change(full, rapid.IntRange(0, 20).Draw(rt, "before"), "before")
		now := change(old, rapid.IntRange(0, 20).Draw(rt, "after"), "after")
		for _, prefix := range []string{"a", "b", "c", "d", ""} {
			told := map[string]bool{}
			now.changed(old, []byte(prefix), func(row string) { told[row] = true })
			now.prefixed([]byte(prefix), func(row string) bool {
				if was, ok := old.get([]byte(rowKey(row))); (!ok || was != row) && !told[row] {
					rt.Fatalf("the row of %q is not told", rowKey(row))
				}
				return true
			})
			for row := range told {
				if at, ok := now.get([]byte(rowKey(row))); !ok || at != row || !strings.HasPrefix(row, prefix) {
					rt.Fatalf("the row of %q is told and is not there", rowKey(row))
				}
			}
		}
	})
	o, full := &owner{}, rows{}
	for n := range 100_000 {
		k := fmt.Appendf(nil, "a%06d", n)
		full = full.put(o, k, makeRow(k, nil))
	}
	next := full.put(&owner{}, []byte("a050000"), makeRow([]byte("a050000"), []byte("x")))
	looked := 0
	if next.changed(full, []byte("a"), func(string) { looked++ }); looked == 0 || looked > fanout {
		t.Errorf("%d rows were looked at for one that changed", looked)
	}
}
