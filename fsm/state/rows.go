package state

import (
	"slices"
	"strings"
)

// rows is a persistent B+ tree of encoded rows, for the tables that may hold
// millions: a row takes its bytes and some 20 more, all without a pointer for the
// collector to follow. A value of rows is immutable: a change returns another
// that shares all but the path to the changed leaf.
type rows struct{ root *node }

// fanout is how many rows or children a node holds at most. A change of one row
// copies one node a level, about 1 KiB each.
const fanout = 64

// node is a leaf (rows) or an inner node (kids, and least: a key that is at most
// the least one below each kid, and above all before it; that of the first kid is
// not looked at).
type node struct {
	owner *owner
	rows  []string
	kids  []*node
	least []string
}

// owner is one change. The nodes that it made are its own to write; it copies
// those of others.
type owner struct{ _ byte }

// makeRow puts key and value into one string: key, value, and the key's length in
// two bytes.
func makeRow(key, value []byte) string {
	var b strings.Builder
	b.Grow(len(key) + len(value) + 2)
	b.Write(key)
	b.Write(value)
	b.WriteByte(byte(len(key) >> 8))
	b.WriteByte(byte(len(key)))
	return b.String()
}

func keyLength(row string) int {
	n := len(row)
	return int(row[n-2])<<8 | int(row[n-1])
}

func rowKey(row string) string   { return row[:keyLength(row)] }
func rowValue(row string) string { return row[keyLength(row) : len(row)-2] }

// get returns the row with this key. It does not allocate.
func (t rows) get(key []byte) (row string, ok bool) {
	n, i, ok := t.place(key)
	if !ok {
		return "", false
	}
	return n.rows[i], true
}

// place is the leaf and where in it the row with this key is, or belongs; no leaf
// in an empty tree.
func (t rows) place(key []byte) (leaf *node, at int, found bool) {
	n := t.root
	if n == nil {
		return nil, 0, false
	}
	for n.kids != nil {
		n = n.kids[n.kid(key)]
	}
	at, found = n.find(key)
	return n, at, found
}

// behind returns the row with key, which is the next possible one after that of
// place: mostly it stands, or would stand, in the same leaf.
func (t rows) behind(leaf *node, at int, found bool, key []byte) (row string, ok bool) {
	if leaf == nil {
		return "", false
	}
	if found {
		at++
	}
	if at == len(leaf.rows) {
		return t.get(key)
	}
	return leaf.rows[at], rowKey(leaf.rows[at]) == string(key)
}

// from calls fn for each row whose key is at least key, in order, until fn says
// false.
func (t rows) from(key []byte, fn func(row string) bool) {
	if t.root != nil {
		t.root.from(key, fn)
	}
}

// prefixed calls fn for each row whose key has that prefix, in order.
func (t rows) prefixed(prefix []byte, fn func(row string) bool) {
	t.from(prefix, func(row string) bool {
		return strings.HasPrefix(row, string(prefix)) && fn(row)
	})
}

// changed calls fn for each row with that prefix that may not be in old, and for some
// that are: it passes over the leaves that both share, and looks at no row in them.
func (t rows) changed(old rows, prefix []byte, fn func(row string)) {
	before := old.leaves(prefix)
	for _, leaf := range t.leaves(prefix) {
		for len(before) > 0 && before[0] != leaf && before[0].rows[0] < leaf.rows[0] {
			before = before[1:]
		}
		if len(before) > 0 && before[0] == leaf {
			before = before[1:]
			continue
		}
		for _, row := range leaf.rows {
			if strings.HasPrefix(row, string(prefix)) {
				fn(row)
			}
		}
	}
}

// leaves are those with rows of that prefix, in order, and perhaps one before them.
func (t rows) leaves(prefix []byte) (out []*node) {
	var walk func(n *node) bool
	walk = func(n *node) bool {
		if n.kids == nil {
			out = append(out, n)
			last := n.rows[len(n.rows)-1]
			return last < string(prefix) || strings.HasPrefix(last, string(prefix))
		}
		for _, kid := range n.kids[n.kid(prefix):] {
			if !walk(kid) {
				return false
			}
		}
		return true
	}
	if t.root != nil {
		walk(t.root)
	}
	return out
}

// put adds a row with this key, or replaces the one that is there.
func (t rows) put(o *owner, key []byte, row string) rows {
	if t.root == nil {
		return rows{&node{owner: o, rows: []string{row}}}
	}
	left, right, least := t.root.put(o, key, row)
	if right == nil {
		return rows{left}
	}
	return rows{&node{owner: o, kids: []*node{left, right}, least: []string{"", least}}}
}

// remove takes the row with this key out, if it is there.
func (t rows) remove(o *owner, key []byte) rows {
	if t.root == nil {
		return t
	}
	root, ok := t.root.remove(o, key)
	if !ok {
		return t
	}
	for root != nil && len(root.kids) == 1 {
		root = root.kids[0]
	}
	return rows{root}
}

// find is where the row with this key is in a leaf, or belongs.
func (n *node) find(key []byte) (at int, found bool) {
	low, high := 0, len(n.rows)
	for low < high {
		if mid := int(uint(low+high) >> 1); rowKey(n.rows[mid]) < string(key) {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, low < len(n.rows) && rowKey(n.rows[low]) == string(key)
}

// kid is the child below which this key is, or belongs.
func (n *node) kid(key []byte) int {
	low, high := 1, len(n.kids)
	for low < high {
		if mid := int(uint(low+high) >> 1); n.least[mid] <= string(key) {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low - 1
}

func (n *node) from(key []byte, fn func(row string) bool) bool {
	if n.kids == nil {
		i, _ := n.find(key)
		for ; i < len(n.rows); i++ {
			if !fn(n.rows[i]) {
				return false
			}
		}
		return true
	}
	for i := n.kid(key); i < len(n.kids); i++ {
		if !n.kids[i].from(key, fn) {
			return false
		}
	}
	return true
}

// mine is the node itself for its owner, and a copy for any other.
func (n *node) mine(o *owner) *node {
	if n.owner == o {
		return n
	}
	if n.kids == nil {
		return &node{owner: o, rows: copied(n.rows)}
	}
	return &node{owner: o, kids: copied(n.kids), least: copied(n.least)}
}

// copied leaves room for one more.
func copied[T any](from []T) []T {
	return append(make([]T, 0, min(len(from)+1, fanout)), from...)
}

// put returns the changed node and, when it was full, the node to its right with
// the least key of that.
func (n *node) put(o *owner, key []byte, row string) (left, right *node, least string) {
	n = n.mine(o)
	if n.kids == nil {
		return n.putRow(o, key, row)
	}
	i := n.kid(key)
	kid, split, from := n.kids[i].put(o, key, row)
	n.kids[i] = kid
	if split == nil {
		return n, nil, ""
	}
	return n.putKid(o, i+1, split, from)
}

func (n *node) putRow(o *owner, key []byte, row string) (left, right *node, least string) {
	i, found := n.find(key)
	switch {
	case found:
		n.rows[i] = row
		return n, nil, ""
	case len(n.rows) < fanout:
		n.rows = slices.Insert(n.rows, i, row)
		return n, nil, ""
	}
	cut := cutAt(i)
	right = &node{owner: o, rows: slices.Clone(n.rows[cut:])}
	clear(n.rows[cut:]) // what went over must not be kept alive from here
	n.rows = n.rows[:cut]
	into := n
	if i > cut || i == fanout {
		into, i = right, i-cut
	}
	into.rows = slices.Insert(into.rows, i, row)
	return n, right, rowKey(right.rows[0])
}

func (n *node) putKid(o *owner, i int, kid *node, from string) (left, right *node, least string) {
	if len(n.kids) < fanout {
		n.kids, n.least = slices.Insert(n.kids, i, kid), slices.Insert(n.least, i, from)
		return n, nil, ""
	}
	cut := cutAt(i)
	right = &node{owner: o, kids: slices.Clone(n.kids[cut:]), least: slices.Clone(n.least[cut:])}
	clear(n.kids[cut:])
	clear(n.least[cut:])
	n.kids, n.least = n.kids[:cut], n.least[:cut]
	into := n
	if i > cut || i == fanout {
		into, i = right, i-cut
	}
	into.kids, into.least = slices.Insert(into.kids, i, kid), slices.Insert(into.least, i, from)
	return n, right, right.least[0]
}

// cutAt is where a full node is divided for what comes in at i: in the middle, but
// rows that come in order leave full nodes behind.
func cutAt(i int) int {
	if i == fanout {
		return fanout
	}
	return fanout / 2
}

// remove returns the node without the row, nil when nothing is left of it; false
// when there is no such row.
func (n *node) remove(o *owner, key []byte) (*node, bool) {
	if n.kids == nil {
		i, found := n.find(key)
		if !found {
			return n, false
		}
		if len(n.rows) == 1 {
			return nil, true
		}
		n = n.mine(o)
		n.rows = slices.Delete(n.rows, i, i+1)
		return n, true
	}
	i := n.kid(key)
	kid, ok := n.kids[i].remove(o, key)
	if !ok {
		return n, false
	}
	if kid == nil && len(n.kids) == 1 {
		return nil, true
	}
	n = n.mine(o)
	if kid == nil {
		n.drop(i)
		return n, true
	}
	n.kids[i] = kid
	n.join(o, max(i-1, 0))
	n.join(o, i)
	return n, true
}

func (n *node) drop(i int) {
	n.kids, n.least = slices.Delete(n.kids, i, i+1), slices.Delete(n.least, i, i+1)
}

// join makes one of the kids i and i+1 when little is left in them.
func (n *node) join(o *owner, i int) {
	if i+1 >= len(n.kids) || n.kids[i].size()+n.kids[i+1].size() > fanout/2 {
		return
	}
	left, right := n.kids[i].mine(o), n.kids[i+1]
	if right.kids != nil {
		left.kids, left.least = append(left.kids, right.kids...), append(left.least, right.least...)
		left.least[len(left.least)-len(right.least)] = n.least[i+1]
	} else {
		left.rows = append(left.rows, right.rows...)
	}
	n.kids[i] = left
	n.drop(i + 1)
}

func (n *node) size() int { return len(n.rows) + len(n.kids) }
