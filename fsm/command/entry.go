package command

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Sizes of the log format, in bytes. They never change; a new form gets a new
// entry version.
const (
	entryVersion = 1
	headerSize   = 1 + 1 + 2 + 8 + 8 + 8
	envelopeSize = 2 + 1 + 1 + 16 + 8 + 4

	// MaxCommand bounds one payload: a client with its JWKS stays below.
	MaxCommand = 128 << 10
	// MaxEntry bounds one Raft entry; raft's advice is at most 512 KiB.
	MaxEntry = 512 << 10
	// MaxCommands bounds the commands of one entry.
	MaxCommands = 1024
)

// flagRemember keeps the result under the command's key, so that a retry gets it again.
const flagRemember = 1

// Key names one proposal for ever: made once at the edge, the same in every retry (R11).
type Key [16]byte

// Header is what a leader says of the whole entry.
type Header struct {
	Stamp   int64  // the leader's clock, milliseconds since 1970 UTC
	Elapsed uint64 // milliseconds on the leader's monotonic clock since its entry before
	Epoch   uint64 // of the state on which it proposes
}

// Envelope is one encoded command.
type Envelope struct {
	Kind     Kind
	Version  uint8
	Remember bool
	Key      Key
	Body     [8]byte // hash of what the caller asked; zero when no caller named a key
	Payload  []byte
}

// Encode makes the envelope of c. remember is for commands whose rows don't
// already tell a retry from a second request.
func Encode(c Command, key Key, body [8]byte, remember bool) ([]byte, error) {
	opaque, _ := c.(*IssueOpaque)
	room := opaqueRoom
	if opaque == nil {
		room = proto.Size(c)
	}
	out := make([]byte, envelopeSize, envelopeSize+room)
	binary.BigEndian.PutUint16(out[0:], uint16(c.Kind()))
	out[2] = Version
	if remember {
		out[3] = flagRemember
	}
	copy(out[4:], key[:])
	copy(out[20:], body[:])
	written := false
	if opaque != nil {
		out, written = appendIssueOpaque(out, opaque)
	}
	if !written {
		var err error
		if out, err = (proto.MarshalOptions{Deterministic: true}).MarshalAppend(out, c); err != nil {
			return nil, fmt.Errorf("encode command kind %d: %w", c.Kind(), err)
		}
	}
	size := len(out) - envelopeSize
	if size > MaxCommand {
		return nil, fmt.Errorf("command kind %d has %d bytes; at most %d are allowed: send less in one request", c.Kind(), size, MaxCommand)
	}
	binary.BigEndian.PutUint32(out[28:], uint32(size))
	return out, nil
}

// AppendHeader starts an entry of count commands in dst; the envelopes follow.
func AppendHeader(dst []byte, h Header, count int) []byte {
	dst = append(dst, entryVersion, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(count))
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.Stamp))
	dst = binary.BigEndian.AppendUint64(dst, h.Elapsed)
	return binary.BigEndian.AppendUint64(dst, h.Epoch)
}

// ErrEntry says that an entry's bytes are not an entry.
var ErrEntry = errors.New("damaged log entry")

// ParseEntry splits an entry. Payloads point into data. It refuses what no
// leader writes: another version, a wrong count, trailing bytes.
func ParseEntry(data []byte) (Header, []Envelope, error) {
	if len(data) < headerSize {
		return Header{}, nil, fmt.Errorf("%w: %d bytes are no header", ErrEntry, len(data))
	}
	if data[0] != entryVersion || data[1] != 0 {
		return Header{}, nil, fmt.Errorf("%w: form %d.%d is unknown to this binary (feature level %d)", ErrEntry, data[0], data[1], Level)
	}
	count := int(binary.BigEndian.Uint16(data[2:]))
	h := Header{
		Stamp:   int64(binary.BigEndian.Uint64(data[4:])),
		Elapsed: binary.BigEndian.Uint64(data[12:]),
		Epoch:   binary.BigEndian.Uint64(data[20:]),
	}
	if count == 0 || count > MaxCommands {
		return Header{}, nil, fmt.Errorf("%w: %d commands", ErrEntry, count)
	}
	rest := data[headerSize:]
	out := make([]Envelope, 0, count)
	for range count {
		e, after, err := CutEnvelope(rest)
		if err != nil {
			return Header{}, nil, err
		}
		out, rest = append(out, e), after
	}
	if len(rest) != 0 {
		return Header{}, nil, fmt.Errorf("%w: %d bytes behind the last command", ErrEntry, len(rest))
	}
	return h, out, nil
}

// CutEnvelope reads the first envelope of data and returns what is behind it.
func CutEnvelope(data []byte) (Envelope, []byte, error) {
	if len(data) < envelopeSize {
		return Envelope{}, nil, fmt.Errorf("%w: %d bytes are no envelope", ErrEntry, len(data))
	}
	size := binary.BigEndian.Uint32(data[28:])
	if size > MaxCommand || int(size) > len(data)-envelopeSize {
		return Envelope{}, nil, fmt.Errorf("%w: a command claims %d bytes of %d", ErrEntry, size, len(data)-envelopeSize)
	}
	if data[3]&^flagRemember != 0 {
		return Envelope{}, nil, fmt.Errorf("%w: flags %#x are unknown to this binary (feature level %d)", ErrEntry, data[3], Level)
	}
	e := Envelope{
		Kind:     Kind(binary.BigEndian.Uint16(data)),
		Version:  data[2],
		Remember: data[3]&flagRemember != 0,
		Key:      Key(data[4:20]),
		Body:     [8]byte(data[20:28]),
		Payload:  data[envelopeSize : envelopeSize+int(size)],
	}
	return e, data[envelopeSize+int(size):], nil
}

// Decode reads the payload.
func (e Envelope) Decode() (Command, error) {
	if e.Kind == KindIssueOpaque && e.Version == Version {
		if c := parseIssueOpaque(e.Payload); c != nil {
			return c, nil
		}
	}
	c, err := New(e.Kind, e.Version)
	if err != nil {
		return nil, err
	}
	if err := (proto.UnmarshalOptions{DiscardUnknown: false}).Unmarshal(e.Payload, c); err != nil {
		return nil, fmt.Errorf("%w: payload of kind %d: %v", ErrEntry, e.Kind, err)
	}
	if hasUnknown(c.ProtoReflect()) {
		return nil, fmt.Errorf("command kind %d has a field that is unknown to this binary (feature level %d): start a newer one", e.Kind, Level)
	}
	return c, nil
}

// hasUnknown looks for fields that this binary doesn't know, in records within
// the payload too.
func hasUnknown(m protoreflect.Message) bool {
	if len(m.GetUnknown()) != 0 {
		return true
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.Message() == nil || !m.Has(f):
		case f.IsList():
			for list, j := m.Get(f).List(), 0; j < list.Len(); j++ {
				if hasUnknown(list.Get(j).Message()) {
					return true
				}
			}
		case hasUnknown(m.Get(f).Message()):
			return true
		}
	}
	return false
}

// AnsweredFor is how long a kept result lives: longer than the longest retry
// of a client with an Idempotency-Key, plus skew (R11, T4).
const AnsweredFor = 24 * time.Hour
