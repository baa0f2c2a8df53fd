package httpapi

import (
	"bytes"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/internal/oauth"
)

func formCtx(contentType, query, body string) *fasthttp.RequestCtx {
	c := new(fasthttp.RequestCtx)
	c.Request.Header.SetContentType(contentType)
	c.Request.SetBodyString(body)
	c.SetUserValue(requestKey{}, &request{query: []byte(query)})
	return c
}

const urlencoded = "application/x-www-form-urlencoded"

func TestFormAccepts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, contentType, body string
		want                    map[string]string
	}{
		{"a plain form", urlencoded, "grant_type=client_credentials&scope=a+b", map[string]string{"grant_type": "client_credentials", "scope": "a b"}},
		{"raw spaces, as curl -d sends them", urlencoded, "scope=a b", map[string]string{"scope": "a b"}},
		{"escapes in both hex cases", urlencoded, "a=%2f%2F%c3%A9", map[string]string{"a": "//é"}},
		{"TOK-04 an empty value is as if absent", urlencoded, "scope=&a=b", map[string]string{"scope": "", "a": "b"}},
		{"a name without a value", urlencoded, "a&b=c", map[string]string{"a": "", "b": "c"}},
		{"an equals sign in a value", urlencoded, "a=b==", map[string]string{"a": "b=="}},
		{"empty items are passed over", urlencoded, "&&a=b&", map[string]string{"a": "b"}},
		{"charset UTF-8", urlencoded + "; charset=UTF-8", "a=b", map[string]string{"a": "b"}},
		{"charset in quotes", urlencoded + `;charset="utf-8"`, "a=b", map[string]string{"a": "b"}},
		{"the type in capitals", strings.ToUpper(urlencoded), "a=b", map[string]string{"a": "b"}},
		{"a tab in a password", urlencoded, "password=a%09b", map[string]string{"password": "a\tb"}},
		{"no body", urlencoded, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			form, err := Form(formCtx(tt.contentType, "", tt.body))
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range tt.want {
				if got := form.Get(name); got != want || form.Has(name) != (want != "") {
					t.Errorf("%s is %q (Has %v), want %q", name, got, form.Has(name), want)
				}
			}
			if form.Has("absent") {
				t.Error("an absent parameter is there")
			}
		})
	}
}

func TestFormRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, contentType, query, body string }{
		{"TOK-02 a query beside the body", urlencoded, "client_id=a&grant_type=password", "username=b"},
		{"TOK-03 grant_type twice", urlencoded, "", "grant_type=a&grant_type=b"},
		{"TOK-03 the same value twice", urlencoded, "", "client_id=a&x=y&client_id=a"},
		{"TOK-03 twice, once empty", urlencoded, "", "scope=&scope=a"},
		{"TOK-03 twice, once encoded", urlencoded, "", "code=a&c%6fde=b"},
		{"TOK-05 JSON", "application/json", "", "{}"},
		{"TOK-05 multipart", "multipart/form-data; boundary=x", "", "--x--"},
		{"TOK-05 text", "text/plain", "", "a=b"},
		{"TOK-05 no type", "", "", "a=b"},
		{"TOK-05 charset UTF-16", urlencoded + "; charset=utf-16", "", "a=b"},
		{"another parameter of the type", urlencoded + "; boundary=x", "", "a=b"},
		{"TOK-06 %zz", urlencoded, "", "a=%zz"},
		{"TOK-06 a lone percent sign", urlencoded, "", "a=%"},
		{"TOK-06 an escape cut short", urlencoded, "", "a=%4"},
		{"TOK-06 %00", urlencoded, "", "client_id=a%00b"},
		{"TOK-06 NUL in a name", urlencoded, "", "a%00b=c"},
		{"TOK-06 overlong UTF-8", urlencoded, "", "a=%c0%ae"},
		{"TOK-06 lone surrogate", urlencoded, "", "a=%ed%a0%80"},
		{"TOK-06 raw 0x80", urlencoded, "", "a=\x80"},
		{"raw UTF-8", urlencoded, "", "a=é"},
		{"a raw NUL", urlencoded, "", "a=\x00"},
		{"a line end", urlencoded, "", "a=b\r\n"},
		{"an encoded line end", urlencoded, "", "a=b%0d%0a"},
		{"DEL", urlencoded, "", "a=%7f"},
		{"no name", urlencoded, "", "=a"},
		{"HTT-10 10 000 parameters", urlencoded, "", strings.Repeat("a=b&", 10_000)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Form(formCtx(tt.contentType, tt.query, tt.body))
			if !errors.Is(err, oauth.InvalidRequest) {
				t.Errorf("error %v, want invalid_request", err)
			}
		})
	}
}

// Eight bytes are looked at at once: each byte at each place of them must be judged as
// it is alone.
func TestEveryByteIsJudgedAtEveryPlace(t *testing.T) {
	t.Parallel()
	for b := range 256 {
		_, alone := appendDecoded(nil, []byte{byte(b)})
		if raw := b >= ' ' && b < 0x7f && b != '%'; alone != raw {
			t.Errorf("%q alone is taken: %v", byte(b), alone)
		}
		for at := range 24 {
			src := bytes.Repeat([]byte("~"), 24)
			src[at] = byte(b)
			got, ok := appendDecoded(nil, src)
			want := append(bytes.Clone(src), 0)
			if b == '+' {
				want[at] = ' '
			}
			if ok != alone || ok && !bytes.Equal(got, want) {
				t.Errorf("%q at %d: %q, %v; alone %v", byte(b), at, got, ok, alone)
			}
		}
	}
}

func TestRepeatedResources(t *testing.T) {
	t.Parallel()
	form, err := Form(formCtx(urlencoded, "", "resource=a&audience=x&resource=b&resource=&audience=y"))
	if err != nil {
		t.Fatal(err)
	}
	if got := form.All("resource"); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("resources %q", got)
	}
	if got := form.All("audience"); !slices.Equal(got, []string{"x", "y"}) {
		t.Errorf("audiences %q", got)
	}
}

// FuzzForm: what is accepted agrees with net/url, is UTF-8 and holds no NUL.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{"a=b", "a=%zz", "a=%00", "resource=a&resource=b", "a=%c3%a9&&c", "=", "a;b=c", "%", "a=+%2b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		got, err := parseValues([]byte(body))
		if err != nil {
			if !errors.Is(err, oauth.InvalidRequest) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if !utf8.ValidString(got.text) {
			t.Fatalf("%q gave bytes that are not UTF-8", body)
		}
		if strings.Contains(body, ";") { // net/url refuses what WHATWG allows
			return
		}
		want, err := url.ParseQuery(body)
		if err != nil {
			t.Fatalf("%q was accepted, but net/url says %v", body, err)
		}
		for name, values := range want {
			if got.Get(name) != firstNonEmpty(values) && len(values) == 1 {
				t.Errorf("%q: %q is %q, net/url says %q", body, name, got.Get(name), values)
			}
		}
	})
}

func firstNonEmpty(values []string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// FuzzPath: what passes the gate has no dot segment, no doubled slash, and decoding a
// segment never makes a separator, a dot segment or a control character.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"/oauth2/token", "/t/acme/..%2f..//admin/%2e%2e/x", "/a%20b", "/%252e", "/a?b=c", "//", "/.", "/..a", "/a\\b", "/t/acme;x/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		path, _, v := splitTarget([]byte(target), 8<<10)
		if v.status != 0 {
			if v.status != 400 && v.status != 414 {
				t.Fatalf("status %d", v.status)
			}
			return
		}
		for _, s := range strings.Split(string(path[1:]), "/") {
			plain, _ := decodeSegment([]byte(s))
			if plain == "." || plain == ".." || strings.ContainsAny(plain, "/\\%\x00\r\n") {
				t.Errorf("%q passes with the segment %q", target, plain)
			}
		}
		if strings.Contains(string(path), "//") {
			t.Errorf("%q passes", target)
		}
	})
}

func TestBearer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, header, want, challenge string
		fails                         bool
	}{
		{name: "a token", header: "Bearer abc.def-_~+/==", want: "abc.def-_~+/=="},
		{name: "the scheme in lower case", header: "bearer abc", want: "abc"},
		{name: "none gets a challenge without an error code (RFC 6750 §3.1)", fails: true, challenge: `Bearer realm="keyraft"`},
		{name: "another scheme", header: "Basic abc", fails: true},
		{name: "two spaces", header: "Bearer  abc", fails: true},
		{name: "no token", header: "Bearer ", fails: true},
		{name: "padding alone", header: "Bearer ==", fails: true},
		{name: "a comma", header: "Bearer a,b", fails: true},
		{name: "padding inside", header: "Bearer a=b", fails: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := new(fasthttp.RequestCtx)
			if tt.header != "" {
				c.Request.Header.Set("Authorization", tt.header)
			}
			got, err := Bearer(c)
			if got != tt.want || tt.fails != errors.Is(err, oauth.InvalidToken) {
				t.Fatalf("%q, %v", got, err)
			}
			var e *oauth.Error
			if errors.As(err, &e) && e.Challenge() != tt.challenge {
				t.Errorf("challenge %q, want %q", e.Challenge(), tt.challenge)
			}
		})
	}
}
