package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
	"github.com/minio/highwayhash"
	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/storage"
)

// Batch is the change of one Raft entry: rows, the tree in memory, counters and
// the chain, written together or not at all. Reads see the entry's own writes.
type Batch struct {
	View     // reads by name see the batch's own writes
	w        *storage.Batch
	txn      *iradix.Txn[any]
	change   *owner
	changes  []byte // the chain so far, then what was written in an encoding of our own
	row      []byte // of the opaque token that was written last: to be used again
	original Counters
}

// chainKey is fixed and public: the chain finds differences, it keeps no secret.
var chainKey = []byte("keyraft chain of applied changes") // 32 bytes

// NewBatch starts the change that follows v.
func NewBatch(v *View) *Batch {
	return &Batch{
		View: *v, w: v.db.NewBatch(), txn: v.tree.Txn(), change: &owner{}, original: v.counters,
		changes: append(make([]byte, 0, 1024), v.applied.Chain[:]...),
	}
}

// Expect makes room for about so many bytes of changes.
func (b *Batch) Expect(size int) { b.changes = slices.Grow(b.changes, size) }

// Close gives the batch up; after Commit it only frees memory.
func (b *Batch) Close() { b.w.Close() }

// Commit writes everything and the new position, and returns the view after it.
func (b *Batch) Commit(index, term uint64) (*View, error) {
	if b.counters != b.original {
		raw := b.counters.encode()
		b.log(opSet, keyCounters, raw)
		b.w.Set(keyCounters, raw)
	}
	sum := highwayhash.Sum(b.changes, chainKey)
	next := &View{applied: Applied{Index: index, Term: term, Chain: sum}, counters: b.counters, cluster: b.cluster, many: b.many, decoded: b.decoded, db: b.db}
	b.w.Set(keyApplied, next.applied.encode())
	if err := b.w.Commit(); err != nil {
		return nil, fmt.Errorf("commit entry %d: %w", index, err)
	}
	next.tree = b.txn.CommitOnly()
	return next, nil
}

const (
	opSet byte = iota + 1
	opDelete
	opDeleteRange
)

func (b *Batch) log(op byte, key, value []byte) {
	b.changes = append(b.changes, op)
	b.changes = binary.BigEndian.AppendUint32(b.changes, uint32(len(key)))
	b.changes = append(b.changes, key...)
	b.changes = binary.BigEndian.AppendUint32(b.changes, uint32(len(value)))
	b.changes = append(b.changes, value...)
}

// set writes one row; mem is its decoded form, for a table that is held as such.
func (b *Batch) set(key, value []byte, mem any) {
	b.log(opSet, key, value)
	b.w.Set(key, value)
	switch {
	case ofMany(key):
		b.many = b.many.put(b.change, key, makeRow(key, value))
	case inMemory(key):
		b.txn.Insert(key, mem)
		b.tree = b.txn.CommitOnly() // constant time; later reads of this entry see it
	}
}

func (b *Batch) put(key []byte, m proto.Message) { b.set(key, encode(m), m) }

func (b *Batch) delete(key []byte) {
	b.log(opDelete, key, nil)
	b.w.Delete(key)
	switch {
	case ofMany(key):
		b.many = b.many.remove(b.change, key)
	case inMemory(key):
		b.txn.Delete(key)
		b.tree = b.txn.CommitOnly()
	}
}

func (b *Batch) deleteRange(lower, upper []byte) {
	b.log(opDeleteRange, lower, upper)
	b.w.DeleteRange(lower, upper)
}

// SetClock moves cluster time; a time before the present one is a programmer's mistake.
func (b *Batch) SetClock(ms int64) { b.counters.Clock = max(b.counters.Clock, ms) }

// CountClamp records that an entry's stamp was cut (R14).
func (b *Batch) CountClamp() { b.counters.Clamped++ }

// SetLevel raises the feature level.
func (b *Batch) SetLevel(level uint32) { b.counters.Level = max(b.counters.Level, uint64(level)) }

// SetEpoch names the history.
func (b *Batch) SetEpoch(epoch uint64) { b.counters.Epoch = max(b.counters.Epoch, epoch) }

// SkipTo moves the head to seq, so that the next event's is greater (R15).
func (b *Batch) SkipTo(seq uint64) { b.counters.Head = max(b.counters.Head, seq) }

// PutCluster writes the cluster's row.
func (b *Batch) PutCluster(c *Cluster) {
	b.put(keyCluster, c)
	b.cluster = c
}

// PutTenant writes one tenant.
func (b *Batch) PutTenant(t *Tenant) { b.put(storage.Key(tableTenants, t.GetId()), t) }

// PutClient writes one client, and queues the end of one that may go unused.
func (b *Batch) PutClient(c *Client) {
	key := storage.Key(tableClients, c.GetTenant(), c.GetId())
	b.set(key, encode(c), nil)
	if c.GetUnusedUntil() != 0 {
		b.queue(c.GetUnusedUntil(), key)
	}
}

// DeleteClient removes one client.
func (b *Batch) DeleteClient(tenant, id string) { b.delete(storage.Key(tableClients, tenant, id)) }

// PutSigningKey writes one signing key.
func (b *Batch) PutSigningKey(k *SigningKey) {
	b.put(storage.Key(tableSigningKeys, k.GetTenant(), k.GetId()), k)
}

// DeleteSigningKey removes one signing key.
func (b *Batch) DeleteSigningKey(tenant, kid string) {
	b.delete(storage.Key(tableSigningKeys, tenant, kid))
}

// PutClusterKey writes one version of a shared key.
func (b *Batch) PutClusterKey(k *ClusterKey) {
	b.put(clusterKeyKey(k.GetName(), k.GetVersion()), k)
}

// PutNode writes one member.
func (b *Batch) PutNode(n *Node) { b.put(storage.Key(tableNodes, n.GetId()), n) }

// DeleteNode forgets a member wholly: only a restore does (its nodes are the
// cluster's, never the backup's).
func (b *Batch) DeleteNode(id string) { b.delete(storage.Key(tableNodes, id)) }

// DeleteJoinTokens forgets every join token.
func (b *Batch) DeleteJoinTokens() { b.deleteTable(tableJoinTokens) }

// DeleteAdminTokens forgets every operator's token.
func (b *Batch) DeleteAdminTokens() { b.deleteTable(tableAdminTokens) }

func (b *Batch) deleteTable(table byte) {
	var keys [][]byte
	it := b.tree.Root().Iterator()
	it.SeekPrefix([]byte{table})
	for key, _, ok := it.Next(); ok; key, _, ok = it.Next() {
		keys = append(keys, key)
	}
	for _, key := range keys {
		b.delete(key)
	}
}

// DeleteClusterKey forgets one version of a shared key.
func (b *Batch) DeleteClusterKey(name string, version uint32) { b.delete(clusterKeyKey(name, version)) }

// PutJoinToken writes one join token and queues its end.
func (b *Batch) PutJoinToken(hash [32]byte, t *JoinToken) {
	key := storage.Key(tableJoinTokens, string(hash[:]))
	b.put(key, t)
	b.queue(wholeSeconds(t.GetExpiresAt()), key)
}

// PutGateway writes one gateway and its credential's index row, in place of old (nil: new).
func (b *Batch) PutGateway(old, g *Gateway) {
	if old != nil {
		b.delete(storage.Key(tableGatewaysByCred, string(old.GetCredential())))
	}
	b.put(storage.Key(tableGateways, g.GetId()), g)
	b.set(storage.Key(tableGatewaysByCred, string(g.GetCredential())), []byte(g.GetId()), g.GetId())
}

// DeleteGateway removes one gateway and its credential.
func (b *Batch) DeleteGateway(g *Gateway) {
	b.delete(storage.Key(tableGatewaysByCred, string(g.GetCredential())))
	b.delete(storage.Key(tableGateways, g.GetId()))
}

// PutAdminToken writes one operator's token.
func (b *Batch) PutAdminToken(hash [32]byte, t *AdminToken) {
	b.put(storage.Key(tableAdminTokens, string(hash[:])), t)
}

// PutOpaque writes one opaque token. Both store and chain copy its row, so that
// one buffer is good for all.
func (b *Batch) PutOpaque(hash [32]byte, t *OpaqueToken) {
	row, ok := AppendOpaque(appendOpaqueKey(b.row[:0], Minute(t.GetExpiresAt()), hash), t)
	if !ok {
		row = append(row[:opaqueKeySize], encode(t)...)
	}
	b.row = row
	b.set(row[:opaqueKeySize:opaqueKeySize], row[opaqueKeySize:], nil)
}

// PutEvent gives e the next seq and appends it to the event log; an event with
// an end is queued for it.
func (b *Batch) PutEvent(e *Event) uint64 {
	b.counters.Head++
	e.Seq = b.counters.Head
	key := eventKey(e.Seq)
	b.set(key, encode(e), nil)
	if e.GetExpiresAt() != 0 {
		b.queue(e.GetExpiresAt(), key)
	}
	return e.Seq
}

// DeleteEvent removes an event that a later one covers whole; the floor stays,
// since whoever missed it gets the later one.
func (b *Batch) DeleteEvent(seq uint64) { b.delete(eventKey(seq)) }

func revocationKey(tenant, issuer, kind, target string, issuedBefore int64) []byte {
	class := classAll
	if issuedBefore != 0 {
		class = classBefore
	}
	return appendRevocationKey(nil, tenant, issuer, kind, target, class)
}

// PutRevocation writes an event that has a target (a revocation, or the latest
// "keys" of a tenant): the event with the next seq and the index by target. The
// event of the row that it replaces goes. An end of 0 stays.
func (b *Batch) PutRevocation(old *Revocation, e *Event) uint64 {
	if old != nil {
		b.DeleteEvent(old.Seq)
	}
	seq := b.PutEvent(e)
	r := Revocation{Seq: seq, IssuedBefore: e.GetIssuedBefore(), ExpiresAt: e.GetExpiresAt(),
		DecidedAfter: e.GetDecidedAfter(), IssuedAfter: e.GetIssuedAfter()}
	key := revocationKey(e.GetTenant(), e.GetIssuer(), e.GetKind(), e.GetTarget(), e.GetIssuedBefore())
	b.set(key, r.encode(), nil)
	if r.ExpiresAt != 0 {
		b.queue(r.ExpiresAt, key)
	}
	return seq
}

// Consumed returns the row of a one-time value; nil when it was not used.
func (b *Batch) Consumed(tenant, kind, id string) (*Consumed, error) {
	c := &Consumed{}
	return found(c, b.read(storage.Key(tableConsumed, tenant, kind, id), c))
}

// PutConsumed records a one-time value as used, until it has expired.
func (b *Batch) PutConsumed(tenant, kind, id string, c *Consumed) {
	key := storage.Key(tableConsumed, tenant, kind, id)
	b.set(key, encode(c), nil)
	b.queue(c.GetExpiresAt(), key)
}

// Answered returns the kept result under a key; nil when there is none.
func (b *Batch) Answered(key [16]byte) (*Answered, error) {
	a := &Answered{}
	return found(a, b.read(storage.Key(tableAnswered, string(key[:])), a))
}

// PutAnswered keeps a result.
func (b *Batch) PutAnswered(key [16]byte, a *Answered) {
	row := storage.Key(tableAnswered, string(key[:]))
	b.set(row, encode(a), nil)
	b.queue(wholeSeconds(a.GetExpiresAt()), row)
}

func (b *Batch) read(key []byte, into proto.Message) error {
	raw, err := b.w.Get(key)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("row of table %#x: %w: the store is damaged", key[0], err)
	}
	return nil
}

func found[T any](m *T, err error) (*T, error) {
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// queue puts a row into the expiry queue for the minute in which it is over.
func (b *Batch) queue(expiresAt int64, row []byte) {
	b.set(expiryKey(Minute(expiresAt), row), nil, nil)
}
