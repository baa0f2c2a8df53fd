package state

import (
	"bytes"
	"fmt"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// everyField has a value in each field of the schema: a field that is added to it and
// not to the codec shows.
func everyField() *OpaqueToken {
	t := &OpaqueToken{}
	m := t.ProtoReflect()
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		text := fmt.Sprintf("field %d é", f.Number())
		switch {
		case f.IsList():
			m.Mutable(f).List().Append(protoreflect.ValueOfString(text))
			m.Mutable(f).List().Append(protoreflect.ValueOfString(""))
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString(text))
		case f.Kind() == protoreflect.BytesKind:
			m.Set(f, protoreflect.ValueOfBytes([]byte(text)))
		case f.Kind() == protoreflect.Int64Kind:
			m.Set(f, protoreflect.ValueOfInt64(-int64(f.Number())<<40))
		case f.Kind() == protoreflect.Uint64Kind:
			m.Set(f, protoreflect.ValueOfUint64(uint64(f.Number())<<40))
		default:
			panic("a kind of field that the codec of opaque tokens doesn't know: " + string(f.Name()))
		}
	}
	return t
}

func TestOpaqueTokensAreEncodedAsByTheLibrary(t *testing.T) {
	t.Parallel()
	whole := everyField()
	tokens := []*OpaqueToken{{}, whole}
	for i := range whole.ProtoReflect().Descriptor().Fields().Len() {
		f := whole.ProtoReflect().Descriptor().Fields().Get(i)
		without, only := everyField(), &OpaqueToken{}
		without.ProtoReflect().Clear(f)
		only.ProtoReflect().Set(f, whole.ProtoReflect().Get(f))
		tokens = append(tokens, without, only)
	}
	for _, token := range tokens {
		want := encode(token)
		got, ok := AppendOpaque([]byte("before"), token)
		if !ok || !bytes.Equal(got, append([]byte("before"), want...)) {
			t.Fatalf("%v is %x, want %x (%v)", token, got, want, ok)
		}
		back := &OpaqueToken{}
		if !ParseOpaque(want, back) || !proto.Equal(back, token) {
			t.Fatalf("%x reads as %v, want %v", want, back, token)
		}
	}
}

func TestOpaqueTokensThatAreForTheLibraryAreLeftToIt(t *testing.T) {
	t.Parallel()
	strange := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1)
	with := everyField()
	with.ProtoReflect().SetUnknown(strange)
	for name, token := range map[string]*OpaqueToken{
		"an unknown field":              with,
		"a string that is not UTF-8":    {Subject: "\xff"},
		"an audience that is not UTF-8": {Audience: []string{"a", "\xff"}},
	} {
		if _, ok := AppendOpaque(nil, token); ok {
			t.Errorf("%s was encoded by hand", name)
		}
	}
	for name, raw := range map[string][]byte{
		"an unknown field":             append(encode(everyField()), strange...),
		"a string that is not UTF-8":   protowire.AppendString(protowire.AppendTag(nil, opaqueSubject, protowire.BytesType), "\xff"),
		"a field of another wire type": protowire.AppendVarint(protowire.AppendTag(nil, opaqueSubject, protowire.VarintType), 1),
		"a fixed number":               protowire.AppendFixed64(protowire.AppendTag(nil, opaqueEpoch, protowire.Fixed64Type), 1),
		"half a row":                   encode(everyField())[:20],
	} {
		if ParseOpaque(raw, &OpaqueToken{}) {
			t.Errorf("%s was decoded by hand", name)
		}
	}
}

func FuzzParseOpaque(f *testing.F) {
	f.Add(encode(everyField()))
	f.Add([]byte{0x22, 1, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		got := &OpaqueToken{}
		if !ParseOpaque(raw, got) {
			return
		}
		want := &OpaqueToken{}
		if err := proto.Unmarshal(raw, want); err != nil || !proto.Equal(got, want) {
			t.Errorf("%x: %v by hand, %v by the library (%v)", raw, got, want, err)
		}
		if again, ok := AppendOpaque(nil, got); !ok || !bytes.Equal(again, encode(want)) {
			t.Errorf("%v: %x by hand, %x by the library (%v)", got, again, encode(want), ok)
		}
	})
}
