package command

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm/state"
)

// every makes one command of each kind that this binary knows.
func every(t testing.TB) (out []Command) {
	t.Helper()
	for k := range Kind(1 << 12) {
		c, err := New(k, Version)
		if err != nil {
			continue
		}
		if c.Kind() != k {
			t.Errorf("New(%d) gives a command of kind %d", k, c.Kind())
		}
		out = append(out, c)
	}
	return out
}

func encode(t testing.TB, c Command, remember bool) []byte {
	t.Helper()
	e, err := Encode(c, Key{1, 2, 3}, [8]byte{4, 5}, remember)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func consume() *Consume {
	return &Consume{Tenant: "default", ValueKind: "code", Id: "x", ExpiresAt: 5}
}

func TestEntryRoundTrip(t *testing.T) {
	t.Parallel()
	all := every(t)
	if len(all) != 54 {
		t.Fatalf("%d kinds; a new one is added here, in the switch of fsm and to the golden files", len(all))
	}
	all = append(all, consume(), &PutClient{Client: &state.Client{Id: "a", Secrets: []*state.SecretHash{{Id: "s"}}}, Expect: 3})
	want := Header{Stamp: -5, Elapsed: 7, Epoch: 9}
	data := AppendHeader([]byte("before")[:0], want, len(all))
	for i, c := range all {
		data = append(data, encode(t, c, i%2 == 0)...)
	}
	h, envelopes, err := ParseEntry(data)
	if err != nil || h != want || len(envelopes) != len(all) {
		t.Fatalf("header %+v, %d envelopes, error %v", h, len(envelopes), err)
	}
	for i, e := range envelopes {
		c, err := e.Decode()
		if err != nil || !proto.Equal(c, all[i]) {
			t.Errorf("%v came back as %v (%v)", all[i], c, err)
		}
		if e.Key != (Key{1, 2, 3}) || e.Body != [8]byte{4, 5} || e.Remember != (i%2 == 0) || e.Version != Version {
			t.Errorf("envelope %+v", e)
		}
	}
}

func TestWhatIsNoEntry(t *testing.T) {
	t.Parallel()
	one := encode(t, consume(), false)
	good := append(AppendHeader(nil, Header{}, 1), one...)
	change := func(at int, to byte) []byte {
		d := bytes.Clone(good)
		d[at] = to
		return d
	}
	for name, data := range map[string][]byte{
		"nothing":              nil,
		"a cut header":         good[:headerSize-1],
		"another form":         change(0, 2),
		"a reserved byte set":  change(1, 1),
		"no commands":          AppendHeader(nil, Header{}, 0),
		"too many commands":    AppendHeader(nil, Header{}, MaxCommands+1),
		"fewer than counted":   change(3, 2),
		"more than counted":    append(bytes.Clone(good), one...),
		"a byte behind":        append(bytes.Clone(good), 0),
		"a cut envelope":       good[:headerSize+envelopeSize-1],
		"a cut payload":        good[:len(good)-1],
		"a payload too big":    change(headerSize+28, 0xff),
		"a flag of the future": change(headerSize+3, 2),
	} {
		if _, _, err := ParseEntry(data); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEncodeRefusesWhatNoNodeWouldRead(t *testing.T) {
	t.Parallel()
	big := consume()
	big.Id = strings.Repeat("x", MaxCommand)
	if _, err := Encode(big, Key{}, [8]byte{}, false); err == nil || strings.Contains(err.Error(), "xxx") {
		t.Errorf("a payload over the limit: %v", err)
	}
	bad := consume()
	bad.Id = "\xff"
	if _, err := Encode(bad, Key{}, [8]byte{}, false); err == nil {
		t.Error("text that is not UTF-8 was encoded; no node could decode it")
	}
}

func TestRejectsAreSentences(t *testing.T) {
	t.Parallel()
	for r := range Reject(len(rejectText)) {
		if r.Error() == "" {
			t.Errorf("reject %d has no text", r)
		}
	}
	if (Result{}).Err() != nil || !errors.Is(Result{Reject: Stale}.Err(), Stale) || Reject(200).Error() != "rejected (200)" {
		t.Error("results and their errors disagree")
	}
}

func FuzzParseEntry(f *testing.F) {
	for _, c := range every(f) {
		f.Add(append(AppendHeader(nil, Header{Stamp: 1, Epoch: 2}, 2), append(encode(f, c, true), encode(f, consume(), false)...)...))
	}
	f.Add(AppendHeader(nil, Header{}, 65535))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, envelopes, err := ParseEntry(data)
		if err != nil {
			return
		}
		again := AppendHeader(nil, h, len(envelopes))
		rest := data[headerSize:]
		for _, e := range envelopes {
			one, after, err := CutEnvelope(rest)
			if err != nil || one.Kind != e.Kind || !bytes.Equal(one.Payload, e.Payload) {
				t.Fatalf("CutEnvelope: %+v, %v", one, err)
			}
			again, rest = append(again, rest[:len(rest)-len(after)]...), after
			c, err := e.Decode()
			if err != nil {
				continue
			}
			if back := encode(t, c, e.Remember); len(back) > envelopeSize+MaxCommand {
				t.Errorf("a decoded command has %d bytes", len(back))
			}
		}
		if !bytes.Equal(again, data) {
			t.Error("an entry was taken that is not in our form")
		}
	})
}

func FuzzParseResult(f *testing.F) {
	f.Add(Result{Reject: Stale, Seq: 1, Generation: 2, Index: 3, Head: 4, Epoch: 5}.Append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseResult(data)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Append(nil), data) {
			t.Errorf("%+v is written otherwise than it was read", r)
		}
	})
}

// TestAFieldOfALaterVersionIsRefused: what this binary doesn't know it must not
// drop, in the command or in a record within it (U1).
func TestAFieldOfALaterVersionIsRefused(t *testing.T) {
	t.Parallel()
	later := protowire.AppendVarint(protowire.AppendTag(nil, 900, protowire.VarintType), 1)
	issue, token := &IssueOpaque{Token: &state.OpaqueToken{Id: "a"}}, &IssueOpaque{Token: &state.OpaqueToken{Id: "a"}}
	issue.ProtoReflect().SetUnknown(later)
	token.Token.ProtoReflect().SetUnknown(later)
	client := &PutClient{Client: &state.Client{Secrets: []*state.SecretHash{{Id: "s"}}}}
	client.Client.Secrets[0].ProtoReflect().SetUnknown(later)
	for name, c := range map[string]Command{"a token's command": issue, "a token's row": token, "a client's secret": client} {
		raw, err := Encode(c, Key{1}, [8]byte{}, false)
		if err != nil {
			t.Fatal(err)
		}
		e, _, err := CutEnvelope(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Decode(); err == nil || !strings.Contains(err.Error(), "unknown to this binary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
