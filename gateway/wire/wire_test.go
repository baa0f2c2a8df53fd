package wire_test

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/keyraft/keyraft/gateway/wire"
)

func sample() *wire.Delta {
	return &wire.Delta{
		Cluster: "c1", Epoch: 3, Head: 900, Truncated: true,
		Items: []wire.Event{
			{Seq: 1, Tenant: "default", Issuer: "https://sts.example/<é>", Kind: "token", Target: `n1-"\-7`, IssuedBefore: 5, ExpiresAt: math.MaxInt64},
			{Seq: 2, Kind: "client", Target: "orders"},
			{Seq: 3, Tenant: "default", Kind: "keymanager", Target: "resident", ExpiresAt: 9, DecidedAfter: math.MaxUint64, IssuedAfter: math.MaxInt64},
			{Seq: 4, Tenant: "default", Kind: "keymanager", Target: "resident", IssuedAfter: 1},
			{Seq: 900, Tenant: "default", Kind: wire.KindKeys, Issuer: "https://sts.example", Data: []byte(`{"keys":[]}`)},
		},
	}
}

func TestDeltaComesBackAsItWas(t *testing.T) {
	t.Parallel()
	for _, d := range []*wire.Delta{sample(), {Epoch: 0, Head: 0}, {Epoch: math.MaxUint64, Head: math.MaxUint64}} {
		fromProto, err := wire.ParseProto(d.AppendProto(nil))
		if err != nil || !reflect.DeepEqual(fromProto, d) {
			t.Errorf("protobuf gave %+v, %v, want %+v", fromProto, err, d)
		}
		fromJSON, err := wire.ParseJSON(d.AppendJSON(nil))
		if err != nil || !reflect.DeepEqual(fromJSON, d) {
			t.Errorf("JSON gave %+v, %v, want %+v", fromJSON, err, d)
		}
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	d := &wire.Delta{Head: 90, Truncated: true, Items: []wire.Event{{Seq: 7}}}
	if got := d.Next(); got != 7 {
		t.Errorf("a cut delta goes on at %d, want its last item 7", got)
	}
	d.Truncated = false
	if got := d.Next(); got != 90 {
		t.Errorf("a whole delta goes on at %d, want its head 90", got)
	}
}

// TestCutDeltaIsRefused is G3: an answer that was cut at any byte is no answer.
func TestCutDeltaIsRefused(t *testing.T) {
	t.Parallel()
	p, j := sample().AppendProto(nil), sample().AppendJSON(nil)
	for n := range p {
		if d, err := wire.ParseProto(p[:n]); !errors.Is(err, wire.ErrInvalid) {
			t.Errorf("protobuf cut at %d of %d gave %+v, %v", n, len(p), d, err)
		}
	}
	for n := range j {
		if d, err := wire.ParseJSON(j[:n]); !errors.Is(err, wire.ErrInvalid) {
			t.Errorf("JSON cut at %d of %d gave %+v, %v", n, len(j), d, err)
		}
	}
}

// TestHostileJSON is GW-05 in JSON.
func TestHostileJSON(t *testing.T) {
	t.Parallel()
	item := `{"seq":1,"kind":"token","target":"x"}`
	tests := []struct{ name, in string }{
		{"a page of HTML", "<html></html>"},
		{"null", "null"},
		{"an array", "[]"},
		{"epoch as a string", `{"epoch":"1","head":1,"items":[]}`},
		{"epoch missing", `{"head":1,"items":[]}`},
		{"items missing", `{"epoch":1,"head":1}`},
		{"items null", `{"epoch":1,"head":1,"items":null}`},
		{"items an object", `{"epoch":1,"head":1,"items":{}}`},
		{"a negative head", `{"epoch":1,"head":-1,"items":[]}`},
		{"a head with a fraction", `{"epoch":1,"head":1.0,"items":[]}`},
		{"a head with an exponent", `{"epoch":1,"head":1e3,"items":[]}`},
		{"a head of 2^64", `{"epoch":1,"head":18446744073709551616,"items":[]}`},
		{"head twice", `{"epoch":1,"head":1,"head":2,"items":[]}`},
		{"truncated as a number", `{"epoch":1,"head":1,"truncated":1,"items":[]}`},
		{"truncated without items", `{"epoch":1,"head":1,"truncated":true,"items":[]}`},
		{"something after the end", `{"epoch":1,"head":1,"items":[]}{}`},
		{"a negative seq", `{"epoch":1,"head":1,"items":[{"seq":-1,"kind":"token","target":"x"}]}`},
		{"seq zero", `{"epoch":1,"head":1,"items":[{"seq":0,"kind":"token","target":"x"}]}`},
		{"an item twice", `{"epoch":1,"head":9,"items":[` + item + `,` + item + `]}`},
		{"items out of order", `{"epoch":1,"head":9,"items":[{"seq":2,"kind":"token","target":"x"},` + item + `]}`},
		{"a head below the last item", `{"epoch":1,"head":0,"items":[` + item + `]}`},
		{"a target that is a number", `{"epoch":1,"head":1,"items":[{"seq":1,"kind":"token","target":7}]}`},
		{"a target that is missing", `{"epoch":1,"head":1,"items":[{"seq":1,"kind":"token"}]}`},
		{"an empty kind", `{"epoch":1,"head":1,"items":[{"seq":1,"kind":"","target":"x"}]}`},
		{"a target that is too long", `{"epoch":1,"head":1,"items":[{"seq":1,"kind":"token","target":"` + strings.Repeat("x", wire.MaxText+1) + `"}]}`},
		{"a negative time", `{"epoch":1,"head":1,"items":[{"seq":1,"kind":"token","target":"x","expires_at":-5}]}`},
		{"a window that begins before time", `{"epoch":1,"head":1,"items":[{"seq":1,"kind":"token","target":"x","issued_after":-5}]}`},
		{"a window after no head", `{"epoch":1,"head":1,"items":[{"seq":1,"kind":"token","target":"x","decided_after":null}]}`},
		{"bytes that are not UTF-8", "{\"epoch\":1,\"head\":1,\"items\":[],\"x\":\"\xff\"}"},
		{"more items than allowed", `{"epoch":1,"head":1,"items":[` + strings.Repeat("0,", wire.MaxItems+1) + `0]}`},
		{"more bytes than allowed", `{"epoch":1,"head":1,"items":[]}` + strings.Repeat(" ", wire.MaxDeltaBytes)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if d, err := wire.ParseJSON([]byte(tt.in)); !errors.Is(err, wire.ErrInvalid) {
				t.Errorf("gave %+v, %v", d, err)
			}
		})
	}
}

func TestUnknownMembersArePassedOver(t *testing.T) {
	t.Parallel()
	d, err := wire.ParseJSON([]byte(`{"epoch":1,"later":{"a":[1]},"head":2,"items":[{"seq":2,"kind":"token","target":"x","new":true}]}`))
	if err != nil || d.Head != 2 || len(d.Items) != 1 {
		t.Errorf("JSON of a newer node: %+v, %v", d, err)
	}
	b := (&wire.Delta{Epoch: 1, Head: 2}).AppendProto(nil)
	b = protowire.AppendTag(b, 99, protowire.BytesType)
	b = protowire.AppendString(b, "later")
	if d, err := wire.ParseProto(b); err != nil || d.Head != 2 {
		t.Errorf("protobuf of a newer node: %+v, %v", d, err)
	}
}

// TestHostileProto is GW-05 in protobuf.
func TestHostileProto(t *testing.T) {
	t.Parallel()
	varint := func(b []byte, field protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
	}
	text := func(b []byte, field protowire.Number, v []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
	}
	start := func() []byte { return varint(varint(varint(nil, 1, 1), 2, 9), 6, 1) }
	event := func(seq uint64) []byte {
		return text(text(varint(nil, 1, seq), 4, []byte("token")), 5, []byte("x"))
	}
	tests := []struct {
		name string
		in   []byte
	}{
		{"nothing", nil},
		{"random text", []byte("<html>")},
		{"a length of 2 GB", append(protowire.AppendTag(start(), 4, protowire.BytesType), 0xff, 0xff, 0xff, 0xff, 0x07)},
		{"a group", append(protowire.AppendTag(nil, 9, protowire.StartGroupType), protowire.AppendTag(nil, 9, protowire.EndGroupType)...)},
		{"head as a string", text(varint(varint(nil, 1, 1), 6, 0), 2, []byte("9"))},
		{"head as fixed64", append(protowire.AppendTag(varint(varint(nil, 1, 1), 6, 0), 2, protowire.Fixed64Type), make([]byte, 8)...)},
		{"epoch twice", varint(varint(varint(varint(nil, 1, 1), 2, 9), 6, 0), 1, 2)},
		{"fewer items than announced", start()},
		{"more items than announced", text(text(start(), 4, event(1)), 4, event(2))},
		{"an item twice", text(text(varint(varint(varint(nil, 1, 1), 2, 9), 6, 2), 4, event(1)), 4, event(1))},
		{"a head below the item", text(start(), 4, event(10))},
		{"seq zero", text(start(), 4, event(0))},
		{"seq twice in one item", text(start(), 4, varint(event(1), 1, 2))},
		{"a negative time", text(start(), 4, varint(event(1), 7, math.MaxUint64))},
		{"a window that begins before time", text(start(), 4, varint(event(1), 10, math.MaxUint64))},
		{"a window after a head that is text", text(start(), 4, text(event(1), 9, []byte("5")))},
		{"a window twice", text(start(), 4, varint(varint(event(1), 10, 1), 10, 2))},
		{"a target that is not UTF-8", text(start(), 4, text(text(varint(nil, 1, 1), 4, []byte("token")), 5, []byte{0xff}))},
		{"data that is not JSON", text(start(), 4, text(event(1), 8, []byte("{")))},
		{"truncated neither true nor false", varint(text(start(), 4, event(1)), 3, 2)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if d, err := wire.ParseProto(tt.in); !errors.Is(err, wire.ErrInvalid) {
				t.Errorf("gave %+v, %v", d, err)
			}
		})
	}
	if _, err := wire.ParseProto(text(start(), 4, event(1))); err != nil {
		t.Errorf("the form that the table breaks is not sound itself: %v", err)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	k := &wire.Keys{Cluster: "c1", Epoch: 1, Head: 2, Issuers: []wire.Issuer{
		{Tenant: "default", Issuer: "https://a", JWKS: []byte(`{"keys":[]}`)},
		{Tenant: "acme", KeyManager: "okta", Issuer: "https://b", FormerIssuers: []string{"https://b1", `https://"b2`}, JWKS: []byte(`{"keys":[{}]}`)},
	}}
	got, err := wire.ParseKeys(k.AppendJSON(nil))
	if err != nil || !reflect.DeepEqual(got, k) {
		t.Fatalf("%+v, %v, want %+v", got, err, k)
	}
	whole := k.AppendJSON(nil)
	for n := range whole {
		if _, err := wire.ParseKeys(whole[:n]); !errors.Is(err, wire.ErrInvalid) {
			t.Fatalf("cut at %d of %d is taken: %v", n, len(whole), err)
		}
	}
	for name, in := range map[string]string{
		"an issuer twice":      `{"cluster":"c","epoch":1,"head":1,"issuers":[{"tenant":"a","issuer":"i","jwks":{}},{"tenant":"b","issuer":"i","jwks":{}}]}`,
		"no cluster":           `{"cluster":"","epoch":1,"head":1,"issuers":[]}`,
		"an issuer without it": `{"cluster":"c","epoch":1,"head":1,"issuers":[{"tenant":"a","jwks":{}}]}`,
	} {
		if _, err := wire.ParseKeys([]byte(in)); !errors.Is(err, wire.ErrInvalid) {
			t.Errorf("%s is taken: %v", name, err)
		}
	}
}

// TestDeltaGolden holds both forms to the bytes that other programs read.
func TestDeltaGolden(t *testing.T) {
	t.Parallel()
	d := &wire.Delta{Epoch: 2, Head: 7, Items: []wire.Event{
		{Seq: 6, Tenant: "t", Kind: "token", Target: "j"},
		{Seq: 7, Tenant: "t", Kind: "keymanager", Target: "resident", ExpiresAt: 9, DecidedAfter: 300, IssuedAfter: 5},
	}}
	const wantJSON = `{"epoch":2,"head":7,"truncated":false,"items":[` +
		`{"seq":6,"tenant":"t","issuer":"","kind":"token","target":"j","issued_before":0,"expires_at":0},` +
		`{"seq":7,"tenant":"t","issuer":"","kind":"keymanager","target":"resident","issued_before":0,"expires_at":9,"decided_after":300,"issued_after":5}]}`
	if got := string(d.AppendJSON(nil)); got != wantJSON {
		t.Errorf("JSON\n%s, want\n%s", got, wantJSON)
	}
	const wantProto = "\x08\x02\x10\x07\x30\x02" +
		"\x22\x0f\x08\x06\x12\x01t\x22\x05token\x2a\x01j" +
		"\x22\x22\x08\x07\x12\x01t\x22\x0akeymanager\x2a\x08resident\x38\x09\x48\xac\x02\x50\x05"
	if got := string(d.AppendProto(nil)); got != wantProto {
		t.Errorf("protobuf\n%q, want\n%q", got, wantProto)
	}
}

func TestMembers(t *testing.T) {
	t.Parallel()
	want := &wire.Members{Cluster: "c1", Items: []wire.Member{{ID: "n1", APIAddr: "10.0.0.1:9443", GossipAddr: "10.0.0.1:7947"}, {ID: "n2"}}}
	bare := &wire.Members{Items: want.Items}
	tests := []struct {
		name, in string
		want     *wire.Members // nil: refused
	}{
		{"what we write ourselves", string(want.AppendJSON(nil)), want},
		{"a node's answer, with more than we know", `{"cluster":"c1","items":[{"id":"n1","api_addr":"10.0.0.1:9443","gossip_addr":"10.0.0.1:7947","voter":true},{"id":"n2","api_addr":""}],"new":{}}`, want},
		{"the admin API's name for the pool goes before", `[{"id":"n1","gossip_addr":"10.0.0.1:1","api_addr":"10.0.0.1:9443","gateway_gossip_addr":"10.0.0.1:7947"},{"id":"n2"}]`, bare},
		{"whichever comes first", ` [{"id":"n1","gateway_gossip_addr":"10.0.0.1:7947","gossip_addr":"10.0.0.1:1","api_addr":"10.0.0.1:9443"},{"id":"n2"}] `, bare},
		{"an empty bare list", `[]`, &wire.Members{}},
		{"no items", `{"cluster":"c1"}`, nil},
		{"a node without a name", `[{"api_addr":"x"}]`, nil},
		{"an address that is no text", `[{"id":"a","api_addr":5}]`, nil},
		{"an address twice", `[{"id":"a","api_addr":"x","api_addr":"y"}]`, nil},
		{"something after the end", `[]{}`, nil},
		{"a list that is cut", `[{"id":"a"}`, nil},
		{"nothing", ``, nil},
		{"too many", `[` + strings.Repeat(`{"id":"a"},`, wire.MaxMembers) + `{"id":"a"}]`, nil},
		{"too long", `[]` + strings.Repeat(" ", wire.MaxMembersDoc), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := wire.ParseMembers([]byte(tt.in))
			if tt.want == nil {
				if !errors.Is(err, wire.ErrInvalid) {
					t.Errorf("gave %+v, %v", got, err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("gave %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func FuzzParseMembers(f *testing.F) {
	f.Add([]byte(`{"cluster":"c","items":[{"id":"a","api_addr":"b","gossip_addr":"c"}]}`))
	f.Add([]byte(`[{"id":"a","gateway_gossip_addr":"c"}]`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if m, err := wire.ParseMembers(in); err == nil {
			if again, err := wire.ParseMembers(m.AppendJSON(nil)); err != nil || len(again.Items) != len(m.Items) {
				t.Fatalf("%+v became %+v, %v", m, again, err)
			}
		}
	})
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	f := &wire.Refusal{Status: 409, Code: wire.Behind, Detail: "wait", Epoch: 2, Head: 3}
	got, err := wire.ParseRefusal(f.AppendJSON(nil))
	if err != nil || got.Code != f.Code || got.Epoch != 2 || got.Head != 3 || got.Detail != "wait" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, in := range []string{``, `{}`, `{"code":5}`, `{"code":"behind","code":"epoch"}`, `{"code":"behind","epoch":-1}`} {
		if _, err := wire.ParseRefusal([]byte(in)); !errors.Is(err, wire.ErrInvalid) {
			t.Errorf("%s is taken", in)
		}
	}
}

func FuzzParseProto(f *testing.F) {
	f.Add(sample().AppendProto(nil))
	f.Add([]byte{8, 1, 16, 0, 48, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := wire.ParseProto(in)
		if err != nil {
			if !errors.Is(err, wire.ErrInvalid) {
				t.Fatalf("another error: %v", err)
			}
			return
		}
		again, err := wire.ParseProto(d.AppendProto(nil))
		if err != nil || !reflect.DeepEqual(again, d) {
			t.Fatalf("%+v became %+v, %v", d, again, err)
		}
		j, err := wire.ParseJSON(d.AppendJSON(nil))
		if err != nil || j.Next() != d.Next() || len(j.Items) != len(d.Items) {
			t.Fatalf("%+v became %+v, %v in JSON", d, j, err)
		}
	})
}

func FuzzParseJSON(f *testing.F) {
	f.Add(sample().AppendJSON(nil))
	f.Add([]byte(`{"epoch":1,"head":1,"items":[]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := wire.ParseJSON(in)
		if err != nil {
			if !errors.Is(err, wire.ErrInvalid) {
				t.Fatalf("another error: %v", err)
			}
			return
		}
		again, err := wire.ParseProto(d.AppendProto(nil))
		if err != nil || again.Next() != d.Next() || len(again.Items) != len(d.Items) {
			t.Fatalf("%+v became %+v, %v in protobuf", d, again, err)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(`{"cluster":"c","epoch":1,"head":1,"issuers":[{"tenant":"a","issuer":"i","jwks":{"keys":[]}}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		k, err := wire.ParseKeys(in)
		if err == nil {
			if _, err := wire.ParseKeys(k.AppendJSON(nil)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzParseRefusal(f *testing.F) {
	f.Add([]byte(`{"code":"behind","epoch":1,"head":2}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if r, err := wire.ParseRefusal(in); err == nil {
			if again, err := wire.ParseRefusal(r.AppendJSON(nil)); err != nil || again.Code != r.Code {
				t.Fatalf("%+v became %+v, %v", r, again, err)
			}
		}
	})
}

func BenchmarkParseProto(b *testing.B) {
	d := &wire.Delta{Epoch: 1, Head: 1000}
	for i := range 1000 {
		d.Items = append(d.Items, wire.Event{Seq: uint64(i + 1), Tenant: "default", Issuer: "https://sts.example", Kind: "token", Target: "n1-1f2e3d4c5b6a7988-1234567", ExpiresAt: 1800000000})
	}
	in := d.AppendProto(nil)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.ParseProto(in); err != nil {
			b.Fatal(err)
		}
	}
}
