package gateway

import (
	"encoding/binary"
	"math"
	"sync/atomic"

	"github.com/minio/highwayhash"
)

// digest names a revocation target or a token: HighwayHash-128 under a random
// key of this gateway, so that nobody can choose values that meet.
type digest [2]uint64

// hasher makes digests. The key is the gateway's own and goes nowhere but into
// its cache file.
type hasher struct{ key [32]byte }

func (h *hasher) sum(data []byte) digest {
	s := highwayhash.Sum128(data, h.key[:])
	return digest{binary.LittleEndian.Uint64(s[:8]), binary.LittleEndian.Uint64(s[8:])}
}

// target names (tenant, issuer, kind, target). The parts are length-prefixed, so
// none can reach into the next. Allocation-free up to 512 bytes.
func (h *hasher) target(tenant, issuer, kind, target string) digest {
	var space [512]byte
	b := space[:0]
	for _, part := range [...]string{tenant, issuer, kind, target} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	return h.sum(b)
}

// record is one live revocation, 32 bytes without a pointer. Once a slot points
// to it, it never changes.
type record struct {
	id           digest
	seq          uint64
	issuedBefore uint32 // seconds since 1970, 0: no bound
	expires      uint32 // minutes since 1970, rounded up, 0: never
}

// newRecord narrows the times to 32 bits, always to the side that refuses more:
// a bound after 2106 covers every token, an end is rounded up to its minute.
func newRecord(id digest, seq uint64, issuedBefore, expiresAt int64) record {
	r := record{id: id, seq: seq}
	r.issuedBefore = uint32(min(issuedBefore, math.MaxUint32))
	if expiresAt > 0 {
		minutes := expiresAt/60 + 1
		if minutes <= math.MaxUint32 {
			r.expires = uint32(minutes)
		}
	}
	return r
}

func (r *record) expired(now int64) bool { return r.expires != 0 && int64(r.expires)*60 <= now }

// contains says that r covers every token that o covers, for at least as long.
func (r *record) contains(o *record) bool {
	return r.seq >= o.seq &&
		(r.issuedBefore == 0 || o.issuedBefore != 0 && r.issuedBefore >= o.issuedBefore) &&
		(r.expires == 0 || o.expires != 0 && r.expires >= o.expires)
}

const (
	shardCount = 64
	chunkSize  = 64 // records: 2 KiB
	firstSlots = 64
	indexBits  = 24 // 16 million records a shard: far above any MaxRevocations
)

// revset is the set of live revocations: exact, open addressing, some 40 bytes
// each. One writer (the sync loop) and any number of readers without a lock.
//
// Each of the 64 shards holds a table of 4-byte slots (8 bits of the digest as a
// tag, 24 bits of index) and the records in chunks of 2 KiB, so growing wastes
// no memory on empty records. The writer fills a record first and then stores
// its slot; a reader that sees the slot sees the record. Replacing a record
// stores a new one and moves the slot. A shard is copied as a whole (16 thousand
// records of a million) when it grows or sheds expired records, and swapped by
// its pointer: a reader holding the old table only misses what was added later.
// The order is therefore: writer inserts, then publishes the head; reader loads
// the head, then looks targets up. It may see revocations above its head, which
// refuse a moment early, and never misses one at or below it.
type revset struct {
	shards [shardCount]shard
	// Whether any revocation names an issuer, and whether any does not: most
	// clusters have one sort only, and the other lookup is left out. Set before
	// the first insert of that sort, never cleared.
	named, bare atomic.Bool
	count       atomic.Int64 // live records
}

type shard struct {
	table atomic.Pointer[table]
	_     [56]byte // one cache line each
}

type table struct {
	slots  []atomic.Uint32
	chunks []*[chunkSize]record // set before the first slot that leads there
	used   int                  // records stored, replaced ones included; writer only
	filled int                  // slots taken; writer only
}

func newTable(slots int) *table {
	return &table{
		slots:  make([]atomic.Uint32, slots),
		chunks: make([]*[chunkSize]record, (slots*3/4+chunkSize-1)/chunkSize),
	}
}

func newRevset() *revset {
	s := new(revset)
	for i := range s.shards {
		s.shards[i].table.Store(newTable(firstSlots))
	}
	return s
}

func (s *revset) shard(id digest) *shard { return &s.shards[id[0]%shardCount] }

func (t *table) record(slot uint32) *record {
	i := slot&(1<<indexBits-1) - 1
	return &t.chunks[i/chunkSize][i%chunkSize]
}

// search goes through the records of one target. There are several only where none
// contains the others. It stays in the table that it began in: in the next one they
// may stand in another order, or without those that have expired.
type search struct {
	t  *table
	id digest
	at uint64
}

func (s *revset) search(id digest) search { return search{s.shard(id).table.Load(), id, id[1]} }

// next returns the next record; false behind the last one.
func (s *search) next() (record, bool) {
	mask, tag := uint64(len(s.t.slots)-1), uint32(s.id[1]>>56)
	for {
		slot := s.t.slots[s.at&mask].Load()
		if slot == 0 {
			return record{}, false
		}
		s.at++
		if slot>>indexBits != tag {
			continue
		}
		if r := s.t.record(slot); r.id == s.id {
			return *r, true
		}
	}
}

// insert adds one revocation. It is idempotent, and a narrower one than is
// there already changes nothing. Writer only.
func (s *revset) insert(r record) {
	sh := s.shard(r.id)
	t := sh.table.Load()
	if t.filled+1 > len(t.slots)*3/4 || t.used+1 > len(t.chunks)*chunkSize {
		t = s.rebuild(sh, 0)
	}
	mask, tag := uint64(len(t.slots)-1), uint32(r.id[1]>>56)
	i := r.id[1] & mask
	for ; ; i = (i + 1) & mask {
		slot := t.slots[i].Load()
		if slot == 0 {
			t.filled++
			s.count.Add(1)
			break
		}
		if slot>>indexBits != tag {
			continue
		}
		old := t.record(slot)
		if old.id != r.id {
			continue
		}
		if old.contains(&r) {
			return
		}
		if r.contains(old) {
			break
		}
	}
	t.slots[i].Store(tag<<indexBits | uint32(t.add(r)+1))
}

func (t *table) add(r record) (index int) {
	index = t.used
	c := index / chunkSize
	if t.chunks[c] == nil {
		t.chunks[c] = new([chunkSize]record)
	}
	t.chunks[c][index%chunkSize] = r
	t.used++
	return index
}

// rebuild copies what is live at now (seconds; 0 drops nothing) into a table
// with room to grow, and swaps it in.
func (s *revset) rebuild(sh *shard, now int64) *table {
	old := sh.table.Load()
	live := 0
	old.each(func(r *record) {
		if !r.expired(now) {
			live++
		}
	})
	slots := firstSlots
	for slots*3/4 < live+live/8+1 {
		slots *= 2
	}
	t := newTable(slots)
	mask := uint64(slots - 1)
	old.each(func(r *record) {
		if r.expired(now) {
			return
		}
		i := r.id[1] & mask
		for t.slots[i].Load() != 0 {
			i = (i + 1) & mask
		}
		t.slots[i].Store(uint32(r.id[1]>>56)<<indexBits | uint32(t.add(*r)+1))
		t.filled++
	})
	s.count.Add(int64(t.filled - old.filled))
	sh.table.Store(t)
	return t
}

func (t *table) each(fn func(*record)) {
	for i := range t.slots {
		if slot := t.slots[i].Load(); slot != 0 {
			fn(t.record(slot))
		}
	}
}

// each visits every record, in no order. Beside a writer it sees at least what
// was there when it began.
func (s *revset) each(fn func(*record)) {
	for i := range s.shards {
		s.shards[i].table.Load().each(fn)
	}
}

// sweep drops what has expired at now (seconds), a shard at a time, where it
// makes up an eighth of the shard. Writer only.
func (s *revset) sweep(now int64) {
	for i := range s.shards {
		t, expired := s.shards[i].table.Load(), 0
		t.each(func(r *record) {
			if r.expired(now) {
				expired++
			}
		})
		if expired > 0 && expired*8 >= t.filled {
			s.rebuild(&s.shards[i], now)
		}
	}
}

// len counts the records.
func (s *revset) len() int { return int(s.count.Load()) }
