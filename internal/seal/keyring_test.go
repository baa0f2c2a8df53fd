package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestXAESVectors checks the construction against the vectors of the C2SP page.
func TestXAESVectors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		fill       byte
		associated string
		want       string
	}{
		{"key of ones, no associated data", 1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{"key of threes, with associated data", 3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			key := Key(bytes.Repeat([]byte{tt.fill}, 32))
			x, err := newXAES(&key)
			if err != nil {
				t.Fatal(err)
			}
			nonce := []byte("ABCDEFGHIJKLMNOPQRSTUVWX")
			got, err := x.seal(nil, nonce, []byte("XAES-256-GCM"), []byte(tt.associated))
			if err != nil {
				t.Fatal(err)
			}
			if hex.EncodeToString(got) != tt.want {
				t.Errorf("sealed %x, want %s", got, tt.want)
			}
			plain, err := x.open(nonce, got, []byte(tt.associated))
			if err != nil || string(plain) != "XAES-256-GCM" {
				t.Errorf("opened %q, %v", plain, err)
			}
		})
	}
}

func ring(t *testing.T, keys ...Key) *Keyring {
	t.Helper()
	r, err := NewKeyring(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestKeyringOpensWhatAnyOfItsKeysSealed(t *testing.T) {
	t.Parallel()
	older, newer := Generate(), Generate()
	before, after := ring(t, older), ring(t, newer, older)
	sealed, err := before.Seal("client/secret", []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := after.Open("client/secret", sealed); err != nil || string(got) != "plain" {
		t.Errorf("the rotated keyring opens %q, %v", got, err)
	}
	if err := after.Check(before.CheckValue()); err != nil {
		t.Errorf("the rotated keyring fails the old check value: %v", err)
	}
	if after.KeyID() == before.KeyID() {
		t.Error("the new key does not seal")
	}
	again, _ := before.Seal("client/secret", []byte("plain"))
	if bytes.Equal(sealed, again) {
		t.Error("two seals of one value are equal: the nonce is not random")
	}
	if bytes.Contains(sealed, []byte("plain")) {
		t.Error("the sealed value shows its text")
	}
}

// TestWrongSealingKeyIsNamed is Y4: the operator reads which key is wanted.
func TestWrongSealingKeyIsNamed(t *testing.T) {
	t.Parallel()
	a, b := ring(t, Generate()), ring(t, Generate())
	err := b.Check(a.CheckValue())
	if !errors.Is(err, ErrSealed) {
		t.Fatalf("error %v, want ErrSealed", err)
	}
	for _, want := range []string{a.KeyID(), b.KeyID(), "--seal-key-file"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %s", err, want)
		}
	}
}

func TestOpenRefusesAnythingChanged(t *testing.T) {
	t.Parallel()
	r := ring(t, Generate())
	sealed, err := r.Seal("label", []byte("some plain text"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(sealed) * 8 {
		bad := bytes.Clone(sealed)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := r.Open("label", bad); !errors.Is(err, ErrSealed) {
			t.Fatalf("bit %d flipped: error %v, want ErrSealed", i, err)
		}
	}
	for n := range sealed {
		if _, err := r.Open("label", sealed[:n]); !errors.Is(err, ErrSealed) {
			t.Fatalf("cut to %d bytes: error %v, want ErrSealed", n, err)
		}
	}
	for _, label := range []string{"", "labe", "label2"} {
		if _, err := r.Open(label, sealed); !errors.Is(err, ErrSealed) {
			t.Errorf("label %q: error %v, want ErrSealed", label, err)
		}
	}
	if err := r.Check(sealed); !errors.Is(err, ErrSealed) {
		t.Errorf("a sealed value passed for a check value: %v", err)
	}
}

func TestParseKeyring(t *testing.T) {
	t.Parallel()
	k := Key(bytes.Repeat([]byte{0xfb}, 32)) // its base64 differs between the alphabets
	std, url := base64.StdEncoding.EncodeToString(k[:]), base64.RawURLEncoding.EncodeToString(k[:])
	other := Generate()
	tests := []struct {
		name, text string
		keys       int // 0: refused
		says       string
	}{
		{name: "standard base64", text: std, keys: 1},
		{name: "base64url without padding and a last line break", text: url + "\n", keys: 1},
		{name: "hex", text: hex.EncodeToString(k[:]), keys: 1},
		{name: "comments, blank lines and CRLF", text: "# new\r\n" + std + "\r\n\r\n# old\r\n" + other.Encode() + "\r\n", keys: 2},
		{name: "nothing but comments", text: "# none\n", says: "no key"},
		{name: "the same key twice in two spellings", text: std + "\n" + url, says: "twice"},
		{name: "31 bytes", text: base64.StdEncoding.EncodeToString(k[:31]), says: "line 1"},
		{name: "a passphrase on line 3", text: "#\n" + std + "\nhunter2\n", says: "line 3"},
		{name: "non-zero tail bits", text: std[:42] + "/=", says: "line 1"},
		{name: "two keys on a line", text: std + " " + std, says: "line 1"},
		{name: "a carriage return inside", text: std[:10] + "\r" + std[10:], says: "line 1"},
		{name: "all zeros", text: Key{}.Encode(), says: "all zeros"},
		{name: "too much text", text: strings.Repeat("#\n", maxKeyText), says: "larger"},
		{name: "too many keys", text: strings.Repeat(std+"\n", maxKeys+1), says: "at most"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := ParseKeyring([]byte(tt.text))
			if tt.keys == 0 {
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Fatalf("error %v, want one that says %q", err, tt.says)
				}
				if strings.Contains(err.Error(), std[:8]) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("the error shows key text: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(r.KeyIDs()) != tt.keys || tt.keys == 1 && r.KeyID() != k.id().String() {
				t.Errorf("keys %v, want %d", r.KeyIDs(), tt.keys)
			}
		})
	}
}

func FuzzParseKeyring(f *testing.F) {
	f.Add([]byte(Key{1}.Encode() + "\n# old\n" + hex.EncodeToString(bytes.Repeat([]byte{7}, 32))))
	f.Add([]byte("\r\n#\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseKeyring(text)
		if (r == nil) == (err == nil) {
			t.Fatalf("keyring %v with error %v", r, err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	r, err := NewKeyring(Key{1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("label", r.CheckValue())
	f.Add(checkLabel, []byte{sealedV1})
	f.Fuzz(func(t *testing.T, label string, sealed []byte) {
		if _, err := r.Open(label, sealed); err != nil && !errors.Is(err, ErrSealed) {
			t.Fatalf("error %v does not wrap ErrSealed", err)
		}
	})
}

func TestSecretsHideThemselves(t *testing.T) {
	t.Parallel()
	key, secret := Key(bytes.Repeat([]byte{0x41}, 32)), Secret("AAAAAAAA")
	r := ring(t, key)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "k", key, "kp", &key, "s", secret, "r", r)
	js, err := json.Marshal(map[string]any{"k": key, "kp": &key, "s": secret})
	if err != nil {
		t.Fatal(err)
	}
	out := log.String() + string(js) + secret.String() + key.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%c", "%U"} {
		out += fmt.Sprintf(verb, key) + fmt.Sprintf(verb, &key) + fmt.Sprintf(verb, secret) + fmt.Sprintf(verb, r)
	}
	for _, leak := range []string{"AAAA", "4141", "65 65", "QUFB", "0x41, 0x41", "101 101"} {
		if strings.Contains(out, leak) {
			t.Errorf("%q leaks: %s", leak, out)
		}
	}
	if secret.Reveal() != "AAAAAAAA" {
		t.Error("Reveal does not give the text")
	}
	if a, b := NewSecret().Reveal(), NewSecret().Reveal(); len(a) != 43 || a == b {
		t.Errorf("new secrets of %d characters, equal %v", len(a), a == b)
	}
}
