package state

import (
	"errors"
	"sync"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// wireFields are the fields of a message by number: enough to tell whether bytes
// can be decoded into it, without decoding them. A million rows are checked when a
// node starts, and decoding them took longer than all the rest of it.
type wireFields []wireField

// wireField is how a field must look; the zero value is one that is not known,
// which a decoder keeps as it is.
type wireField struct {
	known bool
	wire  protowire.Type
	text  bool       // must be UTF-8
	sub   wireFields // of a message
}

// clientFields are those of a client. The descriptor is there only after the package's
// variables are.
var clientFields = sync.OnceValue(func() wireFields { return fieldsOf((&Client{}).ProtoReflect().Descriptor()) })

// fieldsOf reads a message's descriptor. It knows what records are made of:
// strings, bytes, integers, booleans and messages of these, repeated or not.
func fieldsOf(d protoreflect.MessageDescriptor) wireFields {
	var out wireFields
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		for len(out) <= int(f.Number()) {
			out = append(out, wireField{})
		}
		w := wireField{known: true, wire: protowire.VarintType}
		switch f.Kind() {
		case protoreflect.StringKind:
			w.wire, w.text = protowire.BytesType, true
		case protoreflect.BytesKind:
			w.wire = protowire.BytesType
		case protoreflect.MessageKind:
			w.wire, w.sub = protowire.BytesType, fieldsOf(f.Message())
		}
		out[f.Number()] = w
	}
	return out
}

var errWire = errors.New("its bytes are no such record")

// checkMessage tells whether raw can be decoded into a message of these fields.
func checkMessage(raw []byte, fields wireFields) error {
	for len(raw) > 0 {
		number, wire, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if number > protowire.MaxValidNumber {
			return errWire
		}
		raw = raw[n:]
		var f wireField
		if int(number) < len(fields) {
			f = fields[number]
		}
		if !f.known || f.wire != wire {
			if n = protowire.ConsumeFieldValue(number, wire, raw); n < 0 {
				return protowire.ParseError(n)
			}
			raw = raw[n:]
			continue
		}
		if wire == protowire.VarintType {
			if _, n = protowire.ConsumeVarint(raw); n < 0 {
				return protowire.ParseError(n)
			}
			raw = raw[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(raw)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if f.text && !utf8.Valid(value) {
			return errWire
		}
		if f.sub != nil {
			if err := checkMessage(value, f.sub); err != nil {
				return err
			}
		}
		raw = raw[n:]
	}
	return nil
}
