package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSecretsGoToFiles: with a file named, the secret is in the file and nowhere
// on the screen.
func TestSecretsGoToFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := newNode(t, map[string][]answer{
		"POST /admin/v1/clients":               {{201, clientAnswer, nil}},
		"POST /admin/v1/clients/orders/secret": {{200, `{"client_id":"orders"}`, nil}},
		"POST /admin/v1/gateways":              {{201, `{"id":"edge1","credential":"krg_x","gossip_key":"Z2s="}`, nil}},
	})
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct {
		args  []string
		files map[string]string
	}{
		{[]string{"client", "create", "--name", "a", "--secret-out", path("s")}, map[string]string{"s": "s3cr3t\n"}},
		{[]string{"client", "create", "--name", "a", "--secret-out", path("s2"), "-o", "json"}, map[string]string{"s2": "s3cr3t\n"}},
		{[]string{"gateway", "register", "edge1", "--credential-out", path("c"), "--gossip-key-out", path("g")}, map[string]string{"c": "krg_x\n", "g": "Z2s=\n"}},
	} {
		got := n.at(t, call{args: c.args})
		if got.code != 0 {
			t.Fatalf("%v: exit code %d: %s", c.args, got.code, got.err)
		}
		for name, want := range c.files {
			text, err := os.ReadFile(path(name))
			if err != nil || string(text) != want {
				t.Errorf("%s holds %q, %v, want %q", name, text, err, want)
			}
			if info, err := os.Stat(path(name)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
			}
			if strings.Contains(got.out+got.err, strings.TrimSpace(want)) {
				t.Errorf("the secret is shown: %s%s", got.out, got.err)
			}
		}
	}
	got := n.at(t, call{args: []string{"client", "rotate-secret", "orders", "--secret-out", path("none")}})
	if got.code != 1 || !strings.Contains(got.err, "holds no client_secret") {
		t.Errorf("exit code %d: %s", got.code, got.err)
	}
}

func TestSecretHides(t *testing.T) {
	t.Parallel()
	a := api{token: newSecret("hunter2")}
	if text := fmt.Sprintf("%v %+v %#v %s", a.token, a, a, a.token); strings.Contains(text, "hunter2") {
		t.Errorf("the token shows: %s", text)
	}
}

func TestCell(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		``: "-", `null`: "-", `""`: "-", `[]`: "-", `"a\nb"`: "a b", `["a","b c"]`: "a b c", `12345678901234567890`: "12345678901234567890",
		`true`: "true", `{"a":1}`: `{"a":1}`, `"\u202eevil"`: " evil",
	} {
		if got := cell(json.RawMessage(in)); got != want {
			t.Errorf("cell(%s) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{`0`: "0s", `15`: "15ms", `61234`: "1m1.2s", `null`: "-", `-1`: "-", `"x"`: "-", `1e300`: "-"} {
		if got := milliseconds(json.RawMessage(in)); got != want {
			t.Errorf("milliseconds(%s) = %q, want %q", in, got, want)
		}
	}
}

// TestInstantsAreForPeople: seconds since 1970 show as a date in a table, and stay
// what they are in JSON.
func TestInstantsAreForPeople(t *testing.T) {
	t.Parallel()
	const answer = `{"created_at":1795566317,"client_secret_expires_at":0,"seen_at":"noon","index":1795566317}`
	var table, raw strings.Builder
	if err := (printer{w: &table}).object(json.RawMessage(answer)); err != nil {
		t.Fatal(err)
	}
	want := "created_at                2026-11-25T00:25:17Z\nclient_secret_expires_at  -\nseen_at                   noon\nindex                     1795566317\n"
	if table.String() != want {
		t.Errorf("table:\n%s", table.String())
	}
	if err := (printer{w: &raw, json: true}).object(json.RawMessage(answer)); err != nil || !sameJSON(raw.String(), answer) {
		t.Errorf("JSON: %v %s", err, raw.String())
	}
}

// FuzzMembers: no answer of a server makes the table panic, and no control
// character of it comes through.
func FuzzMembers(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":{"b":[1,null]}}`, `[`, `{"a"`, `null`, `{"\u001b":"\u001b"}`, `{"a":1}{"b":2}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var out strings.Builder
		if err := (printer{w: &out}).object(json.RawMessage(text)); err != nil {
			return
		}
		if strings.ContainsFunc(out.String(), func(r rune) bool { return r < ' ' && r != '\n' }) {
			t.Errorf("%q shows as %q", text, out.String())
		}
	})
}

// TestProgress: silence for a moment, then a line with what has come so far.
func TestProgress(t *testing.T) {
	t.Parallel()
	var quiet syncBuffer
	startProgress(&quiet, true, "saving", 0, pace{time.Hour, time.Hour, time.Hour}).end()
	if quiet.String() != "" {
		t.Errorf("a quick command shows %q", quiet.String())
	}
	for _, redraw := range []bool{true, false} {
		var shown syncBuffer
		pr := startProgress(&shown, redraw, "saving a.snap", 4096, pace{time.Millisecond, time.Millisecond, time.Millisecond})
		moved := 0
		r := pr.reader(strings.NewReader(strings.Repeat("x", 2048)), func() { moved++ })
		if n, err := r.Read(make([]byte, 4096)); n != 2048 || err != nil || moved != 1 {
			t.Fatalf("read %d, %v, moved %d", n, err, moved)
		}
		const want = "keyraft: saving a.snap, 0s, 2.0 KiB of 4.0 KiB (50 %)"
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(shown.String(), want); {
			if time.Now().After(deadline) {
				t.Fatalf("shown %q", shown.String())
			}
			<-time.After(time.Millisecond)
		}
		pr.end()
		if end := map[bool]string{true: "\r\x1b[K", false: "\n"}[redraw]; !strings.HasSuffix(shown.String(), end) {
			t.Errorf("ends with %q", shown.String()[max(0, len(shown.String())-10):])
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 5 << 30: "5.0 GiB"} {
		if got := humanBytes(n); got != want {
			t.Errorf("humanBytes(%d) = %q, want %q", n, got, want)
		}
	}
}
