package wire

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"

	"github.com/klauspost/compress/zstd"
)

// The snapshot stream, one zstd frame of:
//
//	magic "KRSNAP" | version byte 1 | uint16 length, cluster id | uint64 epoch | uint64 head
//	for each item:  byte 1 | uvarint length | message Event of delta.proto
//	byte 0 | uint64 count | SHA-256 over everything before it
//
// Integers are big-endian; items rise strictly by seq and none is above head.
const (
	snapshotMagic = "KRSNAP\x01"
	markItem      = 1
	markEnd       = 0
	maxEventBytes = MaxData + 4*MaxText
	maxWindow     = 8 << 20  // bytes that the decoder may look back
	maxDecoder    = 64 << 20 // bytes that the decoder may hold
	encoderWindow = 1 << 20
	// MaxSnapshotItems bounds one snapshot: ten times the largest cluster that
	// is planned for (10 M live revocations).
	MaxSnapshotItems = 100_000_000
)

// Snapshot is what the stream says about itself.
type Snapshot struct {
	Cluster     string
	Epoch, Head uint64
	Count       uint64
}

// EncodeSnapshot writes the stream. items must rise strictly by seq up to head;
// an error that items yields ends the stream without its trailer, so that the
// reader refuses what it has.
func EncodeSnapshot(w io.Writer, cluster string, epoch, head uint64, items iter.Seq2[Event, error]) error {
	if err := checkText("cluster", cluster, MaxName); err != nil {
		return err
	}
	if cluster == "" {
		return errors.New("a snapshot needs the cluster's id")
	}
	z, err := zstd.NewWriter(w, zstd.WithWindowSize(encoderWindow), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("start the compressor: %w", err)
	}
	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(z, sum), 64<<10)
	count, err := writeSnapshot(out, cluster, epoch, head, items)
	if err == nil {
		err = out.Flush()
	}
	if err == nil {
		var end [9]byte
		binary.BigEndian.PutUint64(end[1:], count)
		sum.Write(end[:])
		_, err = z.Write(sum.Sum(end[:]))
	}
	if err != nil {
		z.Reset(io.Discard) // the frame stays open at the reader's side
		_ = z.Close()
		return fmt.Errorf("write the snapshot: %w", err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("write the snapshot's end: %w", err)
	}
	return nil
}

func writeSnapshot(out *bufio.Writer, cluster string, epoch, head uint64, items iter.Seq2[Event, error]) (count uint64, err error) {
	buf := append([]byte(nil), snapshotMagic...)
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(cluster)))
	buf = append(buf, cluster...)
	buf = binary.BigEndian.AppendUint64(buf, epoch)
	buf = binary.BigEndian.AppendUint64(buf, head)
	if _, err := out.Write(buf); err != nil {
		return 0, err
	}
	var last uint64
	for e, err := range items {
		if err == nil {
			err = e.Check()
		}
		if err != nil {
			return count, err
		}
		if e.Seq <= last || e.Seq > head {
			return count, fmt.Errorf("item %d: seq %d is not between %d and head %d", count, e.Seq, last, head)
		}
		if count == MaxSnapshotItems {
			return count, fmt.Errorf("more than %d items", MaxSnapshotItems)
		}
		last = e.Seq
		buf = append(buf[:0], markItem)
		buf = binary.AppendUvarint(buf, uint64(e.protoSize()))
		buf = e.appendProto(buf)
		if _, err := out.Write(buf); err != nil {
			return count, err
		}
		count++
	}
	return count, nil
}

// DecodeSnapshot reads a whole stream and calls put for each item, in order.
// Only when it returns without an error were the items those that a node wrote:
// the caller keeps them apart until then. It stops at the first error of put.
// The memory that it needs does not depend on the stream.
func DecodeSnapshot(r io.Reader, put func(*Event) error) (Snapshot, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxDecoder))
	if err != nil {
		return Snapshot{}, fmt.Errorf("start the decompressor: %w", err)
	}
	defer z.Close()
	d := &snapshotReader{in: bufio.NewReaderSize(z, 64<<10), sum: sha256.New()}
	s, err := d.header()
	if err != nil {
		return Snapshot{}, err
	}
	if s.Count, err = d.items(s.Head, put); err != nil {
		return Snapshot{}, err
	}
	return s, d.trailer(s.Count)
}

// snapshotReader hashes what it hands out.
type snapshotReader struct {
	in  *bufio.Reader
	sum hash.Hash
	buf []byte
}

// take returns the next n bytes, valid until the next call.
func (d *snapshotReader) take(n int) ([]byte, error) {
	if cap(d.buf) < n {
		d.buf = make([]byte, n)
	}
	d.buf = d.buf[:n]
	if _, err := io.ReadFull(d.in, d.buf); err != nil {
		return nil, streamError(err)
	}
	d.sum.Write(d.buf)
	return d.buf, nil
}

func streamError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return invalid("the snapshot ends before its trailer")
	}
	return invalid("the snapshot can't be read: %w", err)
}

func (d *snapshotReader) header() (s Snapshot, err error) {
	b, err := d.take(len(snapshotMagic) + 2)
	if err != nil {
		return s, err
	}
	if string(b[:len(snapshotMagic)]) != snapshotMagic {
		return s, invalid("not a snapshot of version 1")
	}
	n := int(binary.BigEndian.Uint16(b[len(snapshotMagic):]))
	if n == 0 || n > MaxName {
		return s, invalid("a cluster id of %d bytes", n)
	}
	if b, err = d.take(n); err != nil {
		return s, err
	}
	s.Cluster = string(b)
	if err := checkText("cluster", s.Cluster, MaxName); err != nil {
		return s, err
	}
	if b, err = d.take(16); err != nil {
		return s, err
	}
	s.Epoch, s.Head = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	return s, nil
}

func (d *snapshotReader) items(head uint64, put func(*Event) error) (count uint64, err error) {
	var last uint64
	for {
		mark, err := d.take(1)
		if err != nil {
			return count, err
		}
		switch mark[0] {
		case markEnd:
			return count, nil
		case markItem:
		default:
			return count, invalid("an unknown record")
		}
		e, err := d.item()
		if err != nil {
			return count, err
		}
		if e.Seq <= last || e.Seq > head {
			return count, invalid("item %d: seq does not rise, or is above head", count)
		}
		if count == MaxSnapshotItems {
			return count, invalid("more than %d items", MaxSnapshotItems)
		}
		last = e.Seq
		count++
		if err := put(&e); err != nil {
			return count, err
		}
	}
}

func (d *snapshotReader) item() (Event, error) {
	size, err := d.uvarint()
	if err != nil {
		return Event{}, err
	}
	if size > maxEventBytes {
		return Event{}, invalid("an item of %d bytes", size)
	}
	b, err := d.take(int(size))
	if err != nil {
		return Event{}, err
	}
	e, err := decodeEvent(b)
	if err == nil {
		err = e.Check()
	}
	return e, err
}

func (d *snapshotReader) uvarint() (v uint64, err error) {
	for shift := 0; shift < 35; shift += 7 {
		b, err := d.take(1)
		if err != nil {
			return 0, err
		}
		v |= uint64(b[0]&0x7f) << shift
		if b[0] < 0x80 {
			return v, nil
		}
	}
	return 0, invalid("an item's length has more than five bytes")
}

func (d *snapshotReader) trailer(count uint64) error {
	b, err := d.take(8)
	if err != nil {
		return err
	}
	if binary.BigEndian.Uint64(b) != count {
		return invalid("the snapshot's count does not match its items")
	}
	want := d.sum.Sum(nil)
	got, err := d.take(sha256.Size)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return invalid("the snapshot's checksum does not match")
	}
	if _, err := d.in.ReadByte(); err != io.EOF {
		return invalid("something follows the snapshot, or its frame is not closed")
	}
	return nil
}
