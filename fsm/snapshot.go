package fsm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/minio/highwayhash"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/storage"
)

// The snapshot stream: a fixed header, every row of every table in key order,
// a trailer with the count and a checksum over all that came before.
//
//	"KRSNAP" | form (1 byte) | 0 | header length (4) | header (HeaderSize, then the cluster id)
//	row:     key length (4, never 0) | key | value length (4) | value
//	trailer: 0 (4) | count of rows (8) | HighwayHash-256 (32)
const (
	snapMagic   = "KRSNAP\x01\x00"
	trailerSize = 4 + 8 + 32
	maxKey      = 4 << 10
	maxValue    = 1 << 20
)

var snapKey = []byte("keyraft snapshot stream checksum") // fixed and public: it finds damage, it keeps no secret

// Header says what a snapshot holds.
type Header struct {
	Cluster      string `json:"cluster_id"`
	Generation   uint64 `json:"generation"` // recovery generation
	Index        uint64 `json:"index"`      // the FSM's own applied index
	Term         uint64 `json:"term"`
	Epoch        uint64 `json:"epoch"`
	Head         uint64 `json:"head"`
	FeatureLevel uint64 `json:"feature_level"`
	Clock        int64  `json:"clock_ms"` // cluster time, milliseconds
	TakenAt      int64  `json:"taken_at_ms"`
}

const (
	headerNumbers = 8
	maxClusterID  = 256 // bytes
)

func headerOf(v *state.View) Header {
	c, _ := v.Cluster()
	return header(v.Applied(), v.Counters(), c)
}

func header(at state.Applied, n state.Counters, c *state.Cluster) Header {
	return Header{
		Cluster: c.GetId(), Generation: c.GetGeneration(), Index: at.Index, Term: at.Term,
		Epoch: n.Epoch, Head: n.Head, FeatureLevel: n.Level, Clock: n.Clock,
	}
}

func (h Header) append(dst []byte) []byte {
	dst = append(dst, snapMagic...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(headerNumbers*8+len(h.Cluster)))
	for _, n := range [headerNumbers]uint64{h.Generation, h.Index, h.Term, h.Epoch, h.Head, h.FeatureLevel, uint64(h.Clock), uint64(h.TakenAt)} {
		dst = binary.BigEndian.AppendUint64(dst, n)
	}
	return append(dst, h.Cluster...)
}

// Snapshot is the state at one index, to be streamed while Apply goes on.
type Snapshot struct {
	Header  Header
	rows    *storage.Snapshot
	db      *storage.DB
	flushed <-chan struct{}
}

// Snapshot takes the state as it is and starts making it durable, without
// waiting for that (R5). takenAt is the caller's clock in milliseconds. It may run
// beside Apply. A halted node gives none: entries that it no longer
// applies would be cut from its log behind one.
func (f *FSM) Snapshot(takenAt int64) (*Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.halted.Load() {
		return nil, errHalted
	}
	flushed, err := f.db.AsyncFlush()
	if err != nil {
		return nil, fmt.Errorf("start the flush: %w", err)
	}
	rows, err := f.db.Snapshot()
	if err != nil {
		return nil, err
	}
	header, err := headerIn(rows)
	if err != nil {
		return nil, errors.Join(err, rows.Close())
	}
	header.TakenAt = takenAt
	return &Snapshot{Header: header, rows: rows, db: f.db, flushed: flushed}, nil
}

// headerIn is the header that these very rows have: beside Apply, the view may be
// one entry before or behind them.
func headerIn(rows *storage.Snapshot) (Header, error) {
	at, n, c, err := state.Position(rows)
	if err != nil {
		return Header{}, fmt.Errorf("read the position of the snapshot: %w", err)
	}
	return header(at, n, c), nil
}

// WriteTo streams the snapshot and waits until the flush that Snapshot started
// covers its index, so that a log truncated behind it leaves no hole (R5).
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	out := newSummer(w)
	if _, err := out.Write(s.Header.append(nil)); err != nil {
		return out.n, err
	}
	var count uint64
	var buf []byte
	err := s.rows.Scan([]byte{0}, []byte{0xff}, func(key, value []byte) error {
		count++
		buf = appendRow(buf[:0], key, value)
		_, err := out.Write(buf)
		return err
	})
	if err != nil {
		return out.n, fmt.Errorf("stream the snapshot: %w", err)
	}
	if err := out.finish(count); err != nil {
		return out.n, err
	}
	select {
	case <-s.flushed:
		return out.n, nil
	default:
		// Wait by another flush, which ends behind the first: unlike the channel
		// it also tells when the store breaks or a restore closes it.
		return out.n, s.db.Flush()
	}
}

// Release lets the store forget the snapshot.
func (s *Snapshot) Release() { _ = s.rows.Close() }

func appendRow(dst, key, value []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(key)))
	dst = append(dst, key...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(value)))
	return append(dst, value...)
}

// summer buffers, counts and sums what is written.
type summer struct {
	w   *bufio.Writer
	sum hash.Hash
	n   int64
}

func newSummer(w io.Writer) *summer {
	sum, err := highwayhash.New(snapKey)
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	return &summer{w: bufio.NewWriterSize(w, 256<<10), sum: sum}
}

func (s *summer) Write(p []byte) (int, error) {
	_, _ = s.sum.Write(p) // a hash never fails
	n, err := s.w.Write(p)
	s.n += int64(n)
	return n, err
}

func (s *summer) finish(count uint64) error {
	if _, err := s.Write(binary.BigEndian.AppendUint64(make([]byte, 4), count)); err != nil {
		return err
	}
	n, err := s.w.Write(s.sum.Sum(nil))
	s.n += int64(n)
	return errors.Join(err, s.w.Flush())
}

// ErrSnapshot says that a stream is no whole, undamaged snapshot.
var ErrSnapshot = errors.New("not a whole snapshot")

// reader reads a stream and checks it as it goes.
type reader struct {
	r      *bufio.Reader
	sum    hash.Hash
	Header Header
	key    []byte
	value  []byte
}

func newReader(r io.Reader) (*reader, error) {
	sum, err := highwayhash.New(snapKey)
	if err != nil {
		return nil, err
	}
	s := &reader{r: bufio.NewReaderSize(r, 256<<10), sum: sum}
	head, err := s.take(nil, len(snapMagic)+4)
	if err != nil {
		return nil, err
	}
	if string(head[:6]) != snapMagic[:6] {
		return nil, fmt.Errorf("%w: it doesn't start as one", ErrSnapshot)
	}
	if string(head[:8]) != snapMagic {
		return nil, fmt.Errorf("%w: form %d is unknown to this binary: start a newer one", ErrSnapshot, head[6])
	}
	size := binary.BigEndian.Uint32(head[8:])
	if size < headerNumbers*8 || size > headerNumbers*8+maxClusterID {
		return nil, fmt.Errorf("%w: a header of %d bytes", ErrSnapshot, size)
	}
	raw, err := s.take(nil, int(size))
	if err != nil {
		return nil, err
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(raw[8*i:]) }
	s.Header = Header{
		Generation: n(0), Index: n(1), Term: n(2), Epoch: n(3), Head: n(4), FeatureLevel: n(5), Clock: int64(n(6)), TakenAt: int64(n(7)),
		Cluster: string(raw[headerNumbers*8:]),
	}
	return s, nil
}

func (s *reader) take(dst []byte, n int) ([]byte, error) {
	if cap(dst) < n {
		dst = make([]byte, n)
	}
	dst = dst[:n]
	if _, err := io.ReadFull(s.r, dst); err != nil {
		return nil, fmt.Errorf("%w: it ends early: %v", ErrSnapshot, err)
	}
	_, _ = s.sum.Write(dst)
	return dst, nil
}

// each gives every row to fn, then checks count, checksum and end. fn's slices
// are valid only inside.
func (s *reader) each(fn func(key, value []byte) error) error {
	var size [4]byte
	var count uint64
	for {
		head, err := s.take(size[:0], 4)
		if err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(head)
		if n == 0 {
			return s.finish(count)
		}
		if n > maxKey {
			return fmt.Errorf("%w: a key of %d bytes", ErrSnapshot, n)
		}
		if s.key, err = s.take(s.key, int(n)); err != nil {
			return err
		}
		if head, err = s.take(size[:0], 4); err != nil {
			return err
		}
		if n = binary.BigEndian.Uint32(head); n > maxValue {
			return fmt.Errorf("%w: a value of %d bytes", ErrSnapshot, n)
		}
		if s.value, err = s.take(s.value, int(n)); err != nil {
			return err
		}
		count++
		if err := fn(s.key, s.value); err != nil {
			return err
		}
	}
}

func (s *reader) finish(count uint64) error {
	raw, err := s.take(nil, 8)
	if err != nil {
		return err
	}
	if got := binary.BigEndian.Uint64(raw); got != count {
		return fmt.Errorf("%w: it counts %d rows and holds %d", ErrSnapshot, got, count)
	}
	want := s.sum.Sum(nil)
	got := make([]byte, 32)
	if _, err := io.ReadFull(s.r, got); err != nil {
		return fmt.Errorf("%w: its checksum is missing", ErrSnapshot)
	}
	if string(got) != string(want) {
		return fmt.Errorf("%w: its checksum differs", ErrSnapshot)
	}
	if _, err := s.r.ReadByte(); err != io.EOF {
		return fmt.Errorf("%w: something follows its end", ErrSnapshot)
	}
	return nil
}

// Inspect reads a whole stream, checks it and returns its header and how many
// rows it holds.
func Inspect(r io.Reader) (h Header, rows int64, err error) {
	s, err := newReader(r)
	if err != nil {
		return Header{}, 0, err
	}
	err = s.each(func(_, _ []byte) error { rows++; return nil })
	return s.Header, rows, err
}

// Peek reads only the header of a stream.
func Peek(r io.Reader) (Header, error) {
	s, err := newReader(r)
	if err != nil {
		return Header{}, err
	}
	return s.Header, nil
}

// Checksum is HighwayHash-256 over every row in key order, and the index at
// which it holds. Nodes at one index have the same one (I4).
func (f *FSM) Checksum() (index uint64, sum [32]byte, err error) {
	f.mu.Lock()
	rows, err := f.db.Snapshot()
	f.mu.Unlock()
	if err != nil {
		return 0, sum, err
	}
	defer func() { _ = rows.Close() }()
	h, err := highwayhash.New(snapKey)
	if err != nil {
		return 0, sum, err
	}
	var buf []byte
	at, _, _, err := state.Position(rows)
	if err != nil {
		return 0, sum, err
	}
	err = rows.Scan([]byte{0}, []byte{0xff}, func(key, value []byte) error {
		buf = appendRow(buf[:0], key, value)
		_, err := h.Write(buf)
		return err
	})
	h.Sum(sum[:0])
	return at.Index, sum, err
}
