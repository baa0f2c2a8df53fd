package gateway

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/tokens/verify"
)

// The cache file:
//
//	magic "KRGWC" | version byte 1 | int64 time of writing, seconds since 1970: no
//	earlier than the time up to which ended revocations were dropped
//	uint64 epoch | uint64 head | 32 bytes key of the digests
//	byte 1 when any revocation names an issuer, else 0 | the same for one that does not
//	uint32 length, key document with the cluster's id (JSON of package wire)
//	uint32 length, revocations of restores (a Delta of package wire)
//	uint64 count, records of 32 bytes: two digest words, seq, issued before, expires
//	SHA-256 over everything before it
//
// Integers are big-endian. The file is written beside and renamed, so a crash
// leaves the old one; whatever does not check is dropped whole.
const (
	cacheMagic   = "KRGWC\x01"
	recordSize   = 32
	maxCacheAge  = 24 * time.Hour // older ones are below any floor anyhow
	maxFromAhead = 5 * time.Minute
)

var errCache = errors.New("the cache file is not usable")

// fromFile gives the view of the cache file, or first when there is none that
// checks. It makes no head fresh: until a node has confirmed it the gateway fails
// closed or open as set.
func (g *Gateway) fromFile(first *view, key *hasher) *view {
	f, err := os.Open(g.cfg.CacheFile)
	if errors.Is(err, os.ErrNotExist) {
		return first
	}
	if err == nil {
		defer func() { _ = f.Close() }()
		var c *cacheFile
		if c, err = readCache(f, g.cfg.MaxRevocations); err == nil {
			err = c.check(g.cfg.Clock.Now().Unix(), g.pinned())
		}
		if err == nil {
			var v *view
			if v, err = c.view(first); err == nil {
				*key = c.hash
				g.cluster.Store(&c.keys.Cluster)
				g.cached.Store(true)
				return v
			}
		}
	}
	g.cfg.Logger.Warn("the cache file is dropped; starting from a snapshot", "error", err)
	return first
}

// cacheFile is what one holds.
type cacheFile struct {
	written     int64
	epoch, head uint64
	hash        hasher
	named, bare bool
	keys        *wire.Keys
	windows     windows
	records     []record
}

func (c *cacheFile) check(now int64, cluster string) error {
	age := time.Duration(now-c.written) * time.Second
	switch {
	case age > maxCacheAge:
		return fmt.Errorf("%w: it is older than %v", errCache, maxCacheAge)
	case age < -maxFromAhead:
		return fmt.Errorf("%w: it was written in the future; compare the clocks", errCache)
	case cluster != "" && cluster != c.keys.Cluster:
		return fmt.Errorf("%w: it is of cluster %q, this gateway belongs to %q", errCache, c.keys.Cluster, cluster)
	}
	return nil
}

func (c *cacheFile) view(first *view) (*view, error) {
	keys, err := first.keys.with(c.keys)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCache, err)
	}
	set := newRevset()
	set.named.Store(c.named)
	set.bare.Store(c.bare)
	for _, r := range c.records {
		set.insert(r)
	}
	return &view{gen: 1, epoch: c.epoch, head: c.head, set: set, windows: c.windows, keys: keys, made: c.written}, nil
}

// summed hashes what passes through it.
type summed struct {
	r   io.Reader
	sum hash.Hash
}

func (s *summed) take(into []byte) error {
	if _, err := io.ReadFull(s.r, into); err != nil {
		return fmt.Errorf("%w: it ends too early", errCache)
	}
	s.sum.Write(into)
	return nil
}

// readCache reads a whole file; the memory that it takes grows with what is
// really there, never with what a length says.
func readCache(r io.Reader, limit int) (*cacheFile, error) {
	s := &summed{bufio.NewReaderSize(r, 64<<10), sha256.New()}
	var head [len(cacheMagic) + 24 + 32 + 2 + 4]byte
	if err := s.take(head[:]); err != nil {
		return nil, err
	}
	if string(head[:len(cacheMagic)]) != cacheMagic {
		return nil, fmt.Errorf("%w: it is not one of version 1", errCache)
	}
	b := head[len(cacheMagic):]
	c := &cacheFile{
		written: int64(binary.BigEndian.Uint64(b)),
		epoch:   binary.BigEndian.Uint64(b[8:]), head: binary.BigEndian.Uint64(b[16:]),
		named: b[56] == 1, bare: b[57] == 1,
	}
	copy(c.hash.key[:], b[24:56])
	doc, err := s.block(binary.BigEndian.Uint32(b[58:]), wire.MaxKeysBytes)
	if err != nil {
		return nil, err
	}
	var size [4]byte
	if err := s.take(size[:]); err != nil {
		return nil, err
	}
	restores, err := s.block(binary.BigEndian.Uint32(size[:]), wire.MaxDeltaBytes)
	if err != nil {
		return nil, err
	}
	if err := c.readRecords(s, limit); err != nil {
		return nil, err
	}
	want := s.sum.Sum(nil)
	var got [sha256.Size]byte
	if err := s.take(got[:]); err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(got[:], want) != 1 {
		return nil, fmt.Errorf("%w: its checksum does not match", errCache)
	}
	if _, err := s.r.Read(got[:1]); err != io.EOF {
		return nil, fmt.Errorf("%w: something follows its end", errCache)
	}
	if c.keys, err = wire.ParseKeys(doc); err == nil {
		err = c.readWindows(restores)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCache, err)
	}
	return c, nil
}

// block reads a part whose length was told.
func (s *summed) block(size uint32, limit int) ([]byte, error) {
	if int64(size) > int64(limit) {
		return nil, fmt.Errorf("%w: a part of %d bytes", errCache, size)
	}
	part := make([]byte, size)
	return part, s.take(part)
}

func (c *cacheFile) readWindows(doc []byte) error {
	d, err := wire.ParseProto(doc)
	if err != nil {
		return err
	}
	if d.Head > c.head {
		return errors.New("a revocation from after its head")
	}
	var all []verify.Revocation
	for i := range d.Items {
		if d.Items[i].IssuedAfter == 0 || !revocable(d.Items[i].Kind) {
			return errors.New("something other than the revocation of a restore")
		}
		all = append(all, revocationOf(&d.Items[i]))
	}
	c.windows, err = c.windows.with(all)
	return err
}

// windowsDocument is what the file keeps of the windows up to the view's head.
func (v *view) windowsDocument() []byte {
	d := &wire.Delta{Epoch: v.epoch, Head: v.head}
	for _, r := range v.windows.all() {
		if n := len(d.Items); r.Seq <= v.head && (n == 0 || d.Items[n-1].Seq < r.Seq) {
			d.Items = append(d.Items, wire.Event{
				Seq: r.Seq, Tenant: r.Tenant, Issuer: r.Issuer, Kind: r.Kind, Target: r.Target, IssuedBefore: r.IssuedBefore,
				ExpiresAt: r.ExpiresAt, DecidedAfter: r.DecidedAfter, IssuedAfter: r.IssuedAfter,
			})
		}
	}
	return d.AppendProto(nil)
}

func (c *cacheFile) readRecords(s *summed, limit int) error {
	var b [recordSize]byte
	if err := s.take(b[:8]); err != nil {
		return err
	}
	count := binary.BigEndian.Uint64(b[:])
	if count > uint64(limit) {
		return fmt.Errorf("%w: more than %d revocations", errCache, limit)
	}
	for range count {
		if err := s.take(b[:]); err != nil {
			return err
		}
		r := record{
			id:           digest{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])},
			seq:          binary.BigEndian.Uint64(b[16:]),
			issuedBefore: binary.BigEndian.Uint32(b[24:]), expires: binary.BigEndian.Uint32(b[28:]),
		}
		if r.seq == 0 || r.seq > c.head {
			return fmt.Errorf("%w: a revocation from after its head", errCache)
		}
		c.records = append(c.records, r)
	}
	return nil
}

// toFile writes the view. The set may have grown past the view's head meanwhile;
// only what is at or below it goes into the file.
func (g *Gateway) toFile(v *view) error {
	dir, name := filepath.Split(g.cfg.CacheFile)
	f, err := os.CreateTemp(dir, name+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("write the cache file: %w", err)
	}
	err = g.writeCache(f, v)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), g.cfg.CacheFile)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write the cache file: %w", err)
	}
	return nil
}

func (g *Gateway) writeCache(w io.Writer, v *view) error {
	doc := v.keys.document(g.pinned(), v.epoch, v.head).AppendJSON(nil)
	var records []byte
	count := uint64(0)
	v.set.each(func(r *record) {
		if r.seq > v.head {
			return
		}
		count++
		records = binary.BigEndian.AppendUint64(records, r.id[0])
		records = binary.BigEndian.AppendUint64(records, r.id[1])
		records = binary.BigEndian.AppendUint64(records, r.seq)
		records = binary.BigEndian.AppendUint32(records, r.issuedBefore)
		records = binary.BigEndian.AppendUint32(records, r.expires)
	})
	b := append([]byte(nil), cacheMagic...)
	b = binary.BigEndian.AppendUint64(b, uint64(max(g.cfg.Clock.Now().Unix(), v.swept, v.made)))
	b = binary.BigEndian.AppendUint64(b, v.epoch)
	b = binary.BigEndian.AppendUint64(b, v.head)
	b = append(b, g.cache.hash.key[:]...)
	b = append(b, flag(v.set.named.Load()), flag(v.set.bare.Load()))
	b = binary.BigEndian.AppendUint32(b, uint32(len(doc)))
	b = append(b, doc...)
	restores := v.windowsDocument()
	b = binary.BigEndian.AppendUint32(b, uint32(len(restores)))
	b = append(b, restores...)
	b = binary.BigEndian.AppendUint64(b, count)
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	for _, part := range [][]byte{b, records} {
		if _, err := out.Write(part); err != nil {
			return err
		}
	}
	_, err := w.Write(sum.Sum(nil))
	return err
}

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}
