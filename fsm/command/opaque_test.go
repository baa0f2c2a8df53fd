package command

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm/state"
)

func library(t *testing.T, c *IssueOpaque) []byte {
	t.Helper()
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func opaqueCommand(subject string) *IssueOpaque {
	return &IssueOpaque{
		Hash:             bytes.Repeat([]byte{7}, 32),
		Token:            &state.OpaqueToken{Tenant: "default", Id: "id", Subject: subject, Audience: []string{"a", "b"}, ExpiresAt: 1 << 40, Issuer: strings.Repeat("i", 120)},
		ClientGeneration: 300, TenantGeneration: 5,
	}
}

func TestIssueOpaqueIsEncodedAsByTheLibrary(t *testing.T) {
	t.Parallel()
	if n := (&IssueOpaque{}).ProtoReflect().Descriptor().Fields().Len(); n != 4 {
		t.Fatalf("IssueOpaque has %d fields; its codec knows 4", n)
	}
	strange := opaqueCommand("s")
	strange.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	for name, c := range map[string]*IssueOpaque{
		"a usual one":                 opaqueCommand("subject"),
		"a token of more than 16 KiB": opaqueCommand(strings.Repeat("s", 20_000)),
		"a token of few bytes":        {Hash: []byte{1}, Token: &state.OpaqueToken{Id: "x"}},
		"no numbers":                  {Hash: []byte{1}, Token: opaqueCommand("s").Token},
		"no hash":                     {Token: opaqueCommand("s").Token},
		"no token":                    {Hash: []byte{1}, ClientGeneration: 1},
		"nothing":                     {},
		"an unknown field":            strange,
	} {
		got, err := Encode(c, Key{1}, [8]byte{}, false)
		if err != nil || !bytes.Equal(got[envelopeSize:], library(t, c)) {
			t.Errorf("%s is %x, want %x (%v)", name, got, library(t, c), err)
		}
		e, rest, err := CutEnvelope(got)
		if err != nil || len(rest) != 0 {
			t.Fatalf("%s: %v", name, err)
		}
		back, err := e.Decode()
		if c == strange {
			if err == nil {
				t.Error("an unknown field was let pass")
			}
			continue
		}
		if err != nil || !proto.Equal(back, c) {
			t.Errorf("%s reads as %v (%v)", name, back, err)
		}
	}
	if _, err := Encode(opaqueCommand("\xff"), Key{}, [8]byte{}, false); err == nil {
		t.Error("a string that is not UTF-8 was encoded")
	}
}

func FuzzParseIssueOpaque(f *testing.F) {
	whole, err := Encode(opaqueCommand("subject"), Key{}, [8]byte{}, false)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[envelopeSize:])
	f.Add(append(whole[envelopeSize:], whole[envelopeSize:]...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got := parseIssueOpaque(raw)
		if got == nil {
			return
		}
		want := &IssueOpaque{}
		if err := proto.Unmarshal(raw, want); err != nil || !proto.Equal(got, want) {
			t.Errorf("%x: %v by hand, %v by the library (%v)", raw, got, want, err)
		}
	})
}
