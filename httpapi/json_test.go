package httpapi

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

type document struct {
	Name   string            `json:"client_name"`
	Life   int               `json:"life"`
	Rate   float64           `json:"rate"`
	On     *bool             `json:"on"`
	Scopes []string          `json:"scopes"`
	Inner  []inner           `json:"inner"`
	Labels map[string]inner  `json:"labels"`
	Raw    json.RawMessage   `json:"raw"`
	Any    map[string]any    `json:"any"`
	Text   map[string]string `json:"text"`
}

type inner struct {
	Kind string `json:"kind"`
}

func TestHTT13DecodeJSON(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		field      string
		detail     string // "" when the body is accepted
	}{
		{name: "a document", body: ` {"client_name":"a\u00e9\ud83d\ude00","life":9007199254740991,"rate":1.5e3,"on":null,"scopes":["a"],"inner":[{"kind":"x"}],"labels":{"l":{"kind":"y"}},"raw":{"free":[1]},"any":{"x":{"Y":1}}} ` + "\n"},
		{name: "an empty object", body: `{}`},
		{name: "nothing", body: ``, detail: "empty"},
		{name: "white space only", body: " \n", detail: "empty"},
		{name: "an unknown member", body: `{"client":"a"}`, field: "client", detail: "no such member"},
		{name: "ADM-04 an unknown member inside", body: `{"inner":[{"kind":"a"},{"kind":"b","secret_hash":"c"}]}`, field: "inner[1].secret_hash", detail: "no such member"},
		{name: "ADM-04 an unknown member of a map's value", body: `{"labels":{"l":{"x":1}}}`, field: "labels.l.x", detail: "no such member"},
		{name: "another letter case is unknown", body: `{"Client_Name":"a"}`, field: "Client_Name", detail: "no such member"},
		{name: "a member twice", body: `{"client_name":"a","client_name":"b"}`, field: "client_name", detail: "twice"},
		{name: "a member twice in another letter case", body: `{"any":{"a":1,"A":2}}`, field: "any.A", detail: "twice"},
		{name: "a member twice, once escaped", body: `{"client_name":"a","client\u005fname":"b"}`, field: "client_name", detail: "twice"},
		{name: "a member twice in a raw value", body: `{"raw":{"a":1,"a":2}}`, field: "raw.a", detail: "twice"},
		{name: "an array for an object", body: `[]`, detail: "an array can't stand here; an object is expected"},
		{name: "a fraction for a whole number, not quoted back", body: `{"life":1.75}`, field: "life", detail: "a number can't stand here"},
		{name: "trailing garbage", body: `{} x`, detail: "follows"},
		{name: "two documents", body: `{}{}`, detail: "follows"},
		{name: "a comment", body: `{/**/}`, detail: "well-formed"},
		{name: "a trailing comma", body: `{"life":1,}`, detail: "well-formed"},
		{name: "NaN", body: `{"rate":NaN}`, field: "rate", detail: "well-formed"},
		{name: "a byte order mark", body: "\xef\xbb\xbf{}", detail: "byte order mark"},
		{name: "UTF-16", body: "{\x00}\x00", detail: "well-formed"},
		{name: "UTF-16 with a mark", body: "\xff\xfe{\x00}\x00", detail: "UTF-8"},
		{name: "invalid UTF-8", body: "{\"client_name\":\"\xff\"}", detail: "UTF-8"},
		{name: "a lone high surrogate", body: `{"client_name":"\ud800"}`, field: "client_name", detail: "surrogate"},
		{name: "a lone low surrogate", body: `{"client_name":"\udc00x"}`, field: "client_name", detail: "surrogate"},
		{name: "two high surrogates", body: `{"client_name":"\ud800\ud800"}`, field: "client_name", detail: "surrogate"},
		{name: "an escaped NUL", body: `{"client_name":"a\u0000"}`, field: "client_name", detail: "NUL"},
		{name: "a raw control character", body: "{\"client_name\":\"a\nb\"}", field: "client_name", detail: "control"},
		{name: "an unknown escape", body: `{"client_name":"\x"}`, field: "client_name", detail: "well-formed"},
		{name: "1e400", body: `{"rate":1e400}`, field: "rate", detail: "too large"},
		{name: "an integer over 2 to the 53", body: `{"life":9007199254740992}`, field: "life", detail: "too large"},
		{name: "an integer over int64", body: `{"life":99999999999999999999}`, field: "life", detail: "too large"},
		{name: "a leading zero", body: `{"life":01}`, field: "life", detail: "well-formed"},
		{name: "a plus sign", body: `{"life":+1}`, field: "life", detail: "well-formed"},
		{name: "half a number", body: `{"rate":1.}`, field: "rate", detail: "well-formed"},
		{name: "a string for a number", body: `{"life":"1"}`, field: "life", detail: "whole number"},
		{name: "a fraction for a whole number", body: `{"life":1.5}`, field: "life", detail: "whole number"},
		{name: "a number in a list of strings", body: `{"scopes":[1]}`, field: "scopes", detail: "string"},
		{name: "null for the document", body: " null\n", detail: "object"},
		{name: "an array for the document", body: `[]`, detail: "object"},
		{name: "depth 100 000", body: `{"any":` + strings.Repeat(`{"a":`, 100_000), field: "any.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a", detail: "deep"},
		{name: "depth 100 000 of arrays", body: `{"raw":` + strings.Repeat(`[`, 100_000), field: "raw" + strings.Repeat("[0]", 31), detail: "deep"},
		{name: "5 000 members", body: `{"any":{` + strings.Repeat(`"a":{},`, 0) + manyMembers(5000) + `}}`, field: "any.m4095", detail: "too many"},
		{name: "a member's name of 1 kB", body: `{"any":{"` + strings.Repeat("a", 1000) + `":1}}`, field: "any", detail: "too long"},
		{name: "cut short", body: `{"client_name":"a`, field: "client_name", detail: "well-formed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var into document
			err := decodeJSON([]byte(tt.body), &into)
			if tt.detail == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			var p *problem
			if !errors.As(err, &p) {
				t.Fatalf("error %v, want a problem", err)
			}
			if p.status != 400 || p.field != tt.field || !strings.Contains(p.detail, tt.detail) {
				t.Errorf("%d %q %q, want 400 %q …%s…", p.status, p.field, p.detail, tt.field, tt.detail)
			}
		})
	}
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"m`)
		for d := 1000; d > 0; d /= 10 {
			b.WriteByte(byte('0' + i/d%10))
		}
		b.WriteString(`":1`)
	}
	return b.String()
}

func TestDecodeJSONWantsItsType(t *testing.T) {
	t.Parallel()
	for contentType, want := range map[string]int{
		"application/json": 0, "application/json; charset=utf-8": 0, "application/merge-patch+json": 0,
		"application/json; charset=utf-16": 415, "text/json": 415, "": 415, urlencoded: 415,
	} {
		var into document
		err := DecodeJSON(formCtx(contentType, "", "{}"), &into)
		var p *problem
		errors.As(err, &p)
		if want == 0 && err != nil || want != 0 && (p == nil || p.status != want) {
			t.Errorf("%q: %v, want %d", contentType, err, want)
		}
	}
}

// FuzzDecodeJSON: what is accepted is JSON, and once encoded again is accepted too.
func FuzzDecodeJSON(f *testing.F) {
	for _, seed := range []string{`{"client_name":"a","scopes":["b"]}`, `{"a":1,"A":2}`, `{"life":1e400}`, `"\ud800"`, `{"any":{"x":[{},[],null,true,-0.5e-7]}}`, "\xef\xbb\xbf{}", `{"raw":`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var into document
		if err := decodeJSON(body, &into); err != nil {
			var p *problem
			if !errors.As(err, &p) || p.status != 400 {
				t.Fatalf("error %v", err)
			}
			return
		}
		if !json.Valid(body) {
			t.Fatalf("%q is no JSON", body)
		}
		again, err := json.Marshal(into)
		if err != nil {
			t.Fatalf("%q does not encode: %v", body, err)
		}
		if err := decodeJSON(again, new(document)); err != nil && !strings.Contains(err.Error(), "too many") && len(again) < 64<<10 {
			t.Fatalf("%q became %q, which is refused: %v", body, again, err)
		}
	})
}

func BenchmarkForm(b *testing.B) {
	c := formCtx(urlencoded, "", "grant_type=client_credentials&scope=orders%3Aread+orders%3Awrite&client_id=0123456789abcdef&client_secret=kr1_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789")
	b.ReportAllocs()
	for b.Loop() {
		form, err := Form(c)
		if err != nil || form.Get("client_secret") == "" {
			b.Fatal(err)
		}
	}
}
