package clients

import (
	"encoding/base64"
	"net/url"
	"testing"
	"unicode/utf8"
)

func basic(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }

// TestParseBasic is TOK-07 and TOK-06 for the header.
func TestParseBasic(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, header, id, secret string
		refused                  bool
	}{
		{name: "plain", header: basic("orders:s3cret"), id: "orders", secret: "s3cret"},
		{name: "the scheme's case does not matter", header: "bAsIc " + basic("a:b")[6:], id: "a", secret: "b"},
		{name: "the secret may hold colons", header: basic("a:b:c"), id: "a", secret: "b:c"},
		{name: "an encoded colon belongs to the id", header: basic("a%3Ab:c"), id: "a:b", secret: "c"},
		{name: "plus is a space, an encoded plus a plus", header: basic("a:b+c%2Bd"), id: "a", secret: "b c+d"},
		{name: "decoded once and no more", header: basic("a:%2541"), id: "a", secret: "%41"},
		{name: "UTF-8 is fine, encoded or not", header: basic("a:%C3%A9é"), id: "a", secret: "éé"},
		{name: "an empty secret is read as empty", header: basic("a:"), id: "a"},
		{name: "no id", header: basic(":b"), refused: true},
		{name: "no colon", header: basic("ab"), refused: true},
		{name: "nothing", header: "Basic ", refused: true},
		{name: "no space", header: "Basic", refused: true},
		{name: "another scheme", header: "Bearer YTpi", refused: true},
		{name: "two spaces", header: "Basic  YTpi", refused: true},
		{name: "without padding", header: "Basic YTpiYw", refused: true},
		{name: "stray bits in the tail", header: "Basic YTpiYx==", refused: true},
		{name: "the base64url alphabet", header: "Basic YTo_-w==", refused: true},
		{name: "trailing bytes", header: basic("a:b") + " x", refused: true},
		{name: "a line break inside", header: "Basic YT\npi", refused: true},
		{name: "a malformed escape", header: basic("a:%zz"), refused: true},
		{name: "a cut escape", header: basic("a:%4"), refused: true},
		{name: "NUL", header: basic("a%00b:c"), refused: true},
		{name: "raw NUL", header: basic("a\x00b:c"), refused: true},
		{name: "overlong UTF-8", header: basic("a:%c0%ae"), refused: true},
		{name: "a raw byte that is no UTF-8", header: basic("a:\x80"), refused: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			id, secret, ok := ParseBasic([]byte(tt.header))
			if ok == tt.refused {
				t.Fatalf("taken: %v", ok)
			}
			if ok && (id != tt.id || secret != tt.secret) {
				t.Errorf("got %q and %q", id, secret)
			}
		})
	}
}

func FuzzParseBasic(f *testing.F) {
	f.Add("Basic YTpi", "a", "b")
	f.Add(basic("%61:%2541"), "x y", "p+q:%")
	f.Add("bAsIc =", "", "")
	f.Fuzz(func(t *testing.T, header, wantID, wantSecret string) {
		if id, secret, ok := ParseBasic([]byte(header)); ok {
			if id == "" || !utf8.ValidString(id) || !utf8.ValidString(secret) {
				t.Errorf("%q gave %q and %q", header, id, secret)
			}
		}
		// What a client encodes as the RFC says comes back as it was.
		made := basic(url.QueryEscape(wantID) + ":" + url.QueryEscape(wantSecret))
		id, secret, ok := ParseBasic([]byte(made))
		if ok && (id != wantID || secret != wantSecret) {
			t.Errorf("%q and %q came back as %q and %q", wantID, wantSecret, id, secret)
		}
	})
}
