package wire

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of delta.proto.
const (
	eventSeq, eventTenant, eventIssuer, eventKind, eventTarget = 1, 2, 3, 4, 5
	eventIssuedBefore, eventExpiresAt, eventData               = 6, 7, 8
	eventDecidedAfter, eventIssuedAfter                        = 9, 10
	deltaEpoch, deltaHead, deltaTruncated, deltaItems          = 1, 2, 3, 4
	deltaCluster, deltaCount                                   = 5, 6
)

// AppendProto appends the delta in the form of delta.proto. The delta must pass
// Check; a gateway refuses it otherwise.
func (d *Delta) AppendProto(dst []byte) []byte {
	dst = appendUint(dst, deltaEpoch, d.Epoch)
	dst = appendUint(dst, deltaHead, d.Head)
	if d.Truncated {
		dst = appendUint(dst, deltaTruncated, 1)
	}
	if d.Cluster != "" {
		dst = appendText(dst, deltaCluster, d.Cluster)
	}
	dst = appendUint(dst, deltaCount, uint64(len(d.Items)))
	for i := range d.Items {
		dst = protowire.AppendTag(dst, deltaItems, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(d.Items[i].protoSize()))
		dst = d.Items[i].appendProto(dst)
	}
	return dst
}

func (e *Event) appendProto(dst []byte) []byte {
	dst = appendUint(dst, eventSeq, e.Seq)
	for _, t := range e.texts() {
		if t.value != "" {
			dst = appendText(dst, t.field, t.value)
		}
	}
	if e.IssuedBefore != 0 {
		dst = appendUint(dst, eventIssuedBefore, uint64(e.IssuedBefore))
	}
	if e.ExpiresAt != 0 {
		dst = appendUint(dst, eventExpiresAt, uint64(e.ExpiresAt))
	}
	if e.DecidedAfter != 0 {
		dst = appendUint(dst, eventDecidedAfter, e.DecidedAfter)
	}
	if e.IssuedAfter != 0 {
		dst = appendUint(dst, eventIssuedAfter, uint64(e.IssuedAfter))
	}
	if len(e.Data) > 0 {
		dst = protowire.AppendTag(dst, eventData, protowire.BytesType)
		dst = protowire.AppendBytes(dst, e.Data)
	}
	return dst
}

func (e *Event) protoSize() int {
	n := 1 + protowire.SizeVarint(e.Seq)
	for _, t := range e.texts() {
		if t.value != "" {
			n += 1 + protowire.SizeBytes(len(t.value))
		}
	}
	if e.IssuedBefore != 0 {
		n += 1 + protowire.SizeVarint(uint64(e.IssuedBefore))
	}
	if e.ExpiresAt != 0 {
		n += 1 + protowire.SizeVarint(uint64(e.ExpiresAt))
	}
	if e.DecidedAfter != 0 {
		n += 1 + protowire.SizeVarint(e.DecidedAfter)
	}
	if e.IssuedAfter != 0 {
		n += 1 + protowire.SizeVarint(uint64(e.IssuedAfter))
	}
	if len(e.Data) > 0 {
		n += 1 + protowire.SizeBytes(len(e.Data))
	}
	return n
}

type textField struct {
	field protowire.Number
	value string
}

func (e *Event) texts() [4]textField {
	return [4]textField{{eventTenant, e.Tenant}, {eventIssuer, e.Issuer}, {eventKind, e.Kind}, {eventTarget, e.Target}}
}

func appendUint(dst []byte, field protowire.Number, v uint64) []byte {
	dst = protowire.AppendTag(dst, field, protowire.VarintType)
	return protowire.AppendVarint(dst, v)
}

func appendText(dst []byte, field protowire.Number, v string) []byte {
	dst = protowire.AppendTag(dst, field, protowire.BytesType)
	return protowire.AppendString(dst, v)
}

// ParseProto reads a whole delta in the form of delta.proto.
func ParseProto(data []byte) (*Delta, error) {
	if len(data) > MaxDeltaBytes {
		return nil, invalid("%d bytes, at most %d are allowed", len(data), MaxDeltaBytes)
	}
	d, count, seen := &Delta{}, uint64(0), uint32(0)
	for len(data) > 0 {
		f, rest, err := nextField(data, &seen, deltaItems)
		if err != nil {
			return nil, err
		}
		data = rest
		switch f.number {
		case deltaEpoch:
			d.Epoch, err = f.uint()
		case deltaHead:
			d.Head, err = f.uint()
		case deltaTruncated:
			var v uint64
			if v, err = f.uint(); err == nil && v > 1 {
				err = invalid("truncated is neither true nor false")
			}
			d.Truncated = v == 1
		case deltaCluster:
			d.Cluster, err = f.text()
		case deltaCount:
			count, err = f.uint()
		case deltaItems:
			if len(d.Items) == MaxItems {
				return nil, invalid("more than %d items", MaxItems)
			}
			var e Event
			if e, err = parseEvent(f); err == nil {
				d.Items = append(d.Items, e)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if need := uint32(1<<deltaEpoch | 1<<deltaHead | 1<<deltaCount); seen&need != need {
		return nil, invalid("epoch, head or count is missing")
	}
	if count != uint64(len(d.Items)) {
		return nil, invalid("%d items, %d were announced", len(d.Items), count)
	}
	if err := d.Check(); err != nil {
		return nil, err
	}
	return d, nil
}

func parseEvent(f field) (e Event, err error) {
	if f.kind != protowire.BytesType {
		return e, invalid("an item has the wrong wire type")
	}
	return decodeEvent(f.bytes)
}

// decodeEvent reads one message Event, without checking its limits.
func decodeEvent(data []byte) (e Event, err error) {
	var seen uint32
	for len(data) > 0 {
		f, rest, err := nextField(data, &seen, 0)
		if err != nil {
			return e, err
		}
		data = rest
		switch f.number {
		case eventSeq:
			e.Seq, err = f.uint()
		case eventTenant:
			e.Tenant, err = f.text()
		case eventIssuer:
			e.Issuer, err = f.text()
		case eventKind:
			e.Kind, err = f.text()
		case eventTarget:
			e.Target, err = f.text()
		case eventIssuedBefore:
			e.IssuedBefore, err = f.time()
		case eventExpiresAt:
			e.ExpiresAt, err = f.time()
		case eventDecidedAfter:
			e.DecidedAfter, err = f.uint()
		case eventIssuedAfter:
			e.IssuedAfter, err = f.time()
		case eventData:
			var s string
			if s, err = f.text(); err == nil && s != "" {
				e.Data = []byte(s)
			}
		}
		if err != nil {
			return e, err
		}
	}
	return e, nil
}

// field is one decoded field: varint or bytes, which alias the input.
type field struct {
	number protowire.Number
	kind   protowire.Type
	varint uint64
	bytes  []byte
}

// nextField cuts one field. A field below 32 that comes twice is refused, but
// for the one that may repeat; fixed-width and other fields are passed over.
func nextField(data []byte, seen *uint32, repeated protowire.Number) (f field, rest []byte, err error) {
	number, kind, n := protowire.ConsumeTag(data)
	if n < 0 {
		return f, nil, invalid("a broken protobuf tag")
	}
	data = data[n:]
	f.number, f.kind = number, kind
	switch kind {
	case protowire.VarintType:
		f.varint, n = protowire.ConsumeVarint(data)
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(data)
	case protowire.Fixed32Type, protowire.Fixed64Type:
		n = protowire.ConsumeFieldValue(number, kind, data)
	default:
		return f, nil, invalid("a protobuf group, which no field uses")
	}
	if n < 0 {
		return f, nil, invalid("a protobuf field that is cut short")
	}
	if number < 32 && number != repeated {
		if *seen&(1<<number) != 0 {
			return f, nil, invalid("field %d comes twice", number)
		}
		*seen |= 1 << number
	}
	return f, data[n:], nil
}

func (f field) uint() (uint64, error) {
	if f.kind != protowire.VarintType {
		return 0, invalid("field %d has the wrong wire type", f.number)
	}
	return f.varint, nil
}

func (f field) time() (int64, error) {
	v, err := f.uint()
	if err == nil && int64(v) < 0 {
		err = invalid("field %d is negative", f.number)
	}
	return int64(v), err
}

func (f field) text() (string, error) {
	if f.kind != protowire.BytesType {
		return "", invalid("field %d has the wrong wire type", f.number)
	}
	if len(f.bytes) > MaxData {
		return "", invalid("field %d is longer than %d bytes", f.number, MaxData)
	}
	return string(f.bytes), nil
}
