// Package state holds the records of the replicated state, the layout of the
// tables, the View that everyone reads and the Batch that Apply alone writes.
//
// Clients, keys, settings and the index of revocations are held in two persistent
// trees in memory, fed by the same Batch that writes the store and published
// with the applied index under one pointer (R20): one of decoded records, and for
// the tables that may hold millions one of encoded rows. The hot path reads these
// and touches no disk.
//
// A View is immutable and safe for concurrent use; what it returns must not be
// changed. A Batch belongs to the one goroutine that applies.
//
// Errors: storage.ErrNotFound when there is no such row; any other error means
// that the store is damaged or closed.
package state

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/storage"
)

// View is a read of the FSM state at one applied index. Rows that are not in
// memory (opaque tokens, consumed values, events) are read from the store and
// may be newer than the index, never older.
type View struct {
	applied  Applied
	counters Counters
	tree     *iradix.Tree[any]
	cluster  *Cluster // its row in tree: every request asks for it; nil: none
	many     rows
	decoded  *clientCache
	db       *storage.DB
}

// Load reads the position and builds the tree of a store that was just opened.
// An empty store gives a View at index 0.
func Load(db *storage.DB) (*View, error) {
	v := &View{db: db, decoded: &clientCache{}}
	raw, err := db.Get(keyApplied)
	switch {
	case errors.Is(err, storage.ErrNotFound):
	case err != nil:
		return nil, fmt.Errorf("read the applied index: %w", err)
	default:
		if v.applied, err = decodeApplied(raw); err != nil {
			return nil, err
		}
		raw, err = db.Get(keyCounters)
		if err == nil {
			v.counters, err = decodeCounters(raw)
		}
		if err != nil && !errors.Is(err, storage.ErrNotFound) { // none yet: all are zero
			return nil, fmt.Errorf("read the counters: %w", err)
		}
	}
	return v, v.load()
}

// load builds the trees from the store's rows.
func (v *View) load() error {
	txn, change := iradix.New[any]().Txn(), &owner{}
	fill := func(key, value []byte) error {
		if ofMany(key) {
			v.many = v.many.put(change, key, makeRow(key, value))
			return checkRow(key, value)
		}
		row, err := decodeInMemory(key, value)
		if err != nil {
			return err
		}
		txn.Insert(bytes.Clone(key), row)
		return nil
	}
	err := v.db.Scan([]byte{firstInMemory}, []byte{lastInMemory + 1}, fill)
	if err == nil {
		err = v.db.Scan([]byte{firstInMemory2}, []byte{lastInMemory2 + 1}, fill)
	}
	if err != nil {
		return fmt.Errorf("build the memory views: %w", err)
	}
	v.tree = txn.CommitOnly()
	v.cluster, _ = row[*Cluster](v, keyCluster)
	return nil
}

// Applied is the position of this view.
func (v *View) Applied() Applied { return v.applied }

// Index is the Raft index of the last entry in this view.
func (v *View) Index() uint64 { return v.applied.Index }

// Head is the highest event seq, Epoch the history it belongs to.
func (v *View) Head() uint64 { return v.counters.Head }

// BroughtBack tells whether a row that was made at that instant of cluster time, in
// milliseconds, comes of the backup of the last restore, which has forgotten what became
// of it since (R15).
func (v *View) BroughtBack(createdAt int64) bool {
	c, _ := v.Cluster()
	return c.GetRestoredAt() != 0 && createdAt <= c.GetRestoredAt()
}

// Epoch changes when a restore replaced the history.
func (v *View) Epoch() uint64 { return v.counters.Epoch }

// Counters are the numbers that belong to no table.
func (v *View) Counters() Counters { return v.counters }

// Clock is cluster time in milliseconds since 1970 UTC.
func (v *View) Clock() int64 { return v.counters.Clock }

// row reads one record of a table in memory.
func row[T any](v *View, key []byte) (T, bool) {
	got, ok := v.tree.Get(key)
	if !ok {
		var none T
		return none, false
	}
	return got.(T), true
}

// each calls fn for each record below prefix in key order, until fn says false.
func each[T any](v *View, prefix []byte, fn func(T) bool) {
	it := v.tree.Root().Iterator()
	it.SeekPrefix(prefix)
	for _, got, ok := it.Next(); ok; _, got, ok = it.Next() {
		if !fn(got.(T)) {
			return
		}
	}
}

func all[T any](v *View, prefix []byte) []T {
	var out []T
	each(v, prefix, func(r T) bool { out = append(out, r); return true })
	return out
}

// Cluster is the cluster's own row; false before it was bootstrapped.
func (v *View) Cluster() (*Cluster, bool) { return v.cluster, v.cluster != nil }

// Tenant returns one tenant.
func (v *View) Tenant(id string) (*Tenant, bool) {
	var buf [96]byte
	return row[*Tenant](v, storage.AppendString(append(buf[:0], tableTenants), id))
}

// Tenants returns all tenants by id.
func (v *View) Tenants() []*Tenant { return all[*Tenant](v, []byte{tableTenants}) }

// Client returns one client.
func (v *View) Client(tenant, id string) (*Client, bool) {
	var buf [192]byte
	row, ok := v.many.get(appendKey(buf[:0], tableClients, tenant, id))
	if !ok {
		return nil, false
	}
	return v.decoded.client(row), true
}

// Clients returns up to limit clients of a tenant whose id is greater than after.
func (v *View) Clients(tenant, after string, limit int) []*Client {
	prefix := storage.Key(tableClients, tenant)
	var out []*Client
	v.many.from(storage.AppendString(bytes.Clone(prefix), after), func(row string) bool {
		if len(out) == limit || !strings.HasPrefix(row, string(prefix)) {
			return false
		}
		if c := decodeClient(row); after == "" || c.GetId() != after {
			out = append(out, c)
		}
		return true
	})
	return out
}

// ClientsSince calls fn for each client of a tenant that is new or other than in
// old, an earlier view, and for some that are not. It costs little when few are.
func (v *View) ClientsSince(old *View, tenant string, fn func(*Client)) {
	v.many.changed(old.many, storage.Key(tableClients, tenant), func(row string) { fn(decodeClient(row)) })
}

// SigningKeys returns the signing keys of a tenant by kid; an empty tenant: all.
func (v *View) SigningKeys(tenant string) []*SigningKey {
	if tenant == "" {
		return all[*SigningKey](v, []byte{tableSigningKeys})
	}
	return all[*SigningKey](v, storage.Key(tableSigningKeys, tenant))
}

// SigningKey returns one signing key.
func (v *View) SigningKey(tenant, kid string) (*SigningKey, bool) {
	return row[*SigningKey](v, storage.Key(tableSigningKeys, tenant, kid))
}

// ClusterKeys returns the versions of a key that all nodes share, oldest first.
func (v *View) ClusterKeys(name string) []*ClusterKey {
	return all[*ClusterKey](v, storage.Key(tableClusterKeys, name))
}

// AllClusterKeys returns every version of every shared key.
func (v *View) AllClusterKeys() []*ClusterKey { return all[*ClusterKey](v, []byte{tableClusterKeys}) }

// Node returns one member of the cluster, removed ones included.
func (v *View) Node(id string) (*Node, bool) { return row[*Node](v, storage.Key(tableNodes, id)) }

// Nodes returns all members by id, removed ones included.
func (v *View) Nodes() []*Node { return all[*Node](v, []byte{tableNodes}) }

// JoinToken returns the join token with that hash.
func (v *View) JoinToken(hash [32]byte) (*JoinToken, bool) {
	return row[*JoinToken](v, storage.Key(tableJoinTokens, string(hash[:])))
}

// Gateway returns one registered gateway.
func (v *View) Gateway(id string) (*Gateway, bool) {
	return row[*Gateway](v, storage.Key(tableGateways, id))
}

// Gateways returns all registered gateways by id.
func (v *View) Gateways() []*Gateway { return all[*Gateway](v, []byte{tableGateways}) }

// GatewayByCredential returns the gateway whose credential has that hash.
func (v *View) GatewayByCredential(hash [32]byte) (*Gateway, bool) {
	id, ok := row[string](v, storage.Key(tableGatewaysByCred, string(hash[:])))
	if !ok {
		return nil, false
	}
	return v.Gateway(id)
}

// AdminToken returns the operator's token with that hash.
func (v *View) AdminToken(hash [32]byte) (*AdminToken, bool) {
	return row[*AdminToken](v, storage.Key(tableAdminTokens, string(hash[:])))
}

// Revoked reports whether a token that was decided on head and issued at iat
// (seconds) is covered by a revocation of that target, and by which seq. A
// token whose head is not known (a third party's) is given head 0.
func (v *View) Revoked(tenant, issuer, kind, target string, head uint64, iat int64) (seq uint64, revoked bool) {
	if head >= v.Head() {
		return 0, false // decided on all that there is: no seq is above its head
	}
	var buf [256]byte
	key := appendRevocationKey(buf[:0], tenant, issuer, kind, target, classAll)
	leaf, at, found := v.many.place(key)
	if found {
		if r := revocationOf(leaf.rows[at]); r.covers(head, iat) {
			return r.Seq, true
		}
	}
	key[len(key)-1] = classBefore[0] // the one key that can stand next to it
	if row, ok := v.many.behind(leaf, at, found, key); ok {
		if r := revocationOf(row); r.covers(head, iat) {
			return r.Seq, true
		}
	}
	return 0, false
}

func (v *View) revocation(key []byte) (Revocation, bool) {
	row, ok := v.many.get(key)
	if !ok {
		return Revocation{}, false
	}
	return revocationOf(row), true
}

// Revocation returns the row of a target in the class that issuedBefore names.
func (v *View) Revocation(tenant, issuer, kind, target string, issuedBefore int64) (Revocation, bool) {
	return v.revocation(revocationKey(tenant, issuer, kind, target, issuedBefore))
}

// covers compares heads: a revocation covers what was decided before its seq,
// whatever any clock says. A moment counts only where one was named.
func (r Revocation) covers(head uint64, iat int64) bool {
	if head >= r.Seq || r.IssuedBefore != 0 && iat > r.IssuedBefore {
		return false
	}
	return r.IssuedAfter == 0 || head > r.DecidedAfter || iat > r.IssuedAfter
}

// Opaque returns the row of an opaque token. The error is storage.ErrNotFound
// when there is none.
func (v *View) Opaque(minute uint64, hash [32]byte) (*OpaqueToken, error) {
	raw, err := v.db.Get(opaqueKey(minute, hash))
	if err != nil {
		return nil, err
	}
	t := &OpaqueToken{}
	if ParseOpaque(raw, t) {
		return t, nil
	}
	if err := proto.Unmarshal(raw, t); err != nil { // which begins anew
		return nil, fmt.Errorf("opaque token row: %w", err)
	}
	return t, nil
}

// DueMinute is the earliest minute of the expiry queue and of the opaque
// tokens; false when nothing waits to expire.
func (v *View) DueMinute() (minute uint64, any bool, err error) {
	for _, table := range []byte{tableExpiry, tableOpaque} {
		err = v.db.Scan([]byte{table}, []byte{table + 1}, func(key, _ []byte) error {
			if m, _, ok := storage.CutUint64(key[1:]); ok && (!any || m < minute) {
				minute, any = m, true
			}
			return storage.ErrStop
		})
		if err != nil {
			return 0, false, err
		}
	}
	return minute, any, nil
}

// Position reads what a snapshot of the store says of itself: where it stands, its
// counters, and the cluster, which is nil in an empty one.
func Position(s *storage.Snapshot) (at Applied, n Counters, c *Cluster, err error) {
	read := func(key []byte, into func(raw []byte) error) {
		if err != nil {
			return
		}
		var raw []byte
		if raw, err = s.Get(key); errors.Is(err, storage.ErrNotFound) {
			err = nil
		} else if err == nil {
			err = into(raw)
		}
	}
	read(keyApplied, func(raw []byte) (err error) { at, err = decodeApplied(raw); return err })
	read(keyCounters, func(raw []byte) (err error) { n, err = decodeCounters(raw); return err })
	read([]byte{tableCluster}, func(raw []byte) error { c = &Cluster{}; return proto.Unmarshal(raw, c) })
	return at, n, c, err
}

// AdminTokens calls fn for each operator's token with its hash.
func (v *View) AdminTokens(fn func(hash [32]byte, t *AdminToken)) {
	it := v.tree.Root().Iterator()
	it.SeekPrefix([]byte{tableAdminTokens})
	for key, got, ok := it.Next(); ok; key, got, ok = it.Next() {
		if hash, _, ok := storage.CutString(key[1:]); ok && len(hash) == 32 {
			fn([32]byte([]byte(hash)), got.(*AdminToken))
		}
	}
}
