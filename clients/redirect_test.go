package clients

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestARedirectURIMatchesByteForByte(t *testing.T) {
	t.Parallel()
	const registered = "https://app.example/cb"
	if !RedirectMatches([]string{"https://other.example", registered}, registered) {
		t.Error("the registered URI itself is refused")
	}
	for _, asked := range []string{
		"", registered + "/../x", registered + "?x", registered + "#f", "https://app.example/CB", registered + "/", "//app.example/cb",
		"https://app.example:443/cb", "https://app.example/%63b", "https://app.example./cb", "https://APP.example/cb", "HTTPS://app.example/cb", // AUT-02
		"https://app.example@evil.example/cb", `https://evil.example\@app.example/cb`, "https://app.example%00.evil", "https:app.example",
		"https://app.example/\tcb", "https://app.example/cb\n", "javascript:alert(1)", "data:text/html,x", "vbscript:x", "http://app.example/cb", // AUT-03
	} {
		if RedirectMatches([]string{registered}, asked) {
			t.Errorf("AUT-02, AUT-03: %q passes for %q", asked, registered)
		}
	}
	if RedirectMatches([]string{""}, "") || RedirectMatches(nil, "") {
		t.Error("nothing matches something")
	}
}

// TestTheLoopbackPortIsFree (AUT-04, RFC 8252 §7.3).
func TestTheLoopbackPortIsFree(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		registered, asked string
		want              bool
	}{
		{"http://127.0.0.1/cb", "http://127.0.0.1:51004/cb", true},
		{"http://127.0.0.1:9/cb", "http://127.0.0.1:51004/cb", true},
		{"http://127.0.0.1:9/cb", "http://127.0.0.1/cb", true},
		{"http://[::1]/cb", "http://[::1]:65535/cb", true},
		{"http://127.0.0.1/cb?a=1", "http://127.0.0.1:8/cb?a=1", true},
		{"http://127.0.0.1", "http://127.0.0.1:8", true},
		{"http://127.0.0.1/cb", "http://127.0.0.2:51004/cb", false},
		{"http://127.0.0.1/cb", "http://localhost:51004/cb", false},
		{"http://localhost/cb", "http://localhost:51004/cb", false},
		{"http://127.0.0.1/cb", "http://[::ffff:127.0.0.1]:51004/cb", false},
		{"http://127.0.0.1/cb", "http://[::1]:51004/cb", false},
		{"http://127.0.0.1/cb", "http://127.1:51004/cb", false},
		{"http://127.0.0.1/cb", "http://2130706433:51004/cb", false},
		{"http://127.0.0.1/cb", "https://127.0.0.1:51004/cb", false},
		{"https://127.0.0.1/cb", "https://127.0.0.1:51004/cb", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:51004/other", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:51004/cb/", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:99999/cb", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:0/cb", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:080/cb", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:/cb", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:8:9/cb", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1.evil.test/cb", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:8@evil.test/cb", false},
		{"http://127.0.0.1/cb", "http://u@127.0.0.1:8/cb", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:51004\\@evil.test/cb", false},
		{"http://127.0.0.1/cb", "HTTP://127.0.0.1:51004/cb", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:51004/cb#f", false},
		{"http://192.0.2.1/cb", "http://192.0.2.1:51004/cb", false},
	} {
		if got := RedirectMatches([]string{tt.registered}, tt.asked); got != tt.want {
			t.Errorf("AUT-04: registered %q, asked %q: %t", tt.registered, tt.asked, got)
		}
	}
}

// TestRedirectURIsAtRegistration (REG-02, AUT-03, AUT-05).
func TestRedirectURIsAtRegistration(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"https://app.example", "https://app.example:8443/cb?x=1", "https://xn--bcher-kva.example/cb", "https://[2001:db8::1]/cb",
		"http://127.0.0.1/cb", "http://127.0.0.1:8080/cb", "http://[::1]/cb", "http://localhost:3000/cb", "com.example.app:/cb", "com.example.app://cb/x",
	} {
		if err := redirectable("redirect_uris", s); err != nil {
			t.Errorf("%q is refused: %v", s, err)
		}
	}
	for _, s := range []string{
		"", "/cb", "app.example/cb", "//app.example/cb", "https:app.example", "https:///cb", "https://", "https://app.example/cb#", "https://app.example/cb#f",
		"JavaScript:alert(1)", "JaVaScRiPt:alert(1)", "javascript://app.example/%0aalert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd",
		"https://*.example/cb", "https://app.*/cb", "https://u@app.example/cb", "https://app.example@evil.example/cb", `https://evil.example\@app.example/cb`,
		"http://localhost.evil.test/cb", "http://127.0.0.1.evil.test/cb", "http://app.example/cb", "http://127.1/cb", "http://[::ffff:127.0.0.1]/cb", "http://0x7f.0.0.1/cb",
		"https://bücher.example/cb", "https://аpp.example/cb", "https://app.example%00.evil/cb", "https://app%2eexample/cb", "https://app.example./cb", "https://app..example/cb",
		"https://app.example:0/cb", "https://app.example:99999/cb", "https://app.example:/cb", "https://app.example/a b", "https://app.example/\ncb",
		"myapp:/cb", "HTTPS://app.example/cb", "Com.Example.App:/cb", "https://[fe80::1%25eth0]/cb", "https://" + strings.Repeat("a", maxURI),
	} {
		var field *FieldError
		if err := redirectable("redirect_uris", s); !errors.As(err, &field) {
			t.Errorf("REG-02, AUT-05: %q is taken", s)
		}
	}
}

// FuzzRedirectMatches: what passes is registered byte for byte, or differs from it in
// the port of a loopback address and in nothing else that a browser would see.
func FuzzRedirectMatches(f *testing.F) {
	for _, s := range []string{"https://app.example/cb", "http://127.0.0.1:51004/cb", "http://[::1]/cb?x", "http://127.0.0.1:8@evil.test/cb", "com.example:/x"} {
		f.Add("http://127.0.0.1/cb", s)
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, registered, asked string) {
		if redirectable("redirect_uris", registered) != nil || !RedirectMatches([]string{registered}, asked) || registered == asked {
			return
		}
		a, err := url.Parse(registered)
		if err != nil {
			t.Fatal(err)
		}
		b, err := url.Parse(asked)
		if err != nil {
			t.Fatalf("%q passes for %q: %v", asked, registered, err)
		}
		if !loopback(b.Hostname()) || a.Hostname() != b.Hostname() || b.Scheme != "http" || a.Scheme != "http" || b.User != nil ||
			a.EscapedPath() != b.EscapedPath() || a.RawQuery != b.RawQuery || b.Fragment != "" {
			t.Errorf("%q passes for %q", asked, registered)
		}
	})
}
